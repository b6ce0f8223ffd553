"""Schedules of the step size, and clipped gradients.

test_descent.py tests the automatic step size.
"""

import warnings

import numpy as np
import pytest
from helpers import initial, parameters, same, small
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skbgd import BGDClassifier

# Schedules


def test_adaptive_divides_the_step_size_by_5_when_it_would_stop(moons):
    """With patience 3 and an unreachable tol, after every three epochs."""
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


# The factor in epoch k of partial_fit with 150 rows.
FACTORS = {
    "constant": lambda k: 1,
    "cosine": lambda k: (1 + np.cos(np.pi * k / 12)) / 2,
    "invscaling": lambda k: (150 * k + 1) ** -0.5,
    "auto": lambda k: (1 + 150 * k / 1000) ** -0.5,
}


@pytest.mark.parametrize(
    "schedule", [*FACTORS, lambda k: 1 / (1 + k)], ids=[*FACTORS, "function"]
)
def test_schedules_in_closed_form(moons, schedule):
    """The step size of each epoch is the factor times learning_rate."""
    X, _, y, _ = moons
    factor = FACTORS.get(schedule, schedule)
    clf = small(learning_rate=0.1, learning_rate_schedule=schedule)
    for k in range(12):
        clf.partial_fit(X, y, classes=[0, 1])
        assert clf.learning_rate_ == pytest.approx(0.1 * factor(k), rel=1e-12)
        assert clf.learning_rate_init_ == 0.1


@pytest.mark.parametrize("number", [0.1, "auto"], ids=str)
def test_auto_is_a_cosine_in_fit(moons, number):
    """With a number as learning_rate too."""
    X, _, y, _ = moons
    clf = small(learning_rate=number, learning_rate_schedule="auto")
    cosine = small(learning_rate=number, learning_rate_schedule="cosine")
    same(clf.fit(X, y), cosine.fit(X, y))


@pytest.mark.parametrize(
    "factor", [-1.0, np.nan, np.inf, "half", None, np.ones(1)], ids=str
)
def test_a_schedule_that_returns_no_factor(moons, factor):
    """The error names the epoch."""
    X, _, y, _ = moons
    with pytest.raises(ValueError, match="from learning_rate_schedule for epoch 3"):
        small(learning_rate_schedule=lambda k: factor if k == 3 else 1.0).fit(X, y)


# Clipped gradients


@pytest.mark.filterwarnings("ignore:The loss increased")
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6, 1e9])
def test_clipping_in_float32(scale):
    """A clipped step from 0 has the length that is asked for, for any features."""
    rng = np.random.default_rng(0)
    X = (scale * rng.normal(size=(50, 20)) + scale).astype(np.float32)
    clf = BGDClassifier(
        (), max_iter=1, tol=None, learning_rate=1.0, alpha=0, max_gradient_norm=0.1,
        batch_size="full", standardize=False,
    ).fit(X, rng.integers(2, size=50))  # fmt: skip
    assert np.linalg.norm(parameters(clf)) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("batch_size", [16, "full"])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_clipped_gradient_has_the_given_norm(moons, alpha, batch_size):
    """A single step is eta c g / ||g||, where g includes the penalty."""
    X, _, y, _ = moons
    X, y = X[:16], y[:16]
    start = parameters(initial(small(batch_size="full"), X, y))
    params = {"alpha": alpha, "learning_rate": 0.1, "max_iter": 1}
    plain = parameters(small(**params, batch_size=batch_size).fit(X, y)) - start
    for c in (1e-3, 0.1, 100.0):
        clf = small(**params, batch_size=batch_size, max_gradient_norm=c).fit(X, y)
        length = min(0.1 * c, np.linalg.norm(plain))
        expected = plain / np.linalg.norm(plain) * length
        np.testing.assert_allclose(
            parameters(clf) - start, expected, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("size, divisor", [(0.01, 0.01), (1.0, 1.0), (100.0, 10.0)])
def test_initial_weights_and_the_size_of_the_features(size, divisor):
    """W_1 is divided by their root mean square r, or by sqrt(r) if r > 1."""
    X, y = np.full((8, 3), size), np.arange(8) % 2
    clf = BGDClassifier((4,), learning_rate=1e-30, alpha=0, random_state=0)
    clf.set_params(standardize=False, tol=None, max_iter=1)
    unscaled = clone(clf).partial_fit(X, y, classes=[0, 1], sample_weight=0)
    W = unscaled.coefs_[0] / divisor
    np.testing.assert_allclose(clf.fit(X, y).coefs_[0], W, rtol=1e-12)
