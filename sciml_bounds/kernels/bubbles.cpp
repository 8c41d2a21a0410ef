// Edge bubbles, see bubbles.py.
//
// Modes are stored as plain sums and differences (see rows.hpp): 2^(DIM - |S|) times those of bubbles.py for nodes and
// 2^(DIM - 1 - |S|) times for bubbles. Both use the weights of nodal modes, with a factor of two per mode of bubbles.

#include "kernels.hpp"
#include "rows.hpp"

namespace sb::SB_ISA {
namespace {

// Integrals of q, q^2 and q'^2 over [-1/2, 1/2].
constexpr double Q = 2. / 3, R = 8. / 15, D = 16. / 3;

// Remove bit I of a number.
constexpr int without_bit(int s, int i) { return (s & (corners(i) - 1)) | (s >> (i + 1) << i); }

// Data for the round-off bound of the sums of a row of cells.
template <int DIM, class T>
struct RoundOff {
    Factors<DIM, T> kappa;
    T level, volume;

    // Update noise and size with a cell whose sum of absolute values is omega.
    SB_INLINE void add(const Coefficients<DIM, T> &k, T f, T omega, int64_t z, T &noise, T &size) const {
        const T bound = kappa.combine(k, z);
        noise += (volume * magnitude(f) + level * bound) * omega;
        size += bound * omega * omega;
    }
};

// Sums of a chunk of a row of cells: f(e) - a(v, e), a(e, e), noise and size.
template <int DIM, class T>
void add_nodal(const NodeRows<DIM, T> &v, const NodeRows<DIM, T> &e, const Coefficients<DIM, T> &k, const T *f,
               const Factors<DIM, T> &factors, const RoundOff<DIM, T> &round_off, int64_t begin, int64_t end,
               T (&sums)[4][LENGTH]) {
    const T load = round_off.volume / corners(DIM);
    SB_INDEPENDENT
    for (int64_t z = begin; z < end; ++z) {
        T mv[corners(DIM)], me[corners(DIM)], weight[corners(DIM)], omega = 0, energy = 0;
        read_corners<DIM>(v, z, mv);
        read_corners<DIM>(e, z, me);
        unroll<corners(DIM)>([&](auto s) { omega += magnitude(me[s]); });
        to_modes(mv);
        to_modes(me);
        read_weights<DIM>(k, factors, z, weight);
        T right = load * f[z] * me[0];
        unroll<corners(DIM)>([&](auto s) {
            const T part = weight[s] * me[s];
            right -= part * mv[s];
            energy += part * me[s];
        });
        const int64_t i = z - begin;
        sums[0][i] += right;
        sums[1][i] += energy;
        round_off.add(k, f[z], omega, z, sums[2][i], sums[3][i]);
    }
}

// The edges around a row of cells: rows of edges along z, and rows of edges along y and x, one per node in z.
template <int DIM, class T>
struct EdgeRows {
    NodeRows<DIM, T> z;
    NodeRows<DIM - 1, T> y, x;
};

template <class T>
struct EdgeRows<1, T> {
    NodeRows<1, T> z;
};

template <int DIM, class T>
SB_INLINE EdgeRows<DIM, T> edges_around(View<const T, 4> wx, View<const T, 4> wy, View<const T, 4> wz, int64_t n,
                                        int64_t x, int64_t y) {
    EdgeRows<DIM, T> found;
    found.z = rows_around<DIM>(wz, n, x, y);
    if constexpr (DIM == 2) found.y.row[0] = wy.sample(n).at(x, y);
    if constexpr (DIM == 3)
        for (int q = 0; q < 2; ++q) {
            found.y.row[q] = wy.sample(n).at(x + q, y);
            found.x.row[q] = wx.sample(n).at(x, y + q);
        }
    return found;
}

// Values of the edges of a cell along axis I, numbered by the bits of the other axes.
template <int I, int DIM, class T>
SB_INLINE void read_edges(const EdgeRows<DIM, T> &edges, int64_t z, T (&value)[corners(DIM - 1)]) {
    if constexpr (I == 0)
        unroll<corners(DIM - 1)>([&](auto q) { value[q] = edges.z.row[q][z]; });
    else if constexpr (I == 1)
        read_corners<DIM - 1>(edges.y, z, value);
    else
        read_corners<DIM - 1>(edges.x, z, value);
}

// Sums of a chunk of a row of cells: f(w) - a(v, w), a(e, w), a(w, w), noise and size.
template <int DIM, class T>
void add_products(const NodeRows<DIM, T> &v, const NodeRows<DIM, T> &e, const EdgeRows<DIM, T> &edges,
                  const Coefficients<DIM, T> &k, const T *f, const Factors<DIM, T> &factors,
                  const RoundOff<DIM, T> &round_off, int64_t begin, int64_t end, T (&sums)[5][LENGTH]) {
    constexpr T twice = 2 * Q, own = 4 * (R - Q * Q);
    const T load = Q * round_off.volume / corners(DIM - 1);
    SB_INDEPENDENT
    for (int64_t z = begin; z < end; ++z) {
        T mv[corners(DIM)], me[corners(DIM)], weight[corners(DIM)], joined[corners(DIM)], omega = 0, energy = 0;
        read_weights<DIM>(k, factors, z, weight);
        unroll<corners(DIM)>([&](auto s) { joined[s] = 0; });
        unroll<DIM>([&](auto i) {
            T w[corners(DIM - 1)];
            read_edges<i>(edges, z, w);
            unroll<corners(DIM - 1)>([&](auto q) { omega += magnitude(w[q]); });
            to_modes(w);
            const T along = static_cast<T>(D / 3) * factors.a[i] * k.a[i][z];
            unroll<corners(DIM)>([&](auto s) {
                if constexpr (!(s & corners(i))) {
                    const T mode = w[without_bit(s, i)];
                    joined[s] += mode;
                    energy += (own * weight[s] + static_cast<T>(MEAN_SQUARE[s]) * along) * mode * mode;
                }
            });
        });
        read_corners<DIM>(v, z, mv);
        read_corners<DIM>(e, z, me);
        to_modes(mv);
        to_modes(me);
        T right = load * f[z] * joined[0], mixed = 0;
        unroll<corners(DIM) - 1>([&](auto s) {  // bubbles do not have the mode along all axes
            const T w = twice * joined[s], part = weight[s] * w;
            right -= part * mv[s];
            mixed += part * me[s];
            energy += part * w;
        });
        const int64_t i = z - begin;
        sums[0][i] += right;
        sums[1][i] += mixed;
        sums[2][i] += energy;
        round_off.add(k, f[z], omega, z, sums[3][i], sums[4][i]);
    }
}

// Contributions of a chunk of a row of cells to the surrounding edges.
template <int DIM, class T>
struct EdgeSums {
    static constexpr int ENDS = DIM > 1 ? corners(DIM - 2) : 0;
    T z[corners(DIM - 1)][LENGTH];
    Ends<T> ends[ENDS > 0 ? (DIM - 1) * ENDS : 1];  // of edges along y, then along x
};

template <int DIM, class T>
void write_residuals(const NodeRows<DIM, T> &v, const Coefficients<DIM, T> &k, const T *f,
                     const Factors<DIM, T> &factors, T load, int64_t begin, int64_t end, EdgeSums<DIM, T> &sums) {
    constexpr T factor = -2 * Q;
    SB_INDEPENDENT
    for (int64_t z = begin; z < end; ++z) {
        T m[corners(DIM)], weight[corners(DIM)];
        read_corners<DIM>(v, z, m);
        to_modes(m);
        read_weights<DIM>(k, factors, z, weight);
        unroll<corners(DIM)>([&](auto s) { m[s] *= factor * weight[s]; });
        m[0] += load * f[z];
        const int64_t place = z - begin;
        unroll<DIM>([&](auto i) {
            T part[corners(DIM - 1)];
            unroll<corners(DIM)>([&](auto s) {
                if constexpr (!(s & corners(i))) part[without_bit(s, i)] = m[s];
            });
            to_corners(part);
            if constexpr (i == 0)
                unroll<corners(DIM - 1)>([&](auto q) { sums.z[q][place] = part[q]; });
            else
                unroll<corners(DIM - 2)>([&](auto q) {
                    Ends<T> &ends = sums.ends[(i - 1) * corners(DIM - 2) + q];
                    ends.low[place] = part[2 * q];
                    ends.high[place + 1] = part[2 * q + 1];
                });
        });
    }
}

template <class T>
void add_row(T *SB_RESTRICT out, const T *row, int64_t n, bool fresh) {
    if (fresh)
        for (int64_t z = 0; z < n; ++z) out[z] = row[z];
    else
        for (int64_t z = 0; z < n; ++z) out[z] += row[z];
}

// The cells around an edge.
template <int DIM, class T>
struct CellsAround {
    Coefficients<DIM, T> cell[4];
    int count = 0;

