"""Training that continues: partial_fit, warm_start, copies."""

import pickle
import warnings
from copy import copy, deepcopy
from functools import partial

import numpy as np
import pytest
from helpers import fitted, parameters, same, small, targets
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, make_scorer

from skbgd import BGDClassifier

X, y = make_classification(120, 5, n_informative=4, n_redundant=0, random_state=3)


# partial_fit


def falling(epoch):
    return 0.9**epoch


def stopped_at_once(**params):
    """A warm start that makes no epoch, unless something has changed."""
    params = {"tol": 10.0, "n_iter_no_change": 4, "early_stopping": True, **params}
    return small(warm_start=True, **params).fit(X, y)


HISTORIES = {
    "plain": {},
    "momentum": {"momentum": 0.9, "nesterov": True},
    "adam": {"solver": "adam"},
    "invscaling": {"learning_rate_schedule": "invscaling"},
    "callable": {"learning_rate_schedule": falling},
    "clipped": {"max_gradient_norm": 0.05},
}


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
@pytest.mark.parametrize("history", HISTORIES)
def test_partial_fit_is_fit_epoch_by_epoch(kind, history):
    X, y = targets(kind)
    params = {**HISTORIES[history], "batch_size": 16, "alpha": 2e-4}
    clf = small(**params)
    for _ in range(12):
        clf.partial_fit(X, y, classes=None if y.ndim == 2 else [0, 1])
    same(clf, small(**params).fit(X, y))


@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("batch_size", [16, "full"])
def test_partial_fit_goes_on(kind, momentum, batch_size):
    """k calls over the same rows are fit(max_iter=k), bit for bit."""
    X, y = targets(kind)
    params = {"batch_size": batch_size, "momentum": momentum, "max_iter": 5}
    params["alpha"] = 2e-4  # "auto" is more in `fit`
    expected = fitted(X, y, **params)
    clf = BGDClassifier((6,), random_state=0, **params)  # a constant step
    for _ in range(5):
        clf.partial_fit(X, y, classes=None if kind == "multilabel" else np.unique(y))
    np.testing.assert_array_equal(parameters(clf), parameters(expected))
    assert clf.loss_curve_ == expected.loss_curve_
    assert (clf.n_iter_, clf.t_) == (expected.n_iter_, expected.t_)


def test_cosine_in_partial_fit_ends_at_max_iter(moons):
    X, _, y, _ = moons
    params = {"learning_rate_schedule": "cosine", "batch_size": 16, "alpha": 2e-4}
    clf = small(**params)
    for _ in range(12):
        clf.partial_fit(X, y, classes=[0, 1])
    same(clf, small(**params).fit(X, y))
    before = parameters(clf).copy()
    np.testing.assert_array_equal(parameters(clf.partial_fit(X, y)), before)
    assert clf.learning_rate_ == 0


def test_partial_fit_after_early_stopping_goes_on_from_the_best(moons):
    X, X_val, y, y_val = moons
    clf = small(early_stopping=True, max_iter=60, momentum=0.9, learning_rate=0.3)
    clf.fit(X[:20], y[:20], X_val=X_val, y_val=y_val)
    best = parameters(clf).copy()
    clf.set_params(learning_rate=1e-12).partial_fit(X, y)
    np.testing.assert_allclose(parameters(clf), best, rtol=0, atol=1e-9)


def test_streaming_does_not_slow_down(moons):
    """A call does not copy the curve of all calls before."""
    X, _, y, _ = moons
    clf = BGDClassifier((), batch_size=1).partial_fit(X, y, classes=[0, 1])
    curves = clf.loss_curve_, clf.updates_curve_, clf.seconds_curve_
    for _ in range(5):
        clf.partial_fit(X[:1], y[:1])
    assert clf.loss_curve_ is curves[0]
    assert clf.updates_curve_ is curves[1]
    assert clf.seconds_curve_ is curves[2]
    assert [len(curve) for curve in curves] == [6, 6, 6]


def test_a_copy_goes_on_by_itself(moons):
    X, _, y, _ = moons
    clf = small().fit(X, y)
    other = copy(clf).partial_fit(X, y)
    assert (clf.n_iter_, other.n_iter_) == (12, 13)
    clf.partial_fit(X, y)
    other.partial_fit(X, y)
    clf.partial_fit(X, y)
    same(clf, other)
    assert clf.n_iter_ == len(clf.loss_curve_) == 14


# warm_start: nothing has changed since the last call


def test_fit_starts_anew():
    X, y = targets("binary")
    clf = fitted(X, y, momentum=0.9)
    first = parameters(clf).copy()
    np.testing.assert_array_equal(parameters(clf.fit(X, y)), first)
    assert clf.n_iter_ == 20


