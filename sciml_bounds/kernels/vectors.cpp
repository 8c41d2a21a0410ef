// Vector updates of the iterative solvers, see vectors.py.

#include "kernels.hpp"

namespace sb::SB_ISA {
namespace {

// Entries per piece of work. Sums are formed per piece, so they do not depend on the number of threads.
constexpr int64_t BLOCK = 4096;

// Number of partial sums, to fill the vector registers.
constexpr int64_t LANES = 32;

template <class T>
SB_NOINLINE double sum_of_squares(const T *u, int64_t n) {
    T sums[LANES] = {};
    const int64_t whole = n / LANES * LANES;
    for (int64_t first = 0; first < whole; first += LANES)
        for (int64_t j = 0; j < LANES; ++j) sums[j] += u[first + j] * u[first + j];
    for (int64_t j = 0; j < n - whole; ++j) sums[j] += u[whole + j] * u[whole + j];
    T total = 0;
    for (int64_t j = 0; j < LANES; ++j) total += sums[j];
    return total;
}

template <class U, class T>
void combine_row(double alpha, const U *SB_RESTRICT u, double beta, T *SB_RESTRICT out, int64_t n) {
    if (beta == 0) {
        for (int64_t j = 0; j < n; ++j) out[j] = static_cast<T>(alpha * u[j]);
    } else {
        for (int64_t j = 0; j < n; ++j) out[j] = static_cast<T>(alpha * u[j] + beta * out[j]);
    }
}

// Write the norms of the rows, given their sums of squares per piece.
void write_norms(View<double, 2> sums, double *norms) {
    for (int64_t i = 0; i < sums.n[0]; ++i) {
        double total = 0;
        for (int64_t block = 0; block < sums.n[1]; ++block) total += sums(i, block);
        norms[i] = std::sqrt(total);
    }
}

}  // namespace

template <class U, class T>
void combine(int threads, View<const double, 1> alpha, View<const U, 2> u, View<const double, 1> beta, View<T, 2> out,
             View<double, 2> sums, View<double, 1> norms) {
    const int64_t B = out.n[0], n = out.n[1], blocks = (n + BLOCK - 1) / BLOCK;
    parallel(B * blocks, threads, [&](int64_t k) {
        const int64_t i = k / blocks, start = k % blocks * BLOCK;
        const int64_t length = smaller(BLOCK, n - start);
        combine_row(alpha.data[i], u.at(i, start), beta.data[i], out.at(i, start), length);
        if (sums.n[1] > 0) sums(i, k % blocks) = sum_of_squares(out.at(i, start), length);
    });
    if (sums.n[1] > 0) write_norms(sums, norms.data);
}

template <class T>
void advance(int threads, View<const double, 1> alpha, View<const T, 2> d, View<const T, 2> product, View<T, 2> x,
             View<T, 2> r, View<double, 3> sums, View<double, 2> norms) {
    const int64_t B = x.n[0], n = x.n[1], blocks = (n + BLOCK - 1) / BLOCK;
    parallel(B * blocks, threads, [&](int64_t k) {
        const int64_t i = k / blocks, start = k % blocks * BLOCK;
        const int64_t length = smaller(BLOCK, n - start);
        combine_row(alpha.data[i], d.at(i, start), 1.0, x.at(i, start), length);
        combine_row(-alpha.data[i], product.at(i, start), 1.0, r.at(i, start), length);
        sums(0, i, k % blocks) = sum_of_squares(x.at(i, start), length);
        sums(1, i, k % blocks) = sum_of_squares(r.at(i, start), length);
    });
    for (int64_t part = 0; part < 2; ++part) write_norms(sums.sample(part), norms.at(part));
}

#define SB_INSTANCE(U, T)                                                                                             \
    template void combine<U, T>(int, View<const double, 1>, View<const U, 2>, View<const double, 1>, View<T, 2>,      \
                                View<double, 2>, View<double, 1>);
SB_INSTANCE(double, double)
SB_INSTANCE(double, float)
SB_INSTANCE(float, double)
SB_INSTANCE(float, float)
template void advance<double>(int, View<const double, 1>, View<const double, 2>, View<const double, 2>, View<double, 2>,
                              View<double, 2>, View<double, 3>, View<double, 2>);
template void advance<float>(int, View<const double, 1>, View<const float, 2>, View<const float, 2>, View<float, 2>,
                             View<float, 2>, View<double, 3>, View<double, 2>);

}  // namespace sb::SB_ISA
