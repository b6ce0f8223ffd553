# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False
"""Forward pass, cross-entropy, back-propagation and gradient descent, compiled.

The same as `_numpy.py`, where the mathematics is best read. Here are the doors to it:
arguments are checked, their addresses handed on, and the GIL released. What is behind
the doors is in `network.hpp` (the equations of a pass) and `descent.hpp` (batches,
steps, threads), over the kernels of the other headers.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals

from .arguments import ACTIVATIONS, SPLITMIX_STEP, checked
from .arguments import Layout, Parameters, Rows, Workspace  # no-cython-lint


cdef extern from "core.hpp" namespace "skbgd" nogil:
    cdef cppclass Team:
        int n_threads
        bint interrupted
        Team(int n_threads) except +
        void help()
        void stop()
        void *panel(int thread)
    enum Activation:
        pass
    cdef cppclass Matrix "skbgd::Matrix<void>":
        const void *at
        Py_ssize_t row, column
    cdef cppclass Product "skbgd::Product<void>":
        Py_ssize_t m, n, k, ld_P, ld_C
        Matrix A, B
        double scale, decay
        const void *P
        void *C
        void *panel
    cdef cppclass Data "skbgd::Data<void>":
        Py_ssize_t n, d, n_targets
        bint sparse, wide_indices, wide_indptr
        const void *X
        const void *indices
        const void *indptr
        const int *Y
        const void *weights
        const Py_ssize_t *order
        const void *standard
    cdef cppclass UpdateRule:
        double eta, alpha, momentum, beta_1, beta_2, epsilon, max_gradient_norm
        bint adam, nesterov
    cdef cppclass Layer:
        pass
    cdef cppclass Call "skbgd::Call<void>":
        Call()
        const Layer *layers
        Py_ssize_t n_layers, K, n_parameters, Y, loss, weight, X
        Activation hidden, output
        void *theta
        void *gradient
        void *velocity
        void *second_moment
        Data data
        void *memory
        Py_ssize_t size, stride, tile, gradient_place
        Team *team
        int (*signalled)() noexcept nogil
    cdef cppclass Doors:
        double loss_gradient(const Call &call)
        void run_batches(
            const Call &call, const UpdateRule &rule, long long n_steps,
            Py_ssize_t batch_size, double *loss_sum, Py_ssize_t *n_done)
        void apply_gradient(const Call &call, const UpdateRule &rule, long long n_steps)
        bint outputs(const Call &call, bint activated, bint check_finite, void *out)
        void row_norms(const Call &call, double *norms)
        double column_moments(
            const Call &call, Py_ssize_t start, Py_ssize_t n, double *moments)
        void squared_norms(const Call &call, double *norms)
        void apply_activation(Activation f, void *Z, Py_ssize_t n)
        void compute_product(const Product &product)
    cdef cppclass InstructionSet:
        const char *name
        Doors f32, f64
    const InstructionSet *baseline_set()
    const InstructionSet *avx2_set()
    const InstructionSet *avx512_set()


# Instruction sets ----------------------------------------------------------------------

cdef const InstructionSet *_sets[3]
_sets[0], _sets[1], _sets[2] = baseline_set(), avx2_set(), avx512_set()
cdef const InstructionSet *_chosen = _sets[0]


def instruction_sets():
    """The names of those that this processor has, the widest last."""
    return [_sets[i].name.decode() for i in range(3) if _sets[i] != NULL]


def use_instruction_set(name):
    """Use the core for one of them from now on; returns the name of the one before."""
    global _chosen
    before = _chosen.name.decode()
    if name not in instruction_sets():
        raise ValueError(
            f"Got instruction set {name!r}; this processor has {instruction_sets()}.")
    for i in range(3):
        if _sets[i] != NULL and _sets[i].name.decode() == name:
            _chosen = _sets[i]
    return before


cdef const Doors *_doors(dtype) except NULL:
    return &_chosen.f32 if dtype.char == "f" else &_chosen.f64


# Calls ---------------------------------------------------------------------------------

cdef class SharedTeam:
    """The threads that compute together: the one that calls, and those that help."""
    cdef Team *team

    def __cinit__(self, int n_threads=1):
        if n_threads < 1:
            raise ValueError(f"n_threads must be positive; got {n_threads}.")
        self.team = new Team(n_threads)

    def __dealloc__(self):
        del self.team

    def help(self):
        """What another thread does for the team, until it is stopped."""
        with nogil:
            self.team.help()

    def stop(self):
        """Let all threads leave that help; returns when they have."""
        with nogil:
            self.team.stop()


cdef void *_address(array) except? NULL:
    """Of a checked array, which outlives its use; None has none."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    PyBuffer_Release(&view)
    return view.buf


