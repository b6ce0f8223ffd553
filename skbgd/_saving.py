"""Conversion of a fitted estimator to arrays and plain Python values, for pickles.

A pickle then refers to no private module, and can be loaded after these have changed.
"""

import re
import reprlib
import warnings
from itertools import pairwise
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import InconsistentVersionWarning

from . import __version__
from ._descent import State
from ._network import ACTIVATIONS, OUTPUT_ACTIVATIONS, Network

# The version of the output of `to_plain`. Increase it with each incompatible change.
FORMAT = 1

# Old and new names of fields of `State` and `StoppingRule` renamed in this format.
RENAMED_FIELDS = {
    "squared_norm": "mean_squared_row_norm",
    "given": "theta_set_by_user",
    "start": "first_epoch",
    "moments": "stream_moments",
}

CURVES = (
    "loss_curve",
    "updates_curve",
    "seconds_curve",
    "validation_loss_curve",
    "validation_scores",
)

# Numbers of epochs, steps and rows must stay below 2^63 in later training.
LARGEST_COUNT = 1 << 62

# Marks the placeholder of a callable.
CALLABLE_MARKER = "callable parameter"

# The first version with the same predictions as this one, to the last bit. Set it to
# the current version if predictions change: loading an older model then warns.
SAME_PREDICTIONS_SINCE = "0.1.0"


class SavedByAnotherVersion(InconsistentVersionWarning):
    """Warning that a model was saved by a version with other predictions."""

    def __str__(self):
        return (
            f"Trying to load {self.estimator_name} from skbgd version "
            f"{self.original_sklearn_version} when using version "
            f"{self.current_sklearn_version}. Its predictions may differ by rounding."
        )


def to_plain(attributes):
    """Convert the attributes of an estimator; the inverse of `from_plain`."""
    attributes = dict(attributes)
    if "_state" in attributes:
        attributes["_network"] = attributes["_network"].to_dict()
        state = attributes["_state"].to_dict()
        stopping = state["stopping"]
        stopping["key"] = _plain_key(stopping["key"], attributes)
        attributes["_state"] = state
    return attributes | {"_format": FORMAT, "_skbgd_version": __version__}


def _release(version):
    """The release of a version such as "0.2.0", "0.2.dev1" or "1.0rc1+local"."""
    numbers = re.match(r"\d+(\.\d+)*", str(version))
    if numbers is None:
        return ()
    return tuple(map(int, re.sub(r"(\.0+)+$", "", numbers[0]).split(".")))


def _predicts_identically(version):
    """Whether a model saved by the given version is known to predict the same here."""
    # Changes in later versions are not known.
    return (
        _release(SAME_PREDICTIONS_SINCE) <= _release(version) <= _release(__version__)
    )


def from_plain(attributes, name):
    """Restore the attributes of an estimator with the given class name."""
    attributes = dict(attributes)
    number = attributes.pop("_format", None)
    version = attributes.pop("_skbgd_version", None)
    if number != FORMAT:
        raise ValueError(
            f"This {name} was saved by skbgd {version} in format {number}; skbgd "
            f"{__version__} reads format {FORMAT}. Load it with the version that saved "
            "it."
        )
    if not _predicts_identically(version):
        warnings.warn(
            SavedByAnotherVersion(
                estimator_name=name,
                current_sklearn_version=__version__,
                original_sklearn_version=version,
            ),
            stacklevel=3,
        )
    attributes.setdefault("standardize", False)  # older versions did not standardize
    if "_state" in attributes:
        try:
            _restore_training(attributes)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"This {name} is damaged: {error} Load another copy of it, or fit a "
                "new one."
            ) from error
    return attributes


def _restore_training(attributes):
    """Replace the plain network and state in the dict of attributes, and check them."""
    attributes["_network"] = Network(**attributes["_network"])
    state = _with_new_names(attributes["_state"])
    state["stopping"] = _with_new_names(state["stopping"])
    state = State.from_dict(state)
    state.stopping.key = _key_from_plain(state.stopping.key, attributes)
    attributes["_state"] = state
    _check(attributes)
    # Training appends to these lists, and `copy.copy` passes those of the original.
    for name in CURVES:
        values = getattr(state, name)[: state.n_iter]
        setattr(state, name, values)
        attributes[f"{name}_"] = values


def _with_new_names(fields):
    return {RENAMED_FIELDS.get(name, name): value for name, value in fields.items()}


def _plain_key(key, parameters):
    """Replace the callables in the key of a stopping rule by their parameter names.

    The name of a callable that is no longer a parameter is None.
    """

    def plain(value):
        if not callable(value):
            return value
        names = [name for name, now in parameters.items() if now is value]
        return CALLABLE_MARKER, names[0] if names else None

    return tuple(map(plain, key))


def _key_from_plain(key, parameters):
    """The inverse of `_plain_key`, given the parameters saved with the key."""

    def restored(value):
        if isinstance(value, tuple) and value[:1] == (CALLABLE_MARKER,):
            return parameters.get(value[1], value)
        return value

    return tuple(map(restored, key))


# Checks ------------------------------------------------------------------------------


def _check(attributes):
    """Raise a ValueError if a value is invalid: the file may be damaged.

    The core relies on these values as on checked arguments.
    """
    for name, value, is_valid, rule in _checks(attributes):
        if not is_valid:
            got = " ".join(reprlib.repr(value).split())  # in one line
            raise ValueError(f"{name} must be {rule}; got {got}.")


