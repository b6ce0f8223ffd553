"""Validation rows: their curves and scores, early stopping, and warnings."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from helpers import parameters, same, small, targets
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.metrics import f1_score, log_loss
from sklearn.model_selection import cross_validate, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

from skbgd import BGDClassifier
from skbgd._rows import LocalRows
from skbgd._warnings import dissimilar_rows_warning


def test_validation_rows_do_not_change_the_descent(moons):
    """Without early stopping their log-loss is recorded, and nothing else changes."""
    X, X_val, y, y_val = moons
    w = np.random.default_rng(0).uniform(size=len(y_val))
    clf = small().fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=w)
    np.testing.assert_array_equal(parameters(clf), parameters(small().fit(X, y)))
    assert len(clf.validation_loss_curve_) == len(clf.loss_curve_) == 12
    assert clf.validation_scores_ == []
    for k in (1, 5, 12):
        P = small(max_iter=k).fit(X, y).predict_proba(X_val)
        expected = log_loss(y_val, P, sample_weight=w)
        assert clf.validation_loss_curve_[k - 1] == pytest.approx(expected, rel=1e-12)


def test_class_weights_apply_to_the_validation_loss(moons):
    """They multiply the weights of the validation rows."""
    X, X_val, y, y_val = moons
    clf = small(class_weight={1: 3.0}).fit(X, y, X_val=X_val, y_val=y_val)
    expected = log_loss(
        y_val, clf.predict_proba(X_val), sample_weight=np.where(y_val == 1, 3, 1)
    )
    assert clf.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_early_stopping_keeps_the_best_parameters(moons, solver):
    """It stops n_iter_no_change epochs after the best one and returns to it.

    The labels of the training rows are wrong, so the validation loss soon increases.
    """
    X, X_val, y, y_val = moons
    X, y = X[:30], np.roll(y[:30], 1)
    params = {"solver": solver, "learning_rate": 0.05 if solver == "adam" else 1.0}
    params["standardize"] = False
    clf = small(
        **params, max_iter=400, tol=0, n_iter_no_change=7, early_stopping=True
    ).fit(X, y, X_val=X_val, y_val=y_val)
    assert clf.stop_reason_ == "early_stopping"
    curve = clf.validation_loss_curve_
    best = int(np.argmin(curve)) + 1
    assert clf.n_iter_ == len(curve) == best + 7
    expected = small(**params, max_iter=best).fit(X, y)
    np.testing.assert_array_equal(parameters(clf), parameters(expected))
    loss = log_loss(y_val, clf.predict_proba(X_val))
    assert loss == pytest.approx(min(curve), rel=1e-12)


@pytest.mark.parametrize(
    "scoring, score",
    [
        ("f1", lambda clf, X, y: f1_score(y, clf.predict(X))),
        ("neg_log_loss", lambda clf, X, y: -log_loss(y, clf.predict_proba(X))),
        (lambda clf, X, y: clf.score(X, y), lambda clf, X, y: clf.score(X, y)),
    ],
    ids=["f1", "neg_log_loss", "callable"],
)
def test_any_scorer(moons, scoring, score):
    """The scores are those of the parameters after each epoch, and the best is kept."""
    X, X_val, y, y_val = moons
    frame, frame_val = (pd.DataFrame(A, columns=["a", "b"]) for A in (X, X_val))
    clf = small(scoring=scoring, early_stopping=True).fit(
        frame, y, X_val=frame_val, y_val=y_val
    )
    assert len(clf.validation_scores_) == len(clf.validation_loss_curve_) == 12
    for k in (1, 12):
        expected = score(small(max_iter=k).fit(X, y), X_val, y_val)
        assert clf.validation_scores_[k - 1] == pytest.approx(expected, rel=1e-12)
    best = int(np.argmax(clf.validation_scores_)) + 1  # the first, if several
    expected = small(max_iter=best).fit(X, y)
    np.testing.assert_array_equal(parameters(clf), parameters(expected))


def test_the_scorer_gets_the_weights(moons):
    """Even if their sum overflows."""
    X, X_val, y, y_val = moons
    w = np.random.default_rng(0).uniform(size=len(y_val))
    clf = small(scoring="accuracy").fit(
        X, y, X_val=X_val, y_val=y_val, sample_weight_val=w
    )
    assert clf.validation_scores_[-1] == clf.score(X_val, y_val, w)
    clf.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=w * 1e308)
    assert clf.validation_scores_[-1] == pytest.approx(clf.score(X_val, y_val, w))


def test_rows_that_are_set_aside_are_stratified():
    """A tenth of each class, but no row of weight zero and no only member of a class.

    They are random, and the same for the same random_state.
    """
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c", "d"], [100, 60, 40, 1])
    X = np.column_stack([np.arange(201), rng.normal(size=201)])
    w = np.ones(201)
    w[:50] = 0
    seen = []

    def scoring(clf, X, y, sample_weight=None):
        seen.append((X[:, 0], y))
        assert (sample_weight == 1).all()
        return 0.0

    clf = small(scoring=scoring, early_stopping=True, learning_rate=1e-9)
    clf.fit(X, y, w)
    rows, labels = seen[0]
    assert np.unique(labels, return_counts=True)[1].tolist() == [5, 6, 4]
    assert rows.min() >= 50
    assert clf.t_ == 12 * (201 - 15)
    seen.clear()
    clone(clf).fit(X, y, w)
    np.testing.assert_array_equal(seen[0][0], rows)
    seen.clear()
    clone(clf).set_params(random_state=1).fit(X, y, w)
    assert (seen[0][0] != rows).any()


def test_rows_that_are_set_aside_of_multilabel_targets():
    """The fraction of all rows."""
    X, y = targets("multilabel", n=60)
    clf = small(early_stopping=True, validation_fraction=0.25).fit(X, y)
    assert clf.t_ == 12 * 45


BAD = {
    "no y": ({"X_val": [[0, 0]]}, "y_val is missing"),
    "no X": ({"y_val": [0]}, "X_val is missing"),
    "weights alone": ({"sample_weight_val": [1]}, "X_val is missing"),
    "unknown label": (
        {"X_val": [[0, 0]], "y_val": [7]},
        "In X_val, y_val: y holds the label 7, which is",
    ),
    "features": (
        {"X_val": [[0, 0, 0]], "y_val": [0]}, "In X_val.*3 features.*expecting 2"
    ),
    "zero weight": (
        {"X_val": [[0, 0]], "y_val": [0], "sample_weight_val": [0]}, "are zero"
    ),
    "negative weight": (
        {"X_val": [[0, 0]], "y_val": [0], "sample_weight_val": [-1]},
        "sample_weight_val must not be negative",
    ),
    "NaN": ({"X_val": [[np.nan, 0]], "y_val": [0]}, "NaN"),
}  # fmt: skip


@pytest.mark.parametrize("call, match", BAD.values(), ids=BAD)
def test_bad_validation_rows(moons, call, match):
    """A ValueError, after which the model is unchanged."""
    X, _, y, _ = moons
    clf = small().fit(X, y)
    before = parameters(clf).copy()
    with pytest.raises(ValueError, match=match):
        clf.fit(X, y, **call)
    np.testing.assert_array_equal(parameters(clf), before)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.4])
@pytest.mark.parametrize(
    "counts",
    [[3] * 100, [2] * 50, [300, *[2] * 90], [1, 1, *[2, 3] * 20]],
    ids=["all of three", "all of two", "one large class", "single rows"],
)
def test_rare_classes_do_not_change_the_fraction(counts, fraction):
    """Each class has its part of the validation rows to one row, and keeps one.

    The rows depend on the seed alone.
    """
    y = np.repeat(np.arange(len(counts)), counts)
    rows = LocalRows(np.arange(len(y), dtype=float)[:, None], y, None, 1)
    rest, aside = rows.split(fraction, seed=0)
    counts = np.array(counts)
    n_candidates = counts[counts > 1].sum()
    n_aside = int(np.ceil(fraction * n_candidates))
    assert (rest.n_samples, aside.n_samples) == (len(y) - n_aside, n_aside)
    taken = np.bincount(aside.y, minlength=len(counts))
    assert (taken[counts == 1] == 0).all()
    assert (taken < counts).all()
    expected = n_aside * counts / n_candidates
    assert (abs(taken - expected)[counts > 1] < 1.01).all()
    np.testing.assert_array_equal(
        np.sort([*rest.X, *aside.X], axis=0)[:, 0], np.arange(len(y))
    )
    np.testing.assert_array_equal(aside.X[:, 0], np.unique(aside.X))
    again, other = (rows.split(fraction, s)[1] for s in (0, 1))
    np.testing.assert_array_equal(again.X, aside.X)
    assert not np.array_equal(other.X, aside.X)


def test_which_rare_classes_have_validation_rows_is_random():
    """Over 200 seeds, each of 80 rows is chosen about 20 times."""
    y = np.repeat(np.arange(40), 2)
    rows = LocalRows(np.arange(80.0)[:, None], y, None, 1)
    seen = [rows.split(0.1, seed)[1] for seed in range(200)]
    times = np.bincount(np.concatenate([aside.X[:, 0] for aside in seen]).astype(int))
    assert len(times) == 80
    assert 5 <= times.min() <= times.max() <= 40


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr", "top_k_accuracy"])
def test_a_scorer_that_needs_all_classes(scoring):
    """The error names a class without validation rows, and the cure."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.repeat([f"class {k}" for k in range(20)], 3)
    clf = small(early_stopping=True, scoring=scoring)
    with pytest.raises(ValueError, match=f"scoring='{scoring}' failed .*lack 14 cl"):
        clf.fit(X, y)
    clf.set_params(validation_fraction=0.4).fit(X, y)
    assert len(clf.validation_scores_) == 12

    def broken(clf, X, y):
        raise ValueError("for another reason")

    with pytest.raises(ValueError, match="^for another reason$"):
        clf.set_params(scoring=broken).fit(X, y)


