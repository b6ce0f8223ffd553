"""The article's equations in plain NumPy, with its slips corrected, for comparison.

Rows are samples. It is meant to be read beside the article, not to be fast: activations
are written with exponentials, the cost from log(a), and every layer as a list entry.
"""

import numpy as np


def sigma(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# Each activation and its derivative with respect to z.
ACTIVATIONS = {
    "logistic": (sigma, lambda z: sigma(z) * (1 - sigma(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    "identity": (lambda z: z, np.ones_like),
}


def forward(Ws, bs, X, activation, output):
    """Pre-activations z and activations a of every layer."""
    zs, activations = [], [X]
    for layer, (W, b) in enumerate(zip(Ws, bs, strict=True)):
        zs.append(activations[-1] @ W + b)
        f = ACTIVATIONS[activation][0]
        if layer == len(Ws) - 1:
            f = softmax if output == "softmax" else sigma
        activations.append(f(zs[-1]))
    return zs, activations


def cost(Ws, bs, X, Y, w, alpha, activation, output):
    """J = sum_i w_i l_i / sum_i w_i + alpha / 2 sum_l ||W_l||^2"""
    a = forward(Ws, bs, X, activation, output)[1][-1]
    if output == "softmax":
        losses = -(Y * np.log(a)).sum(axis=1)
    else:
        losses = -(Y * np.log(a) + (1 - Y) * np.log(1 - a)).sum(axis=1)
    return w @ losses / w.sum() + alpha / 2 * sum((W**2).sum() for W in Ws)


def gradients(Ws, bs, X, Y, w, m, activation, output):
    """1/m sum_i w_i dl_i/dW and 1/m sum_i w_i dl_i/db for every layer."""
    zs, activations = forward(Ws, bs, X, activation, output)
    dWs, dbs = [], []
    dz = w[:, None] * (activations[-1] - Y) / m
    for layer in reversed(range(len(Ws))):
        dWs.insert(0, activations[layer].T @ dz)
        dbs.insert(0, dz.sum(axis=0))
        if layer > 0:
            da = dz @ Ws[layer].T
            dz = da * ACTIVATIONS[activation][1](zs[layer - 1])
    return dWs, dbs


def descend(Ws, bs, X, Y, w, batch_size, eta, alpha, mu, nesterov, epochs, **net):
    """Mini-batch descent in the order of the rows; w averages 1."""
    Ws, bs = [W.copy() for W in Ws], [b.copy() for b in bs]
    velocities = [np.zeros_like(p) for p in Ws + bs]
    for _ in range(epochs):
        for start in range(0, len(X), batch_size):
            rows = slice(start, start + batch_size)
            dWs, dbs = gradients(Ws, bs, X[rows], Y[rows], w[rows], len(X[rows]), **net)
            dWs = [dW + alpha * W for dW, W in zip(dWs, Ws, strict=True)]
            for p, v, g in zip(Ws + bs, velocities, dWs + dbs, strict=True):
                v[...] = mu * v - eta * g
                p += mu * v - eta * g if nesterov else v
    return Ws, bs
