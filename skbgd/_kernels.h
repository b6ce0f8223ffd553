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
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define ALWAYS_INLINE static inline
#define PREFETCH(address)
#endif

/* Rows in random order are ahead of the processor's own guesses: ask for the beginning of
   a row some steps before it is needed. */
ALWAYS_INLINE void prefetch(const void *row, ptrdiff_t bytes)
{
    ptrdiff_t last = bytes < 1024 ? bytes : 1024;
    if (bytes <= 0)
        return;
    for (ptrdiff_t i = 0; i < last; i += 64)
        PREFETCH((const char *)row + i);
    PREFETCH((const char *)row + last - 1);
}

/* Rows in compressed sparse row format (CSR): the elements of row i are the numbers
   indptr[i] ... indptr[i + 1] - 1. Both kinds of integers have 32 bits or 64. */
#define SMALLEST_SCALE 1e-3 /* of weights that are kept as a multiple */
ALWAYS_INLINE ptrdiff_t integer_at(const void *integers, int wide, ptrdiff_t i)
{
    return wide ? (ptrdiff_t)((const int64_t *)integers)[i]
                : (ptrdiff_t)((const int32_t *)integers)[i];
}

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

/* D <- D * sigma'(z),  sigma' = a (1 - a) */
CLONES static void NAME(logistic_backward)(const REAL *A, REAL *D, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        D[i] *= A[i] * (1 - A[i]);
}

/* D <- D * tanh'(z),  tanh' = 1 - a^2 */
CLONES static void NAME(hyperbolic_backward)(const REAL *A, REAL *D, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        D[i] *= 1 - A[i] * A[i];
}

/* D <- D * relu'(z),  relu' = 1 where a > 0, else 0 */
CLONES static void NAME(rectified_backward)(const REAL *A, REAL *D, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        D[i] = A[i] > 0 ? D[i] : 0;
}

/* Binary cross-entropy of a sigmoid unit from its pre-activation z, and its gradient:
       loss = softplus(z) - y z = max(t, 0) + log(1 + e^-|z|),  t = -z if y = 1 else z
       dloss/dz = sigma(z) - y
   Choosing t keeps the digits of a confident, right answer, which a difference loses.
   log(1 + e) = 2 atanh(s) with s = e / (2 + e): no logarithm. */
ALWAYS_INLINE REAL NAME(unit_cross_entropy)(REAL z, REAL y, REAL *delta)
{
    REAL e = NAME(exp_negative)(z > 0 ? -z : z);
    REAL s = e / (2 + e), u = s * s;
    REAL log1p_e = 2 * (s + s * u * ATANH_POLY(u));
    REAL t = y > 0 ? -z : z;
    *delta = (z < 0 ? e : 1) / (1 + e) - y;
    return (t < 0 ? 0 : t) + log1p_e;
}

