"""Labels to codes, and weights of classes and rows."""

from collections.abc import Collection
from numbers import Real

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from ._core.arguments import quiet

# Labels ------------------------------------------------------------------------------


def as_label_array(labels, name):
    """The labels as an array of a type that scikit-learn takes, or a ValueError.

    Objects that are all numbers, or all booleans, become an array of these; strings may
    stay objects.
    """
    if labels is None or issparse(labels):
        return labels
    check_not_lazy(labels, name)
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise ValueError(
            f"{name} must be a sequence of labels; got rows of different lengths. "
            "MultiLabelBinarizer makes indicators of sets of labels."
        ) from error
    if array.ndim == 0:
        raise ValueError(f"{name} must be a sequence of labels; got {labels!r}.")
    objects = array
    if array.dtype.kind == "U" and isinstance(labels, (list, tuple)):
        # NumPy has made text of what else there may be among the strings.
        objects = np.asarray(labels, dtype=object)
    _refuse_missing(objects, name)
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
            hint = " MultiLabelBinarizer makes indicators of sets of labels."
    raise ValueError(
        f"The labels in {name} must be all numbers, all strings or all booleans, of "
        f"types that scikit-learn takes; got {got}. Convert them, for instance to "
        f"strings: np.asarray({name}).astype(str).{hint}"
    )


def _refuse_missing(labels, name):
    n_missing = 0
    if labels.dtype == object:
        n_missing = sum(map(is_missing, labels.ravel()))
    elif labels.dtype.kind in "fmM":
        n_missing = (labels != labels).sum()
    if n_missing:
        raise ValueError(
            f"{name} must not have missing labels; got None, NaN or NA in {n_missing} "
            f"of {len(labels)} places. Drop these rows, or give them a label of their "
            "own."
        )


def is_missing(value):
    """Whether it is None, NaN, or what pandas has instead."""
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
    """The sorted labels in y, or the numbers of its columns if they are indicators."""
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
    """The sorted labels of the first call of partial_fit."""
    if multilabel:
        n_labels = y.shape[1]
        if classes is not None and (
            check_classes(classes).tolist() != [*range(n_labels)]
        ):
            raise ValueError(
                f"y holds indicators of {n_labels} labels, whose classes are their "
                f"numbers 0 to {n_labels - 1}; got classes={classes!r}. Leave classes "
                "out."
            )
        return np.arange(n_labels)
    if classes is None:
        raise ValueError(
            "The first call of partial_fit must announce all classes: "
            "partial_fit(X, y, classes=...). Got classes=None."
        )
    classes = check_classes(classes)
    if len(classes) < 2:
        raise ValueError(
            f"classes must hold at least two labels; got {classes.tolist()}."
        )
    return classes


def check_classes(classes):
    """The sorted labels that were passed as `classes`."""
    labels = as_label_array(classes, "classes")
    if labels.ndim != 1:
        raise ValueError(f"classes must be a sequence of labels; got {classes!r}.")
    # Twice each: scikit-learn warns of labels that are almost all different.
    return _sorted_labels(np.repeat(labels, 2), "classes")


@quiet
def _sorted_labels(labels, name):
    """The distinct labels, sorted; an error if they cannot be labels of classes."""
    try:
        check_classification_targets(labels)
    except ValueError as error:
        raise ValueError(
            f"{error} Got {name} with values such as {labels[:3].tolist()}. "
            "KBinsDiscretizer makes classes of them."
        ) from error
    return np.unique(labels)


def unique_labels(labels, name):
    """The distinct labels, sorted."""
    return np.unique(as_label_array(labels, name))


def encode(y, classes, multilabel):
    """Codes of the classes, (n, 1), or indicators, (n, n_labels), for the core."""
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
    # Text never equals a number; older NumPy only warns.
    if "O" in kinds or (kinds[0] == "U") == (kinds[1] == "U"):
        try:
            encoded = np.searchsorted(classes, y)
            known = classes[np.minimum(encoded, len(classes) - 1)] == y
        except TypeError:  # objects that do not compare with the classes
            pass
    if not known.all():
        example = y[~known][:1].tolist()[0]
        raise ValueError(
            f"y holds the label {example!r}, which is none of the classes "
            f"{classes.tolist()}. They are fixed by fit, or announced in the "
            "first call of partial_fit(X, y, classes=...)."
        )
    return encoded.astype(np.intc)[:, np.newaxis]


# Weights -----------------------------------------------------------------------------


def check_not_masked(array, name):
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name} must not have masked values, which scikit-learn would take for "
            f"valid; got {np.ma.count_masked(array)}. Drop them, or impute them in X."
        )


def check_not_lazy(values, name):
    """An error for what has no rows yet, such as the LazyFrame of polars."""
    if hasattr(values, "collect") and not hasattr(values, "__array__"):
        raise ValueError(
            f"{name} must be an array or a dataframe; got a {type(values).__name__}, "
            f"which holds no rows yet. Pass {name}.collect()."
        )


@quiet
def check_sample_weight(sample_weight, n_samples, name="sample_weight"):
    """sample_weight as an array of float64, or None; a number is that of every row."""
    if sample_weight is None:
        return None
    check_not_masked(sample_weight, name)
    check_not_lazy(sample_weight, name)
    if isinstance(sample_weight, Real) and not isinstance(sample_weight, bool):
        sample_weight = np.full(n_samples, sample_weight, dtype=np.float64)
    elif np.asarray(sample_weight).ndim == 0:
        raise ValueError(
            f"{name} must be an array of one weight per row, or one number for all; "
            f"got {sample_weight!r}. For weights of classes use class_weight."
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
            f"{name} must not be negative; got {weights.min():g}. A weight of 0 leaves "
            "a row out."
        )
    return weights


def check_positive_weight(total, name):
    """Raise an error if the sum of some weights, or the largest, is zero."""
    if not total > 0:
        raise ValueError(
            f"All weights are zero ({name}); at least one row needs a positive weight."
        )


def divided_by_max(weights):
    """Weights in the same ratios, at most 1: sums and products do not overflow."""
    return weights / weights.max() if weights.any() else weights


@quiet
def class_totals(encoded, sample_weight, n_classes):
    """The weight of the rows of each class, up to a common factor."""
    if sample_weight is not None:
        sample_weight = divided_by_max(sample_weight)
    return np.bincount(encoded, weights=sample_weight, minlength=n_classes)


@quiet
def class_weights(class_weight, classes, multilabel, totals):
    """One weight per class, shape (n_classes,), or None.

    `totals` is a function that returns `class_totals`; only "balanced" calls it.
    """
    if class_weight is None:
        return None
    if multilabel:
        raise ValueError(
            "class_weight is for classes that exclude each other; got "
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
    without = [label for label in labels if label not in class_weight]
    # Rows may lack a class that has a weight. One that has none may be a misspelt one.
    if unknown and without:
        raise ValueError(
            f"class_weight names the class {unknown[0]!r}, which is none of the "
            f"classes {labels}, and has no weight for {without}. Correct the label; to "
            "name classes that these rows may lack, give every class a weight."
        )
    for code, label in enumerate(labels):
        weights[code] = class_weight.get(label, 1.0)
    return weights


@quiet
def row_weights(Y, sample_weight, weights_of_classes, dtype):
    """sample_weight times class weight, of mean 1 unless all are 0; None for all 1."""
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
