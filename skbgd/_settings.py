"""The resolved parameters of a call: what each "auto" stands for.

The rules were chosen by examples/study_defaults.py, which reports what each one gains.
"""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import numpy as np

# batch_size="auto" gives this many steps per epoch, but is clipped to these bounds.
STEPS_PER_EPOCH = 75
BATCH_SIZE_BOUNDS = 8, 32
STREAM_BATCH_SIZE_BOUNDS = 4, 32

# With up to this many rows `fit` uses the full batch, and alpha does not depend on
# their number. A weight of 2 is then equivalent to a repeated row.
FULL_BATCH_ROWS = 40

# The step size for batches of m rows is SGD_STEP_SIZE sqrt(min(m, MAX_SCALED_BATCH)).
SGD_STEP_SIZE = 0.4
MAX_SCALED_BATCH = 128
# With hidden layers it is at most this multiple of m / (1 + d), for d features.
# Otherwise 200 features or more diverge with relu and one or two rows per step. Half as
# much raises the log-loss of digits with one row per step from 0.08 to 0.09.
MAX_STEP_PER_ROW = 32
ADAM_STEP_SIZE = 0.05

# n times alpha, by solver: the L2 penalty on the sum of the losses. With 0.5, Adam
# stays at chance on a checkerboard. Below FEW_PENALIZED_ROWS rows the penalty
# decreases with the square of n, since a larger one keeps small networks at chance
# (XOR). From MANY_PENALIZED_ROWS rows on it increases with the root of n, to twice the
# value here.
SUM_PENALTY = {"sgd": 0.5, "adam": 0.25, "lbfgs": 0.5}
FEW_PENALIZED_ROWS = 100
MANY_PENALIZED_ROWS = 2000
# The largest alpha in `partial_fit`, whose calls may have few rows.
MAX_STREAM_ALPHA = 2e-4

# A cosine schedule has COSINE_ROWS / n epochs, clipped to COSINE_EPOCH_BOUNDS, and at
# least MIN_STEPS steps. Adam needs no more than the lower bound. A network without
# hidden layers needs more steps, and each is cheap.
COSINE_ROWS = 100_000
COSINE_EPOCH_BOUNDS = 25, 40
MIN_STEPS = 250
MIN_STEPS_SINGLE_LAYER = 1000

# The other schedules stop by `tol`, after at most this many epochs.
MAX_EPOCHS = 400
MAX_LBFGS_ITERATIONS = 1000
DEFAULT_PATIENCE = 50
DEFAULT_TOL = 1e-4


class Settings(NamedTuple):
    """The parameters of a call, with every "auto" resolved."""

    batch_size: int
    full_batch: bool
    alpha: float
    effective_fraction: float  # (sum w)^2 / (n sum w^2)
    schedule: str | Callable
    max_iter: int
    first_epoch: int
    tol: float | None
    n_iter_no_change: float
    streaming: bool

    @classmethod
    def resolve(cls, clf, data, first_epoch, *, streaming, batch_size_resolver):
        """Resolve the parameters of an estimator for the given rows.

        Parameters
        ----------
        clf : BGDClassifier
        data : Dataset or DaskRows
        first_epoch : int
            The number of epochs of earlier calls. With ``max_iter="auto"`` the epochs
            of this call are added to them, and a cosine schedule starts after them.
        streaming : bool
            True for a call of `partial_fit`, False for `fit`.
        batch_size_resolver : callable
            `resolve_batch_size`, or a function with the same arguments.
        """
        n_samples, n_effective = data.n_samples, data.effective_samples()
        full_batch = uses_full_batch(clf, n_samples, streaming)
        batch_size = batch_size_resolver(
            "full" if full_batch else clf.batch_size, n_samples, streaming=streaming
        )
        schedule = resolve_schedule(clf, streaming)
        n_epochs = resolve_n_epochs(clf, schedule, n_samples, batch_size)
        if not is_auto(clf.max_iter):
            first_epoch = 0
        return cls(
            batch_size=batch_size,
            full_batch=full_batch,
            alpha=resolve_alpha(clf, n_effective, streaming),
            effective_fraction=n_effective / n_samples,
            schedule=schedule,
            max_iter=first_epoch + n_epochs,
            first_epoch=first_epoch,
            tol=resolve_tol(clf.tol),
            n_iter_no_change=resolve_patience(clf, schedule, n_epochs),
            streaming=streaming,
        )


