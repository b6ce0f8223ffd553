"""warm_start where something has changed since the last call, and where nothing has."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from test_descent import parameters

from skbgd import BGDClassifier

X, y = make_classification(120, 5, n_informative=4, n_redundant=0, random_state=3)


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
    weights = {0: 1.0}
    warm = neuron(alpha=0.01, warm_start=True, class_weight=weights).fit(X, y)
    weights[0] = 5.0
    warm.fit(X, y)
    cold = neuron(alpha=0.01, class_weight={0: 5.0}).fit(X, y)
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
            match="No epoch was made: max_iter=1 counts all epochs, and there were 1",
        ):
            clf.fit(X, y)
        assert clf.n_iter_ == 1
    # the cure
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "max_iter=. epochs were over")
        for k in range(2, 6):
            clf.set_params(max_iter=k).fit(X, y)
        assert clf.n_iter_ == 5
        assert clf.loss_curve_ == clone(clf).fit(X, y).loss_curve_
