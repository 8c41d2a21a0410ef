// Rows of cells and the rows of nodes around them, shared by the kernels on cells.
//
// On a cell of DIM axes, a multilinear function is given by its 2^DIM corner values or by its modes, see q1.py.
// Corners and modes are numbered by bits: bit 0 is the last axis (z), bit 1 the one before (y), bit 2 the first (x).
// Modes are stored as plain sums and differences along each axis, which are 2^(DIM - |S|) times those of q1.py.
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

#include "array.hpp"
#include "threads.hpp"

namespace sb::SB_ISA {

// A piece of work is a block of PLANES x STRIP rows, or a strip of rows, in chunks of LENGTH cells: small enough for its
// scratch memory to stay in the cache and for its sums to accumulate little round-off.
constexpr int64_t PLANES = 8, STRIP = 16, LENGTH = 256;

constexpr int corners(int dim) { return 1 << dim; }

// 3^-|S| for each mode, where |S| is the number of axes along which it varies.
constexpr double MEAN_SQUARE[8] = {1, 1. / 3, 1. / 3, 1. / 9, 1. / 3, 1. / 9, 1. / 9, 1. / 27};

template <int... I, class Body>
SB_INLINE void call_for_each(std::integer_sequence<int, I...>, Body &&body) {
    (body(std::integral_constant<int, I>()), ...);
}

// Call body(i) for compile-time constants i = 0 .. N - 1, so that a loop around it can be vectorised.
template <int N, class Body>
SB_INLINE void unroll(Body &&body) {
    call_for_each(std::make_integer_sequence<int, N>(), body);
}

// Call body(constant) with the number of axes as a compile-time constant.
template <class Body>
SB_INLINE void with_dim(int dim, Body &&body) {
    if (dim == 1) body(std::integral_constant<int, 1>());
    if (dim == 2) body(std::integral_constant<int, 2>());
    if (dim == 3) body(std::integral_constant<int, 3>());
}

// One row of a cell field. A field constant over the samples, or over the cells of a sample, is stored once.
template <class T>
SB_INLINE const T *cell_row(View<const T, 4> field, int64_t n, int64_t x, int64_t y) {
    return field.at(field.n[0] > 1 ? n : 0, field.n[1] > 1 ? x : 0, field.n[2] > 1 ? y : 0);
}

// The coefficients of a row of cells: a along the axes z, y, x and c.
template <int DIM, class T>
struct Coefficients {
    const T *a[DIM], *c;
};

template <class T>
struct CellFields {
    View<const T, 4> x, y, z, c;

    template <int DIM>
    SB_INLINE Coefficients<DIM, T> row(int64_t n, int64_t i, int64_t j) const {
        Coefficients<DIM, T> found;
        found.a[0] = cell_row(z, n, i, j);
        if constexpr (DIM > 1) found.a[1] = cell_row(y, n, i, j);
        if constexpr (DIM > 2) found.a[2] = cell_row(x, n, i, j);
        found.c = cell_row(c, n, i, j);
        return found;
    }
};

// Factors of the coefficients of a cell.
template <int DIM, class T>
struct Factors {
    T a[DIM], c;

