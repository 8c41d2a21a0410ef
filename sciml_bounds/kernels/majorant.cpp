// Cell terms of the error bound, see majorant.py.

#include "kernels.hpp"
#include "rows.hpp"

namespace sb::SB_ISA {
namespace {

constexpr double PI = 3.14159265358979323846;

// Lengths of a cell, along z, y, x.
template <int DIM, class T>
struct Lengths {
    T volume, inverse[DIM], squared[DIM];  // of h, over pi^2
};

// A row of cells: coefficients, source, fluid mask, surrounding nodal values, and the fluxes at both ends along each axis
// (z, y, x).
template <int DIM, class T>
struct Row {
    Coefficients<DIM, T> k;
    const T *f;
    const bool *fluid;
    NodeRows<DIM, T> v;
    const T *low[DIM], *high[DIM];
};

// Write the terms of the cells begin .. end - 1, and raise `worst` to the largest imbalance of their fluxes.
template <int DIM, bool REACTS, class T>
void write_terms(const Row<DIM, T> &row, const Lengths<DIM, T> &h, T round_off, int64_t begin, int64_t end,
                 T *SB_RESTRICT flux_term, T *SB_RESTRICT oscillation_term, T *SB_RESTRICT reaction_term,
                 T *SB_RESTRICT worst) {
    constexpr T half = T(1) / 2, none = 0, one = 1;
    T fluid[LENGTH];  // compilers do not vectorise loops over mixed booleans and numbers
    const unsigned char *bytes = reinterpret_cast<const unsigned char *>(row.fluid);
    for (int64_t z = begin; z < end; ++z) fluid[z - begin] = bytes[z];
    SB_INDEPENDENT
    for (int64_t z = begin; z < end; ++z) {
        const bool open = fluid[z - begin] > none;
        const T c = row.k.c[z], f = row.f[z];
        T m[corners(DIM)], mismatch = 0, divergence = 0, size = h.volume * magnitude(f), constant = 0;
        read_corners<DIM>(row.v, z, m);
        to_modes(m);
        unroll<DIM>([&](auto i) {
            const T given = row.k.a[i][z], low = row.low[i][z], high = row.high[i][z];
            const T a = open ? given : one, inverse = one / a;
            const T jump = high - low, scale = a * h.inverse[i] / corners(DIM - 1);
            T part = jump * jump / 12;
            unroll<corners(DIM)>([&](auto s) {
                if constexpr (s == corners(i)) {
                    const T middle = scale * m[s] - half * (low + high);
                    part += middle * middle;
                } else if constexpr (s & corners(i)) {
                    const T twisted = scale * m[s];
                    part += static_cast<T>(MEAN_SQUARE[s ^ corners(i)]) * (twisted * twisted);
                }
            });
            mismatch += part * inverse;
            divergence += h.inverse[i] * jump;
            size = larger(size, h.volume * h.inverse[i] * larger(magnitude(low), magnitude(high)));
            constant = larger(constant, h.squared[i] * inverse);
        });
        const T first = open ? h.volume * mismatch : none;
        flux_term[z] = first;
        const T lack = h.volume * magnitude(f + divergence) - round_off * size;
        worst[z - begin] = larger(worst[z - begin], (open & (c <= none)) ? lack : none);
        if constexpr (REACTS) {
            const bool reacts = open & (c > none);
            const T k = reacts ? c : one, inverse = one / k, mean = m[0] / corners(DIM);
            T variance = 0;
            unroll<corners(DIM)>([&](auto s) {
                if constexpr (s > 0) variance += static_cast<T>(MEAN_SQUARE[s]) * (m[s] * m[s]);
            });
            const T rest = h.volume * k * k * (variance / (1 << 2 * DIM)), residual = f + divergence - k * mean;
            const T oscillation = std::sqrt(constant * rest), total = std::sqrt(first) + oscillation;
            const T squared = h.volume * residual * residual * inverse, alternative = rest * inverse;
            const bool better = total * total > first + alternative;
            oscillation_term[z] = (better | !reacts) ? none : oscillation;
            reaction_term[z] = reacts ? squared + (better ? alternative : none) : none;
        }
    }
}

}  // namespace

template <class T>
void majorant_terms(int threads, int dim, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az,
                    View<const T, 4> c, View<const T, 4> f, View<const bool, 4> fluid, View<const T, 4> v,
                    View<const T, 4> yx, View<const T, 4> yy, View<const T, 4> yz, View<const double, 1> h,
                    double round_off, View<T, 5> out, View<T, 2> excess) {
    with_dim(dim, [&](auto constant) {
        constexpr int DIM = decltype(constant)::value;
        const CellFields<T> fields = {ax, ay, az, c};
        Lengths<DIM, T> lengths;
        lengths.volume = static_cast<T>(volume_of(h));
        for (int i = 0; i < DIM; ++i) {
            const double length = h.data[2 - i];
            lengths.inverse[i] = static_cast<T>(1 / length);
            lengths.squared[i] = static_cast<T>(length * length / (PI * PI));
        }
        const int64_t B = out.n[1], X = out.n[2], Y = out.n[3], Z = out.n[4];
        const int64_t strips = (Y + STRIP - 1) / STRIP, pieces = X * strips;
        parallel(B * pieces, threads, [&](int64_t piece) {
            const int64_t n = piece / pieces, x = piece / strips % X, start = piece % strips * STRIP;
            T worst[LENGTH] = {};
            for (int64_t y = start; y < smaller(start + STRIP, Y); ++y) {
                Row<DIM, T> row;
                row.k = fields.template row<DIM>(n, x, y);
                row.f = cell_row(f, n, x, y);
                row.fluid = cell_row(fluid, n, x, y);
                row.v = rows_around<DIM>(v, n, x, y);
                row.low[0] = yz.sample(n).at(x, y);
                row.high[0] = row.low[0] + 1;
                if constexpr (DIM > 1) {
                    row.low[1] = yy.sample(n).at(x, y);
                    row.high[1] = yy.sample(n).at(x, y + 1);
                }
                if constexpr (DIM > 2) {
                    row.low[2] = yx.sample(n).at(x, y);
                    row.high[2] = yx.sample(n).at(x + 1, y);
                }
                T *first = out.at(0, n, x, y);
                for (int64_t begin = 0; begin < Z; begin += LENGTH) {
                    const int64_t end = smaller(begin + LENGTH, Z);
                    if (out.n[0] > 1)
                        write_terms<DIM, true>(row, lengths, static_cast<T>(round_off), begin, end, first,
                                               out.at(1, n, x, y), out.at(2, n, x, y), worst);
                    else
                        write_terms<DIM, false>(row, lengths, static_cast<T>(round_off), begin, end, first, first, first,
                                                worst);
                }
            }
            T &found = excess(n, piece % pieces) = 0;
            for (int64_t z = 0; z < smaller(Z, LENGTH); ++z) found = larger(found, worst[z]);
        });
    });
}

#define SB_INSTANCE(T)                                                                                                   \
    template void majorant_terms<T>(int, int, View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,    \
                                    View<const T, 4>, View<const bool, 4>, View<const T, 4>, View<const T, 4>,           \
                                    View<const T, 4>, View<const T, 4>, View<const double, 1>, double, View<T, 5>,       \
                                    View<T, 2>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
