"""Checking and encoding of labels; class weights and row weights."""

from collections.abc import Collection
from numbers import Real

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from ._core.arguments import quiet

# Labels ------------------------------------------------------------------------------


def as_label_array(labels, name):
    """Convert labels to an array that scikit-learn accepts, or raise a ValueError.

    An array of objects that are all numbers, or all booleans, is converted. Strings may
    remain objects.
    """
    if labels is None or issparse(labels):
        return labels
    check_not_lazy(labels, name)
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise ValueError(
            f"{name} must be a sequence of labels; got rows of different lengths. "
            "MultiLabelBinarizer converts sets of labels to indicators."
        ) from error
    if array.ndim == 0:
        cure = " For a single sample pass X[[i]] and y[[i]]." if name == "y" else ""
        raise ValueError(f"{name} must be a sequence of labels; got {labels!r}.{cure}")
    objects = array
    if array.dtype.kind == "U" and isinstance(labels, (list, tuple)):
        # NumPy has converted all objects to strings.
        objects = np.asarray(labels, dtype=object)
    _check_no_missing(objects, name)
    if objects.dtype != object and objects.dtype.kind not in "STV":
        return array
    got, hint = f"an array of {array.dtype}", ""
    if objects.dtype == object:
        examples = {type(label): label for label in objects.ravel()}
        if all(issubclass(kind, str) for kind in examples):
            return array
        if all(issubclass(kind, (bool, np.bool_)) for kind in examples):
            return array.astype(bool)
        if all(issubclass(kind, Real) for kind in examples) and bool not in examples:
            numbers = np.array(array.tolist())
            if numbers.dtype != object and (numbers == array).all():
                return numbers
        got = ", ".join(f"{kind.__name__} ({examples[kind]!r})" for kind in examples)
        if any(issubclass(kind, Collection) for kind in examples if kind is not str):
            hint = " MultiLabelBinarizer converts sets of labels to indicators."
    raise ValueError(
        f"The labels in {name} must be all numbers, all strings or all booleans, of "
        f"types that scikit-learn accepts; got {got}. Convert them, for example to "
        f"strings: np.asarray({name}).astype(str).{hint}"
    )


def _check_no_missing(labels, name):
    n_missing = 0
    if labels.dtype == object:
        n_missing = sum(map(is_missing, labels.ravel()))
    elif labels.dtype.kind in "fmM":
        n_missing = (labels != labels).sum()
    if n_missing:
        raise ValueError(
            f"{name} must not have missing labels; got None, NaN or NA in {n_missing} "
            f"of {labels.size} entries. Drop these rows, or give them a separate label."
        )


def is_missing(value):
    """Whether a value is None, NaN, or pandas' NA or NaT."""
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or isinstance(value, (float, np.floating))
        and value != value
    )


@quiet
def is_multilabel(y):
    return y.ndim == 2 and type_of_target(y) == "multilabel-indicator"


def classes_in(y):
    """The sorted labels in y, or the column numbers if y holds indicators."""
    if y.ndim == 2 and not is_multilabel(y):
        raise ValueError(
            "y must hold one class label per row, or 0/1 indicators of several labels; "
            f"got an array of shape {y.shape} with other values."
        )
    if y.ndim == 2:
        return np.arange(y.shape[1])
    classes = _sorted_labels(y, "y")
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least two classes; got one class: {classes.tolist()[0]!r}."
        )
    return classes


def classes_for_partial_fit(y, classes, multilabel):
    """The sorted labels for the first call of `partial_fit`."""
    if multilabel:
        n_labels = y.shape[1]
        if classes is not None and (
            check_classes(classes).tolist() != [*range(n_labels)]
        ):
            raise ValueError(
                f"y holds indicators of {n_labels} labels, whose classes must be the "
                f"numbers 0 to {n_labels - 1}; got classes={classes!r}. Omit classes."
            )
        return np.arange(n_labels)
    if classes is None:
        raise ValueError(
            "classes is required in the first call to partial_fit; got classes=None. "
            "Pass all possible classes: partial_fit(X, y, classes=...)."
        )
    classes = check_classes(classes)
    if len(classes) < 2:
        raise ValueError(
            f"classes must hold at least two labels; got {classes.tolist()}."
        )
    return classes


def check_classes(classes):
    """Check the argument `classes` and return its sorted labels."""
    labels = as_label_array(classes, "classes")
    if labels.ndim != 1:
        raise ValueError(f"classes must be a sequence of labels; got {classes!r}.")
    # Repeated, as scikit-learn warns if almost all labels are unique.
    return _sorted_labels(np.repeat(labels, 2), "classes")


@quiet
def _sorted_labels(labels, name):
    """The unique labels, sorted; an error if they are not class labels."""
    try:
        check_classification_targets(labels)
    except ValueError as error:
        raise ValueError(
            f"{error} Got {name} with values such as {labels[:3].tolist()}. "
            "KBinsDiscretizer converts them to classes."
        ) from error
    return np.unique(labels)


def unique_labels(labels, name):
    """The unique labels, sorted."""
    return np.unique(as_label_array(labels, name))


