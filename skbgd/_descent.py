"""Gradient descent over epochs: batches, steps, the objective, when to stop."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from numbers import Real
from time import perf_counter
from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse

from . import _backprop

# What "auto" stands for was chosen by examples/study_defaults.py, which shows what each
# of these rules is worth.

# Rows of a batch: a 75th of all, but not fewer or more than these.
AUTO_BATCHES = 75
AUTO_BATCH_SIZES = 8, 128

# A planned descent: so many passes over the rows, and so many steps beside.
AUTO_EPOCHS = 20
AUTO_STEPS = 200

# A descent that is not planned: its end is found by `tol`, within so many epochs of
# which so many stand still.
UNPLANNED_EPOCHS = 400
PATIENCE = 50

# The step size at which the adaptive schedule gives up (as in MLPClassifier).
SMALLEST_ADAPTIVE_STEP = 1e-6


def rows_per_batch(batch_size, n_samples):
    """The number of rows of a batch, from the parameter `batch_size`."""
    if batch_size == "full":
        return n_samples
    if batch_size == "auto":
        least, most = AUTO_BATCH_SIZES
        return min(max(n_samples // AUTO_BATCHES, least), most, n_samples)
    return min(int(batch_size), n_samples)


def planned_epochs(n_samples, batch_size):
    """Epochs of a descent whose step falls to 0: 20, and 200 steps beside."""
    n_steps = -(-n_samples // batch_size)
    return AUTO_EPOCHS + -(-AUTO_STEPS // n_steps)


class Step(NamedTuple):
    """The parameters of a step; the core has the equations, in `_kernels.h`.

    ``solver`` is "sgd" or "adam"; ``momentum`` is Adam's beta_1 for "adam";
    ``max_gradient_norm`` is 0 for no limit.
    """

    eta: float
    alpha: float = 0.0
    solver: str = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    beta_2: float = 0.999
    epsilon: float = 1e-8
    max_gradient_norm: float = 0.0


SOLVERS = ("sgd", "adam")
SCHEDULES = ("constant", "invscaling", "adaptive", "cosine")


def default_alpha(n_samples, n_hidden):
    """The penalty that ``alpha="auto"`` stands for: 2 / n, at most 2e-4, over layers^2.

    n alpha is the penalty on the summed loss, a prior that does not grow with the rows
    when there are many. Over the square of the number of hidden layers: the weights of
    the start multiply from layer to layer, and a network whose layers shrink together
    is at chance before it has learned anything.
    """
    return min(2e-4, 2 / n_samples) / max(1, n_hidden) ** 2


def schedule(rule, *, power_t, max_iter, start=0):
    """The factor of the step size as a function of the state.

    In epoch k, counted from 0, after t rows and c cuts:

    - "constant": 1
    - "invscaling": 1 / (t + 1)^power_t
    - "adaptive": 1 / 5^c
    - "cosine": (1 + cos(pi (k - start) / (max_iter - start))) / 2, and 0 after
      `max_iter` epochs
    - callable: rule(k)
    """
    if callable(rule):
        return lambda state: rule(state.n_iter)
    n_epochs = max(1, max_iter - start)
    return {
        "constant": lambda state: 1.0,
        "invscaling": lambda state: 1 / (state.t + 1) ** power_t,
        "adaptive": lambda state: 0.2**state.n_cuts,
        "cosine": lambda state: (
            (1 + np.cos(np.pi * min((state.n_iter - start) / n_epochs, 1))) / 2
        ),
    }[rule]


class Plan(NamedTuple):
    """What the parameters that are "auto" stand for in a call."""

    batch_size: int
    alpha: float
    schedule: str | Callable
    max_iter: int  # epochs at which to stop, those before `start` included
    start: int  # epochs of earlier calls that the plan does not count
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
        batch_size = rows(clf.batch_size, n_samples)
        rule = clf.learning_rate_schedule
        falls = ends and isinstance(clf.learning_rate, str)
        if isinstance(rule, str) and rule == "auto":
            rule = "cosine" if falls else "constant"
        planned = isinstance(rule, str) and rule == "cosine"
        max_iter, patience = clf.max_iter, clf.n_iter_no_change
        n_epochs = max_iter
        if isinstance(max_iter, str):
            n_epochs = UNPLANNED_EPOCHS
            if planned:
                n_epochs = planned_epochs(n_samples, batch_size)
            max_iter = start + n_epochs
        else:
            start = 0
        if isinstance(patience, str):
            patience = PATIENCE
            if planned:
                patience = max(1, n_epochs // 2) if clf.early_stopping else inf
        alpha = clf.alpha
        if isinstance(alpha, str):
            alpha = default_alpha(n_samples, np.size(clf.hidden_layer_sizes))
        return cls(batch_size, float(alpha), rule, max_iter, start, patience)


def mean_squared_norm(theta, X, weights):
    """sum_i w_i ||x_i||^2 / sum_i w_i, without the rows of weight 0."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    squared_norms = np.empty(X.shape[0])
    _backprop.row_norms(theta, X, squared_norms)
    with np.errstate(over="ignore"):  # inf is an answer
        if weights is None:
            return squared_norms.mean()
        seen = weights > 0
        return np.average(squared_norms[seen], weights=weights[seen])


