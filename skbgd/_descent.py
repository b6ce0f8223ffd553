"""Gradient descent over epochs: the training state, the objective, the stopping rule.

Terms: an *epoch* is one pass over the rows. The *criterion* is evaluated after each
epoch: the training loss or, with early stopping, the validation loss or minus the
score. *Patience* (the parameter `n_iter_no_change`) is the number of epochs without an
improvement after which training stops.
"""

from dataclasses import dataclass, field, fields, replace
from math import inf, isfinite
from time import perf_counter

import numpy as np

from ._objective import Objective
from ._settings import default_step_size
from ._update_rules import schedule_factor

# The step size at which the adaptive schedule stops, as in MLPClassifier.
MIN_ADAPTIVE_STEP_SIZE = 1e-6

# The average over k calls of a stream weights mainly the last k / 5 of them.
AVERAGING_ORDER = 5


@dataclass
class StoppingRule:
    """Patience counter; a new one replaces it when `key` (rows, parameters) changes."""

    key: tuple = ()
    first_epoch: int = 0  # counted from 0
    initial_loss: float | None = None  # objective on a sample of the rows
    criterion_to_beat: float = inf
    n_no_improvement: int = 0  # consecutive epochs
    n_rate_cuts: int = 0  # by the adaptive schedule
    best_criterion: float = inf

    def update(self, criterion, tol):
        """Count consecutive epochs that do not beat the reference by more than `tol`.

        The reference changes only when it is beaten, so small gains add up.
        """
        if criterion < self.criterion_to_beat - (tol or 0):
            self.criterion_to_beat, self.n_no_improvement = criterion, 0
        else:
            self.n_no_improvement += 1


@dataclass
class State:
    """The training state, from which a later call resumes.

    `Descent` and `minimize` change it in place: pass them a `copy`.
    """

    theta: np.ndarray
    theta_set_by_user: bool = False
    shuffle_state: int = 0
    split_seed: int = 0  # of the validation split
    mean_squared_row_norm: float | None = None  # of the rows that scale W_1
    stream_moments: np.ndarray | None = None  # `Moments`, until enough rows
    velocity: np.ndarray | None = None  # momentum, or the first moment of Adam
    second_moment: np.ndarray | None = None  # Adam
    n_steps: int = 0
    n_iter: int = 0  # epochs
    t: int = 0  # rows visited
    loss_curve: list = field(default_factory=list)
    updates_curve: list = field(default_factory=list)
    seconds_curve: list = field(default_factory=list)
    best_loss: float = inf
    validation_loss_curve: list = field(default_factory=list)
    validation_scores: list = field(default_factory=list)
    best_theta: np.ndarray | None = None
    average: np.ndarray | None = None  # of theta over calls of partial_fit
    n_averaged: int = 0  # calls
    stopping: StoppingRule = field(default_factory=StoppingRule)

    def copy(self, curves=True):
        """Copy the arrays and, unless `curves` is False, the lists."""
        kinds = (np.ndarray, list) if curves else np.ndarray
        changed = {
            name: value.copy()
            for name, value in vars(self).items()
            if isinstance(value, kinds)
        }
        return replace(self, **changed, stopping=replace(self.stopping))

    def to_dict(self):
        """Return arrays and plain Python values, the input of `from_dict`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {"stopping": vars(self.stopping).copy()}

    @classmethod
    def from_dict(cls, values):
        """Create a state from the values in a pickle.

        The core needs aligned, contiguous arrays in native byte order. Other arrays are
        copied. Read-only arrays, such as the memory maps of joblib, are kept: training
        works on a `copy`.
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
        """The parameters for predictions: the best ones, the average, or theta."""
        if self.best_theta is not None:
            return self.best_theta
        return self.theta if self.average is None else self.average

    def update_average(self):
        """Add theta to the average over the calls of `partial_fit`.

            average = average + 5 / (k + 5) (theta - average)        k earlier calls

        The step size of a stream does not decay to 0, so theta is noisy. Averaging the
        last calls, a growing number of them, removes the noise ("polynomial-decay
        averaging", Shamir & Zhang, ICML 2013).
        """
        if self.average is None:
            self.average, self.n_averaged = self.theta.copy(), 0
        else:
            k = self.n_averaged
            weight = AVERAGING_ORDER / (k + AVERAGING_ORDER)
            self.average += weight * (self.theta - self.average)
        self.n_averaged += 1

    def continue_from_average(self):
        """Replace theta by the average, if there is one, and reset the momentum."""
        if self.average is not None:
            self.theta, self.average = self.average, None
            self.velocity = self.second_moment = None

    def restarted_from(self, theta):
        """Return a state that resumes from parameters set by the user."""
        return replace(
            self,
            theta=theta,
            theta_set_by_user=True,
            stream_moments=None,
            best_theta=None,
            average=None,
            velocity=None,
            second_moment=None,
            stopping=StoppingRule(),
        )

    def truncate_curves(self, n_iter):
        """Remove the entries of an incomplete epoch."""
        for curve in (self.loss_curve, self.updates_curve, self.seconds_curve):
            del curve[n_iter:]

    def restart_from_best(self, key=None):
        """Resume from the best parameters with a new stopping rule.

        With the default ``key=None`` the key, the first epoch and the cuts of the
        adaptive schedule are kept. If there are best parameters, the momentum is reset.
        """
        if self.best_theta is not None:
            self.theta, self.best_theta = self.best_theta, None
            self.velocity = self.second_moment = None
        before = self.stopping
        if key is None:
            self.stopping = StoppingRule(
                before.key, before.first_epoch, n_rate_cuts=before.n_rate_cuts
            )
        else:
            self.stopping = StoppingRule(key, first_epoch=self.n_iter)


