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
 *     entry_points-inl.hpp  the other functions that the bindings call
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
#include <memory>
#include <vector>

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

/* The layers, and the offsets of everything in scratch memory. For each row of a tile this
   stores A_1, D_1, ... A_{L-1}, D_{L-1}, Z_L (which D_L overwrites), its targets (one-hot),
   the losses of its output units, its weight and, if rows are gathered, the row. */
struct Network {
    std::vector<Layer> layers;
    ptrdiff_t n_layers = 0, K = 0, n_parameters = 0;
    ptrdiff_t Y_offset = 0, loss_offset = 0, weight_offset = 0, X_offset = 0;
    Activation hidden = IDENTITY, output = IDENTITY;

    void add_layer(ptrdiff_t fan_in, ptrdiff_t fan_out)
    {
        const ptrdiff_t W = n_parameters, b = W + fan_in * fan_out;
        ptrdiff_t end = Y_offset;
        if (n_layers > 0) { /* the layer before is a hidden one */
            layers.back().D = end;
            end += fan_in;
        }
        layers.push_back({W, b, fan_in, fan_out, end, end});
        n_layers++;
        K = fan_out;
        n_parameters = b + K;
        Y_offset = end + K;
        loss_offset = Y_offset + K;
        weight_offset = loss_offset + K;
        X_offset = weight_offset + 1;
    }
};

/* What a core computes with: checked addresses, which outlive the core. The bindings fill
   in a Call<void>, with nullptr for missing arguments. */
template <class real> struct Call : Network {
    real *theta, *velocity, *second_moment;
    Data<real> data;
    ptrdiff_t tile;         /* rows of a tile */
    bool own_gradients;     /* whether each thread sums a gradient of its own */
    int (*check_signals)(); /* whether Python asks the call to end */
};

/* A network bound to rows, scratch memory and a thread pool. One call at a time. `Engine`
   implements it for an instruction set and a type of numbers, that of all void pointers. */
class Core {
  public:
    std::unique_ptr<ThreadPool> pool;

    explicit Core(int n_threads) : pool(new ThreadPool(n_threads)) {}
    virtual ~Core() {}

    /* sum_i w_i l_i over all rows; its gradient is written to `gradient`, if any. */
    virtual double loss_gradient(void *gradient) = 0;

    /* One step for each batch of rows in the order. Adds the loss of each row, computed
       before its step, to *loss_sum, and the number of processed rows to *n_done. The first
       batch with a loss that is not finite ends the call, without its step. */
    virtual void epoch(const UpdateRule &rule, long long n_steps, ptrdiff_t batch_size,
                       double *loss_sum, ptrdiff_t *n_done) = 0;

    /* One step along the gradient of the mean loss, which is overwritten. */
    virtual void step(const UpdateRule &rule, long long n_steps, void *gradient) = 0;

    /* Z_L of each row, into Z (n, K). Returns false if `check_finite` found a NaN or an
       infinity in dense X. */
    virtual bool outputs(bool check_finite, void *Z) = 0;
};

/* The functions of an instruction set for a type of numbers. */
class Kernels {
  public:
    virtual std::unique_ptr<Core> make_core(const Call<void> &call,
                                            int n_threads) const = 0;
    virtual void squared_row_norms(const Data<void> &data, double *norms) const = 0;
    virtual double column_moments(const Data<void> &data, ptrdiff_t start, ptrdiff_t n,
                                  double *moments) const = 0;
    virtual void squared_weight_norms(const Network &network, const void *theta,
                                      double *norms) const = 0;
    virtual void activation(Activation f, ptrdiff_t m, ptrdiff_t units, void *Z) const = 0;
    virtual void product(const Product<void> &product) const = 0; /* for the tests */

  protected:
    ~Kernels() = default; /* there are only static objects */
};

struct InstructionSet {
    const char *name;
    const Kernels &f32, &f64;
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
