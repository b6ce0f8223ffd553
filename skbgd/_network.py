"""The network's shape: layers to and from one flat vector, its start, its outputs."""

from functools import cached_property

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, log_expit, log_softmax

from . import _backprop
from ._threads import Crew

ACTIVATIONS = ("logistic", "tanh", "relu", "identity")
OUTPUT_ACTIVATIONS = ("logistic", "softmax")

# Standard deviation of the first hidden layer's pre-activations at the start. The layer
# is to see the data bent: with few features a start that thinks of the fan-out too is
# almost linear, and the descent is long on a plateau. (1 + tanh z) / 2 is a logistic
# unit at 2 z; sqrt(2) keeps the mean square through a relu, 1 through nothing.
FIRST_GAIN = {"logistic": 3.0, "tanh": 1.5, "relu": 2**0.5, "identity": 1.0}

# A pass over the weights works on so many bytes of rows and activations per thread, to
# stay in the cache, but on so many rows at least and at most.
TILE_BYTES = 1 << 19
TILE_ROWS = 256, 4096


class Network:
    """A fully connected network with parameters in one vector theta.

    ``theta`` is ``[W_1, b_1, ..., W_L, b_L]``, each ``W_l`` of shape
    ``(units[l - 1], units[l])`` and row-major.

    Parameters
    ----------
    units : sequence of int
        Units per layer from the features to the outputs, ``L + 1`` numbers.
    activation : {"logistic", "tanh", "relu", "identity"}
        Of the hidden layers.
    output_activation : {"logistic", "softmax"}
        Of the output layer; decides the loss too.
    exclusive : bool
        Whether the outputs are classes, which exclude each other, or labels.
    """

    def __init__(self, units, activation, output_activation, exclusive=True):
        # Python's integers, where sizes are multiplied: they do not overflow.
        self.layers = [int(n) for n in units]
        self.units = np.array(self.layers, dtype=np.intp)  # for the core
        self.activation = activation
        self.output_activation = output_activation
        self.exclusive = exclusive

    def __eq__(self, other):
        return repr(self) == repr(other) and self.exclusive == other.exclusive

    def __repr__(self):
        return (
            f"layers of {'-'.join(map(str, self.layers))} units, activation="
            f"{self.activation!r}, output_activation={self.output_activation!r}"
        )

    @cached_property
    def _slices(self):
        """For each layer, where W and b lie in theta, and the shape of W."""
        slices, start = [], 0
        for fan_in, fan_out in zip(self.layers[:-1], self.layers[1:], strict=True):
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            slices.append((slice(start, middle), slice(middle, end), (fan_in, fan_out)))
            start = end
        return slices

    @property
    def n_parameters(self):
        return self._slices[-1][1].stop

    def coefs(self, theta):
        """The matrices W_1 ... W_L, as views into theta."""
        return tuple(theta[W].reshape(shape) for W, _, shape in self._slices)

    def intercepts(self, theta):
        """The vectors b_1 ... b_L, as views into theta."""
        return tuple(theta[b] for _, b, _ in self._slices)

    def crew(self, n_jobs, X, batch_size, n_calls=1):
        """Threads for calls of the core with the rows of X in batches."""
        n = X.shape[0]
        work = self.n_parameters
        if issparse(X):
            work += (X.nnz // n - self.layers[0]) * self.layers[1]
        tile_work = min(batch_size, TILE_ROWS[1]) * work
        return Crew(n_jobs, batch_size, tile_work, n * work, n_calls)

    def scratch(self, X, n_rows, n_threads=1, in_order=True):
        """Rows of a tile for batches of `n_rows`, and the core's scratch memory.

        Dense rows that are not taken in their order are gathered in it.
        """
        dtype = X.dtype
        gathered = not in_order and not issparse(X)
        row_size = _backprop.row_work_size(self.units, gathered)
        least, most = TILE_ROWS
        tile = TILE_BYTES // (row_size * np.dtype(dtype).itemsize)
        tile = min(min(max(tile, least), most) * n_threads, n_rows)
        return tile, np.empty(tile * row_size, dtype=dtype)

    def initial_parameters(self, random_state, dtype):
        """A random start: W and b of a layer uniform in the same bounds.

        In front of the first hidden layer +-gain sqrt(3 / d), which gives rows of d
        features of size 1 pre-activations of standard deviation gain = FIRST_GAIN; in
        front of the others +-gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010),
        with gain 4 for logistic hidden units, whose slope at 0 is 1/4, and 1 elsewhere.
        A single neuron has no symmetry to break and a convex cost: it starts at 0.
        """
        theta = np.zeros(self.n_parameters, dtype=dtype)
        if len(self._slices) > 1:
            for W, b, (fan_in, fan_out) in self._slices:
                hidden = b.stop < self.n_parameters
                gain = 4.0 if hidden and self.activation == "logistic" else 1.0
                bound = gain * np.sqrt(6.0 / (fan_in + fan_out))
                if W.start == 0:
                    bound = FIRST_GAIN[self.activation] * np.sqrt(3.0 / fan_in)
                for start in range(W.start, b.stop, 1 << 16):  # drawn in float64
                    part = theta[start : min(start + (1 << 16), b.stop)]
                    part[:] = random_state.uniform(-bound, bound, size=len(part))
        return theta

    def fit_start(self, theta, squared_norm):
        """Divide W_1 by sqrt(rms), rms the features' root mean square, if rms > 1.

        Half-way, so that small features beside a large one are still seen.
        """
        rms = np.sqrt(squared_norm / self.layers[0])
        if len(self._slices) > 1 and 1 < rms < np.inf:
            theta[self._slices[0][0]] /= np.sqrt(rms)

    def decision_function(self, theta, X, n_jobs=None):
        """Pre-activations of the output layer, shape (n, K)."""
        return self._outputs(theta, X, n_jobs, activated=False)

    def probabilities(self, theta, X, n_jobs=None):
        """Of the classes or labels, shape (n, max(K, 2)) or (n, K).

        Softmax units are probabilities. The sigmoid units of exclusive classes are
        normalised to sum to 1: p_k = sigma(z_k) / sum_j sigma(z_j). One sigmoid unit is
        P(second class); the units of labels that do not exclude each other stay as they
        are.
        """
        if self.exclusive and self.layers[-1] == 1:
            Z = self.decision_function(theta, X, n_jobs)
            return expit(np.hstack([-Z, Z]))  # 1 - sigma(z) would lose digits
        A = self._outputs(theta, X, n_jobs, activated=True)
        if self.output_activation == "softmax" or not self.exclusive:
            return A
        total = A.sum(axis=1, keepdims=True)
        tiny = total[:, 0] < 100 * np.finfo(A.dtype).tiny  # 0, or too few digits
        np.divide(A, total, out=A, where=~tiny[:, np.newaxis])
        if tiny.any():
            A[tiny] = np.exp(self.log_probabilities(theta, X[tiny], n_jobs))
        return A

    def log_probabilities(self, theta, X, n_jobs=None):
        """Logarithms of `probabilities`, finite where these round to 0."""
        Z = self.decision_function(theta, X, n_jobs)
        if self.output_activation == "softmax":
            return log_softmax(Z, axis=1)
        if not self.exclusive:
            return log_expit(Z)
        if Z.shape[1] == 1:
            return log_expit(np.hstack([-Z, Z]))
        return log_softmax(log_expit(Z), axis=1)

    def _outputs(self, theta, X, n_jobs, activated):
        n = X.shape[0]
        outputs = np.empty((n, self.layers[-1]), dtype=theta.dtype)
        with self.crew(n_jobs, X, n) as crew:
            tile, work = self.scratch(X, n, crew.n_threads)
            crew.run(_backprop.outputs, self, theta, X, activated, outputs, work, tile)
        return outputs