def is_auto(value):
    return isinstance(value, str) and value == "auto"


def is_cosine(schedule):
    return isinstance(schedule, str) and schedule == "cosine"


def uses_full_batch(clf, n_samples, streaming):
    """Whether each batch holds all rows, for any number of rows."""
    if clf.solver == "lbfgs":
        return True
    if is_auto(clf.batch_size):
        return not streaming and n_samples <= FULL_BATCH_ROWS
    return isinstance(clf.batch_size, str)  # "full"


def resolve_batch_size(batch_size, n_samples, *, streaming=False):
    """The number of rows in a batch."""
    if batch_size == "full":
        return n_samples
    if batch_size == "auto":
        low, high = STREAM_BATCH_SIZE_BOUNDS if streaming else BATCH_SIZE_BOUNDS
        return min(max(n_samples // STEPS_PER_EPOCH, low), high, n_samples)
    return min(int(batch_size), n_samples)


def resolve_schedule(clf, streaming):
    """A name in `SCHEDULES`, "averaged", or a callable."""
    if clf.solver == "lbfgs":
        return "constant"  # not used
    if is_auto(clf.learning_rate_schedule):
        return "averaged" if streaming else "cosine"
    return clf.learning_rate_schedule


def resolve_n_epochs(clf, schedule, n_samples, batch_size):
    """The value of `max_iter`; "auto" does not count the epochs of earlier calls."""
    if not is_auto(clf.max_iter):
        return clf.max_iter
    if clf.solver == "lbfgs":
        return MAX_LBFGS_ITERATIONS
    if is_cosine(schedule):
        n_hidden = np.size(clf.hidden_layer_sizes)
        return cosine_epochs(n_samples, batch_size, n_hidden, clf.solver)
    return MAX_EPOCHS


def cosine_epochs(n_samples, batch_size, n_hidden, solver="sgd"):
    """Epochs of a cosine schedule: clip(100 000 / n, 25, 40), with Adam 25.

    More if these are fewer than 250 steps, without hidden layers 1000.
    """
    n_steps = -(-n_samples // batch_size)
    min_steps = MIN_STEPS if n_hidden else MIN_STEPS_SINGLE_LAYER
    low, high = COSINE_EPOCH_BOUNDS
    n_epochs = COSINE_ROWS // n_samples if solver == "sgd" else low
    return max(min(max(n_epochs, low), high), -(-min_steps // n_steps))


def resolve_tol(tol):
    if is_auto(tol):
        return DEFAULT_TOL
    return None if tol is None else float(tol)


def resolve_patience(clf, schedule, n_epochs):
    """The value of `n_iter_no_change`; infinite if the criterion does not stop fit."""
    if clf.solver == "lbfgs" and not clf.early_stopping:
        return inf  # it stops by the gradient
    if not is_auto(clf.n_iter_no_change):
        return clf.n_iter_no_change
    if not is_cosine(schedule):
        return DEFAULT_PATIENCE
    # A cosine schedule is completed unless `tol` or `early_stopping` asks to stop.
    if is_auto(clf.tol) and not clf.early_stopping:
        return inf
    return max(1, n_epochs // 2)


def resolve_alpha(clf, n_effective, streaming):
    if not is_auto(clf.alpha):
        return float(clf.alpha)
    n_hidden = np.size(clf.hidden_layer_sizes)
    return float(default_alpha(n_effective, n_hidden, clf.solver, streaming=streaming))


def default_alpha(n_samples, n_hidden, solver="sgd", *, streaming=False):
    """The penalty of ``alpha="auto"`` for n (effective) rows.

        alpha = c / n min(1, n / 100)^2 clip(sqrt(n / 2000), 1, 2) / max(1, n_hidden)^2

    with c = 0.5, for Adam 0.25, and n at least 40. n alpha is the penalty on the sum of
    the losses, a prior that depends little on the number of rows. With few rows, this
    prior asks for smaller weights than the initial ones, and the network would shrink
    to chance before it learns.

    In `partial_fit` the total number of rows is unknown, and calls may be small: alpha
    is c / n for the n rows of a call, but at most 2e-4.

    The penalty is divided by the square of the number of hidden layers. The weights
    multiply from layer to layer, and a network in which all layers shrink is at chance
    before it learns.
    """
    if streaming:
        alpha = min(SUM_PENALTY[solver] / n_samples, MAX_STREAM_ALPHA)
    else:
        n = max(n_samples, FULL_BATCH_ROWS)
        alpha = SUM_PENALTY[solver] / n * min(1, n / FEW_PENALIZED_ROWS) ** 2
        alpha *= min(max(1, n / MANY_PENALIZED_ROWS), 4) ** 0.5
    return alpha / max(1, n_hidden) ** 2


def default_step_size(network, mean_squared_row_norm, settings, update_rule):
    """The step size of ``learning_rate="auto"``.

    m is the batch size times the effective fraction of all rows, (sum w)^2 / (n sum
    w^2), or infinite for the full batch. r is the root mean square of the features.

    With hidden layers it is

        min(0.4 sqrt(min(m, 128)), 32 m / (1 + d min(1, r)^2)) / max(1, r)

    for d features, and at most 1 / alpha.

    The noise of a mean over m rows decreases with sqrt(m), so the step size may grow
    with it. A step on few rows with many features overshoots unless it is smaller.
    Logistic units have slopes of at most 1/4. For other units, with slopes of up to 1,
    the step size is divided by 8 and by the number of hidden layers.

    Without hidden layers it is

        0.4 sqrt(min(m, 128))                   at most 1 / (L + alpha)

    where L = s (1 + mean_i ||x_i||^2), with s = 1/4 for sigmoids and 1/2 for a softmax,
    bounds the curvature of the cross-entropy. With the full batch every step then
    decreases the objective.

    With momentum mu, the result is multiplied by 1 - mu, since momentum multiplies a
    long series of equal steps by 1 / (1 - mu).

    The step of Adam does not scale with the gradient. Its size is 0.05, or 0.01 if
    there are hidden layers that are not logistic. It is divided by the number of hidden
    layers and by sqrt(max(1, r)).
    """
    n_hidden = len(network.units) - 2
    logistic = network.activation == "logistic"
    # The noise of the full batch does not depend on the number of rows. In mini-batches
    # unequal weights increase the noise, as fewer rows do.
    m = inf
    if not settings.full_batch:
        m = settings.batch_size * settings.effective_fraction
    rms = np.sqrt(mean_squared_row_norm / network.units[0])
    if update_rule.solver == "adam":
        step_size = ADAM_STEP_SIZE / max(1, n_hidden)
        if not logistic and n_hidden > 0:
            step_size /= 5
        return float(step_size / max(1.0, rms) ** 0.5)
    if not np.isfinite(mean_squared_row_norm):
        raise ValueError(
            "The features are too large for learning_rate='auto': their mean square is "
            "not finite. Scale them (StandardScaler)."
        )
    step_size = SGD_STEP_SIZE * np.sqrt(min(m, MAX_SCALED_BATCH))
    curvature = update_rule.alpha
    if n_hidden == 0:
        s = 0.5 if network.output_activation == "softmax" else 0.25
        curvature += s * (1 + mean_squared_row_norm)
    else:
        # With the squared norm of features of this size a table of raw numbers would
        # hardly learn.
        squared_norm = network.units[0] * min(1.0, rms) ** 2
        step_size = min(step_size, MAX_STEP_PER_ROW * m / (1 + squared_norm))
        step_size /= max(1.0, rms)
        if not logistic:
            step_size /= 8 * n_hidden
    return float(
        min(step_size, 1 / max(curvature, 1e-300)) * (1 - update_rule.momentum)
    )
