"""L-BFGS on the full batch, by SciPy."""

from math import isfinite
from time import perf_counter

import numpy as np
from scipy import optimize

from ._core.arguments import quiet
from ._descent import Minimizer

# The iterations are limited by `minimize`, not by SciPy.
NO_LIMIT = 10**9


class QuasiNewton(Minimizer):
    """L-BFGS (Liu & Nocedal 1989); each iteration counts as an epoch.

    An iteration evaluates J and its gradient once or several times. SciPy's state is in
    float64 for rows of either dtype. It is not kept: a warm start resumes from the
    parameters only.

    Parameters
    ----------
    network, state, data, alpha
        As for `Minimizer`.
    tol : float or None
        Training converges when no entry of the gradient is larger in absolute value.
        None means 0.
    """

    def __init__(self, network, state, data, alpha, tol):
        super().__init__(network, state, data, alpha)
        self.tol = tol or 0.0
        state.velocity = state.second_moment = None  # kept by other solvers
        self.theta = state.theta.copy()  # of the last evaluation
        self.trainer = data.trainer(network, self.theta)

    def run(self, before_epoch, after_epoch):
        state = self.state
        self.n_evaluations, self.start = 0, perf_counter()

        def end_iteration(x):
            before_epoch()  # only now, as SciPy reports an iteration when it ends
            if not np.array_equal(x, self.x):
                self.evaluate(x)
            state.theta[:] = self.theta
            n_done = self.n_evaluations * self.data.n_samples
            self.record_epoch(
                self.J, self.n_evaluations, n_done, perf_counter() - self.start
            )
            reason = after_epoch()
            if reason != "callback" and abs(self.gradient).max() <= self.tol:
                reason = "converged"
            if reason is not None:
                raise _Stop(reason)
            self.n_evaluations, self.start = 0, perf_counter()

        try:
            result = optimize.minimize(
                self.evaluate,
                state.theta.astype(float),
                jac=True,
                method="L-BFGS-B",
                callback=end_iteration,
                options={
                    "gtol": self.tol,
                    "ftol": 64 * np.finfo(float).eps,
                    "maxls": 50,
                    "maxiter": NO_LIMIT,
                    "maxfun": NO_LIMIT,
                },
            )
            if state.n_iter == 0:
                end_iteration(result.x)  # SciPy stopped before the first iteration
        except _Stop as stop:
            return stop.reason
        return "converged"

    @quiet
    def evaluate(self, x):
        """Compute J and its gradient at x, and store them for `end_iteration`."""
        self.theta[:] = x
        loss, gradient = self.trainer.loss_gradient()
        J = self.objective.value(loss, self.theta)
        gradient = gradient.astype(float, copy=False)
        self.objective.add_penalty_gradient(self.theta, gradient)
        self.n_evaluations += 1
        if not (isfinite(J) and np.isfinite(gradient).all()):
            raise ValueError(self.divergence_message("The loss or its gradient"))
        self.x, self.J, self.gradient = x.copy(), J, gradient
        return J, gradient

    def divergence_message(self, quantity):
        return (
            f"{quantity} is no longer finite in epoch {self.state.n_iter + 1} of "
            f"L-BFGS with alpha={self.objective.alpha:g}. Try another alpha, or "
            "solver='sgd'."
            f"{self.data.sample().scaling_advice(self.network)}"
        )

    def unconverged_message(self, stop_reason, settings):
        largest = abs(self.gradient).max()
        if largest <= settings.tol:
            return ""
        if stop_reason == "max_iter":
            return (
                f"max_iter={settings.max_iter} iterations were reached before the "
                f"gradient converged: its largest entry is {largest:.2g}, and "
                f"tol={settings.tol:g}. Increase max_iter, or pass tol=None to train "
                "for max_iter iterations."
            )
        return (
            f"No lower loss was found, to rounding in {self.state.theta.dtype}, before "
            f"the gradient converged: its largest entry is {largest:.2g}, and "
            f"tol={settings.tol:g}. Try a larger tol."
        )


class _Stop(Exception):
    """Ends SciPy's loop."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason
