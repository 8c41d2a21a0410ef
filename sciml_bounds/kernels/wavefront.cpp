// Descent or ascent of a multigrid cycle on one level in one pass through memory, see wavefront.py.

#include "lattice.hpp"

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

// --- rows -------------------------------------------------------------------------------------------------------------

// Copy a row; if its axis is coarsened, write the even entries first and then the odd ones.
template <class T>
void split(const T *SB_RESTRICT row, T *SB_RESTRICT parts, bool coarsened, int64_t Z) {
    if (!coarsened) {
        for (int64_t z = 0; z < Z; ++z) parts[z] = row[z];
        return;
    }
    T *SB_RESTRICT odd = parts + (Z + 1) / 2;
    for (int64_t L = 0; L < Z / 2; ++L) {
        parts[L] = row[2 * L];
        odd[L] = row[2 * L + 1];
    }
    if (Z % 2) parts[Z / 2] = row[Z - 1];
}

// The weights between a fine and a coarse row: class S and corner C of the row (4), number of the weight of its even
// entries (-1: weight 1), and of its odd entries with the coarse entries before and after (-1: none).
struct Join {
    int64_t sx, sy, cx, cy, even, before, behind;
};

SB_INLINE Join join_of(View<const int64_t, 2> joins, int64_t k) {
    const int64_t *j = joins.at(k);
    return {j[0], j[1], j[2], j[3], j[4], j[5], j[6]};
}

// Add the restriction of a split fine row to a coarse row; if the coarse row is fresh, write instead of adding.
template <class T>
void gather(T *SB_RESTRICT target, bool fresh, const T *parts, const T *weights, const Join &join, int64_t CZ, int64_t odds) {
    if (join.even < 0) {
        if (fresh)
            for (int64_t L = 0; L < CZ; ++L) target[L] = parts[L];
        else
            for (int64_t L = 0; L < CZ; ++L) target[L] += parts[L];
    } else {
        const T *w = weights + join.even * CZ;
        for (int64_t L = 0; L < CZ; ++L) target[L] += w[L] * parts[L];
    }
    if (join.before < 0) return;
    const T *odd = parts + CZ, *before = weights + join.before * CZ, *behind = weights + join.behind * CZ;
    for (int64_t L = 1; L < odds; ++L) target[L] += before[L] * odd[L] + behind[L - 1] * odd[L - 1];
    if (odds > 0) {
        target[0] += before[0] * odd[0];
        target[odds % CZ] += behind[odds - 1] * odd[odds - 1];
    }
}

// Add the prolongation of a coarse row to a fine row; if the fine row is fresh, write instead of adding.
template <class T>
void spread(T *SB_RESTRICT even, T *SB_RESTRICT odd, bool fresh, const T *source, const T *weights, const Join &join,
            int64_t CZ) {
    if (fresh) {
        for (int64_t L = 0; L < CZ; ++L) even[L] = 0;
        for (int64_t L = 0; L < CZ; ++L) odd[L] = 0;
    }
    if (join.even < 0) {
        for (int64_t L = 0; L < CZ; ++L) even[L] += source[L];
    } else {
        const T *w = weights + join.even * CZ;
        for (int64_t L = 0; L < CZ; ++L) even[L] += w[L] * source[L];
    }
    if (join.before < 0) return;
    const T *before = weights + join.before * CZ, *behind = weights + join.behind * CZ;
    for (int64_t L = 0; L < CZ - 1; ++L) odd[L] += before[L] * source[L] + behind[L] * source[L + 1];
    odd[CZ - 1] += before[CZ - 1] * source[CZ - 1] + behind[CZ - 1] * source[0];
}

// Write start plus values, which are sorted by parity if the axis is coarsened. Row and start may be the same.
template <class T>
void add_joined(T *row, const T *start, const T *even, const T *odd, bool coarsened, int64_t Z) {
    if (!coarsened) {
        SB_INDEPENDENT
        for (int64_t z = 0; z < Z; ++z) row[z] = start[z] + even[z];
        return;
    }
    SB_INDEPENDENT
    for (int64_t L = 0; L < Z / 2; ++L) {
        row[2 * L] = start[2 * L] + even[L];
        row[2 * L + 1] = start[2 * L + 1] + odd[L];
    }
    if (Z % 2) row[Z - 1] = start[Z - 1] + even[Z / 2];
}

// Overwrite the product with x + step s (b - product).
template <class T>
SB_INLINE void relax_row(T *SB_RESTRICT product, const T *x, T step, const T *s, const T *b, int64_t Z) {
    for (int64_t z = 0; z < Z; ++z) product[z] = x[z] + step * s[z] * (b[z] - product[z]);
}

// --- tiles ------------------------------------------------------------------------------------------------------------

// Smallest length of a tile (even), as one to four planes (rows) next to each tile are recomputed.
constexpr int64_t SHORTEST_TILE = 16;

SB_INLINE int64_t divided(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tiling of the lattice: tiles of `length` planes and `height` rows, both even.
struct Tiles {
    int64_t length, height, nx, ny;
};

SB_INLINE Tiles tiles_of(int64_t height, int64_t X, int64_t Y, int64_t workers) {
    const int64_t ny = divided(Y, height);
    int64_t common = workers;  // greatest common divisor, so that every worker gets the same share
    for (int64_t rest = ny; rest != 0;) {
        const int64_t next = common % rest;
        common = rest;
        rest = next;
    }
    int64_t length = larger(divided(X, workers / common), SHORTEST_TILE);
    length += length % 2;
    return {length, height, divided(X, length), ny};
}

// A plane (1, y, z) is treated as (y, 1, z), so that its rows take the role of planes.
template <class T, int N>
SB_INLINE View<T, N> upright(View<T, N> field, bool flat) {
    if (flat) {
        const int64_t n = field.n[1];
        field.n[1] = field.n[2];
        field.n[2] = n;
    }
    return field;
}

// Planes of iterates passed from one stage to the next: (stage, 3 planes, rows, Z).
template <class T>
struct Ring {
    T *data;
    int64_t height, Z;

    SB_INLINE T *at(int64_t part, int64_t plane, int64_t row) const {
        return data + ((part * 3 + modulo(plane, 3)) * height + (row < 0 ? row + height : row)) * Z;
    }
    SB_INLINE Around<T> around(int64_t part, int64_t plane, int64_t row) const {
        Around<T> found;
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) found.row[i][j] = at(part, plane + i - 1, row + j - 1);
        return found;
    }
};

template <class T>
SB_INLINE Around<T> around(View<const T, 5> rows, int64_t n, int64_t x, int64_t y) {
    const int64_t X = rows.n[1], Y = rows.n[2];
    const int64_t xs[] = {wrapped(x - 1, X), x, wrapped(x + 1, X)}, ys[] = {wrapped(y - 1, Y), y, wrapped(y + 1, Y)};
    Around<T> found;
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) found.row[i][j] = rows.at(n, xs[i], ys[j]);
    return found;
}

// Write the restriction to row (I, J) of the coarse lattice. The ring contains the fine rows from row number `first` on,
// with even entries before odd ones; an odd point beyond an odd end (X, Y) does not exist.
template <class T>
void write_restricted(T *target, View<const int64_t, 2> joins, const int64_t *axes, View<const T, 5> weights, int64_t o,
                      const Ring<T> &ring, int64_t part, int64_t first, int64_t X, int64_t Y, int64_t I, int64_t J) {
    const int64_t CX = weights.n[1], CY = weights.n[2], CZ = weights.n[4];
    const int64_t fx = axes[0] ? 2 : 1, fy = axes[1] ? 2 : 1, odds = ring.Z - CZ;
    if (J + 1 < CY) prefetch(weights.at(o, I, J + 1), weights.n[3] * CZ);
    for (int64_t k = 0; k < joins.n[0]; ++k) {
        const Join join = join_of(joins, k);
        const int64_t P = wrapped(I - join.cx, CX), Q = wrapped(J - join.cy, CY);
        if (fx * P + join.sx >= X || fy * Q + join.sy >= Y) continue;
        const int64_t x = fx * (I - join.cx) + join.sx, y = fy * (J - join.cy) + join.sy;
        gather(target, k == 0, ring.at(part, x, y - first), weights.at(o, P, Q), join, CZ, odds);
    }
}

