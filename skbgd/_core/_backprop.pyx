# distutils: language = c++
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=True
"""Python bindings of the compiled core.

The functions and the Trainer are those of `_numpy.py`, the reference implementation,
which shows the mathematics. A binding checks its arguments, passes their addresses to
the C++ core and releases the GIL meanwhile. In C++, `network-inl.hpp` has the equations
of the forward and backward pass, and `engine-inl.hpp` the batches, steps and threads.
"""
import os
import threading

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libcpp cimport bool as cbool
from libcpp.memory cimport unique_ptr

from .arguments import ACTIVATIONS, SPLITMIX_INCREMENT, checked
from .arguments import check_fit, check_rows, check_step, check_vectors
from .threads import start_workers, stop_workers


cdef extern from "Python.h" nogil:
    unsigned long PyThread_get_thread_ident()  # Cython's declaration needs the GIL


cdef extern from "interface.hpp" namespace "skbgd" nogil:
    cdef cppclass CModeSelector "skbgd::ModeSelector":
        bint sequential
        CModeSelector(double now)
        void update(double now)
    cdef cppclass ThreadPool:
        int n_threads
        cbool interrupted
        ThreadPool(int n_threads) except +
        bint enter()
        void leave()
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
    cdef cppclass Data "skbgd::Data<void>":
        Data()
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
    cdef cppclass Network:
        Network()
        Py_ssize_t n_parameters, K, X_offset
        Activation hidden, output
        void add_layer(Py_ssize_t fan_in, Py_ssize_t fan_out) except +
    cdef cppclass Call "skbgd::Call<void>" (Network):
        Call()
        void *theta
        void *velocity
        void *second_moment
        Data data
        Py_ssize_t tile
        bint own_gradients
        int (*check_signals)() noexcept nogil
    cdef cppclass Core:
        unique_ptr[ThreadPool] pool
        double loss_gradient(void *gradient)
        void epoch(
            const UpdateRule &rule, long long n_steps, Py_ssize_t batch_size,
            double *loss_sum, Py_ssize_t *n_done) except +
        void step(const UpdateRule &rule, long long n_steps, void *gradient)
        bint outputs(bint check_finite, void *Z)
    cdef cppclass Kernels:
        unique_ptr[Core] make_core(const Call &call, int n_threads) except +
        void squared_row_norms(const Data &data, double *norms)
        double column_moments(
            const Data &data, Py_ssize_t start, Py_ssize_t n, double *moments)
        void squared_weight_norms(
            const Network &network, const void *theta, double *norms)
        void activation(Activation f, Py_ssize_t m, Py_ssize_t units, void *Z)
        void product(const Product &product)
    cdef cppclass InstructionSet:
        const char *name
        const Kernels &f32
        const Kernels &f64
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


cdef const Kernels *_kernels(array) except NULL:
    """The kernels for the type of numbers of a checked array."""
    return &_selected.f32 if array.itemsize == 4 else &_selected.f64


# Checked arguments ---------------------------------------------------------------------

