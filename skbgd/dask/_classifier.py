"""The estimator on Dask: the differences from `BGDClassifier`."""

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

# batch_size="auto" aims at AUTO_STEPS_PER_EPOCH steps within AUTO_BATCH_SIZE_BOUNDS.
# Batches are larger if an epoch would otherwise have more than MAX_STEPS_PER_EPOCH.
# On six synthetic data sets of 32 000 rows, with 100 features and 100 hidden units, the
# log-loss with 25 steps per epoch is 1 to 20 % lower than that of one machine with 500
# steps, with 16 steps up to 10 % higher, and with 8 steps up to 33 % higher. Step sizes
# 1.4 times as large change it by -1 to 4 %. On three data sets of 160 000 rows it is up
# to 112 % higher with 25 steps, and up to 36 % higher with 100 steps.
AUTO_STEPS_PER_EPOCH = 25
AUTO_BATCH_SIZE_BOUNDS = 256, 1280
MAX_STEPS_PER_EPOCH = 100


def _blockwise(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method for arrays; for dask collections it returns a lazy dask array."""

    @wraps(method)
    def wrapped(self: "DaskBGDClassifier", X: Any) -> Any:
        if not is_dask_collection(X):
            return method(self, X)
        check_is_fitted(self)
        self._check_columns(X, "X")
        X = as_dask_array(X, "X")
        if X.numblocks[1] > 1:
            X = X.rechunk({1: -1})
        # Only what a prediction needs: no curves and no feature names.
        model = self.to_local()
        model._state = State(theta=model._state.best_or_last_theta)
        model.__dict__.pop("feature_names_in_", None)
        like = method(model, np.zeros((1, self.n_features_in_)))[:0]
        return X.map_blocks(
            predict_block,
            delayed(model),  # one key, so it is sent to each worker only once
            method.__name__,
            like,
            dtype=like.dtype,
            chunks=(X.chunks[0], *((size,) for size in like.shape[1:])),
            drop_axis=1 if like.ndim == 1 else None,
            meta=like,
        )

    return wrapped


class DaskBGDClassifier(BGDClassifier):
    r"""BGDClassifier for data in the memory of several machines, on Dask.

    `fit` takes dask arrays or dataframes that are chunked along the samples, and runs
    on the current :class:`distributed.Client`. The data stay on the workers. In each
    step the workers receive the parameters and return one summed gradient. With the
    full batch the result is that of :class:`~skbgd.BGDClassifier` on one machine, up to
    rounding.

    Dask pays off if the data do not fit into the memory of one machine, or if the
    samples of a step keep each worker busy for longer than one pass over the workers
    takes, 20 ms or more. With 100 features and 100 hidden units this is the case for
    10 000 samples per worker and step. For less data :class:`~skbgd.BGDClassifier` is
    faster: it trains on 32 000 such samples in two seconds, while the default of 625
    steps takes 20 seconds here.

    Install ``"skbgd[dask]"`` with pip on the client and on the workers. Parameters and
    attributes are those of :class:`~skbgd.BGDClassifier`. The Notes describe the
    differences.

    See Also
    --------
    skbgd.BGDClassifier : The same classifier for data in the memory of one machine.

    Notes
    -----
    **Data.** `X` is a dask array with dense or CSR blocks, or a dask dataframe. The
    blocks are computed and checked once, and the workers keep them during `fit`. Blocks
    that are not computed yet are distributed in proportion to the threads of the
    workers; persisted blocks stay on their workers. `y` and the weights are rechunked
    like `X`, and unknown chunk sizes are computed. A block is processed by one thread:
    provide at least one block per thread. Features are standardized as on one machine,
    unless a block is sparse.

    **Full batch** (``batch_size="full"``). An epoch is one pass over the workers. With
    ``solver="lbfgs"`` each gradient is one pass, and an epoch needs one or more.

    **Mini-batches.** An epoch has :math:`S = \lceil n / m \rceil` steps of
    :math:`m` = `batch_size` samples, and each step is one pass over the workers. A step
    uses :math:`1 / S` of the samples of every block, rounded to whole samples, without
    replacement and in a new random order in each epoch. It is thus a sample stratified
    by block: the variance of its gradient is at most that of a simple random sample,
    and blocks may differ, for instance if the data are sorted by class. All batches of
    an epoch have about the same size.

    Batches of thousands of samples are more efficient than batches of hundreds.
    ``batch_size="auto"`` is ``n_samples / 25``, but at least 256 and at most 1280, or
    ``n_samples / 100`` if that is more. An epoch never has more than 100 steps. With
    `verbose`, `fit` prints the time of a pass after the first few.

    **Reproducibility.** With an int as `random_state`, the same blocks on the same
    number of workers and threads give the same result to the last bit, even if workers
    fail. Other blocks or workers give the same result up to rounding. Persisted blocks
    are the same only if they are distributed over the workers in the same way.

    **Failures.** If a worker dies, Dask recomputes its blocks, and training waits for
    them and continues. If they cannot be recomputed (scattered data, a missing file, a
    worker that dies repeatedly), `fit` raises a RuntimeError. The estimator then keeps
    the parameters of the last complete epoch, with ``stop_reason_ = "interrupted"``.

    **Validation.** The criterion on validation data in dask collections is their loss.
    `scoring` requires arrays in the memory of this machine. `validation_fraction` is
    not used: with `early_stopping` pass `X_val` and `y_val`.

    **Other differences.** `n_jobs` only applies to predictions for arrays and to
    `partial_fit`; in `fit` each worker uses its own threads. A warm start assumes the
    same data if the collections have the same names.

    **Number of workers.** Let a step have :math:`n` samples and the network :math:`P`
    parameters of :math:`s` = 4 or 8 bytes. With :math:`W` workers of :math:`c` threads,
    :math:`f` multiplications per second and thread, and a network bandwidth of
    :math:`b` bytes per second, a step takes about

    .. math::
        \frac{3 n P}{c f W} + \frac{s P}{b} (2 + \log_8 W) + r

    seconds. The first term is the computation, three multiplications per sample and
    parameter. The second is the transfer of the parameters to the workers and of the
    gradients through a tree of sums. The third, :math:`r`, is the latency of the
    scheduler, some milliseconds per task of a worker.

    Only the first term decreases with :math:`W`. The second is as large if each worker
    has about :math:`c f s / b` samples per step, for any number of parameters: some
    hundred per thread with float32, :math:`f = 10^{10}` and a gigabit network. The
    third is as large if a worker computes for :math:`r` seconds. With fewer samples per
    worker, increase the batch size instead of the number of workers.

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
        """Fit the model to training data on the workers of the current client.

        Parameters
        ----------
        X : dask array or dataframe of shape (n_samples, n_features)
            Training data, chunked along the samples.

        y : dask array, series or dataframe of shape (n_samples,) or \
                (n_samples, n_labels)
            Class labels of at least two classes, or 0/1 indicators of several labels.

        sample_weight : dask array or series of shape (n_samples,), default=None
            Weights of the samples: not negative, and not all zero. Only their ratios
            matter. A number is the weight of every sample.

        X_val : dask array or dataframe, or array-like, default=None
            Validation data of shape (n_validation_samples, n_features). Their loss is
            recorded after each epoch, and with `early_stopping` it determines when
            training stops.

        y_val : like y, or array-like, default=None
            Labels of the validation data. Each must be a label in `y`.

        sample_weight_val : like sample_weight, or array-like, default=None
            Weights of the validation samples. In the loss they are multiplied by the
            class weights.

        Returns
        -------
        self : DaskBGDClassifier
            The fitted estimator. It refers neither to the client nor to the data.

        Raises
        ------
        ValueError
            If a parameter or the input is invalid, or if the loss becomes infinite or
            NaN. The estimator is then unchanged.
        TypeError
            If `X` is not a dask collection.
        RuntimeError
            If there is no client, or if a worker was lost and its blocks cannot be
            recomputed. The estimator keeps the parameters of the last complete epoch,
            if there is one.
        KeyboardInterrupt
            After Ctrl-C. The estimator keeps the parameters reached by then, if a step
            was made.

        Warns
        -----
        ConvergenceWarning
            As in :meth:`skbgd.BGDClassifier.fit`.

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
        """Continue training with one epoch over samples in the memory of this machine.

        Same as :meth:`skbgd.BGDClassifier.partial_fit`, without workers, for data that
        arrive after a distributed `fit`. To continue with dask collections use `fit`
        with ``warm_start=True``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, each of them in `classes`, or 0/1 indicators of several
            labels.

        classes : array-like of shape (n_classes,), default=None
            All classes that may occur in any call. Required in the first call, unless
            `y` has indicators. If passed again, they must not change.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, not negative. Only the ratios of the weights in a
            call matter. If all are zero, the call creates the layers but does not
            train. A number is the weight of every sample.

        Returns
        -------
        self : DaskBGDClassifier
            The fitted estimator.

        Raises
        ------
        TypeError
            If an argument is a dask collection.
        ValueError
            If a parameter or the input is invalid, or if the loss becomes infinite or
            NaN. The estimator is then unchanged.

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
                "partial_fit takes arrays in the memory of this machine; got a dask "
                "collection. To continue training with dask collections use fit with "
                "warm_start=True."
            )
        return super().partial_fit(X, y, classes, sample_weight)

    decision_function = _blockwise(BGDClassifier.decision_function)
    predict = _blockwise(BGDClassifier.predict)
    predict_proba = _blockwise(BGDClassifier.predict_proba)
    predict_log_proba = _blockwise(BGDClassifier.predict_log_proba)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy; for multilabel targets, all labels must be correct.

        Parameters
        ----------
        X : dask array or dataframe, or array-like, of shape (n_samples, n_features)
            Test samples.

        y : like X, of shape (n_samples,) or (n_samples, n_labels)
            True labels of the samples.

        sample_weight : like X, of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        accuracy : float
            Fraction of the samples that are classified correctly. For dask collections
            the workers compute it immediately.

        Examples
        --------
        >>> from skbgd.dask import DaskBGDClassifier
        >>> X, y = [[-1.0], [1.0]], [0, 1]
        >>> DaskBGDClassifier(()).partial_fit(X, y, classes=[0, 1]).score(X, y)
        1.0
        """
        if not is_dask_collection(X):
            return super().score(X, y, sample_weight)
        y = as_dask_array(y, "y")
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        correct = self.predict(X) == y
        if correct.ndim == 2:
            correct = correct.all(axis=1)
        if sample_weight is None:
            return float(correct.mean())
        weights = as_dask_array(sample_weight, "sample_weight")
        return float((correct * weights).sum() / weights.sum())

    def to_local(self) -> BGDClassifier:
        """Return a BGDClassifier with the same parameters and fitted attributes.

        Returns
        -------
        clf : BGDClassifier
            An independent copy, which does not need Dask.

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

    # Called by `FittingMixin._fit` --------------------------------------------------

    _INTERRUPTS = KeyboardInterrupt, RowsLost

    @staticmethod
    def _resolve_batch_size(batch_size, n_samples, *, streaming=False):
        if batch_size == "auto" and not streaming:
            low, high = AUTO_BATCH_SIZE_BOUNDS
            usual = min(max(ceil(n_samples / AUTO_STEPS_PER_EPOCH), low), high)
            batch_size = max(usual, ceil(n_samples / MAX_STEPS_PER_EPOCH))
        return resolve_batch_size(batch_size, n_samples, streaming=streaming)

    def _load_rows(self, X, y, sample_weight, reset):
        """The training rows, on the workers and checked there."""
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
                f"Got scoring={self.scoring!r} with validation data on Dask, whose "
                "criterion is the loss; scoring must be None. To use a scorer pass "
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
                "For data in the memory of this machine use skbgd.BGDClassifier."
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
            "DaskBGDClassifier.fit needs a client of a Dask cluster, and there is "
            "none. Create one, on this machine or with the address of a scheduler:\n"
            "    from distributed import Client\n"
            "    client = Client()"
        ) from None


def _borrow_parameters():
    """Copy the sections Parameters and Attributes of the docstring of BGDClassifier.

    `help` and scikit-learn's documentation of parameters need them in each class.
    """
    if not BGDClassifier.__doc__ or not DaskBGDClassifier.__doc__:  # python -OO
        return
    doc = BGDClassifier.__doc__
    sections = doc[doc.index("    Parameters\n") : doc.index("    See Also\n")]
    before, after = DaskBGDClassifier.__doc__.split("    See Also\n", maxsplit=1)
    DaskBGDClassifier.__doc__ = before + sections + "    See Also\n" + after


_borrow_parameters()
