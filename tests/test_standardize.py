"""standardize=True: the network sees features of mean 0 and deviation 1."""

import pickle
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from core_helpers import FLOATS, eager_threads, numpy_core
from helpers import parameters, same, small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler
from test_sparse import CONTAINERS

from skbgd import BGDClassifier, _moments
from skbgd._moments import Moments

# Rounding errors of standardized features, amplified by a dozen epochs.
ATOL = {np.float32: 2e-4, np.float64: 1e-9}
KINDS = ["binary", "multiclass", "multilabel"]
# Contexts of a fit
BACKENDS = {"one thread": nullcontext, "threads": eager_threads, "numpy": numpy_core}


def table(dtype=np.float64, n=70, kind="binary"):
    """Raw rows, their targets, and weights of which some are 0.

    The columns: normal, years, near 1e6, tiny, huge, two values, 0 or 1, constant, and
    constant except in a row of weight 0.
    """
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 6))
    w = rng.integers(4, size=n).astype(float)
    w[0] = 0
    X = np.column_stack(
        [
            z[:, 0],
            np.round(1990 + 10 * z[:, 1]),
            1e6 + rng.integers(-1, 2, size=n),
            1e-9 * z[:, 2],
            1e9 * np.exp(z[:, 3]),
            np.where(z[:, 4] > 0.3, -7.0, 3.5),
            z[:, 5] > 1,
            np.full(n, 0.1),
            np.where(np.arange(n) == 0, 1e9, 5.0),
        ]
    ).astype(dtype)
    score = z @ [1, -2, 1, 2, 1.5, 1] + rng.logistic(size=n)
    y = np.digitize(score, [0] if kind == "binary" else [-1.5, 1.5])
    if kind == "multilabel":
        y = np.column_stack([score > 0, z[:, 0] > z[:, 1]]).astype(int)
    return X, y, w


def shift_and_scale(X, weights=None):
    """`mean_` and `scale_` by their definition, in float64."""
    w = np.ones(len(X)) if weights is None else np.asarray(weights, float)
    X, w = X[w > 0].astype(float), w[w > 0]
    shift, scale = [], []
    for x in X.T:
        values = np.unique(x)
        if len(values) <= 2:
            shift.append(values[0])
            scale.append(np.ptp(values) if len(values) == 2 else 1.0)
        else:
            mean = np.average(x - x[0], weights=w)
            shift.append(x[0] + mean)
            scale.append(np.sqrt(np.average((x - x[0] - mean) ** 2, weights=w)))
    return np.array(shift), np.array(scale)


def by_hand(X, weights=None):
    """The rows, standardized in float64 and converted back to their own dtype."""
    shift, scale = shift_and_scale(X, weights)
    return ((X.astype(float) - shift) / scale).astype(X.dtype)


def raw_and_plain(X, Z, y, w=None, **params):
    """A fit to raw rows X, and one with standardize=False to standardized rows Z."""
    params = {"hidden_layer_sizes": (5,), "learning_rate": 0.1, **params}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = small(**params).fit(X, y, w)
        plain = small(**params, standardize=False).fit(Z, y, w)
    return raw, plain


def close(raw, plain, X, Z, atol=None):
    """Assert that parameters, losses and predictions agree to rounding."""
    atol = ATOL[X.dtype.type] if atol is None else atol
    np.testing.assert_allclose(parameters(raw), parameters(plain), rtol=0, atol=atol)
    np.testing.assert_allclose(raw.loss_curve_, plain.loss_curve_, rtol=0, atol=atol)
    np.testing.assert_allclose(
        raw.decision_function(X), plain.decision_function(Z), rtol=atol, atol=10 * atol
    )
    assert parameters(raw).dtype == X.dtype


