r"""
The article, equation by equation
=================================

This package began with an article: "Deep Learning - Batch Gradient Descent" (RicoJia,
2022). Here are its displayed equations from top to bottom. Each is a function in the
article's notation, with the formula in its docstring. Each is checked to 1e-12: costs,
predictions and whole descents against `BGDClassifier`, derivatives against the slope of
the cost.

The printed article has four slips. A line "SLIP" shows each where it occurs, with the
number that goes wrong:

1. dJ/dw_i is printed twice. The second, y_hat - y, is dJ/db.
2. The update of the bias starts from w, or lacks the step size, or the mean.
3. dJ/da of the output layer has the wrong sign in the summary.
4. dJ/da of a hidden layer L needs dJ/dz of layer L+1, not of layer L.

Two conventions of the article differ from those of scikit-learn:

- a sample is a column: `X` has the shape (n, m) for n inputs and m samples;
- :math:`w^L_j`, the weights of node j, are a row of :math:`W^L`. The matrices in
  `coefs_` are transposed.

The last cell draws the article's figure, the cost per epoch of batch, mini-batch and
stochastic gradient descent, as ``article.png`` beside this file. Runs in seconds::

    python examples/plot_article.py
"""

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from skbgd import BGDClassifier

# The article's descent: steps of one size, no penalty.
PLAIN = {
    "learning_rate_schedule": "constant",
    "alpha": 0.0,
    "standardize": False,
    "random_state": 0,
}


def check(equation, value, expected):
    """Print the largest difference; raise an error if it is more than rounding."""
    difference = np.abs(np.subtract(value, expected)).max()
    print(f"{equation:<66} {difference:7.1e}")
    assert difference < 1e-12, equation


def slip(number, equation, printed, correct):
    """Print what the printed equation gives, and what is correct."""
    print(f"SLIP {number}: {equation:<36} printed {printed:.3f}, correct {correct:.3f}")
    assert abs(printed - correct) > 1e-3, equation


def classifier(W, b, X, Y, **params):
    """A BGDClassifier with the article's weights."""
    clf = BGDClassifier([len(W_L) for W_L in W[:-1]], **PLAIN, **params)
    clf.partial_fit(X.T, Y.T, classes=[0, 1])  # builds the layers
    for coef, intercept, W_L, b_L in zip(
        clf.coefs_, clf.intercepts_, W, b, strict=True
    ):
        coef[:], intercept[:] = W_L.T, b_L[:, 0]
    return clf


# %%
# A neuron
# --------
# A neuron weighs its inputs and feeds the sum to the "sigma function". The article's
# first formula has no bias. b is the weight of an additional input that is always 1.


def weighted_sum(w, b, x):
    """z = sum_i w_i x_i + b = w_0 x_0 + w_1 x_1 + ... + b"""
    return w @ x + b


def sigma(z):
    """y = sigma(z) = 1 / (1 + e^-z)"""
    return 1 / (1 + np.exp(-z))


def cross_entropy(y_hat, y):
    """J = -(y log(y_hat) + (1 - y) log(1 - y_hat))"""
    return -(y * np.log(y_hat) + (1 - y) * np.log(1 - y_hat))


# One sample x, and a batch X of m samples.
rng = np.random.default_rng(0)
n, m, lam = 3, 6, 0.5
w, b = rng.normal(size=n), 0.3
X, y = rng.normal(size=(n, m)), np.array([1, 0, 0, 1, 1, 0])
x = X[:, 0]
z = weighted_sum(w, b, x)
y_hat = sigma(z)


def neuron(w, b, **params):
    """A BGDClassifier that is one neuron."""
    return classifier([w[np.newaxis]], [np.array([[b]])], X, y, **params)


def w_and_b(clf):
    """Its weights, then its bias."""
    return np.append(clf.coef_, clf.intercept_)


print(f"{'check':<64} difference")
check("z: weighted_sum, decision_function", z, neuron(w, b).decision_function([x]))
check("y_hat: sigma, predict_proba", y_hat, neuron(w, b).predict_proba([x])[0, 1])
check(
    "J: cross_entropy, loss_curve_",
    cross_entropy(y_hat, y[0]),
    neuron(w, b).partial_fit([x], y[:1]).loss_curve_[-1],
)


