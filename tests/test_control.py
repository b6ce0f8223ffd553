"""Training under control: validation, stopping, continuing, step sizes, watching."""

import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import copy

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification, make_moons
from sklearn.datasets import make_multilabel_classification as make_multilabel
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import f1_score, log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from test_descent import parameters, starting_from

from skbgd import BGDClassifier
from skbgd._network import Network

HAS_CALLBACKS = parse_version(sklearn.__version__) >= parse_version("1.9")


@pytest.fixture
def moons():
    X, y = make_moons(300, noise=0.25, random_state=0)
    return train_test_split(X, y, test_size=0.5, random_state=0)


@pytest.fixture
def multilabel():
    X, y = make_multilabel(120, 6, n_classes=3, random_state=0)
    return train_test_split(X, y, test_size=0.5, random_state=0)


def small(**params):
    return BGDClassifier(
        (8,),
        **{
            "random_state": 0,
            "max_iter": 12,
            "tol": None,
            "learning_rate_schedule": "constant",
            "n_iter_no_change": 50,
            **params,
        },
    )


def same(a, b):
    """Two estimators have the same parameters and history, bit for bit."""
    np.testing.assert_array_equal(parameters(a), parameters(b))
    assert a.loss_curve_ == b.loss_curve_
    assert a.updates_curve_ == b.updates_curve_
    assert len(a.seconds_curve_) == len(b.seconds_curve_) == len(a.loss_curve_)
    assert a.validation_loss_curve_ == b.validation_loss_curve_
    assert a.validation_scores_ == b.validation_scores_
    assert (a.n_iter_, a.t_, a.best_loss_) == (b.n_iter_, b.t_, b.best_loss_)


# Validation


def test_own_validation_set_is_only_recorded_without_early_stopping(moons):
    """The descent is the same with and without; the curve is the log-loss."""
    X, X_val, y, y_val = moons
    w = np.random.default_rng(0).uniform(size=len(y_val))
    clf = small().fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=w)
    np.testing.assert_array_equal(parameters(clf), parameters(small().fit(X, y)))
    assert len(clf.validation_loss_curve_) == len(clf.loss_curve_) == 12
    assert clf.validation_scores_ == []
    for k in (1, 5, 12):
        P = small(max_iter=k).fit(X, y).predict_proba(X_val)
        expected = log_loss(y_val, P, sample_weight=w)
        assert clf.validation_loss_curve_[k - 1] == pytest.approx(expected, rel=1e-12)


def test_class_weights_count_in_the_validation_loss(moons):
    X, X_val, y, y_val = moons
    clf = small(class_weight={1: 3.0}).fit(X, y, X_val=X_val, y_val=y_val)
    expected = log_loss(
        y_val, clf.predict_proba(X_val), sample_weight=np.where(y_val == 1, 3, 1)
    )
    assert clf.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_early_stopping_keeps_the_best_parameters(moons, solver):
    """It stops k epochs after the best one and has the parameters of a fit to it."""
    X, X_val, y, y_val = moons
    X, y = X[:30], np.roll(y[:30], 1)  # wrong labels: it soon gets worse
    params = {"solver": solver, "learning_rate": 0.05 if solver == "adam" else 1.0}
    clf = small(
        **params, max_iter=400, tol=0, n_iter_no_change=7, early_stopping=True
    ).fit(X, y, X_val=X_val, y_val=y_val)
    assert clf.stop_reason_ == "early_stopping"
    curve = clf.validation_loss_curve_
    best = int(np.argmin(curve)) + 1
    assert clf.n_iter_ == len(curve) == best + 7
    expected = small(**params, max_iter=best).fit(X, y)
    np.testing.assert_array_equal(parameters(clf), parameters(expected))
    loss = log_loss(y_val, clf.predict_proba(X_val))
    assert loss == pytest.approx(min(curve), rel=1e-12)