# The law


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 4)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 8, "full"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"shuffle": False},
        {"learning_rate": "auto", "learning_rate_schedule": "auto"},
        {"momentum": 0.5, "learning_rate": 0.02},
        {"solver": "adam", "learning_rate": 1e-3, "epsilon": 1e-3},
        {"max_gradient_norm": 0.05},
        {"solver": "lbfgs", "max_iter": 4},
    ],
    ids=["plain", "in order", "auto", "momentum", "adam", "clipped", "lbfgs"],
)
def test_raw_rows_equal_standardized_rows(params, batch_size, hidden, weighted, dtype):
    """A fit equals a plain fit to rows that were standardized before, to rounding."""
    X, y, w = table(dtype)
    w = w if weighted else None
    Z = by_hand(X, w)
    original = X.copy()
    params = {"hidden_layer_sizes": hidden, "batch_size": batch_size, **params}
    raw, plain = raw_and_plain(X, Z, y, w, **params)
    close(raw, plain, X, Z)
    np.testing.assert_array_equal(X, original)
    if params.get("solver") != "lbfgs":
        assert raw.learning_rate_ == pytest.approx(plain.learning_rate_, rel=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
@pytest.mark.parametrize("output", ["logistic", "softmax"])
def test_every_network(output, activation, kind, dtype):
    """The same holds for any activation functions and targets."""
    X, y, _ = table(dtype, kind=kind)
    Z = by_hand(X)
    raw, plain = raw_and_plain(
        X, Z, y, activation=activation, output_activation=output, learning_rate=0.02
    )
    close(raw, plain, X, Z)


@pytest.mark.parametrize("backend", ["threads", "numpy"])
@pytest.mark.parametrize("batch_size", [1, 16, 64, "full"])
@pytest.mark.parametrize("hidden", [(), (9,), (40, 30)], ids=str)
def test_threads_and_cores(hidden, batch_size, backend):
    """The same holds in two threads and in NumPy; a second fit gives the same bits."""
    X, y, w = table(n=150)
    Z = by_hand(X, w)
    params = {"hidden_layer_sizes": hidden, "batch_size": batch_size, "n_jobs": 2}
    with BACKENDS[backend]():
        raw, plain = raw_and_plain(X, Z, y, w, **params, max_iter=5)
        close(raw, plain, X, Z)
        again, _ = raw_and_plain(X, Z, y, w, **params, max_iter=5)
    same(raw, again)


def test_more_rows_than_a_tile():
    """The same holds for large batches; predictions do not depend on the rows given."""
    X, y, _ = table(n=10_000)
    Z = by_hand(X)
    raw, plain = raw_and_plain(X, Z, y, batch_size="full", max_iter=3)
    close(raw, plain, X, Z)
    P = raw.predict_proba(X)
    for rows in (slice(1), slice(5000, 5001), slice(9990, None)):
        np.testing.assert_allclose(raw.predict_proba(X[rows]), P[rows], rtol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_units_of_the_features(solver, dtype):
    """Features multiplied by up to the largest float and shifted predict alike."""
    X, y, _ = table(np.float32, n=100)
    X = np.round(X[:, [0, 5, 6]] * 1024).astype(dtype)  # exact after a shift too
    largest = np.log2(np.finfo(dtype).max)
    clf = small(solver=solver, learning_rate_schedule="auto", max_iter=5)
    expected = clf.fit(X, y).predict_proba(X)
    for power in (0.4, 0.6, 0.8, -0.4, -0.8):
        rows = (X + dtype(4096)) * dtype(2.0 ** int(power * largest))
        P = clf.fit(rows, y).predict_proba(rows)
        np.testing.assert_allclose(P, expected, rtol=0, atol=ATOL[dtype])


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_no_scaler_is_needed(load):
    """Raw measurements give no warning and an accuracy above 95 %."""
    X, y = load(return_X_y=True)
    assert cross_val_score(BGDClassifier(random_state=0), X, y).mean() > 0.95


# Mean and scale


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_mean_and_scale(weighted, dtype):
    """They follow their definition, and are StandardScaler's for most features."""
    X, y, w = table(dtype)
    w = w if weighted else None
    clf = small(max_iter=1).fit(X, y, w)
    shift, scale = shift_and_scale(X, w)
    # The weights have the dtype of the rows.
    rtol = 1e-6 if weighted and dtype == np.float32 else 1e-13
    np.testing.assert_allclose(clf.mean_, shift, rtol=rtol, atol=1e-24)
    np.testing.assert_allclose(clf.scale_, scale, rtol=rtol)
    assert clf.mean_.dtype == clf.scale_.dtype == np.float64
    ordinary = slice(0, 5)
    theirs = StandardScaler().fit(X[:, ordinary].astype(float), sample_weight=w)
    rtol = max(rtol, 1e-9)
    np.testing.assert_allclose(clf.mean_[ordinary], theirs.mean_, rtol=rtol, atol=1e-16)
    np.testing.assert_allclose(clf.scale_[ordinary], theirs.scale_, rtol=rtol)
    assert clf.mean_[5:7].tolist() == [-7.0, 0.0]
    assert clf.scale_[5:7].tolist() == [10.5, 1.0]
    if weighted:  # the row that differs has weight 0
        assert (clf.mean_[8], clf.scale_[8]) == (5.0, 1.0)
    for array in (clf.mean_, clf.scale_):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_weights_count_as_repeated_rows():
    """Sample and class weights of any scale are equivalent to repetitions."""
    X, y, w = table()
    times = (w * np.where(y == 1, 2, 1)).astype(int)
    repeated = small(max_iter=1).fit(X.repeat(times, axis=0), y.repeat(times))
    for factor in (1.0, 1e-200, 1e200):
        clf = small(max_iter=1, class_weight={1: 2.0}).fit(X, y, factor * w)
        np.testing.assert_allclose(clf.mean_, repeated.mean_, rtol=1e-12, atol=1e-24)
        np.testing.assert_allclose(clf.scale_, repeated.scale_, rtol=1e-12)


def test_constant_up_to_rounding():
    """A feature of values 0.3 and 0.1 + 0.2 counts as constant."""
    X, y, _ = table()
    X[:, 0] = np.where(np.arange(70) % 2, 0.3, 0.1 + 0.2)
    clf = small(max_iter=2).fit(X, y)
    assert clf.scale_[0] == 1
    assert clf.mean_[0] == pytest.approx(0.3, rel=1e-15)
    X[0, 0] = 5.0
    assert np.isfinite(clf.decision_function(X)).all()


@pytest.mark.parametrize("hidden", [(), (5,)], ids=str)
def test_weights_for_raw_features(hidden):
    """The docstring's formula includes mean and scale in the first layer."""
    X, y, _ = table()
    X = X[:, [0, 1, 4, 5, 6]]
    clf = small(hidden_layer_sizes=hidden).fit(X, y)
    W = clf.coefs_[0] / clf.scale_[:, None]
    b = clf.intercepts_[0] - clf.mean_ @ W
    Z = X @ W + b
    if hidden:
        Z = 1 / (1 + np.exp(-Z)) @ clf.coefs_[1] + clf.intercepts_[1]
    np.testing.assert_allclose(clf.decision_function(X), Z.ravel(), rtol=1e-9)


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 30),
    d=st.integers(1, 4),
    kind=st.sampled_from(["numbers", "two", "one", "ints"]),
    offset=st.sampled_from([0.0, 1e6, -1e12]),
    weighted=st.booleans(),
    block=st.integers(1, 20),
    dtype=st.sampled_from(FLOATS),
    seed=st.integers(0, 2**16),
)
def test_moments_of_blocks(n, d, kind, offset, weighted, block, dtype, seed):
    """Moments do not depend on the blocks of rows, in both cores."""
    rng = np.random.default_rng(seed)
    X = {
        "numbers": rng.normal(size=(n, d)),
        "two": rng.choice([-3.0, 5.0], size=(n, d)),
        "one": np.full((n, d), 0.7),
        "ints": rng.integers(3, size=(n, d)).astype(float),
    }[kind]
    X = (X + offset).astype(dtype)
    w = None
    if weighted:
        w = rng.integers(3, size=n).astype(dtype)
        w[rng.integers(n)] = 1
    seen = X[slice(None) if w is None else w > 0].astype(float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_moments, "BLOCK_ELEMENTS", block)
        both = [Moments.from_rows(X, w)]
        with numpy_core():
            both.append(Moments.from_rows(X, w))
    for moments in both:
        np.testing.assert_array_equal(moments.low, seen.min(axis=0))
        np.testing.assert_array_equal(moments.high, seen.max(axis=0))
        assert moments.two_valued.tolist() == [len(np.unique(x)) < 3 for x in seen.T]
        weights = None if w is None else w[w > 0].astype(float)
        rest = seen - moments.low
        mean = np.average(rest, axis=0, weights=weights)
        variance = np.average((rest - mean) ** 2, axis=0, weights=weights)
        spread = np.ptp(rest, axis=0).max()
        atol = 1e-12 * spread
        np.testing.assert_allclose(moments.mean, mean, rtol=0, atol=atol)
        np.testing.assert_allclose(moments.deviation**2, variance, atol=atol * spread)