# %%
# Gradient descent
# ----------------
# The gradient points along the steepest ascent of the cost, so a step goes against it.
#
# `nabla` finds each partial derivative without calculus: it moves one weight a little
# and looks how the cost changes. It moves along the imaginary axis, where nothing has
# to be subtracted: unlike (J(w + h) - J(w)) / h, the result is exact to rounding. The
# equations below are compared with it.


def nabla(J, w, h=1e-30):
    """nabla J = [dJ/dw_0, dJ/dw_1, ...], with dJ/dw_k = Im J(w + ih e_k) / h"""
    dJ_dw = np.empty(np.shape(w))
    for k in np.ndindex(np.shape(w)):
        moved = np.array(w, dtype=complex)
        moved[k] += 1j * h
        dJ_dw[k] = J(moved).imag / h
    return dJ_dw


def step(w, nabla_J):
    """w = w - lambda nabla J"""
    return w - lam * nabla_J


def J_of_w(w):
    """The cost of the sample as a function of w."""
    return cross_entropy(sigma(weighted_sum(w, b, x)), y[0])


def J_of_b(b):
    """The cost of the sample as a function of b."""
    return cross_entropy(sigma(weighted_sum(w, b, x)), y[0])


check(
    "step along nabla, partial_fit with one sample",
    np.append(step(w, nabla(J_of_w, w)), step(b, nabla(J_of_b, b))),
    w_and_b(neuron(w, b, learning_rate=lam).partial_fit([x], y[:1])),
)

# %%
# The chain rule leads from the cost back to the weights. Two denominators cancel, and
# what is left is short: the error of the prediction times the input.


def dJ_dy_hat(y_hat, y):
    """dJ/dy_hat = (y_hat - y) / (y_hat (1 - y_hat))"""
    return (y_hat - y) / (y_hat * (1 - y_hat))


def dy_hat_dz(z):
    """dy_hat/dz = e^-z / (1 + e^-z)^2 = y_hat (1 - y_hat)"""
    return np.exp(-z) / (1 + np.exp(-z)) ** 2


def dz_dw(x):
    """dz/dw_i = x_i"""
    return x


def dJ_dw(y_hat, y, x):
    """dJ/dw_i = (y_hat - y) x_i"""
    return (y_hat - y) * x


def dJ_db(y_hat, y):
    """dJ/db = y_hat - y    (printed: dJ/dw_i = y_hat - y)"""
    return y_hat - y


check(
    "dJ/dy_hat", dJ_dy_hat(y_hat, y[0]), nabla(lambda a: cross_entropy(a, y[0]), y_hat)
)
check("dy_hat/dz", dy_hat_dz(z), nabla(sigma, z))
check("dy_hat/dz, its second form", dy_hat_dz(z), y_hat * (1 - y_hat))
check("dz/dw", dz_dw(x), nabla(lambda w: weighted_sum(w, b, x), w))
check("dJ/dw", dJ_dw(y_hat, y[0], x), nabla(J_of_w, w))
check(
    "dJ/dw = dJ/dy_hat dy_hat/dz dz/dw",
    dJ_dw(y_hat, y[0], x),
    dJ_dy_hat(y_hat, y[0]) * dy_hat_dz(z) * dz_dw(x),
)
check("dJ/db", dJ_db(y_hat, y[0]), nabla(J_of_b, b))
slip(1, "dJ/dw_0 = y_hat - y", y_hat - y[0], nabla(J_of_w, w)[0])

# %%
# The step from one sample. The printed bias update starts from w.


def step_w(w, y_hat, y, x):
    """w = w - lambda nabla J = w - lambda (y_hat - y) x"""
    return w - lam * (y_hat - y) * x


def step_b(b, y_hat, y):
    """b = b - lambda nabla J = b - lambda (y_hat - y)    (printed: w - ...)"""
    return b - lam * (y_hat - y)


check("step of w, one sample", step_w(w, y_hat, y[0], x), step(w, nabla(J_of_w, w)))
check("step of b, one sample", step_b(b, y_hat, y[0]), step(b, nabla(J_of_b, b)))
slip(
    2, "b = w_0 - lambda (y_hat - y)", step_b(w[0], y_hat, y[0]), step_b(b, y_hat, y[0])
)

