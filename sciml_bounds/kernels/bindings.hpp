// The functions of one instruction set, entered into a module. Included once per set, so it has no include guard.

#include "kernels.hpp"

namespace sb::SB_ISA {

template <class T>
void bind_for(nb::module_ &m) {
    define(m, "bubble_products", bubble_products<T>);
    define(m, "bubble_residual", bubble_residual<T>);
    define(m, "combine", combine<double, T>);
    define(m, "combine", combine<float, T>);
    define(m, "nodal_products", nodal_products<T>);
    define(m, "relax_bubbles", relax_bubbles<T>);
    define(m, "stiffness", stiffness<T>);
    define(m, "stiffness_energy", stiffness_energy<T>);
    define(m, "sweep", sweep<T>);
}

void bind(nb::module_ m) {
    bind_for<double>(m);
    bind_for<float>(m);
}

}  // namespace sb::SB_ISA