/* loss <- the cross-entropy of the units with pre-activations Z, Z <- dloss/dz */
CLONES static void NAME(cross_entropy)(REAL *Z, const REAL *Y, REAL *loss, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        loss[i] = NAME(unit_cross_entropy)(Z[i], Y[i], &Z[i]);
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

/* y <- y + x m      of length q */
ALWAYS_INLINE void NAME(add_row)(ptrdiff_t q, REAL x, const REAL *m, REAL *y)
{
#pragma omp simd
    for (ptrdiff_t j = 0; j < q; j++)
        y[j] += x * m[j];
}

/* y <- y + x0 m0 + x1 m1 + x2 m2 + x3 m3 */
ALWAYS_INLINE void NAME(add_four_rows)(ptrdiff_t q, REAL x0, REAL x1, REAL x2, REAL x3,
                                       const REAL *m0, const REAL *m1, const REAL *m2,
                                       const REAL *m3, REAL *y)
{
#pragma omp simd
    for (ptrdiff_t j = 0; j < q; j++)
        y[j] += (x0 * m0[j] + x1 * m1[j]) + (x2 * m2[j] + x3 * m3[j]);
}

/* y <- y + sum_k x_k M_k,  k = 0 ... n - 1, with M_k = M + k ld, each of length q */
ALWAYS_INLINE void NAME(add_rows)(ptrdiff_t n, ptrdiff_t q, const REAL *x,
                                  ptrdiff_t x_stride, REAL scale, const REAL *M,
                                  ptrdiff_t ld, REAL *y)
{
    ptrdiff_t k = 0;
    for (; k + 4 <= n; k += 4, M += 4 * ld)
        NAME(add_four_rows)(q, scale * x[k * x_stride], scale * x[(k + 1) * x_stride],
                            scale * x[(k + 2) * x_stride], scale * x[(k + 3) * x_stride],
                            M, M + ld, M + 2 * ld, M + 3 * ld, y);
    for (; k < n; k++, M += ld)
        NAME(add_row)(q, scale * x[k * x_stride], M, y);
}

#if defined(__GNUC__) /* gcc and clang */
#define LANES (32 / (int)sizeof(REAL))
#define LOAD(vector, address) memcpy(&(vector), (address), sizeof(vector))
#define STORE(address, vector) memcpy((address), &(vector), sizeof(vector))
typedef REAL NAME(vector) __attribute__((vector_size(32), aligned(sizeof(REAL))));

/* sum_i x_i y_i, in four sums of which none waits for the one before */
ALWAYS_INLINE REAL NAME(dot)(ptrdiff_t n, const REAL *x, const REAL *y)
{
    NAME(vector) s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, u, v;
    REAL sum = 0;
    ptrdiff_t i = 0;
#define ADD(s, j) \
    do { \
        LOAD(u, x + i + (j) * LANES); \
        LOAD(v, y + i + (j) * LANES); \
        s += u * v; \
    } while (0)
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        ADD(s0, 0);
        ADD(s1, 1);
        ADD(s2, 2);
        ADD(s3, 3);
    }
    for (; i + LANES <= n; i += LANES)
        ADD(s0, 0);
#undef ADD
    s0 = (s0 + s1) + (s2 + s3);
    for (int l = 0; l < LANES; l++)
        sum += s0[l];
    for (; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* y <- b + sum_k x_k M_k for rows M_k of `vectors` vectors, the last of which starts at
   `last`. Of four sums none waits for the one before. */
ALWAYS_INLINE void NAME(narrow_affine)(int vectors, ptrdiff_t last, ptrdiff_t n,
                                       const REAL *x, const REAL *M, ptrdiff_t ld,
                                       const REAL *b, REAL *y)
{
    NAME(vector) s0, s1 = {0}, s2 = {0}, s3 = {0}, t0, t1 = {0}, t2 = {0}, t3 = {0}, row;
    ptrdiff_t k = 0;
#define ADD(i, s, t) \
    do { \
        LOAD(row, M + (i) * ld); \
        s += x[k + (i)] * row; \
        if (vectors == 2) { \
            LOAD(row, M + (i) * ld + last); \
            t += x[k + (i)] * row; \
        } \
    } while (0)
    LOAD(s0, b);
    LOAD(t0, b + last);
    for (; k + 4 <= n; k += 4, M += 4 * ld) {
        ADD(0, s0, t0);
        ADD(1, s1, t1);
        ADD(2, s2, t2);
        ADD(3, s3, t3);
    }
    for (; k < n; k++, M += ld)
        ADD(0, s0, t0);
#undef ADD
    s0 = (s0 + s1) + (s2 + s3);
    STORE(y, s0);
    if (vectors == 2) {
        t0 = (t0 + t1) + (t2 + t3);
        STORE(y + last, t0);
    }
}

/* z <- x W + b      (p,) (p, q) + (q,) */
CLONES static void NAME(row_affine)(ptrdiff_t p, ptrdiff_t q, const REAL *x,
                                    const REAL *W, const REAL *b, REAL *z)
{
    if (q >= LANES && q <= 2 * LANES) {
        if (q == LANES)
            NAME(narrow_affine)(1, 0, p, x, W, q, b, z);
        else
            NAME(narrow_affine)(2, q - LANES, p, x, W, q, b, z);
    } else {
        memcpy(z, b, q * sizeof(REAL));
        NAME(add_rows)(p, q, x, 1, 1, W, q, z);
    }
}

/* G <- P - decay P + scale x^T d      (p,) (q,); P is G itself, or NULL: 0 */
CLONES static void NAME(row_outer)(ptrdiff_t p, ptrdiff_t q, REAL scale, const REAL *x,
                                   const REAL *d, REAL decay, const REAL *P, REAL *G)
{
    ptrdiff_t whole = q / LANES * LANES, last = q - LANES;
    if (!P) {
        for (ptrdiff_t k = 0; k < p; k++)
#pragma omp simd
            for (ptrdiff_t j = 0; j < q; j++)
                G[k * q + j] = scale * x[k] * d[j];
    } else if (q < LANES) {
        for (ptrdiff_t k = 0; k < p; k++)
            for (ptrdiff_t j = 0; j < q; j++)
                G[k * q + j] += scale * x[k] * d[j] - decay * G[k * q + j];
    } else {
        NAME(vector) tail, g, step, d_tail;
        LOAD(d_tail, d + last);
        for (ptrdiff_t k = 0; k < p; k++, G += q) {
            REAL c = scale * x[k];
            LOAD(tail, G + last); /* overlaps what is stored next */
            for (ptrdiff_t j = 0; j < whole; j += LANES) {
                LOAD(g, G + j);
                LOAD(step, d + j);
                g += c * step - decay * g;
                STORE(G + j, g);
            }
            if (whole < q) {
                tail += c * d_tail - decay * tail;
                STORE(G + last, tail);
            }
        }
    }
}

/* `rows` rows and `vectors` vectors of columns of C <- P - decay P + scale op(A) B,
   summed up in registers. op(A) has the strides `row` and `column`; B has rows of `ld`
   elements, C of `ld_C`, P of `ld_P` (0: the same row again); all three start at the
   first column of the block. The last vector of columns starts at `last`. */
ALWAYS_INLINE void NAME(block)(int rows, int vectors, ptrdiff_t last, ptrdiff_t k,
                               REAL scale, const REAL *A, ptrdiff_t row,
                               ptrdiff_t column, const REAL *B, ptrdiff_t ld,
                               REAL decay, const REAL *P, ptrdiff_t ld_P, REAL *C,
                               ptrdiff_t ld_C)
{
    /* Loops that the compiler unrolls late would keep the sums out of the registers. */
#define EACH_ROW(DO) \
    do { \
        DO(0); \
        if (rows > 1) \
            DO(1); \
        if (rows > 2) { \
            DO(2); \
            DO(3); \
        } \
        if (rows > 4) { \
            DO(4); \
            DO(5); \
        } \
    } while (0)
#define EACH_VECTOR(DO, r) \
    do { \
        DO(r, s0, b0, 0); \
        if (vectors > 2) \
            DO(r, s1, b1, LANES); \
        if (vectors > 1) \
            DO(r, s2, b2, last); \
    } while (0)
#define CLEAR(r) s0[r] = s1[r] = s2[r] = (NAME(vector)){0}
#define LOAD_B(r, s, b, offset) LOAD(b, B + offset)
#define ADD_PRODUCT(r, s, b, offset) s[r] += x * b
#define ADD_ROW(r) \
    do { \
        REAL x = A[(r) * row + t * column]; \
        EACH_VECTOR(ADD_PRODUCT, r); \
    } while (0)
#define SCALE(r, s, b, offset) s[r] *= scale
#define SCALE_ROW(r) EACH_VECTOR(SCALE, r)
#define LOAD_P(r, s, b, offset) LOAD(b, P + (r) * ld_P + offset)
#define ADD_P(r, s, b, offset) s[r] = (s[r] - decay * b) + b
#define ADD_P_ROW(r) \
    do { \
        EACH_VECTOR(LOAD_P, r); \
        EACH_VECTOR(ADD_P, r); \
    } while (0)
#define STORE_C(r, s, b, offset) STORE(C + (r) * ld_C + offset, s[r])
#define STORE_ROW(r) EACH_VECTOR(STORE_C, r)
    NAME(vector) s0[6], s1[6], s2[6], b0, b1, b2;
    EACH_ROW(CLEAR);
    for (ptrdiff_t t = 0; t < k; t++, B += ld) {
        EACH_VECTOR(LOAD_B, 0);
        EACH_ROW(ADD_ROW);
    }
    EACH_ROW(SCALE_ROW);
    if (P)
        EACH_ROW(ADD_P_ROW);
    EACH_ROW(STORE_ROW); /* after the loads: the last two vectors may overlap */
#undef EACH_ROW
#undef EACH_VECTOR
#undef CLEAR
#undef LOAD_B
#undef ADD_PRODUCT
#undef ADD_ROW
#undef SCALE
#undef SCALE_ROW
#undef LOAD_P
#undef ADD_P
#undef ADD_P_ROW
#undef STORE_C
#undef STORE_ROW
}

/* The same for all m rows, at most `most` at a time. */
ALWAYS_INLINE void NAME(panel)(int most, int vectors, ptrdiff_t last, ptrdiff_t m,
                               ptrdiff_t k, REAL scale, const REAL *A, ptrdiff_t row,
                               ptrdiff_t column, const REAL *B, ptrdiff_t ld,
                               REAL decay, const REAL *P, ptrdiff_t ld_P, REAL *C,
                               ptrdiff_t ld_C)
{
    ptrdiff_t i = 0;
#define BLOCK(rows) \
    NAME(block)(rows, vectors, last, k, scale, A + i * row, row, column, B, ld, decay, \
                P ? P + i * ld_P : P, ld_P, C + i * ld_C, ld_C)
    for (; i + most <= m; i += most)
        BLOCK(most);
    if (most == 6 && i + 4 <= m) {
        BLOCK(4);
        i += 4;
    }
    if (i + 2 <= m) {
        BLOCK(2);
        i += 2;
    }
    if (i < m)
        BLOCK(1);
#undef BLOCK
}

/* C <- P - decay P + scale op(A) B      (m, k) (k, n)

   op(A) has the strides `row` and `column`; B and C are row-major. P is NULL, C itself,
   or with ld_P = 0 one row for all. For matrices too small to pay for a BLAS call:
   nothing is copied, DEPTH rows of a panel of B stay in the first-level cache. */
#define DEPTH 256
CLONES static void NAME(small_gemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, REAL scale,
                                    const REAL *A, ptrdiff_t row, ptrdiff_t column,
                                    const REAL *B, REAL decay, const REAL *P,
                                    ptrdiff_t ld_P, REAL *C)
{
    REAL padded[DEPTH * LANES], sums[LANES];
    for (ptrdiff_t t = 0; t < k; t += DEPTH, A += DEPTH * column, B += DEPTH * n) {
        ptrdiff_t depth = k - t < DEPTH ? k - t : DEPTH, j = 0;
        if (n < LANES) { /* fill up to one vector: nothing is read past B */
            for (ptrdiff_t u = 0; u < depth; u++)
                for (int l = 0; l < LANES; l++)
                    padded[u * LANES + l] = l < n ? B[u * n + l] : 0;
            for (ptrdiff_t i = 0; i < m; i++) {
                NAME(block)(1, 1, 0, depth, scale, A + i * row, row, column, padded,
                            LANES, 0, NULL, 0, sums, LANES);
                for (ptrdiff_t l = 0; l < n; l++) {
                    REAL c = P ? P[i * ld_P + l] : 0;
                    C[i * n + l] = (sums[l] - decay * c) + c;
                }
            }
            j = n;
        }
        for (; j < n;) {
            ptrdiff_t left = n - j;
            int vectors = left > 3 * LANES || left <= 2 * LANES ? 2 : 3;
#define PANEL(most, vectors, last) \
    NAME(panel)(most, vectors, last, m, depth, scale, A, row, column, B + j, n, decay, \
                P ? P + j : P, ld_P, C + j, n)
            if (left == LANES)
                PANEL(6, 1, 0);
            else if (vectors == 3)
                PANEL(4, 3, left - LANES);
            else if (left < 2 * LANES)
                PANEL(6, 2, left - LANES);
            else
                PANEL(6, 2, LANES);
#undef PANEL
            j += vectors * LANES;
        }
        decay = 0;
        P = C;
        ld_P = n;
    }
}
#undef LANES
#undef LOAD
#undef STORE
#undef DEPTH
#else
ALWAYS_INLINE REAL NAME(dot)(ptrdiff_t n, const REAL *x, const REAL *y)
{
    REAL sum = 0;
#pragma omp simd reduction(+ : sum)
    for (ptrdiff_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void NAME(small_gemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, REAL scale,
                             const REAL *A, ptrdiff_t row, ptrdiff_t column,
                             const REAL *B, REAL decay, const REAL *P, ptrdiff_t ld_P,
                             REAL *C)
{
    for (ptrdiff_t i = 0; i < m; i++, A += row, C += n) {
        for (ptrdiff_t j = 0; j < n; j++)
            C[j] = P ? P[i * ld_P + j] - decay * P[i * ld_P + j] : 0;
        NAME(add_rows)(k, n, A, column, scale, B, n, C);
    }
}

static void NAME(row_affine)(ptrdiff_t p, ptrdiff_t q, const REAL *x, const REAL *W,
                             const REAL *b, REAL *z)
{
    NAME(small_gemm)(1, q, p, 1, x, p, 1, W, 0, b, 0, z);
}

static void NAME(row_outer)(ptrdiff_t p, ptrdiff_t q, REAL scale, const REAL *x,
                            const REAL *d, REAL decay, const REAL *P, REAL *G)
{
    NAME(small_gemm)(p, q, 1, scale, x, 1, p, d, decay, P, q, G);
}
#endif

/* z <- A w + b      (m, p) (p,) + (1,) */
CLONES static void NAME(column_affine)(ptrdiff_t m, ptrdiff_t p, const REAL *A,
                                       const REAL *w, const REAL *b, REAL *z)
{
    for (ptrdiff_t i = 0; i < m; i++)
        z[i] = b[0] + NAME(dot)(p, A + i * p, w);
}

/* g <- P - decay P + scale A^T d      p columns of A (m, ld); P is g itself, or NULL: 0 */
CLONES static void NAME(column_outer)(ptrdiff_t m, ptrdiff_t p, REAL scale,
                                      const REAL *A, ptrdiff_t ld, const REAL *d,
                                      REAL decay, const REAL *P, REAL *g)
{
#pragma omp simd
    for (ptrdiff_t k = 0; k < p; k++)
        g[k] = P ? g[k] - decay * g[k] : 0;
    NAME(add_rows)(m, p, d, 1, scale, A, ld, g);
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

/* z <- b + scale x W for a sparse row x of nnz elements, (d,) (d, q) + (q,) */
CLONES static void NAME(sparse_affine)(ptrdiff_t nnz, ptrdiff_t q, const REAL *x,
                                       const void *indices, int wide, ptrdiff_t start,
                                       REAL scale, const REAL *W, const REAL *b, REAL *z)
{
    ptrdiff_t t = 0;
#define W_ROW(t) (W + integer_at(indices, wide, start + (t)) * q)
    memset(z, 0, q * sizeof(REAL));
    x += start;
    for (; t + 4 <= nnz; t += 4) {
        for (int i = 8; i < 12 && t + i < nnz; i++)
            prefetch(W_ROW(t + i), q * sizeof(REAL));
        NAME(add_four_rows)(q, x[t], x[t + 1], x[t + 2], x[t + 3], W_ROW(t), W_ROW(t + 1),
                            W_ROW(t + 2), W_ROW(t + 3), z);
    }
    for (; t < nnz; t++)
        NAME(add_row)(q, x[t], W_ROW(t), z);
#undef W_ROW
    for (ptrdiff_t j = 0; j < q; j++)
        z[j] = b[j] + scale * z[j];
}

/* G <- G + scale x^T d for a sparse row x, of the rows first ... last - 1 of G (d, q) */
CLONES static void NAME(sparse_outer)(ptrdiff_t nnz, ptrdiff_t q, const REAL *x,
                                      const void *indices, int wide, ptrdiff_t start,
                                      ptrdiff_t first, ptrdiff_t last, REAL scale,
                                      const REAL *d, REAL *G)
{
    for (ptrdiff_t t = 0; t < nnz; t++) {
        ptrdiff_t k = integer_at(indices, wide, start + t);
        if (t + 8 < nnz)
            prefetch(G + integer_at(indices, wide, start + t + 8) * q, q * sizeof(REAL));
        if (first <= k && k < last)
            NAME(add_row)(q, scale * x[start + t], d, G + k * q);
    }
}

/* Loss and delta = dloss/dz of row i, both times its weight, if there are weights. */
ALWAYS_INLINE double NAME(weighted_cross_entropy)(REAL z, ptrdiff_t i, const int *Y,
                                                  const REAL *weights, REAL *delta)
{
    double loss = NAME(unit_cross_entropy)(z, Y[i], delta);
    if (!weights)
        return loss;
    if (weights[i] == 0) /* a product with 0 would keep a NaN */
        return *delta = 0;
    *delta *= weights[i];
    return loss * weights[i];
}

/* Gradient descent of a single sigmoid unit, one row after the other:

       z = x w + b,  delta = w_i (sigma(z) - y)
       w <- w - decay w - eta delta x,  b <- b - eta delta

   theta = [w, b]; the rows are order[start] ... order[start + n - 1], or without order
   the numbers start ... start + n - 1. Adds the losses, each taken before the step, to
   total; returns the number of steps made: fewer than n if a loss was not finite. */
CLONES static ptrdiff_t NAME(descend_rows)(ptrdiff_t n, ptrdiff_t d, const REAL *X,
                                           const int *Y, const REAL *weights,
                                           const ptrdiff_t *order, ptrdiff_t start,
                                           REAL eta, REAL decay, REAL *theta,
                                           double *total)
{
    REAL b = theta[d];
    ptrdiff_t i = start;
    for (; i < start + n; i++) {
        ptrdiff_t row = order ? order[i] : i;
        const REAL *x = X + row * d;
        REAL delta, step;
        double loss;
        if (order && i + 4 < start + n)
            prefetch(X + order[i + 4] * d, d * sizeof(REAL));
        loss = NAME(weighted_cross_entropy)(b + NAME(dot)(d, x, theta), row, Y, weights,
                                            &delta);
        *total += loss;
        if (!isfinite(loss))
            break;
        step = -eta * delta;
#pragma omp simd
        for (ptrdiff_t k = 0; k < d; k++)
            theta[k] += step * x[k] - decay * theta[k];
        b += step;
    }
    theta[d] = b;
    return i - start;
}

/* `descend_rows` for sparse rows, with theta = [w / s, b]: decay changes s alone, and a
   step the elements of w that x has. s is given and returned in `scale`. */
CLONES static ptrdiff_t NAME(descend_sparse_rows)(
    ptrdiff_t n, ptrdiff_t d, const REAL *X, const void *indices, int wide,
    const void *indptr, int wide_indptr, const int *Y, const REAL *weights,
    const ptrdiff_t *order, ptrdiff_t start, REAL eta, double decay, REAL *theta,
    double *scale, double *total)
{
    double s = *scale;
    REAL b = theta[d];
    ptrdiff_t i = start;
    for (; i < start + n; i++) {
        ptrdiff_t row = order ? order[i] : i;
        ptrdiff_t first = integer_at(indptr, wide_indptr, row);
        ptrdiff_t last = integer_at(indptr, wide_indptr, row + 1);
        ptrdiff_t t = first;
        REAL z = 0, z1 = 0, z2 = 0, z3 = 0, delta, step;
        double loss;
        if (i + 4 < start + n) {
            ptrdiff_t ahead = order ? order[i + 4] : i + 4;
            ptrdiff_t nnz = integer_at(indptr, wide_indptr, ahead + 1);
            ahead = integer_at(indptr, wide_indptr, ahead);
            nnz -= ahead;
            prefetch(X + ahead, nnz * sizeof(REAL));
            prefetch((const char *)indices + ahead * (wide ? 8 : 4), nnz * (wide ? 8 : 4));
        }
        for (; t + 4 <= last; t += 4) { /* four sums: none waits for the one before */
            z += X[t] * theta[integer_at(indices, wide, t)];
            z1 += X[t + 1] * theta[integer_at(indices, wide, t + 1)];
            z2 += X[t + 2] * theta[integer_at(indices, wide, t + 2)];
            z3 += X[t + 3] * theta[integer_at(indices, wide, t + 3)];
        }
        for (; t < last; t++)
            z += X[t] * theta[integer_at(indices, wide, t)];
        z = (z + z1) + (z2 + z3);
        loss = NAME(weighted_cross_entropy)(b + (REAL)s * z, row, Y, weights, &delta);
        *total += loss;
        if (!isfinite(loss))
            break;
        s *= 1 - decay;
        if (!(fabs(s) > SMALLEST_SCALE && fabs(s) < 1 / SMALLEST_SCALE)) {
            for (ptrdiff_t k = 0; k < d; k++)
                theta[k] *= (REAL)s;
            s = 1;
        }
        step = (REAL)(-eta * delta / s);
        for (t = first; t < last; t++)
            theta[integer_at(indices, wide, t)] += step * X[t];
        b -= eta * delta;
    }
    theta[d] = b;
    *scale = s;
    return i - start;
}

/* T <- W^T      (p, q) to (q, p) */
static void NAME(transpose)(ptrdiff_t p, ptrdiff_t q, const REAL *W, REAL *T)
{
    for (ptrdiff_t k = 0; k < p; k++)
        for (ptrdiff_t j = 0; j < q; j++)
            T[j * p + k] = W[k * q + j];
}

/* g <- P + scale sum_i D_i      over the m rows of D; P is g itself, or NULL: 0 */
CLONES static void NAME(sum_rows)(ptrdiff_t m, ptrdiff_t q, REAL scale, const REAL *D,
                                  const REAL *P, REAL *g)
{
    REAL one = 1;
    if (!P)
        memset(g, 0, q * sizeof(REAL));
    NAME(add_rows)(m, q, &one, 0, scale, D, q, g);
}

#endif