def _checks(attributes):
    """Yield the name of a value, the value, whether it is valid, and the rule.

    Later checks rely on the earlier ones.
    """
    yield from _checks_of_network(attributes, attributes["_network"])
    yield from _checks_of_state(attributes["_state"], attributes["_network"].units)


def _checks_of_network(attributes, network):
    units = network.units
    rule = "a tuple of at least two positive integers"
    is_valid = isinstance(units, tuple) and len(units) > 1
    is_valid = is_valid and all(_is_integer(n, 1 << 31) and n > 0 for n in units)
    yield "units", units, is_valid, rule
    for name, names in (
        ("activation", ACTIVATIONS),
        ("output_activation", OUTPUT_ACTIVATIONS),
    ):
        value = getattr(network, name)
        yield name, value, isinstance(value, str) and value in names, f"one of {names}"
    n_features, shape = attributes.get("n_features_in_"), (units[0],)
    is_valid = _is_integer(n_features) and n_features == units[0]
    yield "n_features_in_", n_features, is_valid, f"{units[0]}, as in units"
    if network.shift is not None or network.scale is not None:
        rule = f"an array of shape {shape}, float64 and finite"
        for name in ("shift", "scale"):
            value = getattr(network, name)
            is_valid = _is_array(value, shape, "d") and _is_finite(value)
            yield name, value, is_valid, rule
        yield "scale", network.scale, (network.scale > 0).all(), "positive"
    multilabel, exclusive = attributes.get("_multilabel"), network.exclusive
    for name, value in (
        ("_multilabel", multilabel),
        ("exclusive", exclusive),
        ("standardize", network.standardize),
    ):
        yield name, value, isinstance(value, bool | np.bool_), "a bool"
    yield "exclusive", exclusive, exclusive != multilabel, f"{not multilabel}"
    classes = attributes.get("classes_")
    n_classes = 2 if exclusive and units[-1] == 1 else units[-1]
    is_valid = isinstance(classes, np.ndarray) and classes.shape == (n_classes,)
    is_valid = is_valid and bool((classes[1:] > classes[:-1]).all())
    yield "classes_", classes, is_valid, f"a sorted array of {n_classes} labels"


def _checks_of_state(state, units):
    stopping = state.stopping
    shape = (sum((p + 1) * q for p, q in pairwise(units)),)
    is_valid = _is_array(state.theta, shape, "fd") and _is_finite(state.theta)
    rule = f"an array of shape {shape}, float32 or float64, and finite"
    yield "theta", state.theta, is_valid, rule
    dtype = state.theta.dtype
    for name in ("best_theta", "average", "velocity", "second_moment"):
        value = getattr(state, name)
        is_valid = value is None or _is_array(value, shape, dtype.char)
        yield name, value, is_valid, f"an array of shape {shape} and {dtype}"
        # Moments of large gradients may overflow in a valid model.
        if value is not None and name in ("best_theta", "average"):
            yield name, value, _is_finite(value), "finite"
    if state.stream_moments is not None:
        value, shape = state.stream_moments, (6, units[0])
        is_valid = _is_array(value, shape, "d") and _is_finite(value)
        rule = f"an array of shape {shape}, float64, and finite"
        yield "stream_moments", value, is_valid, rule
        weight, low, high, _, deviation, _ = value
        is_valid = (weight > 0) & (low <= high) & (deviation >= 0)
        rule = "a positive weight, low <= high and deviation >= 0 in each column"
        yield "stream_moments", value, bool(is_valid.all()), rule
    if state.second_moment is not None:
        is_valid = state.velocity is not None
        yield "velocity", state.velocity, is_valid, "an array, as second_moment"
        is_valid = (state.second_moment >= 0).all()
        yield "second_moment", state.second_moment, is_valid, "0 or positive"
    for name in ("n_iter", "n_steps", "t", "n_averaged", "shuffle_state", "split_seed"):
        end = {"shuffle_state": 1 << 64, "split_seed": 1 << 32}.get(name, LARGEST_COUNT)
        value = getattr(state, name)
        yield name, value, _is_integer(value, end), f"an integer from 0 to {end - 1}"
    for name in ("first_epoch", "n_no_improvement", "n_rate_cuts"):
        value = getattr(stopping, name)
        yield name, value, _is_integer(value), "0 or a positive integer"
    for owner, name, is_optional in (
        (state, "mean_squared_row_norm", True),
        (state, "best_loss", False),
        (stopping, "initial_loss", True),
        (stopping, "criterion_to_beat", False),
        (stopping, "best_criterion", False),
    ):
        value = getattr(owner, name)
        is_valid = is_optional and value is None
        is_valid = is_valid or (isinstance(value, Real) and value == value)
        yield name, value, is_valid, "a number"
    for name in CURVES:
        value = getattr(state, name)
        is_valid = isinstance(value, list) and all(isinstance(x, Real) for x in value)
        yield name, value, is_valid, "a list of numbers"
    n_epochs, first_epoch = len(state.loss_curve), stopping.first_epoch
    is_valid = state.n_iter <= n_epochs  # another call may have appended to the curve
    yield "n_iter", state.n_iter, is_valid, f"at most {n_epochs}, as in loss_curve"
    is_valid = first_epoch <= state.n_iter
    yield "first_epoch", first_epoch, is_valid, f"at most n_iter={state.n_iter}"


def _is_integer(value, end=LARGEST_COUNT):
    return isinstance(value, Integral) and 0 <= value < end


def _is_array(value, shape, types):
    return (
        isinstance(value, np.ndarray)
        and value.shape == shape
        and value.dtype.char in types
    )


def _is_finite(array):
    return bool(np.isfinite(array).all())
