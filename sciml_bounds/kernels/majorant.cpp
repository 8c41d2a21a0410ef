// The terms of the guaranteed error bound on every cell, see majorant.py.

#include "rows.hpp"

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

// What is the same for all cells: 1 or 0 for the first two axes, the spacings, their inverses, and the volume of a cell.
template <class T>
struct Geometry {
    T tx, ty, ix, iy, iz, volume;
};

// The data of one row of cells.
template <class T>
struct Cells {
    const T *ax, *ay, *az, *c, *f;
    const bool *fluid;
};

// || a^-1/2 (a d v - y) ||^2 along one axis, per volume, from the modes of d v and the fluxes at both ends.
template <class T>
SB_INLINE T mismatch(T a, T gradient, T twisted_1, T twisted_2, T twisted_3, T low, T high, T there) {
    const T middle = a * gradient - there * T(0.5) * (low + high);
    const T t1 = a * twisted_1, t2 = a * twisted_2, t3 = a * twisted_3, jump = high - low;
    const T sides = t1 * t1 + t2 * t2 + there * jump * jump;
    return (middle * middle + sides / T(12) + t3 * t3 / T(144)) / a;
}

// The flux term of a row of cells, and what the other terms need: mean and variance of v, and div y. Of cells without
// reaction, `worst` becomes the largest defect beyond round-off.
template <class T>
void flux_row(const Geometry<T> &g, const Cells<T> &k, const T *v0, const T *v1, const T *v2, const T *v3, const T *px,
              const T *qx, const T *py, const T *qy, const T *faces, T round_off, T *SB_RESTRICT flux,
              T *SB_RESTRICT worst, T *SB_RESTRICT mean, T *SB_RESTRICT variance, T *SB_RESTRICT divergence, int64_t Z) {
    const T half = T(0.5), quarter = T(0.25);
    const T ax_face = g.volume * g.tx * g.ix, ay_face = g.volume * g.ty * g.iy, az_face = g.volume * g.iz;
    for (int64_t z = 0; z < Z; ++z) {
        // the modes of v: a mean or a difference along x, y, z
        const T m0 = half * (v0[z] + v0[z + 1]), d0 = v0[z + 1] - v0[z], m1 = half * (v1[z] + v1[z + 1]),
                d1 = v1[z + 1] - v1[z], m2 = half * (v2[z] + v2[z + 1]), d2 = v2[z + 1] - v2[z],
                m3 = half * (v3[z] + v3[z + 1]), d3 = v3[z + 1] - v3[z];
        const T e000 = quarter * ((m0 + m1) + (m2 + m3)), e100 = half * ((m2 + m3) - (m0 + m1)),
                e010 = half * ((m1 - m0) + (m3 - m2)), e110 = (m3 - m2) - (m1 - m0),
                e001 = quarter * ((d0 + d1) + (d2 + d3)), e101 = half * ((d2 + d3) - (d0 + d1)),
                e011 = half * ((d1 - d0) + (d3 - d2)), e111 = (d3 - d2) - (d1 - d0);
        const bool open = k.fluid[z];
        const T a = open ? k.ax[z] : T(1), b = open ? k.ay[z] : T(1), d = open ? k.az[z] : T(1);
        T part = mismatch(a, g.ix * e100, g.ix * e110, g.ix * e101, g.ix * e111, px[z], qx[z], g.tx);
        part += mismatch(b, g.iy * e010, g.iy * e110, g.iy * e011, g.iy * e111, py[z], qy[z], g.ty);
        part += mismatch(d, g.iz * e001, g.iz * e101, g.iz * e011, g.iz * e111, faces[z], faces[z + 1], T(1));
        flux[z] = open ? g.volume * part : T(0);
        const T out_of = g.tx * g.ix * (qx[z] - px[z]) + g.ty * g.iy * (qy[z] - py[z]) + g.iz * (faces[z + 1] - faces[z]);
        T size = larger(g.volume * magnitude(k.f[z]), az_face * larger(magnitude(faces[z]), magnitude(faces[z + 1])));
        size = larger(size, ax_face * larger(magnitude(px[z]), magnitude(qx[z])));
        size = larger(size, ay_face * larger(magnitude(py[z]), magnitude(qy[z])));
        const T lack = g.volume * magnitude(k.f[z] + out_of) - round_off * size;
        worst[z] = larger(worst[z], open && k.c[z] <= T(0) ? lack : T(0));
        mean[z] = e000;
        divergence[z] = out_of;
        variance[z] = (e100 * e100 + e010 * e010 + e001 * e001) / T(12) +
                      (e110 * e110 + e101 * e101 + e011 * e011) / T(144) + e111 * e111 / T(1728);
    }
}

