"""What several files of tests share: data, small models, comparisons."""

import numpy as np
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier
from skbgd._network import Network


def targets(kind, n=70, d=6):
    """Rows and targets of one of the three kinds."""
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
    """A classifier of 12 epochs of steps of one size."""
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
    params = {"hidden_layer_sizes": (6,), "max_iter": 20, **params}
    return small(**params).fit(X, y, sample_weight)


def parameters(clf):
    return np.concatenate([p.ravel() for p in clf.coefs_ + clf.intercepts_])


def same(a, b):
    """Two estimators have the same parameters and history, bit for bit."""
    np.testing.assert_array_equal(parameters(a), parameters(b))
    assert a.loss_curve_ == b.loss_curve_
    assert a.updates_curve_ == b.updates_curve_
    assert len(a.seconds_curve_) == len(b.seconds_curve_) == len(a.loss_curve_)
    assert a.validation_loss_curve_ == b.validation_loss_curve_
    assert a.validation_scores_ == b.validation_scores_
    assert (a.n_iter_, a.t_, a.best_loss_) == (b.n_iter_, b.t_, b.best_loss_)


def starting_from(mlp, clf, X, y):
    """Fit `mlp` from the parameters that `clf` starts from."""
    mlp.set_params(warm_start=True)
    epochs = mlp.max_iter
    mlp.set_params(max_iter=1).fit(X, y)  # builds the layers
    network = Network(
        (X.shape[1], *clf.hidden_layer_sizes, mlp.n_outputs_),
        clf.activation,
        clf.output_activation,
    )
    start = network.initial_parameters(np.random.RandomState(clf.random_state), float)
    mlp.coefs_ = [W.copy() for W in network.coefs(start)]
    mlp.intercepts_ = [b.copy() for b in network.intercepts(start)]
    mlp.loss_curve_ = []
    mlp.t_ = 0
    mlp.set_params(max_iter=epochs).fit(X, y)
    return mlp