def test_differences_that_overflow():
    """The message states the range and the cure, and nothing is fitted."""
    X = np.array([[-1.7e308], [1.7e308], [0.0], [1.0]])
    clf = small()
    with pytest.raises(ValueError, match="differences are finite.* from -1.7e.*Divide"):
        clf.fit(X, [0, 1, 0, 1])
    assert not hasattr(clf, "mean_")
    assert np.isfinite(clf.fit(X / 2, [0, 1, 0, 1]).loss_)


# Rows that are not standardized


def test_mean_and_scale_are_none():
    """If rows are not, sparse, or all of weight 0."""
    X, y, _ = table()
    for clf in (
        small(standardize=False).fit(by_hand(X), y),
        small().fit(sparse.csr_array(by_hand(X)), y),
        small().partial_fit(X, y, [0, 1], np.zeros(70)),
    ):
        assert clf.mean_ is None
        assert clf.scale_ is None


def test_dense_rows_after_sparse_ones():
    """They are not standardized either."""
    X, y, _ = table()
    Z = by_hand(X)
    clf = small().fit(sparse.csr_array(Z), y)
    plain = small(standardize=False).fit(sparse.csr_array(Z), y)
    same(clf, plain)
    same(clf.partial_fit(Z, y), plain.partial_fit(Z, y))
    assert clf.mean_ is None


