# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=True
"""Python bindings of the compiled core.

The functions are those of `_numpy.py`, the reference implementation, which shows the
mathematics. A binding checks its arguments, passes their addresses to an entry point of
the C++ core, and releases the GIL meanwhile. In C++, `network-inl.hpp` has the equations
of the forward and backward pass, and `engine-inl.hpp` the batches, steps and threads.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals

from .arguments import ACTIVATIONS, SPLITMIX_INCREMENT, checked
from .arguments import Data, Layout, Model, Workspace  # no-cython-lint


cdef extern from "interface.hpp" namespace "skbgd" nogil:
    cdef cppclass CModeSelector "skbgd::ModeSelector":
        bint sequential
        CModeSelector(double now)
        void update(double now)
    cdef cppclass ThreadPool:
        int n_threads
        bint interrupted
        ThreadPool(int n_threads) except +
        void run_worker()
        void stop()
        void *panel(int thread)
    enum Activation:
        pass
    cdef cppclass Matrix "skbgd::Matrix<void>":
        const void *data
        Py_ssize_t row_stride, column_stride
    cdef cppclass Product "skbgd::Product<void>":
        Py_ssize_t m, n, k, ld_P, ld_C
        Matrix A, B
        double scale, decay
        const void *P
        void *C
        void *panel
    cdef cppclass CData "skbgd::Data<void>":
        Py_ssize_t n, d, n_targets
        bint sparse, wide_indices, wide_indptr
        const void *X
        const void *indices
        const void *indptr
        const int *Y
        const void *weights
        const Py_ssize_t *order
        const void *standardizer
    cdef cppclass UpdateRule:
        double eta, alpha, momentum, beta_1, beta_2, epsilon, max_gradient_norm
        bint adam, nesterov
    cdef cppclass Layer:
        pass
    cdef cppclass Call "skbgd::Call<void>":
        Call()
        const Layer *layers
        Py_ssize_t n_layers, K, n_parameters
        Py_ssize_t Y_offset, loss_offset, weight_offset, X_offset
        Activation hidden, output
        void *theta
        void *gradient
        void *velocity
        void *second_moment
        CData data
        void *scratch
        Py_ssize_t scratch_size, stride, tile, gradient_offset
        ThreadPool *pool
        int (*check_signals)() noexcept nogil
    cdef cppclass EntryPoints:
        double loss_gradient(const Call &call)
        void run_batches(
            const Call &call, const UpdateRule &rule, long long n_steps,
            Py_ssize_t batch_size, double *loss_sum, Py_ssize_t *n_done)
        void apply_gradient(const Call &call, const UpdateRule &rule, long long n_steps)
        bint outputs(const Call &call, bint check_finite, void *Z)
        void squared_row_norms(const Call &call, double *norms)
        double column_moments(
            const Call &call, Py_ssize_t start, Py_ssize_t n, double *moments)
        void squared_weight_norms(const Call &call, double *norms)
        void apply_activation(Activation f, Py_ssize_t m, Py_ssize_t units, void *Z)
        void compute_product(const Product &product)
    cdef cppclass InstructionSet:
        const char *name
        EntryPoints f32, f64
    const InstructionSet *baseline_instruction_set()
    const InstructionSet *avx2_instruction_set()
    const InstructionSet *avx512_instruction_set()


# Instruction sets ----------------------------------------------------------------------

cdef const InstructionSet *_available[3]
_available[0] = baseline_instruction_set()
_available[1] = avx2_instruction_set()
_available[2] = avx512_instruction_set()
cdef const InstructionSet *_selected = _available[0]


def instruction_sets():
    """Names of the instruction sets that this processor supports, the widest last."""
    return [_available[i].name.decode() for i in range(3) if _available[i] != NULL]


def use_instruction_set(name):
    """Select an instruction set; returns the name of the previous one."""
    global _selected
    previous = _selected.name.decode()
    if name not in instruction_sets():
        raise ValueError(
            f"Got instruction set {name!r}; this processor has {instruction_sets()}.")
    for i in range(3):
        if _available[i] != NULL and _available[i].name.decode() == name:
            _selected = _available[i]
    return previous


cdef const EntryPoints *_entry_points(dtype) except NULL:
    return &_selected.f32 if dtype.char == "f" else &_selected.f64


# Checked calls -------------------------------------------------------------------------

cdef class NativeThreadPool:
    """Owner of a C++ thread pool: the calling thread and the workers that join it."""
    cdef ThreadPool *pool

    def __cinit__(self, int n_threads=1):
        if n_threads < 1:
            raise ValueError(f"n_threads must be positive; got {n_threads}.")
        self.pool = new ThreadPool(n_threads)

    def __dealloc__(self):
        del self.pool

    def run_worker(self):
        """Work for the pool in the current thread; returns when the pool is stopped."""
        with nogil:
            self.pool.run_worker()

    def stop(self):
        """Stop the workers; returns when all of them have returned."""
        with nogil:
            self.pool.stop()


cdef void *_address(array) except? NULL:
    """Address of a checked array, which must outlive its use; NULL for None."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    PyBuffer_Release(&view)
    return view.buf