# %%
# The batch
# ---------
# The cost of a batch is the mean cost of its samples, so its gradient is the mean of
# their gradients. One matrix product computes it: this is "vectorization". The printed
# bias update lacks the mean.


def batch_cost(y_hat, y):
    """J = -1/m sum_m (y log(y_hat) + (1 - y) log(1 - y_hat))"""
    return cross_entropy(y_hat, y).sum() / len(y)


def batch_step_w(w, y_hat, y, X):
    """w = w - sum_m lambda nabla J^(m) = w - 1/m sum_m lambda (y_hat - y) x"""
    return w - X @ (lam * (y_hat - y)) / len(y)


def batch_step_b(b, y_hat, y):
    """b = b - 1/m sum_m lambda (y_hat - y)    (printed: b - lambda (y_hat - y))"""
    return b - (lam * (y_hat - y)).sum() / len(y)


Y_hat = sigma(weighted_sum(w, b, X))
after = neuron(w, b, learning_rate=lam, batch_size="full").partial_fit(X.T, y)
check("J of the batch, loss_curve_", batch_cost(Y_hat, y), after.loss_curve_[-1])
check(
    "step of w and b, partial_fit with the batch",
    np.append(batch_step_w(w, Y_hat, y, X), batch_step_b(b, Y_hat, y)),
    w_and_b(after),
)
check(
    "step of w, the mean of the steps from single samples",
    batch_step_w(w, Y_hat, y, X),
    np.mean([step_w(w, Y_hat[i], y[i], X[:, i]) for i in range(m)], axis=0),
)
slip(
    2,
    "b = b - lambda (y_hat - y), sample 1",
    step_b(b, Y_hat, y)[1],
    batch_step_b(b, Y_hat, y),
)

# %%
# A network
# ---------
# Nodes are arranged in layers. The output of layer L is called :math:`a^L`, and
# :math:`a^0` is the input. The network here has 3 inputs, two hidden layers of 4 nodes
# and 2 output nodes. The lists W, b, z and a are indexed by the number of the layer.


def forward(W, b, a, first=1):
    """z^L = W^L a^(L-1) + b^L, a^L = sigma(z^L); from layer `first` on"""
    z = []
    for W_L, b_L in zip(W[first:], b[first:], strict=True):
        z.append(W_L @ a + b_L)
        a = sigma(z[-1])
    return z, a


def activations(W, b, X):
    """All z^L and a^L; z^0 does not exist, a^0 = X."""
    z, _ = forward(W, b, X)
    return [None, *z], [X, *map(sigma, z)]


units = [n, 4, 4, 2]
W = [None] + [rng.normal(size=(units[L], units[L - 1])) for L in (1, 2, 3)]
b = [None] + [rng.normal(size=(units[L], 1)) for L in (1, 2, 3)]
Y = rng.integers(0, 2, size=(2, m))
z, a = activations(W, b, X)
network = classifier(W[1:], b[1:], X, Y)
check("a^3: activations, predict_proba", a[3].T, network.predict_proba(X.T))

# %%
# When L is an output layer
# -------------------------
# The cost adds up the cross-entropy of the output nodes. 1/m stands in the cost here.


def network_cost(a, Y):
    """J = -1/m sum_q (y log(a_q) + (1 - y) log(1 - a_q)), summed over the samples"""
    return cross_entropy(a, Y).sum() / Y.shape[1]


def dJ_da_output(a, Y):
    """dJ/da_q = -1/m (y - a_q) / (a_q (1 - a_q))"""
    return -(Y - a) / (a * (1 - a)) / Y.shape[1]


def J_of_a(L):
    """The cost as a function of a^L."""
    return lambda a_L: network_cost(forward(W, b, a_L, first=L + 1)[1], Y)


after = classifier(W[1:], b[1:], X, Y, batch_size="full").partial_fit(X.T, Y.T)
check("J of the network, loss_curve_", network_cost(a[3], Y), after.loss_curve_[-1])
check("dJ/da at the output", dJ_da_output(a[3], Y), nabla(J_of_a(3), a[3]))

# %%
# When L is a hidden layer
# ------------------------
# For node j of layer L and one sample. A hidden node acts on the cost through all nodes
# q of the next layer, so the derivatives along these paths are added up.


