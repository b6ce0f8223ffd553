/* Loops over contiguous memory that want the machine's vector instructions.
 *
 * The file includes itself twice, once with REAL = float (suffix _f32) and once with
 * REAL = double (suffix _f64), so that each loop is written once. A function marked
 * CLONES is compiled for baseline x86-64 and for AVX2 + FMA, and the loader picks:
 * one wheel runs anywhere. Nothing here needs -ffast-math: where a sum may be
 * reordered, an `omp simd reduction` says so (-fopenmp-simd; no OpenMP run time).
 *
 * All matrices are row-major and dense. m rows of a batch, p = fan_in, q = fan_out.
 */
#ifndef REAL

#ifndef SKBGD_KERNELS_H
#define SKBGD_KERNELS_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Needs ifunc, that is glibc. x86-64-v3 means AVX2 and FMA on any maker's processor;
   compilers that do not know it as a clone's target get AVX2. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#if defined(__clang__) || __GNUC__ < 12
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#endif
#endif
#endif
#ifndef CLONES
#define CLONES
#endif

#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

/* log2(e) and Cody & Waite's split of ln 2: n * LN2_HI is exact for every n used. */
#define REAL float
#define INT int32_t
#define SQRT sqrtf
#define NAME(x) x##_f32
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define ROUND_TO_INT 0x1.8p23f
#define LOG2E 1.44269504f
#define LN2_HI 0.693359375f
#define LN2_LO -2.12194440e-4f
#define EXP_CUT 87.34f
/* (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2, interpolated at Chebyshev nodes;
   relative error of exp: 1.0e-8 in float, 1.7e-17 in double. */
#define EXP_POLY(r) \
    (0.5f + r * (0.1666657699f + r * (0.04166655462f + r * (0.008363179053f \
     + r * 0.001392618359f))))
/* (atanh(s) / s - 1) / u with u = s^2 on 0 <= u <= 1 / 9, likewise;
   relative error of atanh: 4.0e-10 in float, 1.4e-19 in double. */
#define ATANH_POLY(u) \
    (0.3333333366f + u * (0.1999985317f + u * (0.14296179f + u * (0.108532879f \
     + u * 0.1161216461f))))
#include "_kernels.h"
#undef REAL
#undef INT
#undef SQRT
#undef NAME
#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef ROUND_TO_INT
#undef LOG2E
#undef LN2_HI
#undef LN2_LO
#undef EXP_CUT
#undef EXP_POLY
#undef ATANH_POLY

#define REAL double
#define INT int64_t
#define SQRT sqrt
#define NAME(x) x##_f64
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define ROUND_TO_INT 0x1.8p52
#define LOG2E 1.4426950408889634074
#define LN2_HI 6.93147180369123816490e-01
#define LN2_LO 1.90821492927058770002e-10
#define EXP_CUT 708.4
#define EXP_POLY(r) \
    (0.5000000000000001022 + r * (0.1666666666666666745 \
     + r * (0.04166666666662412787 + r * (0.008333333333330061833 \
     + r * (0.00138888889172137169 + r * (0.0001984126986305361688 \
     + r * (2.480152129595437513e-5 + r * (2.755726845999706477e-6 \
     + r * (2.762008844540974816e-7 + r * 2.510038549551031908e-8)))))))))
#define ATANH_POLY(u) \
    (0.3333333333333333344 + u * (0.1999999999999976125 \
     + u * (0.1428571428580004965 + u * (0.1111111109911838528 \
     + u * (0.09090909948981357191 + u * (0.07692271982430274643 \
     + u * (0.06667589315724627918 + u * (0.0586713953065159873 \
     + u * (0.05422589197440007411 + u * (0.0374607189777538365 \
     + u * 0.07815288900461425223))))))))))
#include "_kernels.h"
#undef REAL
#endif

#else /* ------------------------------------------- the loops, for one REAL */

