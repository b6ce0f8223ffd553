"""Gradient descent over epochs: what changes, the objective, and when to stop."""

from dataclasses import dataclass, field, fields, replace
from math import inf, isfinite
from time import perf_counter

import numpy as np

from ._core import _backprop
from ._plan import default_step_size
from ._update_rules import schedule

# The step size at which the adaptive schedule gives up (as in MLPClassifier).
SMALLEST_ADAPTIVE_STEP = 1e-6


@dataclass
class StoppingRule:
    """When the criterion stands still; it belongs to rows and parameters, the key."""

    key: tuple = ()
    start: int = 0  # epochs made before it
    initial_loss: float | None = None  # objective of a sample of rows at its start
    criterion_to_beat: float = inf
    n_no_improvement: int = 0  # epochs in a row
    n_rate_cuts: int = 0  # of the adaptive schedule
    best_criterion: float = inf

    def record(self, criterion, tol):
        """Count the epochs that did not come to lie `tol` below the reference.

<<<<<<< HEAD
        The reference moves only when beaten, so that many small gains count as much as
        one large one.
        """
        if criterion < self.criterion_to_beat - (tol or 0):
            self.criterion_to_beat, self.n_no_improvement = criterion, 0
        else:
            self.n_no_improvement += 1
=======

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
    """The penalty that ``alpha="auto"`` stands for: 2e-4, but n alpha in [1/4, 2].

    n alpha is the penalty on the summed loss: a prior that is felt with few rows and
    does not grow with many. For a stream n is None. Over the square of the number of
    hidden layers: the weights of the start multiply from layer to layer, and a network
    whose layers shrink together is at chance before it has learned anything.
    """
    alpha = 2e-4
    if n_samples is not None:
        alpha = max(0.25 / n_samples, min(alpha, 2 / n_samples))
    return alpha / max(1, n_hidden) ** 2


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
            n_hidden = np.size(clf.hidden_layer_sizes)
            alpha = default_alpha(n_samples if ends else None, n_hidden)
        return cls(batch_size, float(alpha), rule, max_iter, start, patience)


def mean_squared_norm(theta, X, weights):
    """sum_i w_i ||x_i||^2 / sum_i w_i, without the rows of weight 0."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    squared_norms = np.empty(X.shape[0])
    _backprop.row_norms(theta, X, squared_norms)
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
>>>>>>> defaults


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
    best_loss: float = inf
    validation_loss_curve: list = field(default_factory=list)
    validation_scores: list = field(default_factory=list)
<<<<<<< HEAD
=======
    # Of the stopping rule, and what it belongs to:
    goal: tuple = ()
    start: int = 0  # epochs made before it
    mark: float = np.inf
    n_flat: int = 0
    n_cuts: int = 0
    best: float = np.inf
>>>>>>> defaults
    best_theta: np.ndarray | None = None
    stopping: StoppingRule = field(default_factory=StoppingRule)

    def copy(self, curves=True):
        """A copy that shares no array, and no list unless `curves` is False."""
        kinds = (np.ndarray, list) if curves else np.ndarray
        changed = {
            name: value.copy()
            for name, value in vars(self).items()
            if isinstance(value, kinds)
        }
        return replace(self, **changed, stopping=replace(self.stopping))

    def to_dict(self):
        """Arrays and plain Python values, the inverse of `from_dict`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {"stopping": vars(self.stopping).copy()}

    @classmethod
    def from_dict(cls, values):
        return cls(**values | {"stopping": StoppingRule(**values["stopping"])})

    @property
    def best_or_last_theta(self):
        """The parameters to predict with: the best, if they were kept, or the last."""
        return self.theta if self.best_theta is None else self.best_theta

    def restart_from_best(self, key=None):
        """Go on from the best parameters with a fresh stopping rule.

        Without a `key` it is that of before, with the adaptive schedule's cuts. Where
        the best parameters are not the last ones, momentum is at rest.
        """
        if self.best_theta is not None:
            self.theta, self.best_theta = self.best_theta, None
            self.velocity = self.second_moment = None
        before = self.stopping
        if key is None:
            self.stopping = StoppingRule(
                before.key, before.start, n_rate_cuts=before.n_rate_cuts
            )
        else:
            self.stopping = StoppingRule(key, start=self.n_iter)


