"""Reference implementation in NumPy: forward pass, backpropagation, gradient descent.

This module shows the mathematics; start here. The compiled core (`_backprop.pyx`) has
the same classes and functions, and is tested to give the same results. Where it is
missing, the package uses this module, with the matrix products and threads of the BLAS.

n rows in the data, m in the batch; L weight layers with units[0] = d features and
units[L] = K outputs. All matrices are row-major with samples in rows.

    theta    [W_1, b_1, ..., W_L, b_L], W_l (units[l-1], units[l]), b_l (units[l],)
    A_0      the rows of X, (m, d), standardized if the network standardizes
    Z_l      A_{l-1} W_l + b_l, the pre-activations, (m, units[l])
    A_l      f(Z_l) in the hidden layers; the output layer keeps Z_L
    D_l      dJ/dZ_l, (m, units[l]); in the output layer w_i (a_i - y_i) for both losses
    Y        encoded labels, (n, 1), or 0/1 indicators, (n, K); the same for K = 1

The loss of a row is the cross-entropy summed over the output units, times the weight of
the row. It is computed from Z_L, never from log(A_L), which loses digits or overflows.

A batch may have any number of rows. It is processed in tiles of at most `tile` rows,
which fit the cache.
"""

from math import isfinite, nan, sqrt

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit

from .arguments import (
    SPLITMIX_INCREMENT,
    check_fit,
    check_rows,
    check_step,
    check_vectors,
    checked,
    quiet,
)


def instruction_sets():
    """The values of SKBGD_ISA that select this core."""
    return ["numpy"]


def use_instruction_set(name):
    """Return the name of the previous instruction set, which is the only one."""
    if name != "numpy":
        raise ValueError(
            f"Got instruction set {name!r}, but the compiled core is not installed; "
            "without it, the only choice is 'numpy'."
        )
    return name


# One pass -----------------------------------------------------------------------------


def activation(name, Z):
    """A = f(Z), in place; Z is (m, units)."""
    if name == "softmax":
        Z -= Z.max(axis=1, keepdims=True)
        np.exp(Z, out=Z)
        Z /= Z.sum(axis=1, keepdims=True)
    elif name == "logistic":
        expit(Z, out=Z)
    elif name == "tanh":
        np.tanh(Z, out=Z)
    elif name == "relu":
        np.maximum(Z, 0, out=Z)
    return Z


def times_derivative(name, A, D):
    """D = D * f'(Z), in place, with f' in terms of a = f(z)."""
    if name == "logistic":
        D *= A * (1 - A)
    elif name == "tanh":
        D *= 1 - A * A
    elif name == "relu":
        D *= A > 0
    return D


def forward(layers, X, hidden):
    """A_0 ... A_{L-1}, Z_L"""
    A = [X]
    for W, b in layers:
        # Z_l = A_{l-1} W_l + b_l
        Z = A[-1] @ W
        Z += b
        # A_l = f(Z_l), except in the output layer
        A.append(activation(hidden, Z) if len(A) < len(layers) else Z)
    return A


def cross_entropy(Z, Y, output):
    """The loss of each row, (m,), and its derivative with respect to Z, (m, K)."""
    m, K = Z.shape
    if output == "softmax":
        # l = log(sum_k e^{z_k}) - z_y,  dl/dz = softmax(z) - y
        # Subtracting the largest z changes neither; log(1 + the other terms) keeps the
        # digits of a confident, correct output.
        i, y = np.arange(m), Y[:, 0]
        top = Z.argmax(axis=1)
        Z -= Z[i, top, np.newaxis]
        E = np.exp(Z)
        E[i, top] -= 1
        rest = E.sum(axis=1)
        E[i, top] += 1
        E /= 1 + rest[:, np.newaxis]
        E[i, y] -= 1
        return np.log1p(rest) - Z[i, y], E
    # l = sum_k log(1 + e^{t_k}),  t = -z where y = 1, else z;  dl/dz = sigma(z) - y
    if Y.shape[1] < K:
        Y = Y == np.arange(K)
    losses = np.logaddexp(0, np.where(Y, -Z, Z))
    D = expit(Z)
    D -= Y
    return losses[:, 0] if K == 1 else losses.sum(axis=1, dtype=float), D


