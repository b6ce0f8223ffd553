"""What "auto" stands for: the plan, explicit values, warnings, models that learn."""

import re
import warnings

import numpy as np
import pytest
from helpers import parameters
from scipy import sparse
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
    make_moons,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skbgd import BGDClassifier
from skbgd._settings import cosine_epochs, default_alpha

MOONS = make_moons(200, noise=0.2, random_state=0)


# The plan


@pytest.mark.parametrize(
    "n_samples, batch_size, n_epochs",
    [(120, 16, 25), (120, 120, 100), (40, 16, 34), (60_000, 64, 25), (50, 1, 25)],
)
def test_cosine_epochs(n_samples, batch_size, n_epochs):
    """25 epochs, or as many as make 100 steps."""
    assert cosine_epochs(n_samples, batch_size) == n_epochs


def test_penalty_of_the_plan():
    """2e-4, n alpha from 0.5 (Adam 0.25) to 2, over the square of the layers."""
    assert default_alpha(100, 1) == default_alpha(100, 0) == 0.5 / 100
    assert default_alpha(100, 1, "adam") == 0.25 / 100
    assert default_alpha(5000, 1) == default_alpha(5000, 1, "adam") == 2e-4
    assert default_alpha(100_000, 1) == 2 / 100_000
    assert default_alpha(5000, 3) == 2e-4 / 9
    # A weight of 2 is as good as two rows: not another penalty for some more rows.
    assert default_alpha(10, 1) == default_alpha(40, 1) > default_alpha(41, 1)
    # Calls of a stream may be small.
    assert default_alpha(1, 1, ends=False) == 2e-4
    assert default_alpha(100_000, 1, ends=False) == 2 / 100_000


def test_attributes_tell_what_was_chosen():
    clf = BGDClassifier(random_state=0).fit(*MOONS)
    assert (clf.batch_size_, clf.max_iter_) == (16, 25)
    assert clf.alpha_ == 0.5 / 200
    assert clf.n_iter_ == clf.max_iter_
    assert clf.stop_reason_ == "max_iter"
    rms = np.sqrt((MOONS[0] ** 2).mean())
    assert rms < 1
    assert clf.learning_rate_init_ == pytest.approx(0.4 * 16**0.5)
    # The cosine's last epoch; the next one would be 0.
    factor = (1 + np.cos(np.pi * 24 / 25)) / 2
    assert clf.learning_rate_ == pytest.approx(factor * clf.learning_rate_init_)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_chosen_values_passed_on_are_the_same_fit(solver):
    clf = BGDClassifier(solver=solver, random_state=0).fit(*MOONS)
    same = BGDClassifier(
        solver=solver,
        batch_size=clf.batch_size_,
        alpha=clf.alpha_,
        max_iter=clf.max_iter_,
        learning_rate=clf.learning_rate_init_,
        learning_rate_schedule="cosine",
        random_state=0,
    ).fit(*MOONS)
    np.testing.assert_array_equal(parameters(clf), parameters(same))


@pytest.mark.parametrize(
    "params",
    [
        {"batch_size": 5},
        {"alpha": 0.0},
        {"max_iter": 7},
        {"learning_rate": 0.25, "max_iter": 7},
    ],
    ids=str,
)
def test_explicit_values_mean_what_they_say(params):
    clf = BGDClassifier(**params, tol=None, random_state=0).fit(*MOONS)
    for name, value in params.items():
        assert getattr(clf, f"{name}_") == value
    if "max_iter" in params:
        assert clf.n_iter_ == 7
    if "learning_rate" not in params:  # the cosine ends with the last epoch
        assert clf.learning_rate_ < 0.06 * clf.learning_rate_init_