    SB_INLINE T combine(const Coefficients<DIM, T> &k, int64_t z) const {
        T total = c * k.c[z];
        unroll<DIM>([&](auto i) { total += a[i] * k.a[i][z]; });
        return total;
    }
};

// Convert the factors of a_x, a_y, a_z and c.
template <int DIM, class T>
SB_INLINE Factors<DIM, T> factors_of(const double *row) {
    Factors<DIM, T> found;
    for (int i = 0; i < DIM; ++i) found.a[i] = static_cast<T>(row[2 - i]);
    found.c = static_cast<T>(row[3]);
    return found;
}

SB_INLINE double volume_of(View<const double, 1> h) { return h.data[0] * h.data[1] * h.data[2]; }

// The energy of modes stored as plain sums and differences: sum of 3^-|S| (c_0 c + sum over axes i in S of a_i c_i) m_S^2.
template <int DIM, class T>
SB_INLINE Factors<DIM, T> energy_factors(View<const double, 1> h) {
    const double volume = volume_of(h) / (1 << 2 * DIM);
    const double row[] = {12 * volume / (h.data[0] * h.data[0]), 12 * volume / (h.data[1] * h.data[1]),
                          12 * volume / (h.data[2] * h.data[2]), volume};
    return factors_of<DIM, T>(row);
}

// The weight of each mode of a cell in that energy.
template <int DIM, class T>
SB_INLINE void read_weights(const Coefficients<DIM, T> &k, const Factors<DIM, T> &factors, int64_t z,
                            T (&weight)[corners(DIM)]) {
    weight[0] = factors.c * k.c[z];
    unroll<DIM>([&](auto i) {
        const T part = factors.a[i] * k.a[i][z];
        unroll<corners(i)>([&](auto s) { weight[s + corners(i)] = weight[s] + part; });
    });
    unroll<corners(DIM)>([&](auto s) { weight[s] *= static_cast<T>(MEAN_SQUARE[s]); });
}

// The rows of nodes around a row of cells, numbered by the bits of y and x.
template <int DIM, class T>
struct NodeRows {
    const T *row[corners(DIM - 1)];
};

// The rows (x, y), (x, y + 1), (x + 1, y), (x + 1, y + 1) of a field, for the axes that exist.
template <int DIM, class T>
SB_INLINE NodeRows<DIM, T> rows_around(View<const T, 4> field, int64_t n, int64_t x, int64_t y) {
    NodeRows<DIM, T> found;
    for (int q = 0; q < corners(DIM - 1); ++q) found.row[q] = field.at(field.n[0] > 1 ? n : 0, x + (q >> 1), y + (q & 1));
    return found;
}

template <int DIM, class T>
SB_INLINE void read_corners(const NodeRows<DIM, T> &nodes, int64_t z, T (&value)[corners(DIM)]) {
    unroll<corners(DIM - 1)>([&](auto q) {
        value[2 * q] = nodes.row[q][z];
        value[2 * q + 1] = nodes.row[q][z + 1];
    });
}

// Call body(a, b) for all pairs of entries whose numbers differ in one bit.
template <int BIT, int N, class T, class Body>
SB_INLINE void for_pairs(T (&m)[N], Body &&body) {
    unroll<N / 2>([&](auto i) {
        constexpr int low = i / BIT * 2 * BIT + i % BIT;
        body(m[low], m[low + BIT]);
    });
}

// Compute sums and differences along every axis from the corner values.
template <int N, class T>
SB_INLINE void to_modes(T (&m)[N]) {
    const auto split = [](T &a, T &b) {
        const T low = a, high = b;
        a = low + high;
        b = high - low;
    };
    for_pairs<1>(m, split);
    if constexpr (N > 2) for_pairs<2>(m, split);
    if constexpr (N > 4) for_pairs<4>(m, split);
}

// The transpose of to_modes.
template <int N, class T>
SB_INLINE void to_corners(T (&m)[N]) {
    const auto join = [](T &a, T &b) {
        const T sum = a, difference = b;
        a = sum - difference;
        b = sum + difference;
    };
    if constexpr (N > 4) for_pairs<4>(m, join);
    if constexpr (N > 2) for_pairs<2>(m, join);
    for_pairs<1>(m, join);
}

// Contributions of the cells of a chunk to their two nodes along the last axis; high[z + 1] and low[z] go to one node.
template <class T>
struct Ends {
    T low[LENGTH + 1], high[LENGTH + 1];

    SB_INLINE void start() { high[0] = 0; }

