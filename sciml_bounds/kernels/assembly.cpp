// Sums over the cells around each node or edge, see assembly.py.

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

// Write the sums of a row of nodes (edges) from the COUNT surrounding rows of cells.
template <int COUNT, class T>
void write_sums(T *SB_RESTRICT out, const T *const *rows, bool both, bool wraps, T scale, int64_t cells, int64_t nodes) {
    const T *a = rows[0], *b = rows[COUNT > 1 ? 1 : 0], *c = rows[COUNT > 2 ? 2 : 0], *d = rows[COUNT > 2 ? 3 : 0];
    auto sum = [&](int64_t z) {
        if constexpr (COUNT == 1) return a[z];
        if constexpr (COUNT == 2) return a[z] + b[z];
        if constexpr (COUNT == 4) return (a[z] + b[z]) + (c[z] + d[z]);
    };
    const int64_t last = cells - 1;
    if (both) {
        for (int64_t z = 1; z < cells; ++z) out[z] = scale * (sum(z) + sum(z - 1));
        out[0] = scale * (wraps ? sum(0) + sum(last) : sum(0));
        if (nodes > cells) out[cells] = scale * sum(last);
    } else {
        for (int64_t z = 0; z < cells; ++z) out[z] = scale * sum(z);
        if (nodes > cells) out[cells] = 0;
    }
}

}  // namespace

template <class T>
void cell_sums(int threads, View<const T, 4> cells, View<const bool, 1> both, View<const bool, 1> wraps, double scale,
               View<T, 5> out, int k) {
    const int64_t B = out.n[0], X = out.n[1], Y = out.n[2], Z = out.n[4];
    const int64_t CX = cells.n[1], CY = cells.n[2], CZ = cells.n[3];
    const int64_t length = strip_length(Y, Z), strips = (Y + length - 1) / length;
    const T factor = static_cast<T>(scale);
    parallel(B * X * strips, threads, [&](int64_t i) {
        const int64_t n = i / (X * strips), x = i / strips % X, start = i % strips * length;
        const View<const T, 3> field = cells.sample(n);
        for (int64_t y = start; y < smaller(start + length, Y); ++y) {
            if (x < CX && y + 2 < CY) prefetch(field.at(x, y + 2), CZ);
            const T *rows[4];
            int count = 0;
            for (int dx = 0; dx <= both.data[0]; ++dx)
                for (int dy = 0; dy <= both.data[1]; ++dy) {
                    const int64_t cx = x - dx < 0 && wraps.data[0] ? CX - 1 : x - dx;
                    const int64_t cy = y - dy < 0 && wraps.data[1] ? CY - 1 : y - dy;
                    if (cx >= 0 && cx < CX && cy >= 0 && cy < CY) rows[count++] = field.at(cx, cy);
                }
            T *row = out.at(n, x, y, k);
            if (count == 4)
                write_sums<4>(row, rows, both.data[2], wraps.data[2], factor, CZ, Z);
            else if (count == 2)
                write_sums<2>(row, rows, both.data[2], wraps.data[2], factor, CZ, Z);
            else if (count == 1)
                write_sums<1>(row, rows, both.data[2], wraps.data[2], factor, CZ, Z);
            else
                for (int64_t z = 0; z < Z; ++z) row[z] = 0;
        }
    });
}

#define SB_INSTANCE(T)                                                                                                \
    template void cell_sums<T>(int, View<const T, 4>, View<const bool, 1>, View<const bool, 1>, double, View<T, 5>, int);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
