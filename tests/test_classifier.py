"""The estimator: labels, containers, predictions, and its use in scikit-learn."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from helpers import initial, parameters, same, small
from scipy import sparse
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    make_classification,
    make_multilabel_classification,
)
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.fixes import parse_version

from skbgd import BGDClassifier

OLD_SKLEARN = parse_version(sklearn.__version__) < parse_version("1.7")


@pytest.fixture
def binary():
    return make_classification(60, 5, random_state=0)


@pytest.fixture
def three_classes():
    return make_classification(
        90, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0
    )


@pytest.fixture
def multilabel():
    return make_multilabel_classification(80, 6, n_classes=4, random_state=0)


def quick(**params):
    """A classifier with 6 hidden units that makes 30 steps with the full batch."""
    defaults = {"hidden_layer_sizes": (6,), "batch_size": "full", "max_iter": 30}
    return small(**{**defaults, "alpha": 2e-4, **params})


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes"],
        [False, True],
        [-1, 1],
        [3, 2**40],
        [0.0, 1.0],
        np.array(["a", "bcd"], dtype=object),
        np.array([1, 2], dtype=np.uint8),
        np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]").astype(str),
    ],
    ids=lambda labels: f"{np.asarray(labels).dtype}",
)
def test_binary_labels_of_any_type(binary, labels):
    """Predictions return them, and nothing else depends on them."""
    X, y = binary
    labels = np.asarray(labels)
    clf = quick().fit(X, labels[y])
    np.testing.assert_array_equal(clf.classes_, labels)
    assert clf.predict(X).dtype == labels.dtype
    expected = quick().fit(X, y)
    np.testing.assert_array_equal(clf.predict(X), labels[expected.predict(X)])
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    again = quick()
    for _ in range(30):
        again.partial_fit(X, labels[y], classes=labels)
    np.testing.assert_array_equal(again.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("output", ["logistic", "softmax"])
def test_multiclass(three_classes, output):
    """Three units, whose outputs sum to 1, of a softmax or after division."""
    X, y = three_classes
    clf = quick(output_activation=output).fit(X, y)
    Z, P, log_P = (
        clf.decision_function(X),
        clf.predict_proba(X),
        clf.predict_log_proba(X),
    )
    assert clf.n_outputs_ == 3
    assert clf.out_activation_ == output
    assert clf.n_layers_ == 3
    assert Z.shape == P.shape == log_P.shape == (90, 3)
    a = np.exp(Z) if output == "softmax" else 1 / (1 + np.exp(-Z))
    np.testing.assert_allclose(P, a / a.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_P), P, rtol=1e-12)
    np.testing.assert_array_equal(clf.predict(X), P.argmax(axis=1))


@pytest.mark.parametrize("output", ["logistic", "softmax"])
def test_binary_has_one_sigmoid_unit(binary, output):
    """It gives the probability of the second class, for any output_activation."""
    X, y = binary
    clf = quick(output_activation=output).fit(X, y)
    Z, P = clf.decision_function(X), clf.predict_proba(X)
    assert clf.n_outputs_ == 1
    assert clf.out_activation_ == "logistic"
    assert Z.shape == (60,)
    np.testing.assert_allclose(P[:, 1], 1 / (1 + np.exp(-Z)), rtol=1e-12)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_array_equal(clf.predict(X), Z > 0)


@pytest.mark.parametrize("output", ["logistic", "softmax"])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array, pd.DataFrame, list])
def test_multilabel(multilabel, output, convert):
    """One sigmoid unit per label for any output_activation, y in any container."""
    X, Y = multilabel
    clf = quick(output_activation=output).fit(X, convert(Y))
    P = clf.predict_proba(X)
    assert clf.out_activation_ == "logistic"
    assert P.shape == clf.decision_function(X).shape == (80, 4)
    np.testing.assert_array_equal(clf.classes_, np.arange(4))
    np.testing.assert_array_equal(clf.predict(X), P > 0.5)
    np.testing.assert_allclose(P, quick().fit(X, Y).predict_proba(X), rtol=1e-12)


def test_two_labels_are_not_two_classes(multilabel):
    """Two columns of indicators have two sigmoid units, even in a call with one row."""
    X, Y = multilabel
    clf = quick().fit(X, Y[:, :2])
    assert clf.n_outputs_ == 2
    assert clf.predict(X).shape == (80, 2)
    streamed = quick().partial_fit(X[:1], Y[:1, :2]).partial_fit(X[1:3], Y[1:3, :2])
    assert streamed.n_outputs_ == 2


def test_partial_fit_takes_a_subset_of_the_classes(three_classes):
    """The first call, and rows of one class later."""
    X, y = three_classes
    clf = quick().partial_fit(X[y != 2], y[y != 2], classes=[2, 0, 1])
    np.testing.assert_array_equal(clf.classes_, [0, 1, 2])
    for _ in range(60):
        for label in range(3):
            clf.partial_fit(X[y == label][:1], y[y == label][:1])
        clf.partial_fit(X, y, classes=[0, 1, 2])
    assert clf.score(X, y) > 0.7


# Containers


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda X: X.repeat(2, axis=1)[:, ::2],
        lambda X: X[::-1][::-1],
        list,
        pd.DataFrame,
        lambda X: X.astype(np.float128) if hasattr(np, "float128") else X,
        lambda X: X.astype(">f8"),
        lambda X: pd.DataFrame(X.astype(">f8")),
    ],
    ids=[
        "fortran", "strided", "reversed", "list", "frame", "longdouble", "big endian",
        "big endian frame",
    ],
)  # fmt: skip
def test_layout_of_x_does_not_matter(binary, convert):
    """Results are equal to the last bit."""
    X, y = binary
    expected = quick().fit(X, y).predict_proba(X)
    given = convert(X)
    clf = quick().fit(given, y)
    np.testing.assert_array_equal(clf.predict_proba(given), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool, np.float16])
def test_other_dtypes_compute_in_float64(binary, dtype):
    """Ints, booleans and float16 are converted."""
    X, y = binary
    given = np.abs(X * 10).astype(dtype)  # C leaves negative to unsigned undefined
    clf = quick().fit(given, y)
    assert clf.coefs_[0].dtype == np.float64
    np.testing.assert_array_equal(
        clf.predict_proba(given),
        quick().fit(given.astype(float), y).predict_proba(given.astype(float)),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_mapped_read_only_input(binary, dtype, tmp_path):
    """Training and predictions do not write into memory maps."""
    X, y = binary
    for name, array in (("X", X.astype(dtype)), ("y", y), ("w", np.ones(60))):
        np.save(tmp_path / f"{name}.npy", array)
    X_map, y_map, w_map = (
        np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "Xyw"
    )
    clf = quick(batch_size=7).fit(X_map, y_map, sample_weight=w_map)
    clf.partial_fit(X_map, y_map, sample_weight=w_map)
    assert clf.predict_proba(X_map).dtype == dtype
    np.testing.assert_array_equal(X_map, X.astype(dtype))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_feature_names(binary, library):
    """Frames give feature_names_in_, which predictions compare."""
    X, y = binary
    names = [f"x{i}" for i in range(5)]
    if library == "pandas":
        frame = pd.DataFrame(X, columns=names)
    else:
        pl = pytest.importorskip("polars")
        if OLD_SKLEARN and parse_version(pl.__version__) >= parse_version("2"):
            pytest.skip("scikit-learn 1.6 does not know the frames of polars 2")
        frame = pl.DataFrame(X, schema=names)
    clf = quick().fit(frame, y)
    assert clf.feature_names_in_.tolist() == names
    np.testing.assert_array_equal(
        clf.predict_proba(frame), quick().fit(X, y).predict_proba(X)
    )
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(pd.DataFrame(X, columns=names[::-1]))


def test_y_as_pandas_and_polars_series(binary):
    """They equal an array."""
    pl = pytest.importorskip("polars")
    X, y = binary
    expected = quick().fit(X, y).predict_proba(X)
    labels = np.array(["no", "yes"])[y]
    for series in (
        pd.Series(labels),
        pl.Series(labels),
        pd.Series(labels).astype("category"),
    ):
        clf = quick().fit(X, series)
        assert clf.classes_.tolist() == ["no", "yes"]
        np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_inputs_are_not_changed(binary):
    """Neither by training nor by predictions."""
    X, y = binary
    w = np.linspace(0, 2, 60)
    copies = X.copy(), y.copy(), w.copy()
    clf = quick(class_weight="balanced", batch_size=8).fit(X, y, w)
    clf.set_params(class_weight={0: 2}).partial_fit(X, y, sample_weight=w)
    clf.predict_proba(X)
    for array, copy in zip((X, y, w), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# Weights of classes


@pytest.mark.parametrize("partial", [False, True], ids=["fit", "partial_fit"])
def test_class_weight_multiplies_sample_weight(three_classes, partial):
    """Classes that are not named have weight 1."""
    X, y = three_classes
    w = np.random.default_rng(0).uniform(size=90)
    class_weight = {0: 2.0, 2: 0.5}

    def train(clf, w):
        if partial:
            return clf.partial_fit(X, y, classes=[0, 1, 2], sample_weight=w)
        return clf.fit(X, y, w)

    clf = train(quick(class_weight=class_weight), w)
    expected = train(quick(), w * np.array([2.0, 1.0, 0.5])[y])
    np.testing.assert_allclose(
        clf.predict_proba(X), expected.predict_proba(X), rtol=1e-12
    )


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "labels", ["abc", [True, False, "rare"], [1.0, 2.0, 3]], ids=str
)
def test_class_weight_may_name_a_class_without_rows(binary, labels, method):
    """It is ignored if all other classes have a weight, which may be 0."""
    X, y = binary
    y = np.array([*labels[:2]])[y]
    given = dict(zip(labels, [0.0, 5.0, 50.0], strict=True))
    for given[labels[0]] in (0.0, 2.0):
        other, expected = quick(class_weight=given), quick(class_weight=dict(given))
        del expected.class_weight[labels[2]]
        for clf in (other, expected):
            if method == "fit":
                clf.fit(X, y)
            else:
                clf.partial_fit(X, y, classes=[*labels[:2]])
        same(other, expected)


def test_a_search_over_folds_that_lack_a_class_with_a_weight(binary):
    """class_weight may name all classes of all folds."""
    X, y = binary
    y = np.where(np.arange(len(y)) >= 45, 2, y)
    clf = quick(class_weight={0: 1, 1: 5, 2: 50}, max_iter=2)
    grid = {"learning_rate": [0.1, 0.2]}
    search = GridSearchCV(clf, grid, cv=TimeSeriesSplit(3), error_score="raise")
    assert search.fit(X, y).best_estimator_.classes_.tolist() == [0, 1, 2]


def test_balanced_counts_weights(binary):
    """ "balanced" is n / (n_classes count), where a row of weight 2 counts as two."""
    X, y = binary
    keep = np.r_[np.flatnonzero(y == 0)[:8], np.flatnonzero(y == 1)]
    X, y = X[keep], y[keep]
    times = np.random.default_rng(0).integers(1, 3, size=len(y))
    clf = quick(class_weight="balanced").fit(X, y, times)
    repeated = quick(class_weight="balanced").fit(X.repeat(times, 0), y.repeat(times))
    np.testing.assert_allclose(
        clf.predict_proba(X), repeated.predict_proba(X), rtol=1e-9
    )
    by_hand = times / np.bincount(y, weights=times)[y]
    np.testing.assert_allclose(
        clf.predict_proba(X), quick().fit(X, y, by_hand).predict_proba(X), rtol=1e-9
    )


def test_balanced_with_a_class_of_weight_zero(three_classes):
    """A class without weight is not learned."""
    X, y = three_classes
    clf = quick(class_weight="balanced").fit(X, y, (y != 2).astype(float))
    assert np.isfinite(clf.predict_proba(X)).all()
    assert set(clf.predict(X)) <= {0, 1}


# Predictions


@pytest.mark.parametrize("dtype, atol", [(np.float64, 1e-7), (np.float32, 1e-6)])
@pytest.mark.parametrize("hidden", [(), (6,), (300, 40)])
def test_prediction_of_a_row_does_not_depend_on_the_others(hidden, dtype, atol):
    """Except for rounding."""
    X, y = make_classification(700, 30, n_informative=9, n_classes=3, random_state=0)
    X = X.astype(dtype)
    clf = quick(hidden_layer_sizes=hidden, learning_rate=0.1, max_iter=3).fit(X, y)
    P = clf.predict_proba(X)
    for rows in ([0], [699], range(3), range(255, 258), range(600)):
        rows = list(rows)
        np.testing.assert_allclose(clf.predict_proba(X[rows]), P[rows], atol=atol)


def test_log_probabilities_are_finite_far_out(three_classes):
    """A probability that underflows has a finite logarithm, and rows sum to 1."""
    X, y = three_classes
    for output in ("logistic", "softmax"):
        clf = quick(hidden_layer_sizes=(), output_activation=output).fit(X, y)
        far = 1e4 * X
        log_P, P = clf.predict_log_proba(far), clf.predict_proba(far)
        assert np.isfinite(log_P).all()
        assert (P == 0).any()
        np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoids_that_all_underflow_still_sum_to_1(three_classes, dtype):
    """Probabilities are then computed from logarithms."""
    X, y = three_classes
    X = X.astype(dtype)
    clf = quick(hidden_layer_sizes=(), output_activation="logistic").fit(X, y)
    clf.intercepts_[0][:] -= 2000
    assert (expit(clf.decision_function(X)) == 0).all()
    P = clf.predict_proba(X)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(P.argmax(axis=1), clf.predict(X))


# In scikit-learn


def test_pickle_is_about_as_large_as_the_weights():
    """It predicts and resumes as the original does."""
    X, y = load_digits(return_X_y=True)
    clf = BGDClassifier((300,), max_iter=2, tol=None, random_state=0).fit(X, y)
    nbytes = sum(p.nbytes for p in clf.coefs_ + clf.intercepts_)
    dump = pickle.dumps(clf)
    assert len(dump) < 1.05 * nbytes + 2000
    loaded = pickle.loads(dump)
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    clf.partial_fit(X, y), loaded.partial_fit(X, y)
    np.testing.assert_array_equal(loaded.coefs_[0], clf.coefs_[0])


@pytest.mark.parametrize("scaler", [StandardScaler(), "passthrough"], ids=str)
def test_pipeline_and_grid_search(scaler):
    """A grid over step and batch size, behind a scaler or without one."""
    X, y = load_breast_cancer(return_X_y=True)
    clf = BGDClassifier((8,), random_state=0)
    grid = {
        "clf__learning_rate": [0.03, 0.3, "auto"],
        "clf__batch_size": [1, 32, "full"],
    }
    pipeline = Pipeline([("scaler", scaler), ("clf", clf)])
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.96
    assert search.predict_proba(X).shape == (569, 2)


def test_params_of_numpy_types_are_accepted(binary):
    """Grids are often arrays of NumPy."""
    X, y = binary
    clf = quick(
        hidden_layer_sizes=np.array([4, 3]),
        batch_size=np.int32(8),
        learning_rate=np.float32(0.25),
        activation=np.str_("tanh"),
        alpha=np.float64(0),
        max_iter=np.int64(3),
        shuffle=np.bool_(True),
    )
    assert clone(clf).fit(X, y).n_layers_ == 4
    assert quick(hidden_layer_sizes=range(3, 5)).fit(X, y).n_layers_ == 4


def test_an_int_is_one_hidden_layer(binary):
    """hidden_layer_sizes=6 equals (6,)."""
    X, y = binary
    first = quick(hidden_layer_sizes=6).fit(X, y)
    np.testing.assert_array_equal(first.coefs_[0], quick().fit(X, y).coefs_[0])


def test_multilabel_partial_fit_takes_classes_like_mlp(multilabel):
    """They must be the numbers of the labels."""
    X, Y = multilabel
    with_classes = quick().partial_fit(X, Y, classes=[0, 1, 2, 3])
    expected = quick().partial_fit(X, Y)
    np.testing.assert_array_equal(with_classes.coefs_[0], expected.coefs_[0])
    with pytest.raises(ValueError, match="numbers 0 to 3.*Omit classes"):
        quick().partial_fit(X, Y, classes=["a", "b", "c", "d"])


@pytest.mark.parametrize("number", [3, 0.25, np.float32(2), np.int64(7)], ids=repr)
def test_one_weight_for_all_rows(binary, number):
    """A number as sample_weight is the weight of every row, as in scikit-learn."""
    X, y = binary
    clf = quick(early_stopping=True).fit(X, y, number)
    expected = quick(early_stopping=True).fit(X, y, np.full(len(y), number))
    np.testing.assert_array_equal(clf.coefs_[0], expected.coefs_[0])
    clf.partial_fit(X, y, sample_weight=number)
    expected.partial_fit(X, y, sample_weight=np.full(len(y), number))
    np.testing.assert_array_equal(clf.coefs_[0], expected.coefs_[0])
    clf.fit(X, y, X_val=X, y_val=y, sample_weight_val=number)
    weights = np.full(len(y), number)
    expected.fit(X, y, X_val=X, y_val=y, sample_weight_val=weights)
    assert clf.validation_loss_curve_ == expected.validation_loss_curve_
    with pytest.raises(ValueError, match="All weights are zero"):
        clf.fit(X, y, 0)


def test_extreme_weights(binary):
    """Only the ratios of weights matter, even if their sums or products overflow."""
    X, y = binary
    expected = quick(class_weight={0: 2.0}).fit(X, y).predict_proba(X)
    for scale in (1e308, 1e-308):
        clf = quick(class_weight={0: 2.0}).fit(X, y, np.full(60, scale))
        np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-9)
        balanced = quick(class_weight="balanced").fit(X, y, np.full(60, scale))
        np.testing.assert_allclose(
            balanced.predict_proba(X),
            quick(class_weight="balanced").fit(X, y).predict_proba(X),
            rtol=1e-9,
        )
        quick(early_stopping=True).fit(X, y, np.full(60, scale))
    tiny = quick(class_weight={0: 1e-200, 1: 5e-201}).fit(X, y, np.full(60, 1e-200))
    np.testing.assert_allclose(tiny.predict_proba(X), expected, rtol=1e-9)


@pytest.mark.parametrize("scale", [3.0, 1.0, 0.1])
@pytest.mark.parametrize(
    "activation, first, gain",
    [("logistic", 3, 4), ("tanh", 1.5, 1), ("relu", 2**0.5, 1), ("identity", 1, 1)],
)
def test_initial_weights(activation, first, gain, scale):
    """Uniform in +-c sqrt(3 / d) in the first layer, then +-g sqrt(6 / (in + out)).

    W_1 is also divided by the features' root mean square, or by its root if that is
    larger than 1.
    """
    X, y = make_classification(60, 5, random_state=0)
    X *= scale / np.sqrt((X**2).mean())
    clf = small(hidden_layer_sizes=(400, 300), activation=activation, standardize=False)
    start = initial(clf, X, y)
    bounds = [first * np.sqrt(3 / 5)] + [
        g * np.sqrt(6 / sum(W.shape))
        for g, W in zip((gain, 1), start.coefs_[1:], strict=True)
    ]
    for W, b, bound in zip(start.coefs_, start.intercepts_, bounds, strict=True):
        assert np.abs(b).max() <= bound
        if len(W) == 5:
            bound /= np.sqrt(scale) if scale > 1 else scale
        assert 0.98 * bound < np.abs(W).max() <= bound * (1 + 1e-12)
        assert abs(W.mean()) < 0.1 * bound


def test_initial_weights_without_hidden_layers(binary):
    """They are 0."""
    start = initial(small(hidden_layer_sizes=()), *binary)
    np.testing.assert_allclose(parameters(start), 0, atol=1e-290)


def test_a_random_state_instance_advances(binary):
    """Two fits with the same instance have other initial weights."""
    X, y = binary
    rng = np.random.RandomState(0)
    first = quick().set_params(random_state=rng).fit(X, y).coefs_[0]
    second = quick().set_params(random_state=rng).fit(X, y).coefs_[0]
    assert (first != second).any()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("hidden", [(), (20,), (20, 10), (20, 10, 5)])
@pytest.mark.parametrize(
    "n, d, K",
    [(2, 1, 2), (5, 1, 2), (300, 10_000, 3), (1000, 7, 100), (100_000, 4, 2)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shapes(hidden, n, d, K, dtype):
    """Few and many rows, features and classes: no result is NaN or infinite."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(K, d))
    y = np.arange(n) % K
    X = (centers[y] + 0.1 * rng.normal(size=(n, d))).astype(dtype)
    clf = BGDClassifier(hidden, max_iter=5, random_state=0).fit(X, y)
    P = clf.predict_proba(X)
    assert P.shape == (n, K)
    assert np.isfinite(P).all()
    assert np.isfinite(clf.loss_curve_).all()