/* 2^n and expm1(r) with x = n ln 2 + r, |r| <= ln(2) / 2, for -EXP_CUT <= x <= 0.
   exp(x) = 2^n + 2^n expm1(r); expm1(x) = (2^n - 1) + 2^n expm1(r). NaN stays NaN. */
ALWAYS_INLINE void NAME(exp_parts)(REAL x, REAL *power, REAL *expm1_r)
{
    REAL shifted = x * LOG2E + ROUND_TO_INT; /* the integer n in its lowest bits */
    REAL n = shifted - ROUND_TO_INT;
    REAL r = (x - n * LN2_HI) - n * LN2_LO;
    INT bits;
    memcpy(&bits, &shifted, sizeof bits);
    /* Shift as unsigned: bits above the exponent fall off by definition. */
#if MANTISSA_BITS == 52
    bits = (INT)(((uint64_t)bits + EXPONENT_BIAS) << MANTISSA_BITS);
#else
    bits = (INT)(((uint32_t)bits + EXPONENT_BIAS) << MANTISSA_BITS);
#endif
    memcpy(power, &bits, sizeof bits);
    *expm1_r = r + r * r * EXP_POLY(r);
}

/* exp(x) for x <= 0; 0 where the result is no normal number. */
ALWAYS_INLINE REAL NAME(exp_negative)(REAL x)
{
    REAL power, t, clipped = x < -EXP_CUT ? -EXP_CUT : x;
    NAME(exp_parts)(clipped, &power, &t);
    return x < -EXP_CUT ? 0 : power + power * t;
}

/* A <- sigma(A),  sigma(z) = 1 / (1 + e^-z) = e^z / (1 + e^z) */
CLONES static void NAME(logistic)(REAL *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        REAL z = A[i];
        REAL e = NAME(exp_negative)(z > 0 ? -z : z);
        A[i] = (z < 0 ? e : 1) / (1 + e);
    }
}

/* A <- tanh(A),  tanh|z| = -t / (2 + t) with t = expm1(-2|z|) */
CLONES static void NAME(hyperbolic)(REAL *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        REAL z = A[i];
        REAL x = z > 0 ? -2 * z : 2 * z;
        REAL power, t, value;
        /* tanh rounds to 1 long before. */
        NAME(exp_parts)(x < -60 ? -60 : x, &power, &t);
        t = (power - 1) + power * t;
        value = -t / (2 + t);
        A[i] = z < 0 ? -value : value;
    }
}

/* A <- max(A, 0); NaN stays NaN */
CLONES static void NAME(rectified)(REAL *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        A[i] = A[i] < 0 ? 0 : A[i];
}

/* A <- S * sigma'(z),  sigma' = a (1 - a) */
CLONES static void NAME(logistic_backward)(const REAL *S, REAL *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        A[i] = S[i] * (A[i] * (1 - A[i]));
}

/* A <- S * tanh'(z),  tanh' = 1 - a^2 */
CLONES static void NAME(hyperbolic_backward)(const REAL *S, REAL *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        A[i] = S[i] * (1 - A[i] * A[i]);
}

/* A <- S * relu'(z),  relu' = 1 where a > 0, else 0 */
CLONES static void NAME(rectified_backward)(const REAL *S, REAL *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        A[i] = A[i] > 0 ? S[i] : 0;
}

/* Binary cross-entropy of sigmoid units from their pre-activations z, and its gradient:
       loss = softplus(z) - y z = max(t, 0) + log(1 + e^-|z|),  t = -z if y = 1 else z
       Z <- dloss/dz = sigma(z) - y
   Choosing t keeps the digits of a confident, right answer, which a difference loses.
   log(1 + e) = 2 atanh(s) with s = e / (2 + e): no logarithm. */
CLONES static void NAME(cross_entropy)(REAL *Z, const REAL *Y, REAL *loss, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        REAL z = Z[i], y = Y[i];
        REAL e = NAME(exp_negative)(z > 0 ? -z : z);
        REAL s = e / (2 + e), u = s * s;
        REAL log1p_e = 2 * (s + s * u * ATANH_POLY(u));
        REAL t = y > 0 ? -z : z;
        loss[i] = (t < 0 ? 0 : t) + log1p_e;
        Z[i] = (z < 0 ? e : 1) / (1 + e) - y;
    }
}