class Descent:
    """Gradient descent on some rows.

    The objective, with weights w_i that average 1 and the loss l_i of row i, is

        J(theta) = 1 / n sum_i w_i l_i + alpha / 2 sum_l ||W_l||^2

    Parameters
    ----------
    network : Network
    state : State
        Changed in place.
    rows : LocalRows or DaskRows
        With their targets set.
    rule : UpdateRule
        Its `eta` is a number or "auto".
<<<<<<< HEAD
    plan : Plan
    power_t : float
=======
    batch_size : int or "full"
    schedule : callable
        The factor of the step size for a state.
>>>>>>> defaults
    shuffle : bool
    """

    def __init__(self, network, state, rows, rule, plan, power_t=0.5, shuffle=True):
        self.network, self.state, self.rows = network, state, rows
        self.batch_size = plan.batch_size
        self.factor = schedule(
            plan.schedule, power_t=power_t, max_iter=plan.max_iter, start=plan.start
        )
<<<<<<< HEAD
=======
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
>>>>>>> defaults
        if state.squared_norm is None:
            state.squared_norm = float(rows.mean_squared_norm())
            if state.t == 0:
                network.fit_start(state.theta, state.squared_norm)
<<<<<<< HEAD
        if rule.eta == "auto":
            rule = rule._replace(
                eta=default_step_size(network, state.squared_norm, plan, rule)
=======
        if step.eta == "auto":
            step = step._replace(
                # The whole batch has no noise that depends on the number of rows.
                eta=default_step_size(
                    network,
                    state.squared_norm,
                    inf if batch_size == "full" else self.batch_size,
                    step,
                )
>>>>>>> defaults
            )
        self.rule = rule
        self.last_eta = None  # before the first epoch
        if rule.needs_second_moment != (state.second_moment is not None):
            # Another solver starts afresh.
            state.velocity, state.second_moment, state.n_steps = None, None, 0
            if rule.needs_second_moment:
                state.second_moment = np.zeros_like(state.theta)
        if not rule.needs_velocity:
            state.velocity = None
        elif state.velocity is None:
            state.velocity = np.zeros_like(state.theta)
        rows.prepare(network, state, rule, self.batch_size, shuffle)
        self.squared_norm, _ = self._squared_norms()

    def _squared_norms(self):
        """sum_l ||W_l||^2, and the same with sum_l ||b_l||^2."""
        return _backprop.squared_norms(
            _backprop.Parameters(self.network.layout, self.state.theta)
        )

    @property
    def eta(self):
        """The step size of the next epoch."""
        return self.rule.eta * self.factor(self.state)

    def objective(self, rows):
        """J(theta) with the loss of these rows alone, their weights as they are."""
        penalty, _ = self._squared_norms()
        loss = rows.mean_loss(self.network, self.state.theta)
        return loss + self.rule.alpha / 2 * penalty

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
        rule = self.rule._replace(eta=self.last_eta)
        penalty = rule.alpha / 2 * self.squared_norm
        progress = np.zeros(2)
        interrupt, shuffle_state = None, state.shuffle_state
        try:
            self.rows.run_epoch(state, rule, progress)
        except KeyboardInterrupt as error:
            interrupt = error
        total, n_done = float(progress[0]), int(progress[1])
        if interrupt is not None and n_done == 0:
            state.shuffle_state = shuffle_state  # as if it had not begun
            raise interrupt
        loss = total / max(n_done, 1) + penalty
        # theta changed last: its norm tells whether the next loss would be finite.
        self.squared_norm, norm = self._squared_norms()
        complete = interrupt is not None or n_done == self.rows.n_samples
        infinite = self._what_is_infinite(loss if complete else inf, norm)
        if infinite is not None:
            raise ValueError(_diverged(infinite, state.n_iter + 1, rule)) from interrupt
        state.t += n_done
        n_updates = -(-n_done // self.batch_size)
        state.n_steps += n_updates
        if len(state.loss_curve) > state.n_iter:
            # A copy of the estimator, which shares the curves, has gone on by itself.
            for name in ("loss_curve", "updates_curve", "seconds_curve"):
                setattr(state, name, getattr(state, name)[: state.n_iter])
        state.loss_curve.append(loss)
        _append_sum(state.updates_curve, n_updates)
        _append_sum(state.seconds_curve, perf_counter() - start)
        state.n_iter += 1
        state.best_loss = min(state.best_loss, loss)
        if interrupt is not None:
            raise interrupt

    def _what_is_infinite(self, loss, norm):
        largest = float(np.finfo(self.state.theta.dtype).max)
        second_moment = self.state.second_moment
        if not isfinite(loss):
            return "The loss is"
        if not norm <= largest:
            return "The norm of the parameters is"
        if second_moment is not None and not second_moment.max() <= largest:
            return "The square of the gradient is"  # no step would be made
        return None


def _diverged(infinite, epoch, rule):
    message = (
        f"{infinite} no longer finite in epoch {epoch} with learning_rate={rule.eta:g} "
        f"and alpha={rule.alpha:g}: the descent has diverged. Try a smaller "
        "learning_rate, and scale the features (StandardScaler)."
    )
    if rule.eta * rule.alpha > 1:
        message += (
            " A smaller alpha would help too: a step multiplies the weights by "
            f"1 - learning_rate * alpha = {1 - rule.eta * rule.alpha:g}, which should "
            "lie between 0 and 1."
        )
    return message


def _append_sum(sums, value):
    """Go on with running sums."""
    sums.append(sums[-1] + value if sums else value)


def minimize(
    descent,
    *,
    max_iter,
    tol,
    n_iter_no_change,
    adaptive=False,
    validate=None,
    early_stopping=False,
    progress=None,
):
    """Run epochs until there is a reason to stop.

    The criterion is the training loss, or what `validate` returns. It stands still when
    `n_iter_no_change` epochs in a row did not beat the reference by `tol`, see
    `StoppingRule`.

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
    progress : object or None
        Its `before_epoch` and `after_epoch` are called first and last in each epoch;
        `after_epoch` stops the descent by returning True.

    Returns
    -------
    stop_reason : {"converged", "early_stopping", "max_iter", "callback"}
    """
    state = descent.state
    stopping = state.stopping
    while True:
        if tol is not None and stopping.n_no_improvement >= n_iter_no_change:
            if not adaptive or descent.eta <= SMALLEST_ADAPTIVE_STEP:
                return "early_stopping" if early_stopping else "converged"
            stopping.n_rate_cuts += 1
            stopping.n_no_improvement = 0
        if state.n_iter >= max_iter:
            return "max_iter"
        if progress is not None:
            progress.before_epoch()
        descent.epoch()
        criterion = state.loss_curve[-1]
        if validate is not None:
            validation_criterion = validate()
            if early_stopping:
                criterion = validation_criterion
                if not np.isfinite(criterion):
                    raise ValueError(
                        f"The validation rows gave {criterion} in epoch "
                        f"{state.n_iter}, which early_stopping cannot judge by. Check "
                        "X_val, y_val and scoring."
                    )
        if early_stopping and criterion < stopping.best_criterion:
            stopping.best_criterion = criterion
            state.best_theta = state.theta.copy()
        stopping.record(criterion, tol)
        if progress is not None and progress.after_epoch():
            return "callback"
