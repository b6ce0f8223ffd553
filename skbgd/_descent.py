"""Gradient descent over epochs: what changes, the objective, and when to stop.

Its words: an *epoch* is one pass over the rows; the *criterion* the number by which it
is judged, the training loss or, with early stopping, the validation loss or minus the
score; *patience*, `n_iter_no_change`, the epochs without an improvement that end it.
"""

from dataclasses import dataclass, field, fields, replace
from math import inf, isfinite
from time import perf_counter

import numpy as np

from ._core import backprop
from ._plan import default_step_size
from ._update_rules import schedule

# The step size at which the adaptive schedule gives up (as in MLPClassifier).
SMALLEST_ADAPTIVE_STEP = 1e-6

# The average of a stream has about a ninth of the calls in view.
AVERAGED_CALLS = 9


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
        """Count consecutive epochs that do not beat the reference by more than `tol`.

        The reference moves only when beaten, so that many small gains count as much as
        one large one.
        """
        if criterion < self.criterion_to_beat - (tol or 0):
            self.criterion_to_beat, self.n_no_improvement = criterion, 0
        else:
            self.n_no_improvement += 1


@dataclass
class State:
    """All that changes during training, and that a later call continues from.

    `Descent` and `minimize` change it in place; `copy` first.
    """

    theta: np.ndarray
    given: bool = False  # whether theta was set by the user
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
    best_theta: np.ndarray | None = None
    average: np.ndarray | None = None  # of theta over the calls of an averaged stream
    n_averaged: int = 0
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
        """The state of a pickle, whose arrays may lie in memory of any kind.

        The core reads aligned, contiguous arrays in the machine's byte order; what is
        not is copied. Arrays that are read-only, such as joblib's memory maps, stay
        where they are: training works on a `copy`.
        """
        arrays = {
            name: np.require(value, value.dtype.newbyteorder("="), "CAE")
            for name, value in values.items()
            if isinstance(value, np.ndarray)
        }
        stopping = StoppingRule(**values["stopping"])
        return cls(**values | arrays | {"stopping": stopping})

    @property
    def best_or_last_theta(self):
        """The parameters to predict with: the best or the average, or theta."""
        if self.best_theta is not None:
            return self.best_theta
        return self.theta if self.average is None else self.average

    def average_in(self):
        """Move the average of a stream towards theta, after k calls before this one:

            average = average + 9 / (k + 9) (theta - average)

        The steps of a stream do not fall to 0, and theta is noisy; the average of the
        last calls, a growing number of them, is not (Shamir & Zhang, ICML 2013).
        """
        if self.average is None:
            self.average, self.n_averaged = self.theta.copy(), 0
        else:
            k = self.n_averaged + AVERAGED_CALLS
            self.average += AVERAGED_CALLS / k * (self.theta - self.average)
        self.n_averaged += 1

    def end_averaging(self):
        """Continue from the average of a stream, if there is one, with momentum 0."""
        if self.average is not None:
            self.theta, self.average = self.average, None
            self.velocity = self.second_moment = None

    def restarted_at(self, theta):
        """The state of a descent that continues from given parameters."""
        return replace(
            self,
            theta=theta,
            given=True,
            best_theta=None,
            average=None,
            velocity=None,
            second_moment=None,
            stopping=StoppingRule(),
        )

    def cut_curves(self, n_iter):
        """Take back what an epoch that does not count has added to them."""
        for curve in (self.loss_curve, self.updates_curve, self.seconds_curve):
            del curve[n_iter:]

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