# The exception of a signal handler. Only the main thread runs signal handlers.
cdef object _signal_error = None


cdef int _check_signals() noexcept nogil:
    """Run pending signal handlers; returns 1 if one raised an exception.

    `_raise_if_interrupted` raises this exception again.
    """
    global _signal_error
    with gil:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            _signal_error = error
            return 1
    return 0


cdef int _raise_if_interrupted(NativeThreadPool pool) except -1:
    global _signal_error
    if pool.pool.interrupted:
        error, _signal_error = _signal_error, None
        raise error


cdef int _set_model(Call *call, model) except -1:
    layout = model.layout
    call.layers = <const Layer *> _address(layout.table)
    call.n_layers, call.n_parameters = layout.n_layers, layout.n_parameters
    call.K = layout.K
    call.Y_offset, call.loss_offset = layout.Y_offset, layout.loss_offset
    call.weight_offset, call.X_offset = layout.weight_offset, layout.X_offset
    hidden, output = layout.activation_codes
    call.hidden, call.output = <Activation> <int> hidden, <Activation> <int> output
    call.theta = _address(model.theta)
    call.gradient = _address(model.gradient)
    call.velocity = _address(model.velocity)
    call.second_moment = _address(model.second_moment)


cdef int _set_data(Call *call, data) except -1:
    cdef CData *c_data = &call.data
    c_data.n, c_data.d, c_data.sparse = data.n_used, data.d, data.sparse
    c_data.X = _address(data.values)
    if data.sparse:
        c_data.indices, c_data.indptr = _address(data.indices), _address(data.indptr)
        c_data.wide_indices = data.indices.itemsize == 8
        c_data.wide_indptr = data.indptr.itemsize == 8
    if data.Y is not None:
        c_data.Y, c_data.n_targets = <const int *> _address(data.Y), data.Y.shape[1]
    c_data.weights = _address(data.weights)
    c_data.order = <const Py_ssize_t *> _address(data.order)
    c_data.standardizer = _address(data.standardizer)


cdef class PreparedCall:
    """A checked call; keeps its arguments alive. A workspace stores it for the next."""
    cdef Call call
    cdef object model, data, memory
    cdef bint with_targets  # whether the targets were checked

    def __cinit__(self, model, data, workspace, bint with_targets):
        cdef Call *call = &self.call
        cdef size_t start
        data.check(model, with_targets)
        workspace.check(model, data)
        self.model, self.data, self.memory = model, data, workspace.memory
        self.with_targets = with_targets
        _set_model(call, model)
        _set_data(call, data)
        start = (<size_t> _address(workspace.memory) + 63) // 64 * 64
        call.scratch, call.scratch_size = <void *> start, workspace.size
        call.stride, call.tile = workspace.stride, workspace.tile
        call.check_signals = _check_signals
        if workspace.gradients:
            call.gradient_offset = workspace.stride * workspace.row_size


