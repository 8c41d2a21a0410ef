// Sweeps of a lattice operator over a field, see lattice.py.

#include "lattice.hpp"

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

enum Mode : int { APPLY = 0, RESIDUAL = 1, RELAX = 2 };

}  // namespace

template <class T>
void sweep(int threads, int mode, View<const int64_t, 2> groups, View<const T, 5> conductances, View<const T, 4> c,
           View<const T, 4> s, View<const T, 4> u, View<const T, 4> b, double step, View<T, 4> out, View<T, 3> sums) {
    const int64_t B = u.n[0], X = u.n[1], Y = u.n[2], Z = u.n[3];
    const int64_t length = strip_length(Y, Z), strips = (Y + length - 1) / length;
    const T w = static_cast<T>(step);
    parallel(B * X * strips, threads, [&](int64_t k) {
        const int64_t n = k / (X * strips), x = k / strips % X, start = k % strips * length;
        const int64_t o = c.n[0] > 1 ? n : 0;
        const int64_t xs[] = {wrapped(x - 1, X), x, wrapped(x + 1, X)};
        for (int64_t y = start; y < smaller(start + length, Y); ++y) {
            const int64_t ys[] = {wrapped(y - 1, Y), y, wrapped(y + 1, Y)};
            Around<T> field, flow;
            for (int i = 0; i < 3; ++i)
                for (int j = 0; j < 3; ++j) {
                    field.row[i][j] = u.at(n, xs[i], ys[j]);
                    flow.row[i][j] = conductances.at(o, xs[i], ys[j]);
                }
            T *SB_RESTRICT row = out.at(n, x, y);
            const T *v = field.row[1][1], *right = b.at(n, x, y);
            write_product(row, c.at(o, x, y), groups, field, flow, Z);
            if (sums.n[1] > 0) {
                T *SB_RESTRICT total = sums.at(n, k % (X * strips));
                for (int64_t z = 0; z < Z; ++z) total[z] += v[z] * row[z];
            }
            if (mode == RESIDUAL) {
                for (int64_t z = 0; z < Z; ++z) row[z] = right[z] - row[z];
            } else if (mode == RELAX) {
                const T *inverse = s.at(o, x, y);
                for (int64_t z = 0; z < Z; ++z) row[z] = v[z] + w * inverse[z] * (right[z] - row[z]);
            }
        }
    });
}

#define SB_INSTANCE(T)                                                                                                    \
    template void sweep<T>(int, int, View<const int64_t, 2>, View<const T, 5>, View<const T, 4>, View<const T, 4>,        \
                           View<const T, 4>, View<const T, 4>, double, View<T, 4>, View<T, 3>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