def sum_of_squares(x):
    return float(np.einsum("i,i", x, x, dtype=float))


# Functions and classes of both cores --------------------------------------------------


class Trainer:
    """A network bound to rows: losses and gradients, steps, and outputs.

    A context manager, in which the compiled core has its threads; here the BLAS does.
    One call at a time.

    Parameters
    ----------
    layout : Layout
    theta : array of float32 or float64
        Changed by `epoch` and `step`, like velocity and second_moment.
    X : array or CSR matrix of the same type, with n rows
    Y : array of intc, or None
        (n, 1) encoded labels or (n, K) indicators; only `outputs` needs none.
    weights : array (n,) or None
    order : array of intp, (n,), or None
        The order of the rows in `epoch`. It may change between calls.
    standardizer : array (3, d) or None
        See `arguments.standardizer`.
    velocity, second_moment : arrays like theta, or None
    batch_size : int or None
        Rows of a step; None: all.
    n_threads : int
    tile : int or None
        Rows that are processed together; None: the number that fits in the cache.

    Attributes
    ----------
    loss_sum, n_done
        Results of the last `epoch`, also if it was interrupted.
    """

    def __init__(
        self, layout, theta, X, Y=None, weights=None, *, order=None, standardizer=None,
        velocity=None, second_moment=None, batch_size=None, n_threads=1, tile=None,
    ):  # fmt: skip
        check_vectors(layout, theta, velocity, second_moment)
        (self.n, d), *_ = check_rows(X, Y, weights, order, standardizer)
        check_fit(layout, theta, d, X.dtype, Y)
        self.layout, self.theta = layout, theta
        self.velocity, self.second_moment = velocity, second_moment
        self.X, self.Y, self.weights, self.order = X, Y, weights, order
        self.standardizer, self.n_threads = standardizer, 1
        self.batch_size = max(1, self.n) if batch_size is None else batch_size
        dense = standardizer is not None or not issparse(X)
        if tile is None:
            tile = layout.tile(theta.itemsize, self.n, dense, self.batch_size, 1)
        if min(self.batch_size, n_threads, tile) < 1:
            raise ValueError("batch_size, n_threads and tile must be positive.")
        self.tile = tile
        self.reset()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """There are no threads to stop."""

    def reset(self):
        """Clear the results of the last `epoch`."""
        self.loss_sum, self.n_done = 0.0, 0

    def batch(self, start, stop):
        """X (standardized), Y and weights of rows start ... stop - 1 in the order."""
        rows = slice(start, stop)
        if self.order is not None:
            rows = self.order[rows]
            if len(rows) == 1:
                rows = slice(rows[0], rows[0] + 1)  # no copy
        weights = None if self.weights is None else self.weights[rows]
        if isinstance(rows, slice) or issparse(self.X):
            X = self.X[rows]
        else:
            X = self.X.take(rows, axis=0)
        return self.standardized(X), self.Y[rows], weights

    def standardized(self, X):
        """Some rows of X, standardized if the network standardizes."""
        if self.standardizer is None:
            return X
        high, low, inverse = self.standardizer
        X = (X.toarray() if issparse(X) else X) - high
        X -= low
        X *= inverse
        return X

    def backprop(self, start, stop, g=None, scale=1.0):
        """sum_i w_i l_i over rows; scale times its gradient into g, if given.

        The sum is not finite as soon as the loss of a tile is not; the gradient is then
        incomplete.
        """
        loss, layers = 0.0, self.layout.layers(self.theta)
        gradients = None if g is None else self.layout.layers(g)
        for first in range(start, stop, self.tile):
            X, Y, weights = self.batch(first, min(first + self.tile, stop))
            *A, Z = forward(layers, X, self.layout.hidden)
            losses, D = cross_entropy(Z, Y, self.layout.output)
            if weights is None:
                loss += float(losses.sum(dtype=float))
            else:
                ignored = weights == 0
                losses[ignored], D[ignored] = 0, 0  # 0 times a NaN is NaN
                loss += float((weights * losses).sum(dtype=float))
                D *= weights[:, np.newaxis]
            if gradients is None:
                continue
            if not isfinite(loss):
                break
            if scale != 1:
                D *= scale
            for i in reversed(range(len(layers))):
                G_W, G_b = gradients[i]
                # dJ/dW_l = A_{l-1}^T D_l,  dJ/db_l = sum_i D_l[i]
                if first == start and not issparse(A[i]):
                    np.matmul(A[i].T, D, out=G_W)
                    D.sum(axis=0, out=G_b)
                elif first == start:
                    G_W[...], G_b[...] = A[i].T @ D, D.sum(axis=0)
                else:
                    G_W += A[i].T @ D
                    G_b += D.sum(axis=0)
                if i > 0:
                    # D_{l-1} = D_l W_l^T * f'(Z_{l-1})
                    D = times_derivative(self.layout.hidden, A[i], D @ layers[i][0].T)
        return loss

    def compute_step(self, rule, n_steps, g):
        """The change of theta in one step, and the new velocity and second moment.

        g is the gradient of the cross-entropy, which is overwritten. Returns None if
        the norm of the gradient is limited and not finite.
        """
        eta, alpha, mu = float(rule.eta), float(rule.alpha), float(rule.momentum)
        beta_1, beta_2 = float(rule.beta_1), float(rule.beta_2)
        # g = dJ/dtheta + alpha W;  b has no penalty
        if alpha:
            for W, b, _, _ in self.layout.offsets:
                g[W:b] += alpha * self.theta[W:b]
        if rule.max_gradient_norm > 0:
            # g = g min(1, c / ||g||)
            norm = sqrt(sum_of_squares(g))
            if not isfinite(norm):
                return None
            if norm > rule.max_gradient_norm:
                g *= float(rule.max_gradient_norm) / norm
        if rule.solver == "adam":
            # v = beta_1 v + (1 - beta_1) g,  u = beta_2 u + (1 - beta_2) g^2
            v = beta_1 * self.velocity + (1 - beta_1) * g
            u = beta_2 * self.second_moment + (1 - beta_2) * g * g
            # theta = theta - eta_t v / (sqrt(u) + epsilon) with the bias correction
            # eta_t = eta sqrt(1 - beta_2^t) / (1 - beta_1^t)
            eta *= sqrt(1 - beta_2 ** (n_steps + 1)) / (1 - beta_1 ** (n_steps + 1))
            return -eta * v / (np.sqrt(u) + float(rule.epsilon)), v, u
        g *= -eta
        if self.velocity is None:
            # theta = theta - eta g
            return g, None, None
        # v = mu v - eta g;  theta = theta + v, or with Nesterov: theta + mu v - eta g
        v = mu * self.velocity + g
        return (mu * v + g if rule.nesterov else v), v, None

    @quiet
    def loss_gradient(self, gradient=None):
        """sum_i w_i l_i over the rows; its gradient is written to `gradient`, if given.

        Both are plain sums without penalty: results for parts of the data can be added.
        """
        if self.Y is None or self.order is not None:
            raise ValueError("The rows have no targets, or an order.")
        if gradient is not None:
            checked("gradient", gradient, self.theta.shape, self.theta.dtype.char, True)
            gradient[:] = 0
        return self.backprop(0, self.n, gradient)

    @quiet
    def epoch(self, rule, n_steps):
        """One step of gradient descent per batch of `batch_size` rows.

            g = 1 / m sum_{i in batch} w_i dl_i/dtheta + alpha W
            theta = theta - eta g        or the rule of momentum, Nesterov or Adam

        The last batch may be smaller; m is the number of its own rows. `n_steps` is the
        number of earlier steps, which Adam needs. The weights are expected to average 1
        over the data.

        Afterwards `loss_sum` is sum_i w_i l_i, each loss computed just before its row's
        step, and `n_done` the number of rows processed. The first batch with a
        non-finite loss ends the call, without its step. After a KeyboardInterrupt theta
        holds the last complete step.
        """
        check_step(rule, n_steps, self.theta, self.second_moment)
        self.reset()
        g = np.empty_like(self.theta)
        for start in range(0, self.n, self.batch_size):
            stop = min(start + self.batch_size, self.n)
            loss = self.backprop(start, stop, g, 1 / (stop - start))
            step = None
            if isfinite(loss):
                step = self.compute_step(rule, n_steps, g)
            if step is None:
                self.loss_sum += nan if isfinite(loss) else loss
                break
            self.apply_step(step, loss, stop - start)
            n_steps += 1

    @quiet
    def step(self, rule, n_steps, gradient):
        """One step along 1 / n sum_i w_i dl_i/dtheta without penalty; overwrites it."""
        check_step(rule, n_steps, self.theta, self.second_moment)
        step = self.compute_step(rule, n_steps, gradient)
        if step is not None:
            self.apply_step(step)

    def apply_step(self, step, loss=0.0, n_rows=0):
        """Change the parameters, and add to the results of an epoch.

        A step is complete or not made: Python handles Ctrl-C at calls and jumps, and
        there is none between the first change and the last.
        """
        theta_step, v, u = step
        self.theta += theta_step
        if v is not None:
            self.velocity[:] = v
        if u is not None:
            self.second_moment[:] = u
        self.loss_sum += loss
        self.n_done += n_rows

    @quiet
    def outputs(self, Z, check_finite=False):
        """Compute Z_L for every row, into Z (n, K).

        Returns False if `check_finite` found a NaN or an infinity in X; Z is then
        incomplete.
        """
        layers = self.layout.layers(self.theta)
        for start in range(0, self.n, self.tile):
            X, out = (array[start : start + self.tile] for array in (self.X, Z))
            if check_finite and not np.isfinite(X).all():
                return False
            out[...] = forward(layers, self.standardized(X), self.layout.hidden)[-1]
        return True


