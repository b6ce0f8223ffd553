"""Networks bound to rows in local memory: epochs, losses, gradients and outputs."""

import numpy as np
from scipy.sparse import issparse

from ._core import backprop
from ._core.arguments import quiet
from ._core.threads import n_threads_for

# The number of threads is chosen for the work of at most this many epochs, as a fit may
# stop early.
MAX_EPOCHS_OF_WORK = 8


def bind(
    network, theta, X, Y=None, weights=None, *, n_jobs=1, batch_size=None, n_epochs=1,
    **vectors,
):  # fmt: skip
    """The core's trainer, with the threads for this many passes in batches."""
    n, work = X.shape[0], network.n_parameters
    m = batch_size or n
    standardizer = network.standardizer(theta.dtype)
    if standardizer is None and issparse(X):
        work += (X.nnz // n - network.units[0]) * network.units[1]
    return backprop.Trainer(
        network.layout,
        theta,
        X,
        Y,
        weights,
        standardizer=standardizer,
        batch_size=batch_size,
        n_threads=n_threads_for(n_jobs, m, m * work, n_epochs * n * work),
        **vectors,
    )


def sum_of_losses(network, theta, X, Y, weights, gradient=None, n_jobs=1):
    """sum_i w_i l_i over rows; its gradient is written into `gradient`, if given."""
    with bind(network, theta, X, Y, weights, n_jobs=n_jobs) as core:
        return core.loss_gradient(gradient)


def pre_activations(X, network, theta, n_jobs, check_finite=False):
    """Z_L, the pre-activations of the output layer, (n, K).

    None if `check_finite` is True and dense X has a NaN or an infinity.
    """
    Z = np.empty((X.shape[0], network.units[-1]), dtype=theta.dtype)
    with bind(network, theta, X, n_jobs=n_jobs) as core:
        return Z if core.outputs(Z, check_finite) else None


class LocalTrainer:
    """A network bound to a `Dataset`; `DaskTrainer` has the same methods.

    A context manager, which starts and stops the threads.

    Parameters
    ----------
    data : Dataset
    network : Network
    theta : ndarray
        The parameters, which `epoch` changes in place.
    velocity, second_moment : ndarray or None
        Those of the update rule.
    batch_size : int or None
        The number of rows of a step; None: all.
    shuffle : bool
        Whether each epoch has the rows in a new order.
    n_epochs : int or None
        The largest number of epochs, if it is known.

    Attributes
    ----------
    loss_sum, n_done
        The sum of the losses and the number of rows used since `reset`.
    """

    def __init__(
        self, data, network, theta, *, velocity=None, second_moment=None,
        batch_size=None, shuffle=False, n_epochs=None,
    ):  # fmt: skip
        self.n_samples = n = data.n_samples
        self.theta, self.order = theta, None
        if shuffle and batch_size < n:  # the full batch does not depend on the order
            self.order = np.arange(n, dtype=np.intp)
        self.core = bind(
            network,
            theta,
            data.X,
            data.Y,
            data.weights,
            n_jobs=data.n_jobs,
            batch_size=batch_size,
            n_epochs=min(n_epochs or MAX_EPOCHS_OF_WORK, MAX_EPOCHS_OF_WORK),
            order=self.order,
            velocity=velocity,
            second_moment=second_moment,
        )

    def __enter__(self):
        self.core.__enter__()
        return self

    def __exit__(self, *error):
        self.core.__exit__(*error)

    @property
    def loss_sum(self):
        return self.core.loss_sum

    @property
    def n_done(self):
        return self.core.n_done

    def reset(self):
        self.core.reset()

    def epoch(self, state, update_rule):
        """Make one step per batch, with the rows in a new order if they are shuffled.

        `loss_sum` and `n_done` are also set after an exception. Fewer rows than
        `n_samples` are used if a loss is not finite.
        """
        if self.order is not None:
            state.shuffle_state = backprop.shuffle(self.order, state.shuffle_state)
        self.core.epoch(update_rule, state.n_steps)

    @quiet
    def loss_gradient(self):
        """1 / n sum_i w_i l_i and its gradient, without the penalty."""
        gradient = np.empty_like(self.theta)
        total = self.core.loss_gradient(gradient)
        gradient /= self.n_samples
        return total / self.n_samples, gradient
