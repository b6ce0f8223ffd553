"""What each parameter may be: one table, and its check; what other names it has."""

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import update_wrapper, wraps
from numbers import Integral, Real
from types import MethodType
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from ._network import ACTIVATIONS, OUTPUT_ACTIVATIONS
from ._update_rules import SCHEDULES, SOLVERS

# Types of parameters and arguments. Signatures have their names, as strings: what they
# stand for would fill pages in `help`.

Activation: TypeAlias = Literal["logistic", "tanh", "relu", "identity"]
Auto: TypeAlias = Literal["auto"]
BatchSize: TypeAlias = int | Literal["full", "auto"]
ClassWeight: TypeAlias = dict[Any, float] | Literal["balanced"] | None
LayerSizes: TypeAlias = int | Sequence[int] | NDArray[np.integer]
OutputActivation: TypeAlias = Literal["auto", "logistic", "softmax"]
RandomState: TypeAlias = int | np.random.RandomState | None
Schedule: TypeAlias = (
    Literal["auto", "constant", "invscaling", "adaptive", "cosine"]
    | Callable[[int], float]
)
Scoring: TypeAlias = str | Callable[..., float] | None
Solver: TypeAlias = Literal["sgd", "adam", "lbfgs"]


class SparseRows(Protocol):
    """What scipy's sparse arrays and matrices have in common, whatever their type."""

    def tocsr(self, copy: bool = False) -> Any: ...


Rows: TypeAlias = ArrayLike | SparseRows


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


def is_bool(value):
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
FLAG = is_bool, "True or False"

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
        either(AUTO, lambda value: value is None or is_not_negative(value)),
        "a finite number, 0 or larger, 'auto' or None",
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
        lambda value: is_bool(value) or is_number(value, Integral) and value >= 0,
        "0, 1 or 2",
    ),
    "n_jobs": (
        lambda value: value is None or is_number(value, Integral) and value != 0,
        "an int other than 0 or None",
    ),
}


# What other packages call a value.
VALUE_ALIASES = {"sigmoid": "logistic", "linear": "identity"}


def check_parameters(clf):
    """Raise a ValueError with the rule and the value for the first bad parameter."""
    for name, (is_valid, rule) in RULES.items():
        value = getattr(clf, name)
        if is_valid(value):
            continue
        if isinstance(value, str):
            word = VALUE_ALIASES.get(value)
            if name == "learning_rate" and value in SCHEDULES:
                rule += f"; for a schedule set learning_rate_schedule={value!r}"
            elif word is not None and is_valid(word):
                rule += f"; {value!r} is called {word!r} here"
        raise ValueError(f"Got {name}={value!r}; it must be {rule}.")


# Names of parameters -----------------------------------------------------------------

# What MLPClassifier and SGDClassifier call a parameter.
NAME_ALIASES = {
    "learning_rate_init": "learning_rate",
    "eta0": "learning_rate",
    "nesterovs_momentum": "nesterov",
    "max_fun": "max_iter",
}

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _unknown_name_hint(given, known):
    """What the first unknown one of the given names may stand for; "" if nothing."""
    for name in given:
        if name in known:
            continue
        if name in NAME_ALIASES:
            return f" {name!r} is called {NAME_ALIASES[name]!r} here."
        close = get_close_matches(name, known, n=1)
        return f" Did you mean {close[0]!r}?" if close else ""
    return ""


def explain_unknown_parameters(init: _Method) -> _Method:
    """An `__init__` whose error for an unknown parameter says what it may stand for."""
    known = [*inspect.signature(init).parameters]

    @wraps(init)
    def wrapped(self, *args, **params):
        hint = _unknown_name_hint(params, known)
        if hint:
            name = next(name for name in params if name not in known)
            raise TypeError(
                f"{type(self).__name__}.__init__() got an unexpected keyword argument "
                f"{name!r}.{hint}"
            )
        init(self, *args, **params)

    return cast(_Method, wrapped)


class BaseEstimatorWithHints(BaseEstimator):
    """An estimator whose `set_params` says what an unknown name may stand for."""

    def set_params(self, **params: Any) -> Self:
        try:
            return super().set_params(**params)
        except ValueError as error:
            given = [name.partition("__")[0] for name in params]
            hint = _unknown_name_hint(given, [*self.get_params(deep=False)])
            raise ValueError(f"{error}{hint}") from None

    set_params.__doc__ = BaseEstimator.set_params.__doc__


# Methods that some solvers have ------------------------------------------------------


class _UnavailableWithLBFGS:
    """A method that is not there with ``solver="lbfgs"``.

    As scikit-learn's `available_if`, but the last error names the cure.
    """

    def __init__(self, method):
        self.method = method
        update_wrapper(self, method)

    def __get__(self, clf, owner=None):
        if clf is None:
            return self.method
        if getattr(clf, "solver", None) == "lbfgs":
            raise AttributeError(
                f"{type(clf).__name__} has no {self.method.__name__} with "
                "solver='lbfgs', which needs all rows in each iteration. Use "
                "solver='sgd' or 'adam', or fit with warm_start=True."
            )
        return MethodType(self.method, clf)


def unavailable_with_lbfgs(method: _Method) -> _Method:
    """The method, which is not there with ``solver="lbfgs"``."""
    return cast(_Method, _UnavailableWithLBFGS(method))
