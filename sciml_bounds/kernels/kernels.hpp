// The compiled loops, for T = float and double. The first argument of each is the number of threads.
//
// Included once per instruction set, each time with another namespace sb::SB_ISA, so there is no include guard.

#include "array.hpp"
#include "threads.hpp"

namespace sb::SB_ISA {

// vectors.cpp
template <class U, class T>
void combine(int threads, View<const double, 1> alpha, View<const U, 2> u, View<const double, 1> beta, View<T, 2> out,
             View<double, 2> sums, View<double, 1> norms);
template <class T>
void advance(int threads, View<const double, 1> alpha, View<const T, 2> d, View<const T, 2> product, View<T, 2> x,
             View<T, 2> r, View<double, 3> sums, View<double, 2> norms);

// bubbles.cpp
template <class T>
void nodal_products(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                    View<const T, 4> c, View<const T, 4> f, View<const T, 4> v, View<const T, 4> e,
                    View<const T, 1> level, View<const double, 1> h, View<const double, 1> kappa, View<T, 3> parts,
                    View<T, 2> out);
template <class T>
void bubble_products(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                     View<const T, 4> c, View<const T, 4> f, View<const T, 4> v, View<const T, 4> e,
                     View<const T, 4> wx, View<const T, 4> wy, View<const T, 4> wz, View<const T, 1> level,
                     View<const double, 1> h, View<const double, 1> kappa, View<T, 3> parts, View<T, 2> out);
template <class T>
void bubble_residual(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                     View<const T, 4> c, View<const T, 4> f, View<const T, 4> v, View<const double, 1> h, View<T, 4> wx,
                     View<T, 4> wy, View<T, 4> wz);
template <class T>
void relax_bubbles(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                   View<const T, 4> c, View<const double, 2> own, View<const bool, 1> wraps, View<T, 4> wx, View<T, 4> wy,
                   View<T, 4> wz);

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

// assembly.cpp
template <class T>
void cell_sums(int threads, View<const T, 4> cells, View<const bool, 1> both, View<const bool, 1> wraps, double scale,
               View<T, 5> out, int k);

// survey.cpp
template <class T>
void survey(int threads, View<const int64_t, 2> groups, View<const T, 5> conductances, View<const T, 4> c,
            View<T, 4> diagonal, View<T, 4> absolute, View<T, 4> parts, View<T, 3> points, View<T, 3> of_conductances,
            View<T, 2> of_points);

// interpolation.cpp
template <class T>
void interpolation_weights(int threads, View<const int64_t, 2> classes, View<const int64_t, 2> sources,
                           View<const int64_t, 2> products, View<const int64_t, 2> defects, View<const int64_t, 1> steps,
                           View<const T, 5> conductances, View<const T, 4> c, View<T, 5> weights, View<T, 4> defect);

// coarsen.cpp
template <class T>
void galerkin(int threads, View<const int64_t, 2> left, View<const int64_t, 2> right, View<const int64_t, 1> steps,
              View<const T, 5> conductances, View<const T, 4> diagonal, View<const T, 5> weights, View<T, 5> coarse);

// spanning_tree.cpp
template <class T>
void add_to_parents(int threads, View<const int64_t, 1> order, View<const int64_t, 1> parent, View<T, 1> values);
template <class T>
void add_to_children(int threads, View<const int64_t, 1> order, View<const int64_t, 1> parent, View<T, 1> values);

// majorant.cpp
template <class T>
void majorant_terms(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                    View<const T, 4> c, View<const T, 4> f, View<const bool, 4> fluid, View<const T, 4> v,
                    View<const T, 4> yx, View<const T, 4> yy, View<const T, 4> yz, View<const double, 1> h,
                    double round_off, View<T, 5> out, View<T, 2> excess);

// q1.cpp
template <class T>
void stiffness(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az, View<const T, 4> c,
               View<const T, 4> v, View<const double, 1> h, View<T, 4> out);
template <class T>
void stiffness_energy(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                      View<const T, 4> c, View<const T, 4> v, View<const double, 1> h, View<T, 3> parts,
                      View<T, 2> out);

}  // namespace sb::SB_ISA