@pytest.mark.parametrize(
    "scoring, score",
    [
        ("f1", lambda clf, X, y: f1_score(y, clf.predict(X))),
        ("neg_log_loss", lambda clf, X, y: -log_loss(y, clf.predict_proba(X))),
        (lambda clf, X, y: clf.score(X, y), lambda clf, X, y: clf.score(X, y)),
    ],
    ids=["f1", "neg_log_loss", "callable"],
)
def test_any_scorer(moons, scoring, score):
    X, X_val, y, y_val = moons
    frame, frame_val = (pd.DataFrame(A, columns=["a", "b"]) for A in (X, X_val))
    clf = small(scoring=scoring, early_stopping=True).fit(
        frame, y, X_val=frame_val, y_val=y_val
    )
    assert len(clf.validation_scores_) == len(clf.validation_loss_curve_) == 12
    for k in (1, 12):
        expected = score(small(max_iter=k).fit(X, y), X_val, y_val)
        assert clf.validation_scores_[k - 1] == pytest.approx(expected, rel=1e-12)
    best = int(np.argmax(clf.validation_scores_)) + 1  # the first of the best
    expected = small(max_iter=best).fit(X, y)
    np.testing.assert_array_equal(parameters(clf), parameters(expected))


def test_scorer_is_given_the_weights(moons):
    X, X_val, y, y_val = moons
    w = np.random.default_rng(0).uniform(size=len(y_val))
    clf = small(scoring="accuracy").fit(
        X, y, X_val=X_val, y_val=y_val, sample_weight_val=w
    )
    assert clf.validation_scores_[-1] == clf.score(X_val, y_val, w)


def test_rows_set_aside_are_stratified_and_never_the_only_member():
    """A tenth of each class, rounded, and none of those of weight zero."""
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c", "d"], [100, 60, 40, 1])
    X = np.column_stack([np.arange(201), rng.normal(size=201)])
    w = np.ones(201)
    w[:50] = 0
    seen = []

    def scoring(clf, X, y, sample_weight=None):
        seen.append((X[:, 0], y))
        assert (sample_weight == 1).all()
        return 0.0

    clf = small(scoring=scoring, early_stopping=True, learning_rate=1e-9)
    clf.fit(X, y, w)
    rows, labels = seen[0]
    assert np.unique(labels, return_counts=True)[1].tolist() == [5, 6, 4]
    assert rows.min() >= 50
    assert clf.t_ == 12 * (201 - 15)
    seen.clear()
    clone(clf).fit(X, y, w)
    np.testing.assert_array_equal(seen[0][0], rows)
    seen.clear()
    clone(clf).set_params(random_state=1).fit(X, y, w)
    assert (seen[0][0] != rows).any()


def test_rows_set_aside_of_multilabel(multilabel):
    X, _, y, _ = multilabel
    clf = small(early_stopping=True, validation_fraction=0.25).fit(X, y)
    assert clf.t_ == 12 * 45


@pytest.mark.parametrize(
    "call, match",
    [
        ({"X_val": [[0, 0]]}, "y_val is missing"),
        ({"y_val": [0]}, "X_val is missing"),
        ({"sample_weight_val": [1]}, "X_val is missing"),
        (
            {"X_val": [[0, 0]], "y_val": [7]},
            "In X_val, y_val: y holds the label 7, which is",
        ),
        ({"X_val": [[0, 0, 0]], "y_val": [0]}, "In X_val.*3 features.*expecting 2"),
        ({"X_val": [[0, 0]], "y_val": [0], "sample_weight_val": [0]}, "are zero"),
        ({"X_val": [[0, 0]], "y_val": [0], "sample_weight_val": [-1]}, "_val must not"),
        ({"X_val": [[np.nan, 0]], "y_val": [0]}, "NaN"),
    ],
)
def test_bad_validation_rows(moons, call, match):
    X, _, y, _ = moons
    clf = small().fit(X, y)
    before = parameters(clf).copy()
    with pytest.raises(ValueError, match=match):
        clf.fit(X, y, **call)
    np.testing.assert_array_equal(parameters(clf), before)


def test_too_few_rows_to_set_any_aside():
    """One row of each class with several members is set aside, and one is left."""
    clf = small(early_stopping=True)
    assert clf.fit(np.eye(5), [0, 0, 1, 1, 2]).t_ == 12 * 3
    for y, match in (
        ([0, 1], "no class has two rows"),
        ([0, 0, 0, 1, 1], "cannot set 5 rows aside .*of the 5 rows that could be"),
    ):
        clf.set_params(validation_fraction=0.9)
        with pytest.raises(ValueError, match=f"{match}.*Pass X_val and y_val"):
            clf.fit(np.eye(len(y)), y)


