"""Labels of every type: predictions return them as they were given, or an error."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from helpers import small

X = np.random.default_rng(0).normal(size=(12, 2))
INTS = np.arange(12) % 3
WORDS = np.array(["a", "b", "c"])[INTS]


@pytest.mark.parametrize(
    "y, classes",
    [
        (INTS.astype(object), np.array([0, 1, 2])),
        ((INTS > 0).astype(object), np.array([False, True])),
        (INTS.astype(float).astype(object), np.array([0.0, 1.0, 2.0])),
        (np.array([1, 2.0, np.int8(3)] * 4, dtype=object), np.array([1.0, 2.0, 3.0])),
        (WORDS.astype(object), np.array(["a", "b", "c"], dtype=object)),
        (pd.Series(INTS, dtype="Int64"), np.array([0, 1, 2])),
        (pd.Series(INTS > 0, dtype="boolean"), np.array([False, True])),
        (pd.Series(WORDS, dtype="string"), np.array(["a", "b", "c"], dtype=object)),
        (pd.Series(INTS, dtype="category"), np.array([0, 1, 2])),
        (WORDS.tolist(), np.array(["a", "b", "c"])),
    ],
    ids=[
        "ints", "booleans", "floats", "numbers", "strings", "nullable ints",
        "nullable booleans", "pandas strings", "categories", "list",
    ],
)  # fmt: skip
def test_objects(y, classes):
    """Objects that are all numbers, booleans or strings equal an array of these."""
    plain = np.searchsorted(classes, np.asarray(y, dtype=classes.dtype))
    expected = small(max_iter=2, learning_rate=0.1).fit(X, plain, X_val=X, y_val=plain)
    clf = small(max_iter=2, learning_rate=0.1).fit(X, y, X_val=X, y_val=y)
    np.testing.assert_array_equal(clf.classes_, classes, strict=True)
    np.testing.assert_array_equal(clf.coefs_[0], expected.coefs_[0])
    assert clf.validation_loss_curve_ == expected.validation_loss_curve_
    np.testing.assert_array_equal(clf.predict(X), classes[expected.predict(X)])
    assert clf.score(X, y) == expected.score(X, plain)
    streamed = small(max_iter=2, learning_rate=0.1).partial_fit(X, y, classes=y[:3])
    np.testing.assert_array_equal(streamed.classes_, classes, strict=True)


def test_many_announced_classes_are_no_regression():
    """`classes`, different numbers, do not warn as the targets of a regression do."""
    rows, y = np.zeros((60, 1)), np.arange(60) % 40
    clf = small(max_iter=2, learning_rate=0.1).partial_fit(
        rows, y, classes=np.arange(40)
    )
    assert len(clf.classes_) == 40


def test_indicators_as_objects():
    """They equal an array of ints."""
    Y = np.column_stack([INTS == 0, INTS > 0]).astype(int)
    clf = small(max_iter=2, learning_rate=0.1).fit(X, pd.DataFrame(Y).astype(object))
    np.testing.assert_array_equal(
        clf.coefs_[0], small(max_iter=2, learning_rate=0.1).fit(X, Y).coefs_[0]
    )


StringDType = getattr(getattr(np, "dtypes", None), "StringDType", lambda: "S1")


@pytest.mark.parametrize(
    "y, match",
    [
        ([*"ab", None] * 4, "missing labels; got .* in 4 of 12 entries. Drop"),
        ([*"ab", np.nan] * 4, "missing labels; got .* in 4 of 12"),
        (np.array([*"ab", pd.NA] * 4, dtype=object), "missing labels; got .* 4 of 12"),
        (pd.Series([*"ab", None] * 4, dtype="string"), "missing labels; .* 4 of 12"),
        (pd.Series([0, 1, None] * 4, dtype="Int64"), "missing labels; .* 4 of 12"),
        (pd.Series([*"ab", None] * 4, dtype="category"), "missing labels; .* 4 of 12"),
        (np.array([0, 1, np.nan] * 4), "missing labels; got .*NaN.* 4 of 12 entries"),
        (np.array(["2020", "2021", "NaT"] * 4, dtype="M8[Y]"), "missing .* 4 of 12"),
        ([1, "a", "a"] * 4, r"got int \(1\), str \('a'\). Convert .*astype\(str\)"),
        (np.array([2, True] * 6, dtype=object), r"got int \(2\), bool \(True\)"),
        (np.array([2**70, 1] * 6, dtype=object), "that scikit-learn accepts; got"),
        (np.array([Decimal(1), Decimal(2)] * 6), r"got Decimal \(Decimal\('2'\)\)"),
        ([datetime.date(2020, 1, k) for k in range(1, 13)], "got date .*astype"),
        (WORDS.astype("S1"), r"got an array of \|S1. Convert .*astype\(str\)"),
        (WORDS.astype("S1").astype(object), r"got bytes \(b'c'\)"),
        (WORDS.astype(StringDType()), "that scikit-learn accepts; got an array of"),
        (np.array([(1, 2.0)] * 12, dtype="i8,f8"), r"got an array of \["),
        (np.array([{}] * 12), r"got dict \({}\).* MultiLabelBinarizer"),
        ([{1, 2}] * 12, r"got set \({1, 2}\).* MultiLabelBinarizer"),
        ([(1,), (1, 2)] * 6, "different lengths. MultiLabelBinarizer"),
        (np.linspace(0, 1, 12), r"type: continuous.* y with values .* \[0.0, 0.09"),
        (np.ones(12) * 1j, "[Cc]omplex"),
        (np.array(1), r"y must be a sequence of labels; got array\(1\)"),
        ({1, 2}, "y must be a sequence of labels; got {1, 2}"),
        ("abc", "y must be a sequence of labels; got 'abc'"),
    ],
    ids=[
        "None", "NaN among strings", "pd.NA", "pandas strings", "nullable ints",
        "categories", "NaN", "NaT", "list of mixed types", "booleans and ints",
        "large ints", "decimals", "dates", "bytes", "bytes as objects", "StringDType",
        "records", "dicts", "sets", "ragged", "fractions", "complex", "0-d", "set",
        "text",
    ],
)  # fmt: skip
def test_bad_labels(y, match):
    """A ValueError wherever labels are passed, and nothing has changed."""
    with pytest.raises(ValueError, match=match):
        small(max_iter=2, learning_rate=0.1).fit(X, y)
    clf = small(max_iter=2, learning_rate=0.1).fit(X, INTS)
    before = clf.coefs_[0].copy()
    for action in (
        lambda: clf.fit(X, INTS, X_val=X, y_val=y),
        lambda: clf.partial_fit(X, y),
        lambda: small(max_iter=2, learning_rate=0.1).partial_fit(X, INTS, classes=y),
        lambda: small(max_iter=2, learning_rate=0.1).partial_fit(
            X, np.eye(12, 3, dtype=int), classes=y
        ),
    ):
        with pytest.raises(ValueError):
            action()
    np.testing.assert_array_equal(clf.coefs_[0], before)


def test_labels_that_cannot_be_compared_with_the_classes():
    """Numbers after objects that are strings are unknown labels."""
    clf = small(max_iter=2, learning_rate=0.1).fit(X, WORDS.astype(object))
    with pytest.raises(ValueError, match="y holds the label 0"):
        clf.partial_fit(X, INTS)


@pytest.mark.parametrize("y", [[[1, 2], [3, 4]], [["a", "b"], ["b", "a"]]], ids=str)
def test_columns_that_are_no_indicators(y):
    """They are neither labels nor indicators; the error gives the shape of y."""
    message = r"one class label per row, or 0/1 indicators .* shape \(2, 2\)"
    with pytest.raises(ValueError, match=message):
        small().fit(np.eye(2), y)
