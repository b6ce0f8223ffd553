"""scikit-learn's checks of estimators.

One check is expected to fail in two settings: that a weight of 2 equals a repeated row.
With batches of 4 rows, repetitions change the batches and add steps. With early
stopping, some repetitions of a row may be set aside for validation and others not. The
check passes with full batches, which are the default for the few rows of the check.
"""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skbgd import BGDClassifier
from skbgd._core import COMPILED

ESTIMATORS = [
    BGDClassifier(),
    BGDClassifier(hidden_layer_sizes=()),
    BGDClassifier(hidden_layer_sizes=(8, 5), output_activation="logistic"),
    BGDClassifier(batch_size="full"),
    BGDClassifier(batch_size="full", solver="adam", activation="relu"),
    BGDClassifier(momentum=0.9, nesterov=True),
    BGDClassifier(solver="adam"),
    BGDClassifier(solver="lbfgs", max_iter=20),  # more iterations amplify rounding
    BGDClassifier(hidden_layer_sizes=(), solver="lbfgs"),
    BGDClassifier(warm_start=True),
    BGDClassifier(early_stopping=True),
    BGDClassifier(early_stopping=True, batch_size="full"),
    BGDClassifier(batch_size=4),
]


def expected_failed_checks(estimator):
    if estimator.batch_size == 4:
        reason = "repeated rows are in other mini-batches than weighted ones"
    elif estimator.early_stopping:
        reason = "some repetitions of a row may be set aside and others not"
    else:
        return {}
    name = "check_sample_weight_equivalence_on"
    return {f"{name}_{kind}_data": reason for kind in ("dense", "sparse")}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failed_checks)
def test_estimator(estimator, check):
    """The estimator passes the check."""
    weights_are_repetitions = "sample_weight_equivalence" in check.func.__name__
    if estimator.solver == "lbfgs" and weights_are_repetitions and not COMPILED:
        pytest.skip("L-BFGS amplifies rounding errors of the BLAS")
    check(estimator)
