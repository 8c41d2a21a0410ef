// The Python module: one sub-module per instruction set, with the same functions in each.

#include <nanobind/nanobind.h>

#include <cstring>

#include "array.hpp"

namespace nb = nanobind;

// Arrays come in through the buffer protocol. Of a call only the pointer and the lengths are kept: the caller holds the
// array while the call lasts.
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
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) sb::avx2::bind(m.def_submodule("avx2"));
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        sb::avx512::bind(m.def_submodule("avx512"));
#endif
}
