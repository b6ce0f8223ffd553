"""The warnings of a fit."""

import numpy as np
from scipy.sparse import issparse
from scipy.special import entr

# A rise of the loss that deserves a warning: relative, plus absolute in nats.
LOSS_RISE = 0.01, 1e-3

# How much lower the loss has to be than that of predicting the class shares.
MIN_GAIN = 0.005


# Validation rows are unlike the training rows if half of their values of a feature lie
# farther outside the range of the training rows than three times its width. On 16 data
# sets random splits and splits sorted by the class gave no warning, those sorted by a
# feature one in 160 on digits and none elsewhere. Fewer rows tell nothing.
FAR_OUTSIDE = 3
MIN_ROWS = 20, 5

# Rows that stand for all.
SAMPLE_ROWS = 1000, 100


def dissimilar_rows_warning(X, X_val, names=None):
    """The warning that validation rows of another scale or offset deserve, or None."""
    if issparse(X) or issparse(X_val):
        return None
    if X.shape[0] < MIN_ROWS[0] or X_val.shape[0] < MIN_ROWS[1]:
        return None
    X, X_val = (
        rows[:: 1 + rows.shape[0] // n_some]
        for rows, n_some in zip((X, X_val), SAMPLE_ROWS, strict=True)
    )
    with np.errstate(all="ignore"):
        low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
        width = high - low
        distance = np.median(abs(X_val - (low / 2 + high / 2)), axis=0)
        far = (width > 0) & (distance > (0.5 + FAR_OUTSIDE) * width)
        if not far.any():
            return None
        worst = np.where(far, distance / width, 0).argmax()
    name = repr(int(worst) if names is None else names[worst])
    return (
        f"The validation rows are unlike the training rows: in X feature {name} lies "
        f"between {low[worst]:.3g} and {high[worst]:.3g}, and half of X_val is farther "
        f"than {distance[worst]:.3g} from the middle of that range. X_val must be "
        "transformed as X is: in a Pipeline by transform_input=['X_val'] and metadata "
        "routing, as in the examples of BGDClassifier.fit."
    )


def class_prior_loss(sample, network):
    """The mean loss if the outputs were the shares of the classes, or of the labels.

    With p_k the weighted share of class k, it is the entropy -sum_k p_k log p_k for a
    softmax, and sum_k -p_k log p_k - (1 - p_k) log(1 - p_k) for sigmoid units.
    """
    Y, n_outputs = sample.Y, network.units[-1]
    if Y.shape[1] < n_outputs:  # codes
        Y = Y == np.arange(n_outputs)
    weight = np.ones(len(Y)) if sample.weights is None else sample.weights.astype(float)
    p = weight @ Y / max(weight.sum(), np.finfo(float).tiny)
    loss = entr(p).sum()
    if network.output_activation == "logistic":
        loss += entr(1 - p).sum()
    return weight.mean() * loss


def convergence_warning(clf, minimizer, settings, n_before, loss, sample):
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
                f"No epoch was made: max_iter={settings.max_iter} counts all epochs, "
                f"and there were {n_before} before. Increase max_iter."
            )
        return (
            f"No epoch was made: training stopped in an earlier call (tol="
            f"{settings.tol:g}, n_iter_no_change={settings.n_iter_no_change}), and "
            "neither the rows nor the parameters have changed. Change tol or "
            "n_iter_no_change to resume."
        )
    # Not that of epochs, in which small batches learn: the first may be far below.
    first = clf._state.stopping.initial_loss
    share, nats = LOSS_RISE
    if minimizer.last_eta is not None and loss > first * (1 + share) + nats:
        return (
            f"The loss rose from {first:.3g} to {loss:.3g}. Try a smaller "
            f"learning_rate (it was {clf.learning_rate_init_:g})."
            f"{sample.scaling_advice(minimizer.network)}"
        )
    if settings.tol is None or clf.stop_reason_ not in ("max_iter", "converged"):
        return None
    chance = class_prior_loss(sample, minimizer.network)
    fitted = sample.mean_loss(minimizer.network, minimizer.state.theta)
    if chance > 0 and fitted > chance * (1 - MIN_GAIN):
        return (
            f"The loss, {fitted:.3g}, is hardly lower than that of a model which "
            f"predicts the share of each class for all rows, {chance:.3g}. Either the "
            "features say nothing about the classes, or the network has not learned: "
            f"try more epochs (max_iter was {settings.max_iter}), a smaller alpha (it "
            f"was {settings.alpha:g}) or hidden layers."
            f"{sample.scaling_advice(minimizer.network)}"
        )
    message = minimizer.unconverged_message(clf.stop_reason_, settings)
    if clf.stop_reason_ == "converged" and not message:
        return None
    return (message + sample.scaling_advice(minimizer.network)).strip() or None