@quiet
def squared_row_norms(X, norms):
    """||x_i||^2 of each row of X, as stored, into norms (n,)."""
    if issparse(X):
        numbers = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        squares = X.data[: len(numbers)].astype(float) ** 2
        norms[:] = np.bincount(numbers, squares, minlength=X.shape[0])
    else:
        np.einsum("ij,ij->i", X, X, dtype=float, out=norms)


@quiet
def column_moments(X, weights, start, stop, moments):
    """Moments of each column of the rows start ... stop - 1 with a positive weight.

    The rows of `moments`, (6, d), become

        low, high, 1 / (high - low) or 0, mean and variance of u, between

    with u = (x - low) / (high - low) in float64; `between` is 1 if low < x < high for
    any x in the column, else 0. Returns sum_i w_i.
    """
    X, w = X[start:stop], np.ones(stop - start)
    if weights is not None:
        w = weights[start:stop].astype(float)
        X, w = X[w > 0], w[w > 0]
    total = w.sum()
    low, high, inverse, mean, variance, between = moments
    X.min(axis=0, initial=np.inf, out=low)
    X.max(axis=0, initial=-np.inf, out=high)
    between[:] = ((low < X) & (X < high)).any(axis=0)
    np.divide(1, high - low, out=inverse)
    inverse[~np.isfinite(inverse)] = 0
    U = (X - low) * inverse
    np.einsum("i,ij->j", w / total, U, out=mean)
    U -= mean
    np.einsum("i,ij,ij->j", w / total, U, U, out=variance)
    return total


@quiet
def squared_weight_norms(layout, theta):
    """sum_l ||W_l||^2, and the same plus sum_l ||b_l||^2."""
    layers = layout.layers(theta)
    weights = sum(sum_of_squares(W.ravel()) for W, _ in layers)
    return weights, weights + sum(sum_of_squares(b) for _, b in layers)


def shuffle(order, state):
    """Fill `order` with a random permutation; returns the state for the next call.

    The inside-out variant of the Fisher-Yates shuffle on the generator SplitMix64
    (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA
    2014), whose whole state is one 64-bit integer.
    """
    n = len(order)
    numbers = np.arange(1, n + 1)
    bits = np.uint64(state) + np.uint64(SPLITMIX_INCREMENT) * numbers.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    # j uniform in 0 ... i, from the 53 bits that a double holds
    positions = ((bits >> np.uint64(11)) * (numbers * 2.0**-53)).astype(np.intp)
    permutation = [0] * n
    for i, j in enumerate(positions.tolist()):
        permutation[i] = permutation[j]
        permutation[j] = i
    order[:] = permutation
    return (state + n * SPLITMIX_INCREMENT) % (1 << 64)
