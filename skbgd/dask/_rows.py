"""Rows on Dask's workers: a round is one sum over rows, of gradients or losses.

The parameters go out, one tuple ``(number, array or None)`` comes back. Blocks of rows
that lie on one worker are taken together in as few tasks as that worker has threads.
The order of all additions is fixed before training, so the result does not depend on
which task is over first, nor on workers that are lost and replaced on the way.
"""

import warnings
from math import ceil, isfinite
from numbers import Real
from statistics import median
from time import perf_counter
from typing import NamedTuple
from uuid import uuid4

import dask.array as da
import numpy as np
from dask.base import is_dask_collection
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Future, futures_of, wait
from sklearn.utils.validation import column_or_1d

from .._core import backprop
from .._core.arguments import quiet
from .._rows import LocalRows
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
    random_orders,
    sample_block,
    sum_gradients,
    sum_losses,
    sum_moments,
    sum_squared_row_norms,
    sum_squared_weights,
    summarize_block,
)

# Most bytes of rows in a task, which holds them all in memory, even those that the
# worker had moved to disk.
MAX_TASK_BYTES = 1 << 28

# Terms that a task adds when sums of several workers are summed.
TERMS_PER_SUM = 8

# Rounds over which the time of one is measured.
TIMED_PASSES = 5

# Parameters up to this many bytes, over all tasks, are sent inside the tasks, which
# saves a round trip; larger ones are sent once to each worker.
MAX_EMBEDDED_BYTES = 1 << 21


class RowsLost(RuntimeError):
    """A round over the rows failed: they are gone, or it kills their workers."""


class Shard(NamedTuple):
    """Blocks of one worker that a task takes together."""

    worker: str | None
    blocks: list[int]


