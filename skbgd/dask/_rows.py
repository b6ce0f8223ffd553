"""Rows on Dask's workers, and passes over them that sum gradients or losses.

A pass sends the parameters to the workers and returns one tuple ``(number, array or
None)``. The blocks of a worker are combined into shards, usually one for each of its
threads, and a task processes a shard. The order of all additions is fixed before
training, so the result does not depend on the order in which tasks finish, nor on
workers that are lost and replaced.
"""

import warnings
from dataclasses import replace
from math import ceil
from numbers import Real
from typing import NamedTuple
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.base import is_dask_collection
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Future, futures_of, wait
from sklearn.utils.validation import column_or_1d

from .._core.arguments import quiet
from .._dataset import Dataset
from .._targets import (
    check_positive_weight,
    check_sample_weight,
    classes_in,
    divided_by_max,
    encode,
    unique_labels,
)
from ._tasks import (
    add,
    aligned,
    convert_block,
    encode_block,
    identity,
    sample_block,
    sum_losses,
    sum_moments,
    sum_squared_row_norms,
    sum_squared_weights,
    summarize_block,
)
from ._trainer import DaskTrainer, RowsLost, pinned_to

# Maximum size of the rows in a task. A task holds them in memory, including those that
# the worker had spilled to disk.
MAX_TASK_BYTES = 1 << 28

# Number of terms that a task adds when it combines the sums of several workers.
TERMS_PER_SUM = 8

# Parameters of up to this size, summed over all tasks, are sent inside the tasks, which
# saves a round trip. Larger ones are sent to each worker once.
MAX_EMBEDDED_BYTES = 1 << 21


class Shard(NamedTuple):
    """Blocks of one worker that a task processes together."""

    worker: str | None
    blocks: list[int]


