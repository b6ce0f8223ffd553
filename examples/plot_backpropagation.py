r"""
Back-propagation, step by step
==============================

From one neuron and its gradient to a network and its mini-batches. Each step is a few
lines of NumPy, compared with what `BGDClassifier` does: with ``alpha=0`` and
``batch_size="full"``, one call of `partial_fit` changes the parameters by minus
`learning_rate` times the gradient.

Rows are :math:`x_i` with labels :math:`y_i` of 0 or 1. Prints each check and writes
``backpropagation.png`` beside this file. Runs in seconds::

    python examples/plot_backpropagation.py
"""

# %%
from copy import deepcopy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit as sigmoid  # 1 / (1 + exp(-z))
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.preprocessing import scale

from skbgd import BGDClassifier, LossCurveDisplay

X, y = load_breast_cancer(return_X_y=True)
X = scale(X)
n, d = X.shape


def package_gradient(clf, X, y):
    """What one step of the package takes off its parameters, per learning rate."""
    after = deepcopy(clf).partial_fit(X, y)
    return [
        (old - new) / clf.learning_rate
        for old, new in zip(
            clf.coefs_ + clf.intercepts_, after.coefs_ + after.intercepts_, strict=True
        )
    ]


def check(what, ours, theirs, atol=1e-12):
    """Print the largest difference of two lists of arrays; fail beyond rounding."""
    error = max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))
    print(f"{what:<66} {error:8.1e}")
    assert error < atol


# %%
# One neuron
# ----------
# It weighs its inputs and squeezes the sum; the cost is the cross-entropy:
#
# .. math::
#     z = x \cdot w + b, \qquad a = \sigma(z) = \frac{1}{1 + e^{-z}}, \qquad
#     J = -[y \log a + (1 - y) \log(1 - a)]
#
# The chain rule leads from the cost back to the weights,
#
# .. math::
#     \frac{\partial J}{\partial a} = \frac{a - y}{a (1 - a)}, \qquad
#     \frac{\partial a}{\partial z} = a (1 - a), \qquad
#     \frac{\partial z}{\partial w} = x, \qquad \frac{\partial z}{\partial b} = 1,
#
# and the denominators cancel:
#
# .. math::
#     \frac{\partial J}{\partial z} = a - y, \qquad
#     \frac{\partial J}{\partial w} = (a - y) x, \qquad
#     \frac{\partial J}{\partial b} = a - y
#
# ``hidden_layer_sizes=()`` is such a neuron. It starts at 0, where all rows have the
# same z; one step takes it to a point that is less special.
settings = {"batch_size": "full", "alpha": 0.0, "learning_rate": 0.1, "random_state": 0}
settings["standardize"] = False  # the rows as they are here
neuron = BGDClassifier((), **settings).partial_fit(X, y, classes=[0, 1])
w, b = neuron.coefs_[0][:, 0], neuron.intercepts_[0][0]


def neuron_gradient(w, b, x, y):
    a = sigmoid(x @ w + b)
    return (a - y) * x, a - y


print(f"{'check':<66} {'error':>8}")
dw, db = neuron_gradient(w, b, X[0], y[0])
check(
    "one neuron, one row: NumPy, package",
    [dw[:, np.newaxis], np.array([db])],
    package_gradient(neuron, X[:1], y[:1]),
)


# %%
# A gradient that is derived by hand is checked with finite differences: moving one
# weight by :math:`\pm h` changes the cost by twice :math:`h` times its derivative, up
# to an error of the order of :math:`h^2` and to rounding, which grows as :math:`h`
# falls.
def neuron_cost(w, b, x, y):
    """-[y log a + (1 - y) log(1 - a)] from z: safe where a rounds to 0 or 1."""
    z = x @ w + b
    return np.logaddexp(0, z) - y * z


def finite_differences(cost, theta, h):
    """(J(theta + h e_k) - J(theta - h e_k)) / 2h for each k."""
    steps = h * np.eye(len(theta))
    return np.array([cost(theta + s) - cost(theta - s) for s in steps]) / (2 * h)


check(
    "one neuron, one row: NumPy, finite differences",
    [dw],
    [finite_differences(lambda w: neuron_cost(w, b, X[0], y[0]), w, h=1e-5)],
    atol=1e-9,
)
hs = 10.0 ** np.arange(-12, 0.5, 0.5)
difference_errors = [
    np.abs(finite_differences(lambda w: neuron_cost(w, b, X[0], y[0]), w, h) - dw).max()
    for h in hs
]

# %%
# The batch
# ---------
# The cost of many rows is the mean of their costs, so the gradient is the mean of their
# gradients. As a matrix product, this is one call instead of a loop over the rows.


def batch_gradient(w, b, X, y):
    delta = (sigmoid(X @ w + b) - y) / len(X)
    return X.T @ delta, delta.sum()


dw, db = batch_gradient(w, b, X, y)
one_by_one = [neuron_gradient(w, b, X[i], y[i]) for i in range(n)]
check(
    f"one neuron, {n} rows: matrix product, mean of a loop",
    [dw, db],
    [np.mean([row[k] for row in one_by_one], axis=0) for k in (0, 1)],
)
check(
    f"one neuron, {n} rows: NumPy, package",
    [dw[:, np.newaxis], np.array([db])],
    package_gradient(neuron, X, y),
)
check(
    f"one neuron, {n} rows: mean cost, the package's loss_curve_",
    [neuron_cost(w, b, X, y).mean()],
    [deepcopy(neuron).partial_fit(X, y).loss_curve_[-1]],
)

