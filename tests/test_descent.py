"""The descent over epochs: against scikit-learn's solvers, and its own laws."""

import warnings

import numpy as np
import pytest
from helpers import fitted, parameters, starting_from, targets
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skbgd import BGDClassifier
from skbgd._core import backprop
from skbgd._descent import Descent, State, minimize
from skbgd._settings import resolve_batch_size


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)],
    ids=["plain", "momentum", "nesterov"],
)  # fmt: skip
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("batch_size", [16, 70], ids=["mini-batches", "whole batch"])
def test_trajectory_equals_mlp_classifier(
    kind, activation, momentum, nesterov, batch_size
):
    """From the same start, without penalty, 50 epochs are MLPClassifier's to 1e-10.

    70 rows in batches of 16: the last one is short.
    """
    X, y = targets(kind)
    common = {
        "hidden_layer_sizes": (8, 5),
        "activation": activation,
        "batch_size": batch_size,
        "alpha": 0.0,
        "max_iter": 50,
        "shuffle": False,
        "momentum": momentum,
        "random_state": 3,
    }
    clf = BGDClassifier(
        **common,
        output_activation="softmax",
        learning_rate=0.02,
        nesterov=nesterov,
        tol=None,
    ).fit(X, y)
    mlp = MLPClassifier(
        **common,
        solver="sgd",
        learning_rate_init=0.02,
        nesterovs_momentum=nesterov,
        tol=0,
        n_iter_no_change=1000,
    )
    mlp = starting_from(mlp, clf, X, y)
    assert clf.out_activation_ == mlp.out_activation_
    np.testing.assert_allclose(parameters(clf), parameters(mlp), rtol=0, atol=1e-10)
    np.testing.assert_allclose(clf.loss_curve_, mlp.loss_curve_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        clf.predict_proba(X), mlp.predict_proba(X), rtol=0, atol=1e-10
    )
    np.testing.assert_array_equal(clf.predict(X), mlp.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"solver": "adam", "learning_rate": 0.01}, {"solver": "adam"}),
        (
            {"solver": "adam", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
            {"solver": "adam", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
        ),
        (
            {"learning_rate_schedule": "invscaling", "power_t": 0.3},
            {"learning_rate": "invscaling", "power_t": 0.3},
        ),
    ],
    ids=["adam", "adam with its own betas", "invscaling"],
)
def test_solvers_and_schedules_equal_mlp_classifier(kind, ours, theirs):
    """From the same start, 50 epochs to 1e-10, the last batch short."""
    X, y = targets(kind)
    common = {
        "hidden_layer_sizes": (8, 5),
        "activation": "tanh",
        "batch_size": 16,
        "alpha": 0.0,
        "max_iter": 50,
        "shuffle": False,
        "random_state": 3,
    }
    ours = {"learning_rate": 0.01, **ours}
    clf = BGDClassifier(**common, output_activation="softmax", tol=None, **ours)
    clf.fit(X, y)
    theirs = {"solver": "sgd", "momentum": 0, "nesterovs_momentum": False, **theirs}
    mlp = MLPClassifier(
        **common, **theirs, learning_rate_init=0.01, tol=0, n_iter_no_change=1000
    )
    mlp = starting_from(mlp, clf, X, y)
    np.testing.assert_allclose(parameters(clf), parameters(mlp), rtol=0, atol=1e-10)
    np.testing.assert_allclose(clf.loss_curve_, mlp.loss_curve_, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_single_neuron_reaches_the_optimum_of_logistic_regression(kind, weighted):
    """Whole batch, long enough: LogisticRegression's weights for the same penalty.

    Its objective is C sum_i w_i l_i + 1/2 ||W||^2, so C = 1 / (alpha sum_i w_i).
    """
    X, y = targets(kind, n=200)
    w = np.random.default_rng(0).uniform(size=200) if weighted else None
    alpha = 0.01
    C = 1 / (alpha * (200 if w is None else w.sum()))
    clf = BGDClassifier(
        (),
        output_activation="softmax",
        batch_size="full",
        learning_rate=1.0,
        alpha=alpha,
        max_iter=20_000,
        tol=None,
        standardize=False,
    ).fit(X, y, sample_weight=w)
    expected = LogisticRegression(C=C, tol=1e-12, max_iter=10_000)
    expected.fit(X, y, sample_weight=w)
    coef, intercept = clf.coefs_[0].T, clf.intercepts_[0]
    expected_intercept = expected.intercept_
    if kind == "multiclass":  # softmax does not change with a shift of all intercepts
        intercept = intercept - intercept.mean()
        expected_intercept = expected_intercept - expected_intercept.mean()
    np.testing.assert_allclose(coef, expected.coef_, rtol=0, atol=1e-4)
    np.testing.assert_allclose(intercept, expected_intercept, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_held_out_log_loss_and_calibration():
    """On digits: log-loss as good as MLPClassifier's, confidence near the hit rate."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, stratify=y, random_state=0
    )
    clf = BGDClassifier(
        (64,), output_activation="softmax", batch_size=64, learning_rate=0.2, alpha=0,
        max_iter=200, tol=None, random_state=0,
    ).fit(X_train, y_train)  # fmt: skip
    mlp = MLPClassifier(
        (64,), solver="sgd", activation="logistic", batch_size=64,
        learning_rate_init=0.2, momentum=0, nesterovs_momentum=False, alpha=0,
        max_iter=200, tol=0, n_iter_no_change=1000, random_state=0,
    ).fit(X_train, y_train)  # fmt: skip
    P = clf.predict_proba(X_test)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-12)
    assert (clf.predict(X_test) == clf.classes_[P.argmax(axis=1)]).all()
    ours, theirs = log_loss(y_test, P), log_loss(y_test, mlp.predict_proba(X_test))
    assert ours <= 1.02 * theirs
    # A softmax applied twice would leave the argmax and flatten the confidence.
    assert P.max(axis=1).mean() == pytest.approx(clf.score(X_test, y_test), abs=0.03)


# Batches


@pytest.mark.parametrize(
    "batch_size, n_samples, expected",
    [
        (1, 10, 1),
        (7, 10, 7),
        (10, 10, 10),
        (11, 10, 10),
        ("full", 10, 10),
        ("full", 1000, 1000),
        ("auto", 5, 5),
        ("auto", 100, 16),
        ("auto", 1000, 16),
        ("auto", 20_000, 64),
        (np.int64(3), 10, 3),
    ],
)
def test_resolve_batch_size(batch_size, n_samples, expected):
    assert resolve_batch_size(batch_size, n_samples) == expected


def test_batch_size_beyond_the_rows_is_the_whole_batch():
    """... without a warning, and without drawing an order of the rows."""
    X, y = targets("multiclass")
    expected = parameters(fitted(X, y, batch_size="full", learning_rate=0.5))
    for batch_size in (70, 71, 10**9):
        clf = fitted(X, y, batch_size=batch_size, learning_rate=0.5)
        np.testing.assert_array_equal(parameters(clf), expected)


def test_whole_batch_does_not_depend_on_the_order_of_rows():
    X, y = targets("multiclass")
    order = np.random.default_rng(0).permutation(70)
    first, second = (
        fitted(X, y, batch_size="full"),
        fitted(X[order], y[order], batch_size="full"),
    )
    np.testing.assert_allclose(parameters(first), parameters(second), atol=1e-11)


def test_shuffling_differs_between_epochs_and_seeds_but_repeats():
    """Rows whose step is felt most are the last ones: a new order shows at once."""
    X, y = targets("multiclass")
    params = {"batch_size": 1, "hidden_layer_sizes": (), "max_iter": 2}

    def first_two_epochs(**more):
        clf = BGDClassifier(tol=None, **{**params, **more})
        first = parameters(clf.set_params(max_iter=1).fit(X, y)).copy()
        return first, parameters(clf.set_params(max_iter=2).fit(X, y)).copy()

    first, second = first_two_epochs(random_state=0)
    np.testing.assert_array_equal(second, first_two_epochs(random_state=0)[1])
    # One neuron starts at 0 whatever the seed: only the order differs.
    assert (first != first_two_epochs(random_state=1)[0]).any()
    # A second epoch in the order of the first would be this:
    order = np.empty(70, dtype=np.intp)
    clf = BGDClassifier((), batch_size=1, tol=None, max_iter=1, random_state=0)
    random_state = np.random.RandomState(0)
    state = int(random_state.randint(2**63, dtype=np.uint64))
    backprop.shuffle(order, state)
    same = clf.set_params(max_iter=2, shuffle=False).fit(X[order], y[order])
    once = clone(same).set_params(max_iter=1).fit(X[order], y[order])
    np.testing.assert_allclose(parameters(once), first, rtol=1e-12)
    assert np.abs(parameters(same) - second).max() > 1e-6


# Weights


@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
def test_integer_weights_equal_repeated_rows(kind):
    """With the whole batch, exactly up to rounding."""
    X, y = targets(kind)
    times = np.random.default_rng(0).integers(4, size=70)
    weighted = fitted(X, y, times, batch_size="full", alpha=0.01)
    repeated = fitted(
        X.repeat(times, axis=0), y.repeat(times, axis=0), batch_size="full", alpha=0.01
    )
    np.testing.assert_allclose(
        parameters(weighted), parameters(repeated), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 16, "full"])
@pytest.mark.parametrize("scale", [1e-300, 0.1, 100.0, 1e300])
def test_scale_of_weights_changes_nothing(scale, batch_size):
    X, y = targets("multiclass")
    w = np.random.default_rng(0).uniform(0.1, 1, size=70)
    first = fitted(X, y, w, batch_size=batch_size)
    second = fitted(X, y, scale * w, batch_size=batch_size)
    np.testing.assert_allclose(
        parameters(first), parameters(second), rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(first.loss_curve_, second.loss_curve_, rtol=1e-10)


def test_mini_batch_without_weight_is_harmless():
    """Rows 16 to 31, a batch of weight zero, could be any other rows."""
    X, y = targets("multiclass")
    w = np.ones(70)
    w[16:32] = 0
    clf = fitted(X, y, w, batch_size=16, shuffle=False)
    X[16:32] = 1e200 * X[16:32][::-1]
    y[16:32] = y[16:32][::-1]
    other = fitted(X, y, w, batch_size=16, shuffle=False)
    np.testing.assert_array_equal(parameters(clf), parameters(other))
    assert clf.loss_curve_ == other.loss_curve_


def test_steps_over_an_epoch_add_up_to_the_weighted_gradient():
    """With a tiny step, ten batches of 7 of 70 rows move ten times as far as one."""
    X, y = targets("binary")
    w = np.random.default_rng(0).uniform(size=70)
    eta = 1e-7
    start = fitted(X, y, w, max_iter=1, learning_rate=1e-300, batch_size="full")

    def displacement(X, w, y, **params):
        clf = fitted(X, y, w, max_iter=1, shuffle=False, alpha=0, **params)
        return (parameters(clf) - parameters(start)) / eta

    whole = displacement(X, w, y, learning_rate=eta, batch_size="full")
    # 70 rows in ten batches of 7: each contributes n / (m sum w) = 10 times its share
    tenths = displacement(X, w, y, learning_rate=eta, batch_size=7)
    np.testing.assert_allclose(tenths, 10 * whole, rtol=0, atol=1e-5)


# Curves, counters, stopping


class Recorded(Descent):
    """A descent whose losses are given."""

    eta = 1.0

    def __init__(self, losses):
        self.losses = iter(losses)
        self.state = State(theta=np.zeros(1))

    def epoch(self):
        self.state.loss_curve.append(next(self.losses))
        self.state.n_iter += 1


@pytest.mark.parametrize(
    "losses, n_iter_no_change, n_iter",
    [
        ([1.0] * 9, 3, 4),  # the first is the reference, then three flat ones
        ([1.0] * 9, 1, 2),
        ([1.0, 0.95, 0.91, 0.91, 0.91, 0.91], 3, 4),  # each less than 0.1 below 1
        ([1.0, 0.95, 0.89, 0.89, 0.89, 0.89], 3, 6),  # small gains that add up
        ([1.0, 0.5, 2.0, 0.45, 0.6, 0.3], 3, 5),  # noise around the reference
        ([1.0, 0.8, 0.6, 0.4, 0.2, 0.0], 1, 6),  # never flat: all six
    ],
)
def test_patience(losses, n_iter_no_change, n_iter):
    """Stops after exactly n_iter_no_change epochs not 0.1 below the reference."""
    descent = Recorded(losses)
    reason = minimize(descent, max_iter=6, tol=0.1, n_iter_no_change=n_iter_no_change)
    assert descent.state.n_iter == n_iter
    assert reason == ("max_iter" if losses[5:] == [0.0] else "converged")


def test_without_tol_every_epoch_is_run():
    descent = Recorded([1.0] * 9)
    assert minimize(descent, max_iter=9, tol=None, n_iter_no_change=1) == "max_iter"
    assert descent.state.n_iter == 9


def test_convergence_warning_only_when_max_iter_ends_it():
    X, y = targets("binary")
    with pytest.warns(ConvergenceWarning, match="max_iter=3 .*tol=0.0001.*Increase"):
        BGDClassifier(max_iter=3, learning_rate=0.1, n_iter_no_change=2).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BGDClassifier(max_iter=3, learning_rate=0.1, tol=None).fit(X, y)
        # The step falls to 0, as planned.
        BGDClassifier(max_iter=30, random_state=0).fit(X, y)
        clf = BGDClassifier(tol=1e6, n_iter_no_change=4, learning_rate=0.1).fit(X, y)
    assert clf.n_iter_ == 5


# Step size


def test_automatic_step_size_of_a_neuron_never_raises_the_cost():
    """1 / (L + alpha): the whole batch descends, unscaled and with any penalty too."""
    X, y = load_breast_cancer(return_X_y=True)
    clf = BGDClassifier(
        (), batch_size="full", max_iter=200, tol=None, alpha=0,
        learning_rate_schedule="constant", standardize=False,
    )  # fmt: skip
    clf.fit(X, y)
    assert clf.learning_rate_ == pytest.approx(4 / (1 + (X**2).sum(axis=1).mean()))
    assert (np.diff(clf.loss_curve_) < 0).all()
    X, y = targets("multiclass")
    for alpha in (0.0, 1.0, 100.0):
        for output in ("logistic", "softmax"):
            clf.set_params(alpha=alpha, output_activation=output).fit(X, y)
            assert np.diff(clf.loss_curve_).max() < 1e-12


def test_automatic_step_size_with_hidden_layers():
    """0.4 sqrt(min(m, 128)), less for large features, momentum, other activations."""
    X, y = targets("binary", n=600)

    def step_size(X=X, **params):
        with warnings.catch_warnings():  # one step of this size alone may rise
            warnings.simplefilter("ignore", ConvergenceWarning)
            params = {"max_iter": 1, "standardize": False, **params}
            return fitted(X, y, **params).learning_rate_

    auto = step_size(batch_size="auto")
    assert auto == step_size(batch_size=16) == pytest.approx(0.4 * 16**0.5)
    whole = step_size(batch_size="full")
    assert whole == step_size(batch_size=256) == pytest.approx(0.4 * 128**0.5)
    assert step_size(batch_size=1) == pytest.approx(0.4)
    assert step_size(X / 10, batch_size=1) == pytest.approx(0.4)
    assert step_size(X * 10, batch_size=1) == pytest.approx(0.04)
    assert step_size(momentum=0.9, batch_size=1) == pytest.approx(0.04)
    assert step_size(batch_size=1, hidden_layer_sizes=(6, 6)) == pytest.approx(0.4)
    assert step_size(batch_size=1, activation="tanh") == pytest.approx(0.05)
    two = {"activation": "relu", "hidden_layer_sizes": (6, 6)}
    assert step_size(batch_size=1, **two) == pytest.approx(0.025)
    assert step_size(solver="adam") == pytest.approx(0.05)
    assert step_size(solver="adam", hidden_layer_sizes=()) == pytest.approx(0.05)
    assert step_size(solver="adam", **two) == pytest.approx(0.005)
    assert step_size(learning_rate=0.3) == 0.3


def test_automatic_step_size_follows_the_weights():
    """Rows repeated or weighed lead to the same step; weight 0 does not count."""
    X, y = targets("binary")
    times = np.arange(70) % 3
    X = X * (1 + times[:, np.newaxis])
    weighted = fitted(X, y, times, batch_size=8)
    repeated = fitted(X.repeat(times, 0), y.repeat(times), batch_size=8)
    assert weighted.learning_rate_ == pytest.approx(repeated.learning_rate_, rel=1e-12)


def test_automatic_step_size_stays_over_partial_fit():
    X, y = targets("binary")
    clf = BGDClassifier(batch_size=16, standardize=False)
    clf.partial_fit(X * 10, y, classes=[0, 1])
    assert clf.learning_rate_ == pytest.approx(0.16)
    assert clf.partial_fit(X, y).learning_rate_ == pytest.approx(0.16)
    assert clf.set_params(learning_rate=0.2).partial_fit(X, y).learning_rate_ == 0.2


# Continuing


# Precision


@pytest.mark.parametrize("batch_size", [1, 16, "full"])
def test_float32_stays_near_float64(batch_size):
    X, y = targets("multiclass")
    params = {"batch_size": batch_size, "learning_rate": 0.1}
    clf64 = fitted(X, y, **params)
    clf32 = fitted(X.astype(np.float32), y, **params)
    assert clf32.coefs_[0].dtype == clf32.predict_proba(X).dtype == np.float32
    assert clf64.coefs_[0].dtype == np.float64
    np.testing.assert_allclose(
        clf32.predict_proba(X), clf64.predict_proba(X), rtol=0, atol=1e-4
    )
