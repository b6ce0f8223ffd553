"""Checked arguments of the functions of both cores: model, data and workspace.

The compiled core gets the addresses of the arrays and checks no bounds. Arguments that
pass the checks here cannot make it read or write outside an array, as long as nobody
changes their integers or sizes afterwards.
"""

from collections import namedtuple
from functools import wraps

import numpy as np
from scipy.sparse import issparse

# In the order of the compiled core's enum Activation.
ACTIVATIONS = ("logistic", "tanh", "relu", "identity", "softmax")
HIDDEN, OUTPUT = ACTIVATIONS[:4], ("logistic", "softmax")

# What each random number adds to the state of the generator, see `shuffle`.
SPLITMIX_INCREMENT = 0x9E3779B97F4A7C15


def quiet(function):
    """Decorator: NumPy ignores floating-point errors, whatever `numpy.seterr` says.

    Callers look for values that are not finite in the results.
    """

    @wraps(function)
    def wrapped(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return wrapped


def checked(name, array, shape, types, writable=False):
    """Return the array; raise a ValueError if the core cannot use it.

    Its dtype must be one of the characters in `types`, its shape must be `shape` (an
    int gives the number of dimensions). It must be C-contiguous, aligned and in native
    byte order.
    """
    if isinstance(array, np.ndarray):
        flags, dtype = array.flags, array.dtype
        if (
            (array.shape == shape or array.ndim == shape)
            and dtype.char in types
            and dtype.isnative
            and flags.c_contiguous
            and flags.aligned
            and (flags.writeable or not writable)
        ):
            return array
        got = f"one of shape {array.shape} and type {dtype}, {flags}"
    else:
        got = repr(array)
    if isinstance(shape, int):
        shape = f"{shape} dimensions"
    raise ValueError(
        f"{name} must be an array of {shape}, aligned, C-contiguous"
        f"{', writable' * writable} and of a type of {types!r}; got {got}."
    )


def check_csr(shape, data, indices, indptr):
    """Raise a ValueError if indices or indptr of sparse X point outside its arrays."""
    n_elements = min(len(data), len(indices))
    if (
        len(indptr) != shape[0] + 1
        or indptr[0] != 0
        or indptr[-1] > n_elements
        or (indptr[1:] < indptr[:-1]).any()
        or n_elements
        and not 0 <= indices.min() <= indices.max() < shape[1]
    ):
        raise ValueError(
            f"The sparse matrix X of shape {shape} is damaged: its indptr must start "
            f"at 0, must not decrease and must not exceed {n_elements}; its indices "
            f"must be from 0 to {shape[1] - 1}. See X.check_format()."
        )


class Layout:
    """Offsets of everything in theta and in scratch memory.

    Scratch memory stores for each row of a tile: A_1 ... A_{L-1}, Z_L, D_1 ... D_{L-1}
    (D_L overwrites Z_L), its targets (one-hot), the losses of its output units, its
    weight, and, if rows are gathered, the gathered row.
    """

    def __init__(self, units, activation, output_activation):
        self.units = units = tuple(int(n) for n in units)
        if len(units) < 2 or min(units) < 1:
            raise ValueError(f"units must be at least 2 positive numbers; got {units}.")
        for name, names in ((activation, HIDDEN), (output_activation, OUTPUT)):
            if name not in names:
                raise ValueError(f"Got activation {name!r}; must be one of {names}.")
        self.hidden, self.output = activation, output_activation
        self.activation_codes = tuple(
            map(ACTIVATIONS.index, (activation, output_activation))
        )
        self.d, self.K, self.n_layers = units[0], units[-1], len(units) - 1
        # For each layer: offsets of W and b in theta, fan-in, fan-out.
        self.offsets, start = [], 0
        for p, q in zip(units, units[1:], strict=False):
            self.offsets.append((start, start + p * q, p, q))
            start += (p + 1) * q
        self.n_parameters = start
        if start >= 1 << 58:
            raise MemoryError(f"A network of {list(units)} units is too large.")
        # Offsets in scratch memory, to be multiplied by the stride of a tile.
        A = np.cumsum([0, *units[1:]])
        D = np.cumsum([A[-1], *units[1:-1]])
        self.Y_offset = int(D[-1])
        self.loss_offset = self.Y_offset + self.K
        self.weight_offset = self.loss_offset + self.K
        self.X_offset = self.weight_offset + 1
        # D_L overwrites Z_L.
        D[-1] = A[-2]
        # An array of the compiled core's struct Layer.
        self.table = np.array(
            [(*offsets, A[i], D[i]) for i, offsets in enumerate(self.offsets)], np.intp
        )

    def layers(self, theta):
        """The list of (W_l, b_l), views into theta or a vector of the same layout."""
        return [
            (theta[W:b].reshape(p, q), theta[b : b + q]) for W, b, p, q in self.offsets
        ]

    def scratch_per_row(self, gathered):
        """Elements of scratch memory for each row of a tile."""
        return self.X_offset + self.d if gathered else self.X_offset


class Model(namedtuple("_Model", "layout theta velocity second_moment gradient")):
    """A network's layout and parameters theta, with the vectors that its steps need.

    Each of velocity, second_moment and gradient is None if it is not needed.
    """

    __slots__ = ()

    def __new__(cls, layout, theta, velocity=None, second_moment=None, gradient=None):
        # theta may be read-only: predictions do not write to it.
        checked("theta", theta, (layout.n_parameters,), "fd")
        for name, array in (
            ("velocity", velocity),
            ("second_moment", second_moment),
            ("gradient", gradient),
        ):
            if array is not None:
                checked(name, array, theta.shape, theta.dtype.char, writable=True)
        if second_moment is not None and velocity is None:
            raise ValueError("second_moment needs a velocity.")
        return super().__new__(cls, layout, theta, velocity, second_moment, gradient)

    def check_rule(self, rule):
        """Raise a ValueError if the model lacks what steps by this rule need."""
        if not self.theta.flags.writeable:
            raise ValueError("theta must be writable.")
        if (rule.solver == "adam") != (self.second_moment is not None):
            raise ValueError("Adam needs a second_moment; other solvers take none.")


class Data(
    namedtuple(
        "_Data",
        "X Y weights order standardizer values indices indptr n d n_used n_labels",
    )
):
    """Rows of X, an array (n, d) or CSR, with optional targets, weights and order.

    `standardizer` (see the function of this name) says how the network standardizes the
    rows; None: it does not.

    Do not change the integers of X and Y afterwards: they are checked only here. The
    order may change: each call checks it.
    """

    __slots__ = ()

    def __new__(cls, X, Y=None, weights=None, order=None, standardizer=None):
        values, indices, indptr = X, None, None
        if issparse(X):
            values, indices, indptr = X.data, X.indices, X.indptr
            checked("X.data", values, 1, "fd")
            checked("X.indices", indices, 1, "ilq")
            checked("X.indptr", indptr, 1, "ilq")
            check_csr(X.shape, values, indices, indptr)
        else:
            checked("X", X, 2, "fd")
        n, d = X.shape
        n_used, n_labels = n, 0
        if Y is not None:
            checked("Y", Y, 2, "i")
            if len(Y) != n:
                raise ValueError(f"Y must have {n} rows; got {len(Y)}.")
            if Y.min(initial=0) < 0:
                raise ValueError("Y must not be negative.")
            n_labels = 1 + int(Y.max(initial=0))
        if weights is not None:
            checked("weights", weights, (n,), values.dtype.char)
        if order is not None:
            checked("order", order, 1, np.dtype(np.intp).char)
            n_used = len(order)
        if standardizer is not None:
            checked("standardizer", standardizer, (3, d), values.dtype.char)
        return super().__new__(
            cls, X, Y, weights, order, standardizer,
            values, indices, indptr, n, d, n_used, n_labels,
        )  # fmt: skip

    @property
    def sparse(self):
        return self.indptr is not None

    @property
    def dense(self):
        """Whether the network reads dense rows; standardized rows are always dense."""
        return self.indptr is None or self.standardizer is not None

    @property
    def gathered(self):
        """Whether dense rows are gathered in scratch memory."""
        return self.dense and (self.standardizer is not None or self.order is not None)

    def check(self, model, with_targets):
        """Raise a ValueError if the data do not match the model."""
        layout = model.layout
        if self.d != layout.d or self.values.dtype != model.theta.dtype:
            raise ValueError(
                f"X must have {layout.d} features and the dtype of theta, "
                f"{model.theta.dtype}; got {self.d} features of {self.values.dtype}."
            )
        if not with_targets:
            return
        if self.Y is None:
            raise ValueError("The rows have no targets.")
        softmax, n_targets = layout.output == "softmax", self.Y.shape[1]
        if n_targets not in (1, layout.K) or n_targets > 1 and softmax:
            raise ValueError(
                f"Y must have 1 or {layout.K} columns (softmax: 1); got {n_targets}."
            )
        n_labels = layout.K if n_targets == 1 else 2
        if not softmax:
            n_labels = max(2, n_labels)
        if self.n_labels > n_labels:
            raise ValueError(
                f"Y must be less than {n_labels}; got {self.n_labels - 1}."
            )

    def batch(self, start, stop):
        """X (standardized), Y and weights of rows start ... stop - 1 in the order."""
        rows = slice(start, stop)
        if self.order is not None:
            rows = self.order[rows]
            if len(rows) == 1:
                rows = slice(rows[0], rows[0] + 1)  # no copy
        weights = None if self.weights is None else self.weights[rows]
        if isinstance(rows, slice) or self.sparse:
            X = self.X[rows]
        else:
            X = self.X.take(rows, axis=0)
        return self.standardized(X), self.Y[rows], weights

    def standardized(self, X):
        """Some rows of X, standardized if the network standardizes."""
        if self.standardizer is None:
            return X
        high, low, inverse = self.standardizer
        X = (X.toarray() if self.sparse else X) - high
        X -= low
        X *= inverse
        return X


@quiet
def standardizer(shift, scale, dtype):
    """The array [high, low, inverse], (3, d): x becomes ((x - high) - low) * inverse.

    high + low is the shift: a single float32 would lose digits of a large shift. The
    inverse is 1 / scale. All have the dtype of the rows.
    """
    high = shift.astype(dtype)
    return np.stack([high, (shift - high).astype(dtype), (1 / scale).astype(dtype)])


class Workspace:
    """Scratch memory for one call at a time, and the progress of `run_batches`.

    Each thread processes its chunk of a batch in tiles of `tile` rows. With `gradients`
    (dense rows only) each thread sums the gradient of its chunk in memory of its own,
    which pays off for batches of many rows.
    """

    def __init__(
        self, layout, dtype, tile, n_threads=1, gathered=False, gradients=False
    ):
        if tile < 1 or n_threads < 1:
            raise ValueError("tile and n_threads must be positive.")
        if dtype.char not in "fd":
            raise ValueError(f"dtype must be float32 or float64; got {dtype}.")
        self.tile, self.n_threads, self.dtype = tile, n_threads, dtype
        self.gradients = gradients and n_threads > 1
        self.stride = -(-tile // 16) * 16 if tile > 1 else 1
        self.row_size = layout.scratch_per_row(gathered)
        size = self.stride * self.row_size + self.gradients * layout.n_parameters
        self.size = -(-size // 16) * 16  # of the memory of one thread
        # 16 elements more, to start at a multiple of 64 bytes.
        self.memory = np.empty(n_threads * self.size + 16, dtype)
        self.prepared_call = None  # stored by the compiled core for the next call
        self.reset()

    def reset(self):
        """Clear the progress of an earlier `run_batches`."""
        self.loss_sum, self.n_done = 0.0, 0

    def allows_in_place(self, batch_size):
        """Whether steps on such batches can be added to theta without a gradient.

        All threads must process the whole batch at once, as theta changes afterwards.
        """
        return not self.gradients and batch_size <= self.tile * self.n_threads

    def check(self, model, data):
        """Raise a ValueError if the memory is too small for this model and data."""
        layout = model.layout
        size = self.stride * self.row_size + self.gradients * layout.n_parameters
        if self.dtype != model.theta.dtype:
            raise ValueError("The workspace must have the dtype of theta.")
        if self.row_size < layout.scratch_per_row(data.gathered) or self.size < size:
            raise ValueError("The workspace is too small for this network's rows.")
        if self.gradients and not data.dense:
            raise ValueError("Gradients for each thread need dense rows.")