def test_validation_set_through_a_pipeline(moons):
    """The steps before transform X_val too."""
    X, X_val, y, y_val = moons
    X, X_val = 100 * X + 7, 100 * X_val + 7
    scaler = StandardScaler().fit(X)
    expected = small().fit(
        scaler.transform(X), y, X_val=scaler.transform(X_val), y_val=y_val
    )
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = Pipeline(
            [
                ("scale", StandardScaler()),
                ("clf", small().set_fit_request(X_val=True, y_val=True)),
            ],
            transform_input=["X_val"],
        ).fit(X, y, X_val=X_val, y_val=y_val)
    same(pipeline["clf"], expected)


# Stop reasons


def test_stop_reasons(moons):
    X, _, y, _ = moons
    assert small().fit(X, y).stop_reason_ == "max_iter"
    clf = small(tol=1e6, n_iter_no_change=3, learning_rate=0.1)
    assert clf.fit(X, y).stop_reason_ == "converged"
    assert clf.n_iter_ == 4
    assert (
        clf.set_params(early_stopping=True).fit(X, y).stop_reason_ == "early_stopping"
    )
    assert clf.n_iter_ == 4


def test_badly_scaled_features_are_named_in_the_warning(moons):
    X, _, y, _ = moons
    with pytest.warns(ConvergenceWarning, match="badly scaled.*StandardScaler"):
        small(tol=1e-4).fit(X * [1, 1000], y)
    with pytest.warns(ConvergenceWarning) as record:
        small(tol=1e-4).fit(X, y)
    assert "badly scaled" not in str(record[0].message)


# Continuing

HISTORIES = {
    "plain": {},
    "momentum": {"momentum": 0.9, "nesterov": True},
    "adam": {"solver": "adam"},
    "invscaling": {"learning_rate_schedule": "invscaling"},
    "callable": {"learning_rate_schedule": lambda epoch: 0.9**epoch},
    "clipped": {"max_gradient_norm": 0.05},
}


@pytest.mark.parametrize("data", ["moons", "multilabel"])
@pytest.mark.parametrize("history", HISTORIES)
def test_partial_fit_is_fit_epoch_by_epoch(request, data, history):
    X, _, y, _ = request.getfixturevalue(data)
    params = {**HISTORIES[history], "batch_size": 16}
    clf = small(**params)
    for _ in range(12):
        clf.partial_fit(X, y, classes=None if y.ndim == 2 else [0, 1])
    same(clf, small(**params).fit(X, y))


def test_cosine_in_partial_fit_ends_at_max_iter(moons):
    X, _, y, _ = moons
    params = {"learning_rate_schedule": "cosine", "batch_size": 16}
    clf = small(**params)
    for _ in range(12):
        clf.partial_fit(X, y, classes=[0, 1])
    same(clf, small(**params).fit(X, y))
    before = parameters(clf).copy()
    np.testing.assert_array_equal(parameters(clf.partial_fit(X, y)), before)
    assert clf.learning_rate_ == 0


