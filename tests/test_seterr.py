"""Results do not depend on `numpy.seterr`, even if it raises at each underflow."""

import numpy as np
import pytest
from helpers import targets
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skbgd import BGDClassifier

pytestmark = pytest.mark.filterwarnings(
    f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning"
)

SCALES = {
    np.float64: {"subnormal": 1e-310, "tiny": 1e-200, "huge": 1e150},
    np.float32: {"subnormal": 1e-44, "tiny": 1e-30, "huge": 1e18},
}


def outcome(params, X, smaller, y, weights):
    """The results of fit, partial_fit and predictions, or the message of an error."""
    clf = BGDClassifier(
        **{"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | params
    )
    try:
        clf.fit(X, y, weights)
        if clf.solver != "lbfgs":
            clf.partial_fit(X, y, sample_weight=weights)
        return [
            clf.coefs_[0],
            clf.loss_curve_,
            clf.predict(X),
            *(
                getattr(clf, method)(rows)
                for method in ("predict_proba", "predict_log_proba")
                for rows in (X, smaller)
            ),
        ]
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "adam", "epsilon": 1e-320},
        {"solver": "lbfgs", "alpha": 1e-320},
        {"hidden_layer_sizes": (), "solver": "lbfgs"},
        {"hidden_layer_sizes": (), "batch_size": 1, "momentum": 0.9},
        {"output_activation": "softmax", "learning_rate": np.float32(1e-40)},
        {
            "early_stopping": True,
            "learning_rate_schedule": "invscaling",
            "power_t": 300,
        },
        {"activation": "relu", "learning_rate": 1e300},
    ],
    ids=str,
)
def test_results_do_not_depend_on_seterr(params, kind, dtype, container):
    """Nor do the messages of errors, for tiny and huge rows and weights."""
    X, y = targets(kind, n=40)
    weights = np.random.default_rng(0).integers(1, 9, size=40)
    for scale in SCALES[dtype].values():
        rows = X.astype(dtype) * dtype(scale)
        arrays = container(rows), container(rows.astype(float) / 1e20), y
        for factor in (1, 5e-324, 1e307):
            given = None if factor == 1 else weights * factor
            expected = outcome(params, *arrays, given)
            with np.errstate(all="raise"):
                found = outcome(params, *arrays, given)
            if isinstance(expected, str):
                assert found == expected
            else:
                for a, b in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "class_weight",
    ["balanced", {0: 1e-300, 1: 1e300}, {0: 1e-200, 1: 1.0}],
    ids=["balanced", "ratio 0", "tiny ratio"],
)
def test_class_weights_do_not_depend_on_seterr(moons, class_weight):
    """Products and squares of weights may underflow."""
    X, X_val, y, y_val = moons
    clf = BGDClassifier(class_weight=class_weight, max_iter=2, tol=None, random_state=0)
    expected = clf.fit(X, y, 1e-320, X_val=X_val, y_val=y_val).coefs_[0].copy()
    with np.errstate(all="raise"):
        clf.fit(X, y, 1e-320, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(clf.coefs_[0], expected)


def test_a_steep_schedule_ends_at_0():
    """(t + 1)^power_t may overflow."""
    X, y = targets("binary", n=40)
    clf = BGDClassifier(
        learning_rate_schedule="invscaling", power_t=300, max_iter=2, tol=None
    ).fit(X, y)
    assert clf.learning_rate_ == 0
