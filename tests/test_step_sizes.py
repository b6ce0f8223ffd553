"""Schedules of the step size, and limits of its length.

The automatic step size is tested in test_descent.py.
"""

import warnings

import numpy as np
import pytest
from helpers import parameters, small
from sklearn.exceptions import ConvergenceWarning

from skbgd import BGDClassifier
from skbgd._network import Network

# Schedules


def test_adaptive_cuts_to_a_fifth_where_it_would_stop(moons):
    """Patience 3 and an unreachable tol: a cut after each three flat epochs."""
    X, _, y, _ = moons
    steps = []
    for k in range(1, 12):
        clf = small(
            learning_rate=0.1,
            learning_rate_schedule="adaptive",
            tol=1e6,
            n_iter_no_change=3,
            max_iter=k,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            steps.append(clf.fit(X, y).learning_rate_)
    expected = 4 * [0.1] + 3 * [0.02] + 3 * [0.004] + [0.0008]
    np.testing.assert_allclose(steps, expected)
    clf.set_params(max_iter=400).fit(X, y)
    assert clf.stop_reason_ == "converged"
    # 0.1 / 5^8 is the first step size below 1e-6
    assert clf.n_iter_ == 4 + 8 * 3
    assert clf.learning_rate_ == pytest.approx(0.1 / 5**8)


def test_schedules_in_closed_form(moons):
    X, _, y, _ = moons
    for rule, factors in (
        ("constant", [1] * 12),
        ("cosine", [(1 + np.cos(np.pi * k / 12)) / 2 for k in range(12)]),
        ("invscaling", [(150 * k + 1) ** -0.5 for k in range(12)]),
        (lambda epoch: 1 / (1 + epoch), [1 / (1 + k) for k in range(12)]),
    ):
        clf = small(learning_rate=0.1, learning_rate_schedule=rule)
        for factor in factors:
            clf.partial_fit(X, y, classes=[0, 1])
            assert clf.learning_rate_ == pytest.approx(0.1 * factor, rel=1e-12)


@pytest.mark.parametrize("factor", [-1.0, np.nan, np.inf, "half", None, np.ones(1)])
def test_a_schedule_that_gives_no_factor(moons, factor):
    X, _, y, _ = moons
    with pytest.raises(ValueError, match="from learning_rate_schedule for epoch 3"):
        small(learning_rate_schedule=lambda k: factor if k == 3 else 1.0).fit(X, y)


# Clipped gradients


@pytest.mark.filterwarnings("ignore:The loss increased")
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6, 1e9])
def test_clipping_in_float32(scale):
    """However long the gradient, the step of a neuron that starts at 0 has length 1."""
    rng = np.random.default_rng(0)
    X = (scale * rng.normal(size=(50, 20)) + scale).astype(np.float32)
    clf = BGDClassifier(
        (), max_iter=1, tol=None, learning_rate=1.0, alpha=0, max_gradient_norm=0.1,
        batch_size="full",
    ).fit(X, rng.integers(2, size=50))  # fmt: skip
    assert np.linalg.norm(parameters(clf)) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("batch_size", [16, "full"])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_clipped_gradient_has_the_given_norm(moons, alpha, batch_size):
    """One step per epoch: the displacement is eta c g / ||g||, penalty included."""
    X, _, y, _ = moons
    X, y = X[:16], y[:16]
    network = Network((2, 8, 1), "logistic", "logistic")
    start = network.initial_parameters(np.random.RandomState(0), float)
    start = np.concatenate(
        [p.ravel() for p in network.coefs(start) + network.intercepts(start)]
    )
    params = {"alpha": alpha, "learning_rate": 0.1, "max_iter": 1}
    plain = parameters(small(**params, batch_size=batch_size).fit(X, y)) - start
    for c in (1e-3, 0.1, 100.0):
        clf = small(**params, batch_size=batch_size, max_gradient_norm=c).fit(X, y)
        length = min(0.1 * c, np.linalg.norm(plain))
        expected = plain / np.linalg.norm(plain) * length
        np.testing.assert_allclose(
            parameters(clf) - start, expected, rtol=1e-9, atol=1e-12
        )