cdef object _raised = None  # by the handler of a signal; only the main thread has such


cdef int _signalled() noexcept nogil:
    """Whether a signal has come whose handler raised; `_end` raises that again."""
    global _raised
    with gil:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            _raised = error
            return 1
    return 0


cdef int _end(SharedTeam team) except -1:
    global _raised
    if team.team.interrupted:
        error, _raised = _raised, None
        raise error


cdef int _set_parameters(Call *call, parameters) except -1:
    layout = parameters.layout
    call.layers = <const Layer *> _address(layout.table)
    call.n_layers, call.n_parameters = layout.n_layers, layout.n_parameters
    call.K, call.Y, call.loss = layout.K, layout.Y, layout.loss
    call.weight, call.X = layout.weight, layout.X
    hidden, output = layout.codes
    call.hidden, call.output = <Activation> <int> hidden, <Activation> <int> output
    call.theta = _address(parameters.theta)
    call.gradient = _address(parameters.gradient)
    call.velocity = _address(parameters.velocity)
    call.second_moment = _address(parameters.second_moment)


cdef int _set_rows(Call *call, rows) except -1:
    cdef Data *data = &call.data
    data.n, data.d, data.sparse = rows.n_used, rows.d, rows.sparse
    data.X = _address(rows.data)
    if rows.sparse:
        data.indices, data.indptr = _address(rows.indices), _address(rows.indptr)
        data.wide_indices = rows.indices.itemsize == 8
        data.wide_indptr = rows.indptr.itemsize == 8
    if rows.Y is not None:
        data.Y, data.n_targets = <const int *> _address(rows.Y), rows.Y.shape[1]
    data.weights = _address(rows.weights)
    data.order = <const Py_ssize_t *> _address(rows.order)
    data.standard = _address(rows.standard)


cdef class Prepared:
    """A call of arguments that fit together, which live as long; kept by a workspace."""
    cdef Call call
    cdef object parameters, rows, memory
    cdef bint with_targets  # which were checked

    def __cinit__(self, parameters, rows, work, bint with_targets):
        cdef Call *call = &self.call
        cdef size_t start
        rows.check(parameters, with_targets)
        work.check(parameters, rows)
        self.parameters, self.rows, self.memory = parameters, rows, work.memory
        self.with_targets = with_targets
        _set_parameters(call, parameters)
        _set_rows(call, rows)
        start = (<size_t> _address(work.memory) + 63) // 64 * 64
        call.memory, call.size, call.stride = <void *> start, work.size, work.stride
        call.tile, call.signalled = work.tile, _signalled
        if work.gradients:
            call.gradient_place = work.stride * work.row_size


cdef Call _begin(
    parameters, rows, work, SharedTeam team, bint with_targets
) except *:
    """The checked call; what was checked for the call before is not checked again."""
    cdef Prepared prepared = work.prepared
    cdef Call call
    cdef size_t n = rows.n
    cdef const Py_ssize_t *order
    cdef Py_ssize_t i
    cdef bint outside = False
    if work.n_threads != team.team.n_threads:
        raise ValueError(f"The workspace is for {work.n_threads} threads, "
                         f"not {team.team.n_threads}.")
    if (prepared is None or prepared.parameters is not parameters
            or prepared.rows is not rows or with_targets > prepared.with_targets):
        prepared = work.prepared = Prepared(parameters, rows, work, with_targets)
    # The order may have changed. Without a sign, negative numbers are the largest.
    call = prepared.call
    order = call.data.order
    for i in range(call.data.n if order != NULL else 0):
        outside |= <size_t> order[i] >= n
    if outside:
        raise ValueError(f"order must hold numbers from 0 to {n - 1}.")
    call.team = team.team
    team.team.interrupted = False
    return call