class DaskRows:
    """Rows on the workers, in blocks in the layout of the core.

    The blocks are futures. The scheduler recomputes lost blocks if it knows how. Blocks
    without rows are left out.

    This is a context manager, which releases the futures. Otherwise the traceback of an
    exception would keep them alive.

    Parameters
    ----------
    client : Client
    verbose : int
        Whether to print the time of a pass over the workers.
    """

    def __init__(self, client, verbose=0):
        self.client, self.verbose = client, verbose
        self.validation_rows = None  # another DaskRows, released with this one

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for futures in vars(self).values():
            if isinstance(futures, list):
                _release(futures)
        if self.validation_rows is not None:
            self.validation_rows.__exit__(*error)

    def load(self, X, y, sample_weight, dtype):
        """Load dask collections; sample_weight may be None. Returns self."""
        try:
            self._load(X, y, sample_weight, dtype)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _load(self, X, y, sample_weight, dtype):
        client, self.dtype = self.client, dtype
        X = as_dask_array(X, "X")
        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        # Persisted blocks of the right dtype are used in place: copies would double the
        # memory on the worker.
        used_in_place = bool(futures_of(X)) and X.dtype == dtype
        if not used_in_place:
            meta = np.empty((0, 0), dtype)
            X = X.map_blocks(convert_block, dtype, dtype=dtype, meta=meta)
        arrays = [X, as_dask_array(y, "y", X)]
        if isinstance(sample_weight, (Real, str)):
            # An equal, positive weight for every row has the effect of no weights.
            weight = check_sample_weight(sample_weight, 1)
            check_positive_weight(weight.max(), "sample_weight")
            sample_weight = None
        if sample_weight is not None:
            arrays.append(as_dask_array(sample_weight, "sample_weight", X))
        X, y, *weights = self._align_chunks(arrays)
        if y.ndim == 2 and y.shape[1] == 1:
            column_or_1d(np.empty((1, 1)), warn=True)
            y = y[:, 0]
        self.collection_names = [array.name for array in arrays]
        self.n_labels = y.shape[1] if y.ndim == 2 else None

        lengths = X.chunks[0]
        non_empty = [i for i, n in enumerate(lengths) if n]
        if not non_empty:
            raise ValueError(f"X must have at least one row; got shape {X.shape}.")
        self.lengths = [lengths[i] for i in non_empty]
        self.n_samples = sum(self.lengths)
        blocks_of = [
            [array.to_delayed().ravel()[i] for i in non_empty]
            for array in (X, y, *weights)
        ]
        on_workers = bool(futures_of(X))
        self.X, self.y, *self.weights = self._distribute(blocks_of, on_workers)
        self.weights = self.weights[0] if weights else [None] * len(non_empty)
        self.summary_futures = client.map(
            summarize_block, self.X, self.y, self.weights, [dtype] * len(non_empty)
        )
        self.summaries = client.gather(self.summary_futures)
        _release(self.summary_futures + self.persisted)
        if not all(summary.is_core_layout for summary in self.summaries):
            self.unconverted = self.X
            self.X = client.map(convert_block, self.X, [dtype] * len(non_empty))
            wait(self.X)
            _release(self.unconverted)
        self.shards = self._make_shards()

    def _align_chunks(self, arrays):
        """The arrays with known chunk sizes; all have the row chunks of X."""
        self.persisted = []
        if any(np.isnan(n) for array in arrays for n in array.chunks[0]):
            # Persisted, or each block would be computed twice: for its length, and for
            # its rows.
            arrays = self.client.persist(arrays)
            self.persisted = [f for array in arrays for f in futures_of(array)]
            with self.client.as_current():
                for array in arrays:
                    array.compute_chunk_sizes()
        X, *others = arrays
        rechunked = [X]
        for array, name in zip(others, ("y", "sample_weight"), strict=False):
            if array.shape[0] != X.shape[0]:
                raise ValueError(
                    f"X and {name} must have the same number of rows; got "
                    f"{X.shape[0]} and {array.shape[0]}."
                )
            chunks = {0: X.chunks[0]}
            if array.ndim > 1:
                chunks[1] = -1
            rechunked.append(array.rechunk(chunks))
        return rechunked

    def _distribute(self, blocks_of, on_workers):
        """Futures of the blocks of each array, distributed over the workers.

        Blocks of the same rows are on the same worker. Blocks that are `on_workers`
        already stay there.
        """
        client, n_blocks = self.client, len(self.lengths)
        slots = [
            worker
            for worker, n_threads in sorted(client.nthreads().items())
            for _ in range(n_threads)
        ]
        if on_workers or not slots:
            slots = [None]
        numbers_on: dict[str | None, list[int]] = {}
        for i, slot in enumerate(_balanced_parts(self.lengths, len(slots))):
            numbers_on.setdefault(slots[slot], []).append(i)
        self.computed = []
        futures_of_blocks = [[None] * n_blocks for _ in blocks_of]
        for worker, numbers in numbers_on.items():
            delayed = [blocks[i] for blocks in blocks_of for i in numbers]
            self.computed += client.compute(delayed, **pinned_to(worker))
            computed = iter(self.computed[-len(delayed) :])
            for futures in futures_of_blocks:
                for i in numbers:
                    futures[i] = next(computed)
        wait(self.computed)
        return futures_of_blocks

    def _make_shards(self):
        """The blocks of each worker in one shard per thread, or more to limit size."""
        holders = self.client.who_has(self.X)
        n_threads = self.client.nthreads()
        blocks_of: dict[str | None, list[int]] = {}
        for block, future in enumerate(self.X):
            worker = min(holders.get(future.key) or [""])
            blocks_of.setdefault(worker or None, []).append(block)
        shards = []
        for worker, blocks in blocks_of.items():
            sizes = [self.summaries[i].n_bytes for i in blocks]
            n_parts = max(n_threads.get(worker, 1), ceil(sum(sizes) / MAX_TASK_BYTES))
            parts = _balanced_parts(sizes, n_parts)
            for part in sorted(set(parts)):
                shards.append(
                    Shard(
                        worker,
                        [i for i, p in zip(blocks, parts, strict=True) if p == part],
                    )
                )
        return shards

    @property
    def multilabel(self):
        return self.n_labels is not None

    def classes(self):
        """The sorted labels of all blocks, or the column numbers of indicators."""
        labels = [summary.labels for summary in self.summaries]
        if len({array.dtype.kind for array in labels}) > 1:
            labels = [array.astype(object) for array in labels]
        labels = unique_labels(np.concatenate(labels), "y")
        if self.multilabel:
            if not np.isin(labels, (0, 1)).all():
                raise ValueError(
                    "y must hold one class label per row, or 0/1 indicators of several "
                    f"labels; got an array of shape ({self.n_samples}, "
                    f"{self.n_labels}) with the values {labels[:5].tolist()}."
                )
            return np.arange(self.n_labels)
        # Numbers that occur only once each would look like a regression target.
        return classes_in(np.repeat(labels, 2))

    def check_labels(self, classes, multilabel):
        """Raise an error if there are labels that are not in `classes`."""
        if self.multilabel:
            encode(np.empty((0, self.n_labels)), classes, multilabel)
        for summary in self.summaries:
            if not self.multilabel:
                encode(summary.labels, classes, multilabel)

    @quiet
    def class_totals(self, classes):
        """The weight of the rows of each class, up to a common factor."""
        return divided_by_max(self._label_totals(classes))

    def _label_totals(self, classes):
        """Total weight of each class, divided by the largest weight of a row.

        For indicators an array of shape (1,), the total of all rows.
        """
        max_weight = max(summary.max_weight for summary in self.summaries)
        totals = np.zeros(1 if self.multilabel else len(classes))
        for summary in self.summaries:
            encoded = slice(None)
            if not self.multilabel:
                encoded = np.searchsorted(classes, summary.labels)
            scale = summary.max_weight / (max_weight or 1)
            totals[encoded] += summary.label_totals * scale
        return totals

    @quiet
    def encoded(self, classes, multilabel, class_weights):
        """Encode the labels on the workers, normalize the weights; returns self."""
        factors, self.total_weight = None, self.n_samples
        self.weighted = class_weights is not None or self.weights[0] is not None
        if self.weighted:
            totals = self._label_totals(classes)
            factors = np.ones(len(totals))
            if class_weights is not None:
                factors = divided_by_max(class_weights)
            self.total_weight = factors @ totals
            if self.total_weight == 0:
                return self
            factors = factors * (self.n_samples / self.total_weight)
        max_weight = max(summary.max_weight for summary in self.summaries)
        self.targets = [None] * len(self.X)
        for shard in self.shards:
            targets = self.client.map(
                encode_block,
                [self.y[i] for i in shard.blocks],
                [self.weights[i] for i in shard.blocks],
                classes=classes,
                multilabel=multilabel,
                factors=factors,
                max_weight=max_weight,
                dtype=self.dtype,
                pure=False,
                **pinned_to(shard.worker),
            )
            for i, target in zip(shard.blocks, targets, strict=True):
                self.targets[i] = target
        wait(self.targets)
        # If targets are lost, the scheduler still knows how to recompute these.
        _release(self.y + self.weights)
        return self

    @property
    def key(self):
        """Identifies the rows for warm starts: the names of the collections."""
        return tuple(self.collection_names)

    def split(self, *args):
        raise ValueError(
            "early_stopping needs validation data, and DaskBGDClassifier sets none "
            "aside. Pass X_val and y_val."
        )

    # Sums over the rows

    def effective_samples(self):
        """(sum_i w_i)^2 / sum_i w_i^2, the number of rows if all weights are equal."""
        if not self.weighted:
            return self.n_samples
        total, _ = self.sum_over_shards(sum_squared_weights, np.empty(0, self.dtype))
        return self.n_samples**2 / total

    def moments(self):
        """Moments of the features, or None if a block is sparse.

        Their weight is the number of rows with w_i > 0.
        """
        if any(summary.sparse for summary in self.summaries):
            return None
        theta = np.empty(0, self.dtype)
        moments, count = self.sum_over_shards(sum_moments, theta)
        return replace(moments, weight=float(count[0]))

    @quiet
    def mean_squared_row_norm(self):
        """sum_i w_i ||x_i||^2 / sum_i w_i, without the rows of weight 0."""
        theta = np.empty(0, self.dtype)
        total, weight = self.sum_over_shards(sum_squared_row_norms, theta)
        return total / weight[0]

    def sample(self):
        """About a thousand rows of the first block, with their targets."""
        arrays = self.client.submit(sample_block, self.X[0], self.targets[0]).result()
        return Dataset(*map(aligned, arrays))

    def mean_loss(self, network, theta):
        """1 / n sum_i w_i l_i, without penalty."""
        return self.sum_over_shards(sum_losses, theta, network)[0] / self.n_samples

    def trainer(self, network, theta, **kwargs):
        """The network bound to these rows."""
        return DaskTrainer(self, network, theta, **kwargs)

    def sum_over_shards(self, function, theta, network=None, orders=None, bounds=None):
        """One pass: a function of theta and a shard, summed over the shards.

        The results of each worker are added first, then `TERMS_PER_SUM` sums at a time,
        in a fixed order.
        """
        tag = uuid4().hex
        name = function.__name__
        layers = {}
        if theta.nbytes * len(self.shards) > MAX_EMBEDDED_BYTES:
            key = "parameters-" + tag
            layers[key] = None, {key: (identity, theta)}
            theta = key
        terms = []  # keys
        for worker in dict.fromkeys(shard.worker for shard in self.shards):
            layer, worker_terms = {}, []
            for j, shard in enumerate(self.shards):
                if shard.worker != worker:
                    continue
                if bounds is not None and not np.diff(bounds[j]).any():
                    continue
                worker_terms.append((f"{name}-{tag}", j))
                layer[worker_terms[-1]] = (
                    function,
                    theta,
                    network,
                    [self.X[i] for i in shard.blocks],
                    [self.targets[i] for i in shard.blocks],
                    None if orders is None else orders[j],
                    None if bounds is None else bounds[j],
                )
            terms += _add_in_groups(
                worker_terms, len(worker_terms), layer, f"{name}_sum-{tag}"
            )
            layers[f"{name}-{tag}-{len(layers)}"] = worker, layer
        last_layer = {}
        while len(terms) > 1:
            terms = _add_in_groups(
                terms, TERMS_PER_SUM, last_layer, f"{name}_sum-{tag}"
            )
        layers[f"{name}_sum-{tag}"] = None, last_layer
        graph = HighLevelGraph(
            {
                key: MaterializedLayer(layer, annotations=pinned_to(worker) or None)
                for key, (worker, layer) in layers.items()
            },
            {key: set() for key in layers},
        )
        future = self.client.get(graph, terms[0], sync=False)
        try:
            wait(future)
            return future.result()
        except KeyboardInterrupt:
            future.cancel()  # tasks that have not started yet
            raise
        except Exception as error:
            raise RowsLost(
                f"A pass over the workers failed: {error!r}. Dask can recompute the "
                "blocks of a lost worker only if it knows how, not if they were "
                "scattered. The parameters of complete epochs are kept."
            ) from error


