"""What a fit warns of when it is over."""

# A rise of the loss that deserves a warning: relative, plus absolute in nats.
RISE = 0.01, 1e-3


def final_warning(clf, minimizer, plan, n_before, loss, sample):
    """The warning that a fit deserves, or None.

    It began after `n_before` epochs, and ends with an objective of `loss` for a
    `sample` of the rows. Its figures are those of parameters as the user can set them:
    the step size before the schedule, not that of the last epoch.
    """
    # L-BFGS looks at the gradient in each call: at the minimum there is no epoch to
    # make, which is no fault.
    at_minimum = clf.solver == "lbfgs" and clf.stop_reason_ == "converged"
    if clf.n_iter_ == n_before and not at_minimum:
        if clf.stop_reason_ == "max_iter":
            return (
                f"No epoch was made: max_iter={plan.max_iter} counts all epochs, "
                f"and there were {n_before} before. Increase max_iter."
            )
        return (
            f"No epoch was made: training stopped in an earlier call (tol="
            f"{plan.tol:g}, n_iter_no_change={plan.n_iter_no_change}), and neither "
            "the rows nor the parameters have changed. Change tol or "
            "n_iter_no_change to resume."
        )
    # Not that of epochs, in which small batches learn: the first may be far below.
    first = clf._state.stopping.initial_loss
    share, nats = RISE
    if minimizer.last_eta is not None and loss > first * (1 + share) + nats:
        return (
            f"The loss rose from {first:.3g} to {loss:.3g}. Try a smaller "
            f"learning_rate (it was {clf.learning_rate_init_:g})."
            f"{sample.scaling_advice()}"
        )
    if plan.tol is None or clf.stop_reason_ not in ("max_iter", "converged"):
        return None
    message = minimizer.unfinished(clf.stop_reason_, plan)
    if clf.stop_reason_ == "converged" and not message:
        return None
    return (message + sample.scaling_advice()).strip() or None
