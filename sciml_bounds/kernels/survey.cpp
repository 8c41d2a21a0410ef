// Properties of a lattice operator in one pass, see survey.py.

#include "lattice.hpp"

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

// Number of partial sums and extremes, to fill the vector registers. Functions with such loops are not inlined, as GCC 12
// vectorises finish_row wrongly inside a larger function (its sums are too small).
constexpr int64_t LANES = 16;

// Largest number of offsets: half of the 26 neighbours.
constexpr int64_t MOST = 13;

template <class T>
SB_INLINE T sum_of(const T *lanes) {
    T total = 0;
    for (int64_t j = 0; j < LANES; ++j) total += lanes[j];
    return total;
}

template <class T>
SB_INLINE T largest_of(const T *lanes) {
    T found = lanes[0];
    for (int64_t j = 1; j < LANES; ++j) found = larger(found, lanes[j]);
    return found;
}

// Statistics of the conductances of one offset.
template <class T>
struct Statistics {
    T total[LANES], count[LANES], smallest[LANES], largest[LANES];

    SB_INLINE void begin() {
        for (int64_t j = 0; j < LANES; ++j) {
            total[j] = count[j] = 0;
            smallest[j] = static_cast<T>(INFINITY);
            largest[j] = -static_cast<T>(INFINITY);
        }
    }

    SB_INLINE void take(T t, int64_t j) {
        const T positive = t > 0 ? t : static_cast<T>(INFINITY);
        total[j] += t;
        count[j] += t != 0 ? T(1) : T(0);
        smallest[j] = smaller(smallest[j], positive);
        largest[j] = larger(largest[j], t);
    }

    SB_INLINE void write(T *out) const {
        out[0] = sum_of(total);
        out[1] = sum_of(count);
        out[2] = smallest[0];
        for (int64_t j = 1; j < LANES; ++j) out[2] = smaller(out[2], smallest[j]);
        out[3] = largest_of(largest);
    }
};

// Update the statistics with a row of conductances.
template <class T>
SB_NOINLINE void take_row(Statistics<T> &of_all, const T *row, int64_t Z) {
    Statistics<T> found = of_all;
    const int64_t whole = Z / LANES * LANES;
    for (int64_t first = 0; first < whole; first += LANES)
        for (int64_t j = 0; j < LANES; ++j) found.take(row[first + j], j);
    for (int64_t j = 0; j < Z - whole; ++j) found.take(row[whole + j], j);
    of_all = found;
}

// Add the conductances of an offset, and their absolute values, to both neighbours.
template <class T>
void add_pair(T *SB_RESTRICT total, T *SB_RESTRICT size, const T *t, const T *before, int64_t count) {
    for (int64_t z = 0; z < count; ++z) {
        total[z] += t[z] + before[z];
        size[z] += magnitude(t[z]) + magnitude(before[z]);
    }
}

template <class T>
SB_INLINE T ratio(T t, T before) {
    const T small = smaller(t, before), large = larger(t, before);
    return small > 0 ? large / small : T(1);
}

// Update the largest ratio with those of consecutive conductances.
template <class T>
SB_NOINLINE void compare(T *of_all, const T *t, const T *before, int64_t count) {
    T found[LANES];
    for (int64_t j = 0; j < LANES; ++j) found[j] = of_all[j];
    const int64_t whole = count / LANES * LANES;
    for (int64_t first = 0; first < whole; first += LANES)
        for (int64_t j = 0; j < LANES; ++j) found[j] = larger(found[j], ratio(t[first + j], before[first + j]));
    for (int64_t j = 0; j < count - whole; ++j) found[j] = larger(found[j], ratio(t[whole + j], before[whole + j]));
    for (int64_t j = 0; j < LANES; ++j) of_all[j] = found[j];
}

// Add c to the sums of a row of points, and sum c over the points that have neighbours.
template <class T>
SB_NOINLINE void finish_row(T *SB_RESTRICT total, T *SB_RESTRICT size, T *of_all, const T *c, int64_t Z) {
    const int64_t whole = Z / LANES * LANES;
    for (int64_t first = 0; first < whole; first += LANES)
        for (int64_t j = 0; j < LANES; ++j) of_all[j] += size[first + j] > 0 ? c[first + j] : T(0);
    for (int64_t j = 0; j < Z - whole; ++j) of_all[j] += size[whole + j] > 0 ? c[whole + j] : T(0);
    for (int64_t z = 0; z < Z; ++z) {
        total[z] += c[z];
        size[z] += magnitude(total[z]);
    }
}

}  // namespace

