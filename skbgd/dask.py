"""Descent over many machines: rows stay on Dask's workers, gradients are summed.

A round is one sum over rows, of gradients or losses: the parameters go out, one tuple
``(number, array or None)`` comes back. Blocks of rows that lie on one worker are taken
together in as few tasks as that worker has threads. The order of all additions is fixed
before training, so the result does not depend on which task is over first, nor on
workers that are lost and replaced on the way.
"""

import warnings
from collections.abc import Callable
from copy import copy, deepcopy
from functools import partial, wraps
from math import ceil, isfinite
from typing import Any, NamedTuple, Self
from uuid import uuid4

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

try:
    import dask.array as da
    from dask import delayed
    from dask.base import is_dask_collection
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
    from dask.sizeof import sizeof
    from distributed import Client, Future, futures_of, wait
except ImportError as error:
    raise ImportError(
        'skbgd.dask needs Dask: pip install "skbgd[dask]", on every machine.'
    ) from error

from . import _backprop
from ._classifier import (
    BGDClassifier,
    _check_parameters,
    _check_sample_weight,
    _check_some_weight,
    _classes_in,
    _distinct,
    _encode,
    _for_the_core,
    _over_max,
)
from ._descent import Descent, State, mean_squared_norm, rows_per_batch
from ._watch import Watcher, with_callbacks

# "auto" batches: so many rows at least, and at most so many rounds per epoch.
AUTO_BATCH_SIZE = 256
AUTO_ROUNDS = 100

# A task holds its rows in memory, also those that the worker had moved to disk: they
# are not to be more than this.
TASK_BYTES = 1 << 28

# Sums across workers add up so many at once.
SUM_WIDTH = 8

# Parameters up to this size travel inside every task, which saves a trip; larger ones
# once to each worker. In bytes, over all tasks.
EMBEDDED_BYTES = 1 << 21

# Rows of a mini-batch that are gathered from a block at a time.
GATHERED_ROWS = 4096


