"""Default parameters: what "auto" resolves to, warnings, and models that learn."""

import re
import warnings

import numpy as np
import pytest
from helpers import parameters
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_blobs,
    make_circles,
    make_classification,
    make_moons,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skbgd import BGDClassifier
from skbgd._settings import cosine_epochs, default_alpha

MOONS = make_moons(200, noise=0.2, random_state=0)
SOLVERS = ["sgd", "adam", "lbfgs"]


# Resolved parameters


@pytest.mark.parametrize(
    "n_samples, batch_size, n_hidden, solver, n_epochs",
    [
        (3000, 32, 1, "sgd", 33),
        (3000, 32, 1, "adam", 25),
        (1000, 13, 1, "sgd", 40),
        (60_000, 32, 1, "sgd", 25),
        (60_000, 32, 0, "sgd", 25),
        (200, 8, 1, "sgd", 40),
        (200, 8, 0, "sgd", 40),
        (60, 8, 1, "sgd", 40),
        (60, 8, 1, "adam", 32),
        (60, 8, 0, "sgd", 125),
        (40, 40, 2, "sgd", 250),
        (40, 40, 0, "adam", 1000),
    ],
)
def test_epochs_of_a_cosine(n_samples, batch_size, n_hidden, solver, n_epochs):
    """clip(100 000 / n, 25, 40), with Adam 25, and at least 250 or 1000 steps."""
    assert cosine_epochs(n_samples, batch_size, n_hidden, solver) == n_epochs


@pytest.mark.parametrize(
    "n_samples, n_hidden, alpha",
    [
        (100_000, 1, 1 / 100_000),
        (4000, 1, 0.5 * 2**0.5 / 4000),
        (2000, 1, 0.5 / 2000),
        (100, 1, 0.5 / 100),
        (100, 0, 0.5 / 100),
        (50, 1, 0.5 / 50 / 4),
        (40, 1, 0.5 / 40 * 0.4**2),
        (39, 1, 0.5 / 40 * 0.4**2),
        (1, 1, 0.5 / 40 * 0.4**2),
        (8000, 3, 1 / 8000 / 9),
        (123.4, 1, 0.5 / 123.4),
    ],
)
def test_default_penalty(n_samples, n_hidden, alpha):
    """0.5 / n; less below 100 rows, more from 2000 on; half of it with Adam."""
    assert default_alpha(n_samples, n_hidden) == pytest.approx(alpha, rel=1e-12)
    adam = default_alpha(n_samples, n_hidden, "adam")
    assert adam == pytest.approx(alpha / 2, rel=1e-12)


@pytest.mark.parametrize(
    "n_samples, n_hidden, alpha",
    [(1, 1, 2e-4), (1000, 1, 2e-4), (1000, 3, 2e-4 / 9), (100_000, 1, 5e-6)],
)
def test_default_penalty_of_streams(n_samples, n_hidden, alpha):
    """0.5 / n, at most 2e-4: the calls of a stream may be small."""
    found = default_alpha(n_samples, n_hidden, streaming=True)
    assert found == pytest.approx(alpha, rel=1e-12)


def test_attributes_report_the_resolved_parameters():
    """Batches of 8, 40 epochs, n alpha = 0.5, and a cosine that has ended."""
    clf = BGDClassifier(random_state=0).fit(*MOONS)
    assert (clf.batch_size_, clf.max_iter_) == (8, 40)
    assert clf.alpha_ == 0.5 / 200
    assert clf.n_iter_ == clf.max_iter_
    assert clf.stop_reason_ == "max_iter"
    assert clf.learning_rate_init_ == pytest.approx(0.4 * 8**0.5)
    factor = (1 + np.cos(np.pi * 39 / 40)) / 2
    assert clf.learning_rate_ == pytest.approx(factor * clf.learning_rate_init_)


