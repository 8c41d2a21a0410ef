// The vectors of an iteration, see vectors.py.

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

// Entries that are one piece of work. Sums are formed per piece, so that they do not depend on the number of threads.
constexpr int64_t BLOCK = 4096;

// Sums that are formed side by side, as the vector units of a processor do.
constexpr int64_t LANES = 32;

template <class T>
SB_NOINLINE double sum_of_squares(const T *u, int64_t n) {
    T sums[LANES] = {};
    const int64_t whole = n / LANES * LANES;
    for (int64_t first = 0; first < whole; first += LANES)
        for (int64_t j = 0; j < LANES; ++j) sums[j] += u[first + j] * u[first + j];
    for (int64_t j = 0; j < n - whole; ++j) sums[j] += u[whole + j] * u[whole + j];
    T total = 0;
    for (int64_t j = 0; j < LANES; ++j) total += sums[j];
    return total;
}

template <class U, class T>
void combine_row(double alpha, const U *SB_RESTRICT u, double beta, T *SB_RESTRICT out, int64_t n) {
    if (beta == 0) {
        for (int64_t j = 0; j < n; ++j) out[j] = static_cast<T>(alpha * u[j]);
    } else {
        for (int64_t j = 0; j < n; ++j) out[j] = static_cast<T>(alpha * u[j] + beta * out[j]);
    }
}

}  // namespace

template <class U, class T>
void combine(int threads, View<const double, 1> alpha, View<const U, 2> u, View<const double, 1> beta, View<T, 2> out,
             View<double, 2> sums, View<double, 1> norms) {
    const int64_t B = out.n[0], n = out.n[1], blocks = (n + BLOCK - 1) / BLOCK;
    parallel(B * blocks, threads, [&](int64_t k) {
        const int64_t i = k / blocks, start = k % blocks * BLOCK;
        const int64_t length = smaller(BLOCK, n - start);
        combine_row(alpha.data[i], u.at(i, start), beta.data[i], out.at(i, start), length);
        if (sums.n[1] > 0) sums(i, k % blocks) = sum_of_squares(out.at(i, start), length);
    });
    if (sums.n[1] == 0) return;
    for (int64_t i = 0; i < B; ++i) {
        double total = 0;
        for (int64_t block = 0; block < blocks; ++block) total += sums(i, block);
        norms.data[i] = std::sqrt(total);
    }
}

#define SB_INSTANCE(U, T)                                                                                             \
    template void combine<U, T>(int, View<const double, 1>, View<const U, 2>, View<const double, 1>, View<T, 2>,      \
                                View<double, 2>, View<double, 1>);
SB_INSTANCE(double, double)
SB_INSTANCE(double, float)
SB_INSTANCE(float, double)
SB_INSTANCE(float, float)

}  // namespace sb::SB_ISA
