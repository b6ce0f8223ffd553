/* Elementwise functions of contiguous memory: activation functions, losses, sums.
 *
 * The loop bodies have no branches, so that `omp simd` vectorizes them (-fopenmp-simd needs
 * no OpenMP runtime library). A reduction clause marks the sums whose order may change:
 * nothing needs -ffast-math. NaN stays NaN.
 */
#ifndef SKBGD_ELEMENTWISE_INL_HPP
#define SKBGD_ELEMENTWISE_INL_HPP
#include <cstdint>
#include <cstring>

#include "simd-inl.hpp"

BEGIN_TARGET();
namespace skbgd {
namespace TARGET_NAME {

/* Bits of a floating-point number and constants of the functions below. LN2_HI + LN2_LO is
   Cody & Waite's split of ln 2: n * LN2_HI is exact for every n in use. The polynomials
   interpolate at Chebyshev nodes:
   exp_poly(r) = (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2,
       relative error of exp: 1.0e-8 in float, 1.7e-17 in double;
   atanh_poly(u) = (atanh(s) / s - 1) / u with u = s^2 on 0 <= u <= 1 / 9,
       relative error of atanh: 4.0e-10 in float, 1.4e-19 in double. */
/* clang-format off */
template <class real> struct FloatTraits;
template <> struct FloatTraits<float> {
    using bits = uint32_t;
    static constexpr int MANTISSA_BITS = 23, EXPONENT_BIAS = 127;
    static constexpr float ROUND_TO_INT = 12582912.0f; /* 1.5 * 2^23 */
    static constexpr float LOG2E = 1.44269504f;
    static constexpr float LN2_HI = 0.693359375f;
    static constexpr float LN2_LO = -2.12194440e-4f;
    static constexpr float EXP_CUT = 87.34f;
    ALWAYS_INLINE float exp_poly(float r)
    {
        return 0.5f + r * (0.1666657699f + r * (0.04166655462f + r * (0.008363179053f
               + r * 0.001392618359f)));
    }
    ALWAYS_INLINE float atanh_poly(float u)
    {
        return 0.3333333366f + u * (0.1999985317f + u * (0.14296179f
               + u * (0.108532879f + u * 0.1161216461f)));
    }
};
template <> struct FloatTraits<double> {
    using bits = uint64_t;
    static constexpr int MANTISSA_BITS = 52, EXPONENT_BIAS = 1023;
    static constexpr double ROUND_TO_INT = 6755399441055744.0; /* 1.5 * 2^52 */
    static constexpr double LOG2E = 1.4426950408889634074;
    static constexpr double LN2_HI = 6.93147180369123816490e-01;
    static constexpr double LN2_LO = 1.90821492927058770002e-10;
    static constexpr double EXP_CUT = 708.4;
    ALWAYS_INLINE double exp_poly(double r)
    {
        return 0.5000000000000001022 + r * (0.1666666666666666745
               + r * (0.04166666666662412787 + r * (0.008333333333330061833
               + r * (0.00138888889172137169 + r * (0.0001984126986305361688
               + r * (2.480152129595437513e-5 + r * (2.755726845999706477e-6
               + r * (2.762008844540974816e-7 + r * 2.510038549551031908e-8))))))));
    }
    ALWAYS_INLINE double atanh_poly(double u)
    {
        return 0.3333333333333333344 + u * (0.1999999999999976125
               + u * (0.1428571428580004965 + u * (0.1111111109911838528
               + u * (0.09090909948981357191 + u * (0.07692271982430274643
               + u * (0.06667589315724627918 + u * (0.0586713953065159873
               + u * (0.05422589197440007411 + u * (0.0374607189777538365
               + u * 0.07815288900461425223)))))))));
    }
};
/* clang-format on */

/* 2^n and expm1(r) with x = n ln 2 + r, |r| <= ln(2) / 2, for -EXP_CUT <= x <= 0.
   exp(x) = 2^n + 2^n expm1(r); expm1(x) = (2^n - 1) + 2^n expm1(r). */
template <class real> ALWAYS_INLINE void exp_parts(real x, real *power, real *expm1_r)
{
    using Traits = FloatTraits<real>;
    using bits = typename Traits::bits;
    /* The lowest bits of `shifted` are the integer n. */
    const real shifted = x * Traits::LOG2E + Traits::ROUND_TO_INT;
    const real n = shifted - Traits::ROUND_TO_INT;
    const real r = (x - n * Traits::LN2_HI) - n * Traits::LN2_LO;
    /* n + bias becomes the exponent of 2^n; the shift drops the higher bits. */
    const bits exponent = (bit_cast<bits>(shifted) + Traits::EXPONENT_BIAS)
                          << Traits::MANTISSA_BITS;
    *power = bit_cast<real>(exponent);
    *expm1_r = r + r * r * Traits::exp_poly(r);
}

/* exp(x) for x <= 0; 0 if the result is not a normal number. */
template <class real> ALWAYS_INLINE real exp_negative(real x)
{
    const real cut = -FloatTraits<real>::EXP_CUT;
    real power, t;
    exp_parts(x < cut ? cut : x, &power, &t);
    return x < cut ? 0 : power + power * t;
}

/* log(1 + e) = 2 atanh(s) with s = e / (2 + e), for -1/4 <= e <= 1 */
template <class real> ALWAYS_INLINE real log1p_small(real e)
{
    const real s = e / (2 + e), u = s * s;
    return 2 * (s + s * u * FloatTraits<real>::atanh_poly(u));
}

/* log(1 + x) for x >= 0: 1 + x = 2^n (1 + e) with -1/4 <= e < 1/2; e = x for small x */
template <class real> ALWAYS_INLINE real log1p_positive(real x)
{
    using Traits = FloatTraits<real>;
    using bits = typename Traits::bits;
    const bits y = bit_cast<bits>((1 + x) * real(4.0 / 3));
    const int32_t n = int32_t(y >> Traits::MANTISSA_BITS) - Traits::EXPONENT_BIAS;
    const bits exponent = y >> Traits::MANTISSA_BITS << Traits::MANTISSA_BITS;
    const real power = bit_cast<real>(exponent);
    return log1p_small((x - (power - 1)) / power)
           + (real(n) * Traits::LN2_HI + real(n) * Traits::LN2_LO);
}

/* sigma(z) = 1 / (1 + e^-z) = e^z / (1 + e^z) */
template <class real> static void logistic(real *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real z = A[i];
        real e = exp_negative(z > 0 ? -z : z);
        A[i] = (z < 0 ? e : 1) / (1 + e);
    }
}

/* tanh|z| = -t / (2 + t) with t = expm1(-2|z|) */
template <class real> static void tanh(real *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real z = A[i];
        real x = z > 0 ? -2 * z : 2 * z;
        real power, t, value;
        /* tanh rounds to 1 long before x = -60. */
        exp_parts(x < -60 ? real(-60) : x, &power, &t);
        t = (power - 1) + power * t;
        value = -t / (2 + t);
        A[i] = z < 0 ? -value : value;
    }
}

