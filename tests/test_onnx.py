"""skbgd.onnx: onnxruntime predicts what the estimator predicts."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from skbgd import BGDClassifier

skl2onnx = pytest.importorskip("skl2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import skbgd.onnx  # noqa: E402, F401

ATOL = {"float32": 1e-6, "float64": 1e-12}
KINDS = ["binary", "sigmoids", "softmax", "multilabel"]
ACTIVATIONS = ["logistic", "tanh", "relu", "identity"]
OPSETS = [7, 9, 11, 13, 15, 18, skl2onnx.__max_supported_opset__]


def run(graph, *inputs):
    """The outputs of a graph for its inputs."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    names = [expected.name for expected in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))


def convert(model, X, **options):
    """The graph for rows like X, with probabilities as an array."""
    return skl2onnx.to_onnx(model, X[:1], options={"zipmap": False, **options})


def targets(kind, n, rng):
    if kind == "multilabel":
        return rng.integers(0, 2, (n, rng.integers(2, 5)))
    n_classes = 2 if kind == "binary" else rng.integers(3, 8)
    return rng.permutation(np.arange(n) % n_classes)


def fitted(kind="binary", dtype="float64", labels=None, **params):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4)).astype(dtype)
    y = targets(kind, len(X), rng)
    if labels is not None:
        y = np.asarray(labels)[y % len(labels)]
    output = "softmax" if kind == "softmax" else "logistic"
    params = {"hidden_layer_sizes": (5,), "max_iter": 5, "tol": None, **params}
    return BGDClassifier(output_activation=output, random_state=0, **params).fit(
        X, y
    ), X


def check(model, X, graph=None, atol=None):
    """Assert that labels are equal and probabilities agree to rounding."""
    label, P = run(graph or convert(model, X), X)
    np.testing.assert_array_equal(label, model.predict(X))
    assert P.dtype == X.dtype
    expected = model.predict_proba(X)
    assert P.shape == expected.shape
    atol = ATOL[X.dtype.name] if atol is None else atol
    np.testing.assert_allclose(P, expected, rtol=0, atol=atol)


