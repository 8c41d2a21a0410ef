// Non-owning views of arrays: a pointer and the lengths of the axes.
#pragma once

#include <cmath>
#include <cstdint>

// Tell the compiler that the iterations of the next loop do not depend on each other.
#if defined(__clang__)
#define SB_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define SB_INDEPENDENT _Pragma("GCC ivdep")
#else
#define SB_INDEPENDENT __pragma(loop(ivdep))
#endif

#if defined(__GNUC__)
#define SB_RESTRICT __restrict__
#define SB_PREFETCH(place) __builtin_prefetch(place, 0, 2)
#else
#define SB_RESTRICT __restrict
#define SB_PREFETCH(place) ((void)(place))
#endif

// The kernels are compiled once per instruction set, in a namespace of its name. Functions shared between the sets must
// be inlined or have internal linkage; of other functions the linker would keep one copy for all sets.
#if defined(__GNUC__)
#define SB_INLINE __attribute__((always_inline)) inline
#define SB_NOINLINE __attribute__((noinline))
#else
#define SB_INLINE __forceinline
#define SB_NOINLINE __declspec(noinline)
#endif

namespace sb {

using std::int64_t;

// A contiguous array of N axes.
template <class T, int N>
struct View {
    T *data;
    int64_t n[N];

    // Pointer to the entry of the given leading indices, all others zero.
    template <class... Index>
    SB_INLINE T *at(Index... index) const {
        static_assert(sizeof...(Index) <= N, "too many indices");
        const int64_t given[] = {static_cast<int64_t>(index)...};
        int64_t place = 0;
        for (int k = 0; k < N; ++k) place = place * n[k] + (k < static_cast<int>(sizeof...(Index)) ? given[k] : 0);
        return data + place;
    }

    template <class... Index>
    SB_INLINE T &operator()(Index... index) const {
        static_assert(sizeof...(Index) == N, "one index per axis");
        return *at(index...);
    }

    // The array of one sample. A first axis of length one means that all samples share the array.
    SB_INLINE View<T, N - 1> sample(int64_t i) const {
        View<T, N - 1> found;
        found.data = at(n[0] > 1 ? i : 0);
        for (int k = 1; k < N; ++k) found.n[k - 1] = n[k];
        return found;
    }

    SB_INLINE int64_t size() const {
        int64_t count = 1;
        for (int k = 0; k < N; ++k) count *= n[k];
        return count;
    }
};

template <class T>
SB_INLINE T smaller(T a, T b) { return b < a ? b : a; }
template <class T>
SB_INLINE T larger(T a, T b) { return a < b ? b : a; }
template <class T>
SB_INLINE T magnitude(T a) { return std::fabs(a); }

// Index modulo n, for -n <= i < 2n.
SB_INLINE int64_t wrapped(int64_t i, int64_t n) { return i < 0 ? i + n : (i >= n ? i - n : i); }
// Index modulo n, for any i.
SB_INLINE int64_t modulo(int64_t i, int64_t n) { return (i % n + n) % n; }

// Number of rows of a plane per piece of work: enough to be worth a thread, few enough to occupy all threads.
SB_INLINE int64_t strip_length(int64_t Y, int64_t Z) { return larger<int64_t>(1, smaller<int64_t>(Y, 16384 / Z)); }

// Prefetch a row that is needed soon; the hardware cannot predict which of the adjacent rows are read.
template <class T>
SB_INLINE void prefetch(const T *row, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) SB_PREFETCH(row + i);
}

}  // namespace sb
