"""Networks bound to rows on Dask's workers: epochs, losses and gradients."""

from math import isfinite
from statistics import median
from time import perf_counter

import numpy as np

from .._core import backprop
from .._core.arguments import SPLITMIX_INCREMENT, quiet
from ._tasks import random_orders, sum_gradients

# Number of passes whose times are measured.
TIMED_PASSES = 5


class DaskTrainer:
    """A network bound to `DaskRows`. Each step is one pass, and an update here.

    Parameters and attributes are those of `LocalTrainer`. The workers allocate memory
    in each pass.
    """

    def __init__(
        self, rows, network, theta, *, velocity=None, second_moment=None,
        batch_size=None, shuffle=False, n_epochs=None,
    ):  # fmt: skip
        self.rows, self.network, self.theta = rows, network, theta
        self.n_samples = n = rows.n_samples
        self.n_batches = -(-n // (batch_size or n))
        self.shuffle = shuffle and self.n_batches > 1
        self.max_passes = None if n_epochs is None else self.n_batches * n_epochs
        self.pass_seconds: list[float] = []
        # For its steps: the rows are elsewhere.
        self.core = backprop.Trainer(
            network.layout,
            theta,
            np.empty((0, network.units[0]), theta.dtype),
            velocity=velocity,
            second_moment=second_moment,
        )
        self.orders: list = []
        self.reset()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.orders = []  # futures

    def reset(self):
        self.loss_sum, self.n_done = 0.0, 0

    @quiet
    def loss_gradient(self):
        """1 / n sum_i w_i l_i and its gradient, without penalty, in one pass."""
        loss, gradient = self.timed_sum_over_shards(
            sum_gradients, self.theta, self.network
        )
        return loss / self.n_samples, gradient / self.n_samples

    @quiet
    def epoch(self, state, update_rule):
        """Same as `LocalTrainer.epoch`.

        After `RowsLost` the state is that of the last complete epoch.
        """
        before = state.copy(curves=False)
        try:
            self._epoch(state, update_rule)
        except RowsLost:
            vars(state).update(vars(before))
            raise

    def _epoch(self, state, update_rule):
        orders = None
        if self.shuffle:
            orders = self.draw_orders(state.shuffle_state)
            state.shuffle_state += self.n_samples * SPLITMIX_INCREMENT
            state.shuffle_state %= 1 << 64
        for k in range(self.n_batches):
            bounds, m = None, self.n_samples
            if self.n_batches > 1:
                bounds = self.batch_bounds(k, self.n_batches)
                m = sum(int(np.diff(pairs).sum()) for pairs in bounds)
                if m == 0:  # small batches of unequal blocks
                    continue
            loss, gradient = self.timed_sum_over_shards(
                sum_gradients, self.theta, self.network, orders, bounds
            )
            self.loss_sum += loss
            if not isfinite(loss):
                break
            # The mean is aligned, as it is new.
            self.core.step(update_rule, state.n_steps + k, gradient / m)
            self.n_done += m

    def draw_orders(self, shuffle_state):
        """For each shard, a future of random orders of the rows of its blocks.

        All blocks together use the random numbers that one machine would use.
        """
        starts = np.cumsum([0, *self.rows.lengths]).tolist()
        self.orders = [
            self.rows.client.submit(
                random_orders,
                [self.rows.lengths[i] for i in shard.blocks],
                [
                    (shuffle_state + starts[i] * SPLITMIX_INCREMENT) % (1 << 64)
                    for i in shard.blocks
                ],
                pure=False,
                **pinned_to(shard.worker),
            )
            for shard in self.rows.shards
        ]
        return self.orders

    def batch_bounds(self, k, n_batches):
        """For each shard, the bounds of batch k in each of its blocks.

        In a block of n rows, batch k begins at row n k / n_batches plus an offset below
        1, rounded down. The offsets differ between blocks, or many blocks would have
        their larger parts in the same batch.
        """
        n_blocks = len(self.rows.lengths)

        def bound(block, k):
            n = self.rows.lengths[block]
            if k in (0, n_batches):
                return n * (k > 0)
            twice = 2 * n_blocks  # n k / n_batches + (2 block + 1) / (2 n_blocks)
            return min(
                (n * k * twice + (2 * block + 1) * n_batches) // (n_batches * twice), n
            )

        return [
            np.array([[bound(i, k), bound(i, k + 1)] for i in shard.blocks])
            for shard in self.rows.shards
        ]

    def timed_sum_over_shards(self, *args):
        """Same as `sum_over_shards`; prints the median time of the first passes."""
        start = perf_counter()
        result = self.rows.sum_over_shards(*args)
        if len(self.pass_seconds) == TIMED_PASSES:
            return result
        self.pass_seconds.append(perf_counter() - start)
        if self.rows.verbose and len(self.pass_seconds) == TIMED_PASSES:
            seconds = median(self.pass_seconds)
            line = f"a pass over the workers takes {seconds:.2g} s"
            if self.max_passes is not None:
                line += (
                    f"; {self.n_batches} per epoch and at most {self.max_passes} in "
                    f"total, {self.max_passes * seconds:.2g} s"
                )
            print(line, flush=True)
        return result


class RowsLost(RuntimeError):
    """A pass over the workers failed: blocks are lost, or it kills the workers."""


def pinned_to(worker):
    """Keyword arguments that let tasks run on this worker, if it is alive."""
    if worker is None:
        return {}
    return {"workers": [worker], "allow_other_workers": True}
