// The product of a lattice operator with one row of points, see lattice.py.
#pragma once


#include "array.hpp"

namespace sb::SB_ISA {

// The rows around a row of points, by [1 + dx][1 + dy]. For conductances, the first of the K rows at each position.
template <class T>
struct Around {
    const T *row[3][3];
};

enum Group : int64_t { ALONG = 0, NEXT = 1, BOX = 2 };

// Add the flows within a row; indices wrap at its two ends.
template <class T>
SB_INLINE void add_along(T *SB_RESTRICT out, const T *v, const T *t, int64_t Z) {
    const int64_t e = Z - 1;
    for (int64_t z = 1; z < e; ++z) out[z] += t[z] * (v[z] - v[z + 1]) + t[z - 1] * (v[z] - v[z - 1]);
    out[0] += t[0] * (v[0] - v[e > 0 ? 1 : 0]) + t[e] * (v[0] - v[e]);
    if (e > 0) out[e] += t[e] * (v[e] - v[0]) + t[e - 1] * (v[e] - v[e - 1]);
}

// Add the flows to the points with the same z in the rows after and before.
template <class T>
SB_INLINE void add_next(T *SB_RESTRICT out, const T *v, const T *after, const T *before, const T *t, const T *tb, int64_t Z) {
    for (int64_t z = 0; z < Z; ++z) out[z] += t[z] * (v[z] - after[z]) + tb[z] * (v[z] - before[z]);
}

// Add the flows to three points each in the rows after and before; t and tb have one row per dz = -1, 0, 1.
template <class T>
SB_INLINE void add_box(T *SB_RESTRICT out, const T *v, const T *after, const T *before, const T *t, const T *tb, int64_t Z) {
    const T *t1 = t + Z, *t2 = t + 2 * Z, *tb1 = tb + Z, *tb2 = tb + 2 * Z;
    for (int64_t z = 1; z < Z - 1; ++z) {
        const T here = v[z];
        out[z] += t[z] * (here - after[z - 1]) + t1[z] * (here - after[z]) + t2[z] * (here - after[z + 1]) +
                  tb[z + 1] * (here - before[z + 1]) + tb1[z] * (here - before[z]) + tb2[z - 1] * (here - before[z - 1]);
    }
    for (int64_t end = 0; end < smaller<int64_t>(Z, 2); ++end) {
        const int64_t z = end * (Z - 1), low = wrapped(z - 1, Z), high = wrapped(z + 1, Z);
        out[z] += t[z] * (v[z] - after[low]) + t1[z] * (v[z] - after[z]) + t2[z] * (v[z] - after[high]);
        out[z] += tb[high] * (v[z] - before[high]) + tb1[z] * (v[z] - before[z]) + tb2[low] * (v[z] - before[low]);
    }
}

// Write sum over j of T_ij (u_i - u_j) + c_i u_i for the points i of one row.
template <class T>
SB_INLINE void write_product(T *SB_RESTRICT out, const T *c, View<const int64_t, 2> groups, const Around<T> &u,
                          const Around<T> &t, int64_t Z) {
    const T *v = u.row[1][1];
    int64_t done = 0;
    const int64_t *g = groups.data;
    if (groups.n[0] == 3 && g[7] == NEXT && g[4] == 0 && g[11] == NEXT && g[9] == 0) {
        // finest level in 3-D: neighbours in the same plane, and in the planes before and after
        const T *above = u.row[1][2], *below = u.row[1][0], *after = u.row[2][1], *before = u.row[0][1];
        const T *sf = t.row[1][1] + g[6] * Z, *sb = t.row[1][0] + g[6] * Z;
        const T *tf = t.row[1][1] + g[10] * Z, *tb = t.row[0][1] + g[10] * Z;
        for (int64_t z = 0; z < Z; ++z)
            out[z] = c[z] * v[z] + sf[z] * (v[z] - above[z]) + sb[z] * (v[z] - below[z]) + tf[z] * (v[z] - after[z]) +
                     tb[z] * (v[z] - before[z]);
        add_along(out, v, t.row[1][1] + g[2] * Z, Z);
        return;
    }
    for (int64_t z = 0; z < Z; ++z) out[z] = c[z] * v[z];
    for (; done < groups.n[0]; ++done) {
        const int64_t dx = g[4 * done], dy = g[4 * done + 1], k = g[4 * done + 2] * Z, kind = g[4 * done + 3];
        const T *here = t.row[1][1] + k;
        if (kind == ALONG) {
            add_along(out, v, here, Z);
            continue;
        }
        const T *after = u.row[1 + dx][1 + dy], *before = u.row[1 - dx][1 - dy], *back = t.row[1 - dx][1 - dy] + k;
        if (kind == NEXT)
            add_next(out, v, after, before, here, back, Z);
        else
            add_box(out, v, after, before, here, back, Z);
    }
}

}  // namespace sb::SB_ISA
