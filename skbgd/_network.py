"""The network: its layers as views of one vector, initial weights, probabilities."""

from dataclasses import dataclass, field, fields, replace
from math import sqrt

import numpy as np
from scipy.special import expit, log_expit, log_softmax

from ._core import arguments, backprop
from ._core.arguments import quiet

ACTIVATIONS, OUTPUT_ACTIVATIONS = arguments.HIDDEN, arguments.OUTPUT

# Initial standard deviation of the pre-activations of the first hidden layer. Its units
# should start in their nonlinear range. With few features Glorot's bound, which also
# depends on the fan-out, starts almost linear, and training stays long on a plateau.
# A logistic unit at 2 z is (1 + tanh z) / 2, hence 3 and 1.5. sqrt(2) preserves the
# mean square of relu units, and 1 that of identity units.
FIRST_LAYER_GAIN = {"logistic": 3.0, "tanh": 1.5, "relu": 2**0.5, "identity": 1.0}

# Of both classes, see `_of_both_classes`. int8 does not change the type of a product.
SIGNS = np.array([-1, 1], dtype=np.int8)

# Random numbers are drawn in float64, this many at a time to save memory in float32.
DRAW_SIZE = 1 << 16


class cached_property:  # noqa: N801
    """`functools.cached_property` without its lock, which Python 3.12 has removed.

    All networks share that lock. A process that was forked while another thread held it
    would wait for it forever.
    """

    def __init__(self, function):
        self.function, self.__doc__ = function, function.__doc__

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, network, owner=None):
        value = network.__dict__[self.name] = self.function(network)
        return value


