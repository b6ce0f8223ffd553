# cython: language_level=3
"""The kernels, as the chosen instruction set hands them out; see `kernels.hpp`."""

cdef extern from "barrier.h" namespace "skbgd" nogil:
    cdef cppclass Barrier:
        int n_threads
        bint wait()
        void stop()
        bint is_stopped()
        Py_ssize_t claim(Py_ssize_t step)
    cdef cppclass TeamState:
        Barrier *barrier
        double *sums

cdef extern from "kernels.hpp" namespace "skbgd" nogil:
    enum Activation:
        LOGISTIC
        TANH
        RELU
        IDENTITY
        SOFTMAX
    enum:
        PANEL
    double SMALLEST_SCALE
    cdef cppclass Matrix[real]:
        const real *at
        Py_ssize_t row
        Py_ssize_t column
    cdef cppclass Product[real]:
        Py_ssize_t m, n, k
        Matrix[real] A, B
        real scale, decay
        const real *P
        Py_ssize_t ld_P
        real *C
        Py_ssize_t ld_C
        real *panel
    cdef cppclass Data[real]:
        Py_ssize_t n, d
        bint sparse, wide_indices, wide_indptr
        const real *X
        const void *indices
        const void *indptr
        const int *Y
        Py_ssize_t n_targets
        const real *weights
        const Py_ssize_t *order
    cdef cppclass UpdateRule:
        double eta, alpha, momentum, beta_1, beta_2, epsilon, max_gradient_norm
        bint adam, nesterov
    cdef cppclass Slice[real]:
        Py_ssize_t n
        real *theta
        real *gradient
        real *velocity
        real *second_moment
    cdef cppclass Kernels[real]:
        void activate(Activation f, real *Z, Py_ssize_t n)
        void times_derivative(Activation f, const real *A, real *D, Py_ssize_t n)
        void sigmoid_cross_entropy(real *Z, const real *Y, real *loss, Py_ssize_t n)
        void softmax(Py_ssize_t m, Py_ssize_t K, real *Z, const int *codes, real *loss)
        double sum(const real *x, Py_ssize_t n)
        bint all_finite(const real *x, Py_ssize_t n)
        void scale(real *x, Py_ssize_t n, real factor)
        void add_scaled(real *g, const real *theta, Py_ssize_t n, real alpha)
        double sum_of_squares(const real *x, Py_ssize_t n)
        void multiply(const Product[real] &product)
        void gather(
            const Data[real] &data, Py_ssize_t start, Py_ssize_t n, real *rows)
        void targets(
            const Data[real] &data, Py_ssize_t start, Py_ssize_t n, Py_ssize_t K,
            bint codes, real *Y, real *weights)
        void sparse_affine(
            const Data[real] &data, Py_ssize_t start, real scale,
            const Product[real] &product)
        void add_sparse_product(
            const Data[real] &data, Py_ssize_t start, Py_ssize_t first, Py_ssize_t last,
            const Product[real] &product)
        void update(
            const UpdateRule &rule, double eta, double alpha, const Slice[real] &slice)
        Py_ssize_t descend_rows(
            const Data[real] &data, Py_ssize_t start, Py_ssize_t n,
            const UpdateRule &rule, real *theta, double *scale, double *total)
    cdef cppclass InstructionSet:
        const char *name
    const InstructionSet *baseline_set()
    const InstructionSet *avx2_set()
    const InstructionSet *avx512_set()
    void choose[real](const InstructionSet *set, const Kernels[real] **kernels)
    cdef cppclass Layer:
        Py_ssize_t p, q, W, b, A, D
    cdef cppclass Pass[real]:
        const Kernels[real] *kernels
        const Layer *layers
        Py_ssize_t n_layers, d, K, Y, loss, weight, X
        Activation hidden, output
        real *theta
        real *gradient
        real *velocity
        real *second_moment
        double W_scale
        Data[real] data
        real *scratch
        real *panel
        Py_ssize_t tile, stride
        TeamState *team
        int thread
        double work, work_per_row
        unsigned long long mode
    unsigned long long flush_denormals()
    void restore_mode(unsigned long long mode)
