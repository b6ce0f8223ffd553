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
ROSE = r"The loss increased from .* to .*smaller learning_rate \(it was 2\)\."


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
    with pytest.warns(ConvergenceWarning, match=f"{ROSE} .*StandardScaler") as record:
        clf.fit(X, y)
    assert clf.loss_ > 1.1 * clf.loss_curve_[0]
    assert "1e-12" not in str(record[0].message)  # the last step, which nobody chose


@pytest.mark.parametrize("learning_rate", ["auto", 30.0])
def test_advice_is_about_what_can_be_set(learning_rate):
    """The step before the schedule, given or chosen; no scaling of scaled features."""
    X, y = MOONS
    clf = BGDClassifier(
        (30, 30, 30), activation="identity", learning_rate=learning_rate, alpha=0,
        batch_size=1, learning_rate_schedule=lambda k: 1e4 if k == 0 else 1e-9,
        max_iter=2, max_gradient_norm=1.0, random_state=0,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning, match="The loss increased") as record:
        clf.fit(X, y)
    advice = f"Try a smaller learning_rate (it was {clf.learning_rate_init_:g})."
    assert str(record[0].message).endswith(advice)
    assert clf.learning_rate_ < 1e-6 * clf.learning_rate_init_


def test_a_divergence_names_the_step_and_the_schedule():
    """What can be set first; scales only where they are bad."""
    X, y = MOONS
    params = {"activation": "relu", "learning_rate": 1e150, "random_state": 0}
    clf = BGDClassifier((3, 3), **params, learning_rate_schedule=lambda k: 1e50)
    says = (
        r"with learning_rate=1e\+150 \(step size 1e\+200\) and .*learning_rate\.[^S]*$"
    )
    with pytest.raises(ValueError, match=says):
        clf.fit(X, y)
    with pytest.raises(ValueError, match=r"badly scaled \(.* to 1e\+04\); put a Sta"):
        clf.fit(X * [1e4, 1], y)
    with pytest.raises(ValueError, match="badly scaled .* put a MaxAbsScaler"):
        clf.partial_fit(sparse.csr_array(X * [1e4, 1]), y, classes=[0, 1])
    w = np.ones(len(y))
    w[7] = 0
    X = X.copy()
    X[7] = 1e9  # no advice for the sake of a row that does not count
    with pytest.raises(ValueError, match=says):
        clf.fit(X, y, w)


def test_rows_that_a_trained_network_cannot_take():
    """A warm start without an epoch to make, on rows whose loss is infinite."""
    X, y = MOONS
    clf = small(activation="identity", warm_start=True).fit(X, y)
    clf.coefs_[0][:] = 1e10
    with pytest.raises(ValueError, match="The loss after the last step is .*scaled"):
        clf.fit(X * 1e306, y)


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