cdef void *_address(array) except? NULL:
    """Address of a checked array, which must outlive its use; NULL for None."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    PyBuffer_Release(&view)
    return view.buf


cdef int _set_network(Network *network, layout) except -1:
    cdef int hidden = ACTIVATIONS.index(layout.hidden)
    cdef int output = ACTIVATIONS.index(layout.output)
    network.hidden, network.output = <Activation> hidden, <Activation> output
    for fan_in, fan_out in zip(layout.units, layout.units[1:]):
        network.add_layer(fan_in, fan_out)


cdef Data _data(rows, Y=None, weights=None, order=None, standardizer=None) except *:
    """Addresses of what `check_rows` has checked and returned; the caller keeps it."""
    cdef Data data = Data()
    shape, elements, indices, indptr = rows
    data.n, data.d = shape
    data.X, data.sparse = _address(elements), indptr is not None
    if data.sparse:
        data.indices, data.indptr = _address(indices), _address(indptr)
        data.wide_indices, data.wide_indptr = indices.itemsize == 8, indptr.itemsize == 8
    if Y is not None:
        data.Y, data.n_targets = <const int *> _address(Y), Y.shape[1]
    data.weights, data.standardizer = _address(weights), _address(standardizer)
    data.order = <const Py_ssize_t *> _address(order)
    return data


cdef UpdateRule _update_rule(rule) except *:
    cdef UpdateRule result
    result.eta, result.alpha = rule.eta, rule.alpha
    result.momentum, result.beta_1 = rule.momentum, rule.beta_1
    result.adam = rule.solver == "adam"
    result.nesterov = rule.nesterov
    result.beta_2, result.epsilon = rule.beta_2, rule.epsilon
    result.max_gradient_norm = rule.max_gradient_norm
    return result


# Trainer -------------------------------------------------------------------------------

# Only the main thread runs signal handlers.
cdef unsigned long _main_thread
# The exception of a signal handler.
cdef object _signal_error = None


def _find_main_thread():
    global _main_thread
    _main_thread = threading.main_thread().ident


_find_main_thread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_find_main_thread)


cdef int _run_signal_handlers() noexcept with gil:
    """Run pending signal handlers; returns 1 if one raised an exception.

    `Trainer.leave` raises this exception again.
    """
    global _signal_error
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        _signal_error = error
        return 1
    return 0


cdef int _check_signals() noexcept nogil:
    """Run pending signal handlers in the main thread; returns 0 in other threads.

    These must not wait for the GIL here: when Python exits, it ends a thread that waits
    for it, and the C++ code around the call then aborts the process.
    """
    if PyThread_get_thread_ident() != _main_thread:
        return 0
    return _run_signal_handlers()


cdef class Trainer:
    """The Trainer of `_numpy.py`, with memory and threads of its own.

    A context manager, which starts the other threads and stops them. Its calls raise
    KeyboardInterrupt soon after Ctrl-C.
    """
    cdef unique_ptr[Core] core
    cdef Data data
    cdef object theta, second_moment, arrays
    cdef Py_ssize_t batch_size, K
    cdef readonly Py_ssize_t n_done
    cdef readonly double loss_sum

    def __cinit__(
        self, layout, theta, X, Y=None, weights=None, *, order=None, standardizer=None,
        velocity=None, second_moment=None, batch_size=None, int n_threads=1, tile=None,
    ):
        cdef Call call = Call()
        check_vectors(layout, theta, velocity, second_moment)
        rows = check_rows(X, Y, weights, order, standardizer)
        (_, d), elements, _, _ = rows
        check_fit(layout, theta, d, elements.dtype, Y)
        self.data = call.data = _data(rows, Y, weights, order, standardizer)
        _set_network(&call, layout)
        self.batch_size = max(1, self.data.n) if batch_size is None else batch_size
        if self.batch_size < 1 or n_threads < 1:
            raise ValueError("batch_size and n_threads must be positive.")
        dense = not self.data.sparse or standardizer is not None
        sizes = dense, self.batch_size, n_threads
        if tile is None:
            tile = layout.tile(theta.itemsize, self.data.n, *sizes)
        call.tile = tile
        if call.tile < 1 or call.n_parameters != theta.size:
            raise ValueError(f"tile must be positive; got {tile}.")
        call.own_gradients = layout.own_gradients(*sizes)
        if 1.0 * call.tile * n_threads * (
                call.X_offset + call.data.d + call.n_parameters) > 1e17:
            raise MemoryError(
                f"The memory of {n_threads} threads for {tile} rows each is too large.")
        call.theta, call.velocity = _address(theta), _address(velocity)
        call.second_moment = _address(second_moment)
        call.check_signals = _check_signals
        self.core = _kernels(theta).make_core(call, n_threads)
        self.theta, self.second_moment, self.K = theta, second_moment, call.K
        self.arrays = rows, Y, weights, order, standardizer, velocity

    def __enter__(self):
        if self.n_threads > 1:
            start_workers(self)
        return self

    def __exit__(self, *error):
        if self.n_threads > 1:
            stop_workers(self)

    @property
    def n_threads(self):
        return self.core.get().pool.get().n_threads

    def run_worker(self):
        """Work for the trainer in the current thread; returns after `stop`."""
        with nogil:
            self.core.get().pool.get().run_worker()

    def stop(self):
        """Stop the workers; returns when all of them have returned."""
        with nogil:
            self.core.get().pool.get().stop()

    def replace_thread_pool(self):
        """After a fork: use a pool without workers.

        Locks and counters of the old pool may be in any state and must not be used, not
        even to destroy it.
        """
        cdef ThreadPool *pool = new ThreadPool(self.n_threads)
        self.core.get().pool.release()
        self.core.get().pool.reset(pool)

    cdef void *address_of(self, gradient) except NULL:
        shape, dtype = self.theta.shape, self.theta.dtype.char
        return _address(checked("gradient", gradient, shape, dtype, True))

    cdef int enter(self, cbool with_targets) except -1:
        """Begin a call of the core."""
        if with_targets and self.data.Y == NULL:
            raise ValueError("The rows have no targets.")
        if not self.core.get().pool.get().enter():
            raise RuntimeError("This trainer is in use by another call.")

    cdef int leave(self) except -1:
        """End a call of the core; raises the exception of a signal handler."""
        global _signal_error
        cdef cbool interrupted = self.core.get().pool.get().interrupted
        self.core.get().pool.get().leave()
        if interrupted:
            error, _signal_error = _signal_error, None
            raise error

    def reset(self):
        """Clear the results of the last `epoch`."""
        self.loss_sum, self.n_done = 0.0, 0

    def loss_gradient(self, gradient=None):
        """sum_i w_i l_i over the rows; its gradient is written to `gradient`, if any."""
        cdef double loss
        cdef void *G = NULL if gradient is None else self.address_of(gradient)
        if self.data.order != NULL:
            raise ValueError("loss_gradient takes rows without order.")
        self.enter(True)
        with nogil:
            loss = self.core.get().loss_gradient(G)
        self.leave()
        return loss

    def epoch(self, rule, long long n_steps):
        """One step of gradient descent per batch; sets `loss_sum` and `n_done`."""
        cdef UpdateRule update_rule = _update_rule(rule)
        cdef Py_ssize_t i, n = self.data.n
        cdef cbool outside = False
        check_step(rule, n_steps, self.theta, self.second_moment)
        # A negative number is a large unsigned one.
        for i in range(n if self.data.order != NULL else 0):
            outside |= <size_t> self.data.order[i] >= <size_t> n
        if outside:
            raise ValueError(f"order must hold numbers from 0 to {n - 1}.")
        self.enter(True)
        self.reset()
        try:
            with nogil:
                self.core.get().epoch(
                    update_rule, n_steps, self.batch_size, &self.loss_sum, &self.n_done)
        finally:
            self.leave()

    def step(self, rule, long long n_steps, gradient):
        """One step along 1 / n sum_i w_i dl_i/dtheta without penalty; overwrites it."""
        cdef UpdateRule update_rule = _update_rule(rule)
        cdef void *G = self.address_of(gradient)
        check_step(rule, n_steps, self.theta, self.second_moment)
        if self.n_threads > 1:
            raise ValueError("step takes one thread.")
        self.enter(False)
        with nogil:
            self.core.get().step(update_rule, n_steps, G)
        self.leave()

    def outputs(self, Z, cbool check_finite=False):
        """Compute Z_L for every row, into Z (n, K); False if X is not finite."""
        cdef cbool finite
        cdef void *out
        if self.data.order != NULL or check_finite and self.data.sparse:
            raise ValueError(
                "outputs takes rows without order, and check_finite needs dense X.")
        shape = self.data.n, self.K
        out = _address(checked("Z", Z, shape, self.theta.dtype.char, True))
        self.enter(False)
        with nogil:
            finite = self.core.get().outputs(check_finite, out)
        self.leave()
        return finite


# Functions -----------------------------------------------------------------------------

def squared_row_norms(X, double[::1] norms not None):
    """||x_i||^2 of each row of X, as stored, into norms (n,)."""
    rows = check_rows(X)
    cdef Data data = _data(rows)
    cdef const Kernels *kernels = _kernels(rows[1])
    if norms.shape[0] != data.n:
        raise ValueError(f"norms must have {data.n} elements; got {norms.shape[0]}.")
    if data.n:
        with nogil:
            kernels.squared_row_norms(data, &norms[0])


def column_moments(
    X,  # dense
    weights,
    Py_ssize_t start,
    Py_ssize_t stop,
    double[:, ::1] moments not None,  # OUT (6, d)
):
    """Moments of each column of the rows start ... stop - 1; returns sum_i w_i."""
    rows = check_rows(X, None, weights)
    cdef Data data = _data(rows, None, weights)
    cdef const Kernels *kernels = _kernels(rows[1])
    cdef double total
    if data.sparse or not 0 <= start <= stop <= data.n or (
            moments.shape[0] != 6 or moments.shape[1] != data.d):
        raise ValueError(
            f"column_moments takes dense X, rows within 0 to {data.n} and moments of "
            f"shape {(6, data.d)}; got rows {start} to {stop}.")
    with nogil:
        total = kernels.column_moments(data, start, stop - start, &moments[0, 0])
    return total


def squared_weight_norms(layout, theta):
    """sum_l ||W_l||^2, and the same plus sum_l ||b_l||^2."""
    cdef Network network
    cdef double norms[2]
    _set_network(&network, layout)
    checked("theta", theta, (network.n_parameters,), "fd")
    _kernels(theta).squared_weight_norms(network, _address(theta), norms)
    return norms[0], norms[1]


def activation(name, Z):
    """A = f(Z), in place; Z is (m, units)."""
    cdef int code = ACTIVATIONS.index(name)
    checked("Z", Z, 2, "fd", True)
    if Z.size:
        _kernels(Z).activation(<Activation> code, Z.shape[0], Z.shape[1], _address(Z))


def shuffle(
    Py_ssize_t[::1] order not None,  # OUT (n,) a random permutation of 0 ... n - 1
    unsigned long long state,
):
    """Fill `order` with a random permutation; returns the state for the next call."""
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
    cdef unique_ptr[ThreadPool] pool
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
    pool.reset(new ThreadPool(1))
    g.C, g.P, g.panel = _address(C), NULL, pool.get().panel(0)
    if accumulate:
        g.P = g.C
    elif bias is not None:
        g.P, g.ld_P = _address(bias), 0
    _kernels(C).product(g)
