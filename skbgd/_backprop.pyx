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
    D_l      dJ/dZ_l, (m, units[layer]); at the output, for both losses, w_i (a_i - y_i)
    Y        class codes, (n, 1), or 0/1 indicators, (n, K); for K = 1 these coincide

The loss of a row is the cross-entropy summed over the output units, times its weight.
It is computed from Z_L, never from log(A_L).

`work` is scratch memory of `tile * row_work_size(units)` elements, owned by the caller
so that it is allocated once. Rows are taken at most `tile` at a time: however large the
batch, what is read and written between two passes over the weights stays in the cache.

The functions here trust their arguments; `_descent` and `_network` are their callers.
They release the GIL and keep no state.
"""
from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from libc.math cimport isfinite, log1p, sqrt
from libc.string cimport memcpy

from ._blas cimport gemm


cdef extern from "_kernels.h" nogil:
    void logistic_f32(float *A, Py_ssize_t n)
    void logistic_f64(double *A, Py_ssize_t n)
    void hyperbolic_f32(float *A, Py_ssize_t n)
    void hyperbolic_f64(double *A, Py_ssize_t n)
    void rectified_f32(float *A, Py_ssize_t n)
    void rectified_f64(double *A, Py_ssize_t n)
    void logistic_backward_f32(const float *S, float *A, Py_ssize_t n)
    void logistic_backward_f64(const double *S, double *A, Py_ssize_t n)
    void hyperbolic_backward_f32(const float *S, float *A, Py_ssize_t n)
    void hyperbolic_backward_f64(const double *S, double *A, Py_ssize_t n)
    void rectified_backward_f32(const float *S, float *A, Py_ssize_t n)
    void rectified_backward_f64(const double *S, double *A, Py_ssize_t n)
    void cross_entropy_f32(float *Z, const float *Y, float *loss, Py_ssize_t n)
    void cross_entropy_f64(double *Z, const double *Y, double *loss, Py_ssize_t n)
    void exponential_f32(float *A, Py_ssize_t n)
    void exponential_f64(double *A, Py_ssize_t n)
    void sgd_step_f32(float *theta, const float *g, Py_ssize_t n, float eta,
                      float alpha)
    void sgd_step_f64(double *theta, const double *g, Py_ssize_t n, double eta,
                      double alpha)
    void add_scaled_f32(float *g, const float *theta, Py_ssize_t n, float alpha)
    void add_scaled_f64(double *g, const double *theta, Py_ssize_t n, double alpha)
    void scale_f32(float *g, Py_ssize_t n, float factor)
    void scale_f64(double *g, Py_ssize_t n, double factor)
    double sum_of_squares_f32(const float *g, Py_ssize_t n)
    double sum_of_squares_f64(const double *g, Py_ssize_t n)
    void adam_step_f32(float *theta, const float *g, float *m, float *s, Py_ssize_t n,
                       float eta, float alpha, float beta_1, float beta_2,
                       float epsilon)
    void adam_step_f64(double *theta, const double *g, double *m, double *s,
                       Py_ssize_t n, double eta, double alpha, double beta_1,
                       double beta_2, double epsilon)
    void momentum_step_f32(float *theta, const float *g, float *v, Py_ssize_t n,
                           float eta, float alpha, float mu, int nesterov)
    void momentum_step_f64(double *theta, const double *g, double *v, Py_ssize_t n,
                           double eta, double alpha, double mu, int nesterov)
    void small_affine_f32(Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, const float *A,
                          const float *W, const float *b, float *Z)
    void small_affine_f64(Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, const double *A,
                          const double *W, const double *b, double *Z)
    void small_backward_f32(Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, const float *D,
                            const float *W, float *S)
    void small_backward_f64(Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, const double *D,
                            const double *W, double *S)
    void small_outer_f32(Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, float scale,
                         const float *A, const float *D, float beta, float *G)
    void small_outer_f64(Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, double scale,
                         const double *A, const double *D, double beta, double *G)
    enum:
        SMALL_GEMM_DEPTH
    void small_gemm_f32(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, float scale,
                        const float *A, Py_ssize_t row, Py_ssize_t column,
                        const float *B, float beta, float *C)
    void small_gemm_f64(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, double scale,
                        const double *A, Py_ssize_t row, Py_ssize_t column,
                        const double *B, double beta, double *C)
    void transpose_f32(Py_ssize_t p, Py_ssize_t q, const float *W, float *T)
    void transpose_f64(Py_ssize_t p, Py_ssize_t q, const double *W, double *T)
    void sum_rows_f32(Py_ssize_t m, Py_ssize_t q, float scale, const float *D,
                      float beta, float *g)
    void sum_rows_f64(Py_ssize_t m, Py_ssize_t q, double scale, const double *D,
                      double beta, double *g)


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

# Counts multiplications, roughly, as a clock that costs nothing to read.
cdef struct Clock:
    double work
    double work_per_row

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


def row_work_size(units):
    """Number of elements of scratch memory for each row of a tile.

    The gathered row of X, A_1 ... Z_L, one more layer for D W^T or the losses, and the
    targets and weight of the row: sum of units + largest + K + 1.
    """
    d, *widths = [int(n) for n in units]  # Python's integers do not overflow
    *_, K = widths
    return d + sum(widths) + max(widths) + K + 1


# Products ------------------------------------------------------------------------------

# One row, or a layer of one unit, is no matrix product: plain loops. A small product
# does not pay for a BLAS call and the packing that goes with it.
cdef enum:
    SMALL_PRODUCT = 1 << 18
    SMALL_MATRIX = 4096  # elements of W, to be transposed on the stack


cdef inline bint _is_small(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    return m * n * k <= SMALL_PRODUCT and k <= SMALL_GEMM_DEPTH


cdef void affine(
    Py_ssize_t m, Py_ssize_t p, Py_ssize_t q,
    const floating *A, const floating *W, const floating *b,
    floating *Z,  # OUT (m, q)
) noexcept nogil:
    # Z = A W + b
    cdef Py_ssize_t i
    if m == 1 or q == 1:
        if floating is float:
            small_affine_f32(m, p, q, A, W, b, Z)
        else:
            small_affine_f64(m, p, q, A, W, b, Z)
        return
    for i in range(m):
        memcpy(Z + i * q, b, q * sizeof(floating))
    if not _is_small(m, q, p):
        gemm(False, False, m, q, p, <floating> 1, A, W, <floating> 1, Z)
    elif floating is float:
        small_gemm_f32(m, q, p, 1, A, p, 1, W, 1, Z)
    else:
        small_gemm_f64(m, q, p, 1, A, p, 1, W, 1, Z)


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
    elif not _is_small(m, p, q) or p * q > SMALL_MATRIX:
        gemm(False, True, m, p, q, <floating> 1, D, W, <floating> 0, S)
    elif floating is float:
        transpose_f32(p, q, W, T)
        small_gemm_f32(m, p, q, 1, D, q, 1, T, 0, S)
    else:
        transpose_f64(p, q, W, T)
        small_gemm_f64(m, p, q, 1, D, q, 1, T, 0, S)


cdef void add_outer(
    Py_ssize_t m, Py_ssize_t p, Py_ssize_t q, floating scale,
    const floating *A, const floating *D, floating beta,
    floating *G,  # IN/OUT (p, q)
) noexcept nogil:
    # G = beta G + scale A^T D
    if m == 1 or q == 1:
        if floating is float:
            small_outer_f32(m, p, q, scale, A, D, beta, G)
        else:
            small_outer_f64(m, p, q, scale, A, D, beta, G)
    elif not _is_small(p, q, m):
        gemm(True, False, p, q, m, scale, A, D, beta, G)
    elif floating is float:
        small_gemm_f32(p, q, m, scale, A, 1, p, D, beta, G)
    else:
        small_gemm_f64(p, q, m, scale, A, 1, p, D, beta, G)


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
    Activation f, const floating *S, floating *A, Py_ssize_t n
) noexcept nogil:
    # D = S * f'(Z), f' written in terms of a = f(z); D replaces A
    if f == LOGISTIC:
        if floating is float:
            logistic_backward_f32(S, A, n)
        else:
            logistic_backward_f64(S, A, n)
    elif f == TANH:
        if floating is float:
            hyperbolic_backward_f32(S, A, n)
        else:
            hyperbolic_backward_f64(S, A, n)
    elif f == RELU:
        if floating is float:
            rectified_backward_f32(S, A, n)
        else:
            rectified_backward_f64(S, A, n)
    else:
        memcpy(A, S, n * sizeof(floating))


cdef floating *forward(
    Net net,
    const floating *theta,
    const floating *X,  # IN (m, d)
    Py_ssize_t m,
    floating *A,  # OUT A_1, ..., A_{L-1}, Z_L, one behind the other
) noexcept nogil:
    """The forward pass; returns the address of Z_L."""
    cdef:
        Py_ssize_t layer, p, q
        const floating *A_in = X
        const floating *W = theta
    for layer in range(net.n_layers):
        p, q = net.units[layer], net.units[layer + 1]
        # Z_l = A_{l-1} W_l + b_l
        affine(m, p, q, A_in, W, W + p * q, A)
        if layer == net.n_layers - 1:
            return A
        # A_l = f(Z_l)
        activate(net.hidden, A, m * q)
        W += (p + 1) * q
        A_in = A
        A += m * q


cdef double softmax_cross_entropy(
    Py_ssize_t K,
    floating *Z,  # IN z, OUT softmax(z) - y, (K,)
    const floating *Y,
) noexcept nogil:
    """The loss of one row, log(sum_k exp(z_k)) - z_y, and its gradient."""
    cdef:
        Py_ssize_t k, top = 0
        floating z_top, z_y = 0
        double rest = 0
    for k in range(1, K):
        if Z[k] > Z[top]:
            top = k
    z_top = Z[top]
    for k in range(K):
        # Subtracting the row's largest changes neither loss nor gradient: exp(z) <= 1.
        Z[k] -= z_top
        if Y[k] != 0:
            z_y = Z[k]
    if floating is float:
        exponential_f32(Z, K)
    else:
        exponential_f64(Z, K)
    for k in range(K):
        if k != top:
            rest += Z[k]
    for k in range(K):
        Z[k] = <floating> (Z[k] / (1 + rest)) - Y[k]
    # log(1 + rest): no digit of a confident, right answer is lost
    return log1p(rest) - z_y


cdef double output_gradient(
    Net net,
    Py_ssize_t m,
    floating *Z,  # IN Z_L, OUT D_L = w (a - y), (m, K)
    const floating *Y,  # IN (m, K)
    const floating *weights,  # IN (m,), or NULL: all 1
    floating *loss,  # SCRATCH (m, K)
) noexcept nogil:
    """sum_i w_i l_i over the batch, and D_L."""
    cdef:
        Py_ssize_t i, k, K = net.units[net.n_layers]
        double row, total = 0
    if net.output == LOGISTIC:
        if floating is float:
            cross_entropy_f32(Z, Y, loss, m * K)
        else:
            cross_entropy_f64(Z, Y, loss, m * K)
    for i in range(m):
        if net.output == LOGISTIC:
            row = 0
            for k in range(K):
                row += loss[i * K + k]
        else:
            row = softmax_cross_entropy(K, Z + i * K, Y + i * K)
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


cdef void backward(
    Net net,
    const floating *theta,
    const floating *X,  # IN (m, d)
    Py_ssize_t m,
    floating *A,  # IN A_1 ... A_{L-1}, D_L as laid out by `forward`; OUT D_1 ... D_L
    floating *S,  # SCRATCH (m, widest layer)
    floating scale,
    floating beta_W,
    floating beta_b,
    floating *G,  # IN/OUT, like theta; may be theta itself
) noexcept nogil:
    """G_W <- beta_W G_W + scale dJ/dW and G_b <- beta_b G_b + scale dJ/db, all layers.

    With G = theta, scale = -eta / m, beta_b = 1 and beta_W = 1 - eta alpha this *is* the
    step of gradient descent: D_{l-1} is taken before W_l changes.
    """
    cdef:
        Py_ssize_t layer, p, q, offset = 0
        const floating *W
        const floating *A_in
        floating *D = A
        floating *D_in
    for layer in range(net.n_layers):
        offset += (net.units[layer] + 1) * net.units[layer + 1]
        if layer > 0:
            D += m * net.units[layer]
    for layer in range(net.n_layers - 1, -1, -1):
        p, q = net.units[layer], net.units[layer + 1]
        offset -= (p + 1) * q
        W = theta + offset
        D_in = D - m * p  # where A_{l-1} lies, and D_{l-1} will; unused for layer 0
        A_in = D_in if layer > 0 else X
        if layer > 0:
            # dJ/dA_{l-1} = D_l W_l^T
            times_transpose(m, p, q, D, W, S)
        # dJ/dW_l = A_{l-1}^T D_l
        add_outer(m, p, q, scale, A_in, D, beta_W, G + offset)
        # dJ/db_l = sum_i D_l[i]
        if floating is float:
            sum_rows_f32(m, q, scale, D, beta_b, G + offset + p * q)
        else:
            sum_rows_f64(m, q, scale, D, beta_b, G + offset + p * q)
        if layer > 0:
            # D_{l-1} = dJ/dA_{l-1} * f'(Z_{l-1})
            times_derivative(net.hidden, S, D_in, m * p)
            D = D_in


# Batches -------------------------------------------------------------------------------

cdef double backprop_tile(
    Net net,
    const floating *theta,
    const floating *X,  # IN (n, d)
    const int *Y,  # IN (n, n_targets)
    Py_ssize_t n_targets,
    const floating *weights,  # IN (n,), or NULL: all 1
    const Py_ssize_t *order,  # IN (m,) row numbers, or NULL: the first m rows
    Py_ssize_t m,
    floating scale,
    floating beta_W,
    floating beta_b,
    floating *G,  # IN/OUT, see `backward`; untouched if the loss is not finite; or NULL
    floating *work,
) noexcept nogil:
    """sum_i w_i l_i over m rows, and its gradient into G."""
    cdef:
        Py_ssize_t i, k, row, d = net.units[0], K = net.units[net.n_layers]
        floating *gathered = work
        floating *T = gathered + m * d
        floating *w = T + m * K
        floating *A = w + m
        const floating *rows = X
        floating *Z
        floating *S
        double loss
    # Gather the rows of the batch, their targets (one-hot) and their weights.
    if order != NULL:
        if m == 1:
            rows = X + order[0] * d
        else:
            for i in range(m):
                memcpy(gathered + i * d, X + order[i] * d, d * sizeof(floating))
            rows = gathered
    for i in range(m):
        row = i if order == NULL else order[i]
        for k in range(K):
            if n_targets == K:
                T[i * K + k] = <floating> Y[row * K + k]
            else:
                T[i * K + k] = k == Y[row]
        if weights != NULL:
            w[i] = weights[row]
    Z = forward(net, theta, rows, m, A)
    S = Z + m * K
    loss = output_gradient(net, m, Z, T, NULL if weights == NULL else w, S)
    if G != NULL and isfinite(loss):
        backward(net, theta, rows, m, A, S, scale, beta_W, beta_b, G)
    return loss


cdef double backprop(
    Net net, const floating *theta, const floating *X, const int *Y,
    Py_ssize_t n_targets, const floating *weights, const Py_ssize_t *order,
    Py_ssize_t m, floating scale, floating beta_W, floating beta_b, floating *G,
    floating *work, Py_ssize_t tile, Clock *clock,
) except? -1 nogil:
    """`backprop_tile` for any m: the gradient of one tile is added to that of the last.

    Not finite as soon as one tile's loss is not; G is then partly written. Some times
    a second it lets Python raise KeyboardInterrupt.
    """
    cdef Py_ssize_t start = 0, rows
    cdef double loss = 0
    while start < m and isfinite(loss):
        clock.work += min(tile, m - start) * clock.work_per_row
        if clock.work > 1e8:
            clock.work = 0
            with gil:
                PyErr_CheckSignals()
        rows = min(tile, m - start)
        loss += backprop_tile(
            net, theta,
            X if order != NULL else X + start * net.units[0],
            Y if order != NULL else Y + start * n_targets, n_targets,
            weights if order != NULL or weights == NULL else weights + start,
            NULL if order == NULL else order + start, rows,
            scale, beta_W if start == 0 else <floating> 1,
            beta_b if start == 0 else <floating> 1, G, work)
        start += rows
    return loss


cdef void update(
    Net net,
    Rule rule,
    long long n_steps,  # made before
    floating *theta,
    floating *G,  # IN, SCRATCH
    floating *m,  # IN/OUT velocity or first moment; NULL: plain descent
    floating *s,  # IN/OUT second moment; NULL: no Adam
) noexcept nogil:
    """One step along the gradient G of the cross-entropy; b carries no penalty."""
    cdef:
        Py_ssize_t layer, part, n, start = 0
        double norm, total = 0, eta = rule.eta, alpha = rule.alpha, penalty
    if rule.max_gradient_norm > 0:
        # g <- g min(1, c / ||g||),  g = G + alpha W
        for layer in range(net.n_layers):
            n = net.units[layer + 1] * net.units[layer]
            if floating is float:
                add_scaled_f32(G + start, theta + start, n, <float> alpha)
            else:
                add_scaled_f64(G + start, theta + start, n, alpha)
            start += n + net.units[layer + 1]
        if floating is float:
            total = sum_of_squares_f32(G, start)
        else:
            total = sum_of_squares_f64(G, start)
        norm = sqrt(total)
        if norm > rule.max_gradient_norm:
            if floating is float:
                scale_f32(G, start, <float> (rule.max_gradient_norm / norm))
            else:
                scale_f64(G, start, rule.max_gradient_norm / norm)
        alpha = 0
        start = 0
    if s != NULL:
        # eta sqrt(1 - beta_2^t) / (1 - beta_1^t)
        eta *= (sqrt(1 - rule.beta_2 ** (n_steps + 1))
                / (1 - rule.momentum ** (n_steps + 1)))
    for layer in range(net.n_layers):
        for part in range(2):
            n = net.units[layer + 1] * (1 if part else net.units[layer])
            penalty = 0 if part else alpha
            if floating is float:
                if s != NULL:
                    adam_step_f32(
                        theta + start, G + start, m + start, s + start, n, <float> eta,
                        <float> penalty, <float> rule.momentum, <float> rule.beta_2,
                        <float> rule.epsilon)
                elif m != NULL:
                    momentum_step_f32(
                        theta + start, G + start, m + start, n, <float> eta,
                        <float> penalty, <float> rule.momentum, rule.nesterov)
                else:
                    sgd_step_f32(theta + start, G + start, n, <float> eta,
                                 <float> penalty)
            else:
                if s != NULL:
                    adam_step_f64(
                        theta + start, G + start, m + start, s + start, n, eta, penalty,
                        rule.momentum, rule.beta_2, rule.epsilon)
                elif m != NULL:
                    momentum_step_f64(
                        theta + start, G + start, m + start, n, eta, penalty,
                        rule.momentum, rule.nesterov)
                else:
                    sgd_step_f64(theta + start, G + start, n, eta, penalty)
            start += n


def loss_gradient(
    network,
    const floating[::1] theta,  # IN
    const floating[:, ::1] X,  # IN (n, d)
    const int[:, ::1] Y,  # IN (n, 1) codes or (n, K) indicators
    const floating[::1] weights,  # IN (n,) or None
    floating[::1] gradient,  # OUT, like theta; None: the loss alone
    floating[::1] work,  # SCRATCH
    Py_ssize_t tile,
):
    """sum_i w_i l_i over the rows of X, and its gradient with respect to theta.

    A plain sum, without penalty: parts of the data can be added up.
    """
    cdef:
        const Py_ssize_t[::1] units = network.units
        Net net = _net(units, network.activation, network.output_activation)
        Clock clock = Clock(0, 1000 + theta.shape[0])
        const floating *w = NULL if weights is None else &weights[0]
        floating *G = NULL if gradient is None else &gradient[0]
        double loss
    with nogil:
        loss = backprop(net, &theta[0], &X[0, 0], &Y[0, 0], Y.shape[1], w, NULL,
                        X.shape[0], 1, 0, 0, G, &work[0], tile, &clock)
    return loss


def run_batches(
    network,
    floating[::1] theta,  # IN/OUT
    floating[::1] velocity,  # IN/OUT like theta; None: no momentum. Adam: first moment
    floating[::1] second_moment,  # IN/OUT like theta; None: no Adam
    long long n_steps,  # made before, for Adam
    const floating[:, ::1] X,  # IN (n, d)
    const int[:, ::1] Y,  # IN (n, 1) codes or (n, K) indicators
    const floating[::1] weights,  # IN (n,) or None
    const Py_ssize_t[::1] order,  # IN (n_order,) row numbers, or None: all as they come
    Py_ssize_t batch_size,
    step,  # the parameters of the step, see _descent.Step
    floating[::1] gradient,  # SCRATCH like theta
    floating[::1] work,  # SCRATCH
    Py_ssize_t tile,
):
    """One step of gradient descent per batch of `batch_size` rows; the last may be short.

        g = 1 / m sum_{i in batch} w_i dl_i/dtheta + alpha W
        theta <- theta - eta g        or the rule of momentum, Nesterov or Adam

    The weights are expected to average 1 over the data.

    Returns sum_i w_i l_i, each row's loss taken just before the step it is part of, and
    the number of rows whose step was made: fewer than there are if a loss was not
    finite. That step is not made. Raises KeyboardInterrupt soon after Ctrl-C; theta then
    holds the last whole step.
    """
    cdef:
        const Py_ssize_t[::1] units = network.units
        Net net = _net(units, network.activation, network.output_activation)
        Rule rule
        Clock clock = Clock(0, 1000 + theta.shape[0])
        const floating *all_weights = NULL if weights is None else &weights[0]
        const floating *w = all_weights
        floating *v = NULL if velocity is None else &velocity[0]
        floating *s = NULL if second_moment is None else &second_moment[0]
        bint shuffled = order is not None
        Py_ssize_t n = order.shape[0] if shuffled else X.shape[0]
        Py_ssize_t m, start = 0, n_targets = Y.shape[1]
        const floating *X_batch = &X[0, 0]
        const int *Y_batch = &Y[0, 0]
        const Py_ssize_t *rows = NULL
        double loss, total = 0, scale, decay
        # Below, rounding the factor 1 - eta alpha would change alpha by a percent.
        double least_decay = 64 * (1.2e-7 if floating is float else 2.2e-16)
        bint in_place
    rule.eta = step.eta
    rule.alpha = step.alpha
    rule.momentum = step.momentum
    rule.nesterov = step.nesterov
    rule.beta_2 = step.beta_2
    rule.epsilon = step.epsilon
    rule.max_gradient_norm = step.max_gradient_norm
    decay = rule.eta * rule.alpha
    in_place = (v == NULL and rule.max_gradient_norm == 0 and batch_size <= tile
                and (rule.alpha == 0 or decay > least_decay))
    with nogil:
        while start < n:
            m = min(batch_size, n - start)
            if shuffled:
                rows = &order[start]
            else:
                X_batch = &X[start, 0]
                Y_batch = &Y[start, 0]
                w = NULL if w == NULL else all_weights + start
            scale = 1.0 / m
            if in_place:
                # W <- (1 - eta alpha) W - eta scale dJ/dW: the gradient is never stored.
                loss = backprop(
                    net, &theta[0], X_batch, Y_batch, n_targets, w, rows, m,
                    <floating> (-rule.eta * scale), <floating> (1 - decay), 1,
                    &theta[0], &work[0], tile, &clock)
            else:
                loss = backprop(
                    net, &theta[0], X_batch, Y_batch, n_targets, w, rows, m,
                    <floating> scale, 0, 0, &gradient[0], &work[0], tile, &clock)
                if isfinite(loss):
                    update(net, rule, n_steps, &theta[0], &gradient[0], v, s)
            total += loss
            if not isfinite(loss):
                break
            start += m
            n_steps += 1
    return total, start


def decision_function(
    network,
    const floating[::1] theta,  # IN
    const floating[:, ::1] X,  # IN (n, d)
    floating[:, ::1] Z,  # OUT (n, K) pre-activations of the output layer
    floating[::1] work,  # SCRATCH
    Py_ssize_t tile,
):
    """Z_L for every row of X."""
    cdef:
        const Py_ssize_t[::1] units = network.units
        Net net = _net(units, network.activation, network.output_activation)
        Py_ssize_t n = X.shape[0], K = Z.shape[1], start = 0, m
        floating *out
    with nogil:
        while start < n:
            m = min(tile, n - start)
            out = forward(net, &theta[0], &X[start, 0], m, &work[0])
            memcpy(&Z[start, 0], out, m * K * sizeof(floating))
            start += m


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
    cdef unsigned long long bits
    with nogil:
        for i in range(order.shape[0]):
            state += 0x9E3779B97F4A7C15ULL
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