cdef Call _checked_call(
    model, data, workspace, NativeThreadPool pool, bint with_targets
) except *:
    """The call for these arguments; arguments of the previous call were checked then."""
    cdef PreparedCall prepared = workspace.prepared_call
    cdef Call call
    cdef size_t n = data.n
    cdef const Py_ssize_t *order
    cdef Py_ssize_t i
    cdef bint outside = False
    if workspace.n_threads != pool.pool.n_threads:
        raise ValueError(f"The workspace is for {workspace.n_threads} threads, "
                         f"not {pool.pool.n_threads}.")
    if (prepared is None or prepared.model is not model
            or prepared.data is not data or with_targets > prepared.with_targets):
        prepared = PreparedCall(model, data, workspace, with_targets)
        workspace.prepared_call = prepared
    # The order may have changed since. A negative number is a large unsigned one.
    call = prepared.call
    order = call.data.order
    for i in range(call.data.n if order != NULL else 0):
        outside |= <size_t> order[i] >= n
    if outside:
        raise ValueError(f"order must hold numbers from 0 to {n - 1}.")
    call.pool = pool.pool
    pool.pool.interrupted = False
    return call


cdef UpdateRule _update_rule(rule) except *:
    cdef UpdateRule result
    result.eta, result.alpha = rule.eta, rule.alpha
    result.momentum, result.beta_1 = rule.momentum, rule.beta_1
    result.adam = rule.solver == "adam"
    result.nesterov = rule.nesterov
    result.beta_2, result.epsilon = rule.beta_2, rule.epsilon
    result.max_gradient_norm = rule.max_gradient_norm
    return result


# Bindings ------------------------------------------------------------------------------

def loss_gradient(model, data, workspace, NativeThreadPool pool=None):
    """sum_i w_i l_i over the rows; its gradient is written to `model.gradient`, if any.

    Both are plain sums without penalty: results for parts of the data can be added.
    Raises KeyboardInterrupt soon after Ctrl-C.
    """
    cdef const EntryPoints *entry_points = _entry_points(model.theta.dtype)
    cdef Call call
    cdef double loss
    pool = NativeThreadPool() if pool is None else pool
    if data.n_used != data.n:
        raise ValueError("order must hold every row.")
    call = _checked_call(model, data, workspace, pool, True)
    with nogil:
        loss = entry_points.loss_gradient(call)
    _raise_if_interrupted(pool)
    return loss


def run_batches(
    model,
    long long n_steps,  # number of earlier steps; Adam needs it
    data,
    Py_ssize_t batch_size,
    rule,  # UpdateRule
    workspace,
    NativeThreadPool pool=None,
):
    """One step of gradient descent per batch of `batch_size` rows.

        g = 1 / m sum_{i in batch} w_i dl_i/dtheta + alpha W
        theta = theta - eta g        or the rule of momentum, Nesterov or Adam

    The last batch may be smaller; m is the number of its own rows. The weights are
    expected to average 1 over the data. `model.gradient` may be None for plain descent
    if the workspace allows steps in place (`Workspace.allows_in_place`): these are
    added to theta while they are computed.

    Returns sum_i w_i l_i, each loss computed just before its row's step, and the number
    of rows processed. The first batch with a non-finite loss ends the call, without its
    step. Raises KeyboardInterrupt soon after Ctrl-C; theta then holds the last complete
    step, and the attributes `loss_sum` and `n_done` of the workspace hold the results.
    """
    cdef:
        const EntryPoints *entry_points = _entry_points(model.theta.dtype)
        Call call
        UpdateRule update_rule = _update_rule(rule)
        double loss_sum = 0
        Py_ssize_t n_done = 0
    workspace.reset()
    pool = NativeThreadPool() if pool is None else pool
    model.check_rule(rule)
    if batch_size < 1 or n_steps < 0:
        raise ValueError("batch_size must be positive and n_steps >= 0.")
    if model.gradient is None and (
            model.velocity is not None or update_rule.max_gradient_norm > 0
            or not workspace.allows_in_place(min(batch_size, data.n_used))):
        raise ValueError("These steps need a gradient.")
    call = _checked_call(model, data, workspace, pool, True)
    with nogil:
        entry_points.run_batches(
            call, update_rule, n_steps, batch_size, &loss_sum, &n_done)
    workspace.loss_sum, workspace.n_done = loss_sum, n_done
    _raise_if_interrupted(pool)
    return loss_sum, n_done


