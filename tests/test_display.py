"""LossCurveDisplay: the lines, the estimators it accepts, and its errors."""

import subprocess
import sys
from copy import copy

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier, LossCurveDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

X, Y = make_moons(50, noise=0.3, random_state=0)
X_VAL, Y_VAL = make_moons(40, noise=0.3, random_state=1)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def small(**params):
    return BGDClassifier(
        (8,),
        **{"batch_size": 256, "random_state": 0, "max_iter": 12, "tol": None, **params},
    )


def stopped(**params):
    """A classifier that early stopping ended 7 epochs after the best one."""
    clf = small(
        solver="adam", max_iter=400, tol=0, n_iter_no_change=7, early_stopping=True
    ).set_params(**params)
    clf.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    assert clf.stop_reason_ == "early_stopping"
    return clf


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Lines


@pytest.mark.parametrize("x", ["epochs", "updates", "seconds"])
def test_lines_are_the_curves(x):
    """Training and validation loss with a mark at the last and at the best epoch."""
    clf = stopped(batch_size=8)
    display = LossCurveDisplay.from_estimator(clf, x=x)
    at = {
        "epochs": np.arange(1, clf.n_iter_ + 1),
        "updates": 7 * np.arange(1, clf.n_iter_ + 1),
        "seconds": clf.seconds_curve_,
    }[x]
    training, validation = display.lines_
    np.testing.assert_array_equal(training.get_xdata(), at)
    np.testing.assert_array_equal(training.get_ydata(), clf.loss_curve_)
    np.testing.assert_array_equal(validation.get_xdata(), at)
    np.testing.assert_array_equal(validation.get_ydata(), clf.validation_loss_curve_)
    assert (training.get_linestyle(), validation.get_linestyle()) == ("-", "--")
    assert training.get_color() == validation.get_color()
    best = int(np.argmin(clf.validation_loss_curve_))
    assert best == clf.n_iter_ - 8
    last_mark, best_mark = display.marks_
    assert last_mark.get_xydata().tolist() == [[at[-1], clf.loss_]]
    assert best_mark.get_xydata().tolist() == [
        [at[best], min(clf.validation_loss_curve_)]
    ]
    labels = {"epochs": "Epoch", "updates": "Update", "seconds": "Training time (s)"}
    assert display.ax_.get_xlabel() == labels[x]
    assert legend(display.ax_) == [
        "training loss", "validation loss", "best epoch", "last epoch",
    ]  # fmt: skip
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()


def test_best_epoch_with_scoring():
    """The epoch of the best score is marked on the line of the validation loss."""
    clf = stopped(scoring="accuracy")
    best = int(np.argmax(clf.validation_scores_))
    assert best != np.argmin(clf.validation_loss_curve_)
    display = LossCurveDisplay.from_estimator(clf)
    assert display.marks_[1].get_xydata().tolist() == [
        [best + 1, clf.validation_loss_curve_[best]]
    ]


def test_validation_rows_in_some_epochs_only():
    """Epochs without them leave a gap in the line of the validation loss."""
    clf = small(warm_start=True, max_iter=4).fit(X, Y)
    clf.set_params(max_iter=9).fit(X, Y, X_val=X_VAL, y_val=Y_VAL).partial_fit(X, Y)
    display = LossCurveDisplay.from_estimator(clf)
    training, validation = display.lines_
    assert len(training.get_xdata()) == 10
    assert validation.get_xdata().tolist() == list(range(1, 10))
    assert np.isnan(validation.get_ydata()).tolist() == [True] * 4 + [False] * 5
    best = int(np.nanargmin(clf.validation_loss_curve_)) + 1
    assert display.marks_[1].get_xdata().tolist() == [best]


def test_several_estimators():
    """Each has a color; the legend explains dashes and marks once."""
    clfs = {"a": small(batch_size=5).fit(X, Y), "b": stopped(), "c": stopped(alpha=1)}
    display = LossCurveDisplay.from_estimators(clfs, x="updates")
    a, b, b_val, c, c_val = display.lines_
    assert len({line.get_color() for line in (a, b, c)}) == 3
    assert b.get_color() == b_val.get_color()
    assert c_val.get_ydata().tolist() == clfs["c"].validation_loss_curve_
    assert [mark.get_color() for mark in display.marks_] == [
        line.get_color() for line in display.lines_
    ]
    assert legend(display.ax_) == [
        "a", "b", "c", "validation loss", "best epoch", "last epoch",
    ]  # fmt: skip
    more = LossCurveDisplay.from_estimator(stopped(), name="d", ax=display.ax_)
    assert more.ax_ is display.ax_
    assert sorted(legend(more.ax_)) == [
        "a", "b", "best epoch", "c", "d", "last epoch", "validation loss",
    ]  # fmt: skip


@pytest.mark.parametrize("log_scale", [None, "x", "y", "xy"])
def test_log_scale(log_scale):
    """It selects the axes with a logarithmic scale."""
    ax = LossCurveDisplay.from_estimator(small().fit(X, Y), log_scale=log_scale).ax_
    for axis in "xy":
        expected = "log" if axis in (log_scale or "") else "linear"
        assert getattr(ax, f"get_{axis}scale")() == expected


@pytest.mark.parametrize("n_epochs", [3, 12, 30, 70])
def test_ticks_of_epochs(n_epochs):
    """They are whole numbers, 1, 2 or 5 times a power of ten apart."""
    ax = LossCurveDisplay.from_estimator(small(max_iter=n_epochs).fit(X, Y)).ax_
    steps = np.diff(ax.get_xticks())
    np.testing.assert_array_equal(steps, steps[0])
    assert int(str(int(steps[0])).rstrip("0")) in (1, 2, 5)