/* A <- exp(A) for A <= 0 */
CLONES static void NAME(exponential)(REAL *A, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        A[i] = NAME(exp_negative)(A[i]);
}

/* g <- g + alpha theta */
CLONES static void NAME(add_scaled)(REAL *g, const REAL *theta, ptrdiff_t n, REAL alpha)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        g[i] += alpha * theta[i];
}

/* g <- factor g */
CLONES static void NAME(scale)(REAL *g, ptrdiff_t n, REAL factor)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        g[i] *= factor;
}

/* sum_i g_i^2 */
CLONES static double NAME(sum_of_squares)(const REAL *g, ptrdiff_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < n; i++)
        sum += (double)g[i] * g[i];
    return sum;
}

/* theta <- theta - eta (g + alpha theta) */
CLONES static void NAME(sgd_step)(REAL *theta, const REAL *g, ptrdiff_t n, REAL eta,
                                  REAL alpha)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        theta[i] -= eta * (g[i] + alpha * theta[i]);
}

/* v <- mu v - eta (g + alpha theta)
   theta <- theta + v, or with Nesterov: theta + mu v - eta (g + alpha theta) */
CLONES static void NAME(momentum_step)(REAL *theta, const REAL *g, REAL *v, ptrdiff_t n,
                                       REAL eta, REAL alpha, REAL mu, int nesterov)
{
    REAL mu_again = nesterov ? mu : 1, eta_again = nesterov ? eta : 0;
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        REAL gradient = g[i] + alpha * theta[i];
        v[i] = mu * v[i] - eta * gradient;
        theta[i] += mu_again * v[i] - eta_again * gradient;
    }
}

/* m <- beta_1 m + (1 - beta_1) g,  s <- beta_2 s + (1 - beta_2) g^2,
   theta <- theta - eta m / (sqrt(s) + epsilon), g with its penalty; Adam's correction of
   the bias of m and s is in eta. */
CLONES static void NAME(adam_step)(REAL *theta, const REAL *g, REAL *m, REAL *s,
                                   ptrdiff_t n, REAL eta, REAL alpha, REAL beta_1,
                                   REAL beta_2, REAL epsilon)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        REAL gradient = g[i] + alpha * theta[i];
        m[i] = beta_1 * m[i] + (1 - beta_1) * gradient;
        s[i] = beta_2 * s[i] + (1 - beta_2) * gradient * gradient;
        theta[i] -= eta * m[i] / (SQRT(s[i]) + epsilon);
    }
}

/* The three products of back-propagation for one row, or for layers of one unit. Four
   terms at a time, so that the result is loaded and stored a quarter as often. */

/* y <- y + sum_k x_k M_k,  k = 0 ... n - 1, with M_k = M + k ld, each of length q */
ALWAYS_INLINE void NAME(add_rows)(ptrdiff_t n, ptrdiff_t q, const REAL *x,
                                  ptrdiff_t x_stride, REAL scale, const REAL *M,
                                  ptrdiff_t ld, REAL *y)
{
    ptrdiff_t k = 0;
    for (; k + 4 <= n; k += 4) {
        const REAL *m0 = M + k * ld, *m1 = m0 + ld, *m2 = m1 + ld, *m3 = m2 + ld;
        REAL x0 = scale * x[k * x_stride], x1 = scale * x[(k + 1) * x_stride];
        REAL x2 = scale * x[(k + 2) * x_stride], x3 = scale * x[(k + 3) * x_stride];
#pragma omp simd
        for (ptrdiff_t j = 0; j < q; j++)
            y[j] += (x0 * m0[j] + x1 * m1[j]) + (x2 * m2[j] + x3 * m3[j]);
    }
    for (; k < n; k++) {
        const REAL *m0 = M + k * ld;
        REAL x0 = scale * x[k * x_stride];
#pragma omp simd
        for (ptrdiff_t j = 0; j < q; j++)
            y[j] += x0 * m0[j];
    }
}