cdef UpdateRule _rule(step) except *:
    cdef UpdateRule rule
    rule.eta, rule.alpha = step.eta, step.alpha
    rule.momentum, rule.beta_1 = step.momentum, step.beta_1
    rule.adam = step.solver == "adam"
    rule.nesterov = step.nesterov
    rule.beta_2, rule.epsilon = step.beta_2, step.epsilon
    rule.max_gradient_norm = step.max_gradient_norm
    return rule


# The doors -----------------------------------------------------------------------------

def loss_gradient(parameters, rows, work, SharedTeam team=None):
    """sum_i w_i l_i over the rows, and its gradient into that of `parameters`, if any.

    A plain sum, without penalty: parts of the data can be added up. Raises
    KeyboardInterrupt soon after Ctrl-C.
    """
    cdef const Doors *doors = _doors(parameters.theta.dtype)
    cdef Call call
    cdef double loss
    team = SharedTeam() if team is None else team
    if rows.n_used != rows.n:
        raise ValueError("order must hold every row.")
    call = _begin(parameters, rows, work, team, True)
    with nogil:
        loss = doors.loss_gradient(call)
    _end(team)
    return loss


def run_batches(
    parameters,
    long long n_steps,  # made before, for Adam
    rows,
    Py_ssize_t batch_size,
    step,  # the parameters of the step, see _update_rules
    work,
    SharedTeam team=None,
):
    """One step of gradient descent per batch of `batch_size` rows; the last may be short.

        g = 1 / m sum_{i in batch} w_i dl_i/dtheta + alpha W
        theta = theta - eta g        or the rule of momentum, Nesterov or Adam

    The weights are expected to average 1 over the data. Without a gradient, which only
    plain descent on batches of at most `tile` rows for each thread can do without, the
    step is added to theta as it is computed.

    Returns sum_i w_i l_i, each row's loss taken just before the step it is part of, and
    the number of rows whose step was made: fewer than there are if a loss was not
    finite. That step is not made. Raises KeyboardInterrupt soon after Ctrl-C; theta then
    holds the last whole step, and `work` has what would have been returned.
    """
    cdef:
        const Doors *doors = _doors(parameters.theta.dtype)
        Call call
        UpdateRule rule = _rule(step)
        double loss_sum = 0
        Py_ssize_t n_done = 0
    work.forget()
    team = SharedTeam() if team is None else team
    parameters.check_step(step)
    if batch_size < 1 or n_steps < 0:
        raise ValueError("batch_size must be positive, n_steps not negative.")
    if parameters.gradient is None and (
            parameters.velocity is not None or rule.max_gradient_norm > 0
            or not work.in_one_pass(min(batch_size, rows.n_used))):
        raise ValueError("These steps need a gradient.")
    call = _begin(parameters, rows, work, team, True)
    with nogil:
        doors.run_batches(call, rule, n_steps, batch_size, &loss_sum, &n_done)
    work.loss_sum, work.n_done = loss_sum, n_done
    _end(team)
    return loss_sum, n_done


def apply_gradient(parameters, long long n_steps, step):
    """One step along the gradient 1 / n sum_i w_i dl_i/dtheta, penalty not included."""
    cdef:
        Call call = Call()
        const Doors *doors = _doors(parameters.theta.dtype)
        UpdateRule rule = _rule(step)
        SharedTeam team = SharedTeam()
    parameters.check_step(step)
    if parameters.gradient is None or n_steps < 0:
        raise ValueError("A step needs a gradient, and n_steps not negative.")
    _set_parameters(&call, parameters)
    call.team = team.team
    with nogil:
        doors.apply_gradient(call, rule, n_steps)


def outputs(
    parameters,
    rows,
    Z,  # OUT (n, K) Z_L, or if activated A_L
    bint activated,
    bint check_finite,  # of dense rows
    work,
    SharedTeam team=None,
):
    """The output layer for every row, which are taken as they come.

    Returns False if `check_finite` found a NaN or an infinity in X; Z is then not filled.
    Raises KeyboardInterrupt soon after Ctrl-C.
    """
    cdef:
        const Doors *doors = _doors(parameters.theta.dtype)
        Call call
        void *out
        bint finite
    team = SharedTeam() if team is None else team
    if rows.order is not None or check_finite and rows.sparse:
        raise ValueError("Rows in an order are not for predictions; checks are of dense.")
    shape = rows.n, parameters.layout.K
    out = _address(checked("Z", Z, shape, parameters.theta.dtype.char, True))
    call = _begin(parameters, rows, work, team, False)
    with nogil:
        finite = doors.outputs(call, activated, check_finite, out)
    _end(team)
    return finite