class Minimizer:
    """Makes the objective smaller, epoch by epoch; see `Descent` and `QuasiNewton`.

    The objective, with weights w_i that average 1 and the loss l_i of row i, is

        J(theta) = 1 / n sum_i w_i l_i + alpha / 2 sum_l ||W_l||^2

    Parameters
    ----------
    network : Network
        The attribute `network` also knows how the first rows are standardised.
    state : State
        Changed in place.
    rows : LocalRows or DaskRows
        With their targets set.
    alpha : float
    """

    last_eta: float | None = None  # the step size used last, where there is one

    def __init__(self, network, state, rows, alpha):
        self.network, self.state, self.rows, self.alpha = network, state, rows, alpha
        if state.squared_norm is None:  # the first rows with a weight
            moments = rows.moments() if network.standardize else None
            if moments is None:
                state.squared_norm = float(rows.mean_squared_norm())
            else:
                self.network, state.squared_norm = network.standardized(
                    moments, state.theta.dtype
                )
            if state.t == 0 and not state.given:
                network.fit_start(state.theta, state.squared_norm)

    def run(self, begin, end):
        """Call `begin`, make an epoch, call `end`, until that returns a reason."""
        raise NotImplementedError

    def diverged(self, infinite):
        """The text of the error when something is no longer finite."""
        raise NotImplementedError

    def unfinished(self, stop_reason, plan):
        """What a warning says if it ended before `tol` was reached; "" if not."""
        raise NotImplementedError

    def squared_norms(self, theta):
        """sum_l ||W_l||^2, and the same with sum_l ||b_l||^2."""
        return backprop.squared_weight_norms(self.network.layout, theta)

    def objective(self, rows):
        """J(theta) with the loss of these rows alone, their weights as they are."""
        penalty, _ = self.squared_norms(self.state.theta)
        loss = rows.mean_loss(self.network, self.state.theta)
        return loss + self.alpha / 2 * penalty

    def record(self, loss, n_updates, n_done, seconds):
        """Add an epoch to the curves, in which `n_done` rows were visited."""
        state = self.state
        if len(state.loss_curve) > state.n_iter:
            # A copy of the estimator, which shares the curves, has gone on by itself.
            for name in ("loss_curve", "updates_curve", "seconds_curve"):
                setattr(state, name, getattr(state, name)[: state.n_iter])
        try:
            state.loss_curve.append(loss)
            _append_sum(state.updates_curve, n_updates)
            _append_sum(state.seconds_curve, seconds)
            state.t += n_done
            state.n_steps += n_updates
            state.best_loss = min(state.best_loss, loss)
            state.n_iter += 1
        except BaseException:  # no memory, Ctrl-C
            state.cut_curves(state.n_iter)
            raise