    template <int COUNT>
    SB_INLINE void write(const Factors<DIM, T> &own, int64_t z, int64_t n, T *SB_RESTRICT out) const {
        for (int64_t i = 0; i < n; ++i) {
            T total = 0;
            unroll<COUNT>([&](auto q) { total += own.combine(cell[q], z + i); });
            out[i] = total;
        }
    }

    // Write the contributions of cells z .. z + n - 1, summed over all rows, to the energies of the bubbles.
    SB_INLINE void write_shares(const Factors<DIM, T> &own, int64_t z, int64_t n, T *SB_RESTRICT out) const {
        if (count == 1) write<1>(own, z, n, out);
        if (count == 2) write<2>(own, z, n, out);
        if (count == 4) write<4>(own, z, n, out);
    }
};

template <class T>
void divide(T *SB_RESTRICT out, const T *total, int64_t n) {
    for (int64_t z = 0; z < n; ++z) out[z] /= larger(total[z], std::numeric_limits<T>::min());
}

// Divide the values of a row of edges along z by their energies.
template <int DIM, class T>
void divide_along(T *out, const CellsAround<DIM, T> &cells, const Factors<DIM, T> &own, int64_t Z) {
    T total[LENGTH];
    for (int64_t begin = 0; begin < Z; begin += LENGTH) {
        const int64_t n = smaller(LENGTH, Z - begin);
        cells.write_shares(own, begin, n, total);
        divide(out + begin, total, n);
    }
}

// Divide the values of a row of edges perpendicular to z, which have cells before and after them in z.
template <int DIM, class T>
void divide_across(T *out, const CellsAround<DIM, T> &cells, const Factors<DIM, T> &own, int64_t Z, bool wraps) {
    T share[LENGTH + 1], total[LENGTH];  // the first share is that of the preceding cell
    for (int64_t begin = 0; begin <= Z; begin += LENGTH) {
        const int64_t n = smaller(LENGTH, Z + 1 - begin), last = smaller(begin + n, Z);
        share[0] = share[n] = 0;
        if (begin > 0) cells.write_shares(own, begin - 1, 1, share);
        if (begin == 0 && wraps) cells.write_shares(own, Z - 1, 1, share);
        if (last == Z && begin + n > Z && wraps) cells.write_shares(own, 0, 1, share + n);
        cells.write_shares(own, begin, last - begin, share + 1);
        for (int64_t z = 0; z < n; ++z) total[z] = share[z] + share[z + 1];
        divide(out + begin, total, n);
    }
}

// The cell before (0) or after (1) a node, or -1 if there is none.
SB_INLINE int64_t cell_next_to(int64_t node, int side, int64_t n, bool wraps) {
    const int64_t cell = node - 1 + side;
    return cell >= 0 && cell < n ? cell : wraps ? wrapped(cell, n) : -1;
}

}  // namespace

template <class T>
void nodal_products(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                    View<const T, 4> c, View<const T, 4> f, View<const T, 4> v, View<const T, 4> e,
                    View<const T, 1> level, View<const double, 1> h, View<const double, 1> kappa, View<T, 3> parts,
                    View<T, 2> out) {
    with_dim(dim, [&](auto constant) {
        constexpr int DIM = decltype(constant)::value;
        const CellFields<T> fields = {ax, ay, az, c};
        const Factors<DIM, T> factors = energy_factors<DIM, T>(h), bounds = factors_of<DIM, T>(kappa.data);
        const T volume = static_cast<T>(volume_of(h));
        sum_over_cells<4>(v.n[1] - (DIM > 2), v.n[2] - (DIM > 1), v.n[3] - 1, threads, parts, out,
                          [&](int64_t n, int64_t x, int64_t y, int64_t begin, int64_t end, T(&sums)[4][LENGTH]) {
                              add_nodal<DIM>(rows_around<DIM>(v, n, x, y), rows_around<DIM>(e, n, x, y),
                                             fields.template row<DIM>(n, x, y), cell_row(f, n, x, y), factors,
                                             {bounds, level.data[n], volume}, begin, end, sums);
                          });
    });
}

template <class T>
void bubble_products(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                     View<const T, 4> c, View<const T, 4> f, View<const T, 4> v, View<const T, 4> e,
                     View<const T, 4> wx, View<const T, 4> wy, View<const T, 4> wz, View<const T, 1> level,
                     View<const double, 1> h, View<const double, 1> kappa, View<T, 3> parts, View<T, 2> out) {
    with_dim(dim, [&](auto constant) {
        constexpr int DIM = decltype(constant)::value;
        const CellFields<T> fields = {ax, ay, az, c};
        const Factors<DIM, T> factors = energy_factors<DIM, T>(h), bounds = factors_of<DIM, T>(kappa.data);
        const T volume = static_cast<T>(volume_of(h));
        sum_over_cells<5>(v.n[1] - (DIM > 2), v.n[2] - (DIM > 1), v.n[3] - 1, threads, parts, out,
                          [&](int64_t n, int64_t x, int64_t y, int64_t begin, int64_t end, T(&sums)[5][LENGTH]) {
                              add_products<DIM>(rows_around<DIM>(v, n, x, y), rows_around<DIM>(e, n, x, y),
                                                edges_around<DIM>(wx, wy, wz, n, x, y),
                                                fields.template row<DIM>(n, x, y), cell_row(f, n, x, y), factors,
                                                {bounds, level.data[n], volume}, begin, end, sums);
                          });
    });
}

template <class T>
void bubble_residual(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                     View<const T, 4> c, View<const T, 4> f, View<const T, 4> v, View<const double, 1> h, View<T, 4> wx,
                     View<T, 4> wy, View<T, 4> wz) {
    with_dim(dim, [&](auto constant) {
        constexpr int DIM = decltype(constant)::value;
        const CellFields<T> fields = {ax, ay, az, c};
        const Factors<DIM, T> factors = energy_factors<DIM, T>(h);
        const T load = static_cast<T>(Q * volume_of(h) / corners(DIM - 1));
        const int64_t X = v.n[1] - (DIM > 2), Y = v.n[2] - (DIM > 1), Z = v.n[3] - 1;
        for_rows_in_turn(v.n[0], X, Y, threads, [&](int64_t n, int64_t x, int64_t y, const Fresh &fresh) {
            EdgeSums<DIM, T> sums;
            for (Ends<T> &end : sums.ends) end.start();
            for (int64_t begin = 0; begin < Z; begin += LENGTH) {
                const int64_t count = smaller(LENGTH, Z - begin);
                write_residuals<DIM>(rows_around<DIM>(v, n, x, y), fields.template row<DIM>(n, x, y),
                                     cell_row(f, n, x, y), factors, load, begin, begin + count, sums);
                for (int q = 0; q < corners(DIM - 1); ++q) {
                    const int i = q >> 1, j = q & 1;
                    add_row(wz.at(n, x + i, y + j) + begin, sums.z[q], count, fresh.x[i] && fresh.y[j]);
                }
                for (int q = 0; q < sums.ENDS; ++q) {
                    sums.ends[q].add_to(wy.at(n, x + q, y), fresh.x[q], begin, count, Z);
                    if constexpr (DIM > 2) sums.ends[2 + q].add_to(wx.at(n, x, y + q), fresh.y[q], begin, count, Z);
                }
            }
        });
    });
}

template <class T>
void relax_bubbles(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                   View<const T, 4> c, View<const double, 2> own, View<const bool, 1> wraps, View<T, 4> wx,
                   View<T, 4> wy, View<T, 4> wz) {
    with_dim(dim, [&](auto constant) {
        constexpr int DIM = decltype(constant)::value;
        const CellFields<T> fields = {ax, ay, az, c};
        const int64_t NX = wz.n[1], NY = wz.n[2], X = NX - (DIM > 2), Y = NY - (DIM > 1), Z = wz.n[3];
        parallel(wz.n[0] * NX * NY, threads, [&](int64_t k) {
            const int64_t n = k / (NX * NY), x = k / NY % NX, y = k % NY;
            // cells around the position (x, y), which is a node or a cell along each axis
            const auto around = [&](bool node_x, bool node_y) {
                CellsAround<DIM, T> found;
                for (int i = 0; i <= node_x; ++i)
                    for (int j = 0; j <= node_y; ++j) {
                        const int64_t cx = node_x ? cell_next_to(x, i, X, wraps.data[0]) : x;
                        const int64_t cy = node_y ? cell_next_to(y, j, Y, wraps.data[1]) : y;
                        if (cx >= 0 && cy >= 0) found.cell[found.count++] = fields.template row<DIM>(n, cx, cy);
                    }
                return found;
            };
            const auto factors = [&](int axis) { return factors_of<DIM, T>(own.at(axis)); };
            divide_along(wz.at(n, x, y), around(DIM > 2, DIM > 1), factors(2), Z);
            if (DIM > 1 && y < Y) divide_across(wy.at(n, x, y), around(DIM > 2, false), factors(1), Z, wraps.data[2]);
            if (DIM > 2 && x < X) divide_across(wx.at(n, x, y), around(false, true), factors(0), Z, wraps.data[2]);
        });
    });
}

#define SB_INSTANCE(T)                                                                                                   \
    template void nodal_products<T>(int, int, View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,    \
                                    View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 1>,              \
                                    View<const double, 1>, View<const double, 1>, View<T, 3>, View<T, 2>);               \
    template void bubble_products<T>(int, int, View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,   \
                                     View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,             \
                                     View<const T, 4>, View<const T, 4>, View<const T, 1>, View<const double, 1>,        \
                                     View<const double, 1>, View<T, 3>, View<T, 2>);                                     \
    template void bubble_residual<T>(int, int, View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,   \
                                     View<const T, 4>, View<const T, 4>, View<const double, 1>, View<T, 4>, View<T, 4>,  \
                                     View<T, 4>);                                                                        \
    template void relax_bubbles<T>(int, int, View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,     \
                                   View<const double, 2>, View<const bool, 1>, View<T, 4>, View<T, 4>, View<T, 4>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