def test_a_number_is_the_step_of_every_epoch():
    """... unless a schedule is named; tol finds its end, in 400 epochs at most."""
    clf = BGDClassifier(learning_rate=0.25, tol=0, n_iter_no_change=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clf.fit(*MOONS)
    assert (clf.learning_rate_, clf.max_iter_) == (0.25, 400)
    clf.set_params(learning_rate_schedule="cosine").fit(*MOONS)
    assert clf.max_iter_ == 25
    clf = BGDClassifier(
        learning_rate_schedule="constant", max_iter=30, tol=None, random_state=0
    )
    assert clf.fit(*MOONS).learning_rate_ == clf.learning_rate_init_


def test_a_plan_is_followed_to_its_end():
    """A loss that stops improving ends it only if the user asked for that."""
    flat = {"learning_rate": 1e-12, "learning_rate_schedule": "cosine"}
    clf = BGDClassifier(**flat, random_state=0).fit(*MOONS)
    assert (clf.n_iter_, clf.stop_reason_) == (25, "max_iter")
    clf = BGDClassifier(**flat, n_iter_no_change=4, random_state=0).fit(*MOONS)
    assert (clf.n_iter_, clf.stop_reason_) == (5, "converged")
    clf = BGDClassifier(**flat, early_stopping=True, random_state=0).fit(*MOONS)
    assert (clf.n_iter_, clf.stop_reason_) == (13, "early_stopping")
    clf = BGDClassifier(tol=1e6, random_state=0).fit(*MOONS)
    assert (clf.n_iter_, clf.stop_reason_) == (13, "converged")  # half of the plan
    clf = BGDClassifier(tol=1e-12, random_state=0).fit(*MOONS)
    assert clf.n_iter_ == 25  # it improves all the time
    clf = BGDClassifier(tol=None, n_iter_no_change=4, **flat, random_state=0)
    assert clf.fit(*MOONS).n_iter_ == 25
    clf = BGDClassifier(tol=1e6, n_iter_no_change=4, random_state=0).fit(*MOONS)
    assert (clf.n_iter_, clf.stop_reason_) == (5, "converged")
    clf = BGDClassifier(tol=1e6, early_stopping=True, random_state=0).fit(*MOONS)
    assert clf.stop_reason_ == "early_stopping"
    assert clf.n_iter_ == 1 + clf.max_iter_ // 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": 0.3, "n_iter_no_change": 3},
        {"early_stopping": True},
        {"solver": "lbfgs", "alpha": 1e-3},
        {"learning_rate_schedule": "constant", "max_iter": 30},
    ],
    ids=["constant", "early stopping", "lbfgs", "automatic step"],
)
def test_automatic_tol_is_1e_4(params):
    """... but for a cosine that ends by the training loss, which it does not end."""
    clf = BGDClassifier(**params, random_state=0).fit(*MOONS)
    same = BGDClassifier(**params, random_state=0, tol=1e-4).fit(*MOONS)
    assert clf.get_params()["tol"] == "auto"
    np.testing.assert_array_equal(parameters(clf), parameters(same))
    assert clf.n_iter_ == same.n_iter_


def test_streams_have_no_end():
    """partial_fit: steps of one size; the penalty does not depend on small calls."""
    X, y = MOONS
    clf = BGDClassifier(random_state=0)
    for rows in (slice(40), slice(40, 200)):
        clf.partial_fit(X[rows], y[rows], classes=[0, 1])
        assert clf.learning_rate_ == pytest.approx(0.4 * 16**0.5)
        assert (clf.batch_size_, clf.alpha_) == (16, 2e-4)
    assert clf.partial_fit(X[:1], y[:1]).batch_size_ == 1
    assert not hasattr(clf, "max_iter_")
    assert clf.fit(X, y).learning_rate_ < 0.4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_plans_anew_for_another_goal():
    """The same rows and parameters: nothing is left to do; others: a whole plan."""
    X, y = MOONS
    clf = BGDClassifier(warm_start=True, random_state=0).fit(X, y)
    first = parameters(clf).copy()
    clf.fit(X, y)
    np.testing.assert_array_equal(parameters(clf), first)
    clf.fit(X, 1 - y)
    assert (clf.n_iter_, clf.max_iter_) == (50, 50)
    assert clf.learning_rate_ < 0.01 * clf.learning_rate_init_
    assert clf.score(X, y) < 0.2


@pytest.mark.parametrize("name", ["alpha", "max_iter", "n_iter_no_change"])
@pytest.mark.parametrize("value", ["fast", -1])
def test_bad_values(name, value):
    with pytest.raises(ValueError, match=f"Got {name}={value!r}; .* or 'auto'"):
        BGDClassifier(**{name: value}).fit(*MOONS)
    with pytest.raises(ValueError, match="Got learning_rate_schedule='x'; .*'auto'"):
        BGDClassifier(learning_rate_schedule="x").fit(*MOONS)


# Parameters without effect

STEPS = {
    "batch_size": 3, "learning_rate": 0.01, "learning_rate_schedule": "invscaling",
    "momentum": 0.9, "nesterov": True, "max_gradient_norm": 1e-3, "shuffle": False,
    "n_iter_no_change": 1,
}  # fmt: skip
ADAM = {"beta_1": 0.1, "beta_2": 0.2, "epsilon": 0.5}
VALIDATION = {"validation_fraction": 0.5, "scoring": "accuracy"}
OTHERS = {"power_t": 3.0, **VALIDATION}


