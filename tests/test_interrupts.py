"""Ctrl-C: `fit` keeps the completed steps and raises the KeyboardInterrupt."""

import pickle
from functools import partial

import helpers
import numpy as np
import pytest
from core_helpers import ctrl_c_during
from helpers import parameters
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier

X, y = make_moons(150, noise=0.25, random_state=0)
small = partial(helpers.small, learning_rate=0.5)


def interrupting_schedule(at):
    """A schedule that raises KeyboardInterrupt before epoch number `at`."""

    def schedule(epoch):
        if epoch == at:
            raise KeyboardInterrupt
        return 1.0

    return schedule


def large_problem(n):
    """Rows and labels for epochs of at least a second on wide layers."""
    X = np.random.default_rng(0).normal(size=(n, 100)).astype(np.float32)
    return X, X[:, 0] > 0


# Within an epoch


@pytest.mark.parametrize(
    "batch_size, epoch", [(1, 1), (256, 1), ("full", 2)], ids=["1", "256", "full"]
)
def test_completed_steps_are_kept(batch_size, epoch):
    """An interrupted epoch counts the rows that it used; the model is usable."""
    X, y = large_problem(150_000)
    clf = BGDClassifier(
        (300, 300), batch_size=batch_size, learning_rate=0.01,
        max_iter=10_000, tol=None, random_state=0, n_jobs=1,
    )  # fmt: skip
    with ctrl_c_during("epoch", call=epoch) as interrupt:
        clf.fit(X, y)
    assert "kept" in interrupt.value.__notes__[0]
    assert clf.stop_reason_ == "interrupted"
    assert clf.n_iter_ == len(clf.loss_curve_) == 1
    if batch_size == "full":  # the step of the second epoch is not complete
        assert clf.t_ == len(X)
        assert clf.updates_curve_ == [1]
    else:
        assert 0 < clf.t_ < len(X)
        assert clf.t_ % batch_size == 0
        assert clf.updates_curve_ == [clf.t_ // batch_size]
    assert clf.loss_ == clf.best_loss_ == clf.loss_curve_[0] > 0
    assert clf.learning_rate_ == pytest.approx(0.01)
    assert np.isfinite(clf.predict_proba(X[:10])).all()
    t = clf.t_
    clf.set_params(batch_size=256).partial_fit(X[:1000], y[:1000])
    assert clf.t_ == t + 1000


def test_interrupted_partial_fit_changes_nothing():
    """Not even the curves, which the estimator shares with the copy that it trains."""
    X, y = large_problem(100_000)
    clf = BGDClassifier(
        (300, 300), batch_size=256, learning_rate=0.01, random_state=0, n_jobs=1
    )
    clf.partial_fit(X[:100], y[:100], classes=[False, True])
    before = pickle.dumps(clf)
    with ctrl_c_during("epoch"):
        clf.partial_fit(X, y)
    assert clf.n_iter_ == len(clf.loss_curve_) == 1
    assert pickle.dumps(clf) == before


# Between epochs


def test_before_the_first_step():
    """There is nothing to keep: the estimator stays unfitted."""
    clf = small(learning_rate_schedule=interrupting_schedule(0))
    with pytest.raises(KeyboardInterrupt) as interrupt:
        clf.fit(X, y)
    assert not hasattr(interrupt.value, "__notes__")
    with pytest.raises(NotFittedError):
        clf.predict(X)


@pytest.mark.parametrize("warm_start", [True, False])
def test_while_rows_are_converted(warm_start):
    """The estimator stays fitted as it was."""

    class Rows:
        def __array__(self, dtype=None, copy=None):
            raise KeyboardInterrupt

    clf = small(warm_start=warm_start).fit(X, y)
    before = pickle.dumps(clf)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(Rows(), y)
    assert pickle.dumps(clf) == before


@pytest.mark.parametrize("batch_size", [16, "full"])
def test_between_epochs(batch_size):
    """The model is that of `max_iter` completed epochs, and a warm start resumes."""
    clf = small(batch_size=batch_size, warm_start=True)
    clf.set_params(learning_rate_schedule=interrupting_schedule(5))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    constant = {"batch_size": batch_size, "learning_rate_schedule": "constant"}
    expected = small(**constant, max_iter=5).fit(X, y)
    np.testing.assert_array_equal(parameters(clf), parameters(expected))
    assert clf.loss_curve_ == expected.loss_curve_
    clf.set_params(learning_rate_schedule=interrupting_schedule(99)).fit(X, y)
    expected = small(**constant).fit(X, y)
    np.testing.assert_array_equal(parameters(clf), parameters(expected))


def test_after_the_last_epoch(monkeypatch):
    """The model is that of the whole fit."""

    def interrupt(*args):
        raise KeyboardInterrupt

    expected = small().fit(X, y)
    monkeypatch.setattr("skbgd._fitting.convergence_warning", interrupt)
    clf = small()
    with pytest.raises(KeyboardInterrupt) as raised:
        clf.fit(X, y)
    assert "n_iter_=12" in raised.value.__notes__[0]
    assert clf.stop_reason_ == "interrupted"
    assert clf.n_iter_ == 12
    np.testing.assert_array_equal(parameters(clf), parameters(expected))


def test_before_the_epoch_of_partial_fit():
    """The model stays as it was."""
    clf = small().fit(X, y)
    before = parameters(clf).copy()
    clf.set_params(learning_rate_schedule=interrupting_schedule(12))
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(X, y)
    np.testing.assert_array_equal(parameters(clf), before)
    assert clf.n_iter_ == 12


def test_search():
    """The whole search ends; no candidate is scored half trained."""
    fits = []

    def schedule(epoch):
        fits.append(epoch)
        if len(fits) == 15:
            raise KeyboardInterrupt
        return 1.0

    clf = make_pipeline(StandardScaler(), small(learning_rate_schedule=schedule))
    grid = {"bgdclassifier__learning_rate": [0.1, 0.2, 0.3]}
    search = GridSearchCV(clf, grid, cv=3, error_score=0.0)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert len(fits) == 15
    assert not hasattr(search, "cv_results_")


def test_early_stopping():
    """The best parameters so far are kept."""
    clf = small(early_stopping=True, learning_rate=1.0, max_iter=30)
    clf.set_params(scoring=lambda clf, X, y: -abs(len(curve) - 4))
    curve = []

    def schedule(epoch):
        curve.append(epoch)
        if epoch == 9:
            raise KeyboardInterrupt
        return 1.0

    clf.set_params(learning_rate_schedule=schedule)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, X_val=X, y_val=y)
    expected = clone(clf).set_params(
        early_stopping=False, max_iter=4, learning_rate_schedule="constant"
    )
    np.testing.assert_array_equal(parameters(clf), parameters(expected.fit(X, y)))