WARM = {
    **HISTORIES,
    "stopping": {"tol": 1e-3, "n_iter_no_change": 4},
    "adaptive": {
        "learning_rate_schedule": "adaptive",
        "tol": 0.01,
        "n_iter_no_change": 2,
    },
    "early stopping": {"early_stopping": True, "solver": "adam", "scoring": "accuracy"},
    "early stopped": {"early_stopping": True, "tol": 0.1, "n_iter_no_change": 3},
}
WARM.pop("callable")  # does not pickle


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("pickled", [False, True], ids=["", "pickled"])
@pytest.mark.parametrize("history", WARM)
def test_warm_start_continues_exactly(moons, history, pickled):
    """max_iter=9, then 20, is max_iter=20: early-stopping state and all."""
    X, _, y, _ = moons
    params = {**WARM[history], "batch_size": 16}
    clf = small(**params, warm_start=True).set_params(max_iter=9).fit(X, y)
    if pickled:
        clf = pickle.loads(pickle.dumps(clf))
    clf.set_params(max_iter=20).fit(X, y)
    expected = small(**params).set_params(max_iter=20).fit(X, y)
    same(clf, expected)
    assert clf.stop_reason_ == expected.stop_reason_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_with_another_goal_goes_on_from_the_model(moons):
    """The rule that ended the last fit does not end this one; its best is no bar."""
    X, X_val, y, y_val = moons
    own = {"X_val": X_val, "y_val": y_val}
    params = {"max_iter": 30, "warm_start": True, "early_stopping": True}
    params.update(batch_size="full", learning_rate=1.0)
    clf = small(**params, scoring="accuracy", n_iter_no_change=3, tol=0).fit(
        X, y, **own
    )
    assert clf.stop_reason_ == "early_stopping"
    for change, call in (
        ({"scoring": None}, own),
        ({"early_stopping": False}, {}),
        ({"tol": None}, {}),
        ({}, {"y": 1 - y}),
    ):
        best, n_iter = parameters(clf).copy(), clf.n_iter_
        clf.set_params(**change, max_iter=n_iter + 1).fit(X, **{"y": y, **call})
        assert clf.n_iter_ == n_iter + 1
        assert (parameters(clf) != best).any()
        # one step away from what it was, not back at some older parameters
        assert np.abs(parameters(clf) - best).max() < 0.5
    assert np.isnan(clf.validation_loss_curve_).sum() == 0
    clf.set_params(max_iter=clf.n_iter_ + 1).fit(X, y, **own)
    assert len(clf.validation_loss_curve_) == clf.n_iter_
    assert np.isnan(clf.validation_loss_curve_).sum() == 3
    with pytest.warns(ConvergenceWarning, match="No epoch was made"):
        clf.set_params(max_iter=1, tol=0).fit(X, y)


def test_a_copy_goes_on_by_itself(moons):
    X, _, y, _ = moons
    clf = small().fit(X, y)
    other = copy(clf).partial_fit(X, y)
    assert (clf.n_iter_, other.n_iter_) == (12, 13)
    clf.partial_fit(X, y)
    other.partial_fit(X, y)
    clf.partial_fit(X, y)
    same(clf, other)
    assert clf.n_iter_ == len(clf.loss_curve_) == 14


def test_a_criterion_that_is_no_number(moons):
    X, X_val, y, y_val = moons
    clf = small(early_stopping=True, scoring=lambda clf, X, y: np.nan)
    with pytest.raises(ValueError, match="gave nan in epoch 1.*scoring"):
        clf.fit(X, y, X_val=X_val, y_val=y_val)
    clf = small(early_stopping=True, class_weight={0: 0.0})
    with pytest.raises(ValueError, match="weights are zero .of the validation rows"):
        clf.fit(X, y, X_val=X_val[y_val == 0], y_val=y_val[y_val == 0])


def test_warm_start_needs_the_same_classes(moons):
    X, _, y, _ = moons
    clf = small(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"classes \[0, 1\]; got classes=\[0, 1, 2\]"):
        clf.fit(X, np.arange(len(y)) % 3)


def test_failed_warm_fit_leaves_curves_and_model(moons):
    X, _, y, _ = moons
    clf = small(activation="relu", warm_start=True).fit(X, y)
    expected = pickle.loads(pickle.dumps(clf))
    clf.set_params(learning_rate=1e200, max_iter=50)
    with pytest.raises(ValueError, match="diverged"):
        clf.fit(X, y)
    same(clf, expected)


def test_partial_fit_after_early_stopping_goes_on_from_the_best(moons):
    X, X_val, y, y_val = moons
    clf = small(early_stopping=True, max_iter=60, momentum=0.9, learning_rate=0.3)
    clf.fit(X[:20], y[:20], X_val=X_val, y_val=y_val)
    best = parameters(clf).copy()
    clf.set_params(learning_rate=1e-12).partial_fit(X, y)
    np.testing.assert_allclose(parameters(clf), best, rtol=0, atol=1e-9)


def test_streaming_does_not_slow_down(moons):
    """A call does not copy the curve of all calls before."""
    X, _, y, _ = moons
    clf = BGDClassifier((), batch_size=1).partial_fit(X, y, classes=[0, 1])
    curves = clf.loss_curve_, clf.updates_curve_, clf.seconds_curve_
    for _ in range(5):
        clf.partial_fit(X[:1], y[:1])
    assert clf.loss_curve_ is curves[0]
    assert clf.updates_curve_ is curves[1]
    assert clf.seconds_curve_ is curves[2]
    assert [len(curve) for curve in curves] == [6, 6, 6]