# Sparse rows after dense ones


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_sparse_rows_are_predicted_as_dense_rows(dtype, container):
    """Predictions agree for any container, and to the last bit for CSR."""
    X, y, _ = table(dtype)
    X[::3, :3] = 0
    clf = small().fit(X, y)
    rows = CONTAINERS[container](X)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        expected = getattr(clf, method)(X)
        np.testing.assert_allclose(
            getattr(clf, method)(rows), expected, rtol=1e-5, atol=ATOL[dtype]
        )
    if container == "csr_array":
        np.testing.assert_array_equal(clf.predict_proba(rows), clf.predict_proba(X))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_size", [1, 8, "full"])
@pytest.mark.parametrize("hidden", [(), (5,)], ids=str)
@pytest.mark.parametrize(
    "params",
    [{}, {"solver": "adam", "learning_rate": 1e-3, "epsilon": 1e-3}],
    ids=["sgd", "adam"],
)
def test_sparse_rows_train_as_dense_rows(params, hidden, batch_size, backend):
    """In `partial_fit`, in a warm start and as validation rows."""
    X, y, w = table()
    X[::3, :3] = 0
    csr = sparse.csr_array(X)
    params = {"hidden_layer_sizes": hidden, "batch_size": batch_size,
              "learning_rate": 0.1, "alpha": 0.01, **params}  # fmt: skip
    with BACKENDS[backend]():
        dense, mixed = (small(**params, n_jobs=2).fit(X, y, w) for _ in range(2))
        for _ in range(2):
            dense.partial_fit(X, y, sample_weight=w)
            mixed.partial_fit(csr, y, sample_weight=w)
        for clf, rows in ((dense, X), (mixed, csr)):
            clf.set_params(warm_start=True, max_iter=17)
            clf.fit(rows, y, w, X_val=rows[:30], y_val=y[:30])
    np.testing.assert_allclose(
        parameters(mixed), parameters(dense), rtol=0, atol=ATOL[np.float64]
    )
    np.testing.assert_allclose(mixed.loss_curve_, dense.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(
        mixed.validation_loss_curve_, dense.validation_loss_curve_, rtol=1e-9
    )


# Later calls


def test_partial_fit_keeps_mean_and_scale():
    """Those of the first call that had a positive weight."""
    X, y, w = table()
    X = X[:, :7]  # without constant features
    clf = small().partial_fit(X, y, [0, 1], np.zeros(70))
    clf.partial_fit(X[:40], y[:40], sample_weight=w[:40])
    shift, scale = shift_and_scale(X[:40], w[:40])
    for rows in (X[40:], 1000 * X, by_hand(X)):
        clf.partial_fit(rows, y[: len(rows)])
        np.testing.assert_allclose(clf.mean_, shift, rtol=1e-13, atol=1e-24)
        np.testing.assert_allclose(clf.scale_, scale, rtol=1e-13)


@pytest.mark.parametrize("pickled", [False, True], ids=["in memory", "pickled"])
@pytest.mark.parametrize("size", [1, 3, 29])
def test_small_chunks_are_standardized_together(size, pickled):
    """Mean and scale are those of all rows, until there are 30, and then stay."""
    X, y, _ = table()
    X = X[:, :7]  # without constant features
    clf, n_fixed = small(), None
    for start in range(0, 60, size):
        stop = start + size
        weight = 1 / (3 + start)  # without effect: the weights of a chunk have mean 1
        clf.partial_fit(X[start:stop], y[start:stop], [0, 1], weight)
        if pickled:
            clf = pickle.loads(pickle.dumps(clf))
        shift, scale = shift_and_scale(X[: n_fixed or stop])
        np.testing.assert_allclose(clf.mean_, shift, rtol=1e-12, atol=1e-24)
        np.testing.assert_allclose(clf.scale_, scale, rtol=1e-12)
        if stop >= 30 and n_fixed is None:
            n_fixed = stop


@pytest.mark.parametrize("last", [45, 1003])
@pytest.mark.parametrize("size", [1, 17, 100])
def test_a_feature_that_is_constant_at_first(size, last):
    """More rows count until it varies, but not many more than 1000."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1300, 2))
    X[:last, 1] = 7
    y = rng.integers(2, size=len(X))
    clf, stop = small(max_iter=10_000), 0
    while stop < len(X):
        chunk = slice(stop, stop + size)
        clf.partial_fit(X[chunk], y[chunk], classes=[0, 1])
        stop = min(stop + size, len(X))
        enough = min(last + 1, 1000)
        n = min(stop, -(-enough // size) * size)
        shift, scale = shift_and_scale(X[:n])
        np.testing.assert_allclose(clf.mean_, shift, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(clf.scale_, scale, rtol=1e-10)


def test_a_feature_that_varies_by_rounding_at_first():
    """It is constant until its range is larger: a time in seconds, in float32."""
    X = (1.7e9 + 20 * np.arange(300.0)).astype(np.float32)[:, np.newaxis]
    y = np.arange(300) % 2
    clf = small()
    for start in range(0, 300, 10):
        clf.partial_fit(X[start : start + 10], y[start : start + 10], classes=[0, 1])
    assert 100 < clf.scale_[0] < 1000


@pytest.mark.parametrize("weights", ["0 or 1", "random"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_small_chunks_with_weights(dtype, weights):
    """Rows of weight zero do not count, nor do chunks of such rows.

    A chunk counts as its number of other rows, whatever the sum of their weights.
    """
    X, y, w = table(dtype)
    X = X[:, :7]  # without constant features
    w = (w > 0).astype(float) if weights == "0 or 1" else w * np.sqrt(np.arange(70))
    clf = small()
    counted, n = np.zeros(70), 0
    for start in range(0, 70, 7):
        chunk = slice(start, start + 7)
        clf.partial_fit(X[chunk], y[chunk], [0, 1], w[chunk])
        clf.partial_fit(1000 * X, y, sample_weight=0.0)
        if n < 30:
            count = np.count_nonzero(w[chunk])
            counted[chunk] = w[chunk] * count / w[chunk].sum()
            n += count
        shift, scale = shift_and_scale(X, counted)
        rtol = 1e-12 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(clf.mean_, shift, rtol=rtol, atol=1e-16)
        np.testing.assert_allclose(clf.scale_, scale, rtol=rtol)
    assert n < np.count_nonzero(w)


@pytest.mark.parametrize("schedule", ["auto", "constant"])
@pytest.mark.parametrize("activation", ["logistic", "relu"])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_small_chunks_and_the_scale_of_the_first_layer(size, activation, schedule):
    """W_1 is divided by the root mean square of all rows that are standardized."""
    rng = np.random.default_rng(0)
    n = -(-30 // size) * size
    X = (rng.random((n, 20)) < 0.1).astype(float)
    X[29] = 1
    y = rng.integers(2, size=n)
    params = {"activation": activation, "learning_rate_schedule": schedule}
    streams = [small(**params, learning_rate=1e-30, alpha=0) for _ in range(2)]
    for clf, step in zip(streams, (size, n), strict=True):
        for start in range(0, n, step):
            chunk = slice(start, start + step)
            clf.partial_fit(X[chunk], y[chunk], classes=[0, 1])
    np.testing.assert_allclose(*(clf.coefs_[0] for clf in streams), rtol=1e-12)
    np.testing.assert_array_equal(*(clf.coefs_[1] for clf in streams))


@pytest.mark.parametrize("n", [4, 7, 29])
@pytest.mark.parametrize("weighted", [False, True])
def test_calls_with_the_same_few_rows(n, weighted):
    """They give the bits of one fit."""
    X, y, w = (values[-n:] for values in table())
    w = w + 1 if weighted else None
    clf = small(alpha=0.01)
    for _ in range(clf.max_iter):
        clf.partial_fit(X, y, [0, 1], w)
    same(clf, small(alpha=0.01).fit(X, y, w))


@pytest.mark.parametrize("action", ["fit", "sparse fit", "weights"])
def test_what_ends_the_first_rows_of_a_stream(action):
    """A fit adds its dense rows; weights of the user belong to the mean and scale."""
    X, y, _ = table()
    clf = small(warm_start=True).partial_fit(X[:9], y[:9], classes=[0, 1])
    if action == "fit":
        clf.set_params(max_iter=2).fit(X[9:20], y[9:20])
        shift, scale = shift_and_scale(X[:20])
    elif action == "sparse fit":
        rows = sparse.csr_array(by_hand(X[9:20]))
        clf.set_params(max_iter=2).fit(rows, y[9:20])
        shift, scale = shift_and_scale(X[:9])
    else:
        clf.coefs_ = clf.coefs_
        shift, scale = shift_and_scale(X[:9])
    clf.partial_fit(1000 * X, y)
    np.testing.assert_allclose(clf.mean_, shift, rtol=1e-12, atol=1e-24)
    np.testing.assert_allclose(clf.scale_, scale, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:No epoch")
def test_a_fit_without_an_epoch_keeps_mean_and_scale():
    """Its rows do not count, so the predictions stay the same."""
    X, y, _ = table()
    clf = small(warm_start=True, max_iter=5)
    for i in range(6):
        clf.partial_fit(X[[i]], y[[i]], classes=[0, 1])
    before = clf.predict_proba(X)
    clf.fit(100 * X, y)
    assert clf.n_iter_ == 6
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_sparse_chunks_among_the_first_rows():
    """Only dense rows determine mean and scale."""
    X, y, _ = table()
    csr = sparse.csr_array(by_hand(X))
    clf = small().partial_fit(X[:9], y[:9], classes=[0, 1])
    clf.partial_fit(csr, y).partial_fit(X[9:20], y[9:20])
    shift, scale = shift_and_scale(X[:20])
    np.testing.assert_allclose(clf.mean_, shift, rtol=1e-12, atol=1e-24)
    np.testing.assert_allclose(clf.scale_, scale, rtol=1e-12)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_single_rows_of_xor_are_learned(solver):
    """A stream of its four rows, again and again, has no error."""
    X, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    clf = BGDClassifier(solver=solver, random_state=0)
    for i in 400 * [0, 1, 2, 3]:
        clf.partial_fit(X[[i]], y[[i]], classes=[0, 1])
    assert clf.score(X, y) == 1


def test_single_rows_of_raw_features_are_learned():
    """A stream of single rows ends well above chance, as with a scaler in front."""
    X, y = load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    clf = BGDClassifier(random_state=0)
    for i in np.tile(order[:120], 2):
        clf.partial_fit(X[[i]], y[[i]], classes=[0, 1, 2])
    assert clf.score(X[order[120:]], y[order[120:]]) > 0.9


@pytest.mark.parametrize("pickled", [False, True], ids=["in memory", "pickled"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("way", ["partial_fit", "warm_start", "early_stopping"])
def test_resumed_training(way, dtype, pickled):
    """Training in several calls gives the bits of one fit."""
    X, y, _ = table(dtype)
    params = {"batch_size": 8, "alpha": 0.01, "solver": "adam"}
    params["early_stopping"] = way == "early_stopping"
    expected = small(**params).fit(X, y)
    clf = small(**params, warm_start=True)
    for k in range(12):
        if way == "partial_fit":
            clf.partial_fit(X, y, classes=[0, 1])
        elif k in (4, 11):
            clf.set_params(max_iter=k + 1).fit(X, y)
        if pickled and hasattr(clf, "coefs_"):
            clf = pickle.loads(pickle.dumps(clf))
    same(clf, expected)
    np.testing.assert_array_equal(clf.mean_, expected.mean_)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))


def test_warm_start_keeps_mean_and_scale():
    """A new fit computes them again."""
    X, y, _ = table()
    clf = small(warm_start=True).fit(X, y)
    mean = clf.mean_.copy()
    clf.set_params(max_iter=14).fit(X[10:], y[10:])
    np.testing.assert_array_equal(clf.mean_, mean)
    clf.set_params(warm_start=False).fit(X[10:], y[10:])
    same(clf, small(max_iter=14).fit(X[10:], y[10:]))
    np.testing.assert_array_equal(
        clf.mean_, small(max_iter=1).fit(X[10:], y[10:]).mean_
    )


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_standardize_cannot_change(kind, standardize):
    """A later call with another value is an error that changes nothing."""
    X, y, _ = table()
    rows = sparse.csr_array(by_hand(X)) if kind == "sparse" else by_hand(X)
    clf = small(standardize=standardize, warm_start=True).fit(rows, y)
    before = parameters(clf).copy()
    clf.set_params(standardize=not standardize)
    message = f"the parameters specify .*standardize={not standardize}"
    for call in (clf.fit, clf.partial_fit):
        with pytest.raises(ValueError, match=message):
            call(rows, y)
    np.testing.assert_array_equal(parameters(clf), before)
    clf.set_params(standardize=standardize, max_iter=13).fit(rows, y)
    assert clf.n_iter_ == 13


def test_early_stopping():
    """Mean and scale are those of the training rows, without those set aside."""
    X, y, _ = table()
    X[:, 0] = np.arange(70)  # identifies the rows
    aside = []

    def recorded(clf, X, y):
        aside[:] = X[:, 0]
        return clf.score(X, y)

    clf = small(early_stopping=True, scoring=recorded, validation_fraction=0.2)
    clf.fit(X, y)
    rest = np.setdiff1d(np.arange(70), aside)
    assert 0 < len(aside) == 70 - len(rest)
    shift, scale = shift_and_scale(X[rest])
    np.testing.assert_allclose(clf.mean_, shift, rtol=1e-13, atol=1e-24)
    aside = np.array(aside, int)
    Z = (X - shift) / scale
    plain = small(early_stopping=True, scoring="accuracy", standardize=False)
    plain.fit(Z[rest], y[rest], X_val=Z[aside], y_val=y[aside])
    assert clf.validation_scores_ == plain.validation_scores_
    np.testing.assert_allclose(
        clf.validation_loss_curve_, plain.validation_loss_curve_, rtol=1e-9
    )


@pytest.mark.parametrize("fitted", [False, True], ids=["unfitted", "fitted"])
def test_pickles_of_versions_without_standardize(fitted):
    """They have standardize=False, and training continues with the same bits."""
    X, y, _ = table()
    X = by_hand(X)
    clf = small(standardize=False)
    if fitted:
        clf.fit(X, y)
    state = clf.__getstate__()
    del state["standardize"]
    for name in ("standardize", "shift", "scale") if fitted else ():
        del state["_network"][name]
    other = BGDClassifier()
    del other.standardize
    other.__setstate__(state)
    assert other.standardize is False
    same(other.partial_fit(X, y, [0, 1]), clf.partial_fit(X, y, [0, 1]))
    assert other.mean_ is None