def test_few_rows_that_are_set_aside():
    """One row of each class is left to learn from."""
    clf = small(early_stopping=True)
    assert clf.fit(np.eye(5), [0, 0, 1, 1, 2]).t_ == 12 * 4


@pytest.mark.parametrize(
    "y, match",
    [
        ([0, 1], "no class has two samples"),
        ([0, 0, 0, 1, 1], "cannot set 5 samples .*of the 5 samples that could be"),
    ],
    ids=["two rows", "five rows"],
)
def test_too_few_rows_to_set_any_aside(y, match):
    """The error names the cure."""
    clf = small(early_stopping=True, validation_fraction=0.9)
    with pytest.raises(ValueError, match=f"{match}.*[Pp]ass X_val and y_val"):
        clf.fit(np.eye(len(y)), y)


@pytest.mark.parametrize(
    "params, match",
    [
        ({"early_stopping": True, "scoring": lambda *_: np.nan}, "nan.*epoch 1"),
        ({"scoring": lambda *_: None}, "scoring must return a number; got None"),
        ({"scoring": lambda *_: np.ones(2)}, r"scoring must return a number; got arr"),
        (
            {"early_stopping": True, "class_weight": {0: 0.0}},
            "weights are zero .of the validation samples",
        ),
    ],
    ids=["NaN", "None", "array", "class weight"],
)
def test_a_criterion_that_is_no_number(moons, params, match):
    """The error says what the criterion is."""
    X, X_val, y, y_val = moons
    X_val, y_val = X_val[y_val == 0], y_val[y_val == 0]
    with pytest.raises(ValueError, match=match):
        small(**params).fit(X, y, X_val=X_val, y_val=y_val)


