/* What every instruction set hands out: one table of functions for each type of number.
 *
 * The kernels are templates in `simd.hpp`, `elementwise.hpp`, `products.hpp`, `sparse.hpp`
 * and `update.hpp`. Each of `baseline.cpp`, `avx2.cpp` and `avx512.cpp` compiles all of
 * them, in a namespace of its own, for its width of vectors. `use` chooses a table when
 * the package is imported; nothing is compiled for the building machine alone.
 *
 * All headers of the system are included here, before a unit changes the target: an inline
 * function of theirs must not be compiled for a processor that may not be there.
 */
#ifndef SKBGD_KERNELS_HPP
#define SKBGD_KERNELS_HPP
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "barrier.h"

#if defined(__GNUC__) && defined(__x86_64__)
#define SKBGD_X86 1 /* gcc or clang, which compile single functions for more than baseline */
#include <immintrin.h>
#elif defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace skbgd {

enum Activation { LOGISTIC, TANH, RELU, IDENTITY, SOFTMAX };

/* Element (i, j) is at[i row + j column]. */
template <class real> struct Matrix {
    const real *at;
    ptrdiff_t row, column;
};

/* C = P - decay P + scale A B, with A (m, k), B (k, n) and C (m, n), whose rows are
   contiguous and `ld_C` apart. P is NULL (0), C itself, or with ld_P = 0 one row for all.
   `decay` is kept apart from 1 - decay, which float32 may round to 1. */
template <class real> struct Product {
    ptrdiff_t m, n, k;
    Matrix<real> A, B;
    real scale, decay;
    const real *P;
    ptrdiff_t ld_P;
    real *C;
    ptrdiff_t ld_C;
    real *panel; /* scratch memory of PANEL elements, aligned to 64 bytes */
};
enum { PANEL = 1 << 13 };

/* Rows to learn from: dense X (n, d), or in compressed sparse row format (CSR), where row
   i has the elements indptr[i] ... indptr[i + 1] - 1 of X and of `indices`. Both kinds of
   integers have 32 bits or (wide) 64. */
template <class real> struct Data {
    ptrdiff_t n, d;
    bool sparse, wide_indices, wide_indptr;
    const real *X;
    const void *indices, *indptr;
    const int *Y; /* (n, n_targets) class codes or 0/1 indicators, or NULL */
    ptrdiff_t n_targets;
    const real *weights;    /* (n,), or NULL: all 1 */
    const ptrdiff_t *order; /* (n,) row numbers, or NULL: as they come */
};

/* The parameters of a step. */
struct UpdateRule {
    double eta, alpha, momentum, beta_1, beta_2, epsilon;
    double max_gradient_norm; /* 0: no limit */
    bool adam, nesterov;
};

/* n parameters with what belongs to them; NULL where there is none. */
template <class real> struct Slice {
    ptrdiff_t n;
    real *theta, *gradient, *velocity, *second_moment;
};

/* Weights that are kept as a multiple, scale * W, are scaled when it leaves this range. */
const double SMALLEST_SCALE = 1e-3;

/* The functions, described where they are defined. */
template <class real> struct Kernels {
    void (*activate)(Activation f, real *Z, ptrdiff_t n);
    void (*times_derivative)(Activation f, const real *A, real *D, ptrdiff_t n);
    void (*sigmoid_cross_entropy)(real *Z, const real *Y, real *loss, ptrdiff_t n);
    void (*softmax)(ptrdiff_t m, ptrdiff_t K, real *Z, const int *codes, real *loss);
    double (*sum)(const real *x, ptrdiff_t n);
    bool (*all_finite)(const real *x, ptrdiff_t n);
    void (*scale)(real *x, ptrdiff_t n, real factor);
    void (*add_scaled)(real *g, const real *theta, ptrdiff_t n, real alpha);
    double (*sum_of_squares)(const real *x, ptrdiff_t n);
    void (*multiply)(const Product<real> &product);
    void (*gather)(const Data<real> &data, ptrdiff_t start, ptrdiff_t n, real *rows);
    void (*targets)(const Data<real> &data, ptrdiff_t start, ptrdiff_t n, ptrdiff_t K,
                    bool codes, real *Y, real *weights);
    void (*sparse_affine)(const Data<real> &data, ptrdiff_t start, real scale,
                          const Product<real> &product);
    void (*add_sparse_product)(const Data<real> &data, ptrdiff_t start, ptrdiff_t first,
                               ptrdiff_t last, const Product<real> &product);
    void (*update)(const UpdateRule &rule, double eta, double alpha,
                   const Slice<real> &slice);
    ptrdiff_t (*descend_rows)(const Data<real> &data, ptrdiff_t start, ptrdiff_t n,
                              const UpdateRule &rule, real *theta, double *scale,
                              double *total);
};

struct InstructionSet {
    const char *name;
    Kernels<float> f32;
    Kernels<double> f64;
};

/* NULL where the compiler or the processor does not have it. */
const InstructionSet *baseline_set();
const InstructionSet *avx2_set();
const InstructionSet *avx512_set();

template <class real> void choose(const InstructionSet *set, const Kernels<real> **kernels);
template <> inline void choose(const InstructionSet *set, const Kernels<float> **kernels)
{
    *kernels = &set->f32;
}
template <> inline void choose(const InstructionSet *set, const Kernels<double> **kernels)
{
    *kernels = &set->f64;
}

struct Layer {
    ptrdiff_t p, q; /* units in and out */
    ptrdiff_t W, b; /* places in theta */
    ptrdiff_t A, D; /* places in scratch memory, times the rows of a tile */
};

/* What every function of a pass over rows needs: pointers that hold during one call. */
template <class real> struct Pass {
    const Kernels<real> *kernels;
    const Layer *layers;
    ptrdiff_t n_layers, d, K;
    ptrdiff_t Y, loss, weight, X; /* places in scratch memory, like those of a layer */
    Activation hidden, output;
    real *theta, *gradient, *velocity, *second_moment;
    double W_scale; /* s, if theta holds W_1 / s */
    Data<real> data;
    real *scratch, *panel;
    ptrdiff_t tile, stride;
    TeamState *team;
    int thread;
    double work, work_per_row; /* multiplications, as a clock that is free to read */
    uint64_t mode;             /* of the processor, to go back to */
};

/* Numbers below the smallest normal one cost a hundred times as much as others, and no sum
   here needs them: within the core's calls they are 0. Returns the mode to go back to. */
#if defined(__x86_64__) || defined(_M_X64)
inline uint64_t flush_denormals()
{
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* results (FTZ) and operands (DAZ) */
    return mode;
}
inline void restore_mode(uint64_t mode) { _mm_setcsr((unsigned)mode); }
#elif defined(__aarch64__) && defined(__GNUC__)
inline uint64_t flush_denormals()
{
    uint64_t mode;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(mode));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(mode | (1 << 24)));
    return mode;
}
inline void restore_mode(uint64_t mode)
{
    __asm__ __volatile__("msr fpcr, %0" : : "r"(mode));
}
#else
inline uint64_t flush_denormals() { return 0; }
inline void restore_mode(uint64_t) {}
#endif

} // namespace skbgd
#endif
