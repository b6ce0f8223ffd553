"""Gradient descent over epochs: batches, shuffling, the objective, when to stop."""

from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.utils.extmath import row_norms

from . import _backprop

AUTO_BATCH_SIZE = 256

# Bytes of gathered rows that a pass over the weights works on: they stay in the cache.
TILE_BYTES = 1 << 20


def rows_per_batch(batch_size, n_samples):
    """The number of rows of a batch, from the parameter `batch_size`."""
    if batch_size == "full":
        return n_samples
    if batch_size == "auto":
        return min(AUTO_BATCH_SIZE, n_samples)
    return min(int(batch_size), n_samples)


def default_step_size(network, X, weights, batch_size, momentum):
    """The step size that ``learning_rate="auto"`` stands for.

    It starts from sqrt(min(m, 256)) / 16 for batches of m rows, as the noise of a mean
    over m rows falls with sqrt(m), and from 1 for "auto" and "full", however few rows
    there are (examples/study_defaults.py shows what this is worth).

    With hidden layers it is divided by the features' root mean square, if that is
    larger than 1. With one neuron it is at most 1 / L: L = (1 + mean_i ||x_i||^2) / 4
    bounds the curvature of the cross-entropy, so that the whole batch is sure to
    descend. Momentum mu multiplies a long run of steps by 1 / (1 - mu), which is taken
    back.
    """
    squared_norm = np.average(row_norms(X, squared=True).astype(float), weights=weights)
    if not np.isfinite(squared_norm):
        raise ValueError(
            "The features are too large for learning_rate='auto': the mean of their "
            "squares is not finite. Scale them (StandardScaler)."
        )
    step_size = np.sqrt(rows_per_batch(batch_size, AUTO_BATCH_SIZE) / AUTO_BATCH_SIZE)
    if len(network.units) == 2:
        step_size = min(step_size, 4 / (1 + squared_norm))
    else:
        step_size /= max(1.0, np.sqrt(squared_norm / X.shape[1]))
    return float(step_size * (1 - momentum))


@dataclass
class State:
    """All that changes as the descent goes on, and what a later call continues from.

    ``theta`` and ``velocity`` are changed in place by `Descent`; `copy` first.
    """

    theta: np.ndarray
    shuffle_state: int
    auto_step_size: float | None = None  # from the first rows that have a weight
    velocity: np.ndarray | None = None  # None: no momentum
    n_iter: int = 0
    t: int = 0
    loss_curve: list = field(default_factory=list)

    def copy(self):
        velocity = None if self.velocity is None else self.velocity.copy()
        return replace(
            self,
            theta=self.theta.copy(),
            velocity=velocity,
            loss_curve=self.loss_curve.copy(),
        )


class Descent:
    """Gradient descent on one data set, its buffers allocated once.

    The objective, with weights w_i that average 1 and the loss l_i of row i, is

        J(theta) = 1 / n sum_i w_i l_i + alpha / 2 sum_l ||W_l||^2

    Parameters
    ----------
    network : Network
    state : State
        Changed in place.
    X : ndarray of shape (n, d), C-contiguous, float32 or float64
    Y : ndarray of shape (n, 1) or (n, K), int32
        Class codes, or 0/1 indicators.
    weights : ndarray of shape (n,) or None
        Not negative, 1 on average; None means all 1.
    """

    def __init__(
        self,
        network,
        state,
        X,
        Y,
        weights=None,
        *,
        batch_size,
        learning_rate,
        alpha=0.0,
        momentum=0.0,
        nesterov=False,
        shuffle=True,
    ):
        n_samples, n_features = X.shape
        self.network = network
        self.state = state
        self.data = X, Y, weights
        self.batch_size = rows_per_batch(batch_size, n_samples)
        if learning_rate == "auto":
            if state.auto_step_size is None:
                state.auto_step_size = default_step_size(
                    network, X, weights, batch_size, momentum
                )
            learning_rate = state.auto_step_size
        self.learning_rate = float(learning_rate)
        self.alpha = float(alpha)
        self.momentum = float(momentum)
        self.nesterov = nesterov
        # The order of the rows does not matter to a batch that holds them all.
        shuffle = shuffle and self.batch_size < n_samples
        self.order = np.empty(n_samples, dtype=np.intp) if shuffle else None
        rows_in_cache = max(64, TILE_BYTES // (X.itemsize * n_features))
        self.tile = min(self.batch_size, rows_in_cache, 1024)
        if momentum == 0:
            state.velocity = None
        elif state.velocity is None:
            state.velocity = np.zeros_like(state.theta)
        self.gradient = np.empty_like(state.theta)
        self.work = np.empty(
            _backprop.work_size(network.units, self.tile), dtype=X.dtype
        )

    def epoch(self):
        """Pass over all rows once; returns and records the objective.

        The loss of each row is taken just before the step that it is part of, the
        penalty at the start of the epoch: with the whole batch this is J(theta) before
        the step.
        """
        state = self.state
        n_samples = self.data[0].shape[0]
        if self.order is not None:
            state.shuffle_state = _backprop.shuffle(self.order, state.shuffle_state)
        penalty = 0.0
        if self.alpha > 0:
            penalty = self.alpha / 2 * self.network.squared_norm(state.theta)
        total, n_done = _backprop.run_batches(
            self.network,
            state.theta,
            state.velocity,
            *self.data,
            self.order,
            self.batch_size,
            self.learning_rate,
            self.alpha,
            self.momentum,
            self.nesterov,
            self.gradient,
            self.work,
            self.tile,
        )
        if n_done < n_samples or not np.isfinite(state.theta).all():
            raise ValueError(
                f"The loss is no longer finite in epoch {state.n_iter + 1} with "
                f"learning_rate={self.learning_rate:g}: the descent has diverged. Try "
                "a smaller learning_rate, and scale the features (StandardScaler)."
            )
        loss = total / n_samples + penalty
        state.n_iter += 1
        state.t += n_samples
        state.loss_curve.append(loss)
        return loss


def minimize(descent, *, max_iter, tol, n_iter_no_change, verbose=0):
    """Run epochs until the loss stands still.

    It stands still when `n_iter_no_change` epochs in a row did not bring it `tol` below
    the mark. The mark moves only when it is beaten by `tol`, so that many small gains
    count as much as one large one. With ``tol=None`` all `max_iter` epochs are run.

    Returns
    -------
    converged : bool
        Whether the loss stood still within `max_iter` epochs.
    """
    mark, n_flat = np.inf, 0
    # About 20 lines for the longest run, or a line for each epoch.
    interval = 1 if verbose > 1 else -(-max_iter // 20)
    for epoch in range(1, max_iter + 1):
        loss = descent.epoch()
        if tol is not None and not loss < mark - tol:
            n_flat += 1
        else:
            mark, n_flat = loss, 0
        converged = tol is not None and n_flat >= n_iter_no_change
        if verbose and (converged or epoch == max_iter or epoch % interval == 0):
            number = f"{epoch:>{len(str(max_iter))}}"
            print(f"epoch {number} of {max_iter}   loss {loss:.6g}")
        if converged:
            return True
    return False
