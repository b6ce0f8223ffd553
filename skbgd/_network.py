"""The network's shape: layers to and from one flat vector, its start, its outputs."""

from functools import cached_property

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, log_expit, log_softmax

from ._core import _backprop
from ._core.threads import ThreadTeam

ACTIVATIONS = ("logistic", "tanh", "relu", "identity")
OUTPUT_ACTIVATIONS = ("logistic", "softmax")

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
        self.layout = _backprop.Layout(self.layers, activation, output_activation)
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
        return [
            (slice(W, b), slice(b, b + fan_out), (fan_in, fan_out))
            for W, b, fan_in, fan_out in self.layout.places()
        ]

    @property
    def n_parameters(self):
        return self.layout.n_parameters

    def coefs(self, theta):
        """The matrices W_1 ... W_L, as views into theta."""
        return [theta[W].reshape(shape) for W, _, shape in self._slices]

    def intercepts(self, theta):
        """The vectors b_1 ... b_L, as views into theta."""
        return [theta[b] for _, b, _ in self._slices]

    def team(self, n_jobs, X, batch_size):
        """Threads for calls of the core with the rows of X in batches."""
        n = X.shape[0]
        work = self.n_parameters
        if issparse(X):
            work += (X.nnz // n - self.layers[0]) * self.layers[1]
        tile_work = min(batch_size, TILE_ROWS[1]) * work
        return ThreadTeam(n_jobs, batch_size, tile_work, n * work)

    def workspace(self, X, n_rows, n_threads=1, in_order=True):
        """The core's scratch memory for batches of `n_rows`, in tiles.

        Dense rows that are not taken in their order are gathered in it.
        """
        gathered = not in_order and not issparse(X)
        row_size = self.layout.size_of_row(gathered or not issparse(X))
        least, most = TILE_ROWS
        tile = TILE_BYTES // (row_size * X.dtype.itemsize)
        tile = min(min(max(tile, least), most) * n_threads, n_rows)
        return _backprop.Workspace(self.layout, X.dtype, tile, n_threads, gathered)

    def initial_parameters(self, random_state, dtype):
        """A random start: uniform in +-gain sqrt(6 / (fan_in + fan_out)), b likewise.

        The gain is 4 in front of logistic hidden units, whose slope at 0 is 1/4, and
        1 elsewhere (Glorot & Bengio 2010). A single neuron has no symmetry to break and
        a convex cost: it starts at 0.
        """
        theta = np.zeros(self.n_parameters, dtype=dtype)
        if len(self._slices) > 1:
            for W, b, (fan_in, fan_out) in self._slices:
                hidden = b.stop < self.n_parameters
                gain = 4.0 if hidden and self.activation == "logistic" else 1.0
                bound = gain * np.sqrt(6.0 / (fan_in + fan_out))
                for start in range(W.start, b.stop, 1 << 16):  # drawn in float64
                    part = theta[start : min(start + (1 << 16), b.stop)]
                    part[:] = random_state.uniform(-bound, bound, size=len(part))
        return theta

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
        rows = _backprop.Rows(X)
        parameters = _backprop.Parameters(self.layout, theta)
        with self.team(n_jobs, X, n) as team:
            work = self.workspace(X, n, team.n_threads)
            team.run(
                _backprop.outputs, parameters, rows, outputs, activated, False, work
            )
        return outputs