template <class real> static void relu(real *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        A[i] = A[i] < 0 ? 0 : A[i];
}

/* A = f(Z), in place */
template <class real> static void activate(Activation f, real *Z, ptrdiff_t n)
{
    if (f == LOGISTIC)
        logistic(Z, n);
    else if (f == TANH)
        tanh(Z, n);
    else if (f == RELU)
        relu(Z, n);
}

/* D = D * f'(Z), with f' in terms of a = f(z): a (1 - a), 1 - a^2, or 1 where a > 0 */
template <class real>
static void times_derivative(Activation f, const real *A, real *D, ptrdiff_t n)
{
    if (f == LOGISTIC) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            D[i] *= A[i] * (1 - A[i]);
    } else if (f == TANH) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            D[i] *= 1 - A[i] * A[i];
    } else if (f == RELU) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            D[i] = A[i] > 0 ? D[i] : 0;
    }
}

/* Binary cross-entropy of a sigmoid unit with pre-activation z, and its derivative:
       loss = softplus(z) - y z = max(t, 0) + log(1 + e^-|z|),  t = -z if y = 1 else z
       dloss/dz = sigma(z) - y
   The form with t keeps the digits of a confident, correct output, which the difference
   loses. */
template <class real> ALWAYS_INLINE real cross_entropy_of_unit(real z, real y, real *delta)
{
    real e = exp_negative(z > 0 ? -z : z);
    real t = y > 0 ? -z : z;
    *delta = (z < 0 ? e : 1) / (1 + e) - y;
    return (t < 0 ? 0 : t) + log1p_small(e);
}

/* loss = cross-entropy of the units with pre-activations Z; Z = dloss/dz */
template <class real>
static void sigmoid_cross_entropy(real *Z, const real *Y, real *loss, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        loss[i] = cross_entropy_of_unit(Z[i], Y[i], &Z[i]);
}

/* z = softmax(z) for a row; with `label`, the class y of the row, also
       loss = log(sum_k exp(z_k)) - z_y,  z = dloss/dz = softmax(z) - y
   The largest z is subtracted first, which changes neither result. `rest` is the sum of the
   exponentials without its term, exp(0) = 1: log(1 + rest) keeps the digits of a confident,
   correct output. */
