"""Weights of the network that a user sets: coefs_, intercepts_, coef_, intercept_."""

import pickle
from copy import copy

import numpy as np
import pytest
from helpers import parameters, same, small, targets
from sklearn.exceptions import NotFittedError

from skbgd import BGDClassifier

KINDS = ["binary", "multiclass", "multilabel"]


PARAMS = {"alpha": 1e-3, "learning_rate": 0.1, "standardize": False}


def untrained(X, y, **params):
    """A classifier that has layers, but has seen no row with a weight."""
    clf = small(**PARAMS | params)
    classes = None if y.ndim == 2 else np.unique(y)
    return clf.partial_fit(X, y, classes, np.zeros(len(y)))


def with_weights_of(other, clf):
    """`clf`, with the weights of another network set as lists and arrays."""
    clf.coefs_ = [W.tolist() for W in other.coefs_]
    clf.intercepts_ = other.intercepts_
    return clf


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_weights_predict_equally(kind, dtype):
    """Weights of any array-like get the type of the network."""
    X, y = targets(kind)
    X = X.astype(dtype)
    expected = small(standardize=False).fit(X, y)
    clf = with_weights_of(expected, untrained(X, y))
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    assert clf.coefs_[0].dtype == dtype


def test_weights_are_copied():
    """Neither array changes with the other."""
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
@pytest.mark.parametrize(
    "scale", [1, 30, 0.03], ids=["scaled", "large features", "small features"]
)
def test_training_continues_from_set_weights(params, scale):
    """Without momentum or best parameters of before, and without the scaling of W_1.

    Initial weights are divided by the size of the features, set weights are not.
    """
    X, y = targets("binary")
    X = scale * X
    params = {"shuffle": False, **params}
    trained = small(**PARAMS | params).fit(X, y)
    clf = with_weights_of(trained, untrained(X, y, **params))
    trained = with_weights_of(trained, pickle.loads(pickle.dumps(trained)))
    for _ in range(3):
        clf.partial_fit(X, y)
        trained.partial_fit(X, y)
    np.testing.assert_array_equal(parameters(clf), parameters(trained))
    assert (clf.n_iter_, len(clf.loss_curve_)) == (3, 3)
    assert trained.n_iter_ == len(trained.loss_curve_) > 3


def test_a_warm_start_continues_from_set_weights():
    """The stopping rule restarts, and a cosine schedule too."""
    X, y = targets("binary")
    clf = BGDClassifier((8,), warm_start=True, random_state=0).fit(X, y)
    n_epochs = clf.n_iter_
    clf.coefs_ = [0.5 * W for W in clf.coefs_]
    before = clf.coefs_[0].copy()
    clf.set_params(learning_rate=1e-12, tol=None).fit(X, y)
    assert clf.n_iter_ > n_epochs
    np.testing.assert_allclose(clf.coefs_[0], before, atol=1e-8)
    n_epochs = clf.n_iter_
    clf.coefs_ = clf.coefs_  # rows and parameters have not changed
    clf.fit(X, y)
    assert clf.n_iter_ > n_epochs


def test_a_copy_is_not_changed():
    """A shallow copy of the estimator has weights of its own."""
    X, y = targets("binary")
    clf = small().fit(X, y)
    expected = pickle.loads(pickle.dumps(clf))
    with_weights_of(untrained(X, y), copy(clf))
    same(clf, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_linear_model(kind):
    """coef_ and intercept_ can be set as coefs_ and intercepts_ can."""
    X, y = targets(kind)
    expected = small(hidden_layer_sizes=()).fit(X, y)
    clf = untrained(X, y, hidden_layer_sizes=())
    clf.coef_, clf.intercept_ = expected.coef_, expected.intercept_
    np.testing.assert_array_equal(parameters(clf), parameters(expected))


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
def test_bad_weights(name, arrays, match):
    """A ValueError, after which the estimator is unchanged."""
    X, y = targets("binary")
    clf = small().fit(X.astype(np.float32), y)
    before = vars(clf).copy(), parameters(clf).copy()
    with pytest.raises(ValueError, match=match):
        setattr(clf, name, arrays)
    assert vars(clf) == before[0]
    np.testing.assert_array_equal(parameters(clf), before[1])


@pytest.mark.parametrize("name", ["coefs_", "intercepts_", "coef_", "intercept_"])
def test_weights_of_an_unfitted_network(name):
    """They cannot be set: the error names the cure, and there is still no model."""
    clf = BGDClassifier(())
    with pytest.raises(AttributeError, match=f"{name} can be set .* partial_fit first"):
        setattr(clf, name, [[1.0]])
    with pytest.raises(NotFittedError):
        clf.predict([[1.0]])


@pytest.mark.parametrize("name", ["coef_", "intercept_"])
def test_coef_cannot_be_set_with_hidden_layers(name):
    """Nor can intercept_."""
    clf = small().fit(*targets("binary"))
    with pytest.raises(AttributeError, match="without hidden layers only"):
        setattr(clf, name, [[1.0]])


def test_weights_of_a_network_on_dask():
    """They are set without a cluster."""
    pytest.importorskip("distributed")
    from skbgd.dask import DaskBGDClassifier

    X, y = targets("binary")
    expected = small(standardize=False).fit(X, y)
    clf = DaskBGDClassifier((8,), standardize=False)
    clf.partial_fit(X, y, classes=[0, 1])
    with_weights_of(expected, clf)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
