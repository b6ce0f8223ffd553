"""What the parameters that are "auto" stand for in a call.

The rules were chosen by examples/study_defaults.py, which shows what each is worth.
"""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import numpy as np

# Rows of a batch: a 75th of all, but not fewer or more than these.
AUTO_BATCHES = 75
AUTO_BATCH_SIZES = 16, 64

# So few rows make one batch in `fit`, with one penalty: a weight of 2 is then two equal
# rows.
FEW_ROWS = 40

# The largest batch whose steps are larger than those of smaller ones.
LARGEST_STEP = 128

# alpha, as long as n alpha lies between these.
AUTO_ALPHA = 2e-4
LEAST_PENALTY = {"sgd": 0.5, "adam": 0.25, "lbfgs": 0.5}
MOST_PENALTY = 2.0

# A planned descent: so many passes over the rows, and so many steps at least.
AUTO_EPOCHS = 25
AUTO_STEPS = 100

# A descent that is not planned: its end is found by `tol`, within so many epochs of
# which so many stand still.
UNPLANNED_EPOCHS = 400
LBFGS_ITERATIONS = 1000
PATIENCE = 50
AUTO_TOL = 1e-4


def rows_per_batch(batch_size, n_samples):
    """The number of rows of a batch, from the parameter `batch_size`."""
    if batch_size == "full":
        return n_samples
    if batch_size == "auto":
        least, most = AUTO_BATCH_SIZES
        return min(max(n_samples // AUTO_BATCHES, least), most, n_samples)
    return min(int(batch_size), n_samples)


def planned_epochs(n_samples, batch_size):
    """Epochs of a descent whose step falls to 0: 25, or as many as make 100 steps."""
    n_steps = -(-n_samples // batch_size)
    return max(AUTO_EPOCHS, -(-AUTO_STEPS // n_steps))


def default_alpha(n_samples, n_hidden, solver="sgd", *, ends=True):
    """The penalty of ``alpha="auto"``: 2e-4, 0.5 <= n alpha <= 2, over layers^2.

    n alpha is the penalty on the summed loss, a prior that does not grow with the rows
    when there are many, and does not vanish when there are few. With Adam it is at
    least 0.25. The n of a stream is not known, and its calls may be small: there only
    the upper limit holds, for the rows of a call.

    Over the square of the number of hidden layers: the weights of the start multiply
    from layer to layer, and a network whose layers shrink together is at chance before
    it has learned anything.
    """
    alpha = min(AUTO_ALPHA, MOST_PENALTY / n_samples)
    if ends:
        alpha = max(alpha, LEAST_PENALTY[solver] / max(n_samples, FEW_ROWS))
    return alpha / max(1, n_hidden) ** 2


class Plan(NamedTuple):
    """What the parameters that are "auto" stand for in a call."""

    batch_size: int
    full: bool  # a batch holds all rows, however many there are
    alpha: float
    schedule: str | Callable
    max_iter: int  # epochs at which to stop, those before `start` included
    start: int  # epochs of earlier calls that the plan does not count
    tol: float | None
    n_iter_no_change: float

    @classmethod
    def of(cls, clf, n_samples, start=0, *, ends=True, rows=rows_per_batch):
        """The plan for the parameters of an estimator and so many rows.

        Parameters
        ----------
        clf : BGDClassifier
        n_samples : int
        start : int
            Epochs made before the present goal, which a planned `max_iter` does not
            count.
        ends : bool
            Whether the call makes a whole descent (`fit`), not one epoch of a stream.
        rows : callable
            Gives the rows of a batch for `batch_size` and `n_samples`.
        """
        lbfgs = clf.solver == "lbfgs"
        full = (
            lbfgs
            or isinstance(clf.batch_size, str)
            and (clf.batch_size == "full" or ends and n_samples <= FEW_ROWS)
        )
        batch_size = rows("full" if full else clf.batch_size, n_samples)
        rule = clf.learning_rate_schedule
        falls = ends and isinstance(clf.learning_rate, str)
        if isinstance(rule, str) and rule == "auto":
            rule = "cosine" if falls else "constant"
        if lbfgs:
            rule = "constant"  # without effect
        planned = isinstance(rule, str) and rule == "cosine"
        max_iter, patience = clf.max_iter, clf.n_iter_no_change
        n_epochs = max_iter
        if isinstance(max_iter, str):
            n_epochs = LBFGS_ITERATIONS if lbfgs else UNPLANNED_EPOCHS
            if planned:
                n_epochs = planned_epochs(n_samples, batch_size)
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
            n_hidden = np.size(clf.hidden_layer_sizes)
            alpha = default_alpha(n_samples, n_hidden, clf.solver, ends=ends)
        return cls(
            batch_size,
            full,
            float(alpha),
            rule,
            max_iter,
            start,
            None if tol is None else float(tol),
            patience,
        )


def default_step_size(network, squared_norm, plan, rule):
    """The step size that ``learning_rate="auto"`` stands for.

    With hidden layers it is 0.4 sqrt(min(m, 128)) for batches of m rows, as the noise
    of a mean over m rows falls with sqrt(m), and an eighth of that for units other than
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
    # The whole batch has no noise that depends on the number of rows.
    m = inf if plan.full else plan.batch_size
    rms = np.sqrt(squared_norm / network.units[0])
    if rule.solver == "adam":
        step_size = (0.05 if logistic or n_hidden == 0 else 0.01) / max(1, n_hidden)
        return float(step_size / max(1.0, rms) ** 0.5)
    if not np.isfinite(squared_norm):
        raise ValueError(
            "The features are too large for learning_rate='auto': the mean of their "
            "squares is not finite. Scale them (StandardScaler)."
        )
    step_size = 0.4 * np.sqrt(min(m, LARGEST_STEP))
    curvature = rule.alpha
    if n_hidden == 0:
        s = 0.5 if network.output_activation == "softmax" else 0.25
        curvature += s * (1 + squared_norm)
    else:
        step_size /= max(1.0, rms)
        if not logistic:
            step_size /= 8 * n_hidden
    return float(min(step_size, 1 / max(curvature, 1e-300)) * (1 - rule.momentum))
