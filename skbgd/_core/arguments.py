"""Checks of the arguments of both cores, and the layout of the parameters.

The compiled core gets the addresses of the arrays and checks no bounds. Arguments that
pass the checks here cannot make it read or write outside an array, as long as nobody
changes their integers or sizes afterwards.
"""

from functools import wraps

import numpy as np
from scipy.sparse import issparse

# In the order of the compiled core's enum Activation.
ACTIVATIONS = ("logistic", "tanh", "relu", "identity", "softmax")
HIDDEN, OUTPUT = ACTIVATIONS[:4], ("logistic", "softmax")

# Each thread processes its part of a batch in tiles. The rows and activations of a tile
# have about TILE_BYTES, which fit in the cache; the number of rows is bounded.
TILE_BYTES = 1 << 19
TILE_ROW_BOUNDS = 128, 4096
# The compiled core makes several steps on few rows at once; as in `network-inl.hpp`.
BLOCK_ROWS = 32

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
    """The layers, and the offsets of W_l and b_l in theta."""

    def __init__(self, units, activation, output_activation):
        self.units = units = tuple(int(n) for n in units)
        if len(units) < 2 or min(units) < 1:
            raise ValueError(f"units must be at least 2 positive numbers; got {units}.")
        for name, names in ((activation, HIDDEN), (output_activation, OUTPUT)):
            if name not in names:
                raise ValueError(f"Got activation {name!r}; must be one of {names}.")
        self.hidden, self.output = activation, output_activation
        self.d, self.K = units[0], units[-1]
        # For each layer: offsets of W and b in theta, fan-in, fan-out.
        self.offsets, start = [], 0
        for p, q in zip(units, units[1:], strict=False):
            self.offsets.append((start, start + p * q, p, q))
            start += (p + 1) * q
        self.n_parameters = start
        # Numbers that a row needs in memory: activations, deltas, one-hot targets,
        # losses and a weight.
        self.row_size = sum(units[1:]) + sum(units[1:-1]) + 2 * self.K + 1
        if start >= 1 << 58:
            raise MemoryError(f"A network of {list(units)} units is too large.")

    def layers(self, theta):
        """The list of (W_l, b_l), views into theta or a vector of the same layout."""
        return [
            (theta[W:b].reshape(p, q), theta[b : b + q]) for W, b, p, q in self.offsets
        ]

    def tile(self, itemsize, n, dense, batch_size, n_threads):
        """The number of rows that a thread processes together."""
        # Dense rows are read twice, so they count even if they are not gathered.
        row_bytes = itemsize * (self.row_size + self.d * dense)
        low, high = TILE_ROW_BOUNDS
        rows = max(-(-batch_size // n_threads), min(BLOCK_ROWS, n))
        return min(max(TILE_BYTES // row_bytes, low), high, rows)

    def own_gradients(self, dense, batch_size, n_threads):
        """Whether each thread sums a gradient of its own.

        This pays off if summing these moves less data between processor cores than
        sharing the activations and deltas of all rows. On two cores of a Zen 4 it makes
        epochs of 30-16-1 to 784-100-10 with 512 rows or more 5 to 58 % faster.
        """
        shared = 2 * batch_size * sum(self.units)
        return n_threads > 1 and dense and self.n_parameters < shared


def check_vectors(layout, theta, velocity, second_moment):
    """Raise a ValueError if these are not vectors of the layout and of one dtype."""
    # theta may be read-only: predictions do not write to it.
    checked("theta", theta, (layout.n_parameters,), "fd")
    for name, array in (("velocity", velocity), ("second_moment", second_moment)):
        if array is not None:
            checked(name, array, theta.shape, theta.dtype.char, writable=True)
    if second_moment is not None and velocity is None:
        raise ValueError("second_moment needs a velocity.")


def check_rows(X, Y=None, weights=None, order=None, standardizer=None):
    """Raise a ValueError if the arrays do not describe the same rows.

    Returns the shape and the elements of X, and for CSR the column numbers and row
    bounds, otherwise None.

    Do not change the integers of X afterwards. Those of the order may change: each
    epoch checks them.
    """
    elements, indices, indptr = X, None, None
    if issparse(X):
        shape, elements, indices, indptr = X.shape, X.data, X.indices, X.indptr
        checked("X.data", elements, 1, "fd")
        checked("X.indices", indices, 1, "ilq")
        checked("X.indptr", indptr, 1, "ilq")
        check_csr(shape, elements, indices, indptr)
    else:
        shape = checked("X", X, 2, "fd").shape
    n, d = shape
    dtype = elements.dtype.char
    if Y is not None:
        checked("Y", Y, 2, "i")
        if len(Y) != n:
            raise ValueError(f"Y must have {n} rows; got {len(Y)}.")
    if weights is not None:
        checked("weights", weights, (n,), dtype)
    if order is not None:
        checked("order", order, (n,), np.dtype(np.intp).char)
    if standardizer is not None:
        checked("standardizer", standardizer, (3, d), dtype)
    return shape, elements, indices, indptr


def check_fit(layout, theta, n_features, dtype, Y):
    """Raise a ValueError if checked rows do not match the network."""
    if n_features != layout.d or dtype != theta.dtype:
        raise ValueError(
            f"X must have {layout.d} features and the dtype of theta, {theta.dtype}; "
            f"got {n_features} features of {dtype}."
        )
    if Y is None:
        return
    softmax, n_targets = layout.output == "softmax", Y.shape[1]
    if n_targets not in (1, layout.K) or n_targets > 1 and softmax:
        raise ValueError(
            f"Y must have 1 or {layout.K} columns (softmax: 1); got {n_targets}."
        )
    n_labels = layout.K if n_targets == 1 else 2
    if not softmax:
        n_labels = max(2, n_labels)
    low, high = Y.min(initial=0), Y.max(initial=0)
    if low < 0 or high >= n_labels:
        raise ValueError(
            f"Y must not be negative and be less than {n_labels}; got {low} to {high}."
        )


def check_step(rule, n_steps, theta, second_moment):
    """Raise a ValueError if steps by this rule lack something."""
    if not theta.flags.writeable:
        raise ValueError("theta must be writable.")
    if (rule.solver == "adam") != (second_moment is not None):
        raise ValueError("Adam needs a second_moment; other solvers take none.")
    if n_steps < 0:
        raise ValueError(f"n_steps must not be negative; got {n_steps}.")


@quiet
def standardizer(shift, scale, dtype):
    """The array [high, low, inverse], (3, d): x becomes ((x - high) - low) * inverse.

    high + low is the shift: a single float32 would lose digits of a large shift. The
    inverse is 1 / scale. All have the dtype of the rows.
    """
    high = shift.astype(dtype)
    return np.stack([high, (shift - high).astype(dtype), (1 / scale).astype(dtype)])