def dz_dw_node(a_previous):
    """dz_j/dw_j = [a^(L-1)_0, a^(L-1)_1, ...] = a^(L-1)"""
    return a_previous


def da_dz(z):
    """da/dz = sigma'(z) = sigma(z) (1 - sigma(z))"""
    return sigma(z) * (1 - sigma(z))


def dJ_dw_node(dJ_da_j, da_dz_j, dz_dw_j):
    """nabla J = dJ/dw_j = dJ/da_j da_j/dz_j dz_j/dw_j"""
    return dJ_da_j * da_dz_j * dz_dw_j


def dJ_da_node(dJ_da_next, da_dz_next, dz_da_j):
    """dJ/da_j = sum_q dJ/da^(L+1)_q da^(L+1)_q/dz^(L+1)_q dz^(L+1)_q/da_j"""
    return (dJ_da_next * da_dz_next * dz_da_j).sum()


def dz_next_da_node(W_next, j):
    """dz^(L+1)_q/da_j = w^(L+1)_(q,j), for all q"""
    return W_next[:, j]


def dJ_da_node_reduced(dJ_da_next, W_next, z_next, j):
    """dJ/da_j = sum_q dJ/da^(L+1)_q w^(L+1)_(q,j) sigma'(z^(L+1)_q)"""
    return (dJ_da_next * W_next[:, j] * da_dz(z_next)).sum()


def J_of_W(L):
    """The cost as a function of W^L."""
    return lambda W_L: network_cost(forward(W[:L] + [W_L] + W[L + 1 :], b, X)[1], Y)


def J_of_b_layer(L):
    """The cost as a function of b^L."""
    return lambda b_L: network_cost(forward(W, b[:L] + [b_L] + b[L + 1 :], X)[1], Y)


L, j, sample = 2, 1, 0
dJ_da_next = dJ_da_output(a[3], Y)[:, sample]
z_next = z[3][:, sample]
dJ_da_j = dJ_da_node(dJ_da_next, da_dz(z_next), dz_next_da_node(W[3], j))
check("da/dz of a node", da_dz(z[L][j, sample]), nabla(sigma, z[L][j, sample]))
check(
    "dz/da of a node",
    dz_next_da_node(W[3], j)[1],
    nabla(lambda a: W[3][1] @ a + b[3][1, 0], a[L][:, sample])[j],
)
check("dJ/da of a node", dJ_da_j, nabla(J_of_a(L), a[L])[j, sample])
check(
    "dJ/da of a node, reduced",
    dJ_da_node_reduced(dJ_da_next, W[3], z_next, j),
    dJ_da_j,
)
check(
    "dJ/dw of a node, summed over the samples",
    sum(
        dJ_dw_node(
            nabla(J_of_a(L), a[L])[j, i],
            da_dz(z[L][j, i]),
            dz_dw_node(a[L - 1][:, i]),
        )
        for i in range(m)
    ),
    nabla(J_of_W(L), W[L])[j],
)

# %%
# Summary: back-propagation
# -------------------------
# The same for all nodes and samples of a layer at once. 1/m has moved from the cost to
# the step: J is now the sum over the samples.
#
# Step 1, the output layer. The printed derivative has the wrong sign.


def dJ_da_last(a, Y):
    """dJ/da = (a - y) / (a (1 - a))    (printed: (y - a) / (a (1 - a)))"""
    return (a - Y) / (a * (1 - a))


def dJ_dz(dJ_da, z):
    """dJ/dz = dJ/da da/dz = dJ/da sigma'(z)"""
    return dJ_da * da_dz(z)


check("1. dJ/da, output layer", dJ_da_last(a[3], Y), m * nabla(J_of_a(3), a[3]))
check("1. dJ/dz, output layer: a - y", dJ_dz(dJ_da_last(a[3], Y), z[3]), a[3] - Y)
slip(
    3,
    "dJ/da = (y - a) / (a (1 - a))",
    -dJ_da_last(a[3], Y)[0, 0],
    m * nabla(J_of_a(3), a[3])[0, 0],
)

# %%
# Step 2, the other layers. dJ/dz on the right belongs to layer L+1; L is printed. With
# layer L the shapes fit only if both layers have as many nodes, and the numbers are
# wrong then.


