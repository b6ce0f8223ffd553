/* The functions that the bindings call, see `EntryPoints`. */
#ifndef SKBGD_ENTRY_POINTS_INL_HPP
#define SKBGD_ENTRY_POINTS_INL_HPP
#include <algorithm>
#include <cmath>

#include "engine-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

/* sum_i w_i l_i over all rows; its gradient is written to call.gradient, if any. */
template <class real> static double loss_gradient(const Call<void> &call)
{
    return Engine<real>(call).loss_gradient();
}

/* One step for each batch. Adds the loss of each row, computed before its step, to
   *loss_sum, and the number of processed rows to *n_done. The first batch with a loss that
   is not finite ends the call, without its step. */
template <class real>
static void run_batches(const Call<void> &call, const UpdateRule &rule, long long n_steps,
                        ptrdiff_t batch_size, double *loss_sum, ptrdiff_t *n_done)
{
    Engine<real>(call).run_batches(rule, n_steps, batch_size, loss_sum, n_done);
}

/* One step along call.gradient. */
template <class real>
static void apply_gradient(const Call<void> &call, const UpdateRule &rule,
                           long long n_steps)
{
    Engine<real>(call).step(rule, n_steps);
}

/* Z_L of each row, into Z (n, K). Returns false if `check_finite` found a NaN or an infinity
   in dense X. */
template <class real>
static bool outputs(const Call<void> &call, bool check_finite, void *Z)
{
    return Engine<real>(call).outputs(check_finite, static_cast<real *>(Z));
}

/* ||x_i||^2 of each row */
template <class real> static void squared_row_norms(const Call<void> &call, double *norms)
{
    const Data<real> data = bit_cast<Call<real>>(call).data;
    for (ptrdiff_t i = 0; i < data.n; i++)
        if (data.sparse) {
            const SparseRow<real> row(data, i);
            norms[i] = sum_of_squares(row.x, row.nnz);
        } else
            norms[i] = sum_of_squares(data.X + i * data.d, data.d);
}

/* Moments of each column of n dense rows, beginning with row `start`, that have a positive
   weight. The rows of `moments`, (6, d), become

       low, high, 1 / (high - low) or 0, mean and variance of u, between

   with u = (x - low) / (high - low), which neither overflows nor loses digits where x is
   far from 0. `between` is 1 if low < x < high for any x in the column, else 0. Returns
   sum_i w_i. X is read up to three times: the rows should fit the cache. */
template <class real>
static double column_moments(const Call<void> &call, ptrdiff_t start, ptrdiff_t n,
                             double *moments)
{
    const Data<real> data = bit_cast<Call<real>>(call).data;
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
template <class real>
static void squared_weight_norms(const Call<void> &call, double *norms)
{
    const Call<real> c = bit_cast<Call<real>>(call);
    double intercepts = norms[0] = 0;
    for (const Layer *layer = c.layers; layer < c.layers + c.n_layers; layer++) {
        norms[0] += sum_of_squares(c.theta + layer->W, layer->fan_in * layer->fan_out);
        intercepts += sum_of_squares(c.theta + layer->b, layer->fan_out);
    }
    norms[1] = norms[0] + intercepts;
}

/* A = f(Z), in place; Z is (m, units) */
template <class real>
static void apply_activation(Activation f, ptrdiff_t m, ptrdiff_t units, void *Z)
{
    if (f == SOFTMAX)
        softmax<real>(m, units, static_cast<real *>(Z), nullptr, nullptr);
    else
        activate(f, static_cast<real *>(Z), m * units);
}

template <class real> static void compute_product(const Product<void> &product)
{
    gemm(bit_cast<Product<real>>(product));
}

template <class real> constexpr EntryPoints entry_points()
{
    return {loss_gradient<real>,        run_batches<real>,
            apply_gradient<real>,       outputs<real>,
            squared_row_norms<real>,    column_moments<real>,
            squared_weight_norms<real>, apply_activation<real>,
            compute_product<real>};
}

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();

#define SKBGD_STRINGIFY(name) #name
#define SKBGD_EXPANDED_STRINGIFY(name) SKBGD_STRINGIFY(name)

namespace skbgd {
namespace TARGET_NAME {

static const InstructionSet instruction_set = {
    SKBGD_EXPANDED_STRINGIFY(TARGET_NAME), entry_points<float>(), entry_points<double>()};

} // namespace TARGET_NAME
} // namespace skbgd
#endif
