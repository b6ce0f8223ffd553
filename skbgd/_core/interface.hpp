/* What the Python side hands to the core, and the entry points of each instruction set.
 *
 * The core is a set of templates, for float and double: `simd-inl.hpp`, `elementwise-inl.hpp`,
 * `gemm-inl.hpp` and `data-inl.hpp` have the kernels, `network-inl.hpp` the passes through the
 * network and `engine-inl.hpp` the steps and the entry points. Each of `baseline.cpp`, `avx2.cpp` and
 * `avx512.cpp` compiles all of them, in a namespace of its own, for its width of vectors.
 * One is chosen when the package is imported; nothing is compiled for the building machine
 * alone.
 *
 * All headers of the system are included here and in `thread_pool.hpp`, before a unit changes the target: an inline
 * function of theirs must not be compiled for a processor that may not be there.
 */
#ifndef SKBGD_INTERFACE_HPP
#define SKBGD_INTERFACE_HPP
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

/* Excess precision, as on the x87, breaks the functions that round by adding a constant.
   16 means _Float16, which is not used, and is exact for the others. */
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "The compiled core needs float and double arithmetic without excess precision."
#endif

/* Types of vectors with operators, and functions that are always inlined. */
#if defined(__GNUC__) || defined(__clang__)
#define SKBGD_VECTORS 1
#endif

/* gcc and clang can compile single functions for other instruction sets than the rest of
   the program. Not gcc on Windows, which stores vectors of 32 bytes at addresses that are
   multiples of 32 but does not align the stack so (gcc's bug 54412). */
#if defined(SKBGD_VECTORS) && defined(__x86_64__) && (defined(__clang__) || !defined(_WIN32))
#define SKBGD_X86 1
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

#include "thread_pool.hpp"

namespace skbgd {

enum Activation { LOGISTIC, TANH, RELU, IDENTITY, SOFTMAX };

/* Element (i, j) is data[i * row_stride + j * column_stride]. */
template <class real> struct Matrix {
    const real *data;
    ptrdiff_t row_stride, column_stride;
};

/* C = P - decay P + scale A B, with A (m, k), B (k, n) and C (m, n), whose rows are
   contiguous and `ld_C` apart. P is NULL (0), C itself, or with ld_P = 0 one row for all.
   `decay` is kept apart from 1 - decay, which float32 may round to 1. */
template <class real> struct Product {
    ptrdiff_t m, n, k;
    Matrix<real> A, B;
    double scale, decay;
    const real *P;
    ptrdiff_t ld_P;
    real *C;
    ptrdiff_t ld_C;
    real *panel; /* scratch memory, see `ThreadPool::panel` */
};

/* Rows to learn from: dense X (n, d), or in compressed sparse row format (CSR), where row
   i has the elements indptr[i] ... indptr[i + 1] - 1 of X and of `indices`. Both kinds of
   integers have 32 bits or (wide) 64.

   With `standardizer` the network sees ((x - high) - low) * inverse instead of x. `high` and
   `low` carry the shift of each feature: one number would lose digits of a large one. */
template <class real> struct Data {
    ptrdiff_t n, d;
    bool sparse, wide_indices, wide_indptr;
    const real *X;
    const void *indices, *indptr;
    const int *Y; /* (n, n_targets) class labels or 0/1 indicators, or NULL */
    ptrdiff_t n_targets;
    const real *weights;    /* (n,), or NULL: all 1 */
    const ptrdiff_t *order; /* (n,) row numbers, or NULL: as they come */
    const real *standardizer;   /* (3, d) high, low and inverse, or NULL: rows as they are */

    /* Whether tiles hold dense rows. Standardised rows are always dense. */
    bool dense() const { return !sparse || standardizer; }
};

/* The parameters of a step. */
struct UpdateRule {
    double eta, alpha, momentum, beta_1, beta_2, epsilon;
    double max_gradient_norm; /* 0: no limit */
    bool adam, nesterov;
};

struct Layer {
    ptrdiff_t W, b; /* offsets in theta */
    ptrdiff_t fan_in, fan_out; /* units in and out */
    ptrdiff_t A, D; /* offsets in scratch memory, times the rows of a tile */
};

/* A call of the core: checked addresses that hold until it returns. Python fills in a
   Call<void>, NULL or 0 where it has nothing; inside, the type of its numbers is known. */
template <class real> struct Call {
    const Layer *layers;
    ptrdiff_t n_layers, K, n_parameters;
    ptrdiff_t Y_offset, loss_offset, weight_offset, X_offset; /* offsets in scratch memory, like those of a layer */
    Activation hidden, output;
    real *theta, *gradient, *velocity, *second_moment;
    Data<real> data;
    real *scratch;                /* scratch memory, (n_threads, scratch_size) */
    ptrdiff_t scratch_size, stride, tile; /* rows that it is laid out for, and takes at a time */
    ptrdiff_t gradient_offset;     /* of a thread's own gradient in its memory; 0: none */
    ThreadPool *pool;
    int (*check_signals)(); /* whether Python wants the call to end */
};

/* A struct of pointers to numbers whose type is known now. */
template <class Typed, class Given> Typed typed(const Given &given)
{
    Typed result;
    static_assert(sizeof result == sizeof given, "pointers of different sizes");
    memcpy((void *)&result, &given, sizeof result);
    return result;
}

/* The functions, described where they are defined; the last two are for the tests. */
struct EntryPoints {
    double (*loss_gradient)(const Call<void> &call);
    void (*run_batches)(const Call<void> &call, const UpdateRule &rule, long long n_steps,
                        ptrdiff_t batch_size, double *loss_sum, ptrdiff_t *n_done);
    void (*apply_gradient)(const Call<void> &call, const UpdateRule &rule,
                           long long n_steps);
    bool (*outputs)(const Call<void> &call, bool activated, bool check_finite, void *out);
    void (*squared_row_norms)(const Call<void> &call, double *norms);
    double (*column_moments)(const Call<void> &call, ptrdiff_t start, ptrdiff_t n,
                             double *moments);
    void (*squared_weight_norms)(const Call<void> &call, double *norms);
    void (*apply_activation)(Activation f, void *Z, ptrdiff_t n);
    void (*compute_product)(const Product<void> &product);
};

struct InstructionSet {
    const char *name;
    EntryPoints f32, f64;
};

#ifdef SKBGD_X86
/* Whether the processor has all of `features`, bits of EBX of CPUID's leaf 7, and FMA, and
   the system saves all of `registers`, bits of XCR0. __builtin_cpu_supports would need a
   library that clang does not link everywhere. */
inline bool processor_has(unsigned features, unsigned registers)
{
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27 };
    unsigned eax, ebx, ecx, edx, saved, high;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & FMA) || !(ecx & OSXSAVE))
        return false;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    return (saved & registers) == registers && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)
           && (ebx & features) == features;
}
#endif

/* NULL where the compiler or the processor does not have it. */
const InstructionSet *baseline_instruction_set();
const InstructionSet *avx2_instruction_set();
const InstructionSet *avx512_instruction_set();

} // namespace skbgd
#endif
