// Bindings of the functions of one instruction set. Included once per set, so there is no include guard.

#include "kernels.hpp"

namespace sb::SB_ISA {

template <class T>
void bind_for(nb::module_ &m) {
    define(m, "advance", advance<T>);
    define(m, "bubble_products", bubble_products<T>);
    define(m, "bubble_residual", bubble_residual<T>);
    define(m, "combine", combine<double, T>);
    define(m, "combine", combine<float, T>);
    define(m, "nodal_products", nodal_products<T>);
    define(m, "relax_bubbles", relax_bubbles<T>);
    define(m, "stiffness", stiffness<T>);
    define(m, "stiffness_energy", stiffness_energy<T>);
    define(m, "sweep", sweep<T>);
    define(m, "descend", descend<T>);
    define(m, "ascend", ascend<T>);
    define(m, "cell_sums", cell_sums<T>);
    define(m, "survey", survey<T>);
    define(m, "interpolation_weights", interpolation_weights<T>);
    define(m, "galerkin", galerkin<T>);
    define(m, "add_to_parents", add_to_parents<T>);
    define(m, "majorant_terms", majorant_terms<T>);
    define(m, "add_to_children", add_to_children<T>);
}

void bind(nb::module_ m) {
    bind_for<double>(m);
    bind_for<float>(m);
}

}  // namespace sb::SB_ISA
