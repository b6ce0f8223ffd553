"""What the parameters that are "auto" stand for in a call.

The rules were chosen by examples/study_defaults.py, which shows what each is worth.
"""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import numpy as np

# Rows per batch: n_samples // 75, clipped to these bounds.
AUTO_BATCHES = 75
AUTO_BATCH_SIZES = 8, 32
AUTO_STREAM_BATCH_SIZES = 4, 32

# Up to this many rows, `fit` takes them all as one batch with one penalty: a weight of
# 2 is then equal to a repeated row.
FEW_ROWS = 40

# The step size is STEP times the root of the rows per batch, of LARGEST_STEP at most.
STEP = 0.4
LARGEST_STEP = 128
ADAM_STEP = 0.05

# n alpha: the L2 penalty on the sum of the losses. For fewer rows than PENALIZED_ROWS
# it falls with their square: a larger one holds small networks at chance (XOR).
AUTO_PENALTY = 0.5
PENALIZED_ROWS = 100
# The largest alpha in `partial_fit`, whose calls may have few rows.
AUTO_STREAM_ALPHA = 2e-4

# Epochs of a cosine: EPOCH_ROWS / n, clipped to AUTO_EPOCHS, and at least AUTO_STEPS
# steps in all. Adam needs no more than the lower bound. A network without hidden layers
# needs more steps, and each is cheap.
EPOCH_ROWS = 100_000
AUTO_EPOCHS = 25, 40
AUTO_STEPS = 400
AUTO_STEPS_SINGLE_LAYER = 1000

# Other schedules stop by `tol`, after at most this many epochs.
UNPLANNED_EPOCHS = 400
LBFGS_ITERATIONS = 1000
PATIENCE = 50
AUTO_TOL = 1e-4


