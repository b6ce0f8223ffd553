"""Conversion of a fitted estimator to arrays and plain Python values, for pickles.

A pickle then refers to no private module, and can be loaded after these have changed.
"""

import re
import warnings

from sklearn.exceptions import InconsistentVersionWarning

from . import __version__
from ._descent import State
from ._network import Network

# The version of the output of `to_plain`. Increase it with each incompatible change.
FORMAT = 1

# Old and new names of fields of `State` and `StoppingRule` renamed in this format.
RENAMED_FIELDS = {
    "squared_norm": "mean_squared_row_norm",
    "given": "theta_set_by_user",
    "start": "first_epoch",
}

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
        attributes["_network"] = Network(**attributes["_network"])
        state = _with_new_names(attributes["_state"])
        state["stopping"] = _with_new_names(state["stopping"])
        state = State.from_dict(state)
        state.stopping.key = _key_from_plain(state.stopping.key, attributes)
        attributes["_state"] = state
    return attributes


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
