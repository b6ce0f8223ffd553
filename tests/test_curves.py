"""Curves and counters: the record of each epoch."""

import copy

import numpy as np
import pytest
from helpers import fitted, small, targets


def test_loss_curve_of_the_full_batch_is_the_objective():
    """Entry k is J of the parameters after k steps, penalty and weights included."""
    X, y = targets("binary")
    w = np.random.default_rng(0).uniform(size=70)
    alpha = 0.05
    curve = fitted(X, y, w, batch_size="full", alpha=alpha, max_iter=6).loss_curve_
    for k in range(1, 6):
        clf = fitted(X, y, w, batch_size="full", alpha=alpha, max_iter=k)
        log_p = clf.predict_log_proba(X)[np.arange(70), y]
        penalty = alpha / 2 * sum((W**2).sum() for W in clf.coefs_)
        J = -(w @ log_p) / w.sum() + penalty
        assert curve[k] == pytest.approx(J, rel=1e-12)


@pytest.mark.parametrize("batch_size", [16, 30])
def test_loss_curve_of_mini_batches_weights_every_row_once(batch_size):
    """It is the mean over rows, not over batches: tiny steps show no difference."""
    X, y = targets("binary")
    w = np.random.default_rng(0).uniform(size=70)
    params = {"learning_rate": 1e-300, "max_iter": 3}
    expected = fitted(X, y, w, batch_size="full", **params).loss_curve_
    curve = fitted(X, y, w, batch_size=batch_size, **params).loss_curve_
    np.testing.assert_allclose(curve, expected, rtol=1e-13)


def test_counters():
    """They count epochs and rows over `fit` and the following partial_fit."""
    X, y = targets("binary")
    clf = fitted(X, y, max_iter=7)
    assert clf.n_iter_ == len(clf.loss_curve_) == 7
    assert clf.t_ == 7 * 70
    assert clf.loss_ == clf.loss_curve_[-1]
    assert clf.best_loss_ == min(clf.loss_curve_)
    clf.partial_fit(X[:30], y[:30])
    assert clf.n_iter_ == len(clf.loss_curve_) == 8
    assert clf.t_ == 7 * 70 + 30


@pytest.mark.parametrize("batch_size", [1, 7, 50, 99, "full"])
def test_updates_are_epochs_times_batches(batch_size):
    """ceil(n / m) in each epoch, also in warm starts and partial_fit."""
    X, y = targets("binary", n=50)
    m = batch_size if isinstance(batch_size, int) else 50
    clf = small(batch_size=batch_size, warm_start=True).fit(X, y)
    clf.set_params(max_iter=15, solver="adam").fit(X, y).partial_fit(X, y)
    assert clf.updates_curve_ == [k * -(-50 // min(m, 50)) for k in range(1, 17)]
    clf.partial_fit(X[:3], y[:3])
    assert clf.updates_curve_[-1] - clf.updates_curve_[-2] == -(-3 // min(m, 3))


def test_seconds_are_those_of_the_epochs(monkeypatch):
    """Validation between epochs is not included. A clock that counts calls shows it."""
    X, y = targets("binary", n=50)
    now = iter(range(1000))
    monkeypatch.setattr("skbgd._descent.perf_counter", lambda: next(now))

    def wait(epoch):  # a function as schedule is part of the epoch
        next(now)
        return 1.0

    def scoring(clf, X, y):  # a scorer is not
        for _ in range(10):
            next(now)
        return 0.0

    clf = small(
        scoring=scoring, learning_rate=0.1, learning_rate_schedule=wait, max_iter=5
    )
    clf.fit(X, y, X_val=X, y_val=y)
    assert clf.seconds_curve_ == [2, 4, 6, 8, 10]
    assert clf.partial_fit(X, y).seconds_curve_ == [2, 4, 6, 8, 10, 12]
    assert clf.set_params(max_iter=2).fit(X, y).seconds_curve_ == [2, 4]


def test_curves_of_shallow_copies():
    """Each copy continues the curves from the epoch at which it was made."""
    X, y = targets("binary")
    clf = fitted(X, y)
    expected = copy.deepcopy(clf).partial_fit(X, y)
    copies = [copy.copy(clf) for _ in range(2)]
    for each in (*copies, clf):
        each.partial_fit(X, y)
        assert each.loss_curve_ == expected.loss_curve_
        assert each.updates_curve_ == expected.updates_curve_
        assert len(each.seconds_curve_) == len(expected.seconds_curve_)
