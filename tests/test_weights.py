"""Weights that are set: coefs_, intercepts_, coef_, intercept_."""

import pickle
from copy import copy

import numpy as np
import pytest
from helpers import parameters, same, small, targets
from sklearn.exceptions import NotFittedError

from skbgd import BGDClassifier

KINDS = ["binary", "multiclass", "multilabel"]


def untrained(X, y, **params):
    """Layers, and nothing learned."""
    clf = small(**{"alpha": 1e-3, "learning_rate": 0.1, **params})
    classes = None if y.ndim == 2 else np.unique(y)
    return clf.partial_fit(X, y, classes, np.zeros(len(y)))


def given(clf, other):
    """`clf` with the weights of another."""
    clf.coefs_ = [W.tolist() for W in other.coefs_]
    clf.intercepts_ = other.intercepts_
    return clf


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_predict_alike(kind, dtype):
    X, y = targets(kind)
    X = X.astype(dtype)
    expected = small().fit(X, y)
    clf = given(untrained(X, y), expected)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    assert clf.coefs_[0].dtype == dtype


def test_they_are_copied():
    X, y = targets("binary")
    clf = small().fit(X, y)
    W, V = (np.full_like(coef, 0.5) for coef in clf.coefs_)
    clf.coefs_ = W, V
    W[:] = 7
    assert (clf.coefs_[0] == 0.5).all()
    clf.coefs_[0][:] = 3
    assert (W == 7).all()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"momentum": 0.9},
        {"solver": "adam", "learning_rate": 0.01},
        {"early_stopping": True, "validation_fraction": 0.5},
    ],
    ids=["plain", "momentum", "adam", "early stopping"],
)
@pytest.mark.parametrize("scale", [1, 30], ids=["", "large features"])
def test_training_continues_from_them(params, scale):
    """Without momentum or another best, and with no change that a start has."""
    X, y = targets("binary")
    X = scale * X
    params = {"shuffle": False, "alpha": 1e-3, "learning_rate": 0.1, **params}
    trained = small(**params).fit(X, y)
    clf = given(untrained(X, y, **params), trained)
    trained = given(pickle.loads(pickle.dumps(trained)), trained)
    for _ in range(3):
        clf.partial_fit(X, y)
        trained.partial_fit(X, y)
    np.testing.assert_array_equal(parameters(clf), parameters(trained))
    assert (clf.n_iter_, len(clf.loss_curve_)) == (3, 3)
    assert trained.n_iter_ == len(trained.loss_curve_) > 3


def test_a_warm_start_continues_from_them():
    """With a fresh stopping rule, and as many epochs as a plan has."""
    X, y = targets("binary")
    clf = BGDClassifier((8,), warm_start=True, random_state=0).fit(X, y)
    n_epochs = clf.n_iter_
    clf.coefs_ = [0.5 * W for W in clf.coefs_]
    before = clf.coefs_[0].copy()
    clf.set_params(learning_rate=1e-12).fit(X, y)
    assert clf.n_iter_ > n_epochs
    np.testing.assert_allclose(clf.coefs_[0], before, atol=1e-8)
    n_epochs = clf.n_iter_
    clf.coefs_ = clf.coefs_  # the rows and the parameters are the same
    clf.fit(X, y)
    assert clf.n_iter_ > n_epochs


def test_a_copy_is_not_changed():
    X, y = targets("binary")
    clf = small().fit(X, y)
    expected = pickle.loads(pickle.dumps(clf))
    given(copy(clf), untrained(X, y))
    same(clf, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_linear_model(kind):
    X, y = targets(kind)
    expected = small(hidden_layer_sizes=()).fit(X, y)
    clf = untrained(X, y, hidden_layer_sizes=())
    clf.coef_, clf.intercept_ = expected.coef_, expected.intercept_
    same_as = clf.coefs_ + clf.intercepts_
    for ours, theirs in zip(same_as, expected.coefs_ + expected.intercepts_):  # noqa: B905
        np.testing.assert_array_equal(ours, theirs)


BAD = {
    "number": ("coefs_", [np.ones((6, 8))], "must hold 2 arrays, .*got 1"),
    "no sequence": ("coefs_", 5, "must be a sequence of 2 arrays; got 5"),
    "shape": (
        "coefs_",
        [np.ones((6, 8)), np.ones(8)],
        r"coefs_\[1\] must be an array of real numbers of shape \(8, 1\); got float64 "
        r"of shape \(8,\)",
    ),
    "broadcast": ("intercepts_", [0.0, 0.0], r"intercepts_\[0\].*shape \(8,\); got"),
    "text": ("intercepts_", [["1"] * 8, [0]], "real numbers.*got <U1"),
    "complex": ("intercepts_", [np.ones(8), [1j]], r"_\[1\].*real.*got complex128"),
    "ragged": ("coefs_", [[[1], [1, 2]], [[1]]], r"\[0\].*rows of several lengths"),
    "nan": ("intercepts_", [[np.nan] * 8, [0]], "must be finite in float32; got nan"),
    "too large": ("intercepts_", [[0] * 8, [1e39]], "finite in float32; got 1e.39"),
}


@pytest.mark.parametrize("name, arrays, match", BAD.values(), ids=BAD)
def test_what_is_refused(name, arrays, match):
    """A ValueError, and the estimator is as it was."""
    X, y = targets("binary")
    clf = small().fit(X.astype(np.float32), y)
    before = vars(clf).copy(), parameters(clf).copy()
    with pytest.raises(ValueError, match=match):
        setattr(clf, name, arrays)
    assert vars(clf) == before[0]
    np.testing.assert_array_equal(parameters(clf), before[1])


@pytest.mark.parametrize("name", ["coefs_", "intercepts_", "coef_", "intercept_"])
def test_not_before_there_are_layers(name):
    clf = BGDClassifier(())
    with pytest.raises(AttributeError, match=f"{name} can be set .*partial_fit first"):
        setattr(clf, name, [[1.0]])
    with pytest.raises(NotFittedError):
        clf.predict([[1.0]])


@pytest.mark.parametrize("name", ["coef_", "intercept_"])
def test_no_coef_with_hidden_layers(name):
    clf = small().fit(*targets("binary"))
    with pytest.raises(AttributeError, match="only available without hidden layers"):
        setattr(clf, name, [[1.0]])


def test_on_dask():
    pytest.importorskip("distributed")
    from skbgd.dask import DaskBGDClassifier

    X, y = targets("binary")
    expected = small().fit(X, y)
    clf = DaskBGDClassifier((8,)).partial_fit(X, y, classes=[0, 1])
    given(clf, expected)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