// The other two terms of a row of cells; hx, hy, hz are squared spacings over pi^2, zero along axes that are not there.
template <class T>
void reaction_row(const Geometry<T> &g, const Cells<T> &k, T hx, T hy, T hz, const T *flux, const T *mean,
                  const T *variance, const T *divergence, T *SB_RESTRICT oscillation, T *SB_RESTRICT reaction, int64_t Z) {
    for (int64_t z = 0; z < Z; ++z) {
        const bool reacts = k.fluid[z] && k.c[z] > T(0);
        const T c = reacts ? k.c[z] : T(1);
        const T constant = larger(larger(hx / (reacts ? k.ax[z] : T(1)), hz / (reacts ? k.az[z] : T(1))),
                                  hy / (reacts ? k.ay[z] : T(1)));
        const T rest = g.volume * c * c * variance[z];  // || r - r' ||^2
        const T residual = k.f[z] + divergence[z] - c * mean[z];
        const T squared = g.volume * residual * residual / c;
        const T apart = std::sqrt(constant * rest), total = std::sqrt(flux[z]) + apart;
        const bool better = total * total > flux[z] + rest / c;
        oscillation[z] = better || !reacts ? T(0) : apart;
        reaction[z] = reacts ? squared + (better ? rest / c : T(0)) : T(0);
    }
}

}  // namespace

template <class T>
void majorant_terms(int threads, View<const T, 4> ax, View<const T, 4> ay, View<const T, 4> az, View<const T, 4> c,
                    View<const T, 4> f, View<const bool, 4> fluid, View<const T, 4> v, View<const T, 4> yx,
                    View<const T, 4> yy, View<const T, 4> yz, View<const double, 1> spacing, View<const bool, 1> there,
                    double round_off, View<T, 5> out, View<T, 3> scratch, View<T, 1> excess) {
    const int64_t B = out.n[1], X = out.n[2], Y = out.n[3], Z = out.n[4];
    const double *h = spacing.data;
    const int64_t ex = there.data[0] ? 1 : 0, ey = there.data[1] ? 1 : 0;
    // Along an axis that is not there both ends of a cell are one and the same row, so that all differences vanish.
    const Geometry<T> g{T(ex), T(ey), T(1 / h[0]), T(1 / h[1]), T(1 / h[2]), T(h[0] * h[1] * h[2])};
    const double pi = 3.14159265358979323846;
    const T hx = T(ex * h[0] * h[0] / (pi * pi)), hy = T(ey * h[1] * h[1] / (pi * pi)), hz = T(h[2] * h[2] / (pi * pi));
    const int64_t length = strip_length(Y, Z), strips = (Y + length - 1) / length;
    parallel(B * X * strips, threads, [&](int64_t i) {
        const int64_t n = i / (X * strips), x = i / strips % X, start = i % strips * length;
        T *worst = scratch.at(i, 0), *mean = scratch.at(i, 1), *variance = scratch.at(i, 2), *divergence = scratch.at(i, 3);
        for (int64_t z = 0; z < Z; ++z) worst[z] = 0;
        const int64_t nx = yx.n[0] > 1 ? n : 0, ny = yy.n[0] > 1 ? n : 0, nz = yz.n[0] > 1 ? n : 0;
        for (int64_t y = start; y < smaller(start + length, Y); ++y) {
            const Cells<T> k{cell_row(ax, n, x, y), cell_row(ay, n, x, y), cell_row(az, n, x, y),
                             cell_row(c, n, x, y),  cell_row(f, n, x, y),  cell_row(fluid, n, x, y)};
            T *flux = out.at(0, n, x, y);
            flux_row(g, k, v.at(n, x, y), v.at(n, x, y + ey), v.at(n, x + ex, y), v.at(n, x + ex, y + ey),
                     yx.at(nx, x, y), yx.at(nx, x + ex, y), yy.at(ny, x, y), yy.at(ny, x, y + ey), yz.at(nz, x, y),
                     static_cast<T>(round_off), flux, worst, mean, variance, divergence, Z);
            if (out.n[0] > 1)
                reaction_row<T>(g, k, hx, hy, hz, flux, mean, variance, divergence, out.at(1, n, x, y),
                                out.at(2, n, x, y), Z);
        }
        T largest = 0;
        for (int64_t z = 0; z < Z; ++z) largest = larger(largest, worst[z]);
        excess.data[i] = largest;
    });
}

#define SB_INSTANCE(T)                                                                                                   \
    template void majorant_terms<T>(int, View<const T, 4>, View<const T, 4>, View<const T, 4>, View<const T, 4>,         \
                                    View<const T, 4>, View<const bool, 4>, View<const T, 4>, View<const T, 4>,           \
                                    View<const T, 4>, View<const T, 4>, View<const double, 1>, View<const bool, 1>,      \
                                    double, View<T, 5>, View<T, 3>, View<T, 1>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
