"""Training that resumes: partial_fit, averaged streams, warm_start, copies."""

import pickle
import warnings
from copy import copy, deepcopy
from functools import partial

import numpy as np
import pytest
from helpers import fitted, initial, parameters, same, small, targets
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, make_scorer

from skbgd import BGDClassifier

X, y = make_classification(120, 5, n_informative=4, n_redundant=0, random_state=3)


# partial_fit


def falling(epoch):
    return 0.9**epoch


HISTORIES = {
    "plain": {},
    "momentum": {"momentum": 0.9, "nesterov": True},
    "adam": {"solver": "adam"},
    "invscaling": {"learning_rate_schedule": "invscaling"},
    "callable": {"learning_rate_schedule": falling},
    "clipped": {"max_gradient_norm": 0.05},
    "full batch": {"batch_size": "full", "momentum": 0.9},
}


@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("history", HISTORIES)
def test_partial_fit_is_fit_epoch_by_epoch(kind, history):
    """k calls with the same rows equal fit with max_iter=k, bit for bit."""
    X, y = targets(kind)
    params = {"batch_size": 16, "alpha": 2e-4, **HISTORIES[history]}
    clf = small(**params)
    for _ in range(12):
        clf.partial_fit(X, y, classes=None if y.ndim == 2 else np.unique(y))
    same(clf, small(**params).fit(X, y))


def test_cosine_in_partial_fit_ends_at_max_iter(moons):
    """After max_iter calls the step size is 0."""
    X, _, y, _ = moons
    params = {"learning_rate_schedule": "cosine", "batch_size": 16, "alpha": 2e-4}
    clf = small(**params)
    for _ in range(12):
        clf.partial_fit(X, y, classes=[0, 1])
    same(clf, small(**params).fit(X, y))
    before = parameters(clf).copy()
    np.testing.assert_array_equal(parameters(clf.partial_fit(X, y)), before)
    assert clf.learning_rate_ == 0


def test_partial_fit_after_early_stopping_continues_from_the_best(moons):
    """The momentum of the last epoch is not kept either."""
    X, X_val, y, y_val = moons
    clf = small(early_stopping=True, max_iter=60, momentum=0.9, learning_rate=0.3)
    clf.fit(X[:20], y[:20], X_val=X_val, y_val=y_val)
    best = parameters(clf).copy()
    clf.set_params(learning_rate=1e-12).partial_fit(X, y)
    np.testing.assert_allclose(parameters(clf), best, rtol=0, atol=1e-9)


def test_streaming_does_not_slow_down(moons):
    """A call appends to the curves of earlier calls and does not copy them."""
    X, _, y, _ = moons
    clf = BGDClassifier((), batch_size=1).partial_fit(X, y, classes=[0, 1])
    curves = clf.loss_curve_, clf.updates_curve_, clf.seconds_curve_
    for _ in range(5):
        clf.partial_fit(X[:1], y[:1])
    assert clf.loss_curve_ is curves[0]
    assert clf.updates_curve_ is curves[1]
    assert clf.seconds_curve_ is curves[2]
    assert [len(curve) for curve in curves] == [6, 6, 6]


def test_a_copy_resumes_independently(moons):
    """Each continues its own curves."""
    X, _, y, _ = moons
    clf = small().fit(X, y)
    other = copy(clf).partial_fit(X, y)
    assert (clf.n_iter_, other.n_iter_) == (12, 13)
    clf.partial_fit(X, y)
    other.partial_fit(X, y)
    clf.partial_fit(X, y)
    same(clf, other)
    assert clf.n_iter_ == len(clf.loss_curve_) == 14


def test_a_copy_leaves_the_curves_of_the_original(moons):
    X, _, y, _ = moons
    clf = small().fit(X, y)
    curves = clf.loss_curve_, clf.updates_curve_, clf.seconds_curve_
    before = deepcopy((*curves, clf.loss_))
    copy(clf).partial_fit(X, 1 - y)
    clf.partial_fit(X, y, sample_weight=0)  # sets `loss_` anew
    assert (*curves, clf.loss_) == before
    assert clf.loss_curve_ == curves[0]


# Streams: the model is an average of the parameters after each call


def stream(n_calls, clf=None, **params):
    """A classifier after calls of partial_fit with ten rows each."""
    if clf is None:
        clf = BGDClassifier((4,), random_state=0, **params)
    start = clf.n_iter_ if hasattr(clf, "n_iter_") else 0
    for k in range(start, start + n_calls):
        rows = slice(10 * k % 120, 10 * k % 120 + 10)
        clf.partial_fit(X[rows], y[rows], classes=[0, 1])
    return clf


STREAMS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "adam": {"solver": "adam"},
    "raw": {"standardize": False},
}


