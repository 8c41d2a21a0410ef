// Pieces of rows of a lattice and of its coarse lattice (the even points), for interpolation and coarse operators.
#pragma once

#include "array.hpp"

namespace sb::SB_ISA {

// Points per piece, so that the data of a piece stay in the L1 cache.
constexpr int64_t PIECE = 128;

// Call body(L - begin, row[step L + start]) for begin <= L < end, with indices modulo the length and step 1 or 2. Only
// the first and the last index may be out of range. The calls must not depend on each other.
template <class T, class Body>
SB_INLINE void each(const T *row, int64_t start, int64_t step, int64_t begin, int64_t end, int64_t Z, Body &&body) {
    const int64_t first = step * begin + start, last = step * (end - 1) + start;
    const int64_t low = first < 0 ? 1 : 0, count = end - begin, high = last >= Z && count > low ? count - 1 : count;
    const T *from = row + first;
    if (low > 0) body(0, row[first + Z]);
    if (step == 2) {
        SB_INDEPENDENT
        for (int64_t j = low; j < high; ++j) body(j, from[2 * j]);
    } else {
        SB_INDEPENDENT
        for (int64_t j = low; j < high; ++j) body(j, from[j]);
    }
    if (high < count) body(high, row[last - Z]);
}

// Add factor[L - begin] row[L + shift] to out[L - begin] for begin <= L < end, with indices modulo the length and shift
// -1, 0 or 1. If the row is null, add the factor.
template <class T>
SB_INLINE void add_product(T *SB_RESTRICT out, const T *factor, const T *row, int64_t shift, int64_t begin, int64_t end,
                           int64_t Z) {
    if (row == nullptr) {
        for (int64_t j = 0; j < end - begin; ++j) out[j] += factor[j];
        return;
    }
    each(row, shift, 1, begin, end, Z, [&](int64_t j, T w) { out[j] += factor[j] * w; });
}

}  // namespace sb::SB_ISA
