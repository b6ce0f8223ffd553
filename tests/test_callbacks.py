"""Progress of a fit: printed lines, scikit-learn's callbacks."""

import io
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest
import sklearn
from helpers import fitted, parameters, same, small, targets
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from skbgd import BGDClassifier
from skbgd._classifier import FITTED_ATTRIBUTES

HAS_CALLBACKS = parse_version(sklearn.__version__) >= parse_version("1.9")


def test_verbose(capsys):
    """1: about 20 lines for the longest fit, 2: a line per epoch, 0: silence."""
    X, y = targets("binary")
    fitted(X, y, max_iter=200, verbose=1)
    assert len(capsys.readouterr().out.splitlines()) == 21
    fitted(X, y, max_iter=7, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[-1] == "stopped after 7 epochs: max_iter"
    assert lines[0].startswith("epoch 1 of 7   loss ")
    fitted(X, y, max_iter=7)
    assert capsys.readouterr().out == ""


def test_printed_lines_are_not_held_back(moons):
    """Each line is flushed into a pipe, which is buffered."""
    X, X_val, y, y_val = moons
    arrived = io.BytesIO()
    pipe = io.TextIOWrapper(io.BufferedWriter(arrived))
    n_lines = []

    def scoring(clf, X, y):
        n_lines.append(arrived.getvalue().count(b"\n"))
        return 0.0

    with redirect_stdout(pipe):
        small(verbose=2, max_iter=4, scoring=scoring).fit(
            X, y, X_val=X_val, y_val=y_val
        )
    assert n_lines == [0, 1, 2, 3]
    assert arrived.getvalue().endswith(b"max_iter\n")


@pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn 1.9 brought callbacks")
class TestCallbacks:
    def make_recorder(self, stop_at=None):
        """A callback that records events, and stops after the epoch `stop_at`."""

        class Recorder:
            def __init__(self):
                self.events = []

            def setup(self, estimator, context):
                self.events.append("setup")

            def teardown(self, estimator, context):
                self.events.append("teardown")

            def on_fit_task_begin(self, estimator, context):
                self.events.append(f"begin {context.task_name}")

            def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
                self.events.append(f"end {context.task_name}")
                self.last, self.seen = fitted_estimator.predict_proba(X), X
                return context.task_name == "epoch" and context.task_id == stop_at

        return Recorder()

    def test_one_task_per_epoch(self, moons):
        """A task for the fit, with one for each epoch inside."""
        X, _, y, _ = moons
        recorder = self.make_recorder()
        clf = small(max_iter=3).set_callbacks(recorder).fit(X, y)
        epochs = ["begin epoch", "end epoch"] * 3
        assert recorder.events == [
            "setup", "begin fit", *epochs, "end fit", "teardown",
        ]  # fmt: skip
        np.testing.assert_array_equal(recorder.last, clf.predict_proba(X))

    def test_attributes_that_a_callback_sets_are_kept(self, moons):
        """On the estimator that it gets, and on the one that is fitted."""
        X, _, y, _ = moons

        class Setter(type(self.make_recorder())):
            def on_fit_task_end(self, estimator, context):
                estimator.given_ = getattr(estimator, "given_", 0) + 1
                clf.fitted_ = getattr(clf, "fitted_", 0) + 1

        clf = small(max_iter=3).set_callbacks(Setter())
        clf.fit(X, y)
        assert clf.given_ == clf.fitted_ == 4

    def test_returning_true_stops(self, moons):
        """The model is that of a fit with as many epochs."""
        X, _, y, _ = moons
        clf = small().set_callbacks(self.make_recorder(stop_at=4)).fit(X, y)
        assert clf.n_iter_ == 5
        assert clf.stop_reason_ == "callback"
        same(clf, small(max_iter=5).fit(X, y))

    def test_teardown_after_an_error(self, moons):
        """The callback is torn down if the descent diverges."""
        X, _, y, _ = moons
        recorder = self.make_recorder()
        clf = small(activation="relu", learning_rate=1e200).set_callbacks(recorder)
        with pytest.raises(ValueError, match="diverged"):
            clf.fit(X, y)
        assert recorder.events[-1] == "teardown"

    def test_scoring_monitor(self, moons):
        """scikit-learn's monitor scores the parameters after each epoch."""
        from sklearn.callback import ScoringMonitor

        X, _, y, _ = moons
        monitor = ScoringMonitor(scoring="accuracy")
        clf = small(max_iter=4).set_callbacks(monitor).fit(X, y)
        scores = [
            row["accuracy"]
            for row in monitor.get_logs(select="most_recent").data
            if row["task_name"] == "epoch"
        ]
        assert scores == [small(max_iter=k).fit(X, y).score(X, y) for k in range(1, 5)]
        assert clf.n_iter_ == 4

    def test_frames_keep_their_names(self, moons):
        """A callback that predicts does not warn about missing feature names."""
        X, _, y, _ = moons
        frame = pd.DataFrame(X, columns=["a", "b"])
        small(max_iter=2).set_callbacks(self.make_recorder()).fit(frame, y)
        stopping = small(max_iter=2, early_stopping=True).set_callbacks(
            self.make_recorder()
        )
        stopping.fit(frame, y, X_val=frame, y_val=y)
        stopping.fit(frame, y)  # with rows that are set aside

    def test_the_last_hook_gets_the_fitted_model(self, moons):
        """It has the best parameters, and the rows that were not set aside."""
        X, _, y, _ = moons
        X = pd.DataFrame(X, columns=["a", "b"])
        recorder = self.make_recorder()
        clf = small(
            early_stopping=True, scoring=lambda clf, X, y: -clf.coefs_[0].max()
        ).set_callbacks(recorder)
        clf.fit(X, y)
        assert recorder.last.shape[0] == clf.t_ // 12
        rows = recorder.seen
        vars(clf).pop("feature_names_in_")
        np.testing.assert_array_equal(recorder.last, clf.predict_proba(rows))

    def test_progress_bar_through_search_and_pipeline(self, moons, capsys, monkeypatch):
        """scikit-learn's progress bar names the classifier."""
        pytest.importorskip("rich")
        from sklearn.callback import ProgressBar

        monkeypatch.setenv("COLUMNS", "200")
        X, _, y, _ = moons
        pipeline = Pipeline(
            [
                ("scale", StandardScaler()),
                ("clf", small(max_iter=3, tol=None, learning_rate=0.1)),
            ]
        )
        search = GridSearchCV(pipeline, {"clf__batch_size": [8, "full"]}, cv=2)
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
        assert "BGDClassifier" in capsys.readouterr().out


# Attributes that are set on the estimator during a call


def calls(moons, look):
    """A fitted classifier, and calls of its methods that call `look(clf)`."""
    X, X_val, y, y_val = moons
    clf = small(learning_rate=0.1).fit(X, y)

    def schedule(epoch):
        look(clf)
        return 1.0

    def scoring(copy, X, y):
        look(clf)
        return 0.0

    def fit(**params):
        clf.set_params(**params).fit(X, y, X_val=X_val, y_val=y_val)

    return clf, {
        "schedule": lambda: fit(learning_rate_schedule=schedule),
        "scorer": lambda: fit(scoring=scoring),
        "warm start": lambda: fit(scoring=scoring, warm_start=True, max_iter=14),
        "partial_fit": lambda: clf.set_params(
            learning_rate_schedule=schedule
        ).partial_fit(X, y),
    }


CALLS = ["schedule", "scorer", "warm start", "partial_fit"]


@pytest.mark.parametrize("call", CALLS)
def test_attributes_set_during_a_call_are_kept(moons, call):
    """Parameters too, which apply from the next call on."""

    def look(clf):
        clf.seen_ = [*getattr(clf, "seen_", []), clf.n_iter_]
        clf.set_params(alpha=0.5, random_state=7)
        vars(clf).pop("old_", None)

    clf, named = calls(moons, look)
    clf.old_ = 1
    named[call]()
    assert set(clf.seen_) == {12}
    assert (clf.alpha, clf.random_state) == (0.5, 7)
    assert not hasattr(clf, "old_")
    assert clf.n_iter_ == {"partial_fit": 13, "warm start": 14}.get(call, 12)
    assert clf.alpha_ != 0.5


@pytest.mark.parametrize("call", CALLS)
def test_attributes_set_before_a_failure_are_kept(moons, call):
    """The model is that of before the call."""

    def look(clf):
        clf.last_ = 1
        raise OSError

    clf, named = calls(moons, look)
    before = parameters(clf).copy()
    with pytest.raises(OSError):
        named[call]()
    assert clf.last_ == 1
    np.testing.assert_array_equal(parameters(clf), before)


def test_attributes_set_while_the_model_is_replaced_are_kept(moons):
    """Another thread may set one just after the attributes were read."""

    class Busy(dict):
        def copy(self):
            before = dict(self)
            self["n_copies"] += 1
            return before

    X, _, y, _ = moons
    clf = small()
    clf.__dict__ = busy = Busy(vars(clf), n_copies=0)
    clf.fit(X, y)
    assert vars(clf) is not busy
    assert clf.n_copies == busy["n_copies"] - 1 > 1


def test_attributes_of_training_are_known(moons):
    """All other attributes belong to the user."""
    X, X_val, y, y_val = moons
    clf = small(early_stopping=True, scoring="accuracy")
    X, X_val = (pd.DataFrame(rows, columns=["a", "b"]) for rows in (X, X_val))
    clf.fit(X, y, X_val=X_val, y_val=y_val)
    assert set(vars(clf)) - set(clf.get_params()) <= set(FITTED_ATTRIBUTES)


@pytest.mark.skipif(HAS_CALLBACKS, reason="scikit-learn before 1.9")
def test_without_callbacks_there_is_no_method_for_them():
    """scikit-learn before 1.9 has no callbacks."""
    assert not hasattr(BGDClassifier, "set_callbacks")
