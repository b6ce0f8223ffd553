/* Interface between the Python bindings (`_backprop.pyx`) and the compiled core.
 *
 * The core is a set of templates over float and double. Each header builds on those above:
 *
 *     simd-inl.hpp          vectors and masks: load, store, sum
 *     elementwise-inl.hpp   activation functions, losses, sums over contiguous memory
 *     gemm-inl.hpp          dense matrix products
 *     data-inl.hpp          rows of the data: gathered, standardized, sparse products
 *     update-inl.hpp        update rules; SGD on a single sigmoid unit
 *     network-inl.hpp       forward and backward pass of a tile of rows
 *     engine-inl.hpp        batches, steps and predictions in a thread pool
 *     entry_points-inl.hpp  the functions that the bindings call
 *
 * `baseline.cpp`, `avx2.cpp` and `avx512.cpp` compile all of these, each for one
 * instruction set and in a namespace of its own. The widest instruction set that the
 * processor supports is selected when the package is imported. Nothing depends on the
 * processor of the build machine.
 */
#ifndef SKBGD_INTERFACE_HPP
#define SKBGD_INTERFACE_HPP
#include <cfloat>
#include <cstddef>

#include "thread_pool.hpp"

/* The functions that round by adding a constant are wrong with excess precision, as on the
   x87. Method 16 concerns _Float16 alone. */
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "The compiled core needs arithmetic without excess precision."
#endif

/* gcc and clang, also as clang-cl, have vector types with operators. */
#if defined(__GNUC__) || defined(__clang__)
#define SKBGD_VECTORS 1
#endif

/* They can compile functions for instruction set extensions. On Windows gcc cannot: it does
   not align vectors of 32 bytes on the stack, but expects that they are (its bug 54412). */
#if defined(SKBGD_VECTORS) && defined(__x86_64__) \
    && (defined(__clang__) || !defined(_WIN32))
#define SKBGD_X86 1
#include <cpuid.h>
#endif

namespace skbgd {

using std::ptrdiff_t;

enum Activation { LOGISTIC, TANH, RELU, IDENTITY, SOFTMAX };

/* Element (i, j) is data[i * row_stride + j * column_stride]. */
template <class real> struct Matrix {
    const real *data;
    ptrdiff_t row_stride, column_stride;
};

/* The matrix product C = P - decay P + scale A B with A (m, k), B (k, n) and C (m, n).

   The rows of C are contiguous, `ld_C` elements apart; those of P `ld_P` elements. P is
   nullptr for 0, or C itself, or with ld_P = 0 one row for all rows of C. `decay` is not
   merged into a factor 1 - decay of P: float32 would round that to 1 if decay is small. */
template <class real> struct Product {
    ptrdiff_t m, n, k;
    Matrix<real> A, B;
    double scale, decay;
    const real *P;
    ptrdiff_t ld_P;
    real *C;
    ptrdiff_t ld_C;
    real *panel; /* scratch memory of PANEL_SIZE elements */
};

/* Training or prediction data. X is dense, (n, d), or in compressed sparse row format
   (CSR): row i has the elements indptr[i] ... indptr[i + 1] - 1 of X and `indices`.
   Integers have 32 bits, or 64 if they are `wide`.

   With a `standardizer` the network reads ((x - high) - low) * inverse instead of x. The
   shift of a feature is high + low: a single number would lose digits of a large shift. */
template <class real> struct Data {
    ptrdiff_t n, d;
    bool sparse, wide_indices, wide_indptr;
    const real *X;
    const void *indices, *indptr;
    const int *Y; /* (n, n_targets) encoded labels, or nullptr */
    ptrdiff_t n_targets;
    const real *weights;      /* (n,), or nullptr for weights of 1 */
    const ptrdiff_t *order;   /* (n,) row numbers, or nullptr for 0 ... n - 1 */
    const real *standardizer; /* (3, d) high, low and inverse, or nullptr */

    /* Whether the network reads dense rows. Standardized rows are always dense. */
    bool dense() const { return !sparse || standardizer; }
};

/* The parameters of a step. */
struct UpdateRule {
    double eta, alpha, momentum, beta_1, beta_2, epsilon;
    double max_gradient_norm; /* 0: no limit */
    bool adam, nesterov;
};

/* Offsets in scratch memory count elements per row of a tile: see `Tile::scratch_at`. */
struct Layer {
    ptrdiff_t W, b; /* offsets in theta */
    ptrdiff_t fan_in, fan_out;
    ptrdiff_t A, D; /* offsets in scratch memory */
};

/* The arguments of a call of the core: checked addresses that are valid until it returns.
   Python fills in a Call<void>, with nullptr or 0 for missing arguments; the entry points
   cast it to Call<float> or Call<double>. */
template <class real> struct Call {
    const Layer *layers;
    ptrdiff_t n_layers, K, n_parameters;
    ptrdiff_t Y_offset, loss_offset, weight_offset, X_offset; /* in scratch memory */
    Activation hidden, output;
    real *theta, *gradient, *velocity, *second_moment;
    Data<real> data;
    real *scratch;             /* (n_threads, scratch_size) */
    ptrdiff_t scratch_size;    /* of one thread */
    ptrdiff_t tile;            /* rows of a tile */
    ptrdiff_t stride;          /* the same, rounded up; offsets are multiplied by it */
    ptrdiff_t gradient_offset; /* of a thread's gradient in its memory; 0: it has none */
    ThreadPool *pool;
    int (*check_signals)(); /* whether Python asks the call to end */
};

/* The functions that the bindings call; `entry_points-inl.hpp` describes them. */
struct EntryPoints {
    double (*loss_gradient)(const Call<void> &call);
    void (*run_batches)(const Call<void> &call, const UpdateRule &rule, long long n_steps,
                        ptrdiff_t batch_size, double *loss_sum, ptrdiff_t *n_done);
    void (*apply_gradient)(const Call<void> &call, const UpdateRule &rule,
                           long long n_steps);
    bool (*outputs)(const Call<void> &call, bool check_finite, void *Z);
    void (*squared_row_norms)(const Call<void> &call, double *norms);
    double (*column_moments)(const Call<void> &call, ptrdiff_t start, ptrdiff_t n,
                             double *moments);
    void (*squared_weight_norms)(const Call<void> &call, double *norms);
    void (*apply_activation)(Activation f, ptrdiff_t m, ptrdiff_t units, void *Z);
    /* For the tests: */
    void (*compute_product)(const Product<void> &product);
};

struct InstructionSet {
    const char *name;
    EntryPoints f32, f64;
};

#ifdef SKBGD_X86
/* Whether the processor has FMA and all `features`, bits of EBX in leaf 7 of CPUID, and the
   system saves all `registers`, bits of XCR0. __builtin_cpu_supports would need a library
   that clang does not link on every system. */
inline bool processor_has(unsigned features, unsigned registers)
{
    constexpr unsigned FMA = 1u << 12, OSXSAVE = 1u << 27;
    unsigned eax, ebx, ecx, edx, saved, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & FMA) || !(ecx & OSXSAVE))
        return false;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    return (saved & registers) == registers
           && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)
           && (ebx & features) == features;
}
#endif

/* nullptr if the compiler or the processor does not support the instruction set. */
const InstructionSet *baseline_instruction_set();
const InstructionSet *avx2_instruction_set();
const InstructionSet *avx512_instruction_set();

} // namespace skbgd
#endif
