"""L-BFGS: equal to scikit-learn's solvers, and what `fit` does with it."""

import warnings

import numpy as np
import pytest
from helpers import parameters, same, starting_from, targets
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_circles,
    make_classification,
    make_moons,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier
from skbgd._trainer import LocalTrainer


def lbfgs(hidden=(8,), **params):
    return BGDClassifier(hidden, **{"solver": "lbfgs", "random_state": 0, **params})


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def sparse_rows():
    X, y = make_classification(400, 60, n_informative=20, random_state=0)
    return csr_array(np.where(abs(X) > 1, X, 0)), y


WEIGHTS = np.random.default_rng(0).integers(0, 4, size=2000).astype(float)


@pytest.mark.parametrize(
    "rows, weighted, class_weight",
    [
        (scaled(load_breast_cancer), False, None),
        (scaled(load_breast_cancer), True, "balanced"),
        (scaled(load_iris), True, {0: 3.0}),
        (scaled(load_wine), False, None),
        (sparse_rows(), True, None),
    ],
    ids=["binary", "binary, weights", "softmax, weights", "softmax", "sparse, weights"],
)
def test_a_single_layer_is_logistic_regression(rows, weighted, class_weight):
    """C sum_i w_i l_i + ||W||^2 / 2 is n J / n alpha with alpha = 1 / (C sum_i w_i)."""
    X, y = rows
    weights = WEIGHTS[: len(y)] if weighted else np.ones(len(y))
    total = weights.copy()
    if class_weight == "balanced":
        total *= sum(weights) / (2 * np.bincount(y, weights))[y]
    elif class_weight:
        total[y == 0] *= class_weight[0]
    # "balanced" of LogisticRegression ignores the weights in older versions.
    theirs = LogisticRegression(tol=1e-10, max_iter=10_000).fit(X, y, total)
    clf = lbfgs(
        (), output_activation="softmax", alpha=1 / total.sum(), tol=1e-10,
        max_iter=10_000, class_weight=class_weight, standardize=False,
    )  # fmt: skip
    with warnings.catch_warnings():  # rounding may end it before tol is reached
        warnings.simplefilter("ignore", ConvergenceWarning)
        clf.fit(X, y, weights if weighted else None)
    np.testing.assert_allclose(clf.coef_, theirs.coef_, rtol=0, atol=1e-6)
    intercepts = clf.intercept_, theirs.intercept_
    if len(clf.intercept_) > 1:  # softmax does not change with a shift of all
        intercepts = [b - b.mean() for b in intercepts]
    np.testing.assert_allclose(*intercepts, rtol=0, atol=1e-6)


NETWORKS = {
    "breast cancer": (scaled(load_breast_cancer), (16,), "logistic"),
    "iris": (scaled(load_iris), (10,), "logistic"),
    "wine": (scaled(load_wine), (100,), "tanh"),
    "digits": (scaled(load_digits), (32,), "logistic"),
    "digits, relu": (scaled(load_digits), (20, 20), "relu"),
    "moons": (make_moons(300, noise=0.25, random_state=0), (20,), "logistic"),
    "circles": (
        make_circles(300, noise=0.1, factor=0.5, random_state=0), (10, 10), "tanh"
    ),
    "binary": (targets("binary", n=500), (30,), "logistic"),
    "multiclass": (targets("multiclass", n=500), (30,), "relu"),
    "multilabel": (targets("multilabel", n=500), (12,), "logistic"),
}  # fmt: skip