# Step sizes


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"solver": "adam", "learning_rate": 0.01}, {"solver": "adam"}),
        (
            {"solver": "adam", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
            {"solver": "adam", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
        ),
        (
            {"learning_rate_schedule": "invscaling", "power_t": 0.3},
            {"learning_rate": "invscaling", "power_t": 0.3},
        ),
    ],
    ids=["adam", "adam with its own betas", "invscaling"],
)
def test_solvers_and_schedules_equal_mlp_classifier(kind, ours, theirs):
    """From the same start, 50 epochs to 1e-10, the last batch short."""
    if kind == "multilabel":
        X, y = make_multilabel(70, 6, n_classes=3, random_state=0)
    else:
        K = 2 if kind == "binary" else 4
        X, y = make_classification(70, 6, n_informative=4, n_classes=K, random_state=0)
    X = StandardScaler().fit_transform(X)
    common = {
        "hidden_layer_sizes": (8, 5),
        "activation": "tanh",
        "batch_size": 16,
        "alpha": 0.0,
        "max_iter": 50,
        "shuffle": False,
        "random_state": 3,
    }
    ours = {"learning_rate": 0.01, **ours}
    clf = BGDClassifier(**common, output_activation="softmax", tol=None, **ours)
    clf.fit(X, y)
    theirs = {"solver": "sgd", "momentum": 0, "nesterovs_momentum": False, **theirs}
    mlp = MLPClassifier(
        **common, **theirs, learning_rate_init=0.01, tol=0, n_iter_no_change=1000
    )
    mlp = starting_from(mlp, clf, X, y)
    np.testing.assert_allclose(parameters(clf), parameters(mlp), rtol=0, atol=1e-10)
    np.testing.assert_allclose(clf.loss_curve_, mlp.loss_curve_, rtol=0, atol=1e-10)


def test_adaptive_cuts_to_a_fifth_where_it_would_stop(moons):
    """Patience 3 and an unreachable tol: a cut after each three flat epochs."""
    X, _, y, _ = moons
    steps = []
    for k in range(1, 12):
        clf = small(
            learning_rate=0.1,
            learning_rate_schedule="adaptive",
            tol=1e6,
            n_iter_no_change=3,
            max_iter=k,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            steps.append(clf.fit(X, y).learning_rate_)
    expected = 4 * [0.1] + 3 * [0.02] + 3 * [0.004] + [0.0008]
    np.testing.assert_allclose(steps, expected)
    clf.set_params(max_iter=400).fit(X, y)
    assert clf.stop_reason_ == "converged"
    # 0.1 / 5^8 is the first step size below 1e-6
    assert clf.n_iter_ == 4 + 8 * 3
    assert clf.learning_rate_ == pytest.approx(0.1 / 5**8)


def test_schedules_in_closed_form(moons):
    X, _, y, _ = moons
    for rule, factors in (
        ("constant", [1] * 12),
        ("cosine", [(1 + np.cos(np.pi * k / 12)) / 2 for k in range(12)]),
        ("invscaling", [(150 * k + 1) ** -0.5 for k in range(12)]),
        (lambda epoch: 1 / (1 + epoch), [1 / (1 + k) for k in range(12)]),
    ):
        clf = small(learning_rate=0.1, learning_rate_schedule=rule)
        for factor in factors:
            clf.partial_fit(X, y, classes=[0, 1])
            assert clf.learning_rate_ == pytest.approx(0.1 * factor, rel=1e-12)


@pytest.mark.parametrize("factor", [-1.0, np.nan, np.inf, "half", None, np.ones(1)])
def test_a_schedule_that_gives_no_factor(moons, factor):
    X, _, y, _ = moons
    with pytest.raises(ValueError, match="from learning_rate_schedule for epoch 3"):
        small(learning_rate_schedule=lambda k: factor if k == 3 else 1.0).fit(X, y)


@pytest.mark.filterwarnings("ignore:The loss rose")
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6, 1e9])
def test_clipping_in_float32(scale):
    """However long the gradient, the step of a neuron that starts at 0 has length 1."""
    rng = np.random.default_rng(0)
    X = (scale * rng.normal(size=(50, 20)) + scale).astype(np.float32)
    clf = BGDClassifier(
        (), max_iter=1, tol=None, learning_rate=1.0, alpha=0, max_gradient_norm=0.1,
        batch_size="full",
    ).fit(X, rng.integers(2, size=50))  # fmt: skip
    assert np.linalg.norm(parameters(clf)) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("batch_size", [16, "full"])
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_clipped_gradient_has_the_given_norm(moons, alpha, batch_size):
    """One step per epoch: the displacement is eta c g / ||g||, penalty included."""
    X, _, y, _ = moons
    X, y = X[:16], y[:16]
    network = Network((2, 8, 1), "logistic", "logistic")
    start = network.initial_parameters(np.random.RandomState(0), float)
    start = np.concatenate(
        [p.ravel() for p in network.coefs(start) + network.intercepts(start)]
    )
    params = {"alpha": alpha, "learning_rate": 0.1, "max_iter": 1}
    plain = parameters(small(**params, batch_size=batch_size).fit(X, y)) - start
    for c in (1e-3, 0.1, 100.0):
        clf = small(**params, batch_size=batch_size, max_gradient_norm=c).fit(X, y)
        length = min(0.1 * c, np.linalg.norm(plain))
        expected = plain / np.linalg.norm(plain) * length
        np.testing.assert_allclose(
            parameters(clf) - start, expected, rtol=1e-9, atol=1e-12
        )


