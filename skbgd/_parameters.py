"""What each parameter may be: one table, and its check."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if

from ._network import ACTIVATIONS, OUTPUT_ACTIVATIONS
from ._update_rules import SCHEDULES, SOLVERS


def is_number(value, kind=Real):
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


def is_positive_int(value):
    return is_number(value, Integral) and value >= 1


def is_positive(value):
    return is_number(value) and 0 < value < np.inf


def is_not_negative(value):
    return is_number(value) and 0 <= value < np.inf


def is_fraction(value):
    return is_number(value) and 0 <= value < 1


def is_flag(value):
    return isinstance(value, (bool, np.bool_))


def is_layers(value):
    """A positive int, or a sequence of them."""
    if is_positive_int(value):
        return True
    if isinstance(value, np.ndarray):
        is_sequence = value.ndim == 1
    else:
        is_sequence = isinstance(value, Sequence) and not isinstance(
            value, (str, bytes)
        )
    return is_sequence and all(map(is_positive_int, value))


def hidden_units(hidden_layer_sizes):
    """The parameter as a tuple of ints; a bare number is one layer."""
    return tuple(int(n) for n in np.ravel(hidden_layer_sizes))


def is_weights(value):
    return isinstance(value, dict) and all(map(is_not_negative, value.values()))


def either(words, is_valid):
    """A value that is one of some words, or else valid."""

    def is_either(value):
        return value in words if isinstance(value, str) else is_valid(value)

    return is_either


def one_of(words):
    """A word, and the rule that names them all."""
    return either(words, lambda value: False), "one of " + ", ".join(map(repr, words))


AUTO = ("auto",)
PROBABILITY = is_fraction, "a number in [0, 1)"
FLAG = is_flag, "True or False"

# For each parameter a test of its value, and the rule in words.
RULES = {
    "hidden_layer_sizes": (
        is_layers,
        "a positive int or a sequence of positive ints, () for a single neuron",
    ),
    "activation": one_of(ACTIVATIONS),
    "output_activation": one_of(("auto", *OUTPUT_ACTIVATIONS)),
    "solver": one_of(SOLVERS),
    "batch_size": (
        either(("full", "auto"), is_positive_int),
        "a positive int, 'full' or 'auto'",
    ),
    "learning_rate": (either(AUTO, is_positive), "a positive, finite number or 'auto'"),
    "learning_rate_schedule": (
        either(("auto", *SCHEDULES), callable),
        f"'auto', {one_of(SCHEDULES)[1]}, or a function of the epoch",
    ),
    "power_t": (is_not_negative, "a finite number, 0 or larger"),
    "momentum": PROBABILITY,
    "nesterov": FLAG,
    "beta_1": PROBABILITY,
    "beta_2": PROBABILITY,
    "epsilon": (is_positive, "a positive, finite number"),
    "max_gradient_norm": (
        lambda value: value is None or is_positive(value),
        "a positive, finite number or None",
    ),
    "alpha": (
        either(AUTO, is_not_negative),
        "a finite number, 0 or larger, or 'auto'",
    ),
    "max_iter": (either(AUTO, is_positive_int), "a positive int or 'auto'"),
    "tol": (
        lambda value: value is None or is_not_negative(value),
        "a finite number, 0 or larger, or None",
    ),
    "n_iter_no_change": (either(AUTO, is_positive_int), "a positive int or 'auto'"),
    "standardize": FLAG,
    "shuffle": FLAG,
    "early_stopping": FLAG,
    "validation_fraction": (
        lambda value: is_fraction(value) and value > 0,
        "a number in (0, 1)",
    ),
    "scoring": (
        lambda value: value is None or isinstance(value, str) or callable(value),
        "the name of a scorer, a callable or None",
    ),
    "class_weight": (
        either(("balanced",), lambda value: value is None or is_weights(value)),
        "a dict of labels and weights (finite, 0 or larger), 'balanced' or None",
    ),
    "warm_start": FLAG,
    "verbose": (
        lambda value: is_flag(value) or is_number(value, Integral) and value >= 0,
        "0, 1 or 2",
    ),
    "n_jobs": (
        lambda value: value is None or is_number(value, Integral) and value != 0,
        "an int other than 0 or None",
    ),
}


def check_parameters(clf):
    """Raise a ValueError with the rule and the value for the first bad parameter."""
    for name, (is_valid, rule) in RULES.items():
        value = getattr(clf, name)
        if is_valid(value):
            continue
        if name == "learning_rate" and isinstance(value, str) and value in SCHEDULES:
            rule += f"; for a schedule set learning_rate_schedule={value!r}"
        raise ValueError(f"Got {name}={value!r}; it must be {rule}.")


def _makes_steps(clf: BaseEstimator) -> bool:
    if getattr(clf, "solver", None) == "lbfgs":
        raise AttributeError(
            "solver='lbfgs' has no partial_fit: it needs all rows in each iteration. "
            "Use solver='sgd' or 'adam', or fit with warm_start=True."
        )
    return True


_Method = TypeVar("_Method", bound=Callable[..., Any])
for_solvers_of_steps: Callable[[_Method], _Method] = available_if(_makes_steps)