template <class real>
static void softmax_of_row(ptrdiff_t K, real *z, const int *label, real *loss)
{
    ptrdiff_t largest = 0;
    real top = z[0], rest = 0;
    for (ptrdiff_t k = 1; k < K; k++) {
        largest = z[k] > top ? k : largest;
        top = z[k] > top ? z[k] : top;
    }
    if (label)
        *loss = top - z[*label];
#pragma omp simd reduction(+ : rest)
    for (ptrdiff_t k = 0; k < K; k++) {
        z[k] = exp_negative(z[k] - top);
        rest += k == largest ? 0 : z[k];
    }
    const real factor = 1 / (1 + rest);
#pragma omp simd
    for (ptrdiff_t k = 0; k < K; k++)
        z[k] *= factor;
    if (label) {
        *loss += log1p_positive(rest);
        z[*label] -= 1;
    }
}

constexpr ptrdiff_t SOFTMAX_ROWS = 64, SOFTMAX_CLASSES = 32;

/* The same for n rows, at most SOFTMAX_ROWS, and K classes, at most SOFTMAX_CLASSES: the
   rows are transposed, so that vectors run over rows. */
template <class real>
static void softmax_of_rows(ptrdiff_t n, ptrdiff_t K, real *Z, const int *labels,
                            real *loss)
{
    constexpr ptrdiff_t ROWS = SOFTMAX_ROWS;
    real T[SOFTMAX_CLASSES * ROWS], top[ROWS], rest[ROWS] = {}, found[ROWS] = {};
    transpose(n, K, Z, K, T, ROWS);
    std::memcpy(top, T, sizeof top);
    for (ptrdiff_t k = 1; k < K; k++)
#pragma omp simd
        for (int r = 0; r < ROWS; r++)
            top[r] = T[k * ROWS + r] > top[r] ? T[k * ROWS + r] : top[r];
    if (labels)
        for (ptrdiff_t r = 0; r < n; r++)
            loss[r] = top[r] - Z[r * K + labels[r]];
    for (ptrdiff_t k = 0; k < K; k++) {
        real *t = T + k * ROWS;
#pragma omp simd
        for (int r = 0; r < ROWS; r++) {
            real first = t[r] == top[r] ? 1 - found[r] : 0;
            t[r] = exp_negative(t[r] - top[r]);
            found[r] += first;
            rest[r] += first > 0 ? 0 : t[r];
        }
    }
    for (ptrdiff_t k = 0; k < K; k++)
#pragma omp simd
        for (int r = 0; r < ROWS; r++)
            T[k * ROWS + r] *= 1 / (1 + rest[r]);
    transpose(K, n, T, ROWS, Z, K);
    if (labels) {
#pragma omp simd
        for (ptrdiff_t r = 0; r < n; r++)
            loss[r] += log1p_positive(rest[r]);
        for (ptrdiff_t r = 0; r < n; r++)
            Z[r * K + labels[r]] -= 1;
    }
}

/* The same for m rows and K classes; `labels` and `loss` may be nullptr. */
template <class real>
static void softmax(ptrdiff_t m, ptrdiff_t K, real *Z, const int *labels, real *loss)
{
    const bool over_rows = K <= SOFTMAX_CLASSES && m >= 8;
    for (ptrdiff_t i = 0, n; i < m; i += n) {
        n = over_rows ? (m - i < SOFTMAX_ROWS ? m - i : SOFTMAX_ROWS) : 1;
        const int *label = labels ? labels + i : nullptr;
        real *l = labels ? loss + i : nullptr;
        if (over_rows)
            softmax_of_rows(n, K, Z + i * K, label, l);
        else
            softmax_of_row(K, Z + i * K, label, l);
    }
}

template <class real> static double sum(const real *x, ptrdiff_t n)
{
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (ptrdiff_t i = 0; i < n; i++)
        total += double(x[i]);
    return total;
}

/* Whether there is no NaN and no infinity: x - x is 0 then, and NaN otherwise. */
template <class real> static bool all_finite(const real *x, ptrdiff_t n)
{
    real total = 0;
#pragma omp simd reduction(+ : total)
    for (ptrdiff_t i = 0; i < n; i++)
        total += x[i] - x[i];
    return total == 0;
}

/* x = factor x */
template <class real> static void scale(real *x, ptrdiff_t n, real factor)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] *= factor;
}

/* y = factor y + x */
template <class real>
static void scale_and_add(real *y, ptrdiff_t n, real factor, const real *x)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = factor * y[i] + x[i];
}

/* y = y + factor x */
template <class real>
static void add_scaled(real *y, const real *x, ptrdiff_t n, real factor)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

template <class real> static double sum_of_squares(const real *x, ptrdiff_t n)
{
    double total = 0;
#pragma omp simd reduction(+ : total)
    for (ptrdiff_t i = 0; i < n; i++)
        total += double(x[i]) * x[i];
    return total;
}

} // namespace TARGET_NAME
} // namespace skbgd
END_TARGET();
#endif