# Watching


@pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn 1.9 brought callbacks")
class TestCallbacks:
    def make(self, stop_at=None):
        class Recorder:
            def __init__(self):
                self.events = []

            def setup(self, estimator, context):
                self.events.append("setup")

            def teardown(self, estimator, context):
                self.events.append("teardown")

            def on_fit_task_begin(self, estimator, context):
                self.events.append(f"begin {context.task_name}")

            def on_fit_task_end(self, estimator, context, *, X, fitted_estimator):
                self.events.append(f"end {context.task_name}")
                self.last, self.seen = fitted_estimator.predict_proba(X), X
                return context.task_name == "epoch" and context.task_id == stop_at

        return Recorder()

    def test_one_task_per_epoch(self, moons):
        X, _, y, _ = moons
        recorder = self.make()
        clf = small(max_iter=3).set_callbacks(recorder).fit(X, y)
        epochs = ["begin epoch", "end epoch"] * 3
        assert recorder.events == [
            "setup", "begin fit", *epochs, "end fit", "teardown",
        ]  # fmt: skip
        np.testing.assert_array_equal(recorder.last, clf.predict_proba(X))

    def test_returning_true_stops(self, moons):
        X, _, y, _ = moons
        clf = small().set_callbacks(self.make(stop_at=4)).fit(X, y)
        assert clf.n_iter_ == 5
        assert clf.stop_reason_ == "callback"
        same(clf, small(max_iter=5).fit(X, y))

    def test_teardown_after_an_error(self, moons):
        X, _, y, _ = moons
        recorder = self.make()
        clf = small(activation="relu", learning_rate=1e200).set_callbacks(recorder)
        with pytest.raises(ValueError, match="diverged"):
            clf.fit(X, y)
        assert recorder.events[-1] == "teardown"

    def test_scoring_monitor(self, moons):
        from sklearn.callback import ScoringMonitor

        X, _, y, _ = moons
        monitor = ScoringMonitor(scoring="accuracy")
        clf = small(max_iter=4).set_callbacks(monitor).fit(X, y)
        scores = [
            row["accuracy"]
            for row in monitor.get_logs(select="most_recent").data
            if row["task_name"] == "epoch"
        ]
        assert scores == [small(max_iter=k).fit(X, y).score(X, y) for k in range(1, 5)]
        assert clf.n_iter_ == 4

    def test_frames_keep_their_names(self, moons):
        """A callback that predicts is not told that names are missing."""
        X, _, y, _ = moons
        frame = pd.DataFrame(X, columns=["a", "b"])
        small(max_iter=2).set_callbacks(self.make()).fit(frame, y)
        stopping = small(max_iter=2, early_stopping=True).set_callbacks(self.make())
        stopping.fit(frame, y, X_val=frame, y_val=y)
        stopping.fit(frame, y)  # sets rows aside

    def test_the_end_shows_the_model(self, moons):
        """The last hook sees the parameters that are kept, rows set aside or not."""
        X, _, y, _ = moons
        X = pd.DataFrame(X, columns=["a", "b"])
        recorder = self.make()
        clf = small(
            early_stopping=True, scoring=lambda clf, X, y: -clf.coefs_[0].max()
        ).set_callbacks(recorder)
        clf.fit(X, y)
        assert recorder.last.shape[0] == clf.t_ // 12
        rows = recorder.seen
        vars(clf).pop("feature_names_in_")
        np.testing.assert_array_equal(recorder.last, clf.predict_proba(rows))

    def test_progress_bar_through_search_and_pipeline(self, moons, capsys, monkeypatch):
        pytest.importorskip("rich")
        from sklearn.callback import ProgressBar

        monkeypatch.setenv("COLUMNS", "200")
        X, _, y, _ = moons
        pipeline = Pipeline(
            [
                ("scale", StandardScaler()),
                ("clf", small(max_iter=3, tol=None, learning_rate=0.1)),
            ]
        )
        search = GridSearchCV(pipeline, {"clf__batch_size": [8, "full"]}, cv=2)
        search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
        assert "BGDClassifier" in capsys.readouterr().out


