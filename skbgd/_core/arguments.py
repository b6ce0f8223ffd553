"""What the functions of both cores work on: checked arrays, and where things lie.

The compiled core takes their addresses and looks no further: what passes here, and is
not changed behind its back, cannot make it read or write past an array.
"""

from collections import namedtuple
from functools import wraps

import numpy as np
from scipy.sparse import issparse

# In the order of the compiled core's Activation.
ACTIVATIONS = ("logistic", "tanh", "relu", "identity", "softmax")
HIDDEN, OUTPUT = ACTIVATIONS[:4], ("logistic", "softmax")

# What one random number adds to the state of the generator, see `shuffle`.
SPLITMIX_STEP = 0x9E3779B97F4A7C15


def quiet(function):
    """Numbers may overflow or underflow in it, whatever `numpy.seterr` says.

    What is not finite is found in the results.
    """

    @wraps(function)
    def wrapped(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return wrapped


def checked(name, array, shape, types, writable=False):
    """The array, or a ValueError unless it has one of the types and this shape.

    Instead of a shape, a number of dimensions may be given. The array must be
    C-contiguous, aligned and in the byte order of the machine.
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
    """An error if the integers of sparse X lead past its arrays or its columns."""
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
            f"The sparse matrix X of shape {shape} is damaged: its indptr must rise "
            f"from 0 to at most {n_elements}, its indices be from 0 to "
            f"{shape[1] - 1}. See its method check_format."
        )


class Layout:
    """Where everything lies, in theta and in scratch memory, computed here alone.

    Scratch memory has for each row of a tile: A_1 ... Z_L, D_1 ... D_{L-1} (that of the
    output overwrites Z_L), its targets (one-hot), the losses of its output units, its
    weight, and last, if rows are gathered, the row as the network sees it.
    """

    def __init__(self, units, activation, output_activation):
        self.units = units = tuple(int(n) for n in units)
        if len(units) < 2 or min(units) < 1:
            raise ValueError(f"units must be 2 positive numbers or more; got {units}.")
        for name, names in ((activation, HIDDEN), (output_activation, OUTPUT)):
            if name not in names:
                raise ValueError(f"Got activation {name!r}; there are {names}.")
        self.hidden, self.output = activation, output_activation
        self.codes = ACTIVATIONS.index(activation), ACTIVATIONS.index(output_activation)
        self.d, self.K, self.n_layers = units[0], units[-1], len(units) - 1
        # Of each layer: where W and b begin in theta, units in, units out.
        self.places, start = [], 0
        for p, q in zip(units, units[1:], strict=False):
            self.places.append((start, start + p * q, p, q))
            start += (p + 1) * q
        self.n_parameters = start
        if start >= 1 << 58:
            raise MemoryError(f"A network of {list(units)} units is too large.")
        # Places in scratch memory, times the rows of a tile.
        A = np.cumsum([0, *units[1:]])
        D = np.cumsum([A[-1], *units[1:-1]])
        self.Y = int(D[-1])
        self.loss, self.weight = self.Y + self.K, self.Y + 2 * self.K
        self.X = self.weight + 1
        # D of the output layer is its Z, changed in place.
        D[-1] = A[-2]
        # The members of the compiled core's Layer.
        self.table = np.array(
            [(*place, A[i], D[i]) for i, place in enumerate(self.places)], np.intp
        )

    def layers(self, theta):
        """The (W_l, b_l), as views into theta or what is like it."""
        return [
            (theta[W:b].reshape(p, q), theta[b : b + q]) for W, b, p, q in self.places
        ]

    def size_of_row(self, gathered):
        """Elements of scratch memory for each row of a tile."""
        return self.X + self.d if gathered else self.X


class Parameters(
    namedtuple("_Parameters", "layout theta velocity second_moment gradient")
):
    """theta, and for its steps velocity, second moment (None: none) and gradient."""

    __slots__ = ()

    def __new__(cls, layout, theta, velocity=None, second_moment=None, gradient=None):
        # Predictions only read theta: it need not be writable.
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

    def check_step(self, step):
        """These can make such steps."""
        if not self.theta.flags.writeable:
            raise ValueError("theta must be writable.")
        if (step.solver == "adam") != (self.second_moment is not None):
            raise ValueError("A second moment is for Adam, and Adam needs one.")


class Rows(
    namedtuple(
        "_Rows", "X Y weights order standard data indices indptr n d n_used n_codes"
    )
):
    """Rows of X, (n, d) array or CSR, with targets, weights and order, each if given.

    `standard`, see the function of this name, says how the network sees the rows; None:
    as they are.

    What it is made from must not change its integers; those of `order` may: they are
    checked by each call.
    """

    __slots__ = ()

    def __new__(cls, X, Y=None, weights=None, order=None, standard=None):
        data, indices, indptr = X, None, None
        if issparse(X):
            data, indices, indptr = X.data, X.indices, X.indptr
            checked("X.data", data, 1, "fd")
            checked("X.indices", indices, 1, "ilq")
            checked("X.indptr", indptr, 1, "ilq")
            check_csr(X.shape, data, indices, indptr)
        else:
            checked("X", X, 2, "fd")
        n, d = X.shape
        n_used, n_codes = n, 0
        if Y is not None:
            checked("Y", Y, 2, "i")
            if len(Y) != n:
                raise ValueError(f"Y must have {n} rows; got {len(Y)}.")
            if Y.min(initial=0) < 0:
                raise ValueError("Y must not be negative.")
            n_codes = 1 + int(Y.max(initial=0))
        if weights is not None:
            checked("weights", weights, (n,), data.dtype.char)
        if order is not None:
            checked("order", order, 1, np.dtype(np.intp).char)
            n_used = len(order)
        if standard is not None:
            checked("standard", standard, (3, d), data.dtype.char)
        return super().__new__(
            cls, X, Y, weights, order, standard,
            data, indices, indptr, n, d, n_used, n_codes,
        )  # fmt: skip

    @property
    def sparse(self):
        return self.indptr is not None

    @property
    def dense(self):
        """Whether the network sees dense rows. Standardised ones are always dense."""
        return self.indptr is None or self.standard is not None

    @property
    def gathered(self):
        """Whether the scratch memory needs a place for dense rows."""
        return self.dense and (self.standard is not None or self.order is not None)

    def check(self, parameters, with_targets):
        """These rows can be rows of this network."""
        layout = parameters.layout
        if self.d != layout.d or self.data.dtype != parameters.theta.dtype:
            raise ValueError(
                f"X must have {layout.d} features of the type of theta; it has "
                f"{self.d} of {self.data.dtype}."
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
        n_codes = layout.K if n_targets == 1 else 2
        if not softmax:
            n_codes = max(2, n_codes)
        if self.n_codes > n_codes:
            raise ValueError(f"Y must be less than {n_codes}; got {self.n_codes - 1}.")

    def part(self, start, stop):
        """X, Y and weights of the rows `start` ... `stop` - 1 in the order."""
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
        return self.seen(X), self.Y[rows], weights

    def seen(self, X):
        """Some rows of X as the network sees them."""
        if self.standard is None:
            return X
        high, low, inverse = self.standard
        X = (X.toarray() if self.sparse else X) - high
        X -= low
        X *= inverse
        return X


@quiet
def standard(shift, scale, dtype):
    """What the network sees instead of x, ((x - high) - low) * inverse, as (3, d).

    `high` and `low` are the shift: one number of float32 would lose digits of a large
    one. Both, and 1 / scale, have the type of the rows.
    """
    high = shift.astype(dtype)
    return np.stack([high, (shift - high).astype(dtype), (1 / scale).astype(dtype)])


class Workspace:
    """Scratch memory for one call at a time, and how far `run_batches` has got.

    Each thread takes `tile` rows of its share of a batch at a time. With `gradients`,
    for dense rows alone, each sums up a gradient of its own over its share: worth its
    while for batches of many rows.
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
        self.row_size = layout.size_of_row(gathered)
        size = self.stride * self.row_size + self.gradients * layout.n_parameters
        self.size = -(-size // 16) * 16  # of the memory of one thread
        # 16: to begin at a multiple of 64 bytes.
        self.memory = np.empty(n_threads * self.size + 16, dtype)
        self.prepared = None  # by the compiled core, for the next call
        self.forget()

    def forget(self):
        """What an earlier `run_batches` returned: the next may not even begin."""
        self.loss_sum, self.n_done = 0.0, 0

    def in_one_pass(self, batch_size):
        """Whether all threads take such a batch at once, for one gradient."""
        return not self.gradients and batch_size <= self.tile * self.n_threads

    def check(self, parameters, rows):
        """It has the memory that these need."""
        layout = parameters.layout
        size = self.stride * self.row_size + self.gradients * layout.n_parameters
        if self.dtype != parameters.theta.dtype:
            raise ValueError("The workspace must be of the type of theta.")
        if self.row_size < layout.size_of_row(rows.gathered) or self.size < size:
            raise ValueError("The workspace is too small for this network's rows.")
        if self.gradients and not rows.dense:
            raise ValueError("A gradient for each thread is for dense rows alone.")