class Minimizer:
    """Base class of `Descent` and `QuasiNewton`: minimizes the `Objective` in epochs.

    Parameters
    ----------
    network : Network
    state : State
        Changed in place.
    data : Dataset or DaskRows
    alpha : float

    Attributes
    ----------
    trainer : LocalTrainer or DaskTrainer
        A context manager, to be entered before `run`.
    """

    last_eta: float | None = None  # step size of the last epoch; None for L-BFGS

    def __init__(self, network, state, data, alpha):
        self.network, self.state, self.data = network, state, data
        self.objective = Objective(network, alpha)

    def run(self, before_epoch, after_epoch):
        """Run epochs until `after_epoch` returns a reason to stop, and return it.

        The loop is here and not in `minimize`, since SciPy owns the one of L-BFGS.
        """
        raise NotImplementedError

    def divergence_message(self, quantity):
        """The message of the error if a quantity, such as "The loss", is not finite."""
        raise NotImplementedError

    def unconverged_message(self, stop_reason, settings):
        """The message of a warning if `tol` was not reached, otherwise ""."""
        raise NotImplementedError

    def record_epoch(self, loss, n_updates, n_done, seconds):
        """Append an epoch that visited `n_done` rows to the curves."""
        state = self.state
        if len(state.loss_curve) > state.n_iter:
            # Another call, at the same time or failed, has appended to the same lists.
            for name in ("loss_curve", "updates_curve", "seconds_curve"):
                setattr(state, name, getattr(state, name)[: state.n_iter])
        try:
            state.loss_curve.append(loss)
            _append_cumulative(state.updates_curve, n_updates)
            _append_cumulative(state.seconds_curve, seconds)
            state.t += n_done
            state.n_steps += n_updates
            state.best_loss = min(state.best_loss, loss)
            state.n_iter += 1
        except BaseException:  # MemoryError, KeyboardInterrupt
            state.truncate_curves(state.n_iter)
            raise


