"""Gradient descent: equal to scikit-learn's solvers, and laws of its own."""

import warnings

import numpy as np
import pytest
from helpers import fitted, parameters, small, starting_from, targets
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skbgd import BGDClassifier
from skbgd._core import backprop
from skbgd._descent import Descent, State, minimize
from skbgd._settings import resolve_batch_size

# The descent of MLPClassifier: raw features, constant steps, every epoch of max_iter.
PLAIN = {
    "output_activation": "softmax",
    "learning_rate_schedule": "constant",
    "standardize": False,
    "tol": None,
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)],
    ids=["plain", "momentum", "nesterov"],
)  # fmt: skip
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("batch_size", [16, 70], ids=["mini-batches", "full batch"])
def test_trajectory_equals_mlp_classifier(
    kind, activation, momentum, nesterov, batch_size
):
    """Without a penalty, 50 epochs equal those of MLPClassifier to 1e-10.

    Both have the same initial weights. In batches of 16, the last of 70 rows is short.
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
        **PLAIN,
        learning_rate=0.02,
        nesterov=nesterov,
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
    ids=["adam", "adam with other betas", "invscaling"],
)
def test_solvers_and_schedules_equal_mlp_classifier(kind, ours, theirs):
    """50 epochs equal those of MLPClassifier to 1e-10, with a short last batch."""
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
    clf = BGDClassifier(**{**common, **PLAIN, "learning_rate": 0.01, **ours})
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
def test_single_layer_reaches_the_optimum_of_logistic_regression(kind, weighted):
    """The full batch converges to LogisticRegression's weights for the same penalty.

    Its objective is C sum_i w_i l_i + 1/2 ||W||^2, so C = 1 / (alpha sum_i w_i).
    """
    X, y = targets(kind, n=200)
    w = np.random.default_rng(0).uniform(size=200) if weighted else None
    alpha = 0.01
    C = 1 / (alpha * (200 if w is None else w.sum()))
    clf = BGDClassifier(
        (), **PLAIN, batch_size="full", learning_rate=1.0, alpha=alpha, max_iter=20_000
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
    """On digits the log-loss is MLPClassifier's, the confidence is the accuracy."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, stratify=y, random_state=0
    )
    clf = BGDClassifier(
        (64,), **PLAIN, batch_size=64, learning_rate=0.2, alpha=0, max_iter=200,
        random_state=0,
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
    "batch_size, n_samples, expected, expected_in_stream",
    [
        (1, 10, 1, 1),
        (7, 10, 7, 7),
        (10, 10, 10, 10),
        (11, 10, 10, 10),
        (np.int64(3), 10, 3, 3),
        ("full", 10, 10, 10),
        ("full", 1000, 1000, 1000),
        ("auto", 3, 3, 3),
        ("auto", 5, 5, 4),
        ("auto", 100, 8, 4),
        ("auto", 449, 8, 5),
        ("auto", 1000, 13, 13),
        ("auto", 20_000, 32, 32),
    ],
)
def test_rows_per_batch(batch_size, n_samples, expected, expected_in_stream):
    """ "auto" is n // 75, from 8 to 32 in fit and from 4 to 32 in partial_fit."""
    assert resolve_batch_size(batch_size, n_samples) == expected
    in_stream = resolve_batch_size(batch_size, n_samples, streaming=True)
    assert in_stream == expected_in_stream


def test_batch_size_beyond_the_rows_is_the_full_batch():
    """There is no warning, and no random order is drawn."""
    X, y = targets("multiclass")
    expected = parameters(fitted(X, y, batch_size="full", learning_rate=0.5))
    for batch_size in (70, 71, 10**9):
        clf = fitted(X, y, batch_size=batch_size, learning_rate=0.5)
        np.testing.assert_array_equal(parameters(clf), expected)


def test_full_batch_does_not_depend_on_the_order_of_rows():
    X, y = targets("multiclass")
    order = np.random.default_rng(0).permutation(70)
    first, second = (
        fitted(X, y, batch_size="full"),
        fitted(X[order], y[order], batch_size="full"),
    )
    np.testing.assert_allclose(parameters(first), parameters(second), atol=1e-11)