@pytest.mark.parametrize("output", ["logistic", "softmax"])
def test_more_than_two_classes_have_a_softmax(output):
    """Unless sigmoid units are asked for; two classes and labels have these always."""
    X, y = load_iris(return_X_y=True)
    params = {"max_iter": 2, "tol": None}
    assert BGDClassifier(**params).fit(X, y).out_activation_ == "softmax"
    assert BGDClassifier(**params).fit(X, y > 0).out_activation_ == "logistic"
    Y = np.column_stack([y > 0, y > 1]).astype(int)
    assert BGDClassifier(**params).fit(X, Y).out_activation_ == "logistic"
    params["output_activation"] = output
    assert BGDClassifier(**params).fit(X, y).out_activation_ == output
    assert BGDClassifier(**params).fit(X, y > 0).out_activation_ == "logistic"


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_resolved_parameters_passed_on_are_the_same_fit(solver):
    """All that is resolved is reported by an attribute."""
    clf = BGDClassifier(solver=solver, random_state=0).fit(*MOONS)
    same = BGDClassifier(
        solver=solver,
        batch_size=clf.batch_size_,
        alpha=clf.alpha_,
        max_iter=clf.max_iter_,
        learning_rate=clf.learning_rate_init_,
        learning_rate_schedule="cosine",
        output_activation=clf.out_activation_,
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
def test_explicit_values_are_used_as_given(params):
    """A cosine still ends with the last epoch."""
    clf = BGDClassifier(**params, tol=None, random_state=0).fit(*MOONS)
    attributes = {"learning_rate": "learning_rate_init_"}
    for name, value in params.items():
        assert getattr(clf, attributes.get(name, f"{name}_")) == value
    if "max_iter" in params:
        assert clf.n_iter_ == 7
    assert clf.learning_rate_ < 0.06 * clf.learning_rate_init_


def test_a_number_as_step_size_has_a_cosine_schedule_too():
    """As "auto" has. In `partial_fit` its schedule is that of a stream."""
    clf = BGDClassifier(learning_rate=0.25, random_state=0).fit(*MOONS)
    explicit = BGDClassifier(
        learning_rate=0.25, learning_rate_schedule="cosine", random_state=0
    ).fit(*MOONS)
    assert (clf.learning_rate_init_, clf.max_iter_, clf.n_iter_) == (0.25, 40, 40)
    np.testing.assert_array_equal(parameters(clf), parameters(explicit))
    clf = BGDClassifier(learning_rate=0.25, random_state=0)
    for t in (0, 200, 400):
        clf.partial_fit(*MOONS, classes=[0, 1])
        assert clf.learning_rate_ == pytest.approx(0.25 / (1 + t / 1000) ** 0.5)


def test_a_constant_schedule_stops_by_tol():
    """It has at most 400 epochs, and the step size is that of the first epoch."""
    clf = BGDClassifier(
        learning_rate=0.25, learning_rate_schedule="constant", tol=0,
        n_iter_no_change=3, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        clf.fit(*MOONS)
    assert (clf.learning_rate_, clf.max_iter_) == (0.25, 400)
    clf = BGDClassifier(
        learning_rate_schedule="constant", max_iter=30, tol=None, random_state=0
    )
    assert clf.fit(*MOONS).learning_rate_ == clf.learning_rate_init_


FLAT = {"learning_rate": 1e-12}
LARGE_TOL = {"tol": 1e6, "learning_rate": 0.25}


@pytest.mark.filterwarnings("ignore:The loss, .*, is (hardly|not) lower")
@pytest.mark.parametrize(
    "params, n_iter, stop_reason",
    [
        (FLAT, 40, "max_iter"),
        (FLAT | {"n_iter_no_change": 4}, 5, "converged"),
        (FLAT | {"tol": None, "n_iter_no_change": 4}, 40, "max_iter"),
        (FLAT | {"early_stopping": True}, 1 + 40 // 2, "early_stopping"),
        (LARGE_TOL, 1 + 40 // 2, "converged"),
        (LARGE_TOL | {"n_iter_no_change": 4}, 5, "converged"),
        (LARGE_TOL | {"early_stopping": True}, 1 + 40 // 2, "early_stopping"),
        ({"tol": 1e-12}, 40, "max_iter"),
    ],
    ids=str,
)
def test_a_cosine_is_completed(params, n_iter, stop_reason):
    """Flat losses end it only if a parameter of the stopping rule asks for that."""
    clf = BGDClassifier(**params, random_state=0).fit(*MOONS)
    assert (clf.n_iter_, clf.stop_reason_) == (n_iter, stop_reason)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": 0.3, "n_iter_no_change": 3},
        {"early_stopping": True},
        {"solver": "lbfgs", "alpha": 1e-3},
        {"learning_rate_schedule": "constant", "max_iter": 30},
    ],
    ids=["patience", "early stopping", "lbfgs", "constant"],
)
def test_default_tolerance(params):
    """ "auto" is 1e-4, except where a cosine schedule is completed."""
    clf = BGDClassifier(**params, random_state=0).fit(*MOONS)
    same = BGDClassifier(**params, random_state=0, tol=1e-4).fit(*MOONS)
    assert clf.get_params()["tol"] == "auto"
    np.testing.assert_array_equal(parameters(clf), parameters(same))
    assert clf.n_iter_ == same.n_iter_


def test_resolved_parameters_of_streams():
    """Batches from 4 rows, a penalty of at most 2e-4, a step that falls slowly."""
    X, y = MOONS
    clf = BGDClassifier(random_state=0)
    for start, stop in ((0, 40), (40, 200)):
        clf.partial_fit(X[start:stop], y[start:stop], classes=[0, 1])
        factor = (1 + start / 1000) ** -0.5
        assert clf.learning_rate_init_ == pytest.approx(0.4 * 4**0.5)
        assert clf.learning_rate_ == pytest.approx(factor * 0.4 * 4**0.5)
        assert (clf.batch_size_, clf.alpha_) == (4, 2e-4)
    assert clf.partial_fit(X[:1], y[:1]).batch_size_ == 1
    assert not hasattr(clf, "max_iter_")
    assert clf.fit(X, y).learning_rate_ < 0.01


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_after_a_change_has_another_cosine():
    """With the same rows and parameters it makes no epoch."""
    X, y = MOONS
    clf = BGDClassifier(warm_start=True, random_state=0).fit(X, y)
    first = parameters(clf).copy()
    clf.fit(X, y)
    np.testing.assert_array_equal(parameters(clf), first)
    clf.fit(X, 1 - y)
    assert (clf.n_iter_, clf.max_iter_) == (80, 80)
    assert clf.learning_rate_ < 0.01 * clf.learning_rate_init_
    assert clf.score(X, y) < 0.2


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("hidden", [(), (5,)], ids=str)
def test_integer_weights_equal_repeated_rows_if_these_are_few(hidden, solver):
    """Up to 40 rows all that is resolved is equal too."""
    X, y = make_classification(14, 4, n_informative=3, n_redundant=0, random_state=0)
    times = np.arange(14) % 4
    clf = BGDClassifier(hidden, solver=solver, random_state=0)
    weighted = parameters(clf.fit(X, y, times)).copy()
    resolved = clf.alpha_, clf.max_iter_
    repeated = parameters(clf.fit(X.repeat(times, axis=0), y.repeat(times)))
    assert resolved == (clf.alpha_, clf.max_iter_)
    tolerance = 1e-3 if solver == "lbfgs" else 1e-9
    np.testing.assert_allclose(weighted, repeated, rtol=0, atol=tolerance)


WEIGHTS = np.random.default_rng(0).integers(0, 5, size=200) / 2


def effective_rows(class_weight):
    """(sum w)^2 / sum w^2, by definition."""
    X, y = MOONS
    w = WEIGHTS.copy()
    if class_weight == "balanced":
        w /= np.bincount(y, WEIGHTS)[y]
    elif class_weight:
        w[y == 0] *= class_weight[0]
    return w.sum() ** 2 / (w**2).sum()


CLASS_WEIGHTS = [None, "balanced", {0: 9.0}]


@pytest.mark.parametrize("class_weight", CLASS_WEIGHTS, ids=str)
def test_weights_count_as_effective_rows(class_weight):
    """alpha is that of (sum w)^2 / sum w^2 rows, the step that of m in proportion."""
    clf = BGDClassifier(class_weight=class_weight, random_state=0)
    clf.fit(*MOONS, WEIGHTS)
    n = effective_rows(class_weight)
    assert clf.alpha_ == pytest.approx(default_alpha(n, 1), rel=1e-12)
    expected = 0.4 * (8 * n / 200) ** 0.5
    assert clf.learning_rate_init_ == pytest.approx(expected, rel=1e-12)
    if class_weight != "balanced":
        clf = clone(clf).partial_fit(*MOONS, [0, 1], WEIGHTS)
        expected = 0.4 * (4 * n / 200) ** 0.5
        assert clf.learning_rate_init_ == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("class_weight", CLASS_WEIGHTS, ids=str)
def test_effective_rows_on_dask(client, class_weight):
    """Over all blocks, they are those of one machine."""
    array = pytest.importorskip("dask.array")
    from skbgd.dask import DaskBGDClassifier

    clf = DaskBGDClassifier(
        class_weight=class_weight,
        batch_size="full",
        learning_rate=1e-3,
        max_iter=1,
        tol=None,
    )
    blocks = (array.from_array(a, chunks=(70, *a.shape[1:])) for a in MOONS)
    clf.fit(*blocks, array.from_array(WEIGHTS, chunks=70))
    expected = default_alpha(effective_rows(class_weight), 1)
    assert clf.alpha_ == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["alpha", "max_iter", "n_iter_no_change"])
@pytest.mark.parametrize("value", ["fast", -1])
def test_bad_values(name, value):
    """The message names "auto" among the values that are allowed."""
    with pytest.raises(ValueError, match=f"Got {name}={value!r}; .* or 'auto'"):
        BGDClassifier(**{name: value}).fit(*MOONS)


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
def test_a_parameter_without_effect_does_not_warn(params, name, value):
    """Its description says when it is used."""
    params = {"hidden_layer_sizes": (4,), "random_state": 0} | params
    expected = BGDClassifier(**params).fit(*MOONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = BGDClassifier(**params | {name: value}).fit(*MOONS)
    np.testing.assert_array_equal(parameters(clf), parameters(expected))
    described = re.search(
        rf"\n    [^\n]*\b{name}\b[^\n]* : (.*?)\n    \w", BGDClassifier.__doc__, re.S
    )
    assert re.search("Only used (when|with) ", " ".join(described[1].split()))


# Warnings


ORDINARY = {
    "iris": load_iris(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "breast cancer": load_breast_cancer(return_X_y=True),
    "digits": tuple(part[:500] for part in load_digits(return_X_y=True)),
    "moons": MOONS,
    "noisy": make_classification(600, 20, flip_y=0.2, random_state=0),
}


@pytest.mark.parametrize("X, y", ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize(
    "params",
    [{}, {"solver": "adam"}, {"solver": "lbfgs"}, {"batch_size": "full"},
     {"hidden_layer_sizes": ()}, {"hidden_layer_sizes": (20, 20)},
     {"early_stopping": True}, {"activation": "relu"}, {"max_iter": 5}],
    ids=str,
)  # fmt: skip
def test_a_default_fit_does_not_warn(X, y, params):
    """On ordinary data, which need no scaler."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BGDClassifier(**params, random_state=0).fit(X, y)


@pytest.mark.parametrize("X, y", ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize("batch_size", [1, 32, "full"])
@pytest.mark.parametrize("learning_rate", [0.03, 0.3])
def test_a_grid_over_step_and_batch_size_does_not_warn(X, y, learning_rate, batch_size):
    """A number as step size has a cosine schedule too, and few epochs."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = BGDClassifier(
            (16,), learning_rate=learning_rate, batch_size=batch_size, random_state=0
        )
        clf.fit(X, y)
    assert clf.n_iter_ == clf.max_iter_ <= 250


def test_bad_scales_are_named_after_a_complete_cosine():
    """Raw features hold the network at chance if they are not standardized."""
    X, y = load_wine(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="hardly lower .* badly scaled"):
        BGDClassifier(random_state=0, standardize=False).fit(X, y)


# Models that learn


def held_out(X, y):
    return train_test_split(X, y, stratify=y, random_state=0)


def scaled(load, scaler):
    X_train, X_test, y_train, y_test = held_out(*load(return_X_y=True))
    scaler = scaler().fit(X_train)
    return scaler.transform(X_train), scaler.transform(X_test), y_train, y_test


def pixels(return_X_y):
    """Digits with brightness from 0 to 255."""
    X, y = load_digits(return_X_y=return_X_y)
    return X * (255 / 16), y


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


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
def test_every_activation_learns_with_the_default_step_size(
    activation, n_layers, solver
):
    """Scaled features, one to three hidden layers."""
    for name, load in SETS.items():
        X, X_test, y, y_test = load()
        clf = BGDClassifier(
            (50,) * n_layers, activation=activation, solver=solver, random_state=0
        )
        assert clf.fit(X, y).score(X_test, y_test) > LEAST[name], name


@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer, load_digits, pixels])
def test_raw_features_need_no_scaler(load, activation):
    """The accuracy is within one point of that behind a StandardScaler."""
    clf = BGDClassifier((50,), activation=activation, random_state=0)
    accuracies = []
    for X, X_test, y, y_test in (
        held_out(*load(return_X_y=True)), scaled(load, StandardScaler)
    ):  # fmt: skip
        accuracies.append(clf.fit(X, y).score(X_test, y_test))
    assert accuracies[0] > accuracies[1] - 0.01
    assert accuracies[0] > 0.92


CORNERS = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
BITS = (np.arange(8)[:, np.newaxis] >> np.arange(3) & 1).astype(float)
FEW_ROWS = {
    f"XOR, {n} rows, {low} to {high}": (
        low + (high - low) * np.tile(CORNERS, (n // 4, 1)),
        np.tile([0, 1, 1, 0], n // 4),
    )
    for n in (4, 12, 40)
    for low, high in ((0, 1), (-1, 1), (10, 11))
} | {
    "circles, 40 rows": make_circles(40, noise=0.05, factor=0.5, random_state=0),
    "parity of 3 bits": (BITS, BITS.sum(axis=1).astype(int) % 2),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("X, y", FEW_ROWS.values(), ids=FEW_ROWS)
def test_few_rows_are_learned(X, y, solver):
    """Nine of ten seeds make no error, and do not warn."""
    fits = (BGDClassifier(solver=solver, random_state=k).fit(X, y) for k in range(10))
    assert sum(clf.score(X, y) == 1 for clf in fits) >= 9


@pytest.mark.parametrize("hidden", [(300,), (100, 100), (50, 50, 50), (5,)], ids=str)
def test_plateaus_are_left(hidden):
    """With two features, initial weights that are almost linear make a long plateau."""
    X, y = make_moons(1000, noise=0.2, random_state=0)
    for solver in ("sgd", "adam"):
        clf = BGDClassifier(hidden, solver=solver, random_state=0).fit(X, y)
        assert clf.score(X, y) > (0.85 if hidden == (5,) else 0.94)


def test_a_single_layer_is_as_good_as_logistic_regression_on_iris():
    """Ten folds: LogisticRegression reaches 0.96."""
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    clf = BGDClassifier((), random_state=0)
    assert cross_val_score(clf, *load_iris(return_X_y=True), cv=folds).mean() >= 0.95


def test_probabilities_of_a_hundred_classes():
    """With a softmax the log-loss is low, even without hidden layers."""
    X, y = make_blobs(4000, 20, centers=100, cluster_std=2.5, random_state=0)
    X, X_test, y, y_test = held_out(X, y)
    clf = BGDClassifier((), random_state=0).fit(X, y)
    assert log_loss(y_test, clf.predict_proba(X_test)) <= 0.6


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_rare_heavy_class(solver):
    """20 of 20 000 rows with class_weight="balanced" do not make the weights explode.

    The step size counts effective rows. LogisticRegression has an area of 0.998.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40_000, 10))
    score = X @ rng.normal(size=10) + rng.normal(size=40_000)
    y = (score >= np.sort(score)[-40]).astype(int)
    clf = BGDClassifier((20,), solver=solver, class_weight="balanced", random_state=0)
    clf.fit(X[:20_000], y[:20_000])
    area = roc_auc_score(y[20_000:], clf.decision_function(X[20_000:]))
    assert area >= 0.975
    assert max(abs(W).max() for W in clf.coefs_) < 20


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_stream_is_as_good_as_fit(solver):
    """Noisy rows, five passes in chunks of 100: four of the streams of the study.

    The log-loss is at most 1.3 times that of `fit`, with constant steps up to 2.9.
    """
    gains = []
    for seed, n_classes, n_features, flip_y in (
        (4, 2, 10, 0.1), (10, 3, 20, 0.05), (12, 2, 40, 0.1), (13, 2, 40, 0.1)
    ):  # fmt: skip
        X, y = make_classification(
            3000, n_features, n_informative=max(4, n_features // 2), n_redundant=0,
            n_classes=n_classes, n_clusters_per_class=1 + seed % 2, flip_y=flip_y,
            class_sep=1.5, random_state=seed,
        )  # fmt: skip
        test = X[1000:], y[1000:]
        fit = BGDClassifier(solver=solver, random_state=0).fit(X[:1000], y[:1000])
        stream = BGDClassifier(solver=solver, random_state=0)
        for start in 5 * [*range(0, 1000, 100)]:
            rows = slice(start, start + 100)
            stream.partial_fit(X[rows], y[rows], classes=range(n_classes))
        losses = (
            log_loss(test[1], clf.predict_proba(test[0])) for clf in (stream, fit)
        )
        assert next(losses) <= 1.3 * next(losses)
        gains.append(stream.score(*test) - fit.score(*test))
    assert np.mean(gains) > -0.015


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_noisy_labels_and_few_rows(solver):
    """Two labels in five are random."""
    X, y = make_classification(400, 20, n_informative=5, flip_y=0.4, random_state=0)
    X, X_test, y, y_test = held_out(X, y)
    clf = BGDClassifier(solver=solver, random_state=0).fit(X, y)
    assert clf.score(X_test, y_test) > 0.6


def test_sparse_rows_of_length_1_leave_chance():
    """The gradient of a rare column is small, and its weight is learned in the end."""
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
    clfs = [BGDClassifier(random_state=k).fit(X[:1500], y[:1500]) for k in range(3)]
    assert np.mean([clf.score(X[1500:], y[1500:]) for clf in clfs]) > 0.8