def encode(y, classes, multilabel):
    """Encoded labels of shape (n, 1), or indicators of shape (n, n_labels)."""
    if multilabel:
        if y.ndim != 2 or y.shape[1] != len(classes):
            raise ValueError(
                f"y must hold 0/1 indicators of {len(classes)} labels, one "
                f"column each; got an array of shape {y.shape}."
            )
        if not np.isin(y, (0, 1)).all():
            raise ValueError(
                "The indicators in y must be 0 or 1; got the values "
                f"{np.unique(y)[:5].tolist()}."
            )
        return np.require(y, np.intc, ["C", "A"])
    if y.ndim != 1:
        raise ValueError(
            "y must hold one class label per row; got an array of shape "
            f"{y.shape}. For 0/1 indicators of several labels fit a new estimator."
        )
    known = np.zeros(len(y), dtype=bool)
    kinds = y.dtype.kind, classes.dtype.kind
    # Strings never equal numbers; older versions of NumPy warn if they are compared.
    if "O" in kinds or (kinds[0] == "U") == (kinds[1] == "U"):
        try:
            encoded = np.searchsorted(classes, y)
            known = classes[np.minimum(encoded, len(classes) - 1)] == y
        except TypeError:  # not comparable with the classes
            pass
    if not known.all():
        example = y[~known][:1].tolist()[0]
        raise ValueError(
            f"y holds the label {example!r}, which is not one of the classes "
            f"{classes.tolist()}. The classes are fixed by fit, or by the first call "
            "of partial_fit(X, y, classes=...)."
        )
    return encoded.astype(np.intc)[:, np.newaxis]


# Weights -----------------------------------------------------------------------------


def check_not_masked(array, name):
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name} must not have masked values, which scikit-learn would use as "
            f"valid ones; got {np.ma.count_masked(array)}. Drop these rows, or impute "
            "the values."
        )


def check_not_lazy(values, name):
    """Raise an error for lazy data, such as a LazyFrame of polars."""
    if hasattr(values, "collect") and not hasattr(values, "__array__"):
        raise ValueError(
            f"{name} must be an array or a dataframe; got a {type(values).__name__}, "
            f"which is not evaluated. Pass {name}.collect()."
        )


@quiet
def check_sample_weight(sample_weight, n_samples, name="sample_weight"):
    """Return sample_weight as an array of float64, or None.

    A number is the weight of every row.
    """
    if sample_weight is None:
        return None
    check_not_masked(sample_weight, name)
    check_not_lazy(sample_weight, name)
    if isinstance(sample_weight, Real) and not isinstance(sample_weight, bool):
        sample_weight = np.full(n_samples, sample_weight, dtype=np.float64)
    elif np.asarray(sample_weight).ndim == 0:
        raise ValueError(
            f"{name} must be an array with one weight per row, or one number for all; "
            f"got {sample_weight!r}. For class weights use class_weight."
        )
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name=name
    )
    if weights.shape != (n_samples,):
        raise ValueError(
            f"{name} must have shape ({n_samples},), one weight per row; got shape "
            f"{weights.shape}."
        )
    if (weights < 0).any():
        raise ValueError(
            f"{name} must not be negative; got {weights.min():g}. Use a weight of 0 to "
            "ignore a row."
        )
    return weights


def check_positive_weight(total, name):
    """Raise an error if a sum or maximum of weights is not positive."""
    if not total > 0:
        raise ValueError(
            f"All weights are zero ({name}); at least one row must have a positive "
            "weight."
        )


def divided_by_max(weights):
    """Divide weights by the largest one, so that sums and products do not overflow."""
    return weights / weights.max() if weights.any() else weights


@quiet
def class_totals(encoded, sample_weight, n_classes):
    """The total weight of each class, up to a common factor."""
    if sample_weight is not None:
        sample_weight = divided_by_max(sample_weight)
    return np.bincount(encoded, weights=sample_weight, minlength=n_classes)


@quiet
def class_weights(class_weight, classes, multilabel, totals):
    """The weight of each class, of shape (n_classes,), or None.

    `totals` is a function that returns `class_totals`. It is only called for
    "balanced".
    """
    if class_weight is None:
        return None
    if multilabel:
        raise ValueError(
            "class_weight is for mutually exclusive classes; got "
            f"class_weight={class_weight!r} with multilabel y. Use sample_weight."
        )
    weights = np.ones(len(classes))
    if isinstance(class_weight, str):  # "balanced"
        total = totals()
        present = total > 0
        weights[present] = total.sum() / (len(classes) * total[present])
        return weights
    labels = classes.tolist()
    known = set(labels)
    unknown = [label for label in class_weight if label not in known]
    unweighted = [label for label in labels if label not in class_weight]
    # A fold may lack a class that has a weight. If another class has no weight, the
    # unknown label may be a typing error.
    if unknown and unweighted:
        raise ValueError(
            f"class_weight names the class {unknown[0]!r}, which is not one of the "
            f"classes {labels}, and has no weight for {unweighted}. Correct the label. "
            "If the samples may lack classes, give every class a weight."
        )
    for i, label in enumerate(labels):
        weights[i] = class_weight.get(label, 1.0)
    return weights


@quiet
def row_weights(Y, sample_weight, weights_of_classes, dtype):
    """sample_weight times class weight with mean 1 (or all 0); None if not weighted."""
    if sample_weight is None and weights_of_classes is None:
        return None
    weights = (
        np.ones(len(Y)) if sample_weight is None else divided_by_max(sample_weight)
    )
    if weights_of_classes is not None:
        weights = weights * divided_by_max(weights_of_classes)[Y[:, 0]]
    if weights.any():
        weights = divided_by_max(weights)
        weights /= weights.mean()
    return weights.astype(dtype)