def apply_gradient(model, long long n_steps, rule):
    """One step along `model.gradient`, 1 / n sum_i w_i dl_i/dtheta without penalty."""
    cdef:
        Call call = Call()
        const EntryPoints *entry_points = _entry_points(model.theta.dtype)
        UpdateRule update_rule = _update_rule(rule)
        NativeThreadPool pool = NativeThreadPool()
    model.check_rule(rule)
    if model.gradient is None or n_steps < 0:
        raise ValueError("A step needs a gradient and n_steps >= 0.")
    _set_model(&call, model)
    call.pool = pool.pool
    with nogil:
        entry_points.apply_gradient(call, update_rule, n_steps)


def outputs(
    model,
    data,
    Z,  # OUT (n, K)
    bint check_finite,  # dense X only
    workspace,
    NativeThreadPool pool=None,
):
    """Compute Z_L for every row, into Z.

    Returns False if `check_finite` found a NaN or an infinity in X; Z is then
    incomplete. Raises KeyboardInterrupt soon after Ctrl-C.
    """
    cdef:
        const EntryPoints *entry_points = _entry_points(model.theta.dtype)
        Call call
        void *out
        bint finite
    pool = NativeThreadPool() if pool is None else pool
    if data.order is not None or check_finite and data.sparse:
        raise ValueError(
            "outputs takes data without order, and check_finite needs dense X.")
    shape = data.n, model.layout.K
    out = _address(checked("Z", Z, shape, model.theta.dtype.char, True))
    call = _checked_call(model, data, workspace, pool, False)
    with nogil:
        finite = entry_points.outputs(call, check_finite, out)
    _raise_if_interrupted(pool)
    return finite


def squared_row_norms(data, double[::1] norms not None):
    """||x_i||^2 of each row of X, as stored and in its own order, into norms (n,)."""
    cdef Call call = Call()
    cdef const EntryPoints *entry_points = _entry_points(data.values.dtype)
    if norms.shape[0] != data.n:
        raise ValueError(f"norms must have {data.n} elements; got {norms.shape[0]}.")
    _set_data(&call, data)
    call.data.n = norms.shape[0]
    if call.data.n:
        with nogil:
            entry_points.squared_row_norms(call, &norms[0])


def column_moments(
    data,  # dense
    Py_ssize_t start,
    Py_ssize_t stop,
    double[:, ::1] moments not None,  # OUT (6, d)
):
    """Moments of each column of the rows start ... stop - 1 with a positive weight.

    The rows of `moments` become

        low, high, 1 / (high - low) or 0, mean and variance of u, between

    with u = (x - low) / (high - low) in float64; `between` is 1 if low < x < high for
    any x in the column, else 0. Returns sum_i w_i. X is read up to three times: the
    rows should fit the cache.
    """
    cdef Call call = Call()
    cdef const EntryPoints *entry_points = _entry_points(data.values.dtype)
    cdef double total
    if data.sparse or not 0 <= start <= stop <= data.n or (
            moments.shape[0] != 6 or moments.shape[1] != data.d):
        raise ValueError(
            f"column_moments takes dense X, rows within 0 to {data.n} and moments of "
            f"shape {(6, data.d)}; got rows {start} to {stop}.")
    _set_data(&call, data)
    with nogil:
        total = entry_points.column_moments(call, start, stop - start, &moments[0, 0])
    return total


