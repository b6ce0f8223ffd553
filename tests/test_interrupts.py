"""Ctrl-C: it ends whatever called fit, soon, and what was learned is kept."""

import os
import pickle
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial

import helpers
import numpy as np
import pytest
from helpers import parameters
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier
from skbgd._core import COMPILED

X, y = make_moons(150, noise=0.25, random_state=0)
PACE = 1 if COMPILED else 4  # of seconds that a core needs to get under way


small = partial(helpers.small, learning_rate=0.5)


def interrupting_schedule(at):
    """A schedule in whose epoch number `at` Ctrl-C is pressed."""

    def schedule(epoch):
        if epoch == at:
            raise KeyboardInterrupt
        return 1.0

    return schedule


@contextmanager
def ctrl_c(after):
    """Press it after this many seconds; yields a list that then holds the time."""
    sent = []

    def press():
        time.sleep(after)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            yield sent
    finally:
        thread.join()
    sent.append(getattr(raised.value, "__notes__", []))


@pytest.mark.parametrize("batch_size", [1, 256, "full"])
def test_what_was_learned_is_kept(batch_size):
    """Within 0.2 s, in the midst of an epoch of seconds; the model is usable."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150_000, 100)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    clf = BGDClassifier((100, 100), batch_size=batch_size, random_state=0)
    clf.set_params(max_iter=10_000, tol=None)
    with ctrl_c(after=1.0 * PACE) as sent:
        clf.fit(X, y)
    delay = time.perf_counter() - sent[0]
    assert "kept" in sent[1][0]
    assert clf.stop_reason_ == "interrupted"
    assert clf.n_iter_ == len(clf.loss_curve_) == len(clf.updates_curve_) >= 1
    assert 0 < clf.t_ <= clf.n_iter_ * len(X)
    rows = 1 if batch_size == 1 else min(256, len(X))
    if batch_size != "full":  # the last epoch is a part of one
        assert clf.updates_curve_[-1] >= clf.t_ // rows
    assert np.isfinite(clf.loss_)
    assert np.isfinite(clf.predict_proba(X[:10])).all()
    # The promise is 0.2 s; a busy machine may need longer to come round to us.
    assert delay < 2
    # ... and it goes on
    t = clf.t_
    clf.set_params(batch_size=256).partial_fit(X[:1000], y[:1000])
    assert clf.t_ == t + 1000


def test_an_epoch_that_was_cut_short_counts_the_rows_it_used():
    """In the first epoch: a loss, a count of rows, the step size; nothing missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400_000, 50)).astype(np.float32)
    clf = BGDClassifier((64, 64), batch_size=1, learning_rate=0.01, random_state=0)
    with ctrl_c(after=0.3 * PACE):
        clf.fit(X, X[:, 0] > 0)
    assert clf.n_iter_ == 1
    assert 0 < clf.t_ < len(X)
    assert clf.updates_curve_ == [clf.t_]
    assert clf.learning_rate_ == 0.01
    assert clf.loss_ == clf.best_loss_ == clf.loss_curve_[0] > 0


def test_before_the_first_step_nothing_has_changed():
    clf = small(learning_rate_schedule=interrupting_schedule(0))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    with pytest.raises(NotFittedError):
        clf.predict(X)


@pytest.mark.parametrize("batch_size", [16, "full"])
def test_between_epochs_it_is_as_if_max_iter_had_come(batch_size):
    """Bit for bit; and a warm start continues as if nothing had happened."""
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


def test_partial_fit_changes_nothing():
    clf = small().fit(X, y)
    before = parameters(clf).copy()
    clf.set_params(learning_rate_schedule=interrupting_schedule(12))
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(X, y)
    np.testing.assert_array_equal(parameters(clf), before)
    assert clf.n_iter_ == 12


def test_partial_fit_in_the_midst_of_an_epoch_changes_nothing():
    """The curves, which the call before and this one share, included."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400_000, 50)).astype(np.float32)
    y = X[:, 0] > 0
    clf = BGDClassifier((64, 64), batch_size=1, learning_rate=0.01, random_state=0)
    clf.partial_fit(X[:100], y[:100], classes=[False, True])
    before = pickle.dumps(clf)
    with ctrl_c(after=0.3 * PACE):
        clf.partial_fit(X, y)
    assert clf.n_iter_ == len(clf.loss_curve_) == 1
    assert pickle.dumps(clf) == before


def test_a_search_ends():
    """Not only the fit that was running, whose candidate would be judged half done."""
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


def test_early_stopping_keeps_the_best():
    """The parameters that were best on the validation rows so far."""
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