@dataclass(frozen=True)
class Network:
    """A fully connected network whose parameters are one vector theta.

    ``theta`` is ``[W_1, b_1, ..., W_L, b_L]``, each ``W_l`` of shape
    ``(units[l - 1], units[l])`` and row-major.

    Parameters
    ----------
    units : tuple of int
        The number of units in each layer, from the features to the outputs: ``L + 1``
        numbers.
    activation : {"logistic", "tanh", "relu", "identity"}
        Activation function of the hidden layers.
    output_activation : {"logistic", "softmax"}
        Activation function of the output layer, which also determines the loss.
    exclusive : bool
        True for mutually exclusive classes, False for multilabel outputs.
    standardize : bool
        Whether to standardize the features, if the first rows are dense.
    shift, scale : ndarray of shape (units[0],) or None
        The input of the first layer is (x - shift) / scale, or x if they are None.
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
                array.setflags(write=False)  # `standardizer` is cached

    def __str__(self):
        return (
            f"layers of {'-'.join(map(str, self.units))} units, activation="
            f"{self.activation!r}, output_activation={self.output_activation!r}, "
            f"standardize={self.standardize}"
        )

    def __reduce__(self):
        # Without the layout, as another core may be used where this is unpickled.
        return Network, tuple(self.to_dict().values())

    def to_dict(self):
        """Return the keyword arguments of this network: arrays and Python values."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @cached_property
    def layout(self):
        """The offsets of all arrays in theta, shared with the core."""
        return arguments.Layout(self.units, self.activation, self.output_activation)

    @cached_property
    def layers(self):
        """For each layer, the slices of W and b in theta and the shape of W."""
        return [
            (slice(W, b), slice(b, b + fan_out), (fan_in, fan_out))
            for W, b, fan_in, fan_out in self.layout.offsets
        ]

    @property
    def n_parameters(self):
        return self.layout.n_parameters

    def standardized(self, moments, dtype):
        """A copy that standardizes rows with the given moments.

        Returns the network and the mean squared norm of the standardized rows.
        """
        shift, scale, mean_squared_row_norm = moments.standardization(dtype)
        return replace(self, shift=shift, scale=scale), mean_squared_row_norm

    @cached_property
    def _standardizers(self):
        return {}  # by dtype

    def standardizer(self, dtype):
        """How the core standardizes rows of this dtype, or None."""
        if self.shift is None:
            return None
        if dtype not in self._standardizers:
            self._standardizers[dtype] = arguments.standardizer(
                self.shift, self.scale, dtype
            )
        return self._standardizers[dtype]

    def coefs(self, theta):
        """The weight matrices W_1 ... W_L, as views of theta."""
        return tuple(theta[W].reshape(shape) for W, _, shape in self.layers)

    def intercepts(self, theta):
        """The bias vectors b_1 ... b_L, as views of theta."""
        return tuple(theta[b] for _, b, _ in self.layers)

    def initial_parameters(self, random_state, dtype):
        """Random initialization: W and b of a layer are uniform in [-bound, bound].

        - First hidden layer: bound = gain sqrt(3 / d), with gain = FIRST_LAYER_GAIN.
          For d features with mean square 1 the pre-activations then have standard
          deviation gain.
        - Other layers: bound = gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio
          2010), with gain 4 for logistic hidden units, whose slope at 0 is 1/4, and
          gain 1 otherwise.
        - Without hidden layers all parameters are 0: there is no symmetry to break, and
          the objective is convex.
        """
        theta = np.zeros(self.n_parameters, dtype=dtype)
        if len(self.layers) == 1:
            return theta
        for W, b, (fan_in, fan_out) in self.layers:
            hidden = b.stop < self.n_parameters
            gain = 4.0 if hidden and self.activation == "logistic" else 1.0
            bound = gain * sqrt(6.0 / (fan_in + fan_out))
            if W.start == 0:
                bound = FIRST_LAYER_GAIN[self.activation] * sqrt(3.0 / fan_in)
            for start in range(W.start, b.stop, DRAW_SIZE):
                part = theta[start : min(start + DRAW_SIZE, b.stop)]
                part[:] = random_state.uniform(-bound, bound, size=len(part))
        return theta

    @quiet
    def scale_first_layer(self, theta, norm, earlier_norm):
        """Divide W_1 by r, the features' root mean square, or by sqrt(r) if r > 1.

        The pre-activations of small features, such as one-hot columns, then also have
        standard deviation FIRST_LAYER_GAIN. For large features the square root is a
        compromise: with r, small features beside a large one would have no effect.

        `norm` is the mean squared norm of the rows. W_1 was divided before according to
        `earlier_norm`, unless that is None.
        """
        if len(self.layers) > 1:
            divisor = self._first_layer_divisor(norm)
            divisor /= self._first_layer_divisor(earlier_norm)
            theta[self.layers[0][0]] /= divisor

    def _first_layer_divisor(self, norm):
        """r or sqrt(r); 1 if `norm` is None, 0 or infinite."""
        rms = np.sqrt((norm or 0) / self.units[0])
        return min(rms, np.sqrt(rms)) if 0 < rms < np.inf else 1.0

    # Predictions

    @quiet
    def probabilities(self, Z):
        """Probabilities of the classes, (n, max(K, 2)), or of the labels, (n, K).

        Z are the pre-activations of the output layer, (n, K).

        - Softmax units: softmax(z).
        - One sigmoid unit: sigma(z) is the probability of the second class.
        - Several sigmoid units for exclusive classes: normalized to sum to 1,
          p_k = sigma(z_k) / sum_j sigma(z_j).
        - Sigmoid units for multilabel targets: sigma(z).
        """
        if self.exclusive and self.units[-1] == 1:
            return expit(_of_both_classes(Z))
        A = Z.copy()
        backprop.activation(self.output_activation, A)
        if self.output_activation == "softmax" or not self.exclusive:
            return A
        total = A.sum(axis=1, keepdims=True)
        tiny = total[:, 0] < 100 * np.finfo(A.dtype).tiny  # 0 or inaccurate
        np.divide(A, total, out=A, where=~tiny[:, np.newaxis])
        if tiny.any():
            A[tiny] = np.exp(self.log_probabilities(Z[tiny]))
        return A

    @quiet
    def log_probabilities(self, Z):
        """Logarithms of the probabilities, finite where these round to 0."""
        if self.output_activation == "softmax":
            return log_softmax(Z, axis=1)
        if not self.exclusive:
            return log_expit(Z)
        if Z.shape[1] == 1:
            return log_expit(_of_both_classes(Z))
        return log_softmax(log_expit(Z), axis=1)


def _of_both_classes(Z):
    """[-Z, Z], whose sigmoids are the probabilities: 1 - sigma(z) would lose digits."""
    return Z * SIGNS


# Weights set by the user -------------------------------------------------------------


def write_arrays(arrays, views, name):
    """Check arrays and copy them into views of theta."""
    try:
        arrays = list(arrays)
    except TypeError as error:
        raise ValueError(
            f"{name} must be a sequence of {len(views)} arrays; got {arrays!r}."
        ) from error
    if len(arrays) != len(views):
        raise ValueError(
            f"{name} must hold {len(views)} arrays, one for each layer after the "
            f"input; got {len(arrays)}."
        )
    for i, (array, view) in enumerate(zip(arrays, views, strict=True)):
        write_array(array, view, f"{name}[{i}]")


def write_array(array, view, name):
    """Check an array and copy it into a view of theta."""
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array of shape {view.shape}; got rows of several "
            "lengths."
        ) from error
    if array.shape != view.shape or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be an array of real numbers of shape {view.shape}; got "
            f"{array.dtype} of shape {array.shape}."
        )
    with np.errstate(over="ignore"):
        view[...] = array
    if not np.isfinite(view).all():
        raise ValueError(
            f"{name} must be finite in {view.dtype}; got "
            f"{array[~np.isfinite(view)][0]}."
        )