def test_shuffling_differs_between_epochs_and_seeds_but_repeats():
    """Each epoch visits the rows in a new random order, which random_state decides.

    With steps of one row, the last rows have the largest effect on the parameters.
    """
    X, y = targets("multiclass")
    params = {"batch_size": 1, "hidden_layer_sizes": (), "learning_rate": 0.1}

    def first_two_epochs(random_state):
        clf = small(**params, random_state=random_state)
        first = parameters(clf.set_params(max_iter=1).fit(X, y)).copy()
        return first, parameters(clf.set_params(max_iter=2).fit(X, y)).copy()

    first, second = first_two_epochs(random_state=0)
    np.testing.assert_array_equal(second, first_two_epochs(random_state=0)[1])
    # The initial weights are 0 for any seed: only the order differs.
    assert (first != first_two_epochs(random_state=1)[0]).any()
    # The second epoch has another order than the first.
    order = np.empty(70, dtype=np.intp)
    random_state = np.random.RandomState(0)
    backprop.shuffle(order, int(random_state.randint(2**63, dtype=np.uint64)))
    one, two = (
        small(**params, shuffle=False, max_iter=k).fit(X[order], y[order])
        for k in (1, 2)
    )
    np.testing.assert_allclose(parameters(one), first, rtol=1e-10)
    assert np.abs(parameters(two) - second).max() > 1e-6


# Weights


@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
def test_integer_weights_equal_repeated_rows(kind):
    """With the full batch and a number as alpha, equal to rounding."""
    X, y = targets(kind)
    times = np.random.default_rng(0).integers(4, size=70)
    params = {"batch_size": "full", "alpha": 0.01}
    weighted = fitted(X, y, times, **params)
    repeated = fitted(X.repeat(times, axis=0), y.repeat(times, axis=0), **params)
    np.testing.assert_allclose(
        parameters(weighted), parameters(repeated), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 16, "full"])
@pytest.mark.parametrize("scale", [1e-300, 0.1, 100.0, 1e300])
def test_scale_of_weights_changes_nothing(scale, batch_size):
    """Only the ratios of the weights matter."""
    X, y = targets("multiclass")
    w = np.random.default_rng(0).uniform(0.1, 1, size=70)
    first = fitted(X, y, w, batch_size=batch_size)
    second = fitted(X, y, scale * w, batch_size=batch_size)
    np.testing.assert_allclose(
        parameters(first), parameters(second), rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(first.loss_curve_, second.loss_curve_, rtol=1e-10)


def test_mini_batch_without_weight_is_harmless():
    """Rows 16 to 31, a batch of weight zero, have no effect."""
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
    """With a tiny step, ten batches of 7 rows move ten times as far as one of 70.

    The gradient of a batch of m rows is n / (m sum w) times its sum.
    """
    X, y = targets("binary")
    w = np.random.default_rng(0).uniform(size=70)
    eta = 1e-7
    start = fitted(X, y, w, max_iter=1, learning_rate=1e-300, batch_size="full")

    def displacement(X, w, y, **params):
        clf = fitted(X, y, w, max_iter=1, shuffle=False, alpha=0, **params)
        return (parameters(clf) - parameters(start)) / eta

    full = displacement(X, w, y, learning_rate=eta, batch_size="full")
    batches = displacement(X, w, y, learning_rate=eta, batch_size=7)
    np.testing.assert_allclose(batches, 10 * full, rtol=0, atol=1e-5)


# The stopping rule


class GivenLosses(Descent):
    """A descent with given losses."""

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
        ([1.0] * 9, 3, 4),
        ([1.0] * 9, 1, 2),
        ([1.0, 0.95, 0.91, 0.91, 0.91, 0.91], 3, 4),
        ([1.0, 0.95, 0.89, 0.89, 0.89, 0.89], 3, 6),
        ([1.0, 0.5, 2.0, 0.45, 0.6, 0.3], 3, 5),
        ([1.0, 0.8, 0.6, 0.4, 0.2, 0.0], 1, 6),
    ],
    ids=[
        "flat", "flat, patience 1", "gains below tol", "gains that add up to tol",
        "noise around the reference", "falls to max_iter",
    ],
)  # fmt: skip
def test_patience(losses, n_iter_no_change, n_iter):
    """It stops after n_iter_no_change epochs less than tol=0.1 below the reference."""
    descent = GivenLosses(losses)
    reason = minimize(descent, max_iter=6, tol=0.1, n_iter_no_change=n_iter_no_change)
    assert descent.state.n_iter == n_iter
    assert reason == ("max_iter" if losses[5:] == [0.0] else "converged")