// Write the prolongation to row (x, y) of the fine lattice, sorted by the parity of the last index.
template <class T>
void write_prolonged(T *even, T *odd, View<const int64_t, 2> joins, const int64_t *axes, View<const T, 5> weights,
                     int64_t o, View<const T, 4> coarse, int64_t n, int64_t x, int64_t y) {
    const int64_t I = axes[0] ? x / 2 : x, J = axes[1] ? y / 2 : y, sx = axes[0] ? x % 2 : 0, sy = axes[1] ? y % 2 : 0;
    const int64_t CX = coarse.n[1], CY = coarse.n[2], CZ = coarse.n[3];
    if (sx == 0 && sy == 0 && J + 1 < weights.n[2]) prefetch(weights.at(o, I, J + 1), weights.n[3] * CZ);
    bool fresh = true;
    for (int64_t k = 0; k < joins.n[0]; ++k) {
        const Join join = join_of(joins, k);
        if (join.sx != sx || join.sy != sy) continue;
        const T *source = coarse.at(n, wrapped(I + join.cx, CX), wrapped(J + join.cy, CY));
        spread(even, odd, fresh, source, weights.at(o, I, J), join, CZ);
        fresh = false;
    }
}

}  // namespace

template <class T>
void descend(int threads, View<const int64_t, 2> groups, View<const T, 5> flow, View<const T, 4> c, View<const T, 4> s,
             View<const int64_t, 1> places, View<const int64_t, 2> joins, View<const T, 5> weights, View<T, 3> scratch,
             View<T, 5> rings, View<const double, 1> steps, View<const T, 4> b, View<T, 4> x, View<T, 4> coarse) {
    const bool flat = b.n[1] == 1;
    flow = upright(flow, flat), c = upright(c, flat), s = upright(s, flat), weights = upright(weights, flat);
    b = upright(b, flat), x = upright(x, flat), coarse = upright(coarse, flat);
    const int64_t B = b.n[0], X = b.n[1], Y = b.n[2], Z = b.n[3], m = steps.n[0];
    const int64_t hx = X > 1 ? 1 : 0, hy = Y > 1 ? 1 : 0, *axes = places.data;
    const int64_t workers = smaller<int64_t>(threads, rings.n[0]);
    const Tiles tiles = tiles_of(hy ? rings.n[3] - 2 * (m + 1) : 2, X, Y, workers);
    parallel(workers, threads, [&](int64_t worker) {
        const Ring<T> ring{rings.at(worker), rings.n[3], Z};  // the iterates, and the residual
        T *product = scratch.at(worker);
        const int64_t count = B * tiles.nx * tiles.ny;
        for (int64_t t = worker * count / workers; t < (worker + 1) * count / workers; ++t) {
            const int64_t n = t / (tiles.nx * tiles.ny), o = weights.n[0] > 1 ? n : 0;
            const int64_t x0 = t / tiles.ny % tiles.nx * tiles.length, y0 = t % tiles.ny * tiles.height;
            const int64_t x1 = smaller(x0 + tiles.length, X), y1 = smaller(y0 + tiles.height, Y);
            const int64_t first = y0 - hy * (m + 1);
            for (int64_t i = x0 - hx * (m + 1); i < x1 + m; ++i) {
                for (int64_t j = 0; j <= m; ++j) {
                    const int64_t p = i - j, px = modulo(p, X);
                    if (p < x0 - hx * (1 + m - j) || p >= x1 + hx * (m - j)) continue;
                    for (int64_t y = y0 - hy * (1 + m - j); y < y1 + hy * (m - j); ++y) {
                        const int64_t py = modulo(y, Y), k = y - first;
                        const T *right = b.at(n, px, py);
                        if (m == 0) {
                            split(right, ring.at(0, p, k), axes[2], Z);
                            continue;
                        }
                        T *SB_RESTRICT row = j < m ? ring.at(j, p, k) : product;
                        const T *inverse = s.at(o, px, py);
                        if (j == 0) {
                            const T step = static_cast<T>(steps.data[0]);
                            for (int64_t z = 0; z < Z; ++z) row[z] = step * inverse[z] * right[z];
                        } else {
                            const Around<T> iterate = ring.around(j - 1, p, k);
                            write_product(row, c.at(o, px, py), groups, iterate, around(flow, o, px, py), Z);
                            if (j < m) {
                                relax_row(row, iterate.row[1][1], static_cast<T>(steps.data[j]), inverse, right, Z);
                            } else {
                                for (int64_t z = 0; z < Z; ++z) row[z] = right[z] - row[z];
                                split<T>(row, ring.at(m, p, k), axes[2], Z);
                            }
                        }
                        if (j == m - 1 && x0 <= p && p < x1 && y0 <= y && y < y1) {
                            T *SB_RESTRICT result = x.at(n, p, y);
                            for (int64_t z = 0; z < Z; ++z) result[z] = row[z];
                        }
                    }
                }
                const int64_t p = i - m;
                if (p < x0 || p >= x1 || (axes[0] && p % 2 == 0 && p < X - 1)) continue;  // the next plane is needed too
                const int64_t I = axes[0] ? p / 2 : p;
                for (int64_t J = axes[1] ? y0 / 2 : y0; J < (axes[1] ? (y1 + 1) / 2 : y1); ++J)
                    write_restricted(coarse.at(n, I, J), joins, axes, weights, o, ring, m, first, X, Y, I, J);
            }
        }
    });
}