def row_norms(rows, double[::1] norms not None):
    """||x_i||^2 for each row as it is stored, into norms (n,)."""
    cdef Call call = Call()
    cdef const Doors *doors = _doors(rows.data.dtype)
    if norms.shape[0] != rows.n:
        raise ValueError(f"norms must have {rows.n} elements; got {norms.shape[0]}.")
    _set_rows(&call, rows)
    call.data.n = norms.shape[0]  # whatever their order
    if call.data.n:
        with nogil:
            doors.row_norms(call, &norms[0])


def column_moments(
    rows,  # dense
    Py_ssize_t start,
    Py_ssize_t stop,
    double[:, ::1] moments not None,  # OUT (6, d)
):
    """Of each column of rows start ... stop - 1 with a positive weight, into moments

        low, high, 1 / (high - low) or 0, mean and variance of u, whether one is between

    with u = (x - low) / (high - low) in float64; one is between if low < x < high for
    an x, then it is 1. Returns sum_i w_i. The rows should fit the cache.
    """
    cdef Call call = Call()
    cdef const Doors *doors = _doors(rows.data.dtype)
    cdef double total
    if rows.sparse or not 0 <= start <= stop <= rows.n or (
            moments.shape[0] != 6 or moments.shape[1] != rows.d):
        raise ValueError(
            f"Rows {start} to {stop} of dense {rows.n} give moments of shape "
            f"{(6, rows.d)}.")
    _set_rows(&call, rows)
    with nogil:
        total = doors.column_moments(call, start, stop - start, &moments[0, 0])
    return total


def squared_norms(layout, theta):
    """sum_l ||W_l||^2, and the same with sum_l ||b_l||^2."""
    cdef Call call = Call()
    cdef double norms[2]
    call.layers, call.n_layers = <const Layer *> _address(layout.table), layout.n_layers
    call.theta = _address(checked("theta", theta, (layout.n_parameters,), "fd"))
    _doors(theta.dtype).squared_norms(call, norms)
    return norms[0], norms[1]


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

def activation(name, values):
    """Apply the activation function `name` to `values`, (n,), in place."""
    cdef int code = ACTIVATIONS.index(name)
    checked("values", values, 1, "fd", True)
    _doors(values.dtype).apply_activation(
        <Activation> code, _address(values), values.shape[0])


def product(
    A,  # (m, k), any strides; B (k, n), one of its two strides 1
    B,
    C,  # IN/OUT (m, n)
    double scale, double decay, bint accumulate, bias=None,
):
    """C = P - decay P + scale A B, P being C, the bias for each row, or 0."""
    cdef Product g
    cdef SharedTeam team = SharedTeam()
    (g.m, g.k), g.n = A.shape, B.shape[1]
    if B.shape != (g.k, g.n) or C.shape != (g.m, g.n) or (
            bias is not None and bias.shape != (g.n,)):
        raise ValueError("The shapes do not fit.")
    if not g.m or not g.n or not g.k:
        raise ValueError("There is nothing to multiply.")
    size = A.itemsize
    g.A.at, g.B.at = <void *> <size_t> A.ctypes.data, <void *> <size_t> B.ctypes.data
    g.A.row, g.A.column = A.strides[0] // size, A.strides[1] // size
    g.B.row, g.B.column = B.strides[0] // size, B.strides[1] // size
    if 1 not in (g.B.row, g.B.column):
        raise ValueError("The rows or the columns of B must be contiguous.")
    g.scale, g.decay, g.ld_P, g.ld_C = scale, decay, g.n, g.n
    g.C, g.P, g.panel = _address(C), NULL, team.team.panel(0)
    if accumulate:
        g.P = g.C
    elif bias is not None:
        g.P, g.ld_P = _address(bias), 0
    _doors(C.dtype).compute_product(g)
