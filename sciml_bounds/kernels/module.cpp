// The Python module: one sub-module per instruction set, with the same functions in each.

#include <nanobind/nanobind.h>

#include <cstring>

#include "array.hpp"

#if defined(SB_X86) && defined(_MSC_VER)
#include <intrin.h>
#elif defined(SB_X86)
#include <cpuid.h>
#endif

namespace nb = nanobind;

// Arrays are passed through the buffer protocol. Only the pointer and the lengths are stored, as the caller keeps the
// array alive during the call.
namespace nanobind::detail {

template <class T>
constexpr char kind_of() {
    using Value = std::remove_const_t<T>;
    if constexpr (std::is_same_v<Value, bool>) return '?';
    if constexpr (std::is_same_v<Value, float>) return 'f';
    if constexpr (std::is_same_v<Value, double>) return 'd';
    return 'i';
}

inline bool is_kind(const char *format, char kind) {
    if (format == nullptr) return false;
    if (kind == 'i') return std::strchr("lq", format[0]) != nullptr && format[0] != 0;
    return format[0] == kind;
}

template <class T, int N>
struct type_caster<sb::View<T, N>> {
    using Value = sb::View<T, N>;
    static constexpr auto Name = const_name("numpy.ndarray");
    template <class U>
    using Cast = Value;

    bool from_python(handle source, uint8_t, cleanup_list *) noexcept {
        Py_buffer buffer;
        const int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (std::is_const_v<T> ? 0 : PyBUF_WRITABLE);
        if (PyObject_GetBuffer(source.ptr(), &buffer, flags) != 0) {
            PyErr_Clear();
            return false;
        }
        const bool fits = buffer.ndim == N && buffer.itemsize == sizeof(T) && is_kind(buffer.format, kind_of<T>());
        if (fits) {
            value.data = static_cast<T *>(buffer.buf);
            for (int k = 0; k < N; ++k) value.n[k] = buffer.shape[k];
        }
        PyBuffer_Release(&buffer);
        return fits;
    }

    static handle from_cpp(const Value &, rv_policy, cleanup_list *) noexcept { return {}; }
    template <class U>
    static constexpr bool can_cast() { return true; }
    operator Value() { return value; }

    Value value;
};

}  // namespace nanobind::detail

namespace {

// Define a function that runs without the global interpreter lock.
template <class Function>
void define(nb::module_ &m, const char *name, Function function) {
    m.def(name, function, nb::call_guard<nb::gil_scoped_release>());
}

#ifdef SB_X86
// Features of the processor, read in a way that works with every compiler.
struct Processor {
    unsigned features = 0;  // leaf 1, ECX
    unsigned extended = 0;  // leaf 7, EBX
    unsigned saved = 0;     // registers that the operating system saves

    Processor() {
        constexpr unsigned OSXSAVE = 1u << 27;
        unsigned found[4];
        read(0, found);
        const unsigned leaves = found[0];
        read(1, found);
        features = found[2];
        if (features & OSXSAVE) saved = saved_registers();
        if (leaves < 7) return;
        read(7, found);
        extended = found[1];
    }

    static void read(int leaf, unsigned (&found)[4]) {
#ifdef _MSC_VER
        __cpuidex(reinterpret_cast<int *>(found), leaf, 0);
#else
        __cpuid_count(leaf, 0, found[0], found[1], found[2], found[3]);
#endif
    }

    static unsigned saved_registers() {
#ifdef _MSC_VER
        return static_cast<unsigned>(_xgetbv(0));
#else
        unsigned low, high;
        __asm__ __volatile__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return low;
#endif
    }

    bool has_avx2() const {
        constexpr unsigned FMA = 1u << 12, AVX = 1u << 28, BMI1 = 1u << 3, AVX2 = 1u << 5, BMI2 = 1u << 8;
        return all(saved, 0x06) && all(features, FMA | AVX) && all(extended, BMI1 | AVX2 | BMI2);
    }

    bool has_avx512() const {
        constexpr unsigned F = 1u << 16, DQ = 1u << 17, CD = 1u << 28, BW = 1u << 30, VL = 1u << 31;
        return has_avx2() && all(saved, 0xe6) && all(extended, F | DQ | CD | BW | VL);
    }

    static bool all(unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; }
};
#endif

}  // namespace

#define SB_ISA baseline
#include "bindings.hpp"
#undef SB_ISA

#ifdef SB_X86
#define SB_ISA avx2
#include "bindings.hpp"
#undef SB_ISA
#define SB_ISA avx512
#include "bindings.hpp"
#undef SB_ISA
#endif

NB_MODULE(_compiled, m) {
    m.doc() = "The compiled loops of sciml_bounds.kernels, one sub-module per instruction set of this processor.";
    sb::baseline::bind(m.def_submodule("baseline"));
#ifdef SB_X86
    const Processor processor;
    if (processor.has_avx2()) sb::avx2::bind(m.def_submodule("avx2"));
    if (processor.has_avx512()) sb::avx512::bind(m.def_submodule("avx512"));
#endif
}