# %%
# Two layers
# ----------
# Hidden neurons feed the output neuron. With the rows of the batch in the rows of
# :math:`X = A_0`, and a column for each neuron,
#
# .. math::
#     A_1 = \sigma(X W_1 + b_1), \qquad A_2 = \sigma(A_1 W_2 + b_2)
#
# At the output :math:`D_2 = \partial J / \partial Z_2` is what it was for one neuron. A
# hidden neuron acts on the cost through all neurons of the next layer, so their
# derivatives come back through the same weights and are added up; this is
# back-propagation:
#
# .. math::
#     D_2 = \frac{A_2 - Y}{n}, \qquad
#     D_1 = (D_2 W_2^T) \odot A_1 \odot (1 - A_1), \qquad
#     \frac{\partial J}{\partial W_l} = A_{l-1}^T D_l, \qquad
#     \frac{\partial J}{\partial b_l} = \sum_i D_{l,i}


def network_cost(W1, W2, b1, b2):
    A1 = sigmoid(X @ W1 + b1)
    z = (A1 @ W2 + b2)[:, 0]
    return (np.logaddexp(0, z) - y * z).mean()


def network_gradient(W1, W2, b1, b2):
    A1 = sigmoid(X @ W1 + b1)
    A2 = sigmoid(A1 @ W2 + b2)
    D2 = (A2 - y[:, np.newaxis]) / n
    D1 = D2 @ W2.T * A1 * (1 - A1)
    return [X.T @ D1, A1.T @ D2, D1.sum(axis=0), D2.sum(axis=0)]


network = BGDClassifier((3,), **settings).partial_fit(X, y, classes=[0, 1])
parameters = network.coefs_ + network.intercepts_
gradient = network_gradient(*parameters)
check("two layers: NumPy, package", gradient, package_gradient(network, X, y))

ends = np.cumsum([p.size for p in parameters])[:-1]


def cost_of(theta):
    shaped = zip(np.split(theta, ends), parameters, strict=True)
    return network_cost(*(part.reshape(p.shape) for part, p in shaped))


theta = np.concatenate([p.ravel() for p in parameters])
check(
    "two layers: NumPy, finite differences",
    [np.concatenate([g.ravel() for g in gradient])],
    [finite_differences(cost_of, theta, h=1e-5)],
    atol=1e-9,
)
descent = deepcopy(network).set_params(max_iter=200, tol=None, warm_start=True)
descent.fit(X, y)
for _ in range(199):  # the first of the 200 epochs is behind both
    gradient = network_gradient(*parameters)
    parameters = [
        p - network.learning_rate * g for p, g in zip(parameters, gradient, strict=True)
    ]
check(
    "two layers, 200 steps: NumPy, package",
    parameters,
    descent.coefs_ + descent.intercepts_,
    atol=1e-10,
)

# %%
# Why mini-batches
# ----------------
# A step costs as much time as there are rows in its batch, but the gradient of a few
# random rows is right on average: it misses that of all :math:`n` rows by
#
# .. math::
#     \mathbb{E} \lVert g_B - g \rVert^2 = \frac{n - m}{m (n - 1)}
#     \operatorname{mean}_i \lVert g_i - g \rVert^2
#
# for :math:`m` rows. A quarter of the rows costs a quarter of the time and about
# doubles the error, so that far from the minimum many cheap steps get further than a
# few exact ones. All three below take steps of the same size.
rows = np.array([dw for dw, db in one_by_one])
whole = rows.mean(axis=0)
spread = ((rows - whole) ** 2).sum(axis=1).mean()
rng = np.random.default_rng(0)
ms = 2 ** np.arange(10)
measured = np.array(
    [
        np.sqrt(
            np.mean(
                [
                    ((rows[rng.permutation(n)[:m]].mean(axis=0) - whole) ** 2).sum()
                    for _ in range(1000)
                ]
            )
        )
        for m in ms
    ]
)
predicted = np.sqrt((n - ms) / (ms * (n - 1)) * spread)
worst = np.abs(measured / predicted - 1).max()
print(f"\nError of a mini-batch's gradient, 1000 draws: {worst:.0%} from the formula")
assert worst < 0.1

X_large, y_large = make_classification(20_000, 20, n_informative=10, random_state=0)
trained = {}
for batch_size, epochs in (("full", 50), (64, 50), (1, 20)):
    clf = BGDClassifier(
        (16,), batch_size=batch_size, learning_rate=0.1, random_state=0, tol=None
    ).set_params(max_iter=epochs)
    trained[f"batch_size={batch_size}"] = clf.fit(X_large, y_large)
    print(
        f"batch_size={batch_size:<5} {clf.updates_curve_[-1]:>7} steps in "
        f"{clf.seconds_curve_[-1]:.2f} s: cost {clf.loss_:.3f}"
    )

# %%
figure, (left, middle, right) = plt.subplots(
    1, 3, figsize=(13, 4.2), layout="constrained"
)
left.loglog(hs, difference_errors, marker=".")
left.set(
    xlabel="h",
    ylabel="Largest error",
    title="Finite differences of a neuron's gradient",
)
middle.loglog(ms, predicted, color="0.4", label="formula")
middle.loglog(ms, measured, "o", label="1000 random batches")
middle.set(
    xlabel="Rows in the batch",
    ylabel="Error of the gradient",
    title=f"A mini-batch's gradient, out of {n} rows",
)
middle.legend()
LossCurveDisplay.from_estimators(trained, x="seconds", log_scale="xy", ax=right)
right.set(title="Training 16 sigmoids on 20 000 rows")
for ax in (left, middle, right):
    ax.grid(alpha=0.3)
path = Path(__file__).with_name("backpropagation.png")
figure.savefig(path, dpi=120)
print(f"Picture: {path}")
