# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""Forward pass, cross-entropy, back-propagation and gradient descent, compiled.

Conventions
-----------
n rows in the data, m in the batch at hand; L weight layers with units[0] = d features,
units[L] = K outputs. Everything is row-major, samples in rows.

    theta    [W_1, b_1, ..., W_L, b_L], W_l (units[l-1], units[i]), b_l (units[i],)
    A_0      the rows of X, (m, d)
    Z_l      A_{l-1} W_l + b_l, the pre-activations, (m, units[i])
    A_l      f(Z_l) in the hidden layers; the output layer keeps Z_L
    D_l      dJ/dZ_l, (m, units[i]); at the output, for both losses, w_i (a_i - y_i)
    Y        class codes, (n, 1), or 0/1 indicators, (n, K); for K = 1 these coincide

The loss of a row is the cross-entropy summed over the output units, times its weight.
It is computed from Z_L, never from log(A_L).

Rows are taken at most `tile` at a time: however large the batch, what is read and written
between two passes over the weights stays in the cache.

Sparse rows (CSR) are never densified: a step reads and writes the rows of W_1 that they
name. Then theta holds W_1 / s for the time of a call of `run_batches`, and decay changes
the number s alone.

A team of threads may run `loss_gradient`, `run_batches` and `outputs` together: all call
it with the same arguments, but each with its own number. Each takes its share of the rows
of a tile through the network and back; when all have done so, each adds its share of the
rows of every W_l to the gradient, from all rows of the tile. No sum is split.