def default_step_size(network, squared_norm, batch_size, step):
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
    n_hidden = len(network.layers) - 2
    logistic = network.activation == "logistic"
    rms = np.sqrt(squared_norm / network.layers[0])
    if step.solver == "adam":
        step_size = (0.05 if logistic or n_hidden == 0 else 0.01) / max(1, n_hidden)
        return float(step_size / max(1.0, rms) ** 0.5)
    if not np.isfinite(squared_norm):
        raise ValueError(
            "The features are too large for learning_rate='auto': the mean of their "
            "squares is not finite. Scale them (StandardScaler)."
        )
    step_size = 0.4 * np.sqrt(min(batch_size, AUTO_BATCH_SIZES[1]))
    curvature = step.alpha
    if n_hidden == 0:
        s = 0.5 if network.output_activation == "softmax" else 0.25
        curvature += s * (1 + squared_norm)
    else:
        step_size /= max(1.0, rms)
        if not logistic:
            step_size /= 8 * n_hidden
    return float(min(step_size, 1 / max(curvature, 1e-300)) * (1 - step.momentum))


@dataclass
class State:
    """All that changes as the descent goes on, and what a later call continues from.

    `Descent` and `minimize` change it in place; `copy` first.
    """

    theta: np.ndarray
    shuffle_state: int = 0
    split_seed: int = 0  # of the validation rows
    squared_norm: float | None = None  # mean of ||x||^2 in the first rows with a weight
    velocity: np.ndarray | None = None  # momentum; Adam's first moment
    second_moment: np.ndarray | None = None  # Adam
    n_steps: int = 0
    n_iter: int = 0  # epochs made
    t: int = 0
    loss_curve: list = field(default_factory=list)
    updates_curve: list = field(default_factory=list)  # with as many entries
    seconds_curve: list = field(default_factory=list)
    best_loss: float = np.inf
    validation_loss_curve: list = field(default_factory=list)
    validation_scores: list = field(default_factory=list)
    # Of the stopping rule, and what it belongs to:
    goal: tuple = ()
    start: int = 0  # epochs made before it
    goal_loss: float | None = None  # objective of some rows when it began
    mark: float = np.inf
    n_flat: int = 0
    n_cuts: int = 0
    best: float = np.inf
    best_theta: np.ndarray | None = None

    def copy(self, curves=True):
        """A copy that shares no array, and no list unless `curves` is False."""
        kinds = (np.ndarray, list) if curves else np.ndarray
        changed = {
            name: value.copy()
            for name, value in vars(self).items()
            if isinstance(value, kinds)
        }
        return replace(self, **changed)

    @property
    def model(self):
        """The parameters to predict with: the best, if they were kept, or the last."""
        return self.theta if self.best_theta is None else self.best_theta

    def go_on_from_model(self):
        """Forget the stopping rule, and go on from the best parameters.

        Where these are not the last ones, momentum is at rest.
        """
        if self.best_theta is not None:
            self.theta, self.best_theta = self.best_theta, None
            self.velocity = self.second_moment = None
        self.mark = self.best = np.inf
        self.n_flat = 0
        self.goal_loss = None


class Descent:
    """Gradient descent on one data set, its buffers allocated once.

    The objective, with weights w_i that average 1 and the loss l_i of row i, is

        J(theta) = 1 / n sum_i w_i l_i + alpha / 2 sum_l ||W_l||^2

    Parameters
    ----------
    network : Network
    state : State
        Changed in place.
    X : ndarray of shape (n, d), C-contiguous, or CSR; float32 or float64
    Y : ndarray of shape (n, 1) or (n, K), int32
        Class codes, or 0/1 indicators.
    weights : ndarray of shape (n,) or None
        Not negative, 1 on average; None means all 1.
    step : Step
        Its `eta` is a number or "auto".
    batch_size : int or "full"
    schedule : callable
        The factor of the step size for a state.
    shuffle : bool
    n_jobs : int or None

    Use it as a context: threads are there, and the BLAS is limited, within it only.
    """

    def __init__(
        self,
        network,
        state,
        X,
        Y,
        weights,
        *,
        step,
        batch_size,
        schedule,
        shuffle,
        n_jobs=None,
    ):
        n_samples = X.shape[0]
        self.data = X, Y, weights
        self._set_up(network, state, n_samples, step, batch_size, schedule)
        # The order of the rows does not matter to a batch that holds them all.
        shuffle = shuffle and self.batch_size < n_samples
        self.order = np.empty(n_samples, dtype=np.intp) if shuffle else None
        self.crew = network.crew(n_jobs, X, self.batch_size, n_calls=2)
        self.tile, self.work = network.scratch(
            X, self.batch_size, self.crew.n_threads, in_order=not shuffle
        )
        in_place = (
            self.batch_size <= self.tile
            and state.velocity is None
            and step.max_gradient_norm == 0
        )
        self.gradient = None if in_place else np.empty_like(state.theta)

    def _set_up(self, network, state, n_samples, step, batch_size, schedule):
        """All that does not depend on where the rows are."""
        self.network = network
        self.state = state
        self.n_samples = n_samples
        self.batch_size = rows_per_batch(batch_size, n_samples)
        self.schedule = schedule
        if state.squared_norm is None:
            state.squared_norm = float(self._mean_squared_norm())
            if state.t == 0:
                network.fit_start(state.theta, state.squared_norm)
        if step.eta == "auto":
            step = step._replace(
                # The whole batch has no noise that depends on the number of rows.
                eta=default_step_size(
                    network,
                    state.squared_norm,
                    inf if batch_size == "full" else self.batch_size,
                    step,
                )
            )
        self.step = step
        self.last_eta = None  # before the first epoch
        needs_second_moment = step.solver == "adam"
        needs_velocity = needs_second_moment or step.momentum > 0
        if needs_second_moment != (state.second_moment is not None):
            state.velocity, state.n_steps = None, 0  # another solver: start it afresh
            state.second_moment = (
                np.zeros_like(state.theta) if needs_second_moment else None
            )
        if not needs_velocity:
            state.velocity = None
        elif state.velocity is None:
            state.velocity = np.zeros_like(state.theta)
        self.squared_norm, _ = _backprop.squared_norms(network, state.theta)

    def _mean_squared_norm(self):
        X, _, weights = self.data
        return mean_squared_norm(self.state.theta, X, weights)

    def some_rows(self):
        """About a thousand evenly spaced rows: X, Y and weights."""
        rows = np.arange(0, self.n_samples, 1 + self.n_samples // 1000)
        return [None if array is None else array[rows] for array in self.data]

    def objective_of(self, some_rows):
        """J(theta) for these rows alone, weights as they are."""
        theta = self.state.theta
        penalty, _ = _backprop.squared_norms(self.network, theta)
        loss = mean_loss(self.network, theta, *some_rows, n_jobs=1)
        return loss + self.step.alpha / 2 * penalty

    def __enter__(self):
        self.crew.__enter__()
        return self

    def __exit__(self, *error):
        self.crew.__exit__(*error)

    @property
    def eta(self):
        """The step size of the next epoch."""
        factor = self.schedule(self.state)
        if not isinstance(factor, Real) or not 0 <= factor < inf:
            raise ValueError(
                f"Got {factor!r} from learning_rate_schedule for epoch "
                f"{self.state.n_iter}; it must be a finite number, 0 or larger."
            )
        return self.step.eta * float(factor)

    def epoch(self):
        """Pass over all rows once and record the objective.

        The loss of each row is taken just before the step that it is part of, the
        penalty at the start of the epoch: with the whole batch this is J(theta) before
        the step.

        A KeyboardInterrupt ends the epoch early: the steps made so far are recorded as
        an epoch over the rows they used, and then it goes on its way.
        """
        start = perf_counter()
        state = self.state
        self.last_eta = self.eta
        step = self.step._replace(eta=self.last_eta)
        penalty = step.alpha / 2 * self.squared_norm
        progress = np.zeros(2)
        interrupt, shuffle_state = None, state.shuffle_state
        try:
            self._steps(step, progress)
        except KeyboardInterrupt as error:
            interrupt = error
        total, n_done = float(progress[0]), int(progress[1])
        if interrupt is not None and n_done == 0:
            state.shuffle_state = shuffle_state  # as if it had not begun
            raise interrupt
        loss = total / max(n_done, 1) + penalty
        # theta changed last: its norm tells whether the next loss would be finite.
        self.squared_norm, norm = _backprop.squared_norms(self.network, state.theta)
        largest = float(np.finfo(state.theta.dtype).max)
        infinite = None
        if not isfinite(loss) or n_done < self.n_samples and interrupt is None:
            infinite = "The loss is"
        elif not norm <= largest:
            infinite = "The norm of the parameters is"
        elif state.second_moment is not None:
            if not state.second_moment.max() <= largest:  # no step would be made
                infinite = "The square of the gradient is"
        if infinite is not None:
            raise ValueError(self._diverged(infinite, step)) from interrupt
        state.t += n_done
        n_updates = -(-n_done // self.batch_size)
        state.n_steps += n_updates
        if len(state.loss_curve) > state.n_iter:
            # A copy of the estimator, which shares the curves, has gone on by itself.
            for name in ("loss_curve", "updates_curve", "seconds_curve"):
                setattr(state, name, getattr(state, name)[: state.n_iter])
        state.loss_curve.append(loss)
        append_sum(state.updates_curve, n_updates)
        append_sum(state.seconds_curve, perf_counter() - start)
        state.n_iter += 1
        state.best_loss = min(state.best_loss, loss)
        if interrupt is not None:
            raise interrupt

    def _diverged(self, infinite, step):
        message = (
            f"{infinite} no longer finite in epoch {self.state.n_iter + 1} with "
            f"learning_rate={step.eta:g} and alpha={step.alpha:g}: the descent has "
            "diverged. Try a smaller learning_rate, and scale the features "
            "(StandardScaler)."
        )
        if step.eta * step.alpha > 1:
            message += (
                " A smaller alpha would help too: a step multiplies the weights by "
                f"1 - learning_rate * alpha = {1 - step.eta * step.alpha:g}, which "
                "should lie between 0 and 1."
            )
        return message

    def _steps(self, step, progress):
        """Make the steps of an epoch.

        ``progress`` tells, also after an exception, the sum of the losses of the rows
        and the number of rows that were used: fewer than there are if a loss was not
        finite.
        """
        state = self.state
        if self.order is not None:
            state.shuffle_state = _backprop.shuffle(self.order, state.shuffle_state)
        self.crew.run(
            _backprop.run_batches,
            self.network,
            state.theta,
            state.velocity,
            state.second_moment,
            state.n_steps,
            *self.data,
            self.order,
            self.batch_size,
            step,
            self.gradient,
            self.work,
            self.tile,
            progress,
        )


def append_sum(sums, value):
    """Go on with running sums."""
    sums.append(sums[-1] + value if sums else value)


def mean_loss(network, theta, X, Y, weights, n_jobs=None):
    """sum_i w_i l_i / n without penalty, for weights that average 1."""
    n = X.shape[0]
    with network.crew(n_jobs, X, n) as crew:
        tile, work = network.scratch(X, n, crew.n_threads)
        total = crew.run(
            _backprop.loss_gradient, network, theta, X, Y, weights, None, work, tile
        )
    return total / n


def minimize(
    descent,
    *,
    max_iter,
    tol,
    n_iter_no_change,
    adaptive=False,
    validate=None,
    early_stopping=False,
    watcher=None,
):
    """Run epochs until there is a reason to stop.

    The criterion, the training loss or what `validate` returns, stands still when
    `n_iter_no_change` epochs in a row did not bring it `tol` below the mark. The mark
    moves only when it is beaten by `tol`, so that many small gains count as much as one
    large one.

    Parameters
    ----------
    descent : Descent
        Its state is changed in place, and holds all that a later call continues from.
    max_iter : int
        Number of epochs at which to stop, those of earlier calls included.
    tol : float or None
        None: never stands still.
    n_iter_no_change : int
    adaptive : bool
        Cut the step size where the criterion stands still, and stop only when it is
        tiny.
    validate : callable or None
        Called after each epoch; returns a number that is better if smaller.
    early_stopping : bool
        Judge by `validate`, not by the training loss, and keep the best parameters.
    watcher : object or None
        Its `before_epoch` and `after_epoch` are called first and last in each epoch;
        `after_epoch` stops the descent by returning True.

    Returns
    -------
    stop_reason : {"converged", "early_stopping", "max_iter", "callback"}
    """
    state = descent.state
    while True:
        if tol is not None and state.n_flat >= n_iter_no_change:
            if not adaptive or descent.eta <= SMALLEST_ADAPTIVE_STEP:
                return "early_stopping" if early_stopping else "converged"
            state.n_cuts += 1
            state.n_flat = 0
        if state.n_iter >= max_iter:
            return "max_iter"
        if watcher is not None:
            watcher.before_epoch()
        descent.epoch()
        value = state.loss_curve[-1]
        if validate is not None:
            validation_value = validate()
            if early_stopping:
                value = validation_value
                if not np.isfinite(value):
                    raise ValueError(
                        f"The validation rows gave {value} in epoch {state.n_iter}, "
                        "which early_stopping cannot judge by. Check X_val, y_val and "
                        "scoring."
                    )
        if early_stopping and value < state.best:
            state.best, state.best_theta = value, state.theta.copy()
        if value < state.mark - (tol or 0):
            state.mark, state.n_flat = value, 0
        else:
            state.n_flat += 1
        if watcher is not None and watcher.after_epoch():
            return "callback"
