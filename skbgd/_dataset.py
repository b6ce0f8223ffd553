"""Rows in local memory with their targets, and what training asks of them."""

from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
from scipy.sparse import issparse

from ._core import backprop
from ._core.arguments import quiet
from ._moments import Moments
from ._trainer import LocalTrainer, sum_of_losses

# Number of rows in a sample, for estimates.
SAMPLE_ROWS = 1000

# A feature with a larger root mean square is badly scaled.
BADLY_SCALED_RMS = 10.0


@dataclass(frozen=True)
class Dataset:
    """Rows, targets and weights in the layout of the core.

    `DaskRows` has the same methods.

    Parameters
    ----------
    X : ndarray of shape (n, d), C-contiguous, or CSR; float32 or float64
    Y : ndarray of shape (n, 1) or (n, n_labels)
        Encoded labels, or indicators.
    weights : ndarray of shape (n,) or None
        Row weights. Those of all training rows have mean 1.
    n_jobs : int or None
    """

    X: np.ndarray
    Y: np.ndarray
    weights: np.ndarray | None
    n_jobs: int | None = 1

    @property
    def n_samples(self):
        return self.X.shape[0]

    @property
    def total_weight(self):
        """The sum of the weights: the number of rows, or 0 if all weights are 0."""
        return self.n_samples if self.weights is None else self.weights.sum(dtype=float)

    @property
    def key(self):
        """Identifies the rows for warm starts: shapes and checksums."""
        return tuple(map(_fingerprint, (self.X, self.Y, self.weights)))

    @quiet
    def effective_samples(self):
        """(sum_i w_i)^2 / sum_i w_i^2, which is n if all weights are equal."""
        if self.weights is None:
            return self.n_samples
        # The weights have mean 1.
        return self.n_samples**2 / np.square(self.weights, dtype=float).sum()

    def moments(self):
        """Moments of the features, or None for sparse rows.

        Their weight is the number of rows with w_i > 0.
        """
        if issparse(self.X):
            return None
        moments = Moments.from_rows(self.X, self.weights)
        return replace(moments, weight=float(count_weighted(self.X, self.weights)))

    def mean_squared_row_norm(self):
        """sum_i w_i ||x_i||^2 / sum_i w_i, over rows with w_i > 0."""
        return mean_squared_row_norm(self.X, self.weights)

    def sample(self):
        """About a thousand evenly spaced rows."""
        return Dataset(*sample_rows(self.X, self.Y, self.weights))

    def mean_loss(self, network, theta):
        """1 / n sum_i w_i l_i, without the penalty."""
        total = sum_of_losses(
            network, theta, self.X, self.Y, self.weights, n_jobs=self.n_jobs
        )
        return total / self.n_samples

    def trainer(self, network, theta, **kwargs):
        """The network bound to these rows."""
        return LocalTrainer(self, network, theta, **kwargs)

    @quiet
    def scaling_advice(self, network):
        """A sentence after a space if the features are badly scaled, or ""."""
        if network.shift is not None:  # the network standardizes them
            return ""
        X = self.X if self.weights is None else self.X[self.weights > 0]
        if X.shape[0] == 0:
            return ""
        X = X.astype(float)
        squares = X.multiply(X) if issparse(X) else X * X
        rms = np.sqrt(squares.mean(axis=0))
        if not rms.max() > BADLY_SCALED_RMS:
            return ""
        cure = "a MaxAbsScaler in front" if issparse(X) else "standardize=True"
        return (
            " The features are badly scaled (root mean squares from "
            f"{rms.min():.2g} to {rms.max():.2g}). Use {cure}."
        )


def count_weighted(X, weights):
    """The number of rows with w_i > 0."""
    return X.shape[0] if weights is None else np.count_nonzero(weights)


def sample_rows(*arrays):
    """About a thousand evenly spaced rows of arrays, or None for None."""
    n = arrays[0].shape[0]
    rows = np.arange(0, n, 1 + n // SAMPLE_ROWS)
    return [None if array is None else array[rows] for array in arrays]


@quiet
def mean_squared_row_norm(X, weights):
    """sum_i w_i ||x_i||^2 / sum_i w_i, over rows with w_i > 0."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    squared_row_norms = np.empty(X.shape[0])
    backprop.squared_row_norms(X, squared_row_norms)
    if weights is None:
        return squared_row_norms.mean()  # may be inf
    positive = weights > 0
    return np.average(squared_row_norms[positive], weights=weights[positive])


def _fingerprint(array):
    """The shape and checksums of an array, or None for None."""
    if array is None:
        return None
    parts = [array.data, array.indices, array.indptr] if issparse(array) else [array]
    return array.shape, *(crc32(np.ascontiguousarray(part)) for part in parts)
