"""When a fit warns, and when it does not."""

import warnings

import numpy as np
import pytest
from helpers import small, targets
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, make_moons
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

from skbgd import BGDClassifier
from skbgd._rows import LocalRows
from skbgd._warnings import class_prior_loss

MOONS = make_moons(300, noise=0.2, random_state=0)


@pytest.fixture(autouse=True)
def no_other_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# A loss that increases, or is not finite


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
def test_a_loss_that_ends_higher_than_it_began(params):
    """It warns whatever ended the fit, and names the step size that can be set."""
    X, y = load_digits(return_X_y=True)
    clf = BGDClassifier(
        (20,), activation="relu", batch_size="full", learning_rate=2.0, random_state=0,
        max_iter=12, learning_rate_schedule=lambda k: 1.0 if k < 3 else 1e-12,
        standardize=False,
    ).set_params(**params)  # fmt: skip
    match = (
        r"The loss increased from .* to .*smaller learning_rate \(it was 2\)\. .*"
        "Use standardize=True"
    )
    with pytest.warns(ConvergenceWarning, match=match) as record:
        clf.fit(X, y)
    assert clf.loss_ > 1.1 * clf.loss_curve_[0]
    assert "1e-12" not in str(record[0].message)


@pytest.mark.parametrize("learning_rate", ["auto", 30.0])
def test_advice_names_parameters_that_can_be_set(learning_rate):
    """The step size before the schedule, but no scaler for scaled features."""
    X, y = MOONS
    clf = BGDClassifier(
        (30, 30, 30), activation="identity", learning_rate=learning_rate, alpha=0,
        batch_size=1, learning_rate_schedule=lambda k: 1e4 if k == 0 else 1e-9,
        max_iter=2, max_gradient_norm=1.0, random_state=0, standardize=False,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning, match="The loss increased") as record:
        clf.fit(X, y)
    more = "more epochs (max_iter was 2) or " if learning_rate == "auto" else ""
    advice = f"Try {more}a smaller learning_rate (it was {clf.learning_rate_init_:g})."
    assert str(record[0].message).endswith(advice)
    assert clf.learning_rate_ < 1e-6 * clf.learning_rate_init_


@pytest.mark.parametrize("tol", [None, 1e-4])
def test_noise_of_small_batches_is_no_increase(tol):
    """Sorted labels, one row at a time, always in the same order.

    The loss of the first epoch is lower than that of the last.
    """
    X, y = MOONS
    order = np.argsort(y, kind="stable")
    clf = small(
        hidden_layer_sizes=(), shuffle=False, batch_size=1, learning_rate=0.15,
        max_iter=60, tol=tol, n_iter_no_change=5,
    )  # fmt: skip
    clf.fit(X[order], y[order])
    assert clf.n_iter_ > 3
    assert clf.loss_ > clf.loss_curve_[0]


def test_a_small_loss_that_stays_is_no_increase():
    """Where little is left to learn, nothing is said of a loss that does not change."""
    X = np.repeat([[-1.0], [1.0]], 20, axis=0)
    y = X[:, 0] > 0
    clf = small(hidden_layer_sizes=(), learning_rate=5.0, max_iter=60, warm_start=True)
    clf.set_params(alpha=0.0).fit(X, y)
    before = clf.loss_
    assert before < 0.02
    clf.set_params(learning_rate=1e-300, max_iter=70).fit(X, y)
    assert clf.loss_ == pytest.approx(before, rel=0.05)


def test_one_class_with_weights_is_learned():
    """The class frequencies are then certain; their loss of 0 is no reference."""
    X, y = MOONS
    clf = small(tol=1e-3, n_iter_no_change=3, max_iter=500, alpha=0.0)
    clf.fit(X, y, sample_weight=y)
    assert clf.stop_reason_ == "converged"


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_sparse_rows_are_not_compared(container):
    """Validation rows may be sparse where the training rows are not, and vice versa."""
    X, y = MOONS
    other = sparse.csr_array if container is np.asarray else np.asarray
    clf = small(standardize=False)
    clf.fit(container(X), y, X_val=other(X), y_val=y)
    expected = small(standardize=False).fit(X, y, X_val=X, y_val=y)
    np.testing.assert_allclose(
        clf.validation_loss_curve_, expected.validation_loss_curve_, rtol=1e-9
    )