@pytest.mark.parametrize(
    "params, name, value",
    [
        (params, *item)
        for params, unused in (
            ({"solver": "lbfgs"}, STEPS | ADAM | OTHERS),
            ({"solver": "sgd"}, ADAM | OTHERS | {"nesterov": True}),
            ({"solver": "adam"}, OTHERS | {"momentum": 0.9, "nesterov": True}),
            ({"batch_size": "full"}, {"shuffle": False}),
            ({"hidden_layer_sizes": ()}, {"activation": "relu"}),
        )
        for item in unused.items()
    ],
    ids=str,
)
def test_a_parameter_without_effect_is_ignored_in_silence(params, name, value):
    """... and its description says when it is used."""
    params = {"hidden_layer_sizes": (4,), "random_state": 0} | params
    expected = BGDClassifier(**params).fit(*MOONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = BGDClassifier(**params | {name: value}).fit(*MOONS)
    np.testing.assert_array_equal(parameters(clf), parameters(expected))
    described = re.search(
        rf"\n    [^\n]*\b{name}\b[^\n]* : (.*?)\n    \w", BGDClassifier.__doc__, re.S
    )
    assert "Only used when" in " ".join(described[1].split())


# Warnings


@pytest.mark.parametrize(
    "params",
    [{}, {"solver": "adam"}, {"batch_size": "full"}, {"hidden_layer_sizes": ()},
     {"early_stopping": True}, {"activation": "relu"}, {"max_iter": 5}],
    ids=str,
)  # fmt: skip
def test_a_default_fit_is_quiet(params):
    X, y = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = BGDClassifier(**params, random_state=0)
        clf.fit(StandardScaler().fit_transform(X), y)


def test_bad_scales_are_named_after_a_plan_too():
    X, y = load_wine(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="^The features are badly scaled"):
        BGDClassifier(random_state=0, standardize=False).fit(X, y)


# Models that learn


def held_out(X, y):
    return train_test_split(X, y, stratify=y, random_state=0)


SETS = {
    "digits / 16": lambda: held_out(
        load_digits(return_X_y=True)[0] / 16, load_digits(return_X_y=True)[1]
    ),
    "digits": lambda: scaled(load_digits, StandardScaler),
    "iris": lambda: scaled(load_iris, StandardScaler),
    "wine": lambda: scaled(load_wine, StandardScaler),
    "breast cancer": lambda: scaled(load_breast_cancer, StandardScaler),
    "wine, 0 to 1": lambda: scaled(load_wine, MinMaxScaler),
    "breast cancer, 0 to 1": lambda: scaled(load_breast_cancer, MinMaxScaler),
}
# One to two points below what MLPClassifier reaches with the same layers.
LEAST = {
    "digits / 16": 0.92,
    "digits": 0.92,
    "iris": 0.87,
    "wine": 0.92,
    "breast cancer": 0.92,
    "wine, 0 to 1": 0.92,
    "breast cancer, 0 to 1": 0.92,
}


def scaled(load, scaler):
    X_train, X_test, y_train, y_test = held_out(*load(return_X_y=True))
    scaler = scaler().fit(X_train)
    return scaler.transform(X_train), scaler.transform(X_test), y_train, y_test


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
def test_every_activation_learns_with_default_steps(activation, n_layers, solver):
    for name, load in SETS.items():
        X, X_test, y, y_test = load()
        clf = BGDClassifier(
            (50,) * n_layers, activation=activation, solver=solver, random_state=0
        )
        assert clf.fit(X, y).score(X_test, y_test) > LEAST[name], name


@pytest.mark.parametrize("hidden", [(300,), (100, 100), (50, 50, 50), (5,)], ids=str)
def test_plateaus_are_left(hidden):
    """Of two features, where a start that is almost linear waits for long."""
    X, y = make_moons(1000, noise=0.2, random_state=0)
    X = StandardScaler().fit_transform(X)
    for solver in ("sgd", "adam"):
        clf = BGDClassifier(hidden, solver=solver, random_state=0).fit(X, y)
        assert clf.score(X, y) > (0.85 if hidden == (5,) else 0.94)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_noisy_labels_and_few_rows(solver):
    X, y = make_classification(400, 20, n_informative=5, flip_y=0.4, random_state=0)
    X, X_test, y, y_test = held_out(X, y)
    clf = BGDClassifier(solver=solver, random_state=0).fit(X, y)
    assert clf.score(X_test, y_test) > 0.6


def test_sparse_rows_of_length_1_leave_chance():
    """The gradient of a rare column is small; a plan does not take that for the end."""
    rng = np.random.default_rng(0)
    n, d = 2000, 1 << 14
    columns = rng.integers(d // 2, size=(n, 30))
    y = rng.integers(2, size=n)
    columns[:, :10] = np.where(
        rng.uniform(size=(n, 10)) < 0.7, y[:, None], 1 - y[:, None]
    )
    columns[:, :10] = columns[:, :10] * 50 + rng.integers(50, size=(n, 10)) + d // 2
    X = sparse.csr_array(
        (np.full(n * 30, 30**-0.5), columns.ravel(), np.arange(0, n * 30 + 1, 30)),
        shape=(n, d),
    )
    X.sum_duplicates()
    clf = BGDClassifier(random_state=0).fit(X[:1500], y[:1500])
    assert clf.score(X[1500:], y[1500:]) > 0.8
