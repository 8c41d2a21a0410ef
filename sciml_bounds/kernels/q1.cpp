// Multilinear finite elements, see q1.py.

#include "kernels.hpp"
#include "rows.hpp"

namespace sb::SB_ISA {
namespace {

// Write the contributions of the cells begin .. end - 1 of a row to their corners.
template <int DIM, class T>
void write_products(const NodeRows<DIM, T> &nodes, const Coefficients<DIM, T> &k, const Factors<DIM, T> &factors,
                    int64_t begin, int64_t end, Ends<T> (&ends)[corners(DIM - 1)]) {
    SB_INDEPENDENT
    for (int64_t z = begin; z < end; ++z) {
        T m[corners(DIM)], weight[corners(DIM)];
        read_corners<DIM>(nodes, z, m);
        to_modes(m);
        read_weights<DIM>(k, factors, z, weight);
        unroll<corners(DIM)>([&](auto s) { m[s] *= weight[s]; });
        to_corners(m);
        unroll<corners(DIM - 1)>([&](auto q) {
            ends[q].low[z - begin] = m[2 * q];
            ends[q].high[z - begin + 1] = m[2 * q + 1];
        });
    }
}

template <int DIM, class T>
void add_energies(const NodeRows<DIM, T> &nodes, const Coefficients<DIM, T> &k, const Factors<DIM, T> &factors,
                  int64_t begin, int64_t end, T *SB_RESTRICT sum) {
    SB_INDEPENDENT
    for (int64_t z = begin; z < end; ++z) {
        T m[corners(DIM)], weight[corners(DIM)], total = 0;
        read_corners<DIM>(nodes, z, m);
        to_modes(m);
        read_weights<DIM>(k, factors, z, weight);
        unroll<corners(DIM)>([&](auto s) { total += weight[s] * m[s] * m[s]; });
        sum[z - begin] += total;
    }
}

}  // namespace

template <class T>
void stiffness(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az, View<const T, 4> c,
               View<const T, 4> v, View<const double, 1> h, View<T, 4> out) {
    with_dim(dim, [&](auto constant) {
        constexpr int DIM = decltype(constant)::value;
        const CellFields<T> fields = {ax, ay, az, c};
        const Factors<DIM, T> factors = energy_factors<DIM, T>(h);
        const int64_t X = v.n[1] - (DIM > 2), Y = v.n[2] - (DIM > 1), Z = v.n[3] - 1;
        for_rows_in_turn(v.n[0], X, Y, threads, [&](int64_t n, int64_t x, int64_t y, const Fresh &fresh) {
            const Coefficients<DIM, T> k = fields.template row<DIM>(n, x, y);
            const NodeRows<DIM, T> nodes = rows_around<DIM>(v, n, x, y);
            Ends<T> ends[corners(DIM - 1)];
            for (Ends<T> &end : ends) end.start();
            for (int64_t begin = 0; begin < Z; begin += LENGTH) {
                const int64_t end = smaller(begin + LENGTH, Z);
                write_products<DIM>(nodes, k, factors, begin, end, ends);
                for (int q = 0; q < corners(DIM - 1); ++q) {
                    const int i = q >> 1, j = q & 1;
                    ends[q].add_to(out.at(n, x + i, y + j), fresh.x[i] && fresh.y[j], begin, end - begin, Z);
                }
            }
        });
    });
}

template <class T>
void stiffness_energy(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                      View<const T, 4> c, View<const T, 4> v, View<const double, 1> h, View<T, 3> parts,
                      View<T, 2> out) {
    with_dim(dim, [&](auto constant) {
        constexpr int DIM = decltype(constant)::value;
        const CellFields<T> fields = {ax, ay, az, c};
        const Factors<DIM, T> factors = energy_factors<DIM, T>(h);
        const int64_t X = v.n[1] - (DIM > 2), Y = v.n[2] - (DIM > 1), Z = v.n[3] - 1;
        sum_over_cells<1>(X, Y, Z, threads, parts, out,
                          [&](int64_t n, int64_t x, int64_t y, int64_t begin, int64_t end, T(&sums)[1][LENGTH]) {
                              add_energies<DIM>(rows_around<DIM>(v, n, x, y), fields.template row<DIM>(n, x, y), factors,
                                                begin, end, sums[0]);
                          });
    });
}

#define SB_INSTANCE(T)                                                                                                   \
    template void stiffness<T>(int, int, View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,         \
                               View<const T, 4>, View<const double, 1>, View<T, 4>);                                     \
    template void stiffness_energy<T>(int, int, View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,  \
                                      View<const T, 4>, View<const double, 1>, View<T, 3>, View<T, 2>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