def test_a_divergence_names_the_step_size_and_the_schedule():
    """The error advises a scaler only if the features are badly scaled.

    Rows of weight zero do not count.
    """
    X, y = MOONS
    clf = BGDClassifier(
        (3, 3), activation="relu", learning_rate=1e150, random_state=0,
        learning_rate_schedule=lambda k: 1e50, standardize=False,
    )  # fmt: skip
    match = r"with learning_rate=1e\+150 \(step size 1e\+200\) and .*0 and 1\.$"
    with pytest.raises(ValueError, match=match):
        clf.fit(X, y)
    w = np.ones(len(y))
    w[7] = 0
    outlier = X.copy()
    outlier[7] = 1e9
    with pytest.raises(ValueError, match=match):
        clf.fit(outlier, y, w)
    scaled_badly = X * [1e4, 1]
    with pytest.raises(ValueError, match=r"badly scaled \(.* 1e\+04\). Use standard"):
        clf.fit(scaled_badly, y)
    with pytest.raises(ValueError, match="badly scaled .* Use a MaxAbsScaler"):
        clf.partial_fit(sparse.csr_array(scaled_badly), y, classes=[0, 1])
    with pytest.raises(ValueError, match=match):
        clf.set_params(standardize=True).fit(scaled_badly, y)


def test_no_advice_without_a_row_to_look_at():
    """Of 1 500 rows every second is looked at; all of these may have weight zero."""
    X, y = np.tile(MOONS[0], (5, 1)), np.tile(MOONS[1], 5)
    weights = np.arange(len(y)) % 2.0
    clf = small(learning_rate=1e300, alpha=0, standardize=False)
    with pytest.raises(ValueError, match="diverged. Try a smaller learning_rate.$"):
        clf.fit(X * [1e4, 1], y, weights)
    with pytest.raises(ValueError, match="badly scaled"):
        clf.fit(X * [1e4, 1], y, 1 - weights)


def test_rows_that_are_too_large_for_a_trained_network():
    """A warm start without an epoch to make fails if the loss is infinite."""
    X, y = MOONS
    clf = small(activation="identity", warm_start=True, standardize=False).fit(X, y)
    clf.coefs_[0][:] = 1e10
    with pytest.raises(ValueError, match="The loss after the last step is .*scaled"):
        clf.fit(X * 1e306, y)


# A loss at chance


DEAD = {
    "tiny step": {"learning_rate": 1e-9, "hidden_layer_sizes": ()},
    "large alpha": {"alpha": 10.0, "learning_rate": 0.1},
    "lbfgs": {"alpha": 10.0, "solver": "lbfgs"},
    "adam": {"alpha": 10.0, "solver": "adam"},
    "tiny constant step": {
        "learning_rate": 1e-9, "hidden_layer_sizes": (), "max_iter": 9,
        "learning_rate_schedule": "constant",
    },
}  # fmt: skip


@pytest.mark.parametrize("params", DEAD.values(), ids=DEAD)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_fit_that_has_not_learned(params, kind):
    """The message names both losses, max_iter and alpha. tol=None does not judge."""
    X, y = targets(kind)
    clf = BGDClassifier(**{"hidden_layer_sizes": (4,), "random_state": 0, **params})
    with pytest.warns(ConvergenceWarning, match="is (hardly|not) lower than") as record:
        clf.fit(X, y)
    (message,) = (str(warning.message) for warning in record)
    assert f"max_iter was {clf.max_iter_})" in message
    assert f"it was {clf.alpha_:g})" in message
    clf.set_params(tol=None, max_iter=20).fit(X, y)


