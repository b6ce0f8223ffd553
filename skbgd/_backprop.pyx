# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""Forward pass, cross-entropy, back-propagation and gradient descent, compiled.

Conventions
-----------
n rows in the data, m in the batch at hand; L weight layers with units[0] = d features,
units[L] = K outputs. Everything is row-major, samples in rows.

    theta    [W_1, b_1, ..., W_L, b_L], W_l (units[l-1], units[l]), b_l (units[l],)
    A_0      the rows of X, (m, d)
    Z_l      A_{l-1} W_l + b_l, the pre-activations, (m, units[l])
    A_l      f(Z_l) in the hidden layers; the output layer keeps Z_L
    D_l      dJ/dZ_l, (m, units[l]); at the output, for both losses, w_i (a_i - y_i)
    Y        class codes, (n, 1), or 0/1 indicators, (n, K); for K = 1 these coincide

The loss of a row is the cross-entropy summed over the output units, times its weight.
It is computed from Z_L, never from log(A_L).

`work` is scratch memory of `tile * row_work_size(units)` elements, owned by the caller
so that it is allocated once. Rows are taken at most `tile` at a time: however large the
batch, what is read and written between two passes over the weights stays in the cache.

Sparse rows (CSR) are never densified: a step reads and writes the rows of W_1 that they
name. Then theta holds W_1 / s for the time of a call of `run_batches`, and decay changes
the number s alone.

A crew of threads may run `loss_gradient` and `run_batches` together: all call it with the
same arguments, but each with its own rank. Each takes its share of the rows of a tile
through the network and back; when all have done so, each adds its share of the rows of
every W_l to the gradient, from all rows of the tile. No sum is split between threads.

