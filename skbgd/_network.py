"""The network's shape: layers to and from one flat vector, its start, its outputs."""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import sqrt

import numpy as np
from scipy.special import expit, log_expit, log_softmax

from ._core import arguments, backprop
from ._core.arguments import quiet

ACTIVATIONS, OUTPUT_ACTIVATIONS = arguments.HIDDEN, arguments.OUTPUT

# Standard deviation of the first hidden layer's pre-activations at the start. The layer
# is to see the data bent: with few features a start that thinks of the fan-out too is
# almost linear, and the descent is long on a plateau. (1 + tanh z) / 2 is a logistic
# unit at 2 z; sqrt(2) keeps the mean square through a relu, 1 through nothing.
FIRST_GAIN = {"logistic": 3.0, "tanh": 1.5, "relu": 2**0.5, "identity": 1.0}

# Numbers drawn at a time, in float64, for the start of a network in float32.
DRAWN = 1 << 16


@dataclass(frozen=True)
class Network:
    """A fully connected network with parameters in one vector theta.

    ``theta`` is ``[W_1, b_1, ..., W_L, b_L]``, each ``W_l`` of shape
    ``(units[l - 1], units[l])`` and row-major.

    Parameters
    ----------
    units : tuple of int
        Units per layer from the features to the outputs, ``L + 1`` numbers.
    activation : {"logistic", "tanh", "relu", "identity"}
        Of the hidden layers.
    output_activation : {"logistic", "softmax"}
        Of the output layer; decides the loss too.
    exclusive : bool
        Whether the outputs are classes, which exclude each other, or labels.
    standardize : bool
        Whether the network is for standardised features, where the rows that it is
        first fitted to are dense.
    shift, scale : ndarray of shape (units[0],) or None
        It sees (x - shift) / scale, or x.
    """

    units: tuple[int, ...]
    activation: str
    output_activation: str
    exclusive: bool = True
    standardize: bool = False
    shift: np.ndarray | None = field(default=None, compare=False)
    scale: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self):
        for array in (self.shift, self.scale):
            if array is not None:
                array.setflags(write=False)  # `standard` would not know of a change

    def __str__(self):
        return (
            f"layers of {'-'.join(map(str, self.units))} units, activation="
            f"{self.activation!r}, output_activation={self.output_activation!r}, "
            f"standardize={self.standardize}"
        )

    def __reduce__(self):
        # Without the layout: the core may be another where this is unpickled.
        return Network, tuple(self.to_dict().values())

    def to_dict(self):
        """Arrays and plain Python values, the keyword arguments of this network."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @cached_property
    def layout(self):
        """Where everything lies in theta, for the core too."""
        return backprop.Layout(self.units, self.activation, self.output_activation)

    @cached_property
    def layers(self):
        """For each layer the slices of W and b in theta, and the shape of W."""
        return [
            (slice(W, b), slice(b, b + fan_out), (fan_in, fan_out))
            for W, b, fan_in, fan_out in self.layout.offsets
        ]

    @property
    def n_parameters(self):
        return self.layout.n_parameters

    def standardized(self, moments, dtype):
        """The network for rows with such moments, and their mean of ||x||^2 for it."""
        shift, scale, squared_norm = moments.standard(dtype)
        return replace(self, shift=shift, scale=scale), squared_norm

    @cached_property
    def _standards(self):
        return {}  # of each type that was asked for

    def standard(self, dtype):
        """How the core standardises rows of this type; None: not at all."""
        if self.shift is None:
            return None
        if dtype not in self._standards:
            self._standards[dtype] = arguments.standardizer(
                self.shift, self.scale, dtype
            )
        return self._standards[dtype]

    def coefs(self, theta):
        """The matrices W_1 ... W_L, as views into theta."""
        return tuple(theta[W].reshape(shape) for W, _, shape in self.layers)

    def intercepts(self, theta):
        """The vectors b_1 ... b_L, as views into theta."""
        return tuple(theta[b] for _, b, _ in self.layers)

    def initial_parameters(self, random_state, dtype):
        """A random start: W and b of a layer uniform in the same bounds.

        In front of the first hidden layer +-gain sqrt(3 / d), which gives rows of d
        features of size 1 pre-activations of standard deviation gain = FIRST_GAIN; in
        front of the others +-gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010),
        with gain 4 for logistic hidden units, whose slope at 0 is 1/4, and 1 elsewhere.
        A single neuron has no symmetry to break and a convex cost: it starts at 0.
        """
        theta = np.zeros(self.n_parameters, dtype=dtype)
        if len(self.layers) == 1:
            return theta
        for W, b, (fan_in, fan_out) in self.layers:
            hidden = b.stop < self.n_parameters
            gain = 4.0 if hidden and self.activation == "logistic" else 1.0
            bound = gain * sqrt(6.0 / (fan_in + fan_out))
            if W.start == 0:
                bound = FIRST_GAIN[self.activation] * sqrt(3.0 / fan_in)
            for start in range(W.start, b.stop, DRAWN):
                part = theta[start : min(start + DRAWN, b.stop)]
                part[:] = random_state.uniform(-bound, bound, size=len(part))
        return theta

    @quiet
    def fit_start(self, theta, squared_norm):
        """Divide W_1 by r, the features' root mean square, or by sqrt(r) if r > 1.

        Small features, such as one-hot columns, then give the first hidden layer the
        pre-activations that FIRST_GAIN names. Large ones are met half-way, so that
        small features beside a large one are still seen.
        """
        rms = np.sqrt(squared_norm / self.units[0])
        if len(self.layers) > 1 and 0 < rms < np.inf:
            theta[self.layers[0][0]] /= rms if rms < 1 else np.sqrt(rms)

    # Predictions. `outputs(activated, rows)` gives Z_L of some rows, if activated A_L.

    @quiet
    def probabilities(self, outputs):
        """Of the classes or labels, shape (n, max(K, 2)) or (n, K).

        Softmax units are probabilities. The sigmoid units of exclusive classes are
        normalised to sum to 1: p_k = sigma(z_k) / sum_j sigma(z_j). One sigmoid unit is
        P(second class); the units of labels that do not exclude each other stay as they
        are.
        """
        if self.exclusive and self.units[-1] == 1:
            Z = outputs(False)
            return expit(np.hstack([-Z, Z]))  # 1 - sigma(z) would lose digits
        A = outputs(True)
        if self.output_activation == "softmax" or not self.exclusive:
            return A
        total = A.sum(axis=1, keepdims=True)
        tiny = total[:, 0] < 100 * np.finfo(A.dtype).tiny  # 0, or too few digits
        np.divide(A, total, out=A, where=~tiny[:, np.newaxis])
        if tiny.any():
            A[tiny] = np.exp(self.log_probabilities(outputs, tiny))
        return A

    @quiet
    def log_probabilities(self, outputs, rows=slice(None)):
        """Logarithms of `probabilities`, finite where these round to 0."""
        Z = outputs(False, rows)
        if self.output_activation == "softmax":
            return log_softmax(Z, axis=1)
        if not self.exclusive:
            return log_expit(Z)
        if Z.shape[1] == 1:
            return log_expit(np.hstack([-Z, Z]))
        return log_softmax(log_expit(Z), axis=1)


# Parameters that are given ------------------------------------------------------------


def write_arrays(arrays, views, name):
    """Copy arrays into views of theta, checked."""
    try:
        arrays = list(arrays)
    except TypeError as error:
        raise ValueError(
            f"{name} must be a sequence of {len(views)} arrays; got {arrays!r}."
        ) from error
    if len(arrays) != len(views):
        raise ValueError(
            f"{name} must hold {len(views)} arrays, one for each layer but the first; "
            f"got {len(arrays)}."
        )
    for i, (array, view) in enumerate(zip(arrays, views, strict=True)):
        write_array(array, view, f"{name}[{i}]")


def write_array(array, view, name):
    """Copy an array of finite numbers into a view of theta, checked."""
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array of shape {view.shape}; got rows of several "
            "lengths."
        ) from error
    if array.shape != view.shape or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold real numbers in the shape {view.shape}; got "
            f"{array.dtype} in the shape {array.shape}."
        )
    with np.errstate(over="ignore"):
        view[...] = array
    if not np.isfinite(view).all():
        raise ValueError(
            f"{name} must be finite in {view.dtype}; got "
            f"{array[~np.isfinite(view)][0]}."
        )
