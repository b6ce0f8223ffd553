"""The warnings of `fit`."""

import numpy as np
from scipy.sparse import issparse
from scipy.special import entr

# Increases of the loss up to this limit are ignored: a relative and an absolute part.
MAX_INCREASE = 0.01, 1e-3

# The loss must be lower than that of the class priors by at least this fraction.
MIN_GAIN = 0.005

# A step size is too small if it is this many times smaller than that of "auto", and the
# loss is more than this fraction of that of the class priors. Smaller factors would
# warn in many searches.
SMALL_STEP_SIZE, HIGH_LOSS = 500, 0.5

# A feature differs between training and validation rows if half of its validation
# values are farther outside the training range than MAX_DISTANCE times the width of
# this range. On 16 data sets, random splits and splits sorted by class gave no warning.
# Splits sorted by a feature gave one in 160 on digits and none elsewhere. Fewer than
# MIN_ROWS training or validation rows are not compared.
MAX_DISTANCE = 3
MIN_ROWS = 20, 5

# Numbers of training and validation rows that are sampled.
SAMPLE_ROWS = 1000, 100


def dissimilar_rows_warning(X, X_val, names=None):
    """A warning if the scale or offset of the validation rows differs, or None."""
    if issparse(X) or issparse(X_val):
        return None
    if X.shape[0] < MIN_ROWS[0] or X_val.shape[0] < MIN_ROWS[1]:
        return None
    X, X_val = (
        rows[:: 1 + rows.shape[0] // n_sampled]
        for rows, n_sampled in zip((X, X_val), SAMPLE_ROWS, strict=True)
    )
    with np.errstate(all="ignore"):
        low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
        width = high - low
        distance = np.median(abs(X_val - (low / 2 + high / 2)), axis=0)
        far = (width > 0) & (distance > (0.5 + MAX_DISTANCE) * width)
        if not far.any():
            return None
        worst = np.where(far, distance / width, 0).argmax()
    name = repr(int(worst) if names is None else names[worst])
    return (
        "The validation samples differ from the training samples: feature "
        f"{name} of X is between {low[worst]:.3g} and {high[worst]:.3g}, but half of "
        f"its values in X_val are farther than {distance[worst]:.3g} from the middle "
        "of this range. X_val must be transformed in the same way as X. In a Pipeline "
        "use transform_input=['X_val'] and metadata routing, as in the examples of "
        "BGDClassifier.fit."
    )


def class_prior_loss(sample, network):
    """The mean loss of a model that predicts the class priors for all rows.

    With p_k the weighted frequency of class or label k, it is

        -sum_k p_k log p_k                                  for a softmax
        -sum_k [p_k log p_k + (1 - p_k) log(1 - p_k)]       for sigmoid units
    """
    Y, n_outputs = sample.Y, network.units[-1]
    if Y.shape[1] < n_outputs:  # encoded labels
        Y = Y == np.arange(n_outputs)
    weight = np.ones(len(Y)) if sample.weights is None else sample.weights.astype(float)
    p = weight @ Y / max(weight.sum(), np.finfo(float).tiny)
    loss = entr(p).sum()
    if network.output_activation == "logistic":
        loss += entr(1 - p).sum()
    return weight.mean() * loss


def convergence_warning(clf, minimizer, settings, n_before, model_loss, sample):
    """The message of a ConvergenceWarning, or None.

    `n_before` epochs were made in earlier calls, and `model_loss` is the mean loss of a
    `sample` of the rows after this call. The message reports the initial step size,
    which the user can set, not that of the last epoch.
    """
    # L-BFGS evaluates the gradient in each call. At the minimum it rightly makes no
    # epoch.
    at_minimum = clf.solver == "lbfgs" and clf.stop_reason_ == "converged"
    if clf.n_iter_ == n_before and not at_minimum:
        if clf.stop_reason_ == "max_iter":
            return (
                f"No epoch was made: max_iter={settings.max_iter} includes the epochs "
                f"of earlier calls ({n_before}). Pass a larger number."
            )
        return (
            f"No epoch was made: training stopped in an earlier call (tol="
            f"{settings.tol:g}, n_iter_no_change={settings.n_iter_no_change}), and the "
            "samples and the parameters have not changed. Change tol or "
            "n_iter_no_change to resume."
        )
    # `loss_curve_` is no reference: with small batches the loss decreases within the
    # first epoch.
    initial_loss = clf._state.stopping.initial_loss
    loss = minimizer.objective.value(model_loss, clf._state.theta)
    relative, absolute = MAX_INCREASE
    limit = initial_loss * (1 + relative) + absolute
    if minimizer.last_eta is not None and loss > limit:
        is_given = not isinstance(clf.learning_rate, str)
        epochs = (
            "" if is_given else f"more epochs (max_iter was {settings.max_iter}) or "
        )
        return (
            f"The loss increased from {initial_loss:.3g} to {loss:.3g}. Try {epochs}a "
            f"smaller learning_rate (it was {clf.learning_rate_init_:g})."
            f"{sample.scaling_advice(minimizer.network)}"
        )
    if settings.tol is None or clf.stop_reason_ not in ("max_iter", "converged"):
        return None
    prior_loss = class_prior_loss(sample, minimizer.network)
    larger_rate = _larger_learning_rate(minimizer)
    if prior_loss > 0 and model_loss > prior_loss * (1 - MIN_GAIN):
        hardly = "hardly" if model_loss < prior_loss else "not"
        return (
            f"The loss, {model_loss:.3g}, is {hardly} lower than {prior_loss:.3g}, the "
            "loss of predicting the class frequencies for all samples. Either the "
            "features are not informative, or the network has not learned. Try "
            f"{larger_rate and larger_rate + ', '}more epochs (max_iter was "
            f"{settings.max_iter}), a smaller alpha (it was {settings.alpha:g}) or "
            f"{_other_layers(minimizer.network)}."
            f"{sample.scaling_advice(minimizer.network)}"
        )
    if larger_rate and 0 < prior_loss * HIGH_LOSS < model_loss:
        return (
            f"The loss, {model_loss:.3g}, is still high: predicting the class "
            f"frequencies gives {prior_loss:.3g}. Try {larger_rate}."
            f"{sample.scaling_advice(minimizer.network)}"
        )
    message = minimizer.unconverged_message(clf.stop_reason_, settings)
    if clf.stop_reason_ == "converged" and not message:
        return None
    return (message + sample.scaling_advice(minimizer.network)).strip() or None


def _larger_learning_rate(minimizer):
    """A cure if `learning_rate` is far below the value of "auto", otherwise ""."""
    if minimizer.last_eta is None or np.isinf(minimizer.state.mean_squared_row_norm):
        return ""
    if callable(minimizer.settings.schedule):  # which may multiply it by any factor
        return ""
    eta, default = minimizer.update_rule.eta, minimizer.default_eta()
    if eta * SMALL_STEP_SIZE >= default:
        return ""
    return f"a larger learning_rate (it was {eta:g}; 'auto' is {default:.3g})"


def _other_layers(network):
    n_hidden = len(network.units) - 2
    if n_hidden == 0:
        return "hidden layers"
    return "fewer hidden layers" if n_hidden > 2 else "other hidden layers"
