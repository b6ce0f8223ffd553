"""The objective that training minimizes."""

from typing import NamedTuple

from ._core import backprop
from ._network import Network


class Objective(NamedTuple):
    """The mean loss and the L2 penalty, with row weights w_i of mean 1:

    J(theta) = 1 / n sum_i w_i l_i + alpha / 2 sum_l ||W_l||^2

    The rows give the mean loss and its gradient. The steps of the core have their own
    penalty, `UpdateRule.alpha`.
    """

    network: Network
    alpha: float

    def penalty_and_norm(self, theta):
        """alpha / 2 sum_l ||W_l||^2, and sum_l ||W_l||^2 + ||b_l||^2."""
        weights, norm = backprop.squared_weight_norms(self.network.layout, theta)
        return self.alpha / 2 * weights, norm

    def value(self, mean_loss, theta):
        """J(theta), given the mean loss."""
        return mean_loss + self.penalty_and_norm(theta)[0]

    def add_penalty_gradient(self, theta, gradient):
        """dJ/dW_l = dloss/dW_l + alpha W_l, in place; b_l has no penalty."""
        for W, _, _ in self.network.layers:
            gradient[W] += self.alpha * theta[W]