WARM = {
    **HISTORIES,
    "stopping": {"tol": 1e-3, "n_iter_no_change": 4},
    "adaptive": {
        "learning_rate_schedule": "adaptive",
        "tol": 0.01,
        "n_iter_no_change": 2,
    },
    "early stopping": {"early_stopping": True, "solver": "adam", "scoring": "accuracy"},
    "early stopped": {"early_stopping": True, "tol": 0.1, "n_iter_no_change": 3},
    "scorer": {"early_stopping": True, "scoring": make_scorer(accuracy_score)},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("pickled", [False, True], ids=["", "pickled"])
@pytest.mark.parametrize("history", WARM)
def test_warm_start_continues_exactly(moons, history, pickled):
    """max_iter=9, then 20, is max_iter=20: early-stopping state and all."""
    X, _, y, _ = moons
    params = {**WARM[history], "batch_size": 16}
    clf = small(**params, warm_start=True).set_params(max_iter=9).fit(X, y)
    if pickled:
        clf = pickle.loads(pickle.dumps(clf))
    clf.set_params(max_iter=20).fit(X, y)
    expected = small(**params).set_params(max_iter=20).fit(X, y)
    same(clf, expected)
    assert clf.stop_reason_ == expected.stop_reason_


def test_warm_start_needs_the_same_classes(moons):
    X, _, y, _ = moons
    clf = small(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"classes \[0, 1\]; got classes=\[0, 1, 2\]"):
        clf.fit(X, np.arange(len(y)) % 3)


def test_failed_warm_fit_leaves_curves_and_model(moons):
    X, _, y, _ = moons
    clf = small(activation="relu", warm_start=True).fit(X, y)
    expected = pickle.loads(pickle.dumps(clf))
    clf.set_params(learning_rate=1e200, max_iter=50)
    with pytest.raises(ValueError, match="diverged"):
        clf.fit(X, y)
    same(clf, expected)


# warm_start: something has


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_with_another_goal_goes_on_from_the_model(moons):
    """A fresh stopping rule: what ended the last fit, and its best, do not count."""
    X, X_val, y, y_val = moons
    own = {"X_val": X_val, "y_val": y_val}
    params = {"max_iter": 30, "warm_start": True, "early_stopping": True}
    params.update(batch_size="full", learning_rate=1.0)
    clf = small(**params, scoring="accuracy", n_iter_no_change=3, tol=0).fit(
        X, y, **own
    )
    assert clf.stop_reason_ == "early_stopping"
    for change, call in (
        ({"scoring": None}, own),
        ({"early_stopping": False}, {}),
        ({"tol": None}, {}),
        ({}, {"y": 1 - y}),
    ):
        best, n_iter = parameters(clf).copy(), clf.n_iter_
        clf.set_params(**change, max_iter=n_iter + 1).fit(X, **{"y": y, **call})
        assert clf.n_iter_ == n_iter + 1
        assert (parameters(clf) != best).any()
        # one step away from what it was, not back at some older parameters
        assert np.abs(parameters(clf) - best).max() < 0.5
    assert np.isnan(clf.validation_loss_curve_).sum() == 0
    clf.set_params(max_iter=clf.n_iter_ + 1).fit(X, y, **own)
    assert len(clf.validation_loss_curve_) == clf.n_iter_
    assert np.isnan(clf.validation_loss_curve_).sum() == 3
    with pytest.warns(ConvergenceWarning, match="No epoch was made"):
        clf.set_params(max_iter=1, tol=0).fit(X, y)


def neuron(**params):
    """A convex problem: one optimum, wherever training starts."""
    params = {"batch_size": "full", "max_iter": 20_000, "tol": 1e-13, **params}
    return BGDClassifier((), learning_rate=1.0, n_iter_no_change=50, **params)


CHANGES = {
    "alpha": 0.3,
    "batch_size": 60,
    "momentum": 0.5,
    "nesterov": True,
    "solver": "adam",
    "learning_rate": 0.3,
    "learning_rate_schedule": "invscaling",
    "power_t": 0.1,
    "max_gradient_norm": 0.5,
    "shuffle": False,
    "class_weight": {1: 3.0},
    "beta_1": 0.8,
    "beta_2": 0.99,
    "epsilon": 1e-3,
    "tol": 1e-11,
    "n_iter_no_change": 60,
    "early_stopping": True,
    "scoring": "accuracy",
    "validation_fraction": 0.2,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_parameter_starts_the_stopping_rule_anew(name):
    """After convergence more epochs are made, unless nothing has changed."""
    clf = BGDClassifier(
        (3,), warm_start=True, max_iter=60, tol=10.0, n_iter_no_change=4, random_state=0
    ).fit(X, y)
    n_iter = clf.n_iter_
    assert clf.stop_reason_ == "converged"
    with pytest.warns(ConvergenceWarning, match="No epoch was made: training stopped"):
        clf.fit(X, y)
    assert clf.n_iter_ == n_iter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clf.set_params(**{name: CHANGES[name]}).fit(X, y)
    assert clf.n_iter_ > n_iter


# Pairs of callables that differ in nothing but what they are.
NAMESAKES = {
    "schedule": ("learning_rate_schedule", lambda: lambda epoch: 1.0),
    "scorer": ("scoring", lambda: lambda clf, X, y: 0.0),
    "make_scorer": ("scoring", lambda: make_scorer(lambda y, labels: 0.0)),
    "partial": ("scoring", lambda: partial(lambda clf, X, y: 0.0)),
}


@pytest.mark.parametrize("name, make", NAMESAKES.values(), ids=NAMESAKES)
def test_callables_are_compared_as_objects(name, make):
    """Another one of the same name starts the stopping rule anew, the same does not."""
    clf = stopped_at_once(**{name: make()})
    n_iter = clf.n_iter_
    with pytest.warns(ConvergenceWarning, match="No epoch was made"):
        clf.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        clf.set_params(**{name: make()}, max_iter=100).fit(X, y)
    assert clf.n_iter_ > n_iter


@pytest.mark.parametrize("copied", [copy, deepcopy, "pickle"])
def test_a_callable_that_is_gone_starts_the_stopping_rule_anew(copied):
    """It need not pickle, and a saved model does not take another for it."""
    clf = stopped_at_once(scoring=lambda clf, X, y: 0.0)
    clf.set_params(scoring=None, max_iter=100)
    other = pickle.loads(pickle.dumps(clf)) if copied == "pickle" else copied(clf)
    for scoring in (None, lambda clf, X, y: 0.0):
        n_iter = other.n_iter_
        other.set_params(scoring=scoring).fit(X, y)
        assert other.n_iter_ > n_iter


@pytest.mark.parametrize(
    "change", [{"n_jobs": 1}, {"verbose": True}, {"random_state": 7}, {"max_iter": 61}]
)
def test_a_parameter_without_effect_on_the_steps_does_not(change):
    clf = BGDClassifier(
        (3,), warm_start=True, max_iter=60, tol=10.0, n_iter_no_change=4, random_state=0
    ).fit(X, y)
    n_iter = clf.n_iter_
    with pytest.warns(ConvergenceWarning, match="No epoch was made"):
        clf.set_params(**change).fit(X, y)
    assert clf.n_iter_ == n_iter


@pytest.mark.parametrize("alphas", [(1.0, 0.1, 0.01), (0.01, 0.1, 1.0)])
def test_a_path_over_alpha_reaches_each_optimum(alphas):
    """As cold fits do, upwards and downwards; a larger alpha is no rise of the loss."""
    warm = neuron(warm_start=True)
    n_iter = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        for alpha in alphas:
            cold = neuron(alpha=alpha).fit(X, y)
            warm.set_params(alpha=alpha).fit(X, y)
            assert cold.stop_reason_ == warm.stop_reason_ == "converged"
            np.testing.assert_allclose(parameters(warm), parameters(cold), atol=1e-6)
            assert warm.n_iter_ > n_iter
            n_iter = warm.n_iter_


def test_weights_of_classes_changed_in_place_are_seen():
    weights, params = {0: 1.0}, {"alpha": 0.01, "standardize": False}
    warm = neuron(**params, warm_start=True, class_weight=weights).fit(X, y)
    weights[0] = 5.0
    warm.fit(X, y)
    cold = neuron(**params, class_weight={0: 5.0}).fit(X, y)
    np.testing.assert_allclose(parameters(warm), parameters(cold), atol=1e-6)


@pytest.mark.parametrize("tol", [None, 1e-4])
def test_a_call_that_makes_no_epoch_says_so(tol):
    """max_iter counts all epochs: a loop over fit with max_iter=1 trains for one."""
    clf = BGDClassifier(
        (3,), max_iter=1, learning_rate=0.5, warm_start=True, tol=tol, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if tol else "error", ConvergenceWarning)
        clf.fit(X, y)
    for _ in range(3):
        with pytest.warns(
            ConvergenceWarning,
            match=r"No epoch was made: max_iter=1 includes .* earlier calls \(1\)",
        ):
            clf.fit(X, y)
        assert clf.n_iter_ == 1
    # the cure
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "max_iter=. epochs were")
        for k in range(2, 6):
            clf.set_params(max_iter=k).fit(X, y)
        assert clf.n_iter_ == 5
        assert clf.loss_curve_ == clone(clf).fit(X, y).loss_curve_