def test_single_row(binary):
    """partial_fit learns from one row, hence one class, at a time.

    The first row alone has no mean and scale for standardize=True.
    """
    X, y = binary
    clf = BGDClassifier((), batch_size=1, random_state=0, standardize=False)
    for x, label in zip(X, y, strict=True):
        clf.partial_fit([x], [label], classes=[0, 1])
    assert clf.t_ == clf.n_iter_ == 60
    assert clf.score(X, y) > 0.8


def test_html_repr_has_no_link(binary):
    """scikit-learn's own estimators link to its documentation."""
    X, y = binary
    for clf in (quick(alpha=0.1), quick().fit(X, y)):
        html = estimator_html_repr(clf)
        assert "BGDClassifier" in html
        assert "href" not in html


# Linear models


@pytest.mark.parametrize("kind", ["binary", "multiclass", "softmax", "multilabel"])
def test_coef_of_a_network_without_hidden_layers(kind):
    """It has the shape of LogisticRegression's, and is a view as coefs_ is."""
    X, y = load_iris(return_X_y=True)
    if kind == "binary":
        y = y == 1
    elif kind == "multilabel":
        y = np.column_stack([y > 0, y > 1]).astype(int)
    output = "softmax" if kind == "softmax" else "logistic"
    clf = BGDClassifier((), output_activation=output, max_iter=5, tol=None).fit(X, y)
    n_outputs = {"binary": 1, "multilabel": 2}.get(kind, 3)
    assert clf.coef_.shape == (n_outputs, 4)
    assert clf.intercept_.shape == (n_outputs,)
    Z = (X - clf.mean_) / clf.scale_ @ clf.coef_.T + clf.intercept_
    np.testing.assert_allclose(clf.decision_function(X).reshape(Z.shape), Z, rtol=1e-9)
    clf.coef_[0, 1] = 7.0
    assert clf.coefs_[0][1, 0] == 7.0


def test_no_coef_with_hidden_layers_or_before_fit():
    """coef_ and intercept_ belong to linear models."""
    for clf in (BGDClassifier(()), BGDClassifier((3,), max_iter=1, tol=None)):
        if clf.hidden_layer_sizes:
            clf.fit(*load_iris(return_X_y=True))
        assert not hasattr(clf, "coef_")
        assert not hasattr(clf, "intercept_")


def test_selection_of_features():
    """RFE and SelectFromModel use coef_."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    clf = BGDClassifier((), max_iter=30, tol=None)
    assert RFE(clf, n_features_to_select=5, step=5).fit(X, y).support_.sum() == 5
    assert 0 < SelectFromModel(clf).fit(X, y).transform(X).shape[1] < 30


def test_weights_cannot_be_lost():
    """An assignment to an item of coefs_ is an error, writing into it is not."""
    X, y = load_iris(return_X_y=True)
    clf = BGDClassifier((3,), max_iter=1, tol=None, random_state=0).fit(X, y)
    with pytest.raises(TypeError):
        clf.coefs_[0] = np.zeros((4, 3))
    clf.coefs_[0][:] = 0
    clf.intercepts_[0][:] = 0
    assert np.ptp(clf.decision_function(X), axis=0).max() == 0