def _lazily(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method on arrays; on dask collections a dask array, block by block."""

    @wraps(method)
    def lazy(self: "DaskBGDClassifier", X: Any) -> Any:
        if not is_dask_collection(X):
            return method(self, X)
        check_is_fitted(self)
        self._check_columns(X, "X")
        X = _as_array(X, "X")
        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        # All that a prediction needs, without the curves and the names of the columns.
        model = self.to_local()
        model._state = State(theta=model._state.model)
        model.__dict__.pop("feature_names_in_", None)
        like = method(model, np.zeros((1, self.n_features_in_)))[:0]
        return X.map_blocks(
            _predict_block,
            delayed(model),  # one key, which goes to each worker once
            method.__name__,
            like,
            dtype=like.dtype,
            chunks=(X.chunks[0], *((size,) for size in like.shape[1:])),
            drop_axis=1 if like.ndim == 1 else None,
            meta=like,
        )

    return lazy


class DaskBGDClassifier(BGDClassifier):
    r"""BGDClassifier for rows that lie in the memory of many machines, on Dask.

    `fit` takes dask arrays or dataframes that are chunked along the rows, and runs on
    the current :class:`distributed.Client`. The rows stay where they are: in each step
    the parameters go to the workers and one summed gradient comes back. With the whole
    batch this is what :class:`~skbgd.BGDClassifier` computes on one machine, to
    rounding.

    Needs ``pip install "skbgd[dask]"`` on the client and on the workers. Parameters and
    attributes are those of :class:`~skbgd.BGDClassifier`; the Notes say what is
    different.

    See Also
    --------
    skbgd.BGDClassifier : The same for rows in the memory of one machine.

    Notes
    -----
    **Rows.** `X` is a dask array of dense blocks or of CSR, or a dask dataframe. Blocks
    are made once, checked, and kept by the workers for the time of `fit`. What is not
    yet computed is spread over the workers by their number of threads, neighbouring
    blocks side by side; what was persisted stays where it is. `y` and the weights are
    rechunked to fit `X`, unknown chunk sizes are computed. Give every thread a block at
    least: a block is worked on by one thread.

    **Whole batch** (``batch_size="full"``). One round per epoch, over all rows.

    **Mini-batches.** An epoch is :math:`S = \lceil n / m \rceil` steps. Each takes an
    :math:`S`-th of every block's rows, to one row, without replacement and in a new
    random order in each epoch. Statistically this is a sample stratified by block: each
    row comes once per epoch, the mean gradient of a step is that of all rows but for
    the rounding of the shares, its variance is at most that of a simple random sample.
    So it does not matter if the blocks hold different kinds of rows, such as sorted
    classes. The batches of an epoch are about equal, none is short. Each step is a
    round: prefer thousands of rows to hundreds. ``batch_size="auto"`` is 256 rows, or a
    hundredth of all rows if that is more: at most 100 rounds per epoch. In
    `partial_fit`, which makes no rounds, it is this too. What else is "auto" is planned
    from these batches as in :class:`~skbgd.BGDClassifier`.

    **Repeatability.** With an int as `random_state` results are the same to the last
    bit for the same blocks on the same number of workers and threads, whatever happens
    in between; on others to rounding. Persisted rows count as the same blocks when they
    lie on the workers in the same way.

    **Faults.** The rows of a worker that dies are made again, by Dask, from what they
    were made from; training waits for them and goes on as if nothing had happened. If
    they cannot be made again (rows that were scattered, a file that is gone, a worker
    that dies again and again) `fit` raises a RuntimeError, and the estimator keeps the
    parameters of the last finished epoch, with ``stop_reason_ = "interrupted"``.

    **Validation rows** given as dask collections are judged by their loss; `scoring`
    needs them as arrays in this machine's memory. `validation_fraction` is not used:
    with `early_stopping` pass `X_val` and `y_val`.

    `n_jobs` is for predictions on arrays; in `fit` the workers have the threads. A warm
    start takes the rows to be the same if the collections have the same names.

    **When more workers stop helping.** With :math:`n` rows in a step, :math:`P`
    parameters, :math:`W` workers of :math:`c` threads that each do :math:`f`
    multiplications per second over a network of :math:`b` bytes per second, a step
    takes about

    .. math::
        \frac{3 n P}{c f W} + \frac{s P}{b} (2 + \log_8 W) + r

    seconds: three multiplications per row and parameter, shared out; the :math:`s = 4`
    or 8 bytes of a parameter through the client's cable and through a tree of sums; and
    :math:`r`, the answering time of the scheduler, some milliseconds per task of a
    worker. Only the first part falls with :math:`W`. Its share is what counts: the
    second is as large when each worker has about :math:`c f s / b` rows in a step,
    however many parameters there are (:math:`f = 10^{10}`, a gigabit and float32: some
    hundred rows per thread), the third when a worker needs no more than :math:`r` for
    its rows. Below these, larger batches help, more workers do not.

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client
    >>> from skbgd.dask import DaskBGDClassifier
    >>> rng = da.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 3), chunks=(250, 3))
    >>> y = X[:, 0] > X[:, 1]
    >>> with Client(processes=False, dashboard_address=":0"):
    ...     clf = DaskBGDClassifier((), batch_size="full", max_iter=50, tol=None)
    ...     accuracy = clf.fit(X, y).score(X, y)
    >>> accuracy > 0.95
    True
    >>> clf.predict(X)  # lazy
    dask.array<_predict_block, shape=(1000,), dtype=bool, chunksize=(250,), ...>
    >>> clf.to_local().predict([[1.0, 0.0, 0.0]])
    array([ True])
    """

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train until the loss stands still, on the workers of the current client.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
            The rows to learn from, chunked along the rows.

        y : dask array, series or dataframe of shape (n_samples,) or \
                (n_samples, n_labels)
            Class labels (at least two), or indicators 0/1 of several labels.

        sample_weight : dask array or series of shape (n_samples,), default=None
            Weights of the rows: not negative, not all zero. Only their ratios matter.

        X_val : dask array or dataframe, or array-like, default=None
            Validation rows, of shape (n_validation_samples, n_features): their loss is
            recorded after each epoch, and with `early_stopping` training stops by it.

        y_val : like y, or array-like, default=None
            Their labels, any of those in `y`.

        sample_weight_val : like sample_weight, or array-like, default=None
            Their weights. Class weights come on top, in the loss.

        Returns
        -------
        self : DaskBGDClassifier
            The fitted estimator. It holds neither the client nor any of the rows.

        Raises
        ------
        ValueError
            If a parameter or the input is not valid, or if the loss becomes infinite
            or NaN on the way. The estimator is then as it was before the call.
        TypeError
            If `X` is no dask collection.
        RuntimeError
            If there is no client, or if rows were lost with their worker and cannot be
            made again. After a finished epoch its parameters are then kept.
        KeyboardInterrupt
            After Ctrl-C. What was learned until then is kept, if there was a step.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs were over before the criterion stood still, unless the
            step fell to 0 as planned ("cosine"); if the loss is larger in the end than
            it was at first; if `warm_start` left no epoch to be made; or if the
            features are badly scaled.

        Examples
        --------
        >>> import dask.array as da
        >>> from distributed import Client
        >>> from skbgd.dask import DaskBGDClassifier
        >>> X = da.arange(100, chunks=50)[:, None] / 100
        >>> clf = DaskBGDClassifier((), batch_size="full", max_iter=9, tol=None)
        >>> with Client(processes=False, dashboard_address=":0"):
        ...     clf = clf.fit(X, X[:, 0] > 0.5)
        >>> clf.n_iter_
        9
        """
        trained = copy(self)
        try:
            warning = trained._fit(X, y, sample_weight, X_val, y_val, sample_weight_val)
        except (_RowsLost, KeyboardInterrupt) as error:
            if getattr(error, "keeps_epochs", False):
                self.__dict__ = trained.__dict__
            raise
        self.__dict__ = trained.__dict__  # all at once, and not if an error was raised
        if warning is not None:
            warnings.warn(warning, ConvergenceWarning, stacklevel=2)
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Go on training with one epoch over rows in this machine's memory.

        As :meth:`skbgd.BGDClassifier.partial_fit`, without workers: for rows that come
        after a distributed `fit`. To go on with dask collections use `fit` with
        ``warm_start=True``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to learn from.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, any of `classes`, or indicators 0/1 of several labels.

        classes : array-like of shape (n_classes,), default=None
            All class labels that will ever come, for the first call.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, not negative.

        Returns
        -------
        self : DaskBGDClassifier
            The fitted estimator.

        Raises
        ------
        TypeError
            If an argument is a dask collection.
        ValueError
            If a parameter or the input is not valid, or if the descent diverges.

        Examples
        --------
        >>> from skbgd.dask import DaskBGDClassifier
        >>> X, y = [[-1.0], [1.0]], [0, 1]
        >>> clf = DaskBGDClassifier(()).partial_fit(X, y, classes=[0, 1])
        >>> clf.t_
        2
        """
        if any(map(is_dask_collection, (X, y, sample_weight))):
            raise TypeError(
                "partial_fit takes arrays in this machine's memory; got a dask "
                "collection. To go on training with dask collections use fit with "
                "warm_start=True."
            )
        return super().partial_fit(X, y, classes, sample_weight)

    decision_function = _lazily(BGDClassifier.decision_function)
    predict = _lazily(BGDClassifier.predict)
    predict_proba = _lazily(BGDClassifier.predict_proba)
    predict_log_proba = _lazily(BGDClassifier.predict_log_proba)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the share of rows whose class, or all of whose labels, is right.

        Parameters
        ----------
        X : dask array or dataframe, or array-like, of shape (n_samples, n_features)
            The rows.

        y : like X, of shape (n_samples,) or (n_samples, n_labels)
            Their labels.

        sample_weight : like X, of shape (n_samples,), default=None
            Their weights.

        Returns
        -------
        accuracy : float
            Computed at once, of dask collections by the workers.

        Examples
        --------
        >>> from skbgd.dask import DaskBGDClassifier
        >>> X, y = [[-1.0], [1.0]], [0, 1]
        >>> DaskBGDClassifier(()).partial_fit(X, y, classes=[0, 1]).score(X, y)
        1.0
        """
        if not is_dask_collection(X):
            return super().score(X, y, sample_weight)
        right = self.predict(X) == _as_array(y, "y")
        if right.ndim == 2:
            right = right.all(axis=1)
        if sample_weight is None:
            return float(right.mean())
        weights = _as_array(sample_weight, "sample_weight")
        return float((right * weights).sum() / weights.sum())

    def to_local(self) -> BGDClassifier:
        """Give a BGDClassifier with the same parameters and fitted attributes.

        Returns
        -------
        clf : BGDClassifier
            It shares nothing that changes with this estimator, and does not need Dask.

        Examples
        --------
        >>> from skbgd.dask import DaskBGDClassifier
        >>> X, y = [[-1.0], [1.0]], [0, 1]
        >>> clf = DaskBGDClassifier(()).partial_fit(X, y, classes=[0, 1])
        >>> clf.to_local().predict([[2.0]])
        array([1])
        """
        local = BGDClassifier()
        local.__dict__ = deepcopy(self.__dict__)
        return local

    @with_callbacks
    def _fit(self, X, y, sample_weight, X_val, y_val, sample_weight_val):
        _check_parameters(self)
        client = _current_client()
        with _Rows(client) as rows, _Rows(client) as validation:
            given = X_val, y_val, sample_weight_val
            return self._fit_rows(rows, validation, X, y, sample_weight, given)

    def _fit_rows(self, rows, validation, X, y, sample_weight, given):
        # Check what came in.
        warm = self.warm_start and hasattr(self, "_state")
        self._check_columns(X, "X", reset=not warm)
        if warm:
            dtype = self._state.theta.dtype
        else:
            dtype = np.dtype("f4" if _as_array(X, "X").dtype == "f4" else "f8")
        rows.load(X, y, sample_weight, dtype)
        classes = rows.classes()
        if warm:
            self._check_same_network()
            self._check_same_classes(classes)
        else:
            self._multilabel = rows.multilabel
            self.classes_ = classes

        # Where to start, what to learn from, what to judge by.
        if warm:
            self._state = self._state.copy()
        else:
            self._start(np.empty((0, self.n_features_in_), dtype))
        state = self._state
        arrays = self._load_validation(validation, *given)
        totals = rows.totals(self.classes_)
        class_weights = self._class_weights(
            np.arange(len(self.classes_))[:, np.newaxis], totals
        )
        rows.weigh(self.classes_, self._multilabel, class_weights)
        if validation.names:
            validation.weigh(self.classes_, self._multilabel, class_weights)
            loss = partial(_mean_loss, self._network, state, validation)
            validate = self._recorder(loss)
        else:
            validate = arrays and self._validator(*arrays, class_weights)
        goal = ()
        if self.warm_start:
            goal = self._goal_of(*rows.names, *validation.names)
        if state.goal != goal:
            state.go_on_from_model()
            state.goal, state.n_cuts = goal, 0
            state.start = state.n_iter

        # Descend.
        plan = self._plan(rows.n_rows)
        watcher = Watcher(self, state, self._reached, X, y, sample_weight)
        n_before = state.n_iter
        try:
            with self._descent(_RemoteDescent, plan, rows) as descent:
                return self._descend(descent, plan, validate, watcher)
        except _RowsLost as error:
            error.keeps_epochs = state.n_iter > n_before
            self.stop_reason_ = "interrupted"
            raise

    @staticmethod
    def _rows_per_batch(batch_size, n_samples):
        if batch_size == "auto":
            batch_size = max(AUTO_BATCH_SIZE, ceil(n_samples / AUTO_ROUNDS))
        return rows_per_batch(batch_size, n_samples)

    def _check_columns(self, X, name, reset=False):
        """Check and set n_features_in_ and feature_names_in_."""
        if not is_dask_collection(X):
            raise TypeError(
                f"{name} must be a dask array or dataframe; got {type(X).__name__}. "
                "For rows in this machine's memory use skbgd.BGDClassifier."
            )
        if hasattr(X, "columns"):
            some = X._meta
        else:
            X = _as_array(X, name)
            if X.ndim != 2 or np.isnan(X.shape[1]):
                raise ValueError(
                    f"{name} must have two dimensions and a known number of columns; "
                    f"got shape {X.shape}."
                )
            some = np.empty((0, X.shape[1]))
        validate_data(self, some, reset=reset, skip_check_array=True)

    def _load_validation(self, rows, X_val, y_val, sample_weight_val):
        """Load `rows`, or return for arrays what `_given_validation` does."""
        given = X_val, y_val, sample_weight_val
        missing = X_val is None or y_val is None
        if missing or not any(map(is_dask_collection, given)):
            if self.early_stopping and X_val is None and y_val is None:
                raise ValueError(
                    "early_stopping needs validation rows: DaskBGDClassifier sets none "
                    "aside. Pass X_val and y_val."
                )
            return self._given_validation(*given)
        if self.scoring is not None:
            raise ValueError(
                f"Got scoring={self.scoring!r} with validation rows on Dask, which are "
                "judged by their loss; scoring must be None. To use a scorer pass "
                "arrays as X_val and y_val."
            )
        try:
            self._check_columns(X_val, "X_val")
            rows.load(*given, self._state.theta.dtype)
            rows.check_labels(self.classes_, self._multilabel)
        except ValueError as error:
            raise ValueError(f"In X_val, y_val: {error}") from error