@pytest.mark.parametrize("stream_params", STREAMS.values(), ids=STREAMS)
def test_a_stream_is_a_weighted_average(stream_params):
    """In call k, from 0, the parameters have the weight 5 / (k + 5) in the average.

    A schedule that is given as a function has the same steps, but no average.
    """
    params = {**stream_params, "alpha": 1e-4, "batch_size": 4}
    last = BGDClassifier(
        (4,), random_state=0, **params,
        learning_rate_schedule=lambda epoch: (1 + 10 * epoch / 1000) ** -0.5,
    )  # fmt: skip
    average = None
    for k in range(25):
        averaged = stream(k + 1, **params)
        last = stream(1, last)
        theta = parameters(last)
        average = theta if k == 0 else average + 5 / (k + 5) * (theta - average)
        np.testing.assert_allclose(parameters(averaged), average, rtol=1e-12)
        assert averaged.loss_curve_ == last.loss_curve_


@pytest.mark.parametrize("stream_params", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("copied", [copy, deepcopy, "pickle"])
def test_a_stream_resumes_exactly(stream_params, copied):
    """Saved and loaded after some calls, it goes through the same parameters."""
    clf, expected = stream(7, **stream_params), stream(19, **stream_params)
    before = parameters(clf).copy()
    other = pickle.loads(pickle.dumps(clf)) if copied == "pickle" else copied(clf)
    same(clf, other)
    same(stream(12, other), expected)
    np.testing.assert_array_equal(parameters(clf), before)


@pytest.mark.parametrize("stream_params", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize(
    "end",
    [
        lambda clf: clf.set_params(
            learning_rate_schedule="constant", learning_rate=1e-12
        ).partial_fit(X, y),
        lambda clf: clf.set_params(
            warm_start=True, max_iter=20, tol=None, learning_rate=1e-12
        ).fit(X, y),
        lambda clf: setattr(clf, "coefs_", clf.coefs_),
    ],
    ids=["constant", "warm start", "set weights"],
)
def test_a_stream_that_ends_continues_from_its_average(stream_params, end):
    """Another schedule, `fit` and weights that are set end it, without momentum."""
    clf = stream(19, **stream_params)
    average = parameters(clf).copy()
    end(clf)
    np.testing.assert_allclose(parameters(clf), average, rtol=0, atol=1e-9)


def test_weights_that_are_set_begin_another_average():
    """The first call after them is the model."""
    clf, other = stream(10, alpha=1e-4), stream(10, alpha=1e-4)
    for each in (clf, other):
        each.coefs_ = [np.ones_like(W) for W in each.coefs_]
    factor = (1 + 100 / 1000) ** -0.5
    other.set_params(
        learning_rate=factor * clf.learning_rate_init_,
        learning_rate_schedule="constant",
    )
    for each in (clf, other):
        each.partial_fit(X, y)
    np.testing.assert_allclose(parameters(clf), parameters(other), rtol=1e-12)


# warm_start: nothing has changed since the last call


def test_fit_restarts():
    """Without warm_start, a second fit equals the first."""
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
@pytest.mark.parametrize("pickled", [False, True], ids=["in memory", "pickled"])
@pytest.mark.parametrize("history", WARM)
def test_warm_start_continues_exactly(moons, history, pickled):
    """fit to epoch 9 and again to 20 is fit to 20, early stopping included."""
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


def test_a_failed_warm_start_leaves_curves_and_model(moons):
    """After a divergence the classifier is the one before the call."""
    X, _, y, _ = moons
    clf = small(activation="relu", warm_start=True).fit(X, y)
    expected = pickle.loads(pickle.dumps(clf))
    clf.set_params(learning_rate=1e200, max_iter=50)
    with pytest.raises(ValueError, match="diverged"):
        clf.fit(X, y)
    same(clf, expected)


# warm_start: the rows or a parameter have changed


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("row", [0, 1, 2998, 2999])
@pytest.mark.parametrize("changed", ["X", "y", "sample_weight", "sparse"])
def test_warm_start_notices_a_change_of_any_sample(changed, row):
    """Training that has stopped then continues."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 2)), rng.integers(2, size=3000)
    given = {"X": X, "y": y, "sample_weight": np.ones(3000)}
    clf = small(warm_start=True, max_iter=50, tol=10.0, n_iter_no_change=2)
    if changed == "sparse":
        given["X"] = X = sparse.csr_array(X)
        changed = "X"
        row = slice(*X.indptr[row : row + 2])
    clf.fit(**given).fit(**given)
    n_iter = clf.n_iter_
    array = X.data if sparse.issparse(X) else given[changed]
    array[row] = 1 - array[row] if changed == "y" else 1.5
    clf.fit(**given)
    assert clf.n_iter_ > n_iter


def test_warm_start_with_another_kind_of_target():
    """The error is the same with early stopping, which splits the samples."""
    clf = small(warm_start=True, early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="must hold one class label per row"):
        clf.fit(X, np.column_stack([y, 1 - y]))


def test_another_activation_without_hidden_layers(moons):
    """It has no effect."""
    X, _, y, _ = moons
    params = {"hidden_layer_sizes": (), "max_iter": 12}
    clf = small(**params | {"max_iter": 5}, warm_start=True).fit(X, y)
    clf.set_params(activation="relu", max_iter=12).fit(X, y)
    same(clf, small(**params).fit(X, y))


def test_step_sizes_of_a_fit_before_lbfgs(moons):
    """They are no longer available."""
    X, _, y, _ = moons
    clf = small(warm_start=True).fit(X, y)
    clf.set_params(solver="lbfgs", tol=1e-4, max_iter=100).fit(X, y)
    assert not hasattr(clf, "learning_rate_")
    assert not hasattr(clf, "learning_rate_init_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_after_a_change_continues_from_the_model(moons):
    """The stopping rule restarts: neither the last end nor the last best count."""
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
        # One step away from the last parameters, not back at older ones.
        assert np.abs(parameters(clf) - best).max() < 0.5
    assert np.isnan(clf.validation_loss_curve_).sum() == 0
    clf.set_params(max_iter=clf.n_iter_ + 1).fit(X, y, **own)
    assert len(clf.validation_loss_curve_) == clf.n_iter_
    assert np.isnan(clf.validation_loss_curve_).sum() == 3
    with pytest.warns(ConvergenceWarning, match="No epoch was made"):
        clf.set_params(max_iter=1, tol=0).fit(X, y)


def single_layer(**params):
    """A convex problem, whose optimum does not depend on the initial weights."""
    params = {"batch_size": "full", "max_iter": 20_000, "tol": 1e-13, **params}
    return small(hidden_layer_sizes=(), learning_rate=1.0, **params)


def stopped_at_once(**params):
    """A warm start that has converged, and makes no epoch unless something changes."""
    params = {"tol": 10.0, "n_iter_no_change": 4, "early_stopping": True, **params}
    return small(warm_start=True, **params).fit(X, y)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_change_of_the_solver_keeps_no_moments(momentum):
    """The steps after it are those of a model that starts from the parameters."""
    adam = small(solver="adam", warm_start=True, shuffle=False, learning_rate=0.05)
    adam.fit(X, y)
    start = initial(adam, X, y)
    start.coefs_ = adam.coefs_
    start.intercepts_ = adam.intercepts_
    for clf in (adam, start):
        clf.set_params(solver="sgd", learning_rate=0.1, momentum=momentum, alpha=1e-4)
        clf.partial_fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(parameters(adam), parameters(start))


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
def test_a_changed_parameter_restarts_the_stopping_rule(name):
    """After convergence more epochs are made only if something has changed."""
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
    """Another one of the same name restarts the stopping rule, the same does not."""
    clf = stopped_at_once(**{name: make()})
    n_iter = clf.n_iter_
    with pytest.warns(ConvergenceWarning, match="No epoch was made"):
        clf.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        clf.set_params(**{name: make()}, max_iter=100).fit(X, y)
    assert clf.n_iter_ > n_iter


@pytest.mark.parametrize("copied", [copy, deepcopy, "pickle"])
def test_a_callable_that_is_gone_restarts_the_stopping_rule(copied):
    """It need not pickle, and a copy does not take another callable for it."""
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
def test_a_parameter_without_effect_on_the_steps_does_not_restart_it(change):
    """No epoch is made, which warns."""
    clf = BGDClassifier(
        (3,), warm_start=True, max_iter=60, tol=10.0, n_iter_no_change=4, random_state=0
    ).fit(X, y)
    n_iter = clf.n_iter_
    with pytest.warns(ConvergenceWarning, match="No epoch was made"):
        clf.set_params(**change).fit(X, y)
    assert clf.n_iter_ == n_iter


@pytest.mark.parametrize("alphas", [(1.0, 0.1, 0.01), (0.01, 0.1, 1.0)])
def test_a_path_over_alpha_reaches_each_optimum(alphas):
    """A warm start reaches the optimum of each alpha, upwards and downwards.

    A larger alpha, which raises the objective, does not warn.
    """
    warm = single_layer(warm_start=True)
    n_iter = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        for alpha in alphas:
            cold = single_layer(alpha=alpha).fit(X, y)
            warm.set_params(alpha=alpha).fit(X, y)
            assert cold.stop_reason_ == warm.stop_reason_ == "converged"
            np.testing.assert_allclose(parameters(warm), parameters(cold), atol=1e-6)
            assert warm.n_iter_ > n_iter
            n_iter = warm.n_iter_


def test_class_weights_changed_in_place_are_detected():
    weights, params = {0: 1.0}, {"alpha": 0.01, "standardize": False}
    warm = single_layer(**params, warm_start=True, class_weight=weights).fit(X, y)
    weights[0] = 5.0
    warm.fit(X, y)
    cold = single_layer(**params, class_weight={0: 5.0}).fit(X, y)
    np.testing.assert_allclose(parameters(warm), parameters(cold), atol=1e-6)


@pytest.mark.parametrize("tol", [None, 1e-4])
def test_a_call_that_makes_no_epoch_says_so(tol):
    """max_iter counts all epochs: a loop over fit with max_iter=1 makes one epoch."""
    clf = small(max_iter=1, learning_rate=0.5, warm_start=True, tol=tol)
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "max_iter=. epochs were")
        for k in range(2, 6):
            clf.set_params(max_iter=k).fit(X, y)
        assert clf.n_iter_ == 5
        assert clf.loss_curve_ == clone(clf).fit(X, y).loss_curve_