def test_validation_rows_through_a_pipeline(moons):
    """With metadata routing, the steps in front transform X_val too."""
    X, X_val, y, y_val = moons
    X, X_val = 100 * X + 7, 100 * X_val + 7
    scaler = StandardScaler().fit(X)
    expected = small().fit(
        scaler.transform(X), y, X_val=scaler.transform(X_val), y_val=y_val
    )
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [
                ("scale", StandardScaler()),
                ("clf", small().set_fit_request(X_val=True, y_val=True)),
            ],
            transform_input=["X_val"],
        ).fit(X, y, X_val=X_val, y_val=y_val)
    same(pipeline["clf"], expected)


SCALERS = [StandardScaler(), MinMaxScaler(), RobustScaler()]
LOADERS = [load_breast_cancer, load_digits, load_iris, load_wine]


def warnings_of_fit(X, y, X_val, y_val):
    """The messages of the UserWarnings of a fit with these validation rows."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        BGDClassifier((3,), max_iter=1, tol=None).fit(X, y, X_val=X_val, y_val=y_val)
    return [str(w.message) for w in record if w.category is UserWarning]


@pytest.mark.parametrize("scaler", SCALERS, ids=lambda scaler: type(scaler).__name__)
@pytest.mark.parametrize("load", [load_breast_cancer, load_digits, load_wine])
def test_unscaled_validation_rows_are_detected(load, scaler):
    """A Pipeline does not transform `clf__X_val`."""
    X, y = load(return_X_y=True)
    X, X_val, y, y_val = train_test_split(X, y, random_state=0)
    pipeline = Pipeline([("scale", scaler), ("clf", small(max_iter=1))])
    with pytest.warns(UserWarning, match="validation samples differ from the training"):
        pipeline.fit(X, y, clf__X_val=X_val, clf__y_val=y_val)


def test_validation_rows_of_another_scale_or_offset_are_detected():
    """The warning names the feature, its training range and the distance from it.

    Sparse rows, and few rows, are not compared.
    """
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, size=(400, 3)), np.arange(400) % 2
    for change in (lambda x: 100 * x, lambda x: x + 60):
        X_val = X[:100].copy()
        X_val[:, 1] = change(X_val[:, 1])
        (message,) = warnings_of_fit(X, y, X_val, y[:100])
        assert re.search(
            r"feature 1 of X is between -0.99. and 0.99., .* farther than [456]\d",
            message,
        )
        named = [pd.DataFrame(rows, columns=["a", "b", "c"]) for rows in (X, X_val)]
        (message,) = warnings_of_fit(named[0], y, named[1], y[:100])
        assert "feature 'b' of X is" in message
        assert warnings_of_fit(csr_array(X), y, csr_array(X_val), y[:100]) == []
        assert warnings_of_fit(X, y, X_val[:4], y[:4]) == []
        assert warnings_of_fit(X[:19], y[:19], X_val, y[:100]) == []


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("scaler", [None, StandardScaler()], ids=["raw", "scaled"])
def test_ordinary_validation_rows_are_like_the_training_rows(load, scaler):
    """There is no warning if the order of the rows is random or that of the classes."""
    X, y = load(return_X_y=True)
    if scaler is not None:
        X = scaler.fit_transform(X)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(y)) for _ in range(20)]
    orders += [np.argsort(y, kind="stable"), np.argsort(-y, kind="stable")]
    for order in orders:
        for n_val in (1, 5, len(y) // 10, len(y) // 2):
            train, validation = order[:-n_val], order[-n_val:]
            assert dissimilar_rows_warning(X[train], X[validation]) is None


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("less", [0, 1])
def test_a_search_divides_validation_rows_if_there_are_n_samples(routing, less):
    """scikit-learn divides every argument of fit with n_samples rows into folds."""
    X, y = load_iris(return_X_y=True)
    n_seen = []

    def scoring(clf, X, y):
        n_seen.append(len(X))
        return 0.0

    with sklearn.config_context(enable_metadata_routing=routing):
        clf = small(max_iter=1, learning_rate=0.1, scoring=scoring)
        if routing:
            clf.set_fit_request(X_val=True, y_val=True)
        cross_validate(
            clf, X, y, cv=3, params={"X_val": X[less:], "y_val": y[less:]},
        )  # fmt: skip
    assert n_seen == 3 * [150 - less if less else 100]


def test_stop_reasons(moons):
    """`stop_reason_` names what ended the fit."""
    X, _, y, _ = moons
    assert small().fit(X, y).stop_reason_ == "max_iter"
    clf = small(tol=1e6, n_iter_no_change=3, learning_rate=0.1)
    assert clf.fit(X, y).stop_reason_ == "converged"
    assert clf.n_iter_ == 4
    clf.set_params(early_stopping=True).fit(X, y)
    assert clf.stop_reason_ == "early_stopping"
    assert clf.n_iter_ == 4