# Probabilities


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(100))
def test_random_settings(seed, dtype):
    """Predictions agree for any activation, output, depth and width."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % 4]
    n, d = 100, int(rng.integers(1, 40))
    X = rng.normal(size=(n, d)).astype(dtype)
    clf = BGDClassifier(
        rng.integers(1, 100, rng.integers(0, 4)).tolist(),
        activation=ACTIVATIONS[seed // 4 % 4],
        output_activation="softmax" if kind == "softmax" else "logistic",
        solver="adam",
        max_iter=10,
        tol=None,
        random_state=seed,
    ).fit(X, targets(kind, n, rng))
    check(clf, X)


@pytest.mark.parametrize("kind", KINDS)
def test_without_standardization(kind):
    """The graph begins with the first layer."""
    clf, X = fitted(kind, standardize=False)
    graph = convert(clf, X)
    assert graph.graph.node[0].op_type == "MatMul"
    check(clf, X, graph)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(), (5,)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_raw_features(kind, hidden, dtype):
    """The graph standardizes years, large numbers, two values and constants exactly.

    Also in float32, which would lose digits of the mean.
    """
    rng = np.random.default_rng(0)
    columns = [
        rng.integers(1990, 2030, size=200),
        1e6 + rng.integers(-1, 2, size=200),
        1e-6 * rng.normal(size=200),
        rng.choice([-3.0, 5.0], size=200),
        np.full(200, 7.7),
    ]
    X = np.column_stack(columns).astype(dtype)
    clf = BGDClassifier(
        hidden, max_iter=20, tol=None, random_state=0,
        output_activation="softmax" if kind == "softmax" else "logistic",
    ).fit(X, targets(kind, 200, rng))  # fmt: skip
    assert clf.mean_ is not None
    check(clf, X, atol=2 * ATOL[dtype])
    in_double = X.astype("float64")
    P = run(convert(clf, in_double), in_double)[1]
    np.testing.assert_allclose(P, clf.predict_proba(X), rtol=0, atol=2 * ATOL[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_pre_activations(kind, dtype):
    """Predictions agree where sigmoids round to 0 or 1, even all of them."""
    clf, X = fitted(kind, dtype, hidden_layer_sizes=())
    rng = np.random.default_rng(0)
    n_outputs = clf.n_outputs_
    clf.coefs_[0][:] = rng.normal(size=(4, n_outputs))
    clf.intercepts_[0][:] = 0
    for scale in (10, 100, 1000):
        for shift in (-scale, 0, scale):
            clf.intercepts_[0][:] = shift
            rows = (X * scale).astype(dtype)
            Z = clf.decision_function(rows)
            assert np.abs(Z).max() > scale
            label, P = run(convert(clf, rows), rows)
            expected = clf.predict_proba(rows)
            assert np.isfinite(expected).all()
            # Rounding errors of z grow with z; they are not errors of the export.
            slack = 4 * np.spacing(np.abs(Z).max().astype(dtype))
            atol = max(ATOL[dtype], slack)
            np.testing.assert_allclose(P, expected, rtol=0, atol=atol)
            np.testing.assert_array_equal(label, clf.predict(rows))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("z", [-1000, -90, -20, 20, 90, 1000])
def test_equal_pre_activations(kind, dtype, z):
    """Each of K classes has probability 1 / K, a label sigmoid(z); none is NaN."""
    clf, X = fitted(kind, dtype, hidden_layer_sizes=())
    clf.coefs_[0][:] = 0
    clf.intercepts_[0][:] = z
    check(clf, X)


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_small_probabilities(kind):
    """Probabilities near 1e-30 agree in relative terms."""
    clf, X = fitted(kind, "float32", hidden_layer_sizes=())
    clf.coefs_[0][:] = 0
    clf.intercepts_[0][:] = -70
    P = run(convert(clf, X), X)[1]
    np.testing.assert_allclose(P, clf.predict_proba(X), rtol=1e-5)


@pytest.mark.parametrize("fit_dtype", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_is_that_of_the_input(fit_dtype, dtype):
    """All numbers of the graph have the dtype of the rows it is converted for."""
    clf, X = fitted("sigmoids", fit_dtype)
    graph = convert(clf, X.astype(dtype))
    kinds = {tensor.data_type for tensor in graph.graph.initializer}
    number = {"float32": 1, "float64": 11}[dtype]
    assert kinds == {number, 7}  # 7: the classes
    P = run(graph, X.astype(dtype))[1]
    assert P.dtype == dtype
    np.testing.assert_allclose(P, clf.predict_proba(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_rows_of_integers(dtype):
    """They are predicted as floats are."""
    clf, X = fitted()
    rows = (X > 0).astype(dtype)
    label, P = run(convert(clf, rows), rows)
    np.testing.assert_array_equal(label, clf.predict(rows))
    np.testing.assert_allclose(P, clf.predict_proba(rows), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # of skl2onnx, about very old and very new opsets
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_opsets(opset, kind, dtype):
    """Predictions agree in each opset from 7 to the newest of skl2onnx."""
    clf, X = fitted(kind, dtype)
    graph = skl2onnx.to_onnx(clf, X[:1], options={"zipmap": False}, target_opset=opset)
    assert max(x.version for x in graph.opset_import if not x.domain) <= opset
    check(clf, X, graph)


# Labels and options


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes"],
        np.array(["a", "b", "c"], dtype=object),
        [-5, 3, 1 << 40],
        np.array([3, 7], dtype=np.uint8),
        [False, True],
        [1.0, 2.0],
    ],
    ids=["str", "objects", "int64", "uint8", "bool", "float"],
)
@pytest.mark.parametrize("zipmap", [True, False])
def test_labels(labels, zipmap):
    """Strings stay strings; all other labels become int64."""
    kind = "binary" if len(labels) == 2 else "sigmoids"
    clf, X = fitted(kind, "float32", labels)
    label, P = run(convert(clf, X, zipmap=zipmap), X)
    np.testing.assert_array_equal(label, clf.predict(X))
    if zipmap:
        assert set(P[0]) == set(clf.classes_.tolist())
        P = [[row[label] for label in clf.classes_.tolist()] for row in P]
    np.testing.assert_allclose(P, clf.predict_proba(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_ties(kind):
    """Equally probable classes give the first one, as in the estimator."""
    clf, X = fitted(kind, hidden_layer_sizes=())
    clf.coefs_[0][:] = 0
    clf.intercepts_[0][:] = 0
    check(clf, X)


def test_zipmap_columns():
    """The graph has an output for each class."""
    clf, X = fitted("sigmoids", labels=["a", "b", "c"])
    label, *columns = run(convert(clf, X, zipmap="columns"), X)
    np.testing.assert_array_equal(label, clf.predict(X))
    P = np.column_stack([column.ravel() for column in columns])
    np.testing.assert_allclose(P, clf.predict_proba(X), rtol=0, atol=1e-12)


def test_zipmap_multilabel():
    """Probabilities have the numbers of the labels as keys."""
    clf, X = fitted("multilabel", "float32")
    label, P = run(convert(clf, X, zipmap=True), X)
    np.testing.assert_array_equal(label, clf.predict(X))
    P = [[row[k] for k in range(clf.n_outputs_)] for row in P]
    np.testing.assert_allclose(P, clf.predict_proba(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_raw_scores(kind):
    """They are the decision function, in two columns for two classes."""
    clf, X = fitted(kind)
    label, Z = run(convert(clf, X, raw_scores=True), X)
    np.testing.assert_array_equal(label, clf.predict(X))
    expected = clf.decision_function(X)
    if kind == "binary":
        expected = np.column_stack([-expected, expected])
    np.testing.assert_allclose(Z, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("labels", [["a", "b"], [4, 5]], ids=["str", "int"])
def test_class_labels(labels):
    """An option adds them as an output, another replaces them by their numbers."""
    clf, X = fitted(labels=labels)
    *_, classes = run(convert(clf, X, output_class_labels=True), X)
    assert classes.tolist() == labels
    label, _ = run(convert(clf, X, nocl=True), X)
    np.testing.assert_array_equal(np.take(labels, label), clf.predict(X))


def test_unknown_option():
    """It raises skl2onnx's error."""
    clf, X = fitted()
    with pytest.raises(NameError, match="raw"):
        convert(clf, X, raw=True)