def test_without_tol_every_epoch_is_made():
    descent = GivenLosses([1.0] * 9)
    assert minimize(descent, max_iter=9, tol=None, n_iter_no_change=1) == "max_iter"
    assert descent.state.n_iter == 9


def test_convergence_warning_only_when_max_iter_ends_it():
    """tol=None, a cosine schedule that is completed, and convergence do not warn."""
    X, y = targets("binary")
    constant = {"learning_rate": 0.1, "learning_rate_schedule": "constant"}
    with pytest.warns(ConvergenceWarning, match="max_iter=3 .*tol=0.0001.*Increase"):
        BGDClassifier(max_iter=3, n_iter_no_change=2, **constant).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BGDClassifier(max_iter=3, tol=None, **constant).fit(X, y)
        BGDClassifier(max_iter=30, random_state=0).fit(X, y)
        BGDClassifier(max_iter=30, learning_rate=0.5, random_state=0).fit(X, y)
        clf = BGDClassifier(tol=1e6, n_iter_no_change=4, **constant).fit(X, y)
    assert clf.n_iter_ == 5


# Step size


def test_automatic_step_size_of_a_single_layer_never_raises_the_objective():
    """At most 1 / (L + alpha): the full batch descends, on raw features too."""
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


@pytest.mark.parametrize("kind, slope", [("binary", 1 / 4), ("multiclass", 1 / 2)])
def test_automatic_step_size_of_a_single_layer(kind, slope):
    """1 / (L + alpha), where L = (1 + mean ||x||^2) / 4, twice this for a softmax."""
    X, y = targets(kind)
    params = {"hidden_layer_sizes": (), "batch_size": "full", "standardize": False}
    clf = fitted(X, y, max_iter=1, alpha=0.01, **params)
    L = slope * (1 + np.square(X).sum(axis=1).mean())
    assert clf.learning_rate_init_ == pytest.approx(1 / (L + 0.01))