def dJ_da_earlier_node(dJ_dz_next, W_next, j):
    """dJ/da_j = sum_q dJ/dz^(L+1)_q w^(L+1)_(q,j)"""
    return sum(dJ_dz_next[q] * W_next[q, j] for q in range(len(W_next)))


def dJ_da_earlier(dJ_dz_next, W_next):
    """dJ/da = (W^(L+1))^T dJ/dz^(L+1)    (printed: dJ/dz^L)"""
    return W_next.T @ dJ_dz_next


dJ_dz_3 = dJ_dz(dJ_da_last(a[3], Y), z[3])
dJ_dz_2 = dJ_dz(dJ_da_earlier(dJ_dz_3, W[3]), z[2])
dJ_dz_1 = dJ_dz(dJ_da_earlier(dJ_dz_2, W[2]), z[1])
check(
    "2. dJ/da of a node, hidden layer 2",
    dJ_da_earlier_node(dJ_dz_3, W[3], j),
    m * nabla(J_of_a(2), a[2])[j],
)
for L, dJ_dz_next in ((2, dJ_dz_3), (1, dJ_dz_2)):
    check(
        f"2. dJ/da, hidden layer {L}",
        dJ_da_earlier(dJ_dz_next, W[L + 1]),
        m * nabla(J_of_a(L), a[L]),
    )
slip(
    4,
    "dJ/da^1 = (W^2)^T dJ/dz^1",
    dJ_da_earlier(dJ_dz_1, W[2])[0, 0],
    m * nabla(J_of_a(1), a[1])[0, 0],
)

# %%
# Step 3, the update. The printed bias update lacks lambda and the mean.


def dJ_dW(dJ_dz, a_previous):
    """dJ/dW = dJ/dz a^(L-1), summed over the samples by the product"""
    return dJ_dz @ a_previous.T


def update_W(W, dJ_dW, m):
    """W = W - 1/m sum_m lambda dJ/dW"""
    return W - lam * dJ_dW / m


def update_b(b, dJ_dz):
    """b = b - 1/m sum_m lambda dJ/dz    (printed: b - dJ/dz)"""
    return b - lam * dJ_dz.mean(axis=1, keepdims=True)


def back_propagation(W, b, X, Y):
    """One step of gradient descent: steps 1 to 3 for all layers."""
    z, a = activations(W, b, X)
    new_W, new_b, dJ_da = W.copy(), b.copy(), dJ_da_last(a[-1], Y)
    for L in range(len(W) - 1, 0, -1):
        dJ_dz_L = dJ_dz(dJ_da, z[L])
        new_W[L] = update_W(W[L], dJ_dW(dJ_dz_L, a[L - 1]), X.shape[1])
        new_b[L] = update_b(b[L], dJ_dz_L)
        dJ_da = dJ_da_earlier(dJ_dz_L, W[L])
    return new_W, new_b


new_W, new_b = back_propagation(W, b, X, Y)
for L in (3, 2, 1):
    check(f"3. W^{L}", new_W[L], step(W[L], nabla(J_of_W(L), W[L])))
    check(f"3. b^{L}", new_b[L], step(b[L], nabla(J_of_b_layer(L), b[L])))
slip(2, "b = b - dJ/dz, sample 0", (b[3] - dJ_dz_3)[0, 0], new_b[3][0, 0])

# %%
# Batch, mini-batch and stochastic gradient descent
# -------------------------------------------------
# Back-propagation takes the gradient over any number of samples. Whole batch: all of
# them, one step an epoch. Stochastic: one sample, m steps an epoch. Mini-batches lie
# between. An epoch is a pass over all samples, in a new random order.


def shuffle(X, Y, permutation):
    """Shuffle the samples, which are columns, and their labels alike."""
    return X[:, permutation], Y[:, permutation]


def partition(X, Y, batch_size):
    """Split the samples into batches; the last one may be shorter."""
    starts = range(0, X.shape[1], batch_size)
    return [(X[:, k : k + batch_size], Y[:, k : k + batch_size]) for k in starts]