def rows_per_batch(batch_size, n_samples, *, stream=False):
    """The number of rows of a batch, from the parameter `batch_size`."""
    if batch_size == "full":
        return n_samples
    if batch_size == "auto":
        least, most = AUTO_STREAM_BATCH_SIZES if stream else AUTO_BATCH_SIZES
        return min(max(n_samples // AUTO_BATCHES, least), most, n_samples)
    return min(int(batch_size), n_samples)


def planned_epochs(n_samples, batch_size, n_hidden, solver="sgd"):
    """Epochs of a cosine: clip(100 000 / n, 25, 40), with Adam 25.

    More if these are fewer than 400 steps, without hidden layers 1000.
    """
    n_steps = -(-n_samples // batch_size)
    least_steps = AUTO_STEPS if n_hidden else AUTO_STEPS_SINGLE_LAYER
    least, most = AUTO_EPOCHS
    n_epochs = EPOCH_ROWS // n_samples if solver == "sgd" else least
    return max(min(max(n_epochs, least), most), -(-least_steps // n_steps))


def default_alpha(n_samples, n_hidden, *, stream=False):
    """The penalty of ``alpha="auto"`` for n (effective) rows.

        alpha = 0.5 / n min(1, n / 100)^2 / max(1, n_hidden)^2      n at least 40

    n alpha is the penalty on the sum of the losses, a prior that does not depend on the
    number of rows. Where rows are few, the network starts with larger weights than this
    prior allows for, and would shrink to chance before it has learned.

    The n of a stream is not known, and its calls may be small: there alpha is 0.5 / n
    for the rows of a call, and at most 2e-4.

    The penalty is divided by the square of the number of hidden layers: the initial
    weights multiply from layer to layer, and a network whose layers shrink together is
    at chance before it has learned.
    """
    if stream:
        alpha = min(AUTO_PENALTY / n_samples, AUTO_STREAM_ALPHA)
    else:
        n = max(n_samples, FEW_ROWS)
        alpha = AUTO_PENALTY / n * min(1, n / PENALIZED_ROWS) ** 2
    return alpha / max(1, n_hidden) ** 2


class Plan(NamedTuple):
    """What the parameters that are "auto" stand for in a call."""

    batch_size: int
    full: bool  # a batch holds all rows, however many there are
    alpha: float
    weight_ratio: float  # effective rows over rows, (sum w)^2 / (n sum w^2)
    schedule: str | Callable
    max_iter: int  # epochs at which to stop, those before `start` included
    start: int  # epochs of earlier calls that the plan does not count
    tol: float | None
    n_iter_no_change: float

    @classmethod
    def of(cls, clf, rows, start=0, *, ends=True, rows_per_batch=rows_per_batch):
        """The plan for the parameters of an estimator and these rows.

        Parameters
        ----------
        clf : BGDClassifier
        rows : LocalRows or DaskRows
            With their targets set.
        start : int
            Epochs made before the present goal, which a planned `max_iter` does not
            count.
        ends : bool
            Whether the call makes a whole descent (`fit`), not one epoch of a stream.
        rows_per_batch : callable
            Gives the rows of a batch for `batch_size` and `n_samples`.
        """
        n_samples = rows.n_samples
        n_effective = rows.effective_samples()
        n_hidden = np.size(clf.hidden_layer_sizes)
        lbfgs = clf.solver == "lbfgs"
        full = (
            lbfgs
            or isinstance(clf.batch_size, str)
            and (clf.batch_size == "full" or ends and n_samples <= FEW_ROWS)
        )
        batch_size = rows_per_batch(
            "full" if full else clf.batch_size, n_samples, stream=not ends
        )
        rule = clf.learning_rate_schedule
        if isinstance(rule, str) and rule == "auto":
            rule = "cosine" if ends else "averaged"
        if lbfgs:
            rule = "constant"  # without effect
        planned = isinstance(rule, str) and rule == "cosine"
        max_iter, patience = clf.max_iter, clf.n_iter_no_change
        n_epochs = max_iter
        if isinstance(max_iter, str):
            n_epochs = LBFGS_ITERATIONS if lbfgs else UNPLANNED_EPOCHS
            if planned:
                n_epochs = planned_epochs(n_samples, batch_size, n_hidden, clf.solver)
            max_iter = start + n_epochs
        else:
            start = 0
        tol = clf.tol
        if isinstance(patience, str):
            patience = PATIENCE
            if planned:
                # A plan is completed unless it was asked for an earlier end.
                completed = isinstance(tol, str) and not clf.early_stopping
                patience = inf if completed else max(1, n_epochs // 2)
        if isinstance(tol, str):
            tol = AUTO_TOL
        if lbfgs and not clf.early_stopping:
            patience = inf  # the gradient ends it
        alpha = clf.alpha
        if isinstance(alpha, str):
            alpha = default_alpha(n_effective, n_hidden, stream=not ends)
        return cls(
            batch_size,
            full,
            float(alpha),
            n_effective / n_samples,
            rule,
            max_iter,
            start,
            None if tol is None else float(tol),
            patience,
        )


def default_step_size(network, squared_norm, plan, rule):
    """The step size that ``learning_rate="auto"`` stands for.

    With hidden layers it is 0.4 sqrt(min(m, 128)) for batches of m effective rows,
    (sum w)^2 / sum w^2 of them, as the noise of a mean over m rows falls with sqrt(m),
    and an eighth of that for units other than
    logistic ones, whose slope is 1 instead of 1/4 at most, shared out to the hidden
    layers; over the features' root mean square, if that is larger than 1, and at most
    1 / alpha. For Adam, whose steps do not scale with the gradient, it is 0.05, a fifth
    of that for units other than logistic ones, over the number of hidden layers and the
    square root of the features' root mean square, if that is larger than 1.

    With one neuron it is at most 1 / (L + alpha): L = s (1 + mean_i ||x_i||^2) bounds
    the curvature of the cross-entropy, s = 1/4 for sigmoids and 1/2 for a softmax, so
    that the whole batch is sure to descend.

    Momentum mu multiplies a long run of steps by 1 / (1 - mu), which is taken back.
    """
    n_hidden = len(network.units) - 2
    logistic = network.activation == "logistic"
    # The whole batch has no noise that depends on the number of rows. Elsewhere unequal
    # weights add noise as a smaller batch does.
    m = inf if plan.full else plan.batch_size * plan.weight_ratio
    rms = np.sqrt(squared_norm / network.units[0])
    if rule.solver == "adam":
        step_size = ADAM_STEP / max(1, n_hidden)
        if not logistic and n_hidden > 0:
            step_size /= 5
        return float(step_size / max(1.0, rms) ** 0.5)
    if not np.isfinite(squared_norm):
        raise ValueError(
            "The features are too large for learning_rate='auto': the mean of their "
            "squares is not finite. Scale them (StandardScaler)."
        )
    step_size = STEP * np.sqrt(min(m, LARGEST_STEP))
    curvature = rule.alpha
    if n_hidden == 0:
        s = 0.5 if network.output_activation == "softmax" else 0.25
        curvature += s * (1 + squared_norm)
    else:
        step_size /= max(1.0, rms)
        if not logistic:
            step_size /= 8 * n_hidden
    return float(min(step_size, 1 / max(curvature, 1e-300)) * (1 - rule.momentum))
