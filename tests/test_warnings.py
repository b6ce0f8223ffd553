"""When a fit warns, and when it does not."""

import warnings

import numpy as np
import pytest
from helpers import small
from scipy import sparse
from sklearn.datasets import load_digits, make_moons
from sklearn.exceptions import ConvergenceWarning

from skbgd import BGDClassifier

MOONS = make_moons(300, noise=0.2, random_state=0)
ROSE = "The loss rose from .* to .*smaller learning_rate"


@pytest.fixture(autouse=True)
def no_other_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    "params",
    [
        {"tol": None},
        {"tol": 1e-4},
        {"tol": 1e-4, "n_iter_no_change": 5},
        {"tol": 1e-4, "n_iter_no_change": 5, "early_stopping": True},
        {"tol": None, "early_stopping": True, "scoring": "accuracy"},
    ],
    ids=["no tol", "max_iter", "converged", "early stopping", "score"],
)
def test_a_loss_that_ends_above_where_it_began(params):
    """It warns, whatever ended the fit."""
    X, y = load_digits(return_X_y=True)
    clf = BGDClassifier(
        (20,), activation="relu", batch_size="full", learning_rate=2.0, random_state=0,
        max_iter=12, learning_rate_schedule=lambda k: 1.0 if k < 3 else 1e-12,
        standardize=False,
    ).set_params(**params)  # fmt: skip
    with pytest.warns(ConvergenceWarning, match=ROSE):
        clf.fit(X, y)
    assert clf.loss_ > 1.1 * clf.loss_curve_[0]


@pytest.mark.parametrize("tol", [None, 1e-4])
def test_small_batches_are_noise_and_no_rise(tol):
    """Sorted labels, one row at a time, always in the same order."""
    X, y = MOONS
    order = np.argsort(y, kind="stable")
    clf = BGDClassifier(
        (), shuffle=False, batch_size=1, learning_rate=0.15, max_iter=60, tol=tol,
        n_iter_no_change=5,
    )  # fmt: skip
    clf.fit(X[order], y[order])
    assert clf.n_iter_ > 3
    assert clf.loss_ > clf.loss_curve_[0]  # of which the first epoch's is lower


def test_the_advice_about_scales_survives_any_scale():
    """Squares that overflow are no second warning."""
    X, y = MOONS
    for rows in (X * [1, 1e200], sparse.csr_array(X * [1, 1e200])):
        clf = BGDClassifier(
            (3,), learning_rate=1e-3, max_iter=3, random_state=0, standardize=False
        )
        with pytest.warns(ConvergenceWarning, match="badly scaled.*inf"):
            clf.fit(rows, y)


def test_badly_scaled_features_are_named_in_the_warning(moons):
    X, _, y, _ = moons
    with pytest.warns(ConvergenceWarning, match="badly scaled.*StandardScaler"):
        small(tol=1e-4, standardize=False).fit(X * [1, 1000], y)
    for rows, standardize in ((X, False), (X * [1, 1000], True)):
        with pytest.warns(ConvergenceWarning) as record:
            small(tol=1e-4, standardize=standardize).fit(rows, y)
        assert "badly scaled" not in str(record[0].message)