def test_labels_that_do_not_depend_on_the_features():
    """They warn too: the model is no better than the class frequencies."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 2)), rng.integers(2, size=3000)
    with pytest.warns(ConvergenceWarning, match="lower .* not informative"):
        BGDClassifier((), random_state=0).fit(X, y)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_step_size_far_below_auto(solver):
    """The message tells the value of "auto". With a 400th there is no warning."""
    X, y = load_digits(return_X_y=True)
    clf = BGDClassifier((20,), solver=solver, random_state=0).fit(X, y)
    default = clf.learning_rate_init_
    match = rf"still high: .* a larger learning_rate \(.*'auto' is {default:.3g}"
    with pytest.warns(ConvergenceWarning, match=match):
        clf.set_params(learning_rate=default / 1000).fit(X, y)
    clf.set_params(learning_rate=default / 400).fit(X, y)


@pytest.mark.parametrize(
    "params, expected",
    [
        (
            {"learning_rate": 1e-5},
            "not lower than .* a larger learning_rate .* other hidden layers",
        ),
        ({"hidden_layer_sizes": (10,) * 10}, "not lower than .* fewer hidden layers"),
    ],
    ids=["small step", "many layers"],
)
def test_the_cure_of_a_network_that_has_not_learned(params, expected):
    X, y = load_breast_cancer(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match=expected):
        BGDClassifier(**params, random_state=0).fit(X, y)


def test_a_callable_schedule_may_multiply_a_small_step_size():
    """Then "auto" is no measure of it."""
    X, y = MOONS[0], np.random.default_rng(0).integers(2, size=len(MOONS[1]))
    clf = BGDClassifier((), learning_rate=1e-4, random_state=0, max_iter=30)
    clf.set_params(learning_rate_schedule=lambda k: 1e3)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always", ConvergenceWarning)
        clf.fit(X, y)
    assert not [w for w in record if "larger learning_rate" in str(w.message)]


def test_labels_that_are_all_equal():
    """The class frequencies leave no loss, so none is high."""
    X, _ = targets("multilabel")
    clf = BGDClassifier((), learning_rate=1e-3, max_iter=2000, random_state=0)
    clf.fit(X, np.ones((len(X), 2), dtype=int))


def test_a_first_epoch_with_the_default_step_size():
    """More epochs are the first cure."""
    X, y = load_iris(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match=r"Try more epochs \(max_iter was 1\)"):
        BGDClassifier(max_iter=1, random_state=0).fit(X, y)


@pytest.mark.parametrize("gain, warned", [(0.004, True), (0.006, False)])
def test_half_a_per_cent_is_not_chance(gain, warned):
    """A single feature of two values, whose best log-loss is known."""
    n, excess = 20_000, np.sqrt(2 * np.log(2) * gain) / 2
    x = np.arange(n) % 2
    y = np.arange(n) // 2 < n / 2 * np.where(x == 1, 0.5 + excess, 0.5 - excess)
    clf = BGDClassifier((), solver="lbfgs", alpha=0, tol=1e-8)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always", ConvergenceWarning)
        clf.fit(x[:, np.newaxis], y)
    loss = log_loss(y, clf.predict_proba(x[:, np.newaxis]))
    assert 1 - loss / np.log(2) == pytest.approx(gain, rel=0.01)
    assert ["hardly lower" in str(w.message) for w in record] == [True] * warned


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(
    "kind, output",
    [
        ("binary", "auto"),
        ("multiclass", "softmax"),
        ("multiclass", "logistic"),
        ("multilabel", "auto"),
    ],
    ids=["binary", "softmax", "sigmoids", "labels"],
)
def test_loss_of_the_class_priors(kind, output, weighted):
    """The log-loss of DummyClassifier; with sigmoid units that of each, summed up."""
    X, y = targets(kind)
    w = np.random.default_rng(0).integers(3, size=len(y)) * 1.0 if weighted else None
    clf = small(output_activation=output, max_iter=1).fit(X, y)
    rows = LocalRows(X, y, w, n_jobs=1)
    data = rows.encoded(clf.classes_, kind == "multilabel", None)
    units = [y]
    if clf.n_outputs_ > 1 and clf.out_activation_ == "logistic":
        units = y.T if kind == "multilabel" else [y == k for k in range(4)]
    expected = 0
    for unit in units:
        dummy = DummyClassifier(strategy="prior").fit(X, unit, w)
        expected += log_loss(unit, dummy.predict_proba(X), sample_weight=w)
    assert class_prior_loss(data, clf._network) == pytest.approx(expected, rel=1e-12)


# Badly scaled features


def test_advice_about_any_scale():
    """Squares of features that overflow raise no other warning."""
    X, y = MOONS
    for rows in (X * [1, 1e200], sparse.csr_array(X * [1, 1e200])):
        clf = BGDClassifier(
            (3,), learning_rate=1e-3, max_iter=3, random_state=0, standardize=False
        )
        with pytest.warns(ConvergenceWarning, match="badly scaled.*inf"):
            clf.fit(rows, y)


@pytest.mark.parametrize(
    "scale, standardize, advised",
    [(1000, False, True), (1, False, False), (1000, True, False)],
    ids=["raw", "raw, but scaled well", "standardized"],
)
def test_badly_scaled_features_are_named_in_a_warning(scale, standardize, advised):
    """Unless the network standardizes them."""
    X, y = MOONS
    with pytest.warns(ConvergenceWarning, match="max_iter=12 epochs") as record:
        small(tol=1e-4, standardize=standardize).fit(X * [1, scale], y)
    message = str(record[0].message)
    assert ("badly scaled" in message) == advised
    assert message.endswith("Use standardize=True.") == advised
