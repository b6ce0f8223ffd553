"""Rows in local memory, and the operations that a minimizer needs."""

from contextlib import contextmanager
from zlib import crc32

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split

from ._core import backprop
from ._core.arguments import check_csr, quiet
from ._core.threads import ThreadPool
from ._moments import Moments
from ._targets import (
    check_positive_weight,
    class_totals,
    classes_in,
    encode,
    is_missing,
    is_multilabel,
    row_weights,
)

# Each thread processes its part of a batch in tiles. The rows and activations of a tile
# have about TILE_BYTES, which fit in the cache; the number of rows is bounded.
TILE_BYTES = 1 << 19
TILE_ROW_BOUNDS = 128, 4096
# As in `_core/network-inl.hpp`.
BLOCK_ROWS = 32

# The number of threads is chosen for the work of at most this many epochs, as a fit may
# stop early.
MAX_EPOCHS_OF_WORK = 8

# Number of rows in a sample, for estimates.
SAMPLE_ROWS = 1000

# A feature with a larger root mean square is badly scaled.
BADLY_SCALED_RMS = 10.0


class LocalRows:
    """Rows of X with their labels and weights; `DaskRows` has the same methods.

    A context manager, which stops the threads on exit.

    Parameters
    ----------
    X : ndarray of shape (n, d), C-contiguous, or CSR; float32 or float64
    y : ndarray of shape (n,) or (n, n_labels)
        Class labels, or 0/1 indicators.
    sample_weight : ndarray of shape (n,) or None
    n_jobs : int or None
    """

    def __init__(self, X, y, sample_weight, n_jobs):
        self.X, self.y, self.sample_weight, self.n_jobs = X, y, sample_weight, n_jobs
        self.n_samples, self.dtype = X.shape[0], X.dtype
        self.thread_pool = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.thread_pool is not None:
            self.thread_pool.__exit__(*error)

    # Labels and weights

    @property
    def multilabel(self):
        return is_multilabel(self.y)

    def classes(self):
        """The sorted labels, or the column numbers of indicators."""
        return classes_in(self.y)

    def class_totals(self, classes):
        """The total weight of each class, up to a common factor."""
        encoded = encode(self.y, classes, multilabel=False)[:, 0]
        return class_totals(encoded, self.sample_weight, len(classes))

    def set_targets(self, classes, multilabel, class_weights):
        """Set Y, encoded labels or indicators, and the weights, with mean 1 or None."""
        self.Y = encode(self.y, classes, multilabel)
        self.weights = row_weights(
            self.Y, self.sample_weight, class_weights, self.dtype
        )

    def check_labels(self, classes, multilabel):
        """Raise an error if a label is not one of the classes."""
        encode(self.y, classes, multilabel)

    @property
    def total_weight(self):
        """The sum of the weights: the number of rows, or 0 if all weights are 0."""
        return self.n_samples if self.weights is None else self.weights.sum(dtype=float)

    @property
    def key(self):
        """Identifies the rows for warm starts: checksums of a sample."""
        return tuple(map(_fingerprint, (self.X, self.Y, self.weights)))

    def split(self, fraction, seed, multilabel):
        """Split into training and validation rows, stratified by class.

        Rows of weight zero, and the row of a class that has only one, are training
        rows. If there are fewer validation rows than classes, some classes have none.
        """
        candidates = np.arange(self.n_samples)
        if self.sample_weight is not None:
            check_positive_weight(self.sample_weight.max(), "sample_weight")
            candidates = np.flatnonzero(self.sample_weight)
        stratify, n_classes = None, 1
        if not multilabel:
            _, encoded = np.unique(self.y[candidates], return_inverse=True)
            counts = np.bincount(encoded)
            candidates = candidates[counts[encoded] > 1]
            stratify, n_classes = self.y[candidates], max(1, (counts > 1).sum())
        n_validation = max(int(np.ceil(fraction * len(candidates))), 1)
        if len(candidates) == 0:
            raise ValueError(
                "early_stopping cannot set rows aside for validation: no class has two "
                "rows with a positive weight. Pass X_val and y_val."
            )
        if len(candidates) < n_validation + n_classes:
            raise ValueError(
                f"early_stopping cannot set {n_validation} rows aside for validation "
                f"(validation_fraction={fraction:g}): of the {len(candidates)} rows "
                f"that could be, at least {n_classes} must be left for training. "
                "Decrease validation_fraction, or pass X_val and y_val."
            )
        if n_validation < n_classes:
            aside = _spread_over_classes(candidates, stratify, n_validation, seed)
        else:
            _, aside = train_test_split(
                candidates, test_size=n_validation, random_state=seed, stratify=stratify
            )
        aside.sort()
        rest = np.setdiff1d(np.arange(self.n_samples), aside, assume_unique=True)
        return self._take(rest), self._take(aside)

    def _take(self, rows):
        return LocalRows(
            *(None if a is None else a[rows] for a in (self.X, self.y)),
            None if self.sample_weight is None else self.sample_weight[rows],
            self.n_jobs,
        )

    # Sums over the rows

    @quiet
    def effective_samples(self):
        """(sum_i w_i)^2 / sum_i w_i^2, which is n if all weights are equal."""
        if self.weights is None:
            return self.n_samples
        # The weights have mean 1.
        return self.n_samples**2 / np.square(self.weights, dtype=float).sum()

    def moments(self):
        """Mean and standard deviation of the features; None for sparse rows."""
        return None if issparse(self.X) else Moments.from_rows(self.X, self.weights)

    def mean_squared_row_norm(self):
        """sum_i w_i ||x_i||^2 / sum_i w_i, over rows with w_i > 0."""
        return mean_squared_row_norm(self.X, self.weights)

    def sample(self):
        """About a thousand evenly spaced rows, with their targets."""
        rows = np.arange(0, self.n_samples, 1 + self.n_samples // SAMPLE_ROWS)
        return self.with_targets(
            *(None if a is None else a[rows] for a in (self.X, self.Y, self.weights))
        )

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

    @classmethod
    def with_targets(cls, X, Y, weights):
        rows = cls(X, None, None, n_jobs=1)
        rows.Y, rows.weights = Y, weights
        return rows

    def mean_loss(self, network, theta):
        """1 / n sum_i w_i l_i, without the penalty."""
        total = sum_of_losses(
            network, theta, self.X, self.Y, self.weights, n_jobs=self.n_jobs
        )
        return total / self.n_samples

    def prepare_loss_gradient(self, network):
        """Allocate what all calls of `loss_gradient` use."""
        self._allocate(network, self.n_samples, MAX_EPOCHS_OF_WORK)

    @quiet
    def loss_gradient(self, network, theta):
        """1 / n sum_i w_i l_i and its gradient, without the penalty."""
        gradient = np.empty_like(theta)
        model = backprop.Model(network.layout, theta, gradient=gradient)
        total = self.thread_pool.run(
            backprop.loss_gradient, model, self.core_data, self.workspace
        )
        gradient /= self.n_samples
        return total / self.n_samples, gradient

    # Epochs

    def prepare_epochs(
        self, network, state, update_rule, batch_size, shuffle, n_epochs
    ):
        """Allocate what all calls of `run_epoch` use."""
        # The full batch does not depend on the order of the rows.
        shuffle = shuffle and batch_size < self.n_samples
        self._allocate(network, batch_size, n_epochs, shuffle)
        in_place = (
            self.workspace.allows_in_place(batch_size)
            and state.velocity is None
            and update_rule.max_gradient_norm == 0
        )
        self.model = backprop.Model(
            network.layout,
            state.theta,
            state.velocity,
            state.second_moment,
            None if in_place else np.empty_like(state.theta),
        )
        self.batch_size = batch_size

    def _allocate(self, network, batch_size, n_epochs, shuffle=False):
        """Create the core's view of the rows, its threads and its scratch memory."""
        self.order = np.arange(self.n_samples, dtype=np.intp) if shuffle else None
        self.core_data = data_for(network, self.X, self.Y, self.weights, self.order)
        self.thread_pool = thread_pool_for(
            network,
            self.core_data,
            batch_size,
            self.n_jobs,
            min(n_epochs, MAX_EPOCHS_OF_WORK),
        )
        self.workspace = workspace_for(
            network, self.core_data, batch_size, self.thread_pool.n_threads
        )

    def run_epoch(self, state, update_rule, totals):
        """Make one step per batch, with the rows in a new order if they are shuffled.

        ``totals`` receives the sum of the losses and the number of rows used, also
        after an exception. Fewer rows than `n_samples` are used if a loss is not
        finite.
        """
        if self.order is not None:
            state.shuffle_state = backprop.shuffle(self.order, state.shuffle_state)
        self.workspace.reset()
        try:
            self.thread_pool.run(
                backprop.run_batches,
                self.model,
                state.n_steps,
                self.core_data,
                self.batch_size,
                update_rule,
                self.workspace,
            )
        finally:
            totals[:] = self.workspace.loss_sum, self.workspace.n_done


def _spread_over_classes(rows, labels, n, seed):
    """Sample n rows, fewer than the classes, each of which has at least two rows.

    The classes, and the rows within each class, are put in random order. The sample is
    every (len(rows) / n)th row: the fraction of each class, rounded up or down.
    """
    random_state = np.random.RandomState(seed)
    _, encoded = np.unique(labels, return_inverse=True)
    rank = random_state.permutation(encoded.max() + 1)
    order = random_state.permutation(len(rows))
    order = order[np.argsort(rank[encoded[order]], kind="stable")]
    # As len(rows) > 2 n, no two are adjacent, and no class loses all its rows.
    positions = (np.arange(n) + random_state.uniform()) * (len(rows) / n)
    return rows[order[positions.astype(int)]]


# Calls of the core -------------------------------------------------------------------


def data_for(network, X, Y=None, weights=None, order=None):
    """The core's view of the rows, with the standardization of the network."""
    return backprop.Data(X, Y, weights, order, network.standardizer(X.dtype))


def thread_pool_for(network, data, batch_size, n_jobs, n_epochs=1):
    """The thread pool for this many passes over the rows in batches."""
    n, work = data.n, network.n_parameters
    if not data.dense:
        work += (data.X.nnz // n - network.units[0]) * network.units[1]
    return ThreadPool(n_jobs, batch_size, batch_size * work, n_epochs * n * work)


def workspace_for(network, data, batch_size, n_threads=1):
    """The core's scratch memory for tiles of the rows."""
    dtype = data.values.dtype
    # Dense rows are read twice, so they count even if they are not gathered.
    row_bytes = network.layout.scratch_per_row(data.dense) * dtype.itemsize
    low, high = TILE_ROW_BOUNDS
    # The core takes several steps on few rows at once.
    rows = max(-(-batch_size // n_threads), min(BLOCK_ROWS, data.n))
    tile = min(max(TILE_BYTES // row_bytes, low), high, rows)
    # One gradient per thread pays off if summing them moves less data between
    # processor cores than sharing the activations and deltas of all rows.
    shared = 2 * batch_size * sum(network.units)
    gradients = data.dense and network.n_parameters < shared
    return backprop.Workspace(
        network.layout, dtype, tile, n_threads, data.gathered, gradients
    )


def sum_of_losses(network, theta, X, Y, weights, gradient=None, n_jobs=1):
    """sum_i w_i l_i over rows; its gradient is written into `gradient`, if given."""
    data = data_for(network, X, Y, weights)
    with thread_pool_for(network, data, data.n, n_jobs) as pool:
        return pool.run(
            backprop.loss_gradient,
            backprop.Model(network.layout, theta, gradient=gradient),
            data,
            workspace_for(network, data, data.n, pool.n_threads),
        )


def output_layer(network, theta, X, activated, n_jobs=None, check_finite=False):
    """The output layer, of shape (n, K): A_L if `activated`, otherwise Z_L.

    None if `check_finite` is True and dense X has a NaN or an infinity.
    """
    data = data_for(network, X)
    out = np.empty((data.n, network.units[-1]), dtype=theta.dtype)
    with thread_pool_for(network, data, data.n, n_jobs) as pool:
        finite = pool.run(
            backprop.outputs,
            backprop.Model(network.layout, theta),
            data,
            out,
            activated,
            check_finite,
            workspace_for(network, data, data.n, pool.n_threads),
        )
    return out if finite else None


@quiet
def mean_squared_row_norm(X, weights):
    """sum_i w_i ||x_i||^2 / sum_i w_i, over rows with w_i > 0."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    squared_row_norms = np.empty(X.shape[0])
    backprop.squared_row_norms(backprop.Data(X), squared_row_norms)
    if weights is None:
        return squared_row_norms.mean()  # may be inf
    positive = weights > 0
    return np.average(squared_row_norms[positive], weights=weights[positive])


# Input checks ------------------------------------------------------------------------


@contextmanager
def explain_bad_columns(X):
    """A context in which errors about X name the first column with a non-number."""
    try:
        with np.errstate(all="ignore"):  # conversion to float32
            yield
    except (TypeError, ValueError) as error:
        found = _first_non_number(X)
        if found is None:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        name, value = found
        raise kind(
            f"{str(error).rstrip('.')}. Column {name!r} of X holds {value!r}; all "
            "columns must hold numbers. Encode it (OneHotEncoder, OrdinalEncoder), or "
            "drop it."
        ) from error


def _first_non_number(X):
    """The column name and the value of the first non-number in X, or None."""
    try:
        array = np.asarray(X)
    except ValueError:  # rows of different lengths
        return None
    if array.ndim != 2 or array.dtype.kind in "biufc":
        return None
    names = getattr(X, "columns", range(array.shape[1]))
    for name, column in zip(names, array.T.astype(object), strict=True):
        for value in column:
            try:
                np.nan if is_missing(value) else float(value)
            except (TypeError, ValueError):
                return name, value
    return None


def without_duplicates(X):
    """Sum the duplicate entries of sparse X in its own dtype, as `toarray` does.

    The sum of True and True is then True, and not 2 as after a conversion to floats.
    The conversion in older versions of SciPy also sorts the indices of X in place.
    """
    if not issparse(X) or X.dtype in (np.float32, np.float64):
        return X
    rows = X.tocsr()
    if rows.has_canonical_format:
        return X
    rows = rows.copy()
    rows.sum_duplicates()
    return rows


def has_core_layout(X, dtype, n_features):
    """Whether X needs no conversion, and no check except for NaN and infinity."""
    return (
        type(X) is np.ndarray
        and X.dtype == dtype
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == n_features
        and X.flags.c_contiguous
        and X.flags.aligned
    )


def check_core_layout(X):
    """Return X aligned and contiguous, with indices of 32 or 64 bits.

    An error is raised if the structure of sparse X is invalid.
    """
    if not issparse(X):
        return np.require(X, requirements="A")  # np.frombuffer with an odd offset
    integers = X.indices.dtype
    if integers not in (np.int32, np.int64):
        integers = np.dtype(np.int64)
    members = [
        np.require(member, dtype, ["A", "C"])
        for member, dtype in (
            (X.data, X.data.dtype), (X.indices, integers), (X.indptr, integers)
        )
    ]  # fmt: skip
    check_csr(X.shape, *members)
    if any(a is not b for a, b in zip(members, (X.data, X.indices, X.indptr))):  # noqa: B905
        X = type(X)(tuple(members), shape=X.shape)
    return X


def _fingerprint(array):
    """The shape and checksums of a sample of the rows, or None for None."""
    if array is None:
        return None
    rows = array[:: 1 + array.shape[0] // SAMPLE_ROWS]
    parts = [rows.data, rows.indices, rows.indptr] if issparse(rows) else [rows]
    return array.shape, *(crc32(part.tobytes()) for part in parts)
