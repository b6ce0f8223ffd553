"""The rule of a step, and how its size changes from epoch to epoch."""

from math import inf
from numbers import Real
from typing import NamedTuple

import numpy as np

SOLVERS = ("sgd", "adam", "lbfgs")
# Rows after which the step of an averaged stream begins to fall.
STREAM_ROWS = 1000

SCHEDULES = ("constant", "invscaling", "adaptive", "cosine")


class UpdateRule(NamedTuple):
    """The parameters of a step, whose equations are in `_core/update-inl.hpp`."""

    eta: float
    alpha: float = 0.0
    solver: str = "sgd"
    momentum: float = 0.0  # of "sgd"
    nesterov: bool = False
    beta_1: float = 0.9  # of "adam", as the rest
    beta_2: float = 0.999
    epsilon: float = 1e-8
    max_gradient_norm: float = 0.0  # 0: no limit

    @property
    def needs_second_moment(self):
        return self.solver == "adam"

    @property
    def needs_velocity(self):
        return self.solver == "adam" or self.momentum > 0


def schedule(rule, *, power_t, max_iter, start=0):
    """The factor of the step size as a function of the state.

    In epoch k, counted from 0, after t rows and c cuts:

    - "constant": 1
    - "invscaling": 1 / (t + 1)^power_t
    - "adaptive": 1 / 5^c
    - "cosine": (1 + cos(pi (k - start) / (max_iter - start))) / 2, and 0 after
      `max_iter` epochs
    - "averaged": 1 / sqrt(1 + t / 1000), for streams whose parameters are averaged
    - callable: rule(k)
    """
    if callable(rule):
        return lambda state: _checked_factor(rule(state.n_iter), state)
    n_epochs = max(1, max_iter - start)
    return {
        "constant": lambda state: 1.0,
        "invscaling": lambda state: _inverse_power(state.t + 1, float(power_t)),
        "averaged": lambda state: (1 + state.t / STREAM_ROWS) ** -0.5,
        "adaptive": lambda state: 0.2**state.stopping.n_rate_cuts,
        "cosine": lambda state: float(
            (1 + np.cos(np.pi * min((state.n_iter - start) / n_epochs, 1))) / 2
        ),
    }[rule]


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