template <class T>
void survey(int threads, View<const int64_t, 2> groups, View<const T, 5> conductances, View<const T, 4> c,
            View<T, 4> diagonal, View<T, 4> absolute, View<T, 4> parts, View<T, 3> points, View<T, 3> of_conductances,
            View<T, 2> of_points) {
    const int64_t B = c.n[0], X = c.n[1], Y = c.n[2], Z = c.n[3], K = conductances.n[3];
    const int64_t length = strip_length(Y, Z), strips = (Y + length - 1) / length;
    parallel(B * X * strips, threads, [&](int64_t i) {
        const int64_t n = i / (X * strips), x = i / strips % X, start = i % strips * length;
        Statistics<T> seen[MOST];
        T excess[LANES], contrast[LANES];
        for (int64_t k = 0; k < K; ++k) seen[k].begin();
        for (int64_t j = 0; j < LANES; ++j) {
            excess[j] = 0;
            contrast[j] = 1;
        }
        int64_t isolated = 0;
        for (int64_t y = start; y < smaller(start + length, Y); ++y) {
            if (y + 1 < Y) {
                prefetch(conductances.at(n, x, y + 1), K * Z);
                prefetch(c.at(n, x, y + 1), Z);
            }
            T *total = diagonal.at(n, x, y), *size = absolute.at(n, x, y);
            for (int64_t z = 0; z < Z; ++z) total[z] = size[z] = 0;
            for (int64_t g = 0; g < groups.n[0]; ++g) {
                const int64_t dx = groups(g, 0), dy = groups(g, 1), kind = groups(g, 3);
                const int64_t xb = wrapped(x - dx, X), yb = wrapped(y - dy, Y);
                for (int64_t step = 0; step < (kind == BOX ? 3 : 1); ++step) {
                    const int64_t k = groups(g, 2) + step, dz = kind == BOX ? step - 1 : (kind == ALONG ? 1 : 0);
                    const T *t = conductances.at(n, x, y, k), *before = conductances.at(n, xb, yb, k);
                    take_row(seen[k], t, Z);
                    // the neighbour of the first (last) point may be the last (first), which is not adjacent in memory
                    const int64_t end = dz < 0 ? Z - 1 : 0, other = dz == 0 ? 0 : Z - 1 - end;
                    const int64_t first = dz > 0 ? 1 : 0, count = dz == 0 ? Z : Z - 1;
                    add_pair(total + first, size + first, t + first, before + first - dz, count);
                    if (dz != 0) add_pair(total + end, size + end, t + end, before + other, 1);
                    if (dx * dx + dy * dy + dz * dz == 1) {
                        compare(contrast, t + first, before + first - dz, count);
                        if (dz != 0) compare(contrast, t + end, before + other, 1);
                    }
                }
            }
            if ((X == 1 || (x > 0 && x < X - 1)) && (Y == 1 || (y > 0 && y < Y - 1)))
                for (int64_t z = smaller<int64_t>(1, Z - 1); z < larger<int64_t>(Z - 1, 1); ++z) isolated += size[z] == 0;
            finish_row(total, size, excess, c.at(n, x, y), Z);
        }
        const int64_t strip = i % (X * strips);
        for (int64_t k = 0; k < K; ++k) seen[k].write(parts.at(n, strip, k));
        points(n, strip, 0) = static_cast<T>(isolated);
        points(n, strip, 1) = sum_of(excess);
        points(n, strip, 2) = largest_of(contrast);
    });
    for (int64_t n = 0; n < B; ++n) {
        for (int64_t k = 0; k < K; ++k) {
            double total = 0, count = 0;
            T *out = of_conductances.at(n, k);
            for (int64_t strip = 0; strip < X * strips; ++strip) {
                const T *part = parts.at(n, strip, k);
                total += part[0];
                count += part[1];
                out[2] = strip == 0 ? part[2] : smaller(out[2], part[2]);
                out[3] = strip == 0 ? part[3] : larger(out[3], part[3]);
            }
            out[0] = static_cast<T>(total);
            out[1] = static_cast<T>(count);
        }
        double isolated = 0, excess = 0;
        T contrast = 1;
        for (int64_t strip = 0; strip < X * strips; ++strip) {
            isolated += points(n, strip, 0);
            excess += points(n, strip, 1);
            contrast = larger(contrast, points(n, strip, 2));
        }
        of_points(0, n) = static_cast<T>(isolated);
        of_points(1, n) = static_cast<T>(excess);
        of_points(2, n) = contrast;
    }
}

#define SB_INSTANCE(T)                                                                                                   \
    template void survey<T>(int, View<const int64_t, 2>, View<const T, 5>, View<const T, 4>, View<T, 4>, View<T, 4>,     \
                            View<T, 4>, View<T, 3>, View<T, 3>, View<T, 2>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
