/* Update rules, and SGD on a single sigmoid unit. */
#ifndef SKBGD_UPDATE_INL_HPP
#define SKBGD_UPDATE_INL_HPP
#include <cmath>

#include "data-inl.hpp"
#include "elementwise-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

/* n parameters, with their gradient and the vectors of the update rule (nullptr if it has
   none). */
template <class real> struct ParameterSlice {
    ptrdiff_t n;
    real *theta, *gradient, *velocity, *second_moment;
};

/* One step along the gradient with penalty, g = G + alpha theta. */
template <class real>
static void update(const UpdateRule &rule, double step_size, double penalty,
                   const ParameterSlice<real> &s)
{
    const real eta = real(step_size), alpha = real(penalty);
    real *theta = s.theta, *v = s.velocity, *u = s.second_moment;
    const real *G = s.gradient;
    if (rule.adam) {
        /* v = beta_1 v + (1 - beta_1) g,  u = beta_2 u + (1 - beta_2) g^2
           theta = theta - eta v / (sqrt(u) + epsilon)
           eta includes the bias correction of v and u. */
        const real beta_1 = real(rule.beta_1), beta_2 = real(rule.beta_2);
        const real epsilon = real(rule.epsilon);
#pragma omp simd
        for (ptrdiff_t i = 0; i < s.n; i++) {
            real g = G[i] + alpha * theta[i];
            v[i] = beta_1 * v[i] + (1 - beta_1) * g;
            u[i] = beta_2 * u[i] + (1 - beta_2) * g * g;
            theta[i] -= eta * v[i] / (std::sqrt(u[i]) + epsilon);
        }
    } else if (v) {
        /* v = mu v - eta g
           theta = theta + v, or with Nesterov: theta + mu v - eta g */
        const real mu = real(rule.momentum);
        const real mu_again = rule.nesterov ? mu : 1, eta_again = rule.nesterov ? eta : 0;
#pragma omp simd
        for (ptrdiff_t i = 0; i < s.n; i++) {
            real g = G[i] + alpha * theta[i];
            v[i] = mu * v[i] - eta * g;
            theta[i] += mu_again * v[i] - eta_again * g;
        }
    } else {
        /* theta = theta - eta g */
#pragma omp simd
        for (ptrdiff_t i = 0; i < s.n; i++)
            theta[i] -= eta * (G[i] + alpha * theta[i]);
    }
}

/* sum_i x_i y_i; four accumulators hide the latency of additions */
template <class real> ALWAYS_INLINE real dot(ptrdiff_t n, const real *x, const real *y)
{
    constexpr ptrdiff_t LANES = Simd<real>::LANES;
    Vector<real> s[4] = {};
    ptrdiff_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        UNROLL
        for (int u = 0; u < 4; u++)
            s[u] += load(x + i + u * LANES) * load(y + i + u * LANES);
    }
    for (; i + LANES <= n; i += LANES)
        s[0] += load(x + i) * load(y + i);
    if (i < n) {
        const Mask<real> mask(n - i);
        s[1] += load(x + i, mask) * load(y + i, mask);
    }
    return sum_of_lanes((s[0] + s[1]) + (s[2] + s[3]));
}

/* The loss of row i and delta = dloss/dz, both multiplied by the weight of the row. */
template <class real>
ALWAYS_INLINE double weighted_cross_entropy(real z, ptrdiff_t i, const Data<real> &data,
                                            real *delta)
{
    const double loss = cross_entropy_of_unit(z, real(data.Y[i]), delta);
    if (!data.weights)
        return loss;
    if (data.weights[i] == 0) /* 0 times a NaN is NaN */
        return *delta = 0;
    *delta *= data.weights[i];
    return loss * data.weights[i];
}

/* SGD on a single sigmoid unit, one step for each row:

       z = x w + b,  delta = w_i (sigma(z) - y)
       w = w - decay w - eta delta x,  b = b - eta delta,  decay = eta alpha

   For dense rows theta = [w, b]. For sparse rows theta = [w / s, b] with s = *scale_of_w:
   decay changes s only, and a step only the elements of w that x has. `standardized` (d,)
   is scratch memory for a standardized row. Adds to *loss_sum the loss of each row,
   computed before its step. Returns the number of steps, which is less than n if a loss was
   not finite. */
template <class real>
static ptrdiff_t sgd_single_unit(const Data<real> &data, ptrdiff_t start, ptrdiff_t n,
                                 const UpdateRule &rule, real *theta, real *standardized,
                                 double *scale_of_w, double *loss_sum)
{
    const ptrdiff_t d = data.d;
    const double decay = rule.eta * rule.alpha;
    const real eta = real(rule.eta), real_decay = real(decay);
    double s = *scale_of_w;
    real b = theta[d], delta;
    ptrdiff_t i = start;
    for (; i < start + n; i++) {
        const ptrdiff_t number = row_number(data, i);
        double loss;
        if (!data.dense()) {
            const SparseRow<real> row(data, number);
            real z[4] = {}; /* four accumulators hide the latency of additions */
            ptrdiff_t t = 0;
            if (i + 4 < start + n)
                SparseRow<real>(data, row_number(data, i + 4)).prefetch_elements();
            for (; t + 4 <= row.nnz; t += 4)
                for (int u = 0; u < 4; u++)
                    z[u] += row.x[t + u] * theta[row.column(t + u)];
            for (; t < row.nnz; t++)
                z[0] += row.x[t] * theta[row.column(t)];
            z[0] = b + real(s) * ((z[0] + z[1]) + (z[2] + z[3]));
            loss = weighted_cross_entropy(z[0], number, data, &delta);
            *loss_sum += loss;
            if (!std::isfinite(loss))
                break;
            s *= 1 - decay;
            if (!in_range(s)) {
                scale(theta, d, real(s));
                s = 1;
            }
            const real step = real(-eta * delta / s);
            for (t = 0; t < row.nnz; t++)
                theta[row.column(t)] += step * row.x[t];
        } else {
            const real *x = data.X + number * d;
            if (data.standardizer) {
                gather_rows(data, i, 1, standardized);
                x = standardized;
            } else if (data.order && i + 4 < start + n)
                prefetch(data.X + data.order[i + 4] * d, d * ptrdiff_t(sizeof(real)));
            loss = weighted_cross_entropy(b + dot(d, x, theta), number, data, &delta);
            *loss_sum += loss;
            if (!std::isfinite(loss))
                break;
            const real step = -eta * delta;
#pragma omp simd
            for (ptrdiff_t k = 0; k < d; k++)
                theta[k] += step * x[k] - real_decay * theta[k];
        }
        b -= eta * delta;
    }
    theta[d] = b;
    *scale_of_w = s;
    return i - start;
}

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
