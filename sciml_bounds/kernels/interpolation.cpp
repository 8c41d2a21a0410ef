// Weights of operator-dependent interpolation, see interpolation.py.

#include "coarse_rows.hpp"

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

// Largest number of directions of a class.
constexpr int64_t MOST = 26;

// One sample and the tables of its weights.
template <class T>
struct Sample {
    View<const int64_t, 2> sources, products, defects;
    View<const T, 4> conductances;
    View<const T, 3> c;
    View<T, 4> weights;
    View<T, 3> defect;
};

// Write the weights and defects of one class in one row; `of` is the row of the class in the table of classes.
template <class T>
void write_class(const int64_t *of, const Sample<T> &on, int64_t x, int64_t y, int64_t I, int64_t J, int64_t step) {
    const int64_t X = on.c.n[0], Y = on.c.n[1], Z = on.c.n[2], CX = on.weights.n[0], CY = on.weights.n[1],
                  CZ = on.weights.n[3];
    const int64_t first = of[2], directions = of[4], points = (Z - first + step - 1) / step;
    T summed[MOST][PIECE], pivot[PIECE], lacking[PIECE];
    for (int64_t begin = 0; begin < points; begin += PIECE) {
        const int64_t end = smaller(begin + PIECE, points), count = end - begin;
        each(on.c.at(x, y), first, step, begin, end, Z,
             [&](int64_t j, T c) { pivot[j] = lacking[j] = larger(c, T(0)); });
        for (int64_t d = 0; d < directions; ++d)
            for (int64_t j = 0; j < count; ++j) summed[d][j] = 0;
        for (int64_t k = of[5]; k < of[6]; ++k) {
            const int64_t *s = on.sources.at(k);
            T *sizes = summed[s[0]];
            const T *row = on.conductances.at(wrapped(x + s[2], X), wrapped(y + s[3], Y), s[1]);
            each(row, first + s[4], step, begin, end, Z, [&](int64_t j, T t) {
                sizes[j] += magnitude(t);
                pivot[j] += magnitude(t);
            });
        }
        for (int64_t k = of[9]; k < of[10]; ++k) {
            const int64_t *s = on.defects.at(k);
            const T *sizes = summed[s[0]];
            const T *row = on.defect.at(wrapped(x + s[1], X), wrapped(y + s[2], Y));
            each(row, first + s[3], step, begin, end, Z, [&](int64_t j, T e) { lacking[j] += sizes[j] * e; });
        }
        for (int64_t j = 0; j < count; ++j) {
            lacking[j] = pivot[j] > 0 ? lacking[j] / pivot[j] : T(1);
            pivot[j] = pivot[j] > 0 ? 1 / pivot[j] : T(0);
        }
        T *row = on.defect.at(x, y) + first + step * begin;
        for (int64_t j = 0; j < count; ++j) row[step * j] = lacking[j];
        for (int64_t d = 0; d < directions; ++d)
            for (int64_t j = 0; j < count; ++j) summed[d][j] *= pivot[j];
        for (int64_t k = of[7]; k < of[8]; ++k) {
            const int64_t *p = on.products.at(k);
            const int64_t P = wrapped(I + p[3], CX), Q = wrapped(J + p[4], CY);
            const T *factor = p[2] < 0 ? nullptr : on.weights.at(P, Q, p[2]);
            add_product(on.weights.at(I, J, p[1]) + begin, summed[p[0]], factor, p[5], begin, end, CZ);
        }
    }
}

}  // namespace

template <class T>
void interpolation_weights(int threads, View<const int64_t, 2> classes, View<const int64_t, 2> sources,
                           View<const int64_t, 2> products, View<const int64_t, 2> defects, View<const int64_t, 1> steps,
                           View<const T, 5> conductances, View<const T, 4> c, View<T, 5> weights, View<T, 4> defect) {
    const int64_t B = c.n[0], X = c.n[1], Y = c.n[2], Z = c.n[3];
    const int64_t CX = weights.n[1], CY = weights.n[2], CZ = weights.n[4];
    const int64_t sx = steps.data[0], sy = steps.data[1], sz = steps.data[2];
    const int64_t length = strip_length(CY, CZ), strips = (CY + length - 1) / length;
    // A class depends on the weights, in the surrounding rows, of classes that are odd along fewer axes. Rows of a plane
    // depend on adjacent planes only if these are even along the first axis, so a plane in one strip is done at once.
    const int64_t together = strips == 1 ? sy : 1;
    for (int64_t px = 0; px < sx; ++px)
        for (int64_t pass = 0; pass < sy; pass += together)
            parallel(B * CX * strips, threads, [&](int64_t i) {
                const int64_t n = i / (CX * strips), I = i / strips % CX, start = i % strips * length;
                const int64_t x = sx * I + px;
                const Sample<T> on = {sources,     products,          defects,         conductances.sample(n),
                                      c.sample(n), weights.sample(n), defect.sample(n)};
                for (int64_t py = pass; py < pass + together; ++py)
                    for (int64_t J = start; J < smaller(start + length, CY); ++J) {
                        const int64_t y = sy * J + py;
                        for (int64_t plane = x - px; y + sy < Y && plane < smaller(x + 1, X); ++plane)
                            prefetch(conductances.at(n, plane, y + sy), conductances.n[3] * Z);
                        if (J + 1 < CY) prefetch(weights.at(n, I, J + 1), weights.n[3] * CZ);
                        if (px + py == 0) {
                            T *even = defect.at(n, x, y);
                            for (int64_t z = 0; z < Z; ++z) even[z] = 0;
                        }
                        for (int64_t g = 0; g < classes.n[0]; ++g) {
                            const int64_t *of = classes.at(g);
                            if (of[0] != px || of[1] != py) continue;
                            T *row = weights.at(n, I, J, of[11]);
                            for (int64_t k = 0; k < CZ << of[3]; ++k) row[k] = 0;
                            if (x < X && y < Y) write_class(of, on, x, y, I, J, sz);
                        }
                    }
            });
}

#define SB_INSTANCE(T)                                                                                                \
    template void interpolation_weights<T>(int, View<const int64_t, 2>, View<const int64_t, 2>, View<const int64_t, 2>, \
                                           View<const int64_t, 2>, View<const int64_t, 1>, View<const T, 5>,           \
                                           View<const T, 4>, View<T, 5>, View<T, 4>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