class _RowsLost(RuntimeError):
    """A round over the rows failed: they are gone, or their workers die of it."""


class _RemoteDescent(Descent):
    """Gradient descent on `_Rows`: workers sum gradients, the steps are made here."""

    def __init__(
        self, network, state, rows, *, step, batch_size, schedule, shuffle, n_jobs=None
    ):
        self.rows = rows
        self.shuffle = shuffle
        self._set_up(network, state, rows.n_rows, step, batch_size, schedule)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def some_rows(self):
        return self.rows.some()

    def _mean_squared_norm(self):
        total, weight = self.rows.sum(_squared_norms, self.state.theta)
        return total / weight[0]

    def _steps(self, step, progress):
        state = self.state
        before = state.copy(curves=False)
        n_rounds = -(-self.n_samples // self.batch_size)
        try:
            orders = None
            if self.shuffle and n_rounds > 1:
                orders = self.rows.orders(state.shuffle_state)
                state.shuffle_state += self.n_samples * _backprop.SPLITMIX_STEP
                state.shuffle_state %= 1 << 64
            for k in range(n_rounds):
                shares = None if n_rounds == 1 else self.rows.shares(k, n_rounds)
                m = (
                    self.n_samples
                    if shares is None
                    else sum(int(np.diff(share).sum()) for share in shares)
                )
                loss, gradient = self.rows.sum(
                    _gradient, state.theta, self.network, orders, shares
                )
                progress[0] += loss
                if not isfinite(loss):
                    break
                _backprop.follow(
                    self.network,
                    state.theta,
                    gradient / m,
                    state.velocity,
                    state.second_moment,
                    state.n_steps + k,
                    step,
                )
                progress[1] += m
        except _RowsLost:
            vars(state).update(vars(before))  # the last finished epoch
            raise


class _Summary(NamedTuple):
    """What the client needs to know of a block."""

    n_bytes: int
    fits: bool  # dtype and order are those of the core
    labels: np.ndarray  # the different ones; of indicators the values
    totals: np.ndarray  # of each label, or (1,) of all rows: weights / largest
    largest: float  # weight


class _Shard(NamedTuple):
    """Blocks of one worker that a task takes together."""

    worker: str | None
    blocks: list[int]


class _Rows:
    """Rows on the workers, in blocks as the core takes them.

    The blocks are futures: lost ones are made again by the scheduler as long as it
    knows what from. Blocks without rows are left out.

    A context: at its end the futures are let go. An exception would hold on to them.

    Parameters
    ----------
    client : Client
    """

    def __init__(self, client):
        self.client = client
        self.names = []  # empty until rows are loaded

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for futures in vars(self).values():
            if isinstance(futures, list):
                _release(futures)

    def load(self, X, y, sample_weight, dtype):
        """Take dask collections; sample_weight may be None."""
        client, self.dtype = self.client, dtype
        X = _as_array(X, "X")
        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        # A persisted block that fits is used as it is: a copy of its future would count
        # twice against the memory of the worker.
        in_memory = bool(futures_of(X)) and X.dtype == dtype
        if not in_memory:
            X = X.map_blocks(_as_rows, dtype, dtype=dtype, meta=np.empty((0, 0), dtype))
        parts = [X, _as_array(y, "y", X)]
        if sample_weight is not None:
            parts.append(_as_array(sample_weight, "sample_weight", X))
        X, y, *weights = self._alike(parts)
        if y.ndim == 2 and y.shape[1] == 1:
            column_or_1d(np.empty((1, 1)), warn=True)
            y = y[:, 0]
        self.names = [array.name for array in parts]
        self.n_labels = y.shape[1] if y.ndim == 2 else None

        lengths = X.chunks[0]
        kept = [i for i, n in enumerate(lengths) if n]
        if not kept:
            raise ValueError(f"X must have at least one row; got shape {X.shape}.")
        self.lengths = [lengths[i] for i in kept]
        self.n_rows = sum(self.lengths)
        columns = [
            [array.to_delayed().ravel()[i] for i in kept] for array in (X, y, *weights)
        ]
        self.X, self.y, *self.weights = self._place(columns, bool(futures_of(X)))
        self.weights = self.weights[0] if weights else [None] * len(kept)
        self.inspected = client.map(
            _inspect, self.X, self.y, self.weights, [dtype] * len(kept)
        )
        self.summaries = client.gather(self.inspected)
        _release(self.inspected + self.persisted)
        if not all(summary.fits for summary in self.summaries):
            self.raw, self.X = self.X, client.map(_as_rows, self.X, [dtype] * len(kept))
            wait(self.X)
            _release(self.raw)
        self.shards = self._shards()

    def _alike(self, arrays):
        """The arrays with known chunks, those of X along the rows."""
        self.persisted = []
        if any(np.isnan(n) for array in arrays for n in array.chunks[0]):
            # Kept, not to be made twice: once for its length, once for itself.
            arrays = self.client.persist(arrays)
            self.persisted = [f for array in arrays for f in futures_of(array)]
            with self.client.as_current():
                for array in arrays:
                    array.compute_chunk_sizes()
        X, *others = arrays
        alike = [X]
        for array, name in zip(others, ("y", "sample_weight"), strict=False):
            if array.shape[0] != X.shape[0]:
                raise ValueError(
                    f"X and {name} must have as many rows; got {X.shape[0]} and "
                    f"{array.shape[0]}."
                )
            chunks = {0: X.chunks[0]}
            if array.ndim > 1:
                chunks[1] = -1
            alike.append(array.rechunk(chunks))
        return alike

    def _place(self, columns, placed):
        """Futures of the blocks: side by side, or where they are."""
        client, n_blocks = self.client, len(self.lengths)
        slots = [
            worker
            for worker, n_threads in sorted(client.nthreads().items())
            for _ in range(n_threads)
        ]
        if placed or not slots:
            slots = [None]
        groups: dict[str | None, list[int]] = {}
        for block, slot in enumerate(_parts(self.lengths, len(slots))):
            groups.setdefault(slots[slot], []).append(block)
        self.placed = []
        futures = [[None] * n_blocks for _ in columns]
        for worker, blocks in groups.items():
            flat = [column[i] for column in columns for i in blocks]
            self.placed += client.compute(flat, **_on(worker))
            made = iter(self.placed[-len(flat) :])
            for column in futures:
                for i in blocks:
                    column[i] = next(made)
        wait(self.placed)
        return futures

    def _shards(self):
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
            n_parts = max(n_threads.get(worker, 1), ceil(sum(sizes) / TASK_BYTES))
            parts = _parts(sizes, n_parts)
            for part in sorted(set(parts)):
                shards.append(
                    _Shard(
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
        labels = _distinct(np.concatenate(labels), "y")
        if self.multilabel:
            if not np.isin(labels, (0, 1)).all():
                raise ValueError(
                    "y must hold one class label per row, or 0/1 indicators of several "
                    f"labels; got an array of shape ({self.n_rows}, {self.n_labels}) "
                    f"with the values {labels[:5].tolist()}."
                )
            return np.arange(self.n_labels)
        return _classes_in(np.repeat(labels, 2))  # once each would look continuous

    def check_labels(self, classes, multilabel):
        """An error if there are other labels than in training."""
        if self.multilabel:
            _encode(np.empty((0, self.n_labels)), classes, multilabel)
        for summary in self.summaries:
            if not self.multilabel:
                _encode(summary.labels, classes, multilabel)

    def totals(self, classes):
        """Weight of the rows of each class, or (1,) of all rows, relative."""
        largest = max(summary.largest for summary in self.summaries)
        totals = np.zeros(1 if self.multilabel else len(classes))
        for summary in self.summaries:
            codes = slice(None)
            if not self.multilabel:
                codes = np.searchsorted(classes, summary.labels)
            totals[codes] += summary.totals * (summary.largest / (largest or 1))
        _check_some_weight(totals, "sample_weight")
        return totals

    def weigh(self, classes, multilabel, class_weights):
        """Set what the core needs beside X: codes, and weights that average 1."""
        factors = None
        if class_weights is not None or self.weights[0] is not None:
            totals = self.totals(classes)
            factors = np.ones(len(totals))
            if class_weights is not None:
                factors = _over_max(class_weights)
            _check_some_weight(factors * totals, "sample_weight times class weight")
            factors = factors * (self.n_rows / (factors @ totals))
        largest = max(summary.largest for summary in self.summaries)
        self.targets = [None] * len(self.X)
        for shard in self.shards:
            targets = self.client.map(
                _target,
                [self.y[i] for i in shard.blocks],
                [self.weights[i] for i in shard.blocks],
                classes=classes,
                multilabel=multilabel,
                factors=factors,
                largest=largest,
                dtype=self.dtype,
                pure=False,
                **_on(shard.worker),
            )
            for i, target in zip(shard.blocks, targets, strict=True):
                self.targets[i] = target
        wait(self.targets)
        # The scheduler keeps what they were made from.
        _release(self.y + self.weights)

    def some(self):
        """About a thousand rows of the first block: X, Y and weights."""
        return self.client.submit(_some_rows, self.X[0], self.targets[0]).result()

    def orders(self, shuffle_state):
        """For each shard, a future of random orders of the rows of its blocks.

        The blocks share one stream of random numbers, as one machine draws it.
        """
        starts = np.cumsum([0, *self.lengths]).tolist()
        self.ordered = [
            self.client.submit(
                _orders,
                [self.lengths[i] for i in shard.blocks],
                [
                    (shuffle_state + starts[i] * _backprop.SPLITMIX_STEP) % (1 << 64)
                    for i in shard.blocks
                ],
                pure=False,
                **_on(shard.worker),
            )
            for shard in self.shards
        ]
        return self.ordered

    def shares(self, k, n_rounds):
        """For each shard, the first and last row of each of its blocks in round k.

        Round k begins at row n k / n_rounds of a block of n rows, rounded down; the
        blocks' fractions are spread, so that they do not all give a row more at once.
        """
        n_blocks = len(self.lengths)

        def cut(block, k):
            n = self.lengths[block]
            if k in (0, n_rounds):
                return n * (k > 0)
            twice = 2 * n_blocks  # n k / n_rounds + (2 block + 1) / (2 n_blocks)
            return min(
                (n * k * twice + (2 * block + 1) * n_rounds) // (n_rounds * twice), n
            )

        return [
            np.array([[cut(i, k), cut(i, k + 1)] for i in shard.blocks])
            for shard in self.shards
        ]

    def sum(self, function, theta, network=None, orders=None, shares=None):
        """One round: a function of theta and a shard, summed over the shards.

        First within each worker, then over `SUM_WIDTH` at a time, in this order.
        """
        tag = uuid4().hex
        name = function.__name__.strip("_")
        layers = {}
        if theta.nbytes * len(self.shards) > EMBEDDED_BYTES:
            key = "parameters-" + tag
            layers[key] = None, {key: (_itself, theta)}
            theta = key
        terms = []  # keys
        for worker in dict.fromkeys(shard.worker for shard in self.shards):
            layer, own = {}, []
            for j, shard in enumerate(self.shards):
                if shard.worker != worker:
                    continue
                if shares is not None and not np.diff(shares[j]).any():
                    continue
                own.append((f"{name}-{tag}", j))
                layer[own[-1]] = (
                    function,
                    theta,
                    network,
                    [self.X[i] for i in shard.blocks],
                    [self.targets[i] for i in shard.blocks],
                    None if orders is None else orders[j],
                    None if shares is None else shares[j],
                )
            terms += _sum_of(own, len(own), layer, f"{name}_sum-{tag}")
            layers[f"{name}-{tag}-{len(layers)}"] = worker, layer
        last = {}
        while len(terms) > 1:
            terms = _sum_of(terms, SUM_WIDTH, last, f"{name}_sum-{tag}")
        layers[f"{name}_sum-{tag}"] = None, last
        graph = HighLevelGraph(
            {
                key: MaterializedLayer(layer, annotations=_on(worker) or None)
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
            raise _RowsLost(
                f"The workers could not go over the rows: {error!r}. Rows lost with "
                "their worker come back only if Dask knows what they were made from: "
                "not if they were scattered. Parameters of finished epochs are kept."
            ) from error


def _sum_of(terms, width, layer, name):
    """Keys of sums of `width` terms each, whose tasks are added to the layer."""
    sums = []
    for first in range(0, len(terms), max(width, 1)):
        some = terms[first : first + width]
        if len(some) == 1:
            sums += some
        else:
            sums.append((f"{name}", *some[0][-1:], len(terms)))
            layer[sums[-1]] = (_add, some)
    return sums


def _add(terms):
    """The sum of tuples (number, array or None)."""
    total, vector = terms[0]
    for number, array in terms[1:]:
        total = total + number
        vector = None if vector is None else vector + array
    return total, vector


def _itself(value):
    return value


def _block_loss_gradient(network, theta, X, Y, weights, with_gradient=True):
    """sum_i w_i l_i over rows, and its gradient. All work on rows goes through here."""
    gradient = np.empty_like(theta) if with_gradient else None
    tile, work = network.scratch(X, X.shape[0])
    loss = _backprop.loss_gradient(network, theta, X, Y, weights, gradient, work, tile)
    return loss, gradient


def _gradient(theta, network, blocks, targets, orders, shares):
    """Loss and gradient of the rows of a shard, or of the shares of its blocks."""
    terms = []
    for i, (X, target) in enumerate(zip(blocks, targets, strict=True)):
        for rows in [None] if shares is None else _pieces(i, orders, *shares[i]):
            part = [_some(array, rows) for array in (X, *target)]
            terms = [_add([*terms, _block_loss_gradient(network, theta, *part)])]
    return terms[0]


def _pieces(i, orders, first, last):
    """The rows of a share of block i; indices few at a time, to stay in the cache."""
    if first == last:
        return []
    if orders is None:
        return [slice(first, last)]
    rows = orders[i][first:last]
    return np.split(rows, range(GATHERED_ROWS, len(rows), GATHERED_ROWS))


def _some(array, rows):
    """array[rows]; rows is a slice or indices, or None for all of them."""
    if array is None or rows is None:
        return array
    if isinstance(rows, slice) or issparse(array):
        return array[rows]
    return array.take(rows, axis=0)  # quicker than array[rows]


def _loss(theta, network, blocks, targets, orders, shares):
    """Loss of the rows of a shard."""
    return _add(
        [
            _block_loss_gradient(network, theta, X, Y, weights, with_gradient=False)
            for X, (Y, weights) in zip(blocks, targets, strict=True)
        ]
    )


def _squared_norms(theta, network, blocks, targets, orders, shares):
    """sum_i w_i ||x_i||^2 and [sum_i w_i] of the rows of a shard."""
    terms = []
    for X, (_, weights) in zip(blocks, targets, strict=True):
        total = X.shape[0] if weights is None else weights.sum(dtype=float)
        norm = mean_squared_norm(theta, X, weights) if total > 0 else 0.0
        terms.append((norm * total, np.array([total], dtype=float)))
    return _add(terms)


def _mean_loss(network, state, rows):
    """As `_descent.mean_loss`."""
    return rows.sum(_loss, state.theta, network)[0] / rows.n_rows


def _orders(lengths, states):
    """For each block a random order of its rows."""
    orders = [np.empty(n, dtype=np.intp) for n in lengths]
    for order, state in zip(orders, states, strict=True):
        _backprop.shuffle(order, state)
    return orders


def _as_rows(block, dtype):
    """A block of X as the core takes it."""
    rows = check_array(
        block,
        dtype=dtype,
        order="C",
        accept_sparse="csr",
        ensure_min_samples=0,
        input_name="X",
    )
    return _for_the_core(rows)


def _inspect(X, y, weights, dtype):
    """Check a block, and say what the client needs to know of it."""
    rows = _as_rows(X, dtype)
    y = np.asarray(y)
    if len(y) != X.shape[0]:
        raise ValueError(
            f"A block of X has {X.shape[0]} rows, the block of y beside it {len(y)}."
        )
    weights = _check_sample_weight(weights, y)
    largest = 1.0
    if weights is not None:
        largest = float(weights.max())
        weights = _over_max(weights)
    labels = _distinct(check_array(y, ensure_2d=False, dtype=None, input_name="y"), "y")
    if y.ndim == 2:
        codes = np.zeros(len(y), dtype=int)
    else:
        codes = np.searchsorted(labels, y)
    totals = np.bincount(codes, weights=weights).astype(float)
    fits = X.dtype == dtype
    fits = fits and (X.format == "csr" if issparse(X) else X.flags.c_contiguous)
    return _Summary(sizeof(rows), fits, labels, totals, largest)


def _target(y, weights, classes, multilabel, factors, largest, dtype):
    """Codes and final weights of a block."""
    Y = _encode(np.asarray(y), classes, multilabel)
    if factors is None:
        return Y, None
    factor = factors if multilabel else factors[Y[:, 0]]
    relative = 1.0 if weights is None else np.asarray(weights, float) / (largest or 1)
    return Y, np.broadcast_to(relative * factor, len(Y)).astype(dtype)


def _some_rows(X, targets):
    rows = np.arange(0, X.shape[0], 1 + X.shape[0] // 1000)
    return [_some(array, rows) for array in (X, *targets)]


def _predict_block(X, model, method, like):
    """Predictions for a block; one without rows is no error."""
    if X.shape[0] == 0:
        return like
    return getattr(model, method)(X)


def _as_array(values, name, like=None):
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


def _parts(sizes, n_parts):
    """For each item the number of its part: contiguous ones of about the same size."""
    middles = np.cumsum(sizes) - np.array(sizes) / 2
    parts = (middles * (n_parts / max(np.sum(sizes), 1))).astype(int)
    return np.minimum(parts, n_parts - 1).tolist()


def _on(worker):
    """Where tasks are to run, if that worker is still there."""
    if worker is None:
        return {}
    return {"workers": [worker], "allow_other_workers": True}


def _current_client():
    try:
        return Client.current()
    except ValueError:
        raise RuntimeError(
            "DaskBGDClassifier.fit runs on a Dask cluster, and there is no client. "
            "Start one, on this machine or with the address of a scheduler:\n"
            "    from distributed import Client\n"
            "    client = Client()"
        ) from None


def _borrow_parameters():
    """Put the sections Parameters and Attributes of BGDClassifier into the docstring.

    They are the same; help() and scikit-learn's documentation of parameters need them.
    """
    if not BGDClassifier.__doc__ or not DaskBGDClassifier.__doc__:  # python -OO
        return
    theirs, ours = BGDClassifier.__doc__, DaskBGDClassifier.__doc__
    sections = theirs[theirs.index("    Parameters\n") : theirs.index("    See Also\n")]
    before, after = ours.split("    See Also\n", maxsplit=1)
    DaskBGDClassifier.__doc__ = before + sections + "    See Also\n" + after


_borrow_parameters()
