"""What a fit warns of when it is over."""

import numpy as np
from scipy.sparse import issparse

# Root mean square of a feature above which it should have been scaled.
BADLY_SCALED_RMS = 10.0

# A rise of the loss that deserves a warning: relative, plus absolute in nats.
RISE = 0.01, 1e-3


def final_warning(clf, minimizer, plan, n_before, loss, some_rows):
    """The warning that a fit deserves, or None.

    It began after `n_before` epochs, and ends with an objective of `loss` for some
    rows.
    """
    if clf.n_iter_ == n_before:
        if clf.stop_reason_ == "max_iter":
            return (
                f"No epoch was made: max_iter={plan.max_iter} counts all epochs, "
                f"and there were {n_before} before. Increase max_iter."
            )
        return (
            f"No epoch was made: training stopped in an earlier call (tol="
            f"{clf.tol}, n_iter_no_change={plan.n_iter_no_change}), and neither "
            "the rows nor the parameters have changed. Change tol or "
            "n_iter_no_change to go on."
        )
    # Not that of epochs, in which small batches learn: the first may be far below.
    first = clf._state.stopping.initial_loss
    share, nats = RISE
    if minimizer.last_eta is not None and loss > first * (1 + share) + nats:
        return (
            f"The loss rose from {first:.3g} to {loss:.3g}. Try a smaller "
            f"learning_rate (it was {clf.learning_rate_:g}), and scale the "
            "features (StandardScaler)."
        )
    if clf.tol is None or clf.stop_reason_ not in ("max_iter", "converged"):
        return None
    message = minimizer.unfinished(clf.stop_reason_, plan, clf.tol)
    if clf.stop_reason_ == "converged" and not message:
        return None
    if clf.scale_ is not None:
        return message or None
    some = some_rows.astype(float)
    is_sparse = issparse(some)
    with np.errstate(over="ignore"):  # inf tells enough
        squares = some.multiply(some) if is_sparse else some * some
        scales = np.sqrt(squares.mean(axis=0))
    if scales.max() > BADLY_SCALED_RMS:
        scaler = "MaxAbsScaler" if is_sparse else "StandardScaler"
        message += (
            " The features are badly scaled (root mean squares from "
            f"{scales.min():.2g} to {scales.max():.2g}); put a {scaler} in front."
        )
    return message.strip() or None
