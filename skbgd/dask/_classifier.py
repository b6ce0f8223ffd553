"""The estimator on Dask: what differs from the one on a single machine."""

from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from math import ceil
from typing import Any, Self

import numpy as np
from dask import delayed
from dask.base import is_dask_collection
from distributed import Client
from sklearn.utils.validation import check_is_fitted, validate_data

from .._classifier import BGDClassifier
from .._descent import State
from .._parameters import unavailable_with_lbfgs
from .._settings import resolve_batch_size
from ._rows import DaskRows, RowsLost, as_dask_array
from ._tasks import predict_block

# Of batch_size="auto": the rounds per epoch and their fewest and most rows, unless that
# makes more rounds than the last number. On six synthetic sets of 32 000 rows, with 100
# features and 100 units, 25 rounds have a log-loss 1 to 20 % below that of one machine
# (500 steps per epoch), 16 rounds up to 10 % above, 8 rounds up to 33 %. Steps that are
# 1.4 times as large change it by -1 to 4 %. On three sets of 160 000 rows 25 rounds are
# up to 112 % above, 100 rounds up to 36 %.
AUTO_STEPS_PER_EPOCH = 25
AUTO_BATCH_SIZE_BOUNDS = 256, 1280
MAX_STEPS_PER_EPOCH = 100


