"""Symmetries: fits of features, classes or units in another order.

A symmetry maps a problem and its initial parameters to others. Gradient descent
commutes with it: the parameters of the mapped problem are the mapped parameters.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from skbgd import BGDClassifier

SOLVERS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "adam": {"solver": "adam"},
    "clipped": {"max_gradient_norm": 0.1},
}


def permuted_features(rng, X, y, Ws, bs):
    p = rng.permutation(X.shape[1])
    return X[:, p], y, [Ws[0][p], *Ws[1:]], bs


def permuted_units(rng, X, y, Ws, bs):
    """The units of the first hidden layer, if there is one."""
    if len(Ws) == 1:
        return X, y, Ws, bs
    p = rng.permutation(len(bs[0]))
    return X, y, [Ws[0][:, p], Ws[1][p], *Ws[2:]], [bs[0][p], *bs[1:]]


def mirrored_outputs(rng, X, y, Ws, bs):
    """Two classes exchanged, or some labels negated: z changes its sign."""
    sign = rng.choice([-1, 1], size=len(bs[-1])) if y.ndim == 2 else np.array([-1])
    y = np.where(sign > 0, y, 1 - y)
    return X, y, [*Ws[:-1], Ws[-1] * sign], [*bs[:-1], bs[-1] * sign]


def permuted_outputs(rng, X, y, Ws, bs):
    """Three classes, or three labels."""
    p = rng.permutation(len(bs[-1]))
    y = y[:, p] if y.ndim == 2 else np.argsort(p)[y]
    return X, y, [*Ws[:-1], Ws[-1][:, p]], [*bs[:-1], bs[-1][p]]


# The targets that each symmetry applies to
KINDS = {
    permuted_features: ["binary", "sigmoids", "softmax", "labels"],
    permuted_units: ["binary", "sigmoids", "softmax", "labels"],
    mirrored_outputs: ["binary", "labels"],
    permuted_outputs: ["sigmoids", "softmax", "labels"],
}


def stream(params, X, y, n_classes, parameters=None, n_epochs=3):
    """A classifier after `n_epochs` epochs, and its initial parameters.

    These are random, or given.
    """
    classes = None if y.ndim == 2 else np.arange(n_classes)
    clf = BGDClassifier(**params, random_state=0)
    clf.partial_fit(X, y, classes, np.zeros(len(y)))
    if parameters is not None:
        for view, values in zip(clf.coefs_ + clf.intercepts_, parameters, strict=True):
            view[...] = values
    start = [p.copy() for p in clf.coefs_], [p.copy() for p in clf.intercepts_]
    for _ in range(n_epochs):
        clf.partial_fit(X, y)
    return clf, start


@pytest.mark.parametrize("symmetry", KINDS, ids=lambda symmetry: symmetry.__name__)
@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    hidden=st.lists(st.integers(1, 9), max_size=3),
    activation=st.sampled_from(["logistic", "tanh", "relu", "identity"]),
    solver=st.sampled_from(sorted(SOLVERS)),
    batch_size=st.sampled_from([1, 7, 16, "full"]),
    alpha=st.sampled_from([0.0, 0.1]),
    d=st.integers(1, 20),
    sparse=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_the_descent_commutes_with(
    symmetry, data, hidden, activation, solver, batch_size, alpha, d, sparse,
    seed,
):  # fmt: skip
    kind = data.draw(st.sampled_from(KINDS[symmetry]))
    n_classes = 2 if kind == "binary" else 3
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, d)) * (rng.random((30, d)) < 0.6)
    y = rng.integers(n_classes, size=30)
    if kind == "labels":
        y = rng.integers(2, size=(30, 3))
    params = {
        "hidden_layer_sizes": hidden,
        "activation": activation,
        "output_activation": "softmax" if kind == "softmax" else "logistic",
        "batch_size": batch_size,
        "alpha": alpha,
        "learning_rate": 0.01,
        **SOLVERS[solver],
    }

    def rows(X):
        return csr_array(X) if sparse else X

    clf, start = stream(params, rows(X), y, n_classes)

    def mapped(Ws, bs):
        return symmetry(np.random.default_rng(seed), X, y, list(Ws), list(bs))

    other_X, other_y, *other_start = mapped(*start)
    other, _ = stream(
        params, rows(other_X), other_y, n_classes, [*other_start[0], *other_start[1]]
    )
    _, _, Ws, bs = mapped(clf.coefs_, clf.intercepts_)
    for reached, expected in zip(
        other.coefs_ + other.intercepts_, [*Ws, *bs], strict=True
    ):
        np.testing.assert_allclose(reached, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(clf.loss_curve_, other.loss_curve_, rtol=1e-9)


@pytest.mark.parametrize("hidden", [(), (6,)])
def test_exchanged_classes_exchange_their_probabilities(hidden):
    """The output layer starts at 0 here, so neither class is favoured."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(2, size=60)
    params = {"hidden_layer_sizes": hidden, "batch_size": 8, "learning_rate": 0.5}
    zeros = None
    if hidden:
        _, (Ws, bs) = stream(params, X, y, 2, n_epochs=0)
        zeros = [Ws[0], 0, bs[0], 0]
    clf, _ = stream(params, X, y, 2, zeros)
    other, _ = stream(params, X, 1 - y, 2, zeros)
    Z = clf.decision_function(X)
    assert np.abs(Z).min() > 1e-6
    np.testing.assert_allclose(other.decision_function(X), -Z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        other.predict_proba(X), clf.predict_proba(X)[:, ::-1], rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(other.predict(X), 1 - clf.predict(X))