class Descent(Minimizer):
    """Gradient descent in batches.

    Parameters
    ----------
    network, state, rows
        As for `Minimizer`.
    rule : UpdateRule
        Its `eta` is a number or "auto".
    plan : Plan
    power_t : float
    shuffle : bool
    """

    def __init__(self, network, state, rows, rule, plan, power_t=0.5, shuffle=True):
        super().__init__(network, state, rows, rule.alpha)
        network = self.network
        self.batch_size = plan.batch_size
        self.factor = schedule(
            plan.schedule, power_t=power_t, max_iter=plan.max_iter, start=plan.start
        )
        eta = rule.eta
        if eta == "auto":
            eta = default_step_size(network, state.squared_norm, plan, rule)
        self.rule = rule = rule._replace(eta=float(eta))
        if rule.needs_second_moment != (state.second_moment is not None):
            # Another solver starts afresh.
            state.velocity, state.second_moment, state.n_steps = None, None, 0
            if rule.needs_second_moment:
                state.second_moment = np.zeros_like(state.theta)
        if not rule.needs_velocity:
            state.velocity = None
        elif state.velocity is None:
            state.velocity = np.zeros_like(state.theta)
        n_epochs = plan.max_iter - state.n_iter
        rows.prepare(network, state, rule, self.batch_size, shuffle, n_epochs)
        self.squared_norm, _ = self.squared_norms(self.state.theta)

    @property
    def eta(self):
        """The step size of the next epoch."""
        return self.rule.eta * self.factor(self.state)

    def run(self, begin, end):
        reason = None
        while reason is None:
            begin()
            self.epoch()
            reason = end()
        return reason

    def epoch(self):
        """Pass over all rows once and record the objective.

        The loss of each row is taken just before the step that it is part of, the
        penalty at the start of the epoch: with the whole batch this is J(theta) before
        the step.

        A KeyboardInterrupt ends the epoch early: the steps made so far are recorded as
        an epoch over the rows they used, and the interrupt is raised again.
        """
        start = perf_counter()
        state = self.state
        self.last_eta = self.eta
        rule = self.rule._replace(eta=self.last_eta)
        progress = np.zeros(2)  # sum of the losses, number of the rows used
        shuffle_state = state.shuffle_state
        try:
            self.rows.run_epoch(state, rule, progress)
        except KeyboardInterrupt:
            if progress[1] == 0:
                state.shuffle_state = shuffle_state  # as if it had not begun
            else:
                self._record(*progress, start)
            raise
        if progress[1] < self.rows.n_samples:
            progress[0] = inf  # a loss that is not finite made it stop
        self._record(*progress, start)

    def _record(self, total, n_done, start):
        """Add an epoch over `n_done` rows to the curves, or say that it diverged."""
        n_done = int(n_done)
        loss = float(total) / max(n_done, 1) + self.alpha / 2 * self.squared_norm
        # theta changed last: its norm tells whether the next loss would be finite.
        self.squared_norm, norm = self.squared_norms(self.state.theta)
        infinite = self._what_is_infinite(loss, norm)
        if infinite is not None:
            raise ValueError(self.diverged(infinite))
        n_updates = -(-n_done // self.batch_size)
        self.record(loss, n_updates, n_done, perf_counter() - start)

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

    def diverged(self, infinite):
        eta = self.rule.eta  # what the user can set, not its product with the schedule
        step_size = eta if self.last_eta is None else self.last_eta
        by_schedule = "" if step_size == eta else f" (step size {step_size:g})"
        message = (
            f"{infinite} no longer finite in epoch {self.state.n_iter + 1} with "
            f"learning_rate={eta:g}{by_schedule} and alpha={self.alpha:g}: the descent "
            "has diverged. Try a smaller learning_rate."
        )
        if step_size * self.alpha > 1:
            message += (
                " A smaller alpha would help too: a step multiplies the weights by "
                f"1 - step size * alpha = {1 - step_size * self.alpha:g}, which should "
                "lie between 0 and 1."
            )
        return message + self.rows.sample().scaling_advice(self.network)

    def unfinished(self, stop_reason, plan):
        if stop_reason != "max_iter" or plan.schedule == "cosine":
            return ""  # whose step falls to 0, as planned
        return (
            f"max_iter={plan.max_iter} epochs ended before the loss stopped improving "
            f"(by more than tol={plan.tol:g} in n_iter_no_change="
            f"{plan.n_iter_no_change} epochs). Increase max_iter, or pass tol=None to "
            "train for exactly max_iter epochs."
        )


def _append_sum(sums, value):
    """Append the next running sum."""
    sums.append(sums[-1] + value if sums else value)


def minimize(
    minimizer,
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
    minimizer : Descent or QuasiNewton
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
    state = minimizer.state
    stopping = state.stopping

    def reason_to_stop():
        if tol is not None and stopping.n_no_improvement >= n_iter_no_change:
            if not adaptive or minimizer.eta <= SMALLEST_ADAPTIVE_STEP:
                return "early_stopping" if early_stopping else "converged"
            stopping.n_rate_cuts += 1
            stopping.n_no_improvement = 0
        return "max_iter" if state.n_iter >= max_iter else None

    def before_epoch():
        if progress is not None:
            progress.before_epoch()

    def after_epoch():
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
        return reason_to_stop()

    return reason_to_stop() or minimizer.run(before_epoch, after_epoch)