def squared_weight_norms(layout, theta):
    """sum_l ||W_l||^2, and the same plus sum_l ||b_l||^2."""
    cdef Call call = Call()
    cdef double norms[2]
    call.layers, call.n_layers = <const Layer *> _address(layout.table), layout.n_layers
    call.theta = _address(checked("theta", theta, (layout.n_parameters,), "fd"))
    _entry_points(theta.dtype).squared_weight_norms(call, norms)
    return norms[0], norms[1]


def shuffle(
    Py_ssize_t[::1] order not None,  # OUT (n,) a random permutation of 0 ... n - 1
    unsigned long long state,
):
    """Fill `order` with a random permutation; returns the state for the next call.

    The inside-out variant of the Fisher-Yates shuffle on the generator SplitMix64
    (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014),
    whose whole state is one 64-bit integer.
    """
    cdef Py_ssize_t i, j
    cdef unsigned long long bits, increment = SPLITMIX_INCREMENT
    with nogil:
        for i in range(order.shape[0]):
            state += increment
            bits = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9ULL
            bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBULL
            bits ^= bits >> 31
            # j uniform in 0 ... i, from the 53 bits that a double holds
            j = <Py_ssize_t> ((bits >> 11) * ((i + 1) * 2.0 ** -53))
            order[i] = order[j]
            order[j] = i
    return state


def activation(name, Z):
    """A = f(Z), in place; Z is (m, units)."""
    cdef int code = ACTIVATIONS.index(name)
    checked("Z", Z, 2, "fd", True)
    _entry_points(Z.dtype).apply_activation(
        <Activation> code, Z.shape[0], Z.shape[1], _address(Z))


# For the tests -------------------------------------------------------------------------

cdef class ModeSelector:
    """The selector of a thread pool, on a clock that starts at 0."""
    cdef CModeSelector *selector

    def __cinit__(self):
        self.selector = new CModeSelector(0)

    def __dealloc__(self):
        del self.selector

    def update(self, double now):
        """Return whether the leader computes the run that starts now alone."""
        self.selector.update(now)
        return self.selector.sequential


def product(
    A,  # (m, k), any strides
    B,  # (k, n), one of its two strides 1
    C,  # IN/OUT (m, n)
    double scale, double decay, bint accumulate, bias=None,
):
    """C = P - decay P + scale A B; P is C if `accumulate`, else the bias, else 0."""
    cdef Product g
    cdef NativeThreadPool pool = NativeThreadPool()
    (g.m, g.k), g.n = A.shape, B.shape[1]
    if B.shape != (g.k, g.n) or C.shape != (g.m, g.n) or (
            bias is not None and bias.shape != (g.n,)):
        raise ValueError("The shapes do not match.")
    if not g.m or not g.n or not g.k:
        raise ValueError("The product is empty.")
    size = A.itemsize
    g.A.data, g.B.data = <void *> <size_t> A.ctypes.data, <void *> <size_t> B.ctypes.data
    g.A.row_stride, g.A.column_stride = A.strides[0] // size, A.strides[1] // size
    g.B.row_stride, g.B.column_stride = B.strides[0] // size, B.strides[1] // size
    if 1 not in (g.B.row_stride, g.B.column_stride):
        raise ValueError("The rows or the columns of B must be contiguous.")
    g.scale, g.decay, g.ld_P, g.ld_C = scale, decay, g.n, g.n
    g.C, g.P, g.panel = _address(C), NULL, pool.pool.panel(0)
    if accumulate:
        g.P = g.C
    elif bias is not None:
        g.P, g.ld_P = _address(bias), 0
    _entry_points(C.dtype).compute_product(g)
