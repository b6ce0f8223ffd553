"""The parameters of a gradient step, and the schedules of the step size."""

from math import inf
from numbers import Real
from typing import NamedTuple

import numpy as np

SOLVERS = ("sgd", "adam", "lbfgs")
SCHEDULES = ("constant", "invscaling", "adaptive", "cosine")

# After this many rows the step size of the schedule "averaged" is divided by sqrt(2).
AVERAGED_DECAY_ROWS = 1000


class UpdateRule(NamedTuple):
    """The parameters of a step. The equations are in `_core/_numpy.py`."""

    eta: float
    alpha: float = 0.0
    solver: str = "sgd"
    momentum: float = 0.0  # for "sgd"
    nesterov: bool = False  # for "sgd"
    beta_1: float = 0.9  # for "adam"
    beta_2: float = 0.999  # for "adam"
    epsilon: float = 1e-8  # for "adam"
    max_gradient_norm: float = 0.0  # 0: no limit

    @property
    def needs_second_moment(self):
        return self.solver == "adam"

    @property
    def needs_velocity(self):
        return self.solver == "adam" or self.momentum > 0


def schedule_factor(schedule, *, power_t, max_iter, first_epoch=0):
    """Return a function of the state: the factor that multiplies the step size.

    In epoch k, counted from 0, after t rows and c cuts by "adaptive", the factor is

    - "constant": 1
    - "invscaling": 1 / (t + 1)^power_t
    - "adaptive": 1 / 5^c
    - "cosine": (1 + cos(pi (k - first_epoch) / (max_iter - first_epoch))) / 2, and 0
      after `max_iter` epochs
    - "averaged": 1 / sqrt(1 + t / 1000), used with `State.update_average`
    - callable: schedule(k)
    """
    if callable(schedule):
        return lambda state: _checked_factor(schedule(state.n_iter), state)
    n_epochs = max(1, max_iter - first_epoch)
    return {
        "constant": lambda state: 1.0,
        "invscaling": lambda state: _inverse_power(state.t + 1, float(power_t)),
        "averaged": lambda state: (1 + state.t / AVERAGED_DECAY_ROWS) ** -0.5,
        "adaptive": lambda state: 0.2**state.stopping.n_rate_cuts,
        "cosine": lambda state: float(
            (1 + np.cos(np.pi * min((state.n_iter - first_epoch) / n_epochs, 1))) / 2
        ),
    }[schedule]


def _inverse_power(base, exponent):
    try:
        return 1 / base**exponent
    except OverflowError:
        return 0.0


def _checked_factor(factor, state):
    if not isinstance(factor, Real) or not 0 <= factor < inf:
        raise ValueError(
            f"Got {factor!r} from learning_rate_schedule for epoch {state.n_iter}; it "
            "must be a finite number, 0 or larger."
        )
    return float(factor)
