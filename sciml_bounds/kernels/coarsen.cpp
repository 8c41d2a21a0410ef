// Galerkin products, see coarsen.py.

#include "coarse_rows.hpp"

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

// Largest number of coarse offsets: half of the 26 neighbours.
constexpr int64_t MOST = 13;

// Write sign entries[step L + start] w[L + shift] to out[L - begin] for begin <= L < end, with indices modulo the lengths
// Z and CZ and shift -1 or 0. If w is null, its factor is 1.
template <class T>
void write_factor(T *SB_RESTRICT out, const T *entries, int64_t start, int64_t step, int64_t Z, T sign, const T *w,
                  int64_t shift, int64_t CZ, int64_t begin, int64_t end) {
    if (w == nullptr) {
        each(entries, start, step, begin, end, Z, [&](int64_t j, T a) { out[j] = sign * a; });
        return;
    }
    const int64_t low = begin == 0 ? 1 : 0, count = end - begin, first = step * begin + start;
    const int64_t high = larger(low, end == CZ ? count - 1 : count);
    auto product = [&](int64_t L) { return sign * entries[wrapped(step * L + start, Z)] * w[wrapped(L + shift, CZ)]; };
    if (low > 0) out[0] = product(0);
    const T *a = entries + first, *b = w + begin + shift;
    if (step == 2) {
        for (int64_t j = low; j < high; ++j) out[j] = sign * a[2 * j] * b[j];
    } else {
        for (int64_t j = low; j < high; ++j) out[j] = sign * a[j] * b[j];
    }
    if (high < count) out[high] = product(begin + high);
}

}  // namespace

// For each piece of a row of coarse points: write a left factor to `part`, then add all its products to `sums`, the
// off-diagonal entries of -P^T A P.
template <class T>
void galerkin(int threads, View<const int64_t, 2> left, View<const int64_t, 2> right, View<const int64_t, 1> steps,
              View<const T, 5> conductances, View<const T, 4> diagonal, View<const T, 5> weights, View<T, 5> coarse) {
    const int64_t B = diagonal.n[0], X = diagonal.n[1], Y = diagonal.n[2], Z = diagonal.n[3];
    const int64_t CX = coarse.n[1], CY = coarse.n[2], K = coarse.n[3], CZ = coarse.n[4];
    const int64_t sx = steps.data[0], sy = steps.data[1], sz = steps.data[2];
    const int64_t length = strip_length(CY, CZ), strips = (CY + length - 1) / length;
    parallel(B * CX * strips, threads, [&](int64_t i) {
        const int64_t n = i / (CX * strips), I = i / strips % CX, start = i % strips * length;
        T sums[MOST][PIECE], part[PIECE];
        for (int64_t J = start; J < smaller(start + length, CY); ++J) {
            for (int64_t P = larger<int64_t>(I - 1, 0); J + 2 < CY && P < smaller(I + 2, CX); ++P)
                prefetch(weights.at(n, P, J + 2), weights.n[3] * CZ);
            for (int64_t x = larger<int64_t>(sx * I - sx, 0); x < smaller(sx * (I + 1), X); ++x)
                for (int64_t y = sy * (J + 1); y < smaller(sy * (J + 2), Y); ++y) {
                    prefetch(conductances.at(n, x, y), conductances.n[3] * Z);
                    prefetch(diagonal.at(n, x, y), Z);
                }
            for (int64_t begin = 0; begin < CZ; begin += PIECE) {
                const int64_t end = smaller(begin + PIECE, CZ), count = end - begin;
                for (int64_t k = 0; k < K; ++k)
                    for (int64_t j = 0; j < count; ++j) sums[k][j] = 0;
                for (int64_t k = 0; k < left.n[0]; ++k) {
                    const int64_t *l = left.at(k);
                    const int64_t x = wrapped(sx * I + l[1], X), y = wrapped(sy * J + l[2], Y);
                    const T *entries = l[0] < 0 ? diagonal.at(n, x, y) : conductances.at(n, x, y, l[0]);
                    const T *w = l[4] < 0 ? nullptr : weights.at(n, wrapped(I - l[5], CX), wrapped(J - l[6], CY), l[4]);
                    write_factor(part, entries, l[3], sz, Z, l[0] < 0 ? T(-1) : T(1), w, -l[7], CZ, begin, end);
                    for (int64_t q = l[8]; q < l[9]; ++q) {
                        const int64_t *r = right.at(q);
                        const int64_t P = wrapped(I + r[1], CX), Q = wrapped(J + r[2], CY);
                        const T *row = r[0] < 0 ? nullptr : weights.at(n, P, Q, r[0]);
                        add_product(sums[r[4]], part, row, r[3], begin, end, CZ);
                    }
                }
                for (int64_t k = 0; k < K; ++k) {
                    T *SB_RESTRICT row = coarse.at(n, I, J, k) + begin;
                    for (int64_t j = 0; j < count; ++j) row[j] = sums[k][j];
                }
            }
        }
    });
}

#define SB_INSTANCE(T)                                                                                         \
    template void galerkin<T>(int, View<const int64_t, 2>, View<const int64_t, 2>, View<const int64_t, 1>,     \
                              View<const T, 5>, View<const T, 4>, View<const T, 5>, View<T, 5>);
SB_INSTANCE(double)
SB_INSTANCE(float)

}  // namespace sb::SB_ISA