The functions here trust their arguments; `_descent` and `_network` are their callers.
They release the GIL and keep no state.
"""
from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from libc.math cimport NAN, fabs, isfinite, log1p, sqrt
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from ._blas cimport gemm


cdef extern from "_barrier.h" nogil:
    ctypedef struct Barrier:
        int n_threads
    enum:
        _BARRIER_WORKS "BARRIER_WORKS"
    bint barrier_wait(Barrier *barrier)
    void barrier_stop(Barrier *barrier)

cdef extern from "_kernels.h" nogil:
    double SMALLEST_SCALE
    void prefetch(const void *row, Py_ssize_t n_bytes)
    Py_ssize_t integer_at(const void *integers, bint wide, Py_ssize_t i)
    void logistic_f32(float *A, Py_ssize_t n)
    void logistic_f64(double *A, Py_ssize_t n)
    void hyperbolic_f32(float *A, Py_ssize_t n)
    void hyperbolic_f64(double *A, Py_ssize_t n)
    void rectified_f32(float *A, Py_ssize_t n)
    void rectified_f64(double *A, Py_ssize_t n)
    void logistic_backward_f32(const float *A, float *D, Py_ssize_t n)
    void logistic_backward_f64(const double *A, double *D, Py_ssize_t n)
    void hyperbolic_backward_f32(const float *A, float *D, Py_ssize_t n)
    void hyperbolic_backward_f64(const double *A, double *D, Py_ssize_t n)
    void rectified_backward_f32(const float *A, float *D, Py_ssize_t n)
    void rectified_backward_f64(const double *A, double *D, Py_ssize_t n)
    void cross_entropy_f32(float *Z, const float *Y, float *loss, Py_ssize_t n)
    void cross_entropy_f64(double *Z, const double *Y, double *loss, Py_ssize_t n)
    void exponential_f32(float *A, Py_ssize_t n)
    void exponential_f64(double *A, Py_ssize_t n)
    void sgd_step_f32(float *theta, const float *g, Py_ssize_t n, float eta, float alpha)
    void sgd_step_f64(
        double *theta, const double *g, Py_ssize_t n, double eta, double alpha)
    void add_scaled_f32(float *g, const float *theta, Py_ssize_t n, float alpha)
    void add_scaled_f64(double *g, const double *theta, Py_ssize_t n, double alpha)
    void scale_f32(float *g, Py_ssize_t n, float factor)
    void scale_f64(double *g, Py_ssize_t n, double factor)
    double sum_of_squares_f32(const float *g, Py_ssize_t n)
    double sum_of_squares_f64(const double *g, Py_ssize_t n)
    void adam_step_f32(
        float *theta, const float *g, float *m, float *s, Py_ssize_t n, float eta, float
        alpha, float beta_1, float beta_2, float epsilon)
    void adam_step_f64(
        double *theta, const double *g, double *m, double *s, Py_ssize_t n, double eta,
        double alpha, double beta_1, double beta_2, double epsilon)
    void momentum_step_f32(
        float *theta, const float *g, float *v, Py_ssize_t n, float eta, float alpha,
        float mu, int nesterov)
    void momentum_step_f64(
        double *theta, const double *g, double *v, Py_ssize_t n, double eta, double alpha,
        double mu, int nesterov)
    void small_gemm_f32(
        Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, float scale, const float *A, Py_ssize_t
        row, Py_ssize_t column, const float *B, float decay, const float *P, Py_ssize_t
        ld_P, float *C)
    void small_gemm_f64(
        Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, double scale, const double *A,
        Py_ssize_t row, Py_ssize_t column, const double *B, double decay, const double *P,
        Py_ssize_t ld_P, double *C)
    void row_affine_f32(
        Py_ssize_t p, Py_ssize_t q, const float *x, const float *W, const float *b, float
        *z)
    void row_affine_f64(
        Py_ssize_t p, Py_ssize_t q, const double *x, const double *W, const double *b,
        double *z)
    void row_outer_f32(
        Py_ssize_t p, Py_ssize_t q, float scale, const float *x, const float *d, float
        decay, const float *P, float *G)
    void row_outer_f64(
        Py_ssize_t p, Py_ssize_t q, double scale, const double *x, const double *d, double
        decay, const double *P, double *G)
    void column_affine_f32(
        Py_ssize_t m, Py_ssize_t p, const float *A, const float *w, const float *b, float
        *z)
    void column_affine_f64(
        Py_ssize_t m, Py_ssize_t p, const double *A, const double *w, const double *b,
        double *z)
    void column_outer_f32(
        Py_ssize_t m, Py_ssize_t p, float scale, const float *A, Py_ssize_t ld, const
        float *d, float decay, const float *P, float *g)
    void column_outer_f64(
        Py_ssize_t m, Py_ssize_t p, double scale, const double *A, Py_ssize_t ld, const
        double *d, double decay, const double *P, double *g)
    void small_backward_f32(
        Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, const float *D, const float *W, float
        *S)
    void small_backward_f64(
        Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, const double *D, const double *W, double
        *S)
    void transpose_f32(Py_ssize_t p, Py_ssize_t q, const float *W, float *T)
    void transpose_f64(Py_ssize_t p, Py_ssize_t q, const double *W, double *T)
    void sum_rows_f32(
        Py_ssize_t m, Py_ssize_t q, float scale, const float *D, const float *P, float *g)
    void sum_rows_f64(
        Py_ssize_t m, Py_ssize_t q, double scale, const double *D, const double *P, double
        *g)
    Py_ssize_t descend_rows_f32(
        Py_ssize_t n, Py_ssize_t d, const float *X, const int *Y, const float *weights,
        const Py_ssize_t *order, Py_ssize_t start, float eta, float decay, float *theta,
        double *total)
    Py_ssize_t descend_rows_f64(
        Py_ssize_t n, Py_ssize_t d, const double *X, const int *Y, const double *weights,
        const Py_ssize_t *order, Py_ssize_t start, double eta, double decay,
        double *theta, double *total)
    void sparse_affine_f32(
        Py_ssize_t nnz, Py_ssize_t q, const float *x, const void *indices, bint wide,
        Py_ssize_t start, float scale, const float *W, const float *b, float *z)
    void sparse_outer_f32(
        Py_ssize_t nnz, Py_ssize_t q, const float *x, const void *indices, bint wide,
        Py_ssize_t start, Py_ssize_t first, Py_ssize_t last, float scale, const float *d,
        float *G)
    Py_ssize_t descend_sparse_rows_f32(
        Py_ssize_t n, Py_ssize_t d, const float *X, const void *indices, bint wide, const
        void *indptr, bint wide_indptr, const int *Y, const float *weights, const
        Py_ssize_t *order, Py_ssize_t start, float eta, double decay, float *theta, double
        *scale, double *total)
    void sparse_affine_f64(
        Py_ssize_t nnz, Py_ssize_t q, const double *x, const void *indices, bint wide,
        Py_ssize_t start, double scale, const double *W, const double *b, double *z)
    void sparse_outer_f64(
        Py_ssize_t nnz, Py_ssize_t q, const double *x, const void *indices, bint wide,
        Py_ssize_t start, Py_ssize_t first, Py_ssize_t last, double scale, const double
        *d, double *G)
    Py_ssize_t descend_sparse_rows_f64(
        Py_ssize_t n, Py_ssize_t d, const double *X, const void *indices, bint wide, const
        void *indptr, bint wide_indptr, const int *Y, const double *weights, const
        Py_ssize_t *order, Py_ssize_t start, double eta, double decay, double *theta,
        double *scale, double *total)


cdef enum Activation:
    LOGISTIC
    TANH
    RELU
    IDENTITY
    SOFTMAX  # of the output layer only


cdef Activation _code(name):
    if name == "logistic":
        return LOGISTIC
    if name == "tanh":
        return TANH
    if name == "relu":
        return RELU
    if name == "identity":
        return IDENTITY
    return SOFTMAX


# The parameters of a step.
cdef struct Rule:
    double eta
    double alpha
    double momentum  # Adam: beta_1
    bint nesterov
    double beta_2
    double epsilon
    double max_gradient_norm  # 0: no limit


cdef Rule _rule(step):
    cdef Rule rule
    rule.eta = step.eta
    rule.alpha = step.alpha
    rule.momentum = step.momentum
    rule.nesterov = step.nesterov
    rule.beta_2 = step.beta_2
    rule.epsilon = step.epsilon
    rule.max_gradient_norm = step.max_gradient_norm
    return rule


# Counts multiplications, roughly, as a clock that costs nothing to read.
cdef struct Clock:
    double work
    double work_per_row

# What to learn from. Pointers without a type are to elements like those of theta, or to
# integers of 32 or (wide) 64 bits.
cdef struct Data:
    Py_ssize_t n
    bint sparse
    const void *X  # (n, d); sparse: the elements that are not 0
    const void *indices
    bint wide_indices
    const void *indptr
    bint wide_indptr
    const int *Y
    Py_ssize_t n_targets
    const void *weights  # or NULL: all 1
    const Py_ssize_t *order  # row numbers, or NULL: as they come

cdef struct Net:
    const Py_ssize_t *units
    Py_ssize_t n_layers
    Activation hidden
    Activation output


cdef Net _net(const Py_ssize_t[::1] units, hidden, output):
    cdef Net net
    net.units = &units[0]
    net.n_layers = units.shape[0] - 1
    net.hidden = _code(hidden)
    net.output = _code(output)
    return net


cdef Data _data(const floating[::1] theta, X, Y, weights, order) except *:
    """The addresses of arrays that the caller keeps."""
    cdef:
        Data data
        const int[:, ::1] targets
        const floating[::1] elements
        const floating[:, ::1] dense
        const Py_ssize_t[::1] numbers
    data.sparse = hasattr(X, "indptr")
    if data.sparse:
        elements = X.data
        data.X = &elements[0]
        data.indices = _integers(X.indices, &data.wide_indices)
        data.indptr = _integers(X.indptr, &data.wide_indptr)
    else:
        dense = X
        data.X = &dense[0, 0]
    data.n = X.shape[0]
    data.Y = NULL
    if Y is not None:
        targets = Y
        data.Y = &targets[0, 0]
        data.n_targets = targets.shape[1]
    data.weights = data.order = NULL
    if weights is not None:
        elements = weights
        data.weights = &elements[0]
    if order is not None:
        numbers = order
        data.order = &numbers[0]
        data.n = numbers.shape[0]
    return data


cdef const void *_integers(array, bint *wide) except *:
    cdef const int[::1] narrow_view
    cdef const long long[::1] wide_view
    wide[0] = array.itemsize == 8
    if wide[0]:
        wide_view = array
        return &wide_view[0]
    narrow_view = array
    return &narrow_view[0]


cdef inline Py_ssize_t row_number(const Data *data, Py_ssize_t i) noexcept nogil:
    return i if data.order == NULL else data.order[i]


cdef inline Py_ssize_t first_element(const Data *data, Py_ssize_t row) noexcept nogil:
    """Where the elements of a sparse row begin; those of the next, where it ends."""
    return integer_at(data.indptr, data.wide_indptr, row)


def row_work_size(units, gathered):
    """Number of elements of scratch memory for each row of a tile.

    If they are gathered (dense, in another order) the row of X; its target and weight,
    the losses of its output units, A_1 ... Z_L and D_1 ... D_{L-1}.
    """
    d, *hidden, K = [int(n) for n in units]  # Python's integers do not overflow
    return (d if gathered else 0) + 1 + 3 * K + 2 * sum(hidden)


# Crews ---------------------------------------------------------------------------------

BARRIER_WORKS = bool(_BARRIER_WORKS)  # else a crew is one thread


cdef struct Crew:
    Barrier barrier
    double *shares  # one number per thread, 64 bytes apart


cdef class Together:
    """What the threads of a crew share: where they meet, and what each contributes."""
    cdef Crew crew

    def __cinit__(self, int n_threads=1):
        self.crew.barrier.n_threads = n_threads
        self.crew.shares = <double *> calloc(n_threads, 64)
        if self.crew.shares == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.crew.shares)

    def stop(self):
        """Let all threads leave that wait for others."""
        barrier_stop(&self.crew.barrier)


cdef double sum_of_shares(Crew *crew, int rank, double share) noexcept nogil:
    """The sum over all threads, the same for each; nan if the crew was stopped."""
    cdef double total = 0
    cdef int i
    if crew.barrier.n_threads == 1:
        return share
    crew.shares[8 * rank] = share
    if not barrier_wait(&crew.barrier):
        return NAN
    for i in range(crew.barrier.n_threads):
        total += crew.shares[8 * i]
    return total


cdef inline Py_ssize_t share(Py_ssize_t n, int rank, Crew *crew) noexcept nogil:
    """Where the share of a thread begins; that of the next is where it ends."""
    return n * rank // crew.barrier.n_threads


# Products ------------------------------------------------------------------------------

# One row, or a layer of one unit, is no matrix product. A small product does not pay for
# a BLAS call and the packing that goes with it.
cdef enum:
    _LARGE_PRODUCT = 1 << 21  # multiplications
    SMALL_MATRIX = 4096  # elements of W, to be transposed on the stack
LARGE_PRODUCT = _LARGE_PRODUCT

cdef double LEAST_DECAY = 1e-5  # rounding 1 - decay would change less by a percent


cdef void affine(
    Py_ssize_t m, Py_ssize_t p, Py_ssize_t q,
    const floating *A, const floating *W, const floating *b,
    floating *Z,  # OUT (m, q)
) noexcept nogil:
    # Z = A W + b
    cdef Py_ssize_t i
    if q == 1:
        if floating is float:
            column_affine_f32(m, p, A, W, b, Z)
        else:
            column_affine_f64(m, p, A, W, b, Z)
    elif m == 1:
        if floating is float:
            row_affine_f32(p, q, A, W, b, Z)
        else:
            row_affine_f64(p, q, A, W, b, Z)
    elif m * p * q > _LARGE_PRODUCT:
        for i in range(m):
            memcpy(Z + i * q, b, q * sizeof(floating))
        gemm(False, False, m, q, p, <floating> 1, A, p, W, <floating> 1, Z)
    elif floating is float:
        small_gemm_f32(m, q, p, 1, A, p, 1, W, 0, b, 0, Z)
    else:
        small_gemm_f64(m, q, p, 1, A, p, 1, W, 0, b, 0, Z)


cdef void times_transpose(
    Py_ssize_t m, Py_ssize_t p, Py_ssize_t q,
    const floating *D, const floating *W,
    floating *S,  # OUT (m, p)
) noexcept nogil:
    # S = D W^T
    cdef floating[SMALL_MATRIX] T
    if m == 1 or q == 1:
        if floating is float:
            small_backward_f32(m, p, q, D, W, S)
        else:
            small_backward_f64(m, p, q, D, W, S)
    elif m * p * q > _LARGE_PRODUCT or p * q > SMALL_MATRIX:
        gemm(False, True, m, p, q, <floating> 1, D, q, W, <floating> 0, S)
    elif floating is float:
        transpose_f32(p, q, W, T)
        small_gemm_f32(m, p, q, 1, D, q, 1, T, 0, NULL, 0, S)
    else:
        transpose_f64(p, q, W, T)
        small_gemm_f64(m, p, q, 1, D, q, 1, T, 0, NULL, 0, S)


cdef void add_outer(
    Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, floating scale,
    const floating *A,  # (m, p), its rows `width` apart
    Py_ssize_t width,
    const floating *D, floating decay,
    const floating *P,  # G itself, or NULL: 0
    floating *G,  # IN/OUT (p, q)
) noexcept nogil:
    # G = P - decay P + scale A^T D
    if q == 1:
        if floating is float:
            column_outer_f32(m, p, scale, A, width, D, decay, P, G)
        else:
            column_outer_f64(m, p, scale, A, width, D, decay, P, G)
    elif m == 1:
        if floating is float:
            row_outer_f32(p, q, scale, A, D, decay, P, G)
        else:
            row_outer_f64(p, q, scale, A, D, decay, P, G)
    elif m * p * q > _LARGE_PRODUCT and (decay == 0 or decay > LEAST_DECAY):
        gemm(True, False, p, q, m, scale, A, width, D,
             <floating> (0 if P == NULL else 1 - decay), G)
    elif floating is float:
        small_gemm_f32(p, q, m, scale, A, 1, width, D, decay, P, q, G)
    else:
        small_gemm_f64(p, q, m, scale, A, 1, width, D, decay, P, q, G)


# Layers --------------------------------------------------------------------------------

cdef void activate(Activation f, floating *Z, Py_ssize_t n) noexcept nogil:
    # A = f(Z), in place
    if f == LOGISTIC:
        if floating is float:
            logistic_f32(Z, n)
        else:
            logistic_f64(Z, n)
    elif f == TANH:
        if floating is float:
            hyperbolic_f32(Z, n)
        else:
            hyperbolic_f64(Z, n)
    elif f == RELU:
        if floating is float:
            rectified_f32(Z, n)
        else:
            rectified_f64(Z, n)


cdef void times_derivative(
    Activation f, const floating *A, floating *D, Py_ssize_t n
) noexcept nogil:
    # D = D * f'(Z), f' written in terms of a = f(z)
    if f == LOGISTIC:
        if floating is float:
            logistic_backward_f32(A, D, n)
        else:
            logistic_backward_f64(A, D, n)
    elif f == TANH:
        if floating is float:
            hyperbolic_backward_f32(A, D, n)
        else:
            hyperbolic_backward_f64(A, D, n)
    elif f == RELU:
        if floating is float:
            rectified_backward_f32(A, D, n)
        else:
            rectified_backward_f64(A, D, n)


cdef void sparse_affine(
    const Data *data,
    Py_ssize_t start,  # the first of n rows
    Py_ssize_t n, Py_ssize_t q,
    double W_scale,
    const floating *W,
    const floating *b,
    floating *Z,  # OUT (n, q)
) noexcept nogil:
    # Z = X (s W) + b
    cdef Py_ssize_t i, row, first, nnz
    for i in range(n):
        row = row_number(data, start + i)
        first = first_element(data, row)
        nnz = first_element(data, row + 1) - first
        if floating is float:
            sparse_affine_f32(nnz, q, <const float *> data.X, data.indices,
                              data.wide_indices, first, <float> W_scale, W, b, Z + i * q)
        else:
            sparse_affine_f64(nnz, q, <const double *> data.X, data.indices,
                              data.wide_indices, first, W_scale, W, b, Z + i * q)


cdef void add_sparse_outer(
    const Data *data,
    Py_ssize_t start,  # the first of m rows
    Py_ssize_t m, Py_ssize_t q,
    Py_ssize_t first, Py_ssize_t last,  # rows of G to add to
    double scale,
    const floating *D,
    floating *G,  # IN/OUT (d, q)
) noexcept nogil:
    # G = G + scale X^T D
    cdef Py_ssize_t i, row, begin, nnz
    for i in range(m):
        row = row_number(data, start + i)
        begin = first_element(data, row)
        nnz = first_element(data, row + 1) - begin
        if floating is float:
            sparse_outer_f32(nnz, q, <const float *> data.X, data.indices,
                             data.wide_indices, begin, first, last, <float> scale,
                             D + i * q, G)
        else:
            sparse_outer_f64(nnz, q, <const double *> data.X, data.indices,
                             data.wide_indices, begin, first, last, scale, D + i * q, G)


cdef floating *forward(
    Net net,
    const floating *theta,
    double W_scale,  # s, if theta holds W_1 / s
    const Data *data,
    Py_ssize_t start,  # the first of n rows of the data
    const floating *X,  # IN (n, d) these rows, unless they are sparse
    Py_ssize_t n,
    floating *A,  # OUT A_1, ..., A_{L-1}, Z_L, each (m, q), one behind the other
    Py_ssize_t m,
    Py_ssize_t first,  # the first row of them to write
) noexcept nogil:
    """The forward pass of n rows; returns the address of the first row of Z_L."""
    cdef:
        Py_ssize_t layer, p, q
        const floating *A_in = X
        const floating *W = theta
        floating *A_out
    for layer in range(net.n_layers):
        p, q = net.units[layer], net.units[layer + 1]
        A_out = A + first * q
        # Z_l = A_{l-1} W_l + b_l
        if layer == 0 and data.sparse:
            sparse_affine(data, start, n, q, W_scale, W, W + p * q, A_out)
        else:
            affine(n, p, q, A_in, W, W + p * q, A_out)
        if layer == net.n_layers - 1:
            return A_out
        # A_l = f(Z_l)
        activate(net.hidden, A_out, n * q)
        W += (p + 1) * q
        A_in = A_out
        A += m * q


cdef void subtract_largest(Py_ssize_t m, Py_ssize_t K, floating *Z) noexcept nogil:
    # z_k - max_j z_j in each row, which changes neither softmax nor cross-entropy
    cdef Py_ssize_t i, k
    cdef floating top
    for i in range(m):
        top = Z[i * K]
        for k in range(1, K):
            if Z[i * K + k] > top:
                top = Z[i * K + k]
        for k in range(K):
            Z[i * K + k] -= top


cdef void softmax(
    Py_ssize_t m, Py_ssize_t K,
    floating *Z,  # IN/OUT (m, K)
    floating *log_sum,  # IN/OUT (m,), or NULL
) noexcept nogil:
    """a_k = exp(z_k) / sum_j exp(z_j), and log_sum += log(sum_j exp(z_j)), row by row.

    The largest z of each row is expected to be 0, see `subtract_largest`. Its term, 1, is
    not part of the sum: log(1 + rest) loses no digit of a confident, right answer.
    """
    cdef:
        Py_ssize_t i, k
        floating *z
        double rest, factor
        bint found
    if floating is float:
        exponential_f32(Z, m * K)
    else:
        exponential_f64(Z, m * K)
    for i in range(m):
        z = Z + i * K
        rest, found = 0, False
        for k in range(K):
            if z[k] == 1 and not found:
                found = True
            else:
                rest += z[k]
        if log_sum != NULL:
            log_sum[i] += <floating> log1p(rest)
        factor = 1 / (1 + rest)
        for k in range(K):
            z[k] = <floating> (z[k] * factor)


cdef void softmax_cross_entropy(
    Py_ssize_t m, Py_ssize_t K,
    floating *Z,  # IN z, OUT softmax(z) - y, (m, K)
    const floating *Y,  # IN (m, K)
    floating *loss,  # OUT log(sum_k exp(z_k)) - z_y, (m,)
) noexcept nogil:
    cdef Py_ssize_t i, k
    subtract_largest(m, K, Z)
    for i in range(m):
        loss[i] = 0
        for k in range(K):
            if Y[i * K + k] != 0:
                loss[i] = -Z[i * K + k]
    softmax(m, K, Z, loss)
    for i in range(m * K):
        Z[i] -= Y[i]


cdef double output_gradient(
    Net net,
    Py_ssize_t m,
    floating *Z,  # IN Z_L, OUT D_L = w (a - y), (m, K)
    const floating *Y,  # IN (m, K)
    const floating *weights,  # IN (m,), or NULL: all 1
    floating *loss,  # SCRATCH (m, K)
) noexcept nogil:
    """sum_i w_i l_i over m rows, and D_L."""
    cdef:
        Py_ssize_t i, k, K = net.units[net.n_layers]
        Py_ssize_t n_terms = K if net.output == LOGISTIC else 1
        double row, total = 0
    if net.output == SOFTMAX:
        softmax_cross_entropy(m, K, Z, Y, loss)
    elif floating is float:
        cross_entropy_f32(Z, Y, loss, m * K)
    else:
        cross_entropy_f64(Z, Y, loss, m * K)
    for i in range(m):
        row = 0
        for k in range(n_terms):
            row += loss[i * n_terms + k]
        if weights == NULL:
            total += row
        elif weights[i] == 0:
            for k in range(K):
                Z[i * K + k] = 0  # a product with 0 would keep a NaN
        else:
            total += weights[i] * row
            for k in range(K):
                Z[i * K + k] *= weights[i]
    return total


# Batches -------------------------------------------------------------------------------

cdef double share_of_rows(
    Net net,
    const floating *theta,
    double W_scale,
    const Data *data,
    Py_ssize_t start,  # the first row of the tile
    Py_ssize_t m,  # rows of the tile; this thread takes first ... last - 1
    Py_ssize_t first, Py_ssize_t last,
    bint with_gradient,
    floating *gathered,  # OUT (m, d); as the rest, the rows first ... last - 1
    floating *A,  # OUT A_1 ... A_{L-1}, D_L, each (m, q), one behind the other
    floating *D,  # OUT D_1 ... D_{L-1}
    floating *T,  # SCRATCH (m, 2 K + 1)
) noexcept nogil:
    """Take rows through the network and back; returns sum_i w_i l_i over them."""
    cdef:
        Py_ssize_t i, k, layer, p, q, row, offset = 0, n = last - first
        Py_ssize_t d = 0 if data.sparse else net.units[0], K = net.units[net.n_layers]
        const floating *X = <const floating *> data.X
        const floating *weights = <const floating *> data.weights
        const floating *rows = gathered_rows(data, d, start, m, gathered)
        const int *target
        floating *y = T + first * K
        floating *w = T + m * K + first
        floating *losses = T + m * K + m + first * K
        floating *Z
        double loss
    # The rows, their targets (one-hot) and their weights
    for i in range(n):
        row = row_number(data, start + first + i)
        if rows == gathered:
            memcpy(gathered + (first + i) * d, X + row * d, d * sizeof(floating))
        target = data.Y + row * data.n_targets
        if data.n_targets == K:
            for k in range(K):
                y[i * K + k] = <floating> target[k]
        else:
            memset(y + i * K, 0, K * sizeof(floating))
            y[i * K + target[0]] = 1
        if weights != NULL:
            w[i] = weights[row]
    Z = forward(net, theta, W_scale, data, start + first, rows + first * d, n, A, m,
                first)
    loss = output_gradient(net, n, Z, y, NULL if weights == NULL else w, losses)
    if not with_gradient or not isfinite(loss):
        return loss
    # offset: of W_l in theta. A, D: behind A_{l-1}, D_{l-1}
    for layer in range(net.n_layers):
        offset += (net.units[layer] + 1) * net.units[layer + 1]
        if layer > 0:
            A += m * net.units[layer]
            D += m * net.units[layer]
    for layer in range(net.n_layers - 1, 0, -1):
        p, q = net.units[layer], net.units[layer + 1]
        offset -= (p + 1) * q
        A -= m * p
        D -= m * p
        # dJ/dA_{l-1} = D_l W_l^T
        times_transpose(n, p, q, Z, theta + offset, D + first * p)
        # D_{l-1} = dJ/dA_{l-1} * f'(Z_{l-1})
        times_derivative(net.hidden, A + first * p, D + first * p, n * p)
        Z = D + first * p
    return loss


cdef const floating *gathered_rows(
    const Data *data, Py_ssize_t d, Py_ssize_t start, Py_ssize_t m, floating *gathered
) noexcept nogil:
    """Where the m rows of a tile are, (m, d), unless they are sparse."""
    if data.sparse:
        return NULL
    if data.order == NULL:
        return <const floating *> data.X + start * d
    if m == 1:
        return <const floating *> data.X + data.order[start] * d
    return gathered


cdef void share_of_gradient(
    Net net,
    const Data *data,
    Py_ssize_t start,
    Py_ssize_t m,
    const floating *X,  # IN (m, d) the rows of the tile, unless they are sparse
    const floating *A,  # IN as from `share_of_rows`
    const floating *D,
    floating scale,
    floating decay,
    double rescale,  # a multiple of it is kept of sparse rows' W_1: P_1 <- rescale P_1
    double W_scale,
    const floating *P,  # G itself, or NULL: 0
    floating *G,  # IN/OUT, like theta; may be theta itself
    int rank,
    Crew *crew,
) noexcept nogil:
    """G_W <- P_W - decay P_W + scale dJ/dW and G_b <- P_b + scale dJ/db.

    Of each W_l a share of its rows; the b_l by the last thread. With P = G = theta,
    scale = -eta / m and decay = eta alpha this *is* the step of gradient descent.
    Of sparse rows, G_1 <- rescale P_1 + scale / W_scale dJ/dW_1.
    """
    cdef:
        Py_ssize_t layer, p, q, first, last
        const floating *A_in = X
        const floating *D_out
    for layer in range(net.n_layers):
        p, q = net.units[layer], net.units[layer + 1]
        D_out = A if layer == net.n_layers - 1 else D
        first, last = share(p, rank, crew), share(p, rank + 1, crew)
        # dJ/dW_l = A_{l-1}^T D_l
        if layer == 0 and data.sparse:
            if P == NULL:
                memset(G + first * q, 0, (last - first) * q * sizeof(floating))
            elif rescale != 1:
                multiply(G + first * q, (last - first) * q, rescale)
            add_sparse_outer(data, start, m, q, first, last, scale / W_scale, D_out, G)
        elif first < last:
            add_outer(m, last - first, q, scale, A_in + first, p, D_out, decay,
                      NULL if P == NULL else G + first * q, G + first * q)
        G += p * q
        # dJ/db_l = sum_i D_l[i]
        if rank == crew.barrier.n_threads - 1:
            if floating is float:
                sum_rows_f32(m, q, scale, D_out, NULL if P == NULL else G, G)
            else:
                sum_rows_f64(m, q, scale, D_out, NULL if P == NULL else G, G)
        G += q
        A_in = A
        A += m * q
        D += m * q


cdef void multiply(floating *g, Py_ssize_t n, double factor) noexcept nogil:
    # g = factor g
    if floating is float:
        scale_f32(g, n, <float> factor)
    else:
        scale_f64(g, n, factor)


cdef double backprop(
    Net net, const floating *theta, const Data *data, Py_ssize_t start, Py_ssize_t m,
    floating scale, floating decay, double *W_scale, const floating *P,
    floating *G,  # IN/OUT, see `share_of_gradient`; or NULL
    floating *work, Py_ssize_t tile, Clock *clock, int rank, Crew *crew,
) except? -1 nogil:
    """sum_i w_i l_i over m rows, and its gradient into G.

    Not finite as soon as the loss of one tile is not; G is then partly written, but not
    by the first tile. Some times a second the first thread lets Python raise
    KeyboardInterrupt.
    """
    cdef:
        Py_ssize_t layer, n, stop = start + m
        Py_ssize_t d = net.units[0], K = net.units[net.n_layers], hidden = 0
        Py_ssize_t width = 0 if data.sparse or data.order == NULL else d
        floating *T
        floating *A
        floating *D
        double loss = 0, rescale = 1
    for layer in range(1, net.n_layers):
        hidden += net.units[layer]
    while start < stop and isfinite(loss):
        n = min(tile, stop - start)
        if rank == 0:
            clock.work += n * clock.work_per_row
            if clock.work > 1e8:
                clock.work = 0
                with gil:
                    PyErr_CheckSignals()
        T = work + n * width
        A = T + n * (2 * K + 1)
        D = A + n * (hidden + K)
        loss += sum_of_shares(crew, rank, share_of_rows(
            net, theta, W_scale[0], data, start, n, share(n, rank, crew),
            share(n, rank + 1, crew), G != NULL, work, A, D, T))
        if G != NULL and isfinite(loss):
            if data.sparse and decay != 0:
                # W_1 = s V decays by s alone, until V has to be scaled.
                W_scale[0] *= 1 - decay
                if not SMALLEST_SCALE < fabs(W_scale[0]) < 1 / SMALLEST_SCALE:
                    rescale, W_scale[0] = W_scale[0], 1
            share_of_gradient(
                net, data, start, n, gathered_rows(data, d, start, n, work), A, D, scale,
                decay, rescale, W_scale[0], P, G, rank, crew)
            decay, rescale, P = 0, 1, G
        # The scratch memory is free again, and G complete, when all are here.
        if not barrier_wait(&crew.barrier):
            return NAN
        start += n
    return loss


cdef bint update(
    Net net,
    Rule rule,
    long long n_steps,  # made before
    floating *theta,
    floating *G,  # IN, SCRATCH
    floating *m,  # IN/OUT velocity or first moment; NULL: plain descent
    floating *s,  # IN/OUT second moment; NULL: no Adam
    int rank,
    Crew *crew,
) noexcept nogil:
    """One step along the gradient G of the cross-entropy; b carries no penalty.

    Each thread takes the share of theta whose gradient it has. Returns False if the norm
    is not finite, or the crew was stopped.
    """
    cdef:
        Py_ssize_t layer, part, p, q, first, last, n, start = 0
        int task  # 0: penalty and norm, 1: step
        bint limited = rule.max_gradient_norm > 0
        double norm, total = 0, factor = 1, eta = rule.eta, penalty
    if s != NULL:
        # eta sqrt(1 - beta_2^t) / (1 - beta_1^t)
        eta *= (sqrt(1 - rule.beta_2 ** (n_steps + 1))
                / (1 - rule.momentum ** (n_steps + 1)))
    for task in range(0 if limited else 1, 2):
        if limited and task == 1:
            # g <- g min(1, c / ||g||),  g = G + alpha W
            norm = sqrt(sum_of_shares(crew, rank, total))
            if not isfinite(norm):
                return False
            if norm > rule.max_gradient_norm:
                factor = rule.max_gradient_norm / norm
        start = 0
        for layer in range(net.n_layers):
            p, q = net.units[layer], net.units[layer + 1]
            for part in range(2):  # W, then b
                first, last = share(p, rank, crew) * q, share(p, rank + 1, crew) * q
                penalty = rule.alpha
                if part == 1:
                    first = 0
                    last = q if rank == crew.barrier.n_threads - 1 else 0
                    penalty = 0
                n = last - first
                first += start
                start += p * q if part == 0 else q
                if task == 0:
                    total += penalized(
                        theta + first, G + first, n, <floating> penalty)
                    continue
                if limited:
                    penalty = 0  # is in G
                    if factor < 1:
                        multiply(G + first, n, factor)
                step(rule, eta, penalty, theta + first, G + first,
                     NULL if m == NULL else m + first,
                     NULL if s == NULL else s + first, n)
    return barrier_wait(&crew.barrier)


cdef double penalized(
    const floating *theta, floating *G, Py_ssize_t n, floating alpha
) noexcept nogil:
    """G <- G + alpha theta; returns ||G||^2."""
    if floating is float:
        add_scaled_f32(G, theta, n, alpha)
        return sum_of_squares_f32(G, n)
    else:
        add_scaled_f64(G, theta, n, alpha)
        return sum_of_squares_f64(G, n)


cdef void step(
    Rule rule, double eta, double alpha, floating *theta, const floating *G,
    floating *m, floating *s, Py_ssize_t n,
) noexcept nogil:
    """The rule of the step on n parameters; the equations are in _kernels.h."""
    if floating is float:
        if s != NULL:
            adam_step_f32(theta, G, m, s, n, <float> eta, <float> alpha,
                          <float> rule.momentum, <float> rule.beta_2,
                          <float> rule.epsilon)
        elif m != NULL:
            momentum_step_f32(theta, G, m, n, <float> eta, <float> alpha,
                              <float> rule.momentum, rule.nesterov)
        else:
            sgd_step_f32(theta, G, n, <float> eta, <float> alpha)
    else:
        if s != NULL:
            adam_step_f64(theta, G, m, s, n, eta, alpha, rule.momentum, rule.beta_2,
                          rule.epsilon)
        elif m != NULL:
            momentum_step_f64(theta, G, m, n, eta, alpha, rule.momentum, rule.nesterov)
        else:
            sgd_step_f64(theta, G, n, eta, alpha)


def loss_gradient(
    network,
    const floating[::1] theta,  # IN
    X,  # IN (n, d) array or CSR, elements like those of theta
    Y,  # IN (n, 1) codes or (n, K) indicators, int32
    weights,  # IN (n,) or None
    floating[::1] gradient,  # OUT, like theta; None: the loss alone
    floating[::1] work,  # SCRATCH
    Py_ssize_t tile,
    Together together=None,
    int rank=0,
):
    """sum_i w_i l_i over the rows of X, and its gradient with respect to theta.

    A plain sum, without penalty: parts of the data can be added up.
    """
    cdef:
        const Py_ssize_t[::1] units = network.units
        Net net = _net(units, network.activation, network.output_activation)
        Data data = _data(theta, X, Y, weights, None)
        Clock clock = Clock(0, 1000 + theta.shape[0])
        floating *G = NULL if gradient is None else &gradient[0]
        double loss, W_scale = 1
    together = Together() if together is None else together
    with nogil:
        loss = backprop(net, <const floating *> &theta[0], &data, 0, data.n, <floating> 1,
                        <floating> 0, &W_scale, <const floating *> NULL, G, &work[0],
                        tile, &clock, rank, &together.crew)
    return loss


def run_batches(
    network,
    floating[::1] theta,  # IN/OUT
    floating[::1] velocity,  # IN/OUT like theta; None: no momentum. Adam: first moment
    floating[::1] second_moment,  # IN/OUT like theta; None: no Adam
    long long n_steps,  # made before, for Adam
    X,  # IN (n, d) array or CSR, elements like those of theta
    Y,  # IN (n, 1) codes or (n, K) indicators, int32
    weights,  # IN (n,) or None
    order,  # IN (n_order,) row numbers, or None: all as they come
    Py_ssize_t batch_size,
    step_rule,  # the parameters of the step, see _descent.Step
    floating[::1] gradient,  # SCRATCH like theta; None: plain descent, batch_size <= tile
    floating[::1] work,  # SCRATCH
    Py_ssize_t tile,
    double[::1] progress,  # OUT (2,) sum_i w_i l_i, and the number of rows used
    Together together=None,
    int rank=0,
):
    """One step of gradient descent per batch of `batch_size` rows; the last may be short.

        g = 1 / m sum_{i in batch} w_i dl_i/dtheta + alpha W
        theta <- theta - eta g        or the rule of momentum, Nesterov or Adam

    The weights are expected to average 1 over the data. Without `gradient` the step is
    added to theta as it is computed.

    `progress` tells sum_i w_i l_i, each row's loss taken just before the step it is part
    of, and the number of rows whose step was made: fewer than there are if a loss was not
    finite (that step is not made) or if this raised KeyboardInterrupt, soon after Ctrl-C.
    The first thread writes it.
    """
    cdef:
        const Py_ssize_t[::1] units = network.units
        Net net = _net(units, network.activation, network.output_activation)
        Rule rule = _rule(step_rule)
        const floating[::1] given = theta
        Data data = _data(given, X, Y, weights, order)
        Clock clock = Clock(0, 1000 + theta.shape[0])
        floating *v = NULL if velocity is None else &velocity[0]
        floating *s = NULL if second_moment is None else &second_moment[0]
        Py_ssize_t m, start = 0, d = units[0], n = data.n, first, last
        const floating *X_dense = <const floating *> data.X
        double loss, total = 0, W_scale = 1, decay = rule.eta * rule.alpha
        bint in_place = gradient is None
        bint one_neuron
        Crew *crew
    together = Together() if together is None else together
    crew = &together.crew
    one_neuron = (in_place and batch_size == 1 and net.n_layers == 1 and units[1] == 1
                  and crew.barrier.n_threads == 1)
    try:
        with nogil:
            while start < n:
                m = min(batch_size, n - start)
                if one_neuron:
                    # As many rows as are over before a Ctrl-C has waited for long
                    m = min(1 + <Py_ssize_t> (1e8 / clock.work_per_row), n - start)
                    with gil:
                        PyErr_CheckSignals()
                    loss = 0
                    m = one_by_one(&data, start, m, d, rule.eta, decay, &theta[0],
                                   &W_scale, &loss)
                elif in_place:
                    if not data.sparse and data.order != NULL and m == 1 and (
                            start + 4 < n):
                        prefetch(X_dense + data.order[start + 4] * d,
                                 d * sizeof(floating))
                    # W <- W - eta alpha W - eta / m dJ/dW: no gradient is stored.
                    loss = backprop(
                        net, <const floating *> &theta[0], &data, start, m,
                        <floating> (-rule.eta / m), <floating> decay, &W_scale,
                        <const floating *> &theta[0], &theta[0], &work[0], tile, &clock,
                        rank, crew)
                else:
                    loss = backprop(
                        net, <const floating *> &theta[0], &data, start, m,
                        <floating> (1.0 / m), <floating> 0, &W_scale,
                        <const floating *> NULL, &gradient[0], &work[0], tile, &clock,
                        rank, crew)
                    if isfinite(loss) and not update(
                            net, rule, n_steps, &theta[0], &gradient[0], v, s, rank,
                            crew):
                        loss = NAN
                total += loss
                if not isfinite(loss):
                    start += m if one_neuron else 0
                    break
                start += m
                n_steps += 1
    finally:
        if W_scale != 1:
            first, last = share(d, rank, crew), share(d, rank + 1, crew)
            multiply(&theta[first * units[1]], (last - first) * units[1], W_scale)
        if rank == 0:
            progress[0], progress[1] = total, start


cdef Py_ssize_t one_by_one(
    const Data *data, Py_ssize_t start, Py_ssize_t n, Py_ssize_t d, double eta,
    double decay, floating *theta, double *W_scale, double *loss,
) noexcept nogil:
    """Steps of a single neuron on n single rows; returns how many were made."""
    cdef:
        const floating *X = <const floating *> data.X
        const floating *weights = <const floating *> data.weights
    if floating is float:
        if data.sparse:
            return descend_sparse_rows_f32(
                n, d, X, data.indices, data.wide_indices, data.indptr, data.wide_indptr,
                data.Y, weights, data.order, start, <float> eta, decay, theta, W_scale,
                loss)
        return descend_rows_f32(n, d, X, data.Y, weights, data.order, start, <float> eta,
                                <float> decay, theta, loss)
    else:
        if data.sparse:
            return descend_sparse_rows_f64(
                n, d, X, data.indices, data.wide_indices, data.indptr, data.wide_indptr,
                data.Y, weights, data.order, start, eta, decay, theta, W_scale, loss)
        return descend_rows_f64(n, d, X, data.Y, weights, data.order, start, eta, decay,
                                theta, loss)


def follow(
    network,
    floating[::1] theta,  # IN/OUT
    floating[::1] gradient,  # IN like theta, SCRATCH
    floating[::1] velocity,  # IN/OUT, as in `run_batches`
    floating[::1] second_moment,  # IN/OUT, as in `run_batches`
    long long n_steps,
    step_rule,
):
    """One step along the gradient 1 / n sum_i w_i dl_i/dtheta, penalty not included."""
    cdef:
        const Py_ssize_t[::1] units = network.units
        Net net = _net(units, network.activation, network.output_activation)
        floating *v = NULL if velocity is None else &velocity[0]
        floating *s = NULL if second_moment is None else &second_moment[0]
        Together together = Together()
    update(net, _rule(step_rule), n_steps, &theta[0], &gradient[0], v, s, 0,
           &together.crew)


def outputs(
    network,
    const floating[::1] theta,  # IN
    X,  # IN (n, d) array or CSR, elements like those of theta
    bint activated,
    floating[:, ::1] Z,  # OUT (n, K) Z_L, or if activated A_L
    floating[::1] work,  # SCRATCH
    Py_ssize_t tile,
    Together together=None,
    int rank=0,
):
    """The output layer for every row of X.

    Each thread takes its share of the rows, and of `work`.
    """
    cdef:
        const Py_ssize_t[::1] units = network.units
        Net net = _net(units, network.activation, network.output_activation)
        Data data = _data(theta, X, None, None, None)
        Py_ssize_t start, stop, m, d = 0 if data.sparse else units[0], K = Z.shape[1]
        const floating *rows = <const floating *> data.X
        floating *own
        floating *out
        Crew *crew
    together = Together() if together is None else together
    crew = &together.crew
    start, stop = share(data.n, rank, crew), share(data.n, rank + 1, crew)
    own = &work[0] + share(tile, rank, crew) * (work.shape[0] // tile)
    tile = tile // crew.barrier.n_threads
    with nogil:
        while start < stop:
            m = min(tile, stop - start)
            out = forward(net, <const floating *> &theta[0], 1, &data, start,
                          rows + start * d, m, own, m, 0)
            if activated and net.output == SOFTMAX:
                subtract_largest(m, K, out)
                softmax(m, K, out, <floating *> NULL)
            elif activated:
                activate(LOGISTIC, out, m * K)
            memcpy(&Z[start, 0], out, m * K * sizeof(floating))
            start += m


def row_norms(
    const floating[::1] theta,  # says of which type the elements of X are
    X,  # IN (n, d) array or CSR
    double[::1] squared_norms,  # OUT (n,)
):
    """||x_i||^2 for each row."""
    cdef:
        Data data = _data(theta, X, None, None, None)
        Py_ssize_t i, first, last, d = X.shape[1]
        const floating *elements = <const floating *> data.X
    for i in range(data.n):
        first, last = i * d, (i + 1) * d
        if data.sparse:
            first, last = first_element(&data, i), first_element(&data, i + 1)
        if floating is float:
            squared_norms[i] = sum_of_squares_f32(elements + first, last - first)
        else:
            squared_norms[i] = sum_of_squares_f64(elements + first, last - first)


def squared_norms(network, const floating[::1] theta):
    """sum_l ||W_l||^2, and the same with sum_l ||b_l||^2."""
    cdef:
        const Py_ssize_t[::1] units = network.units
        Py_ssize_t layer, p, q, start = 0
        double weights = 0, intercepts = 0
    for layer in range(units.shape[0] - 1):
        p, q = units[layer], units[layer + 1]
        if floating is float:
            weights += sum_of_squares_f32(&theta[start], p * q)
            intercepts += sum_of_squares_f32(&theta[start + p * q], q)
        else:
            weights += sum_of_squares_f64(&theta[start], p * q)
            intercepts += sum_of_squares_f64(&theta[start + p * q], q)
        start += (p + 1) * q
    return weights, weights + intercepts


# What one random number adds to the state of the generator.
SPLITMIX_STEP = 0x9E3779B97F4A7C15


def shuffle(
    Py_ssize_t[::1] order,  # OUT (n,) a random permutation of 0 ... n - 1
    unsigned long long state,
):
    """Fill `order` with a random permutation; returns the state for the next call.

    Fisher and Yates' shuffle, inside-out, on the generator SplitMix64 (Steele, Lea &
    Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), whose whole
    state is one 64-bit integer.
    """
    cdef Py_ssize_t i, j
    cdef unsigned long long bits, step = SPLITMIX_STEP
    with nogil:
        for i in range(order.shape[0]):
            state += step
            bits = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9ULL
            bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBULL
            bits ^= bits >> 31
            # j uniform in 0 ... i, from the 53 bits that a double holds
            j = <Py_ssize_t> ((bits >> 11) * ((i + 1) * 2.0 ** -53))
            order[i] = order[j]
            order[j] = i
    return state


def activation(name, floating[::1] values):
    """Apply the compiled activation function `name` to `values`, in place."""
    activate(_code(name), &values[0], values.shape[0])