template <class T>
void ascend(int threads, View<const int64_t, 2> groups, View<const T, 5> flow, View<const T, 4> c, View<const T, 4> s,
            View<const int64_t, 1> places, View<const int64_t, 2> joins, View<const T, 5> weights, View<T, 3> scratch,
            View<T, 5> rings, View<const double, 1> steps, View<const T, 4> b, View<const T, 4> x, View<T, 4> out,
            View<const T, 4> coarse) {
    const bool flat = b.n[1] == 1;
    flow = upright(flow, flat), c = upright(c, flat), s = upright(s, flat), weights = upright(weights, flat);
    b = upright(b, flat), x = upright(x, flat), out = upright(out, flat), coarse = upright(coarse, flat);
    const int64_t B = b.n[0], X = b.n[1], Y = b.n[2], Z = b.n[3], m = steps.n[0];
    const int64_t hx = X > 1 ? 1 : 0, hy = Y > 1 ? 1 : 0, *axes = places.data;
    const int64_t workers = smaller<int64_t>(threads, rings.n[0]);
    const Tiles tiles = tiles_of(hy ? rings.n[3] - 2 * (m + 1) : 2, X, Y, workers);
    parallel(workers, threads, [&](int64_t worker) {
        const Ring<T> ring{rings.at(worker), rings.n[3], Z};  // all iterates except the last
        T *even = scratch.at(worker, 0), *odd = scratch.at(worker, 1);
        const int64_t count = B * tiles.nx * tiles.ny;
        for (int64_t t = worker * count / workers; t < (worker + 1) * count / workers; ++t) {
            const int64_t n = t / (tiles.nx * tiles.ny), o = weights.n[0] > 1 ? n : 0;
            const int64_t x0 = t / tiles.ny % tiles.nx * tiles.length, y0 = t % tiles.ny * tiles.height;
            const int64_t x1 = smaller(x0 + tiles.length, X), y1 = smaller(y0 + tiles.height, Y);
            const int64_t first = y0 - hy * m;
            for (int64_t i = x0 - hx * m; i < x1 + m; ++i) {
                for (int64_t j = 0; j <= m; ++j) {
                    const int64_t p = i - j, px = modulo(p, X);
                    if (p < x0 - hx * (m - j) || p >= x1 + hx * (m - j)) continue;
                    for (int64_t y = y0 - hy * (m - j); y < y1 + hy * (m - j); ++y) {
                        const int64_t py = modulo(y, Y), k = y - first;
                        T *row = j == m ? out.at(n, px, py) : ring.at(j, p, k);
                        if (j == 0) {
                            write_prolonged(even, odd, joins, axes, weights, o, coarse, n, px, py);
                            add_joined<T>(row, x.at(n, px, py), even, odd, axes[2], Z);
                            continue;
                        }
                        const Around<T> iterate = ring.around(j - 1, p, k);
                        write_product(row, c.at(o, px, py), groups, iterate, around(flow, o, px, py), Z);
                        const T step = static_cast<T>(steps.data[j - 1]);
                        relax_row(row, iterate.row[1][1], step, s.at(o, px, py), b.at(n, px, py), Z);
                    }
                }
            }
        }
    });
}

#define SB_INSTANCE(T)                                                                                                   \
    template void descend<T>(int, View<const int64_t, 2>, View<const T, 5>, View<const T, 4>, View<const T, 4>,          \
                             View<const int64_t, 1>, View<const int64_t, 2>, View<const T, 5>, View<T, 3>, View<T, 5>,   \
                             View<const double, 1>, View<const T, 4>, View<T, 4>, View<T, 4>);                           \
    template void ascend<T>(int, View<const int64_t, 2>, View<const T, 5>, View<const T, 4>, View<const T, 4>,           \
                            View<const int64_t, 1>, View<const int64_t, 2>, View<const T, 5>, View<T, 3>, View<T, 5>,    \
                            View<const double, 1>, View<const T, 4>, View<const T, 4>, View<T, 4>, View<const T, 4>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
