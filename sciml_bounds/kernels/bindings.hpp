// The functions of one instruction set, entered into a module. Included once per set, so it has no include guard.

#include "kernels.hpp"

namespace sb::SB_ISA {

template <class T>
void bind_for(nb::module_ &m) {
    define(m, "combine", combine<double, T>);
    define(m, "combine", combine<float, T>);
    define(m, "stiffness", stiffness<T>);
    define(m, "stiffness_energy", stiffness_energy<T>);
    define(m, "sweep", sweep<T>);
}

void bind(nb::module_ m) {
    bind_for<double>(m);
    bind_for<float>(m);
}

}  // namespace sb::SB_ISA