def _add_in_groups(terms, width, layer, name):
    """Add tasks that sum `width` terms each to the layer; returns their keys."""
    sums = []
    for first in range(0, len(terms), max(width, 1)):
        group = terms[first : first + width]
        if len(group) == 1:
            sums += group
        else:
            sums.append((f"{name}", *group[0][-1:], len(terms)))
            layer[sums[-1]] = (add, group)
    return sums


def as_dask_array(values, name, like=None):
    """A dask array; `values` may be an array in memory only if `like` is given."""
    if hasattr(values, "to_dask_array"):
        with warnings.catch_warnings():
            # Dask warns that text becomes objects.
            warnings.filterwarnings("ignore", "Dask currently has limited support")
            values = values.to_dask_array()
    if isinstance(values, da.Array):
        return values
    if like is None or is_dask_collection(values):
        raise TypeError(
            f"{name} must be a dask array or dataframe; got {type(values).__name__}."
        )
    return da.from_array(np.asarray(values), chunks=-1)


def _release(futures):
    for future in futures:
        if isinstance(future, Future):
            future.release()


def _balanced_parts(sizes, n_parts):
    """For each item the number of its part: contiguous parts of similar size."""
    middles = np.cumsum(sizes) - np.array(sizes) / 2
    parts = (middles * (n_parts / max(np.sum(sizes), 1))).astype(int)
    return np.minimum(parts, n_parts - 1).tolist()