class Descent(Minimizer):
    """Full-batch, mini-batch or stochastic gradient descent.

    Parameters
    ----------
    network, state, data
        As for `Minimizer`.
    update_rule : UpdateRule
        Its `eta` is a number or "auto".
    settings : Settings
    power_t : float
    shuffle : bool
    """

    def __init__(
        self, network, state, data, update_rule, settings, power_t=0.5, shuffle=True
    ):
        super().__init__(network, state, data, update_rule.alpha)
        self.batch_size = settings.batch_size
        self.factor = schedule_factor(
            settings.schedule,
            power_t=power_t,
            max_iter=settings.max_iter,
            first_epoch=settings.first_epoch,
        )
        self.settings, self.update_rule = settings, update_rule
        eta = update_rule.eta
        if eta == "auto":
            eta = self.default_eta()
        self.update_rule = update_rule = update_rule._replace(eta=float(eta))
        if update_rule.needs_second_moment != (state.second_moment is not None):
            # The solver has changed: its moments start at 0.
            state.velocity, state.second_moment, state.n_steps = None, None, 0
            if update_rule.needs_second_moment:
                state.second_moment = np.zeros_like(state.theta)
        if not update_rule.needs_velocity:
            state.velocity = None
        elif state.velocity is None:
            state.velocity = np.zeros_like(state.theta)
        self.trainer = data.trainer(
            network,
            state.theta,
            velocity=state.velocity,
            second_moment=state.second_moment,
            batch_size=self.batch_size,
            shuffle=shuffle,
            n_epochs=1 if settings.streaming else settings.max_iter - state.n_iter,
        )
        self.penalty, _ = self.objective.penalty_and_norm(state.theta)

    def default_eta(self):
        """The initial step size of ``learning_rate="auto"``."""
        norm = self.state.mean_squared_row_norm
        return default_step_size(self.network, norm, self.settings, self.update_rule)

    @property
    def eta(self):
        """The step size of the next epoch."""
        return self.update_rule.eta * self.factor(self.state)

    def run(self, before_epoch, after_epoch):
        reason = None
        while reason is None:
            before_epoch()
            self.epoch()
            reason = after_epoch()
        return reason

    def epoch(self):
        """Pass over all rows once and record the objective.

        The loss of each row is computed just before the step that uses it, the penalty
        at the start of the epoch. With the full batch the recorded value is J(theta)
        before the step.

        A KeyboardInterrupt ends the epoch early. The steps already made are recorded as
        an epoch over the rows that they used, and the exception propagates.
        """
        start = perf_counter()
        state = self.state
        self.last_eta = self.eta
        update_rule = self.update_rule._replace(eta=self.last_eta)
        shuffle_state = state.shuffle_state
        self.trainer.reset()
        try:
            self.trainer.epoch(state, update_rule)
        except KeyboardInterrupt:
            if self.trainer.n_done == 0:
                state.shuffle_state = shuffle_state  # as before the epoch
            else:
                self._finish_epoch(self.trainer.loss_sum, start)
            raise
        # It stops early at a loss that is not finite.
        complete = self.trainer.n_done == self.data.n_samples
        self._finish_epoch(self.trainer.loss_sum if complete else inf, start)

    def _finish_epoch(self, total, start):
        """Append the epoch to the curves; ValueError if it has diverged."""
        n_done = int(self.trainer.n_done)
        loss = float(total) / max(n_done, 1) + self.penalty
        # The norm shows whether the parameters after the last step are finite.
        self.penalty, norm = self.objective.penalty_and_norm(self.state.theta)
        quantity = self._non_finite_quantity(loss, norm)
        if quantity is not None:
            raise ValueError(self.divergence_message(quantity))
        n_updates = -(-n_done // self.batch_size)
        self.record_epoch(loss, n_updates, n_done, perf_counter() - start)

    def _non_finite_quantity(self, loss, norm):
        largest = float(np.finfo(self.state.theta.dtype).max)
        second_moment = self.state.second_moment
        if not isfinite(loss):
            return "The loss"
        if not norm <= largest:
            return "The norm of the parameters"
        if second_moment is not None and not second_moment.max() <= largest:
            return "The square of the gradient"  # its steps would be 0
        return None

    def divergence_message(self, quantity):
        # The schedule changes the step size; the user can set eta.
        eta, alpha = self.update_rule.eta, self.update_rule.alpha
        step_size = eta if self.last_eta is None else self.last_eta
        by_schedule = "" if step_size == eta else f" (step size {step_size:g})"
        message = (
            f"{quantity} is no longer finite in epoch {self.state.n_iter + 1} with "
            f"learning_rate={eta:g}{by_schedule} and alpha={alpha:g}: the descent "
            "has diverged. Try a smaller learning_rate."
        )
        if step_size * alpha > 1:
            message += (
                " A smaller alpha would help too: each step multiplies the weights by "
                f"1 - step size * alpha = {1 - step_size * alpha:g}, which should "
                "be between 0 and 1."
            )
        return message + self.data.sample().scaling_advice(self.network)

    def unconverged_message(self, stop_reason, settings):
        if stop_reason != "max_iter" or settings.schedule == "cosine":
            return ""  # a cosine schedule is meant to end at max_iter
        return (
            f"max_iter={settings.max_iter} epochs were reached before convergence (no "
            f"improvement by more than tol={settings.tol:g} in n_iter_no_change="
            f"{settings.n_iter_no_change} epochs). Increase max_iter, or pass tol=None "
            "to train for exactly max_iter epochs."
        )


def _append_cumulative(sums, value):
    """Append a value to a list of cumulative sums."""
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
    """Run epochs until a stopping condition is met.

    The criterion is the training loss or, with `early_stopping`, the value of
    `validate`. Training converges when the criterion does not improve by more than
    `tol` for `n_iter_no_change` consecutive epochs, see `StoppingRule`.

    Parameters
    ----------
    minimizer : Descent or QuasiNewton
        Its state is changed in place.
    max_iter : int
        Maximum number of epochs, including those of earlier calls.
    tol : float or None
        None: the criterion is not used.
    n_iter_no_change : int
    adaptive : bool
        Whether to divide the step size when the criterion stops improving, and to stop
        only when the step size is tiny.
    validate : callable or None
        Called after each epoch. Returns a number, lower is better.
    early_stopping : bool
        Whether to use `validate` as the criterion, and to keep the best parameters.
    progress : object or None
        Its `before_epoch` is called before each epoch, its `after_epoch` last after
        each epoch. If `after_epoch` returns True, training stops.

    Returns
    -------
    stop_reason : {"converged", "early_stopping", "max_iter", "callback"}
    """
    state = minimizer.state
    stopping = state.stopping

    def reason_to_stop():
        if tol is not None and stopping.n_no_improvement >= n_iter_no_change:
            if not adaptive or minimizer.eta <= MIN_ADAPTIVE_STEP_SIZE:
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
                        f"The validation criterion is {criterion} in epoch "
                        f"{state.n_iter}; early_stopping needs a finite value. Check "
                        "scoring, X_val and y_val, or increase validation_fraction."
                    )
        if early_stopping and criterion < stopping.best_criterion:
            stopping.best_criterion = criterion
            state.best_theta = state.theta.copy()
        stopping.update(criterion, tol)
        if progress is not None and progress.after_epoch():
            return "callback"
        return reason_to_stop()

    return reason_to_stop() or minimizer.run(before_epoch, after_epoch)