def epoch(W, b, X, Y, batch_size, permutation):
    """One step of gradient descent for each batch."""
    for X_batch, Y_batch in partition(*shuffle(X, Y, permutation), batch_size):
        W, b = back_propagation(W, b, X_batch, Y_batch)
    return W, b


for name, batch_size in (("batch", m), ("mini-batch", 4), ("stochastic", 1)):
    clf = classifier(
        W[1:], b[1:], X, Y, learning_rate=lam, batch_size=batch_size, shuffle=False
    )
    new_W, new_b = W, b
    for _ in range(3):  # epochs, each in another order
        permutation = rng.permutation(m)
        new_W, new_b = epoch(new_W, new_b, X, Y, batch_size, permutation)
        clf.partial_fit(X[:, permutation].T, Y[:, permutation].T)
    for what, ours, theirs in (
        ("weights", new_W, clf.coefs_),
        ("biases", new_b, clf.intercepts_),
    ):
        check(
            f"{name}, {what} after 3 epochs: epoch, partial_fit",
            np.concatenate([p.ravel() for p in ours[1:]]),
            np.concatenate([p.T.ravel() for p in theirs]),
        )

# %%
# The article's figure
# --------------------
# `BGDClassifier` computes the same, faster. Three descents with the same step size from
# the same start: a network of 16 hidden sigmoids on 3000 points in two half-moons. The
# cost is that of all samples after each epoch, which is recorded if they are passed as
# validation data too.
#
# Per epoch, smaller batches descend faster, because they take more steps. The gradient
# of one sample points only roughly downhill, so the stochastic descent is noisy, and it
# stays so if the step size does not fall. Mini-batches reach the same cost smoothly.
#
# Predict what a change does to the three curves, then make it and run the file again:
#
# - ``"learning_rate": 0.05``: all three are ten times slower, and the stochastic
#   descent becomes smooth. 5.0: the first step of the whole batch is too long and
#   raises the cost, mini-batches are best, and the stochastic descent never settles.
# - 8 or 512 instead of 64 samples: the curve moves towards the stochastic one, or
#   towards that of the batch. What counts is the number of steps.
# - ``(16, 16)``: a second layer does not lower the cost in the end. The batch takes
#   longer to leave the start: two sigmoids in a row flatten the slope.
# - ``()``: a single neuron. Its best straight line costs 0.31, and the batch with 16
#   sigmoids above has not yet learned more than such a line.
# - ``"tanh"``: it is up to 4 times as steep as a sigmoid, which acts like a longer
#   step. The batch is faster, and the stochastic descent does not settle.
# - ``X = 100 * X`` after ``make_moons``: the sigmoids start at 0 or 1, where their
#   slope is 0, and the cost gets stuck. ``X / 100``: dJ/dw = (a - y) x is tiny, and the
#   batch learns nothing. This is why features are scaled.
#
# ``plot_loss_surface.py`` shows the paths behind these curves, ``plot_batch_sizes.py``
# how long an epoch takes.
NETWORK = {"hidden_layer_sizes": (16,), "activation": "logistic", "learning_rate": 0.5}
EPOCHS = 60


def article_figure():
    plt.style.use("seaborn-v0_8-colorblind")
    X, y = make_moons(3000, noise=0.25, random_state=0)
    figure, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for name, batch_size in (("batch", "full"), ("mini-batch", 64), ("stochastic", 1)):
        clf = BGDClassifier(
            batch_size=batch_size, max_iter=EPOCHS, tol=None, **NETWORK, **PLAIN
        ).fit(X, y, X_val=X, y_val=y)
        costs = clf.validation_loss_curve_
        if batch_size == "full":
            start = clf.loss_curve_[0]  # the cost before the first step
        steps = clf.updates_curve_[0]
        ax.plot([start, *costs], label=f"{name} (steps per epoch: {steps})")
        print(f"{name:<10} cost after {EPOCHS} epochs: {costs[-1]:.3f}")
    ax.set(
        xlabel="Epoch",
        ylabel="Cost J of all samples",
        title="Smaller batches descend faster per epoch, but less smoothly",
        ylim=(0, None),
    )
    ax.legend()
    ax.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    figure = article_figure()
    if "__file__" in globals():  # a notebook shows the figure
        path = Path(__file__).with_name("article.png")
        figure.savefig(path, dpi=110)
        print(f"Picture: {path}")