# Within other estimators


def small(**params):
    params = {"max_iter": 10, "tol": None, "random_state": 0, **params}
    return BGDClassifier((6,), **params)


COMPOSITES = {
    "pipeline": lambda: make_pipeline(StandardScaler(), small()),
    "pipelines": lambda: make_pipeline(
        MinMaxScaler(), make_pipeline(StandardScaler(), small(activation="relu"))
    ),
    "columns": lambda: make_pipeline(
        ColumnTransformer(
            [("a", StandardScaler(), [0, 1]), ("b", MinMaxScaler(), [2])],
            remainder="passthrough",
        ),
        small(),
    ),
    "calibrated": lambda: CalibratedClassifierCV(small(), cv=3),
    "calibrated, one": lambda: make_pipeline(
        StandardScaler(), CalibratedClassifierCV(small(), cv=3, ensemble=False)
    ),
    "soft vote": lambda: VotingClassifier(
        [
            ("a", small()),
            ("b", make_pipeline(StandardScaler(), small(output_activation="softmax"))),
            ("c", LogisticRegression()),
        ],
        voting="soft",
        flatten_transform=False,
    ),
    "stacked": lambda: StackingClassifier(
        [("a", small()), ("b", small(activation="tanh"))], small(), cv=3
    ),
    "search": lambda: GridSearchCV(small(), {"alpha": [0, 1e-3]}, cv=2),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", COMPOSITES)
def test_composites(name, n_classes, dtype):
    """The classifier is converted within pipelines, searches and ensembles."""
    rng = np.random.default_rng(0)
    X = (3 * rng.normal(size=(120, 4)) + 1).astype(dtype)
    y = np.array(["a", "b", "c"])[np.arange(120) % n_classes]
    model = COMPOSITES[name]().fit(X, y)
    check(model, X, atol=2e-6 if dtype == "float32" else None)


def test_columns_of_a_frame():
    """Columns of text and numbers are inputs of their own; names give no warning."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=90),
            "age": rng.normal(size=90),
            "colour": rng.choice(["red", "blue"], 90).astype(object),
        }
    )
    y = np.where(frame["size"] > 0, "large", "small")
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["size", "age"]),
            ("text", OneHotEncoder(sparse_output=False), ["colour"]),
        ],
    ).set_output(transform="pandas")
    model = make_pipeline(columns, small()).fit(frame, y)
    assert hasattr(model[-1], "feature_names_in_")
    graph = skl2onnx.to_onnx(model, frame[:1], options={"zipmap": False})
    label, P = run(graph, *(frame[[name]].to_numpy() for name in frame))
    np.testing.assert_array_equal(label, model.predict(frame))
    np.testing.assert_allclose(P, model.predict_proba(frame), rtol=0, atol=1e-6)


def test_dask():
    """A DaskBGDClassifier is converted by `to_local`; skl2onnx looks up the class."""
    dask = pytest.importorskip("skbgd.dask", exc_type=ImportError)
    X = np.array([[-1.0], [1.0]])
    clf = dask.DaskBGDClassifier(()).partial_fit(X, [0, 1], classes=[0, 1])
    check(clf.to_local(), X)


# Import


def test_without_skl2onnx():
    """skbgd does not import it, and the error of skbgd.onnx says what to install."""
    code = (
        "import sys, skbgd\n"
        "assert 'skl2onnx' not in sys.modules and 'onnx' not in sys.modules\n"
        "sys.modules['skl2onnx'] = None\n"
        "import skbgd.onnx"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'skbgd.onnx needs skl2onnx: pip install "skbgd[onnx]"' in done.stderr
