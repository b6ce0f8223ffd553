/* The functions that the bindings call, see `Kernels`. */
#ifndef SKBGD_ENTRY_POINTS_INL_HPP
#define SKBGD_ENTRY_POINTS_INL_HPP
#include <algorithm>
#include <cmath>

#include "engine-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

template <class real> class KernelsOf : public Kernels {
  public:
    std::unique_ptr<Core> make_core(const Call<void> &call, int n_threads) const override
    {
        return std::unique_ptr<Core>(new Engine<real>(call, n_threads));
    }

    /* ||x_i||^2 of each row */
    void squared_row_norms(const Data<void> &rows, double *norms) const override
    {
        const Data<real> data = typed<real>(rows);
        for (ptrdiff_t i = 0; i < data.n; i++)
            if (data.sparse) {
                const SparseRow<real> row(data, i);
                norms[i] = sum_of_squares(row.x, row.nnz);
            } else
                norms[i] = sum_of_squares(data.X + i * data.d, data.d);
    }

    /* Moments of each column of n dense rows, beginning with row `start`, that have a
       positive weight. The rows of `moments`, (6, d), become

           low, high, 1 / (high - low) or 0, mean and variance of u, between

       with u = (x - low) / (high - low), which neither overflows nor loses digits where x
       is far from 0. `between` is 1 if low < x < high for any x in the column, else 0.
       Returns sum_i w_i. X is read up to three times: the rows should fit the cache. */
    double column_moments(const Data<void> &rows, ptrdiff_t start, ptrdiff_t n,
                          double *moments) const override
    {
        const Data<real> data = typed<real>(rows);
        const ptrdiff_t d = data.d;
        double *low = moments, *high = low + d, *inverse = high + d, *mean = inverse + d;
        double *variance = mean + d, *between = variance + d, total = 0;
        const real *pivot = nullptr; /* any row: differences from it keep their digits */
        const auto for_each_row = [&](auto body) {
            for (ptrdiff_t i = start; i < start + n; i++)
                if (!data.weights || data.weights[i] > 0)
                    body(data.X + i * d, data.weights ? double(data.weights[i]) : 1.0);
        };
        std::fill(low, high, double(INFINITY));
        std::fill(high, inverse, -double(INFINITY));
        std::fill(mean, moments + 6 * d, 0.0);
        for_each_row([&](const real *x, double w) {
            total += w;
            pivot = x;
#pragma omp simd
            for (ptrdiff_t j = 0; j < d; j++) {
                low[j] = x[j] < low[j] ? x[j] : low[j];
                high[j] = x[j] > high[j] ? x[j] : high[j];
            }
        });
        for (ptrdiff_t j = 0; j < d; j++) {
            const double reciprocal = 1 / (high[j] - low[j]);
            inverse[j] = reciprocal > 0 && std::isfinite(reciprocal) ? reciprocal : 0;
        }
        double n_found = 0; /* columns with between = 1; usually all after a few rows */
        for_each_row([&](const real *x, double) {
            if (n_found == d)
                return;
            double found = 0;
#pragma omp simd reduction(+ : found)
            for (ptrdiff_t j = 0; j < d; j++) {
                between[j] = x[j] > low[j] && x[j] < high[j] ? 1 : between[j];
                found += between[j];
            }
            n_found = found;
        });
        for_each_row([&](const real *x, double w) {
            w /= total;
#pragma omp simd
            for (ptrdiff_t j = 0; j < d; j++) {
                const double difference = (double(x[j]) - double(pivot[j])) * inverse[j];
                mean[j] += w * difference;
                variance[j] += w * (difference * difference);
            }
        });
        for (ptrdiff_t j = 0; pivot && j < d; j++) {
            /* difference = u - u of the pivot */
            variance[j] = std::max(variance[j] - mean[j] * mean[j], 0.0);
            mean[j] += (pivot[j] - low[j]) * inverse[j];
        }
        return total;
    }

    /* sum_l ||W_l||^2, and the same plus sum_l ||b_l||^2 */
    void squared_weight_norms(const Network &network, const void *theta,
                              double *norms) const override
    {
        const real *parameters = static_cast<const real *>(theta);
        double intercepts = norms[0] = 0;
        for (const Layer &layer : network.layers) {
            norms[0] += sum_of_squares(parameters + layer.W, layer.fan_in * layer.fan_out);
            intercepts += sum_of_squares(parameters + layer.b, layer.fan_out);
        }
        norms[1] = norms[0] + intercepts;
    }

    /* A = f(Z), in place; Z is (m, units) */
    void activation(Activation f, ptrdiff_t m, ptrdiff_t units, void *Z) const override
    {
        if (f == SOFTMAX)
            softmax<real>(m, units, static_cast<real *>(Z), nullptr, nullptr);
        else
            activate(f, static_cast<real *>(Z), m * units);
    }

    void product(const Product<void> &x) const override
    {
        const auto typed = [](const Matrix<void> &M) {
            return Matrix<real>{static_cast<const real *>(M.data), M.row_stride,
                                M.column_stride};
        };
        gemm(Product<real>{x.m, x.n, x.k, typed(x.A), typed(x.B), x.scale, x.decay,
                           static_cast<const real *>(x.P), x.ld_P, static_cast<real *>(x.C),
                           x.ld_C, static_cast<real *>(x.panel)});
    }
};

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();

#define SKBGD_STRINGIFY(name) #name
#define SKBGD_EXPANDED_STRINGIFY(name) SKBGD_STRINGIFY(name)

namespace skbgd {
namespace TARGET_NAME {

static const KernelsOf<float> f32;
static const KernelsOf<double> f64;
static const InstructionSet instruction_set = {SKBGD_EXPANDED_STRINGIFY(TARGET_NAME), f32,
                                               f64};

} // namespace TARGET_NAME
} // namespace skbgd
#endif