class DaskRows:
    """Rows on the workers, in blocks as the core takes them.

    The blocks are futures: lost ones are made again by the scheduler as long as it
    knows what from. Blocks without rows are left out.

    A context that releases the futures at its end: the traceback of an exception would
    keep them alive.

    Parameters
    ----------
    client : Client
    verbose : int
        Whether to print what a round takes.
    """

    def __init__(self, client, verbose=0):
        self.client, self.verbose = client, verbose
        self.validation_rows = None  # on workers too
        self.pass_seconds: list[float] = []
        self.max_passes: int | None = None  # of L-BFGS it is not known

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for futures in vars(self).values():
            if isinstance(futures, list):
                _release(futures)
        if self.validation_rows is not None:
            self.validation_rows.__exit__(*error)

    def load(self, X, y, sample_weight, dtype):
        """Take dask collections, sample_weight may be None; returns self."""
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
        # A persisted block of the right type is used where it is: a copy would count
        # twice against the memory of the worker.
        used_in_place = bool(futures_of(X)) and X.dtype == dtype
        if not used_in_place:
            meta = np.empty((0, 0), dtype)
            X = X.map_blocks(convert_block, dtype, dtype=dtype, meta=meta)
        arrays = [X, as_dask_array(y, "y", X)]
        if isinstance(sample_weight, (Real, str)):
            # The same for every row: as none, if it is positive.
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
        """The arrays with known chunks, those of X along the rows."""
        self.persisted = []
        if any(np.isnan(n) for array in arrays for n in array.chunks[0]):
            # Kept, or each block would be made twice: for its length and for its rows.
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
                    f"X and {name} must have as many rows; got {X.shape[0]} and "
                    f"{array.shape[0]}."
                )
            chunks = {0: X.chunks[0]}
            if array.ndim > 1:
                chunks[1] = -1
            rechunked.append(array.rechunk(chunks))
        return rechunked

    def _distribute(self, blocks_of, on_workers):
        """Futures of the blocks: side by side, or where they are."""
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
            self.computed += client.compute(delayed, **_pinned_to(worker))
            computed = iter(self.computed[-len(delayed) :])
            for futures in futures_of_blocks:
                for i in numbers:
                    futures[i] = next(computed)
        wait(self.computed)
        return futures_of_blocks

    def _make_shards(self):
        """The blocks of each worker, in as many parts as it has threads, or more."""
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
        """The sorted labels of all blocks, or the numbers of the columns."""
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
        return classes_in(np.repeat(labels, 2))  # once each would look continuous

    def check_labels(self, classes, multilabel):
        """An error if there are other labels than in training."""
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
        """The same by another factor; of indicators (1,), that of all rows."""
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
    def set_targets(self, classes, multilabel, class_weights):
        """Let the workers make codes, and row weights of mean 1, of the labels."""
        factors, self.total_weight = None, self.n_samples
        self.weighted = class_weights is not None or self.weights[0] is not None
        if self.weighted:
            totals = self._label_totals(classes)
            factors = np.ones(len(totals))
            if class_weights is not None:
                factors = divided_by_max(class_weights)
            self.total_weight = factors @ totals
            if self.total_weight == 0:
                return
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
                **_pinned_to(shard.worker),
            )
            for i, target in zip(shard.blocks, targets, strict=True):
                self.targets[i] = target
        wait(self.targets)
        # The scheduler keeps what they were made from.
        _release(self.y + self.weights)

    @property
    def key(self):
        """Identifies the rows for warm starts: the names of the collections."""
        return tuple(self.collection_names)

    def split(self, *args):
        raise ValueError(
            "early_stopping needs validation rows: DaskBGDClassifier sets none aside. "
            "Pass X_val and y_val."
        )

    # Sums over the rows

    def effective_samples(self):
        """(sum_i w_i)^2 / sum_i w_i^2, the number of rows if all weights are equal."""
        if not self.weighted:
            return self.n_samples
        total, _ = self.sum_over_shards(sum_squared_weights, np.empty(0, self.dtype))
        return self.n_samples**2 / total

    def moments(self):
        """Mean and standard deviation of the features; None if a block is sparse."""
        if any(summary.sparse for summary in self.summaries):
            return None
        return self.sum_over_shards(sum_moments, np.empty(0, self.dtype))[0]

    @quiet
    def mean_squared_row_norm(self):
        """sum_i w_i ||x_i||^2 / sum_i w_i, without the rows of weight 0."""
        theta = np.empty(0, self.dtype)
        total, weight = self.sum_over_shards(sum_squared_row_norms, theta)
        return total / weight[0]

    def sample(self):
        """About a thousand rows of the first block, with their targets."""
        arrays = self.client.submit(sample_block, self.X[0], self.targets[0]).result()
        return LocalRows.with_targets(*map(aligned, arrays))

    def mean_loss(self, network, theta):
        """1 / n sum_i w_i l_i, without penalty."""
        return self.sum_over_shards(sum_losses, theta, network)[0] / self.n_samples

    def prepare_loss_gradient(self, network):
        """Nothing: the workers allocate what they need in each round."""

    @quiet
    def loss_gradient(self, network, theta):
        """1 / n sum_i w_i l_i and its gradient, without penalty, in one round."""
        loss, gradient = self.timed_sum_over_shards(sum_gradients, theta, network)
        return loss / self.n_samples, gradient / self.n_samples

    # Epochs

    def prepare_epochs(self, network, state, rule, batch_size, shuffle, n_epochs):
        """Set what the epochs of a descent need."""
        self.network = network
        self.n_batches = -(-self.n_samples // batch_size)
        self.shuffled = shuffle and self.n_batches > 1
        self.max_passes = self.n_batches * n_epochs

    @quiet
    def run_epoch(self, state, rule, progress):
        """As `LocalRows.run_epoch`: a round for each step, which is made here.

        After `RowsLost` the state is that of the last finished epoch.
        """
        before = state.copy(curves=False)
        try:
            orders = None
            if self.shuffled:
                orders = self.draw_orders(state.shuffle_state)
                state.shuffle_state += self.n_samples * backprop.SPLITMIX_INCREMENT
                state.shuffle_state %= 1 << 64
            for k in range(self.n_batches):
                bounds, m = None, self.n_samples
                if self.n_batches > 1:
                    bounds = self.batch_bounds(k, self.n_batches)
                    m = sum(int(np.diff(pairs).sum()) for pairs in bounds)
                loss, gradient = self.timed_sum_over_shards(
                    sum_gradients, state.theta, self.network, orders, bounds
                )
                progress[0] += loss
                if not isfinite(loss):
                    break
                parameters = backprop.Model(
                    self.network.layout,
                    state.theta,
                    state.velocity,
                    state.second_moment,
                    gradient / m,  # aligned, as it is new
                )
                backprop.apply_gradient(parameters, state.n_steps + k, rule)
                progress[1] += m
        except RowsLost:
            vars(state).update(vars(before))
            raise

    def draw_orders(self, shuffle_state):
        """For each shard, a future of random orders of the rows of its blocks.

        The blocks share one stream of random numbers, as one machine draws it.
        """
        starts = np.cumsum([0, *self.lengths]).tolist()
        self.orders = [
            self.client.submit(
                random_orders,
                [self.lengths[i] for i in shard.blocks],
                [
                    (shuffle_state + starts[i] * backprop.SPLITMIX_INCREMENT)
                    % (1 << 64)
                    for i in shard.blocks
                ],
                pure=False,
                **_pinned_to(shard.worker),
            )
            for shard in self.shards
        ]
        return self.orders

    def batch_bounds(self, k, n_batches):
        """For each shard, the first and last row of each of its blocks in round k.

        Round k begins at row n k / n_batches of a block of n rows, rounded down; the
        blocks' fractions are spread, so that they do not all give a row more at once.
        """
        n_blocks = len(self.lengths)

        def bound(block, k):
            n = self.lengths[block]
            if k in (0, n_batches):
                return n * (k > 0)
            twice = 2 * n_blocks  # n k / n_batches + (2 block + 1) / (2 n_blocks)
            return min(
                (n * k * twice + (2 * block + 1) * n_batches) // (n_batches * twice), n
            )

        return [
            np.array([[bound(i, k), bound(i, k + 1)] for i in shard.blocks])
            for shard in self.shards
        ]

    def timed_sum_over_shards(self, *args):
        """As `sum`. Measures the first rounds, and prints the median of their times."""
        start = perf_counter()
        result = self.sum_over_shards(*args)
        if len(self.pass_seconds) == TIMED_PASSES:
            return result
        self.pass_seconds.append(perf_counter() - start)
        if self.verbose and len(self.pass_seconds) == TIMED_PASSES:
            seconds = median(self.pass_seconds)
            line = f"a round over the workers takes {seconds:.2g} s"
            if self.max_passes is not None:
                line += (
                    f"; {self.n_batches} per epoch, at most {self.max_passes}, "
                    f"which take {self.max_passes * seconds:.2g} s"
                )
            print(line, flush=True)
        return result

    def sum_over_shards(self, function, theta, network=None, orders=None, bounds=None):
        """One round: a function of theta and a shard, summed over the shards.

        First within each worker, then over `TERMS_PER_SUM` at a time, in this order.
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
                key: MaterializedLayer(layer, annotations=_pinned_to(worker) or None)
                for key, (worker, layer) in layers.items()
            },
            {key: set() for key in layers},
        )
        future = self.client.get(graph, terms[0], sync=False)
        try:
            wait(future)
            return future.result()
        except KeyboardInterrupt:
            future.cancel()  # tasks that have not begun never do
            raise
        except Exception as error:
            raise RowsLost(
                f"The workers could not go over the rows: {error!r}. Rows lost with "
                "their worker come back only if Dask knows what they were made from: "
                "not if they were scattered. Parameters of finished epochs are kept."
            ) from error


def _add_in_groups(terms, width, layer, name):
    """Keys of sums of `width` terms each, whose tasks are added to the layer."""
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
    """A dask array, from a dask collection or along the rows of one."""
    if hasattr(values, "to_dask_array"):
        with warnings.catch_warnings():
            # that text becomes objects
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
    """For each item the number of its part: contiguous ones of about the same size."""
    middles = np.cumsum(sizes) - np.array(sizes) / 2
    parts = (middles * (n_parts / max(np.sum(sizes), 1))).astype(int)
    return np.minimum(parts, n_parts - 1).tolist()


def _pinned_to(worker):
    """Where tasks are to run, if that worker is still there."""
    if worker is None:
        return {}
    return {"workers": [worker], "allow_other_workers": True}