@pytest.mark.parametrize("case", NETWORKS)
def test_no_worse_than_mlp_classifier_from_the_same_start(case):
    """After 100 iterations J is at most 1 % larger.

    The penalty bounds it from below.
    """
    (X, y), hidden, activation = NETWORKS[case]
    clf = lbfgs(
        hidden, activation=activation, output_activation="softmax", alpha=1e-3,
        max_iter=100, tol=None, standardize=False,
    )  # fmt: skip
    mlp = MLPClassifier(
        hidden,
        solver="lbfgs",
        activation=activation,
        alpha=1e-3 * len(X),
        max_iter=100,
        tol=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mlp = starting_from(mlp, clf, X, y)
        clf.fit(X, y)
    assert clf.n_iter_ <= 100
    assert clf.loss_ <= 1.01 * mlp.loss_


def objective(clf, X, y):
    """J of the parameters, computed with public methods."""
    P = clf.predict_proba(X)
    penalty = sum((W**2).sum() for W in clf.coefs_)
    return -np.log(P[range(len(y)), y]).mean() + clf.alpha_ / 2 * penalty


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_curves(dtype):
    """J decreases; entry k is J after k iterations, each with one gradient or more."""
    X, y = targets("binary", n=300)
    X = X.astype(dtype)
    clf = lbfgs().fit(X, y, X_val=X[:50], y_val=y[:50])
    assert clf.coefs_[0].dtype == dtype
    assert clf.stop_reason_ == "converged"
    assert clf.n_iter_ < 1000 == clf.max_iter_
    assert (np.diff(clf.loss_curve_) <= 0).all()
    assert clf.loss_ == clf.loss_curve_[-1] == clf.best_loss_
    assert clf.loss_ == pytest.approx(objective(clf, X, y), rel=1e-5)
    assert clf.batch_size_ == 300
    assert clf.t_ == clf.updates_curve_[-1] * 300 > clf.n_iter_ * 300
    for curve in (clf.updates_curve_, clf.seconds_curve_, clf.validation_loss_curve_):
        assert len(curve) == clf.n_iter_
    assert (np.diff(clf.updates_curve_) > 0).all()
    assert (np.diff(clf.seconds_curve_) > 0).all()
    assert not hasattr(clf, "learning_rate_")
    assert not hasattr(clf, "learning_rate_init_")


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_it_ends_when_no_entry_of_the_gradient_is_larger_than_tol(tol):
    """Measured by central differences of J, along every parameter."""
    X, y = targets("binary", n=100)
    clf = lbfgs((3,), tol=tol, alpha=1e-2).fit(X, y)
    assert clf.stop_reason_ == "converged"
    for array in (*clf.coefs_, *clf.intercepts_):
        for i in np.ndindex(array.shape):
            ends = []
            value = array[i]
            for step in (1e-5, -1e-5):
                array[i] = value + step
                ends.append(objective(clf, X, y))
            array[i] = value
            assert abs(ends[0] - ends[1]) / 2e-5 < tol + 1e-8
    longer = clone(clf).set_params(tol=tol / 10).fit(X, y)
    assert longer.n_iter_ > clf.n_iter_


def test_warnings():
    """max_iter, and a tolerance that rounding does not allow, warn; tol=None not."""
    X, y = targets("binary", n=300)
    with pytest.warns(ConvergenceWarning, match=r"max_iter=3 iterations .* gradient"):
        assert lbfgs(max_iter=3).fit(X, y).n_iter_ == 3
    with pytest.warns(ConvergenceWarning, match="No lower loss .* float32"):
        clf = lbfgs((), tol=1e-12).fit(X.astype("f4"), y)
    assert clf.stop_reason_ == "converged"
    exact = lbfgs((), tol=1e-8).fit(X, y)
    np.testing.assert_allclose(clf.coef_, exact.coef_, rtol=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = lbfgs(max_iter=3, tol=None).fit(X, y)
        assert (clf.n_iter_, clf.stop_reason_) == (3, "max_iter")
        clf = lbfgs((), tol=None).fit(X, y)  # until rounding ends it
        assert clf.stop_reason_ == "converged"
        lbfgs().fit(X, y)


def test_parameters_without_effect():
    """Batches, step sizes, momentum and patience are ignored."""
    X, y = targets("multiclass")
    clf = lbfgs(max_iter=20, tol=None).fit(X, y)
    for params in (
        {"batch_size": 7, "shuffle": False},
        {"learning_rate": 3.0, "learning_rate_schedule": "cosine", "power_t": 2.0},
        {"learning_rate_schedule": "adaptive", "max_gradient_norm": 1e-3},
        {"momentum": 0.9, "nesterov": True, "beta_1": 0.0},
        {"n_iter_no_change": 1},
    ):
        same(clone(clf).set_params(**params).fit(X, y), clf)


def test_early_stopping_keeps_the_best_parameters():
    """It stops n_iter_no_change iterations after the best one."""
    X, y = make_moons(300, noise=0.4, random_state=0)
    clf = lbfgs((50,), alpha=0, early_stopping=True, n_iter_no_change=5, tol=0)
    clf.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    assert clf.stop_reason_ == "early_stopping"
    curve = clf.validation_loss_curve_
    assert np.argmin(curve) == len(curve) - 6
    assert objective(clf, X[200:], y[200:]) == pytest.approx(min(curve), rel=1e-6)
    scored = clone(clf).set_params(scoring="accuracy").fit(X, y)
    assert len(scored.validation_scores_) == scored.n_iter_
    assert scored.stop_reason_ == "early_stopping"


def test_warm_start_continues_from_the_parameters():
    """At the minimum there is no epoch to make, and no warning."""
    X, y = targets("binary", n=300)
    clf = lbfgs(max_iter=10, warm_start=True, tol=None).fit(X, y)
    loss, evaluations = clf.loss_, clf.updates_curve_[-1]
    clf.set_params(max_iter=30).fit(X, y)
    assert clf.n_iter_ == 30 == len(clf.loss_curve_)
    assert clf.loss_ < clf.loss_curve_[10] < loss == clf.loss_curve_[9]
    assert clf.t_ == 300 * clf.updates_curve_[-1] > 300 * (evaluations + 20)
    clf.set_params(max_iter="auto", tol=1e-4).fit(X, y)
    reached, n_iter = parameters(clf), clf.n_iter_
    assert clf.stop_reason_ == "converged"
    clf.fit(X, y)
    assert (clf.n_iter_, clf.stop_reason_) == (n_iter, "converged")
    np.testing.assert_array_equal(parameters(clf), reached)
    with pytest.warns(ConvergenceWarning, match=f"No epoch .* max_iter={n_iter} "):
        clf.set_params(max_iter=n_iter).fit(X, y)


@pytest.mark.parametrize("other", ["sgd", "adam"])
def test_other_solvers_continue(other):
    """A warm start may change the solver, to L-BFGS and from it."""
    X, y = targets("binary", n=300)
    clf = lbfgs(warm_start=True, max_iter=5, tol=None).fit(X, y)
    before = clf.loss_
    clf.set_params(solver=other, learning_rate=0.01, max_iter=10).fit(X, y)
    assert clf.n_iter_ == 10
    assert clf.loss_curve_[5] == pytest.approx(before, rel=0.1)
    clf.partial_fit(X, y)
    clf.set_params(solver="lbfgs", max_iter=15).fit(X, y)
    assert clf.n_iter_ == 15
    assert clf.loss_ < before


def test_there_is_no_partial_fit():
    """The error names the cure, and the class has the method."""
    X, y = targets("binary")
    clf = lbfgs()
    assert not hasattr(clf, "partial_fit")
    with pytest.raises(AttributeError) as error:
        clf.partial_fit(X, y, classes=[0, 1])
    assert "Use solver='sgd' or 'adam'" in str(error.value)
    assert error.value.__cause__ is None
    assert callable(BGDClassifier.partial_fit)
    assert hasattr(clf.set_params(solver="sgd"), "partial_fit")


@pytest.mark.filterwarnings("ignore:The loss, 0.693, is not lower than 0.693")
def test_no_gradient_at_the_start():
    """One iteration, which ends with the initial parameters."""
    X, y = np.zeros((4, 1)), [0, 1, 0, 1]
    clf = lbfgs(()).fit(X, y)
    assert (clf.n_iter_, clf.stop_reason_) == (1, "converged")
    assert clf.loss_ == pytest.approx(np.log(2))
    assert clf.updates_curve_ == [1]
    clf.set_params(warm_start=True, tol=None).fit(X, y)
    assert (clf.n_iter_, clf.stop_reason_) == (1, "converged")


def test_a_failure_leaves_the_estimator_unchanged(monkeypatch):
    """A loss that is not finite is an error, with advice about raw features."""
    X, y = targets("binary")
    clf = lbfgs(standardize=False).fit(X, y)
    before = parameters(clf).copy()
    loss_gradient = LocalTrainer.loss_gradient
    monkeypatch.setattr(
        LocalTrainer, "loss_gradient", lambda *args: (np.inf, loss_gradient(*args)[1])
    )
    with pytest.raises(ValueError, match="epoch 1 of L-BFGS .*solver='sgd'\\.$"):
        clf.fit(X, y)
    with pytest.raises(ValueError, match="badly scaled .*standardize=True"):
        clf.fit(1000 * X, y)
    np.testing.assert_array_equal(parameters(clf), before)


def test_ctrl_c_keeps_the_last_iteration(monkeypatch):
    """An interrupted fit has the parameters after the last complete iteration."""
    X, y = targets("binary", n=300)
    whole = lbfgs(max_iter=7, tol=None).fit(X, y)
    n_calls = 0
    loss_gradient = LocalTrainer.loss_gradient

    def interrupted(*args):
        nonlocal n_calls
        n_calls += 1
        if n_calls > whole.updates_curve_[-1]:
            raise KeyboardInterrupt
        return loss_gradient(*args)

    monkeypatch.setattr(LocalTrainer, "loss_gradient", interrupted)
    clf = lbfgs()
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert clf.stop_reason_ == "interrupted"
    same(clf, whole)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_sparse_rows_and_threads(kind):
    """They change J by rounding only, which 20 iterations hardly magnify."""
    X, y = targets(kind, n=3000)
    params = {"max_iter": 20, "tol": None, "standardize": False}
    clf = lbfgs((64,), n_jobs=1, **params).fit(X, y)
    others = lbfgs((64,), n_jobs=2, **params).fit(X, y)
    np.testing.assert_allclose(clf.loss_curve_, others.loss_curve_, rtol=1e-8)
    others.fit(csr_array(X), y)
    np.testing.assert_allclose(clf.loss_curve_, others.loss_curve_, rtol=1e-8)
    repeated = clone(clf).fit(X, y)
    same(clf, repeated)


def test_verbose(capsys):
    """A line for each iteration."""
    X, y = targets("binary")
    lbfgs(max_iter=3, tol=None, verbose=2).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12] for line in lines[:3]] == [f"epoch {k} of 3" for k in (1, 2, 3)]


def test_callbacks():
    """scikit-learn's progress bar works."""
    callbacks = pytest.importorskip("sklearn.callback")
    pytest.importorskip("rich")  # which the progress bar needs
    X, y = targets("binary")
    clf = lbfgs(max_iter=4, tol=None)
    clf.set_callbacks(callbacks.ProgressBar())
    clf.fit(X, y)
    assert clf.n_iter_ == 4