Every array comes in an object that checked its size, type and order (`Parameters`,
`Rows`, `Workspace`), and every function checks that these belong together before it
releases the GIL: no mistake in Python reads or writes past an array.
"""
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cython cimport floating
from libc.math cimport NAN, fabs, isfinite, sqrt
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from .kernels cimport (
    IDENTITY, LOGISTIC, PANEL, RELU, SMALLEST_SCALE, SOFTMAX, TANH, Activation, Barrier,
    Data, InstructionSet, Kernels, Layer, Pass, Product, Slice, TeamState, UpdateRule,
    avx2_set, avx512_set, baseline_set, choose, flush_denormals, restore_mode
)

# Instruction sets ----------------------------------------------------------------------

cdef const InstructionSet *_chosen = baseline_set()


def instruction_sets():
    """The names of those that this processor has, the widest last."""
    names = ["baseline"]
    if avx2_set() != NULL:
        names.append("avx2")
    if avx512_set() != NULL:
        names.append("avx512")
    return names


def use_instruction_set(name):
    """Use the kernels of one of them from now on; returns the name of the one before."""
    global _chosen
    before = _chosen.name.decode()
    if name not in instruction_sets():
        raise ValueError(
            f"Got instruction set {name!r}; this processor has {instruction_sets()}.")
    if name == "baseline":
        _chosen = baseline_set()
    elif name == "avx2":
        _chosen = avx2_set()
    else:
        _chosen = avx512_set()
    return before


# Checked arguments ---------------------------------------------------------------------

cdef class Array:
    """The memory of an array, checked, and held as long as this object lives."""
    cdef Py_buffer view
    cdef bint held
    cdef Py_ssize_t n  # of elements
    cdef char kind  # of number: "f", "d", or an integer's

    def __cinit__(self, array, str name, int ndim, str kinds, bint writable=False):
        flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0)
        try:
            PyObject_GetBuffer(array, &self.view, flags)
        except (BufferError, TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must be a C-contiguous array{' to write to' * writable}: {error}"
            ) from error
        self.held = True
        form = self.view.format.decode()
        if self.view.ndim != ndim or form not in list(kinds):
            raise ValueError(f"{name} must have {ndim} dimensions and a type of "
                             f"{kinds!r}; got {self.view.ndim} and {form!r}.")
        if <size_t> self.view.buf % <size_t> self.view.itemsize:
            raise ValueError(f"{name} must be aligned.")
        self.kind = self.view.format[0]
        self.n = self.view.len // self.view.itemsize

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef object _float_array(array, name, ndim, Py_ssize_t n, like=None, writable=True):
    """An `Array` of n floats, of the type of another; None stays None."""
    if array is None:
        return None
    cdef Array result = Array(array, name, ndim, "fd", writable)
    if result.n != n:
        raise ValueError(f"{name} must have {n} elements; got {result.n}.")
    if like is not None and result.kind != (<Array> like).kind:
        raise ValueError(f"{name} must be of the same type as the rest.")
    return result


cdef inline void *_address(array) noexcept:
    return NULL if array is None else (<Array> array).view.buf


cdef class Layout:
    """Where everything lies, in theta and in scratch memory, computed here alone.

    Scratch memory has for each row of a tile: A_1 ... Z_L, D_1 ... D_{L-1} (that of the
    output overwrites Z_L), its targets (one-hot), the losses of its output units, its
    weight, and last, if rows are gathered (dense, in another order), the row of X.
    """
    cdef Layer *layers
    cdef readonly Py_ssize_t n_layers, d, K, n_parameters
    cdef Py_ssize_t Y, loss, weight, X, row_size
    cdef Activation hidden, output
    cdef object args

    def __cinit__(self, units, activation, output_activation):
        units = [int(n) for n in units]
        if len(units) < 2 or min(units) < 1:
            raise ValueError(f"units must be 2 positive numbers or more; got {units}.")
        if sum((p + 1) * q for p, q in zip(units, units[1:])) >= 1 << 58:
            raise MemoryError(f"A network of {units} units is too large.")
        self.args = tuple(units), activation, output_activation
        self.n_layers = len(units) - 1
        self.layers = <Layer *> calloc(self.n_layers, sizeof(Layer))
        if self.layers == NULL:
            raise MemoryError
        self.d, self.K = units[0], units[len(units) - 1]
        self.hidden, self.output = _code(activation), _code(output_activation)
        cdef Py_ssize_t i, start = 0, place = 0
        for i in range(self.n_layers):
            self.layers[i].p, self.layers[i].q = units[i], units[i + 1]
            self.layers[i].W, self.layers[i].A = start, place
            self.layers[i].b = start + self.layers[i].p * self.layers[i].q
            start += (units[i] + 1) * units[i + 1]
            place += units[i + 1]
        self.n_parameters = start
        for i in range(self.n_layers - 1):
            self.layers[i].D = place
            place += units[i + 1]
        # The output's D is its Z, changed in place.
        self.layers[self.n_layers - 1].D = self.layers[self.n_layers - 1].A
        self.Y, self.loss, self.weight = place, place + self.K, place + 2 * self.K
        self.X = self.weight + 1
        self.row_size = self.X + self.d

    def __dealloc__(self):
        free(self.layers)

    def __reduce__(self):
        return Layout, self.args

    def places(self):
        """Of each layer: where W and b begin in theta, units in, units out."""
        return [(self.layers[i].W, self.layers[i].b, self.layers[i].p, self.layers[i].q)
                for i in range(self.n_layers)]

    def size_of_row(self, bint gathered):
        """Elements of scratch memory for each row of a tile."""
        return self.row_size if gathered else self.X


cdef Activation _code(name):
    if name == "logistic":
        return LOGISTIC
    if name == "tanh":
        return TANH
    if name == "relu":
        return RELU
    if name == "identity":
        return IDENTITY
    if name == "softmax":
        return SOFTMAX
    raise ValueError(f"There is no activation {name!r}.")


cdef class Parameters:
    """theta, and for its steps velocity, second moment (None: none) and gradient."""
    cdef readonly Layout layout
    cdef object theta, velocity, second_moment, gradient
    cdef char kind

    def __cinit__(self, Layout layout not None, theta, velocity=None,
                  second_moment=None, gradient=None):
        cdef Py_ssize_t n = layout.n_parameters
        self.layout = layout
        # Predictions read it only.
        self.theta = _float_array(theta, "theta", 1, n, None, False)
        if self.theta is None:
            raise ValueError("theta must be an array; got None.")
        self.kind = (<Array> self.theta).kind
        self.velocity = _float_array(velocity, "velocity", 1, n, self.theta)
        self.second_moment = _float_array(
            second_moment, "second_moment", 1, n, self.theta)
        self.gradient = _float_array(gradient, "gradient", 1, n, self.theta)
        if second_moment is not None and velocity is None:
            raise ValueError("second_moment needs a velocity.")

    cdef check_rule(self, UpdateRule rule):
        if (<Array> self.theta).view.readonly:
            raise ValueError("theta must be an array to write to.")
        if rule.adam != (self.second_moment is not None):
            raise ValueError("A second moment is for Adam, and Adam needs one.")


cdef bint _all_within(const void *numbers, bint wide, Py_ssize_t n, Py_ssize_t stop
                      ) noexcept nogil:
    """Whether all of n integers lie in 0 ... stop - 1."""
    cdef:
        Py_ssize_t i
        bint outside = False
        const int *narrow = <const int *> numbers
        const long long *long_ones = <const long long *> numbers
    if wide:
        for i in range(n):
            outside |= <unsigned long long> long_ones[i] >= <unsigned long long> stop
    else:
        for i in range(n):
            outside |= narrow[i] < 0 or narrow[i] >= stop
    return not outside


cdef class Rows:
    """Rows of X, (n, d) array or CSR, with targets, weights and order, each if given.

    What it is made from must not change its integers; those of `order` may.
    """
    cdef readonly Py_ssize_t n, d, n_used
    cdef readonly bint sparse
    cdef object X, indices, indptr, Y, weights, order
    cdef Py_ssize_t n_targets, n_codes
    cdef char kind

    def __cinit__(self, X, Y=None, weights=None, order=None):
        cdef Array array, indices, indptr
        cdef const int *codes
        cdef Py_ssize_t i
        self.sparse = hasattr(X, "indptr")
        if self.sparse:
            self.n, self.d = X.shape
            self.X = array = Array(X.data, "X.data", 1, "fd")
            self.indices = indices = Array(X.indices, "X.indices", 1, "ilq")
            self.indptr = indptr = Array(X.indptr, "X.indptr", 1, "ilq")
            self._check_csr(array, indices, indptr)
        else:
            self.X = array = Array(X, "X", 2, "fd")
            self.n, self.d = array.view.shape[0], array.view.shape[1]
        self.kind = array.kind
        self.weights = _float_array(weights, "weights", 1, self.n, array, False)
        self.n_used = self.n
        if Y is not None:
            self.Y = array = Array(Y, "Y", 2, "i")
            self.n_targets = array.view.shape[1]
            if array.view.shape[0] != self.n:
                raise ValueError(f"Y must have {self.n} rows; got {array.view.shape[0]}.")
            codes = <const int *> array.view.buf
            for i in range(array.n):
                if codes[i] < 0:
                    raise ValueError("Y must not be negative.")
                self.n_codes = max(self.n_codes, codes[i] + <Py_ssize_t> 1)
        if order is not None:
            self.order = array = Array(order, "order", 1, "ilq")
            if array.view.itemsize != sizeof(Py_ssize_t):  # "l" is 32 bits in Windows
                raise ValueError("order must be of the type intp.")
            self.n_used = array.n
            self.check_order()

    cdef _check_csr(self, Array data, Array indices, Array indptr):
        cdef Py_ssize_t i, last = 0, end, n = min(data.n, indices.n)
        cdef bint wide = indptr.view.itemsize == 8, rising = indptr.n == self.n + 1
        if rising:
            for i in range(self.n + 1):
                end = ((<long long *> indptr.view.buf)[i] if wide else
                       (<int *> indptr.view.buf)[i])
                rising &= last <= end <= n
                last = end
        if not rising or not _all_within(
                indices.view.buf, indices.view.itemsize == 8, last, self.d):
            raise ValueError(
                f"The sparse matrix X of shape {(self.n, self.d)} is damaged: its indptr "
                f"must rise from 0 to at most {n}, its indices be from 0 to {self.d - 1}."
            )

    cdef check_order(self):
        cdef Array order = self.order
        if order is not None and not _all_within(
                order.view.buf, sizeof(Py_ssize_t) == 8, order.n, self.n):
            raise ValueError(f"order must hold numbers from 0 to {self.n - 1}.")

    cdef check(self, Parameters parameters, bint with_targets):
        """These rows can be rows of this network."""
        cdef Layout layout = parameters.layout
        if self.d != layout.d or self.kind != parameters.kind:
            raise ValueError(
                f"X must have {layout.d} features of the type of theta; it has {self.d}.")
        if not with_targets:
            return
        if self.Y is None:
            raise ValueError("The rows have no targets.")
        if self.n_targets != 1 and self.n_targets != layout.K or (
                self.n_targets > 1 and layout.output == SOFTMAX):
            raise ValueError(f"Y must have 1 or {layout.K} columns (softmax: 1); got "
                             f"{self.n_targets}.")
        n_codes = layout.K if self.n_targets == 1 else 2
        if layout.output != SOFTMAX:
            n_codes = max(2, n_codes)
        if self.n_codes > n_codes:
            raise ValueError(f"Y must be less than {n_codes}; got {self.n_codes - 1}.")
        self.check_order()


cdef void _fill(Rows rows, Data[floating] *data):
    data.n, data.d, data.sparse = rows.n_used, rows.d, rows.sparse
    data.X = <const floating *> _address(rows.X)
    data.indices, data.indptr = _address(rows.indices), _address(rows.indptr)
    if rows.sparse:
        data.wide_indices = (<Array> rows.indices).view.itemsize == 8
        data.wide_indptr = (<Array> rows.indptr).view.itemsize == 8
    data.Y, data.n_targets = <const int *> _address(rows.Y), rows.n_targets
    data.weights = <const floating *> _address(rows.weights)
    data.order = <const Py_ssize_t *> _address(rows.order)


cdef class Workspace:
    """Scratch memory for tiles of rows, to be allocated once, and for packed panels.

    `dtype` is a NumPy type; rows that are taken in another order are gathered in it.
    """
    cdef readonly Py_ssize_t tile
    cdef readonly double loss_sum  # what `run_batches` returned last, or got to
    cdef readonly Py_ssize_t n_done
    cdef Py_ssize_t stride, row_size  # rows that memory is laid out for, their elements
    cdef Py_ssize_t n_threads  # wide enough for the size of all panels
    cdef char kind
    cdef void *memory
    cdef char *start  # aligned

    def __cinit__(self, Layout layout not None, dtype, Py_ssize_t tile,
                  Py_ssize_t n_threads=1, bint gathered=False):
        if tile < 1 or n_threads < 1:
            raise ValueError("tile and n_threads must be positive.")
        self.kind = ord(dtype.char)
        if self.kind not in (c"f", c"d"):
            raise ValueError(f"dtype must be float32 or float64; got {dtype}.")
        self.tile, self.n_threads = tile, n_threads
        self.stride = (tile + 15) // 16 * 16 if tile > 1 else 1
        self.row_size = layout.size_of_row(gathered)
        size = int(self.stride) * self.row_size + int(n_threads) * PANEL + 16
        self.memory = PyMem_Malloc(size * (4 if self.kind == c"f" else 8) + 64)
        if self.memory == NULL:
            raise MemoryError
        self.start = <char *> ((<size_t> self.memory + 63) // 64 * 64)

    def __dealloc__(self):
        PyMem_Free(self.memory)

    def forget(self):
        """What an earlier `run_batches` returned: the next may not even begin."""
        self.loss_sum, self.n_done = 0, 0

    cdef check(self, Parameters parameters, Rows rows, TeamState *team, int thread):
        cdef bint gathered = not rows.sparse and rows.order is not None
        if self.kind != parameters.kind:
            raise ValueError("The workspace must be of the type of theta.")
        if self.row_size < parameters.layout.size_of_row(gathered):
            raise ValueError("The workspace is too small for this network and its rows.")
        if not 0 <= thread < team.barrier.n_threads <= self.n_threads:
            raise ValueError("The workspace is for fewer threads.")


# Teams of threads ----------------------------------------------------------------------

cdef class SharedTeam:
    """What the threads of a team share: where they meet, and what each contributes."""
    cdef TeamState state

    def __cinit__(self, int n_threads=1):
        if n_threads < 1:
            raise ValueError(f"n_threads must be positive; got {n_threads}.")
        self.state.barrier = new Barrier()
        self.state.barrier.n_threads = n_threads
        self.state.sums = <double *> calloc(n_threads, 64)
        if self.state.sums == NULL:
            raise MemoryError

    def __dealloc__(self):
        del self.state.barrier
        free(self.state.sums)

    def stop(self):
        """Let all threads leave that wait for others."""
        self.state.barrier.stop()


cdef double total_over(TeamState *team, int thread, double part) noexcept nogil:
    """The sum over all threads, the same for each; nan if the team was stopped."""
    cdef double total = 0
    cdef int i
    if team.barrier.n_threads == 1:
        return part
    team.sums[8 * thread] = part
    if not team.barrier.wait():
        return NAN
    for i in range(team.barrier.n_threads):
        total += team.sums[8 * i]
    return total


cdef inline Py_ssize_t first_row_of(
    int thread, Py_ssize_t n, TeamState *team
) noexcept nogil:
    """Where the share of a thread begins; that of the next is where it ends."""
    return n * thread // team.barrier.n_threads


# One pass ------------------------------------------------------------------------------

cdef Pass[floating] *_begin(
    Parameters parameters, Rows rows, Workspace work, TeamState *team, int thread,
    Pass[floating] *run,
) except NULL:
    """Fill `run` with the pointers of a call, all checked."""
    cdef Layout layout = parameters.layout
    if work is not None:
        work.check(parameters, rows, team, thread)
        run.tile, run.stride = work.tile, work.stride
        run.panel = <floating *> work.start + <Py_ssize_t> thread * PANEL
        run.scratch = <floating *> work.start + work.n_threads * PANEL
    if rows is not None:
        _fill(rows, &run.data)
    choose(_chosen, &run.kernels)
    run.layers, run.n_layers = layout.layers, layout.n_layers
    run.d, run.K = layout.d, layout.K
    run.Y, run.loss, run.weight, run.X = layout.Y, layout.loss, layout.weight, layout.X
    run.hidden, run.output = layout.hidden, layout.output
    run.theta = <floating *> _address(parameters.theta)
    run.gradient = <floating *> _address(parameters.gradient)
    run.velocity = <floating *> _address(parameters.velocity)
    run.second_moment = <floating *> _address(parameters.second_moment)
    run.W_scale = 1
    run.team, run.thread = team, thread
    run.work, run.work_per_row = 0, 1000 + layout.n_parameters
    return run


cdef int check_signals(Pass[floating] *run, double work) except -1 nogil:
    """Some times a second the first thread lets Python raise KeyboardInterrupt."""
    if run.thread > 0:
        return 0
    run.work += work
    if run.work > 1e8:
        run.work = 0
        restore_mode(run.mode)
        with gil:
            PyErr_CheckSignals()
        flush_denormals()
    return 0


cdef inline floating *place(Pass[floating] *run, Py_ssize_t offset, Py_ssize_t row,
                            Py_ssize_t width) noexcept nogil:
    """Of a row of a tile in one of the matrices of the scratch memory."""
    return run.scratch + run.stride * offset + row * width


cdef void times_weights(
    Pass[floating] *run, Py_ssize_t i, Py_ssize_t m, const floating *A, floating *C,
    bint transposed,
) noexcept nogil:
    """C = A W_l + b_l, or if transposed A W_l^T."""
    cdef const Layer *layer = run.layers + i
    cdef Product[floating] g
    g.m, g.k, g.n = m, layer.p, layer.q
    g.B.at, g.B.row, g.B.column = run.theta + layer.W, layer.q, 1
    g.P = run.theta + layer.b
    if transposed:
        g.k, g.n = g.n, g.k
        g.B.row, g.B.column = g.B.column, g.B.row
        g.P = NULL
    g.A.at, g.A.row, g.A.column = A, g.k, 1
    g.scale, g.decay, g.ld_P = 1, 0, 0
    g.C, g.ld_C, g.panel = C, g.n, run.panel
    run.kernels.multiply(g)


cdef floating *forward(
    Pass[floating] *run,
    Py_ssize_t start,  # the first of m rows of the data
    const floating *X,  # IN (m, d) these rows, unless they are sparse
    Py_ssize_t m,
    Py_ssize_t first,  # the row of the tile to write the first to
) noexcept nogil:
    """The forward pass of m rows; returns the address of the first row of Z_L."""
    cdef:
        Py_ssize_t i
        const Layer *layer
        const floating *A_in = X
        floating *A_out = NULL
        Product[floating] g
    for i in range(run.n_layers):
        layer = run.layers + i
        A_out = place(run, layer.A, first, layer.q)
        if i == 0 and run.data.sparse:
            # Z_1 = X (s W_1 / s) + b_1
            g.m, g.n, g.B.at = m, layer.q, run.theta
            g.P, g.C = run.theta + layer.b, A_out
            run.kernels.sparse_affine(run.data, start, <floating> run.W_scale, g)
        else:
            # Z_l = A_{l-1} W_l + b_l
            times_weights(run, i, m, A_in, A_out, False)
        if i < run.n_layers - 1:
            # A_l = f(Z_l)
            run.kernels.activate(run.hidden, A_out, m * layer.q)
        A_in = A_out
    return A_out


cdef double output_gradient(
    Pass[floating] *run,
    Py_ssize_t m,
    floating *Z,  # IN Z_L, OUT D_L = w (a - y), (m, K)
    const floating *Y,  # IN (m, K) 0/1; softmax: (m,) codes, as integers
    const floating *weights,  # IN (m,), if the rows have weights
    floating *loss,  # SCRATCH (m, K)
) noexcept nogil:
    """sum_i w_i l_i over m rows, and D_L."""
    cdef:
        Py_ssize_t i, k, K = run.K, n_terms = 1 if run.output == SOFTMAX else K
        double row, total = 0
    if run.output == SOFTMAX:
        run.kernels.softmax(m, K, Z, <const int *> Y, loss)
    else:
        run.kernels.sigmoid_cross_entropy(Z, Y, loss, m * K)
    if run.data.weights == NULL:
        return run.kernels.sum(loss, m * n_terms)
    for i in range(m):
        if weights[i] == 0:
            for k in range(K):
                Z[i * K + k] = 0  # a product with 0 would keep a NaN
            continue
        row = 0
        for k in range(n_terms):
            row += loss[i * n_terms + k]
        total += weights[i] * row
        for k in range(K):
            Z[i * K + k] *= weights[i]
    return total


cdef const floating *rows_of_tile(
    Pass[floating] *run, Py_ssize_t start, Py_ssize_t m
) noexcept nogil:
    """Where the m dense rows of a tile are, (m, d)."""
    if run.data.sparse:
        return NULL
    if run.data.order == NULL:
        return run.data.X + start * run.d
    if m == 1:
        return run.data.X + run.data.order[start] * run.d
    return place(run, run.X, 0, 0)


cdef double forward_backward_rows(
    Pass[floating] *run,
    Py_ssize_t start,  # the first row of the tile
    Py_ssize_t m,  # rows of the tile; this thread takes first ... last - 1
    Py_ssize_t first, Py_ssize_t last,
    bint with_gradient,
) noexcept nogil:
    """Take rows through the network and back; returns sum_i w_i l_i over them."""
    cdef:
        Py_ssize_t i, n = last - first
        const Layer *layer
        const floating *X = rows_of_tile(run, start, m)
        floating *Y = place(run, run.Y, first, run.K)
        floating *weights = place(run, run.weight, first, 1)
        floating *D
        floating *S
        double loss
    if n == 0:
        return 0
    if X == place(run, run.X, 0, 0):
        run.kernels.gather(run.data, start + first, n, place(run, run.X, first, run.d))
    run.kernels.targets(
        run.data, start + first, n, run.K, run.output == SOFTMAX, Y, weights)
    if X != NULL:
        X += first * run.d
    D = forward(run, start + first, X, n, first)
    loss = output_gradient(run, n, D, Y, weights, place(run, run.loss, first, run.K))
    if not with_gradient or not isfinite(loss):
        return loss
    for i in range(run.n_layers - 1, 0, -1):
        layer = run.layers + i
        S = place(run, run.layers[i - 1].D, first, layer.p)
        # dJ/dA_{l-1} = D_l W_l^T
        times_weights(run, i, n, D, S, True)
        # D_{l-1} = dJ/dA_{l-1} * f'(Z_{l-1})
        run.kernels.times_derivative(
            run.hidden, place(run, run.layers[i - 1].A, first, layer.p), S, n * layer.p)
        D = S
    return loss


# How a gradient is added: G_W = P_W - decay P_W + scale dJ/dW, G_b = P_b + scale dJ/db.
cdef struct Addition:
    double scale, decay
    double rescale  # of sparse rows, G_1 = rescale P_1 + scale / W_scale dJ/dW_1
    bint accumulate  # P is G itself; else 0


cdef void accumulate_gradient(
    Pass[floating] *run, Py_ssize_t start, Py_ssize_t m, floating *G, Addition how
) noexcept nogil:
    """Add the gradient of the m rows of a tile to G, which is like theta.

    Of each W_l a share of its rows; the b_l by the last thread. With G = theta, scale =
    -eta / m and decay = eta alpha this *is* the step of gradient descent.
    """
    cdef:
        Py_ssize_t i, first, last
        const Layer *layer
        const floating *A_in = rows_of_tile(run, start, m)
        floating one = 1
        floating *G_W
        Product[floating] g
    g.panel, g.k, g.scale = run.panel, m, <floating> how.scale
    for i in range(run.n_layers):
        layer = run.layers + i
        first = first_row_of(run.thread, layer.p, run.team)
        last = first_row_of(run.thread + 1, layer.p, run.team)
        G_W = G + layer.W + first * layer.q
        g.n = g.ld_C = g.ld_P = layer.q
        g.B.at, g.B.row, g.B.column = place(run, layer.D, 0, 0), layer.q, 1
        # dJ/dW_l = A_{l-1}^T D_l
        if i == 0 and run.data.sparse:
            if not how.accumulate:
                memset(G_W, 0, (last - first) * layer.q * sizeof(floating))
            elif how.rescale != 1:
                run.kernels.scale(G_W, (last - first) * layer.q, <floating> how.rescale)
            g.C, g.scale = G, <floating> (how.scale / run.W_scale)
            run.kernels.add_sparse_product(run.data, start, first, last, g)
            g.scale = <floating> how.scale
        else:
            g.m, g.decay = last - first, <floating> how.decay
            g.A.at, g.A.row, g.A.column = A_in + first, 1, layer.p
            g.C, g.P = G_W, G_W if how.accumulate else <floating *> NULL
            run.kernels.multiply(g)
        # dJ/db_l = sum_i D_l[i]
        if run.thread == run.team.barrier.n_threads - 1:
            g.m, g.decay, g.C = 1, 0, G + layer.b
            g.P = g.C if how.accumulate else <floating *> NULL
            g.A.at, g.A.row, g.A.column = &one, 0, 0
            run.kernels.multiply(g)
        A_in = place(run, layer.A, 0, 0)


cdef double backprop(
    Pass[floating] *run, Py_ssize_t start, Py_ssize_t m, floating *G, Addition how
) except? -1 nogil:
    """sum_i w_i l_i over m rows, and its gradient into G, unless that is NULL.

    Not finite as soon as the loss of one tile is not; G is then partly written, but not
    by the first tile.
    """
    cdef:
        Py_ssize_t n, stop = start + m
        double loss = 0
    while start < stop and isfinite(loss):
        n = min(run.tile, stop - start)
        check_signals(run, n * run.work_per_row)
        loss += total_over(run.team, run.thread, forward_backward_rows(
            run, start, n, first_row_of(run.thread, n, run.team),
            first_row_of(run.thread + 1, n, run.team), G != NULL))
        if G != NULL and isfinite(loss):
            if run.data.sparse and how.decay != 0:
                # W_1 = s V decays by s alone, until V has to be scaled.
                run.W_scale *= 1 - how.decay
                if not SMALLEST_SCALE < fabs(run.W_scale) < 1 / SMALLEST_SCALE:
                    how.rescale, run.W_scale = run.W_scale, 1
            accumulate_gradient(run, start, n, G, how)
            how.decay, how.rescale, how.accumulate = 0, 1, True
        # The scratch memory is free again, and G complete, when all are here.
        if not run.team.barrier.wait():
            return NAN
        start += n
    return loss


cdef bint make_step(Pass[floating] *run, UpdateRule rule, long long n_steps
                    ) noexcept nogil:
    """One step along the gradient of the cross-entropy; b carries no penalty.

    Each thread takes the share of theta whose gradient it has. Returns False if the norm
    is not finite, or the team was stopped.
    """
    cdef:
        Py_ssize_t i, part, first, n
        const Layer *layer
        int task  # 0: penalty and norm, 1: step
        bint limited = rule.max_gradient_norm > 0
        double norm, total = 0, factor = 1, eta = rule.eta, alpha
        Slice[floating] s
    if rule.adam:
        # eta sqrt(1 - beta_2^t) / (1 - beta_1^t)
        eta *= (sqrt(1 - rule.beta_2 ** (n_steps + 1))
                / (1 - rule.beta_1 ** (n_steps + 1)))
    for task in range(0 if limited else 1, 2):
        if limited and task == 1:
            # g = g min(1, c / ||g||),  g = G + alpha W
            norm = sqrt(total_over(run.team, run.thread, total))
            if not isfinite(norm):
                return False
            if norm > rule.max_gradient_norm:
                factor = rule.max_gradient_norm / norm
        for i in range(run.n_layers):
            layer = run.layers + i
            for part in range(2):  # W, then b
                if part == 0:
                    first = first_row_of(run.thread, layer.p, run.team) * layer.q
                    n = first_row_of(run.thread + 1, layer.p, run.team) * layer.q - first
                    first += layer.W
                    alpha = rule.alpha
                else:
                    first, alpha = layer.b, 0
                    n = layer.q if run.thread == run.team.barrier.n_threads - 1 else 0
                s.n, s.theta, s.gradient = n, run.theta + first, run.gradient + first
                s.velocity = s.second_moment = NULL
                if run.velocity != NULL:
                    s.velocity = run.velocity + first
                if run.second_moment != NULL:
                    s.second_moment = run.second_moment + first
                if task == 0:
                    run.kernels.add_scaled(s.gradient, s.theta, n, <floating> alpha)
                    total += run.kernels.sum_of_squares(s.gradient, n)
                    continue
                if factor < 1:
                    run.kernels.scale(s.gradient, n, <floating> factor)
                # Where the norm is limited, the penalty is in the gradient.
                run.kernels.update(rule, eta, 0 if limited else alpha, s)
    return run.team.barrier.wait()


# The doors -----------------------------------------------------------------------------

cdef UpdateRule _rule(step) except *:
    cdef UpdateRule rule
    rule.eta, rule.alpha = step.eta, step.alpha
    rule.momentum, rule.beta_1 = step.momentum, step.beta_1
    rule.adam = step.solver == "adam"
    rule.nesterov = step.nesterov
    rule.beta_2, rule.epsilon = step.beta_2, step.epsilon
    rule.max_gradient_norm = step.max_gradient_norm
    return rule


cdef double _loss_gradient(Pass[floating] *run) except? -1:
    cdef double loss
    cdef Addition how = Addition(1, 0, 1, False)
    run.mode = flush_denormals()
    try:
        with nogil:
            loss = backprop(run, 0, run.data.n, run.gradient, how)
    finally:
        restore_mode(run.mode)
    return loss


def loss_gradient(
    Parameters parameters not None,
    Rows rows not None,
    Workspace work not None,
    SharedTeam team=None,
    int thread=0,
):
    """sum_i w_i l_i over the rows, and its gradient into that of `parameters`, if any.

    A plain sum, without penalty: parts of the data can be added up.
    """
    cdef Pass[float] narrow
    cdef Pass[double] wide
    team = SharedTeam() if team is None else team
    rows.check(parameters, True)
    if rows.order is not None and rows.n_used != rows.n:
        raise ValueError("order must hold every row.")
    if parameters.kind == c"f":
        return _loss_gradient(
            _begin(parameters, rows, work, &team.state, thread, &narrow))
    return _loss_gradient(_begin(parameters, rows, work, &team.state, thread, &wide))


cdef (double, Py_ssize_t) _run_batches(
    Pass[floating] *run, UpdateRule rule, long long n_steps, Py_ssize_t batch_size,
    Workspace work,
) except *:
    cdef:
        Py_ssize_t m, start = 0, n = run.data.n, first, last
        double loss, total = 0
        bint in_place = run.gradient == NULL
        bint one_neuron = (in_place and batch_size == 1 and run.n_layers == 1
                           and run.K == 1 and run.team.barrier.n_threads == 1)
    run.mode = flush_denormals()
    try:
        with nogil:
            while start < n:
                m = min(batch_size, n - start)
                if one_neuron:
                    # As many rows as are over before a Ctrl-C has waited for long
                    m = min(1 + <Py_ssize_t> (1e8 / run.work_per_row), n - start)
                    check_signals(run, 2e8)
                    loss = 0
                    m = run.kernels.descend_rows(
                        run.data, start, m, rule, run.theta, &run.W_scale, &loss)
                elif in_place:
                    # W = W - eta alpha W - eta / m dJ/dW: no gradient is stored.
                    loss = backprop(
                        run, start, m, run.theta,
                        Addition(-rule.eta / m, rule.eta * rule.alpha, 1, True))
                else:
                    loss = backprop(
                        run, start, m, run.gradient, Addition(1.0 / m, 0, 1, False))
                    if isfinite(loss) and not make_step(run, rule, n_steps):
                        loss = NAN
                total += loss
                if not isfinite(loss):
                    start += m if one_neuron else 0
                    break
                start += m
                n_steps += 1
    finally:
        if run.W_scale != 1:
            first = first_row_of(run.thread, run.d, run.team) * run.layers[0].q
            last = first_row_of(run.thread + 1, run.d, run.team) * run.layers[0].q
            run.kernels.scale(run.theta + first, last - first, <floating> run.W_scale)
        restore_mode(run.mode)
        if run.thread == 0:
            work.loss_sum, work.n_done = total, start
    return total, start


def run_batches(
    Parameters parameters not None,
    long long n_steps,  # made before, for Adam
    Rows rows not None,
    Py_ssize_t batch_size,
    step,  # the parameters of the step, see _update_rules
    Workspace work not None,
    SharedTeam team=None,
    int thread=0,
):
    """One step of gradient descent per batch of `batch_size` rows; the last may be short.

        g = 1 / m sum_{i in batch} w_i dl_i/dtheta + alpha W
        theta = theta - eta g        or the rule of momentum, Nesterov or Adam

    The weights are expected to average 1 over the data. Without a gradient, which only
    plain descent on batches of at most `tile` rows can do without, the step is added to
    theta as it is computed.

    Returns sum_i w_i l_i, each row's loss taken just before the step it is part of, and
    the number of rows whose step was made: fewer than there are if a loss was not
    finite. That step is not made. Raises KeyboardInterrupt soon after Ctrl-C; theta then
    holds the last whole step, and `work` has what would have been returned.
    """
    cdef:
        UpdateRule rule = _rule(step)
        Pass[float] narrow
        Pass[double] wide
    team = SharedTeam() if team is None else team
    rows.check(parameters, True)
    parameters.check_rule(rule)
    if batch_size < 1 or n_steps < 0:
        raise ValueError("batch_size must be positive, n_steps not negative.")
    if thread == 0:
        work.loss_sum, work.n_done = 0, 0
    if parameters.gradient is None and (
            parameters.velocity is not None or rule.max_gradient_norm > 0
            or min(batch_size, rows.n_used) > work.tile):
        raise ValueError("These steps need a gradient.")
    if parameters.kind == c"f":
        return _run_batches(
            _begin(parameters, rows, work, &team.state, thread, &narrow), rule, n_steps,
            batch_size, work)
    return _run_batches(
        _begin(parameters, rows, work, &team.state, thread, &wide), rule, n_steps,
        batch_size, work)


def apply_gradient(Parameters parameters not None, long long n_steps, step):
    """One step along the gradient 1 / n sum_i w_i dl_i/dtheta, penalty not included."""
    cdef:
        UpdateRule rule = _rule(step)
        SharedTeam team = SharedTeam()
        Rows rows = None
        Workspace work = None
        unsigned long long mode
        Pass[float] narrow
        Pass[double] wide
    parameters.check_rule(rule)
    if parameters.gradient is None or n_steps < 0:
        raise ValueError("A step needs a gradient, and n_steps not negative.")
    mode = flush_denormals()
    if parameters.kind == c"f":
        make_step(_begin(parameters, rows, work, &team.state, 0, &narrow), rule, n_steps)
    else:
        make_step(_begin(parameters, rows, work, &team.state, 0, &wide), rule, n_steps)
    restore_mode(mode)


cdef bint _outputs(
    Pass[floating] *run, bint activated, bint check_finite, floating *out
) except -1:
    cdef:
        Py_ssize_t start, m, n = run.data.n, K = run.K
        # Each thread has a part of the scratch memory; it takes tiles until none is left.
        Py_ssize_t tile = run.tile // run.team.barrier.n_threads
        Py_ssize_t first = tile * run.thread
        floating *Z
        bint finite = True
    run.mode = flush_denormals()
    try:
        with nogil:
            while tile > 0:
                start = run.team.barrier.claim(tile)
                if start >= n or run.team.barrier.is_stopped():
                    break
                m = min(tile, n - start)
                check_signals(run, m * run.work_per_row)
                if check_finite and not run.kernels.all_finite(
                        run.data.X + start * run.d, m * run.d):
                    finite = False
                    break
                Z = forward(run, start, rows_of_tile(run, start, m), m, first)
                if activated and run.output == SOFTMAX:
                    run.kernels.softmax(m, K, Z, NULL, NULL)
                elif activated:
                    run.kernels.activate(LOGISTIC, Z, m * K)
                memcpy(out + start * K, Z, m * K * sizeof(floating))
    finally:
        restore_mode(run.mode)
    if not finite:
        run.team.barrier.stop()
    with nogil:
        run.team.barrier.wait()  # for the tiles of the others
    finite = finite and not run.team.barrier.is_stopped()
    return finite


def outputs(
    Parameters parameters not None,
    Rows rows not None,
    Z,  # OUT (n, K) Z_L, or if activated A_L
    bint activated,
    bint check_finite,  # of dense rows
    Workspace work not None,
    SharedTeam team=None,
    int thread=0,
):
    """The output layer for every row, which are taken as they come.

    Returns False if `check_finite` found a NaN or an infinity in X; Z is then not filled.
    Raises KeyboardInterrupt soon after Ctrl-C.
    """
    cdef:
        Pass[float] narrow
        Pass[double] wide
        Array out
    team = SharedTeam() if team is None else team
    rows.check(parameters, False)
    if rows.order is not None or check_finite and rows.sparse:
        raise ValueError("Rows in an order are not for predictions; checks are of dense.")
    if work.tile < team.state.barrier.n_threads:
        raise ValueError("The workspace must have a row for each thread.")
    out = _float_array(Z, "Z", 2, rows.n * parameters.layout.K, parameters.theta)
    if parameters.kind == c"f":
        return _outputs(_begin(parameters, rows, work, &team.state, thread, &narrow),
                        activated, check_finite, <float *> out.view.buf)
    return _outputs(_begin(parameters, rows, work, &team.state, thread, &wide),
                    activated, check_finite, <double *> out.view.buf)


def row_norms(
    Rows rows not None,
    double[::1] norms not None,  # OUT (n,)
):
    """||x_i||^2 for each row."""
    cdef:
        Py_ssize_t i, first, last
        Array X = rows.X
        Array indptr = rows.indptr
    if norms.shape[0] != rows.n:
        raise ValueError(f"norms must have {rows.n} elements; got {norms.shape[0]}.")
    for i in range(rows.n):
        first, last = i * rows.d, (i + 1) * rows.d
        if rows.sparse and indptr.view.itemsize == 8:
            first = (<long long *> indptr.view.buf)[i]
            last = (<long long *> indptr.view.buf)[i + 1]
        elif rows.sparse:
            first, last = (<int *> indptr.view.buf)[i], (<int *> indptr.view.buf)[i + 1]
        norms[i] = _sum_of_squares(X, first, last - first)


cdef double _sum_of_squares(Array x, Py_ssize_t first, Py_ssize_t n) noexcept:
    cdef const Kernels[float] *narrow
    cdef const Kernels[double] *wide
    if x.kind == c"f":
        choose(_chosen, &narrow)
        return narrow.sum_of_squares(<float *> x.view.buf + first, n)
    choose(_chosen, &wide)
    return wide.sum_of_squares(<double *> x.view.buf + first, n)


def squared_norms(Parameters parameters not None):
    """sum_l ||W_l||^2, and the same with sum_l ||b_l||^2."""
    cdef double weights = 0, intercepts = 0
    for W, b, p, q in parameters.layout.places():
        weights += _sum_of_squares(parameters.theta, W, p * q)
        intercepts += _sum_of_squares(parameters.theta, b, q)
    return weights, weights + intercepts


# What one random number adds to the state of the generator.
SPLITMIX_STEP = 0x9E3779B97F4A7C15


def shuffle(
    Py_ssize_t[::1] order not None,  # OUT (n,) a random permutation of 0 ... n - 1
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


# For the tests -------------------------------------------------------------------------

def activation(name, floating[::1] values not None):
    """Apply the activation function `name` to `values`, in place."""
    cdef const Kernels[floating] *kernels
    choose(_chosen, &kernels)
    if values.shape[0]:
        kernels.activate(_code(name), &values[0], values.shape[0])


def product(
    const floating[:, :] A not None,  # (m, k), any strides; B (k, n), one of its two 1
    const floating[:, :] B not None,
    floating[:, ::1] C not None,  # IN/OUT (m, n)
    floating scale, floating decay, bint accumulate, const floating[::1] bias=None,
):
    """C = P - decay P + scale A B, P being C, the bias for each row, or 0."""
    cdef Product[floating] g
    cdef Workspace work
    cdef const Kernels[floating] *kernels
    cdef Py_ssize_t size = sizeof(floating)
    g.m, g.k, g.n = A.shape[0], A.shape[1], B.shape[1]
    if B.shape[0] != g.k or C.shape[0] != g.m or C.shape[1] != g.n or (
            bias is not None and bias.shape[0] != g.n):
        raise ValueError("The shapes do not fit.")
    work = Workspace(Layout((1, 1), "logistic", "logistic"), C.base.dtype, 1)
    if not g.m or not g.n or not g.k:
        raise ValueError("There is nothing to multiply.")
    g.A.at, g.B.at, g.C = &A[0, 0], &B[0, 0], &C[0, 0]
    g.A.row, g.A.column = A.strides[0] // size, A.strides[1] // size
    g.B.row, g.B.column = B.strides[0] // size, B.strides[1] // size
    if 1 not in (g.B.row, g.B.column):
        raise ValueError("The rows or the columns of B must be contiguous.")
    g.scale, g.decay, g.ld_P, g.ld_C = scale, decay, g.n, g.n
    g.P = NULL
    g.panel = <floating *> work.start
    if accumulate:
        g.P = g.C
    elif bias is not None:
        g.P, g.ld_P = &bias[0], 0
    choose(_chosen, &kernels)
    kernels.multiply(g)