@pytest.mark.parametrize("batch_size", [1, 2, "auto"])
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
def test_automatic_step_size_for_many_features(activation, batch_size):
    """Steps on few rows of many features do not overshoot."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 400))
    y = (X @ rng.normal(size=(400, 10))).argmax(axis=1)
    params = {"activation": activation, "batch_size": batch_size}
    clf = BGDClassifier(**params, random_state=0).fit(X, y)
    assert max(clf.loss_curve_) < 6
    assert clf.loss_ < 0.25


@pytest.mark.parametrize("scale", [0.5, 1, 10])
def test_automatic_step_size_for_many_features_of_any_size(scale):
    """Large features divide it by their root mean square, as few features do."""
    X = scale * np.random.default_rng(0).choice([-1.0, 1.0], size=(50, 400))
    params = {"batch_size": 1, "standardize": False, "alpha": 0, "max_iter": 1}
    clf = fitted(X, np.arange(50) % 2, learning_rate="auto", tol=None, **params)
    expected = 32 / (1 + 400 * min(1, scale) ** 2) / max(1, scale)
    assert clf.learning_rate_init_ == pytest.approx(expected)


def test_automatic_step_size_with_hidden_layers():
    """0.4 sqrt(min(m, 128)), less for large features, momentum, other activations.

    The rows are standardized, so their root mean square is 1.
    """
    X, y = targets("binary", n=1200)

    def step_size(X=X, **params):
        with warnings.catch_warnings():  # a single step may raise the loss
            warnings.simplefilter("ignore", ConvergenceWarning)
            params = {"max_iter": 1, "standardize": False, **params}
            return fitted(X, y, **params).learning_rate_

    auto = step_size(batch_size="auto")
    assert auto == step_size(batch_size=16) == pytest.approx(0.4 * 16**0.5)
    full = step_size(batch_size="full")
    assert full == step_size(batch_size=256) == pytest.approx(0.4 * 128**0.5)
    assert step_size(batch_size=1) == pytest.approx(0.4)
    assert step_size(X / 10, batch_size=1) == pytest.approx(0.4)
    assert step_size(X * 10, batch_size=1) == pytest.approx(0.04)
    assert step_size(X * 10, batch_size=1, standardize=True) == pytest.approx(0.4)
    assert step_size(momentum=0.9, batch_size=1) == pytest.approx(0.04)
    assert step_size(batch_size=1, hidden_layer_sizes=(6, 6)) == pytest.approx(0.4)
    assert step_size(batch_size=1, activation="tanh") == pytest.approx(0.05)
    two = {"activation": "relu", "hidden_layer_sizes": (6, 6)}
    assert step_size(batch_size=1, **two) == pytest.approx(0.025)
    assert step_size(solver="adam") == pytest.approx(0.05)
    assert step_size(X * 4, solver="adam") == pytest.approx(0.025)
    assert step_size(solver="adam", hidden_layer_sizes=()) == pytest.approx(0.05)
    assert step_size(solver="adam", **two) == pytest.approx(0.005)
    assert step_size(learning_rate=0.3) == 0.3


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_automatic_step_size_follows_the_weights(kind):
    """Effective rows (sum w)^2 / sum w^2 decide on the step of mini-batches.

    The root mean square of the features is that of the repeated rows.
    """
    X, y = targets(kind)
    times = np.arange(70) % 3
    X = X * (1 + times[:, np.newaxis])
    rows = X.repeat(times, 0), y.repeat(times)
    fraction = times.sum() ** 2 / (70 * (times**2).sum())
    params = {"max_iter": 1, "standardize": False}
    for batch_size, factor in (("full", 1), (8, fraction**0.5), (1, fraction**0.5)):
        weighted = fitted(X, y, times, batch_size=batch_size, **params)
        repeated = fitted(*rows, batch_size=batch_size, **params)
        expected = factor * repeated.learning_rate_
        assert weighted.learning_rate_ == pytest.approx(expected, rel=1e-12)


def test_automatic_step_size_stays_over_partial_fit():
    """The first call decides on it; an explicit step size replaces it."""
    X, y = targets("binary")
    clf = BGDClassifier(batch_size=16, standardize=False)
    clf.partial_fit(X * 10, y, classes=[0, 1])
    assert clf.learning_rate_init_ == pytest.approx(0.16)
    assert clf.partial_fit(X, y).learning_rate_init_ == pytest.approx(0.16)
    clf.set_params(learning_rate=0.2).partial_fit(X, y)
    assert clf.learning_rate_init_ == 0.2


# Precision


@pytest.mark.parametrize("batch_size", [1, 16, "full"])
def test_float32_stays_near_float64(batch_size):
    """Rows of float32 give a model in float32 with nearly the same probabilities."""
    X, y = targets("multiclass")
    params = {"batch_size": batch_size, "learning_rate": 0.1}
    clf64 = fitted(X, y, **params)
    clf32 = fitted(X.astype(np.float32), y, **params)
    assert clf32.coefs_[0].dtype == clf32.predict_proba(X).dtype == np.float32
    assert clf64.coefs_[0].dtype == np.float64
    np.testing.assert_allclose(
        clf32.predict_proba(X), clf64.predict_proba(X), rtol=0, atol=1e-4
    )
