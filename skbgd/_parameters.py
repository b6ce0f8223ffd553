"""Parameter validation, hints for unknown names, methods that depend on the solver."""

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

# Types of parameters and arguments. Signatures use their names as strings, as `help`
# would print the expanded types.

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
    """Any sparse array or matrix of SciPy."""

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


def is_layer_sizes(value):
    """Whether a value is a positive int or a sequence of positive ints."""
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
    """The parameter `hidden_layer_sizes` as a tuple of ints."""
    return tuple(int(n) for n in np.ravel(hidden_layer_sizes))


def is_class_weights(value):
    return isinstance(value, dict) and all(map(is_not_negative, value.values()))


def either(words, is_valid):
    """Return a test: a string must be one of the words, another value valid."""

    def is_either(value):
        return value in words if isinstance(value, str) else is_valid(value)

    return is_either


def one_of(words):
    """The constraint that a value is one of the words."""
    return either(words, lambda value: False), "one of " + ", ".join(map(repr, words))


AUTO = ("auto",)
FRACTION = is_fraction, "a number in [0, 1)"
BOOL = is_bool, "True or False"

# The constraint on each parameter: a test of the value, and the rule in words.
CONSTRAINTS = {
    "hidden_layer_sizes": (
        is_layer_sizes,
        "a positive int or a sequence of positive ints, () for no hidden layers",
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
    "momentum": FRACTION,
    "nesterov": BOOL,
    "beta_1": FRACTION,
    "beta_2": FRACTION,
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
    "standardize": BOOL,
    "shuffle": BOOL,
    "early_stopping": BOOL,
    "validation_fraction": (
        lambda value: is_fraction(value) and value > 0,
        "a number in (0, 1)",
    ),
    "scoring": (
        lambda value: value is None or isinstance(value, str) or callable(value),
        "the name of a scorer, a callable or None",
    ),
    "class_weight": (
        either(("balanced",), lambda value: value is None or is_class_weights(value)),
        "a dict {label: weight} (finite, 0 or larger), 'balanced' or None",
    ),
    "warm_start": BOOL,
    "verbose": (
        lambda value: is_bool(value) or is_number(value, Integral) and value >= 0,
        "0, 1 or 2",
    ),
    "n_jobs": (
        lambda value: value is None or is_number(value, Integral) and value != 0,
        "an int other than 0 or None",
    ),
}


# Names of values in other packages.
VALUE_ALIASES = {"sigmoid": "logistic", "linear": "identity"}


def check_parameters(clf):
    """Raise a ValueError for the first invalid parameter."""
    for name, (is_valid, rule) in CONSTRAINTS.items():
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


# Hints for unknown parameter names ---------------------------------------------------

# Names of parameters in MLPClassifier and SGDClassifier.
NAME_ALIASES = {
    "learning_rate_init": "learning_rate",
    "eta0": "learning_rate",
    "nesterovs_momentum": "nesterov",
    "max_fun": "max_iter",
}

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _unknown_name_hint(given, known):
    """A hint on the meaning of the first unknown name, or ""."""
    for name in given:
        if name in known:
            continue
        if name in NAME_ALIASES:
            return f" {name!r} is called {NAME_ALIASES[name]!r} here."
        close = get_close_matches(name, known, n=1)
        return f" Did you mean {close[0]!r}?" if close else ""
    return ""


def explain_unknown_parameters(init: _Method) -> _Method:
    """Decorate `__init__`: its error for an unknown parameter has a hint."""
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
    """A BaseEstimator whose `set_params` has hints for unknown parameters."""

    def set_params(self, **params: Any) -> Self:
        try:
            return super().set_params(**params)
        except ValueError as error:
            given = [name.partition("__")[0] for name in params]
            hint = _unknown_name_hint(given, [*self.get_params(deep=False)])
            raise ValueError(f"{error}{hint}") from None

    set_params.__doc__ = BaseEstimator.set_params.__doc__


# Methods that depend on the solver ---------------------------------------------------


class _UnavailableWithLBFGS:
    """A method that is not available with ``solver="lbfgs"``.

    Like scikit-learn's `available_if`, but the last error in the traceback has the
    cure.
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
                "solver='lbfgs', which needs all samples in each iteration. Use "
                "solver='sgd' or 'adam', or fit with warm_start=True."
            )
        return MethodType(self.method, clf)


def unavailable_with_lbfgs(method: _Method) -> _Method:
    """Make a method unavailable with ``solver="lbfgs"``."""
    return cast(_Method, _UnavailableWithLBFGS(method))
