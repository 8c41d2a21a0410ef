// Sums along the branches of a forest, see spanning_tree.py. Each step depends on the one before, so there are no threads.

#include "kernels.hpp"

namespace sb::SB_ISA {

template <class T>
void add_to_parents(int, View<const int64_t, 1> order, View<const int64_t, 1> parent, View<T, 1> values) {
    for (int64_t k = order.n[0] - 1; k >= 0; --k) {
        const int64_t cell = order.data[k], above = parent.data[cell];
        if (above >= 0) values.data[above] += values.data[cell];
    }
}

template <class T>
void add_to_children(int, View<const int64_t, 1> order, View<const int64_t, 1> parent, View<T, 1> values) {
    for (int64_t k = 0; k < order.n[0]; ++k) {
        const int64_t cell = order.data[k], above = parent.data[cell];
        if (above >= 0) values.data[cell] += values.data[above];
    }
}

#define SB_INSTANCE(T)                                                                                    \
    template void add_to_parents<T>(int, View<const int64_t, 1>, View<const int64_t, 1>, View<T, 1>);     \
    template void add_to_children<T>(int, View<const int64_t, 1>, View<const int64_t, 1>, View<T, 1>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
