// The compiled loops, for T = float and double. The first argument of each is the number of threads.
//
// Included once per instruction set, each time with another namespace sb::SB_ISA, so it has no include guard.

#include "array.hpp"
#include "threads.hpp"

namespace sb::SB_ISA {

// vectors.cpp
template <class U, class T>
void combine(int threads, View<const double, 1> alpha, View<const U, 2> u, View<const double, 1> beta, View<T, 2> out,
             View<double, 2> sums, View<double, 1> norms);

// lattice.cpp
template <class T>
void sweep(int threads, int mode, View<const int64_t, 2> groups, View<const T, 5> conductances, View<const T, 4> c,
           View<const T, 4> s, View<const T, 4> u, View<const T, 4> b, double step, View<T, 4> out, View<T, 3> sums);

// wavefront.cpp
template <class T>
void descend(int threads, View<const int64_t, 2> groups, View<const T, 5> flow, View<const T, 4> c, View<const T, 4> s,
             View<const int64_t, 1> places, View<const int64_t, 2> joins, View<const T, 5> weights, View<T, 3> scratch,
             View<T, 5> rings, View<const double, 1> steps, View<const T, 4> b, View<T, 4> x, View<T, 4> coarse);
template <class T>
void ascend(int threads, View<const int64_t, 2> groups, View<const T, 5> flow, View<const T, 4> c, View<const T, 4> s,
            View<const int64_t, 1> places, View<const int64_t, 2> joins, View<const T, 5> weights, View<T, 3> scratch,
            View<T, 5> rings, View<const double, 1> steps, View<const T, 4> b, View<const T, 4> x, View<T, 4> out,
            View<const T, 4> coarse);

}  // namespace sb::SB_ISA