@pytest.mark.skipif(HAS_CALLBACKS, reason="scikit-learn before 1.9")
def test_without_callbacks_the_methods_are_not_there():
    assert not hasattr(BGDClassifier, "set_callbacks")


# Threads


@pytest.mark.parametrize("change", ["features", "classes", "layers"])
def test_a_model_may_be_replaced_while_others_predict(change):
    """A prediction sees one model as a whole, the old or the new, or an error."""
    rng = np.random.default_rng(0)
    data = []
    for n in (3, 700):
        n_features, n_classes = (5, n) if change == "classes" else (n, 3)
        X = rng.normal(size=(1400, n_features)).astype(np.float32)
        data.append((X, np.arange(1400) % n_classes))
    clf = BGDClassifier((4,), max_iter=1, tol=None, random_state=0, learning_rate=0.1)
    clf.fit(*data[0])
    done, failures = threading.Event(), []

    def predict(X):
        while not done.is_set():
            try:
                P = clf.predict_proba(X[:5])
                assert P.shape[1] in (3, 700)
                assert np.isfinite(P).all()
                assert set(clf.predict(X[:5])) <= set(range(700))
                assert [W.ndim for W in clf.coefs_] == [2] * len(clf.intercepts_)
            except ValueError as error:
                if "features, but BGDClassifier is expecting" not in str(error):
                    failures.append(error)
            except BaseException as error:
                failures.append(error)

    with ThreadPoolExecutor(3) as pool:
        for rows, _ in [data[0], data[1], data[0]]:
            pool.submit(predict, rows)
        for k in range(60):
            if change == "layers":
                clf.set_params(hidden_layer_sizes=[(4,), (90, 50)][k % 2])
                clf.fit(*data[0])
            else:
                clf.fit(*data[k % 2])
        done.set()
    assert failures == []


def test_threads_may_call_partial_fit_at_once():
    """A step may be lost, nothing else."""
    X, y = load_digits(return_X_y=True)
    clf = small(batch_size=32, learning_rate=0.1).partial_fit(X / 16, y, range(10))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: clf.partial_fit(X / 16, y), range(40)))
    assert np.isfinite(clf.predict_proba(X / 16)).all()
    assert 11 <= clf.n_iter_ <= 41
    assert clf.partial_fit(X, y).n_iter_ == len(clf.loss_curve_)


def test_threads_may_fit_and_predict_at_once():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    clf = small(batch_size=32).fit(X, y)
    P = clf.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: clf.predict_proba(X), range(8)):
            np.testing.assert_array_equal(result, P)
        for other in pool.map(lambda _: small(batch_size=32).fit(X, y), range(4)):
            same(other, clf)


def test_a_fit_shows_its_model_only_when_it_is_done(moons):
    """Another thread that predicts meanwhile sees the old model."""
    X, _, y, _ = moons
    clf = small().fit(X, y)
    P = clf.predict_proba(X)
    seen = []

    def look(epoch):
        seen.append(clf.predict_proba(X))
        return 1.0

    clf.set_params(learning_rate_schedule=look, max_iter=5).fit(X, y)
    assert len(seen) == 5
    for during in seen:
        np.testing.assert_array_equal(during, P)