def _blockwise(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method on arrays; on dask collections a dask array, block by block."""

    @wraps(method)
    def wrapped(self: "DaskBGDClassifier", X: Any) -> Any:
        if not is_dask_collection(X):
            return method(self, X)
        check_is_fitted(self)
        self._check_columns(X, "X")
        X = as_dask_array(X, "X")
        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        # All that a prediction needs, without the curves and the names of the columns.
        model = self.to_local()
        model._state = State(theta=model._state.best_or_last_theta)
        model.__dict__.pop("feature_names_in_", None)
        like = method(model, np.zeros((1, self.n_features_in_)))[:0]
        return X.map_blocks(
            predict_block,
            delayed(model),  # one key, which goes to each worker once
            method.__name__,
            like,
            dtype=like.dtype,
            chunks=(X.chunks[0], *((size,) for size in like.shape[1:])),
            drop_axis=1 if like.ndim == 1 else None,
            meta=like,
        )

    return wrapped


class DaskBGDClassifier(BGDClassifier):
    r"""BGDClassifier for rows that lie in the memory of many machines, on Dask.

    `fit` takes dask arrays or dataframes that are chunked along the rows, and runs on
    the current :class:`distributed.Client`. The rows stay where they are: in each step
    the parameters go to the workers and one summed gradient comes back. With the whole
    batch this is what :class:`~skbgd.BGDClassifier` computes on one machine, to
    rounding.

    Dask pays where the rows do not fit into the memory of one machine, or where those
    of a step keep each worker busy for longer than a round takes, some 20 ms or more:
    with 100 features and 100 hidden units, 10 000 rows per worker. Fewer rows are
    trained faster by :class:`~skbgd.BGDClassifier`: 32 000 of these in two seconds,
    while the 625 rounds that are the default here take some 20.

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
    least: a block is worked on by one thread. Features are standardised as on one
    machine, unless a block is sparse.

    **Whole batch** (``batch_size="full"``). One round per epoch, over all rows.
    ``solver="lbfgs"`` has one round per gradient, of which an epoch needs one or more.

    **Mini-batches.** An epoch is :math:`S = \lceil n / m \rceil` steps. Each takes an
    :math:`S`-th of every block's rows, to one row, without replacement and in a new
    random order in each epoch. Statistically this is a sample stratified by block: each
    row comes once per epoch, the mean gradient of a step is that of all rows but for
    the rounding of the shares, its variance is at most that of a simple random sample.
    So it does not matter if the blocks hold different kinds of rows, such as sorted
    classes. The batches of an epoch are about equal, none is short. Each step is a
    round over the workers: prefer thousands of rows to hundreds. ``batch_size="auto"``
    is a 25th of the rows, but at least 256 and at most 1280 of them, or a hundredth if
    that is more: at most 25 rounds per epoch for 32 000 rows, never more than 100. With
    `verbose`, `fit` prints the time of a round after the first few.

    **Repeatability.** With an int as `random_state` results are the same to the last
    bit for the same blocks on the same number of workers and threads, whatever happens
    in between; on others to rounding. Persisted rows count as the same blocks when they
    lie on the workers in the same way.

    **Faults.** The rows of a worker that dies are made again, by Dask, from what they
    were made from; training waits for them and continues as if nothing had happened. If
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
    dask.array<predict_block, shape=(1000,), dtype=bool, chunksize=(250,), ...>
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
            Weights of the rows: not negative, not all zero. Only their ratios matter. A
            number is the weight of every row.

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
            If `max_iter` epochs were over before the criterion stood still, if the loss
            is larger in the end than it was at first, or if `warm_start` left no epoch
            to be made.

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
        return super().fit(
            X,
            y,
            sample_weight,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
        )

    @unavailable_with_lbfgs
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

    decision_function = _blockwise(BGDClassifier.decision_function)
    predict = _blockwise(BGDClassifier.predict)
    predict_proba = _blockwise(BGDClassifier.predict_proba)
    predict_log_proba = _blockwise(BGDClassifier.predict_log_proba)

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
        correct = self.predict(X) == as_dask_array(y, "y")
        if correct.ndim == 2:
            correct = correct.all(axis=1)
        if sample_weight is None:
            return float(correct.mean())
        weights = as_dask_array(sample_weight, "sample_weight")
        return float((correct * weights).sum() / weights.sum())

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

    # What `BGDClassifier._fit` calls -------------------------------------------------

    _INTERRUPTS = KeyboardInterrupt, RowsLost

    @staticmethod
    def _resolve_batch_size(batch_size, n_samples, *, streaming=False):
        if batch_size == "auto" and not streaming:
            low, high = AUTO_BATCH_SIZE_BOUNDS
            usual = min(max(ceil(n_samples / AUTO_STEPS_PER_EPOCH), low), high)
            batch_size = max(usual, ceil(n_samples / MAX_STEPS_PER_EPOCH))
        return resolve_batch_size(batch_size, n_samples, streaming=streaming)

    def _load_rows(self, X, y, sample_weight, reset):
        """The rows on the workers, checked there."""
        rows = DaskRows(_current_client(), self.verbose)
        self._check_columns(X, "X", reset)
        if reset:
            dtype = np.dtype("f4" if as_dask_array(X, "X").dtype == "f4" else "f8")
        else:
            dtype = self._state.theta.dtype
        return rows.load(X, y, sample_weight, dtype)

    def _load_validation_rows(self, rows, X_val, y_val, sample_weight_val):
        given = X_val, y_val, sample_weight_val
        incomplete = X_val is None or y_val is None
        if incomplete or not any(map(is_dask_collection, given)):
            return super()._load_validation_rows(rows, *given)
        if self.scoring is not None:
            raise ValueError(
                f"Got scoring={self.scoring!r} with validation rows on Dask, which are "
                "judged by their loss; scoring must be None. To use a scorer pass "
                "arrays as X_val and y_val."
            )
        validation_rows = DaskRows(rows.client)
        rows.validation_rows = validation_rows  # released together
        try:
            self._check_columns(X_val, "X_val")
            validation_rows.load(*given, rows.dtype)
            validation_rows.check_labels(self.classes_, self._multilabel)
        except ValueError as error:
            raise ValueError(f"In X_val, y_val: {error}") from error
        return validation_rows

    def _check_columns(self, X, name, reset=False):
        """Check and set n_features_in_ and feature_names_in_."""
        if not is_dask_collection(X):
            raise TypeError(
                f"{name} must be a dask array or dataframe; got {type(X).__name__}. "
                "For rows in this machine's memory use skbgd.BGDClassifier."
            )
        if hasattr(X, "columns"):
            empty = X._meta
        else:
            X = as_dask_array(X, name)
            if X.ndim != 2 or np.isnan(X.shape[1]):
                raise ValueError(
                    f"{name} must have two dimensions and a known number of columns; "
                    f"got shape {X.shape}."
                )
            empty = np.empty((0, X.shape[1]))
        validate_data(self, empty, reset=reset, skip_check_array=True)


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
    doc = BGDClassifier.__doc__
    sections = doc[doc.index("    Parameters\n") : doc.index("    See Also\n")]
    before, after = DaskBGDClassifier.__doc__.split("    See Also\n", maxsplit=1)
    DaskBGDClassifier.__doc__ = before + sections + "    See Also\n" + after


_borrow_parameters()
