"""Data, classifiers and comparisons that several test files share."""

import numpy as np
from sklearn.base import clone
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier

# How long tests wait for what must happen, in seconds. Only a test that fails waits as
# long: a busy machine may pause processes for minutes.
PATIENCE = 600


def targets(kind, n=70, d=6):
    """Rows and their "binary", "multiclass" (four classes) or "multilabel" targets."""
    if kind == "multilabel":
        X, y = make_multilabel_classification(n, d, n_classes=3, random_state=0)
    else:
        X, y = make_classification(
            n,
            d,
            n_informative=4,
            n_classes=2 if kind == "binary" else 4,
            random_state=0,
        )
    return StandardScaler().fit_transform(X), y


def small(**params):
    """A classifier that makes 12 epochs of plain descent with a constant step size."""
    return BGDClassifier(
        **{
            "hidden_layer_sizes": (8,),
            "random_state": 0,
            "max_iter": 12,
            "tol": None,
            "batch_size": 8,
            "learning_rate_schedule": "constant",
            "n_iter_no_change": 50,
            **params,
        },
    )


def fitted(X, y, sample_weight=None, **params):
    """The classifier of `small` with 6 hidden units, after 20 epochs."""
    params = {"hidden_layer_sizes": (6,), "max_iter": 20, **params}
    return small(**params).fit(X, y, sample_weight)


def parameters(clf):
    """All weights, then all biases, as one vector."""
    return np.concatenate([p.ravel() for p in clf.coefs_ + clf.intercepts_])


def initial(clf, X, y):
    """A classifier like `clf`, fitted to the rows, with its initial parameters."""
    params = {"learning_rate": 1e-300, "alpha": 0, "max_iter": 1, "tol": None}
    return clone(clf).set_params(solver="sgd", **params).fit(X, y)


def same(a, b):
    """Assert that parameters and history of two classifiers are equal bit for bit."""
    np.testing.assert_array_equal(parameters(a), parameters(b))
    assert a.loss_curve_ == b.loss_curve_
    assert a.updates_curve_ == b.updates_curve_
    assert len(a.seconds_curve_) == len(b.seconds_curve_) == len(a.loss_curve_)
    assert a.validation_loss_curve_ == b.validation_loss_curve_
    assert a.validation_scores_ == b.validation_scores_
    assert (a.n_iter_, a.t_, a.best_loss_) == (b.n_iter_, b.t_, b.best_loss_)


def starting_from(mlp, clf, X, y):
    """Fit an MLPClassifier from the initial parameters of `clf`."""
    start = initial(clf, X, y)
    n_epochs = mlp.max_iter
    mlp.set_params(warm_start=True, max_iter=1).fit(X, y)  # builds the layers
    mlp.coefs_ = [W.copy() for W in start.coefs_]
    mlp.intercepts_ = [b.copy() for b in start.intercepts_]
    mlp.loss_curve_ = []
    mlp.t_ = 0
    return mlp.set_params(max_iter=n_epochs).fit(X, y)