def test_ticks_of_losses():
    """On a logarithmic axis plain numbers stand at 1, 2 and 5 times a power of ten."""
    ax = LossCurveDisplay.from_estimator(small().fit(X, Y), log_scale="y").ax_
    ax.set_ylim(0.15, 15)
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_yticklabels(which="both")]
    labels = [label for label in labels if label and 0.15 < float(label) < 15]
    assert labels == ["0.2", "0.5", "1", "2", "5", "10"]


def test_line_kw():
    """It applies to all lines, and takes both of matplotlib's names."""
    display = LossCurveDisplay.from_estimator(stopped(), line_kw={"lw": 3, "c": "k"})
    assert [line.get_linewidth() for line in display.lines_] == [3, 3]
    assert {line.get_color() for line in display.lines_ + display.marks_} == {"k"}


def test_plot_again():
    """`plot` draws the same curves again, on given axes."""
    display = LossCurveDisplay.from_estimator(small().fit(X, Y))
    first = display.ax_
    _, ax = plt.subplots()
    assert display.plot(ax, x="updates") is display
    assert display.ax_ is ax is not first
    assert len(display.lines_) == 1


def test_training_afterwards_changes_no_display():
    """A display has the epochs that were made when it was created."""
    clf = small().fit(X, Y)
    display = LossCurveDisplay.from_estimator(clf)
    other = copy(clf)
    clf.partial_fit(X, Y)
    assert len(display.loss[0]) == 12
    # `other` shares the lists, which are longer now.
    display = LossCurveDisplay.from_estimator(other)
    assert len(display.plot(x="updates").lines_[0].get_xdata()) == 12
    assert len(display.plot(x="seconds").lines_[0].get_xdata()) == 12


# Estimators


def test_pipeline_and_search():
    """The curves are those of the last step and of the best estimator."""
    pipeline = make_pipeline(StandardScaler(), small())
    search = GridSearchCV(pipeline, {"bgdclassifier__batch_size": [5, 50]}, cv=2)
    for estimator in (pipeline, search, make_pipeline(StandardScaler(), search)):
        with pytest.raises(NotFittedError):
            LossCurveDisplay.from_estimator(clone(estimator))
    search.fit(X, Y)
    clf = search.best_estimator_[-1]
    for estimator in (search, make_pipeline(search), search.best_estimator_, clf):
        display = LossCurveDisplay.from_estimator(estimator)
        assert display.lines_[0].get_ydata().tolist() == clf.loss_curve_


@pytest.mark.parametrize(
    "make, error, match",
    [
        (lambda: small(), NotFittedError, "BGDClassifier instance is not fitted"),
        (lambda: DummyClassifier().fit(X, Y), TypeError, "got DummyClassifier"),
        (lambda: make_pipeline(StandardScaler()), TypeError, "got Pipeline"),
        (lambda: "a loss", TypeError, "got 'a loss'"),
        (
            lambda: GridSearchCV(small(), {"alpha": [0]}, cv=2, refit=False).fit(X, Y),
            ValueError,
            "kept no estimator .refit=False",
        ),
        (
            lambda: small().partial_fit(X, Y, [0, 1], np.zeros(50)),
            ValueError,
            "made no epoch",
        ),
    ],
)
def test_estimators_without_a_curve(make, error, match):
    """They raise an error before a figure is made."""
    estimator = make()
    with pytest.raises(error, match=match):
        LossCurveDisplay.from_estimator(estimator)
    with pytest.raises(error, match=match):
        LossCurveDisplay.from_estimators({"a": small().fit(X, Y), "b": estimator})
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "call, match",
    [
        ({"x": "rows"}, "Got x='rows'; it must be one of 'epochs', 'upd"),
        ({"log_scale": True}, "Got log_scale=True; it must be 'x'"),
    ],
)
def test_invalid_choices(call, match):
    """The message states the rule and the value, and no figure is made."""
    before = plt.get_fignums()
    with pytest.raises(ValueError, match=match):
        LossCurveDisplay.from_estimator(small().fit(X, Y), **call)
    assert plt.get_fignums() == before


@pytest.mark.parametrize("estimators", [{}, [], small()], ids=str)
def test_from_estimators_needs_a_dict(estimators):
    """Anything else, or an empty dict, is an error."""
    with pytest.raises(ValueError, match="must be a dict"):
        LossCurveDisplay.from_estimators(estimators)


def test_display_of_given_values():
    """It plots any lists; each choice of `x` needs its own list."""
    display = LossCurveDisplay(loss=[[3.0, 2.0], [1.0]], name=["a", "b"]).plot()
    assert [line.get_ydata().tolist() for line in display.lines_] == [[3, 2], [1]]
    with pytest.raises(ValueError, match="x='seconds' needs the seconds"):
        display.plot(x="seconds")
    with pytest.raises(ValueError, match="name has 1 entries, loss has 2"):
        LossCurveDisplay(loss=[[3.0], [1.0]], name=["a"]).plot()


# matplotlib


def test_without_matplotlib(monkeypatch):
    """The error says what to install."""
    clf = small().fit(X, Y)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="plot requires matplotlib. You can install"):
        LossCurveDisplay.from_estimator(clf)


def test_import_does_not_import_matplotlib():
    """skbgd imports it only to plot."""
    code = "import sys, skbgd; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