ALWAYS_INLINE REAL NAME(dot)(ptrdiff_t n, const REAL *x, const REAL *y)
{
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* Z <- A W + b      (m, p) (p, q) + (q,) */
CLONES static void NAME(small_affine)(ptrdiff_t m, ptrdiff_t p, ptrdiff_t q,
                                      const REAL *A, const REAL *W, const REAL *b,
                                      REAL *Z)
{
    for (ptrdiff_t i = 0; i < m; i++, A += p, Z += q) {
        if (q == 1) {
            Z[0] = b[0] + NAME(dot)(p, A, W);
        } else {
            memcpy(Z, b, q * sizeof(REAL));
            NAME(add_rows)(p, q, A, 1, 1, W, q, Z);
        }
    }
}

/* S <- D W^T        (m, q) (q, p) */
CLONES static void NAME(small_backward)(ptrdiff_t m, ptrdiff_t p, ptrdiff_t q,
                                        const REAL *D, const REAL *W, REAL *S)
{
    for (ptrdiff_t i = 0; i < m; i++, D += q, S += p) {
        if (q == 1) {
#pragma omp simd
            for (ptrdiff_t k = 0; k < p; k++)
                S[k] = D[0] * W[k];
        } else {
            for (ptrdiff_t k = 0; k < p; k++)
                S[k] = NAME(dot)(q, D, W + k * q);
        }
    }
}

/* G <- beta G + scale A^T D      (p, m) (m, q); beta = 0 overwrites */
CLONES static void NAME(small_outer)(ptrdiff_t m, ptrdiff_t p, ptrdiff_t q, REAL scale,
                                     const REAL *A, const REAL *D, REAL beta, REAL *G)
{
    if (beta == 0) {
        memset(G, 0, p * q * sizeof(REAL));
    } else if (beta != 1) {
#pragma omp simd
        for (ptrdiff_t k = 0; k < p * q; k++)
            G[k] *= beta;
    }
    if (q == 1) {
        NAME(add_rows)(m, p, D, 1, scale, A, p, G);
    } else {
        for (ptrdiff_t k = 0; k < p; k++)
            NAME(add_rows)(m, q, A + k, p, scale, D, q, G + k * q);
    }
}

/* C <- beta C + scale op(A) B for matrices too small to pay for a BLAS call.

   op(A) (m, k) has the strides `row` and `column`, B (k, n) and C (m, n) are row-major,
   k <= SMALL_GEMM_DEPTH; beta = 0 overwrites. Blocks of 4 rows and two vectors of
   columns are summed up in registers. */
#define SMALL_GEMM_DEPTH 512
#if defined(__GNUC__) /* gcc and clang */
#define LANES (32 / (int)sizeof(REAL))
#define WIDTH (2 * LANES)
typedef REAL NAME(vector) __attribute__((vector_size(32), aligned(sizeof(REAL))));

/* sums (4, WIDTH) <- the block; a0 ... a3 are the rows of op(A), ld that of B. */
ALWAYS_INLINE void NAME(block)(ptrdiff_t k, const REAL *a0, const REAL *a1,
                               const REAL *a2, const REAL *a3, ptrdiff_t column,
                               const REAL *B, ptrdiff_t ld, REAL *sums)
{
    NAME(vector) s00 = {0}, s01 = {0}, s10 = {0}, s11 = {0};
    NAME(vector) s20 = {0}, s21 = {0}, s30 = {0}, s31 = {0};
    for (ptrdiff_t t = 0; t < k; t++, B += ld) {
        NAME(vector) b0, b1;
        memcpy(&b0, B, sizeof b0);
        memcpy(&b1, B + LANES, sizeof b1);
        s00 += a0[t * column] * b0;
        s01 += a0[t * column] * b1;
        s10 += a1[t * column] * b0;
        s11 += a1[t * column] * b1;
        s20 += a2[t * column] * b0;
        s21 += a2[t * column] * b1;
        s30 += a3[t * column] * b0;
        s31 += a3[t * column] * b1;
    }
    memcpy(sums, &s00, sizeof s00);
    memcpy(sums + LANES, &s01, sizeof s01);
    memcpy(sums + 2 * LANES, &s10, sizeof s10);
    memcpy(sums + 3 * LANES, &s11, sizeof s11);
    memcpy(sums + 4 * LANES, &s20, sizeof s20);
    memcpy(sums + 5 * LANES, &s21, sizeof s21);
    memcpy(sums + 6 * LANES, &s30, sizeof s30);
    memcpy(sums + 7 * LANES, &s31, sizeof s31);
}

CLONES static void NAME(small_gemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, REAL scale,
                                    const REAL *A, ptrdiff_t row, ptrdiff_t column,
                                    const REAL *B, REAL beta, REAL *C)
{
    REAL padded[SMALL_GEMM_DEPTH * WIDTH], sums[4 * WIDTH];
    for (ptrdiff_t j = 0; j < n; j += WIDTH) {
        int count = n - j < WIDTH ? (int)(n - j) : WIDTH;
        const REAL *b = B + j;
        ptrdiff_t ld = n;
        if (count < WIDTH) { /* the last columns, filled up: nothing is read past B */
            for (ptrdiff_t t = 0; t < k; t++)
                for (int l = 0; l < WIDTH; l++)
                    padded[t * WIDTH + l] = l < count ? b[t * n + l] : 0;
            b = padded;
            ld = WIDTH;
        }
        for (ptrdiff_t i = 0; i < m; i += 4) {
            int rows = m - i < 4 ? (int)(m - i) : 4;
            const REAL *a = A + i * row; /* a missing row is the last, once more */
            NAME(block)(k, a, a + (rows > 1 ? row : 0), a + (rows > 2 ? 2 * row : 0),
                        a + (rows > 3 ? 3 * row : 0), column, b, ld, sums);
            for (int r = 0; r < rows; r++) {
                REAL *c = C + (i + r) * n + j;
                const REAL *sum = sums + r * WIDTH;
                if (beta == 0) {
#pragma omp simd
                    for (int l = 0; l < count; l++)
                        c[l] = scale * sum[l];
                } else {
#pragma omp simd
                    for (int l = 0; l < count; l++)
                        c[l] = beta * c[l] + scale * sum[l];
                }
            }
        }
    }
}
#undef LANES
#undef WIDTH
#else
CLONES static void NAME(small_gemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, REAL scale,
                                    const REAL *A, ptrdiff_t row, ptrdiff_t column,
                                    const REAL *B, REAL beta, REAL *C)
{
    for (ptrdiff_t i = 0; i < m; i++, A += row, C += n) {
        for (ptrdiff_t j = 0; j < n; j++)
            C[j] = beta == 0 ? 0 : beta * C[j];
        NAME(add_rows)(k, n, A, column, scale, B, n, C);
    }
}
#endif

/* T <- W^T      (p, q) to (q, p) */
static void NAME(transpose)(ptrdiff_t p, ptrdiff_t q, const REAL *W, REAL *T)
{
    for (ptrdiff_t k = 0; k < p; k++)
        for (ptrdiff_t j = 0; j < q; j++)
            T[j * p + k] = W[k * q + j];
}

/* g <- beta g + scale sum_i D_i      over the m rows of D; beta = 0 overwrites */
CLONES static void NAME(sum_rows)(ptrdiff_t m, ptrdiff_t q, REAL scale, const REAL *D,
                                  REAL beta, REAL *g)
{
    REAL one = 1;
    for (ptrdiff_t j = 0; j < q; j++)
        g[j] = beta == 0 ? 0 : beta * g[j];
    NAME(add_rows)(m, q, &one, 0, scale, D, q, g);
}

#endif