    // Add the chunk of n cells from `begin` on to a row of Z + 1 nodes; if the row is fresh, write instead of adding.
    SB_INLINE void add_to(T *SB_RESTRICT out, bool fresh, int64_t begin, int64_t n, int64_t Z) {
        const bool last = begin + n == Z;
        low[n] = 0;
        out += begin;
        if (fresh)
            for (int64_t z = 0; z < n + last; ++z) out[z] = low[z] + high[z];
        else
            for (int64_t z = 0; z < n + last; ++z) out[z] += low[z] + high[z];
        high[0] = high[n];  // for the node between this chunk and the next
    }
};

// Whether the planes of nodes before (0) and after (1) a row of cells are reached for the first time.
struct Fresh {
    bool x[2], y[2];
};

// Call body(n, x, y, fresh) for every row of cells. Rows that share a node are never processed at the same time, and
// always in the same order, so body may add to the surrounding nodes.
template <class Body>
SB_INLINE void for_rows_in_turn(int64_t B, int64_t X, int64_t Y, int threads, Body &&body) {
    const int64_t slabs = (X + PLANES - 1) / PLANES, strips = (Y + STRIP - 1) / STRIP;
    for (int colour = 0; colour < 4; ++colour) {
        const int64_t px = colour >> 1, py = colour & 1;
        const int64_t across = (slabs - px + 1) / 2, along = (strips - py + 1) / 2;
        parallel(B * across * along, threads, [&](int64_t k) {
            const int64_t n = k / (across * along);
            const int64_t x0 = PLANES * (2 * (k / along % across) + px), x1 = smaller(x0 + PLANES, X);
            const int64_t y0 = STRIP * (2 * (k % along) + py), y1 = smaller(y0 + STRIP, Y);
            // an odd block follows the even ones on both sides, with which it shares its outer nodes
            for (int64_t x = x0; x < x1; ++x)
                for (int64_t y = y0; y < y1; ++y)
                    body(n, x, y, Fresh{{x == x0 && px == 0, px == 0 || x + 1 < x1 || x1 == X},
                                        {y == y0 && py == 0, py == 0 || y + 1 < y1 || y1 == Y}});
        });
    }
}

// Sum of a row by repeated halving, which accumulates little round-off; the row is overwritten.
template <class T>
SB_INLINE T sum_by_halves(T *row, int64_t n) {
    while (n > 1) {
        const int64_t half = (n + 1) / 2;
        SB_INDEPENDENT
        for (int64_t z = 0; z < n - half; ++z) row[z] += row[z + half];
        n = half;
    }
    return row[0];
}

// Compute COUNT sums over the cells of each sample: body(n, x, y, begin, end, sums) adds the terms of a chunk of a row of
// cells to sums[0 .. COUNT - 1][0 .. end - begin - 1]. `parts` (b, COUNT, X * strips) is scratch memory.
template <int COUNT, class T, class Body>
SB_INLINE void sum_over_cells(int64_t X, int64_t Y, int64_t Z, int threads, View<T, 3> parts, View<T, 2> out,
                              Body &&body) {
    const int64_t B = out.n[0], strips = (Y + STRIP - 1) / STRIP, pieces = X * strips;
    parallel(B * pieces, threads, [&](int64_t k) {
        const int64_t n = k / pieces, x = k / strips % X, start = k % strips * STRIP, width = smaller(Z, LENGTH);
        T sums[COUNT][LENGTH];
        for (int i = 0; i < COUNT; ++i)
            for (int64_t z = 0; z < width; ++z) sums[i][z] = 0;
        for (int64_t y = start; y < smaller(start + STRIP, Y); ++y)
            for (int64_t begin = 0; begin < Z; begin += LENGTH) body(n, x, y, begin, smaller(begin + LENGTH, Z), sums);
        for (int i = 0; i < COUNT; ++i) parts(n, i, k % pieces) = sum_by_halves(sums[i], width);
    });
    for (int64_t n = 0; n < B; ++n)
        for (int i = 0; i < COUNT; ++i) out(n, i) = sum_by_halves(parts.at(n, i), pieces);
}

}  // namespace sb::SB_ISA
