"""Sparse rows give the results of the same dense rows, without ever becoming dense.

Sparse rows are not standardized, so the dense rows to compare with are not either, see
`plain`. test_standardize.py tests sparse rows after dense ones.
"""

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from core_helpers import COMPILED, unaligned
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.pipeline import make_pipeline

from skbgd import BGDClassifier

# Functions that return dense rows in a sparse container.
CONTAINERS = {
    "csr_array": sparse.csr_array,
    "csr_matrix": sparse.csr_matrix,
    "csc_array": sparse.csc_array,
    "coo_matrix": sparse.coo_matrix,
    "64-bit": lambda X: with_integers(sparse.csr_array(X), np.int64),
    "unsorted": lambda X: unsorted(sparse.csr_array(X)),
    "duplicates": lambda X: with_duplicates(sparse.csr_array(X)),
}


def with_integers(X, dtype):
    X.indices, X.indptr = X.indices.astype(dtype), X.indptr.astype(dtype)
    return X


def unsorted(X):
    """Reverse the elements of each row."""
    for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        X.indices[start:stop] = X.indices[start:stop][::-1].copy()
        X.data[start:stop] = X.data[start:stop][::-1].copy()
    X.has_sorted_indices = False
    return X


def with_duplicates(X):
    """Split each element into a quarter and three quarters of it."""
    twice = np.repeat(X.data, 2)
    twice[::2] *= 0.25
    twice[1::2] *= 0.75
    return sparse.csr_array((twice, np.repeat(X.indices, 2), 2 * X.indptr), X.shape)


def plain(*args, **params):
    """A classifier that does not standardize dense rows."""
    return BGDClassifier(*args, standardize=False, **params)


def problem(n=60, d=30, density=0.15, dtype=np.float64, K=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.uniform(size=(n, d)) < density)
    y = rng.integers(K, size=n)
    y[:K] = np.arange(K)
    return X.astype(dtype), y


def assert_same(a, b, atol):
    for p, q in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_allclose(p, q, rtol=0, atol=atol)
    np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=0, atol=atol)
    assert a.learning_rate_ == pytest.approx(b.learning_rate_, rel=1e-12)


@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:The loss increased")
@given(
    n=st.integers(4, 40),
    d=st.integers(1, 40),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    hidden=st.lists(st.integers(1, 20), max_size=2),
    K=st.integers(2, 4),
    output=st.sampled_from(["logistic", "softmax"]),
    batch_size=st.sampled_from([1, 2, 7, "full"]),
    alpha=st.sampled_from([0.0, 1e-3, 0.3, 10.0]),
    solver=st.sampled_from(["plain", "momentum", "nesterov", "adam", "clipped"]),
    learning_rate=st.sampled_from(["auto", 0.05]),
    weighted=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_csr_rows_equal_dense_rows(
    n, d, density, hidden, K, output, batch_size, alpha, solver, learning_rate,
    weighted, seed,
):  # fmt: skip
    """Parameters and losses agree to 1e-10 in every mode.

    Some rows, columns and batches have no elements, some elements are explicit zeros.
    """
    X, y = problem(n, d, density, K=K, seed=seed)
    X[n // 2] = 0
    X[:, d // 2] = 0
    X[2:4] = 0
    csr = sparse.csr_array(X)
    csr.data[::5] = 0  # explicit zeros
    X = csr.toarray()
    clf = plain(
        hidden_layer_sizes=hidden,
        output_activation=output,
        batch_size=batch_size,
        alpha=alpha,
        learning_rate=learning_rate,
        solver="adam" if solver == "adam" else "sgd",
        momentum=0.9 if solver in ("momentum", "nesterov") else 0.0,
        nesterov=solver == "nesterov",
        max_gradient_norm=0.05 if solver == "clipped" else None,
        max_iter=4,
        tol=None,
        random_state=seed,
    )
    if learning_rate != "auto" and solver in ("momentum", "nesterov"):
        clf.set_params(learning_rate=0.005)  # does not amplify rounding errors
    if alpha == 10 and learning_rate != "auto":
        clf.set_params(learning_rate=0.01)
    weights = None
    if weighted:
        weights = np.random.default_rng(seed).integers(3, size=n).astype(float)
        weights[0] = 1
    original = csr.copy()
    dense = pickle.loads(pickle.dumps(clf)).fit(X, y, weights)
    clf.fit(csr, y, weights)
    atol = 1e-8 if solver == "adam" else 1e-10  # Adam divides by tiny second moments
    assert_same(clf, dense, atol)
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        np.testing.assert_allclose(
            getattr(clf, method)(csr),
            getattr(dense, method)(X),
            rtol=1e-8,
            atol=10 * atol,
        )
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(csr, name), getattr(original, name))


@pytest.mark.parametrize("hidden", [(), (5,)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(container, dtype, hidden):
    """Any container gives the results of dense rows."""
    X, y = problem(dtype=dtype, K=2)
    clf = plain(hidden, batch_size=4, max_iter=5, tol=None, random_state=0)
    expected = pickle.loads(pickle.dumps(clf)).fit(X, y)
    given = CONTAINERS[container](X)
    clf.fit(given, y)
    assert clf.coefs_[0].dtype == dtype
    assert_same(clf, expected, {np.float32: 2e-5, np.float64: 1e-12}[dtype])
    np.testing.assert_allclose(
        clf.predict_proba(given), expected.predict_proba(X), rtol=1e-4
    )


@pytest.mark.parametrize("batch_size", [1, 6])
@pytest.mark.parametrize("hidden", [(), (5,)], ids=str)
@pytest.mark.parametrize("eta_alpha", [1e-9, 0.2, 0.999, 1.0, 1.5])
def test_penalty_of_any_strength(eta_alpha, hidden, batch_size):
    """1 - eta alpha may be almost 1, tiny, 0 or negative, also in float32."""
    X, y = problem(n=120)
    for dtype, atol in ((np.float64, 1e-10), (np.float32, 1e-5)):
        clf = plain(
            hidden,
            batch_size=batch_size,
            learning_rate=0.01,
            alpha=100 * eta_alpha,
            max_iter=3,
            tol=None,
            random_state=0,
        )
        dense = pickle.loads(pickle.dumps(clf)).fit(X.astype(dtype), y)
        clf.fit(sparse.csr_array(X.astype(dtype)), y)
        np.testing.assert_allclose(clf.coefs_[0], dense.coefs_[0], rtol=atol, atol=atol)


def test_partial_fit_and_warm_start_equal_fit():
    """They give the same bits."""
    X, y = problem()
    X = sparse.csr_matrix(X)
    whole = BGDClassifier(
        (5,), batch_size=8, learning_rate_schedule="constant", max_iter=6, tol=None,
        random_state=0, alpha=2e-4,
    )  # fmt: skip
    warm = pickle.loads(pickle.dumps(whole)).set_params(warm_start=True, max_iter=2)
    stream = pickle.loads(pickle.dumps(whole))
    whole.fit(X, y)
    warm.fit(X, y).set_params(max_iter=6).fit(X.copy(), y)
    for _ in range(6):
        stream.partial_fit(X, y, classes=[0, 1, 2])
    for clf in (warm, stream):
        np.testing.assert_array_equal(clf.coefs_[0], whole.coefs_[0])
        assert clf.loss_curve_ == whole.loss_curve_


@pytest.mark.parametrize("own_rows", [True, False])
def test_validation_rows(own_rows):
    """Validation losses and scores are those of dense rows, given or set aside."""
    X, y = problem(n=200)
    curves = []
    for rows in (X, sparse.csr_array(X)):
        clf = plain(
            (5,), max_iter=20, tol=None, early_stopping=True, random_state=0,
            scoring="accuracy",
        )  # fmt: skip
        given = {"X_val": rows[150:], "y_val": y[150:]} if own_rows else {}
        clf.fit(rows[:150], y[:150], **given)
        curves.append(clf.validation_loss_curve_ + clf.validation_scores_)
    np.testing.assert_allclose(*curves, rtol=1e-10)


def test_multilabel():
    """Sparse indicators give the results of dense ones."""
    X, _ = problem()
    Y = (X[:, :3] > 0).astype(int)
    clf = plain((5,), max_iter=10, tol=None, random_state=0)
    dense = pickle.loads(pickle.dumps(clf)).fit(X, Y)
    assert_same(clf.fit(sparse.csr_array(X), sparse.csr_array(Y)), dense, 1e-12)


@pytest.mark.parametrize("damage", ["column", "negative", "beyond", "falling"])
def test_damaged_matrices(damage):
    """They raise an error: the core would read or write outside of arrays."""
    X, y = problem()
    X = sparse.csr_array(X)
    clf = BGDClassifier((3,), max_iter=2, tol=None, random_state=0).fit(X, y)
    if damage == "column":
        X.indices[7] = X.shape[1]
    elif damage == "negative":
        X.indices[7] = -1
    elif damage == "beyond":
        X.indptr[-1] += 1000
    else:
        X.indptr[3] = X.indptr[-1]
    for call in (lambda: clf.fit(X, y), lambda: clf.predict(X)):
        with pytest.raises(ValueError, match="damaged.*check_format"):
            call()


@pytest.mark.parametrize(
    "name, change",
    [
        ("data", lambda a: np.repeat(a, 2)[::2]),
        ("data", unaligned),
        ("indices", lambda a: np.repeat(a, 2)[::2]),
        ("indices", lambda a: a.astype(np.uint32)),
        ("indptr", lambda a: a.astype(np.int16)),
    ],
    ids=["strided data", "unaligned data", "strided indices", "uint32", "int16"],
)
def test_unusual_arrays(name, change):
    """Strided, unaligned and short arrays of X give the same predictions."""
    X, y = problem()
    X = sparse.csr_array(X)
    clf = BGDClassifier((3,), max_iter=2, tol=None, random_state=0).fit(X, y)
    changed = X.copy()
    setattr(changed, name, change(getattr(changed, name)))
    np.testing.assert_array_equal(clf.predict_proba(changed), clf.predict_proba(X))


def test_badly_scaled_features():
    """The warning recommends MaxAbsScaler, which keeps rows sparse."""
    X, y = problem()
    with pytest.warns(ConvergenceWarning, match="badly scaled.*MaxAbsScaler"):
        BGDClassifier((3,), max_iter=2, random_state=0).fit(
            sparse.csr_array(1e4 * X), y
        )


@pytest.mark.skipif(not COMPILED, reason="the core in NumPy stores the gradient")
@pytest.mark.parametrize(
    "parameters",
    [{"batch_size": 1}, {"batch_size": 32}, {"hidden_layer_sizes": ()},
     {"hidden_layer_sizes": (), "batch_size": 1}],
    ids=str,
)  # fmt: skip
def test_memory_does_not_grow_with_the_number_of_features(parameters):
    """Beside X and the weights it is the same for 1000 and 100 000 features."""
    extra = []
    for d in (1000, 100_000):
        rng = np.random.default_rng(0)
        X = sparse.csr_array(
            (np.ones(4000), rng.integers(d, size=4000), np.arange(0, 4001, 10)),
            shape=(400, d),
        )
        y = np.arange(400) % 2
        clf = BGDClassifier(
            **{"hidden_layer_sizes": (8,)} | parameters,
            learning_rate=0.1, max_iter=1, tol=None, warm_start=True, random_state=0,
        ).fit(X, y)  # fmt: skip
        weights = 8 * (clf.coefs_[0].size + clf.intercepts_[0].size)
        clf.set_params(max_iter=3)
        tracemalloc.start()
        clf.fit(X, y)  # copies the weights
        extra.append(tracemalloc.get_traced_memory()[1] - weights)
        tracemalloc.stop()
    assert extra[1] < extra[0] + 50_000


def test_text():
    """The 2^20 features of HashingVectorizer are learned without a warning."""
    texts = ["a cold rainy day", "the sun is hot", "snow and ice", "a warm summer"] * 10
    y = ["cold", "warm", "cold", "warm"] * 10
    clf = make_pipeline(
        HashingVectorizer(),
        BGDClassifier((8,), learning_rate=1.0, max_iter=30, tol=None, random_state=0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.fit(texts, y)
    assert clf.predict(["ice cold", "hot summer"]).tolist() == ["cold", "warm"]


@pytest.mark.parametrize(
    "kind", [sparse.csr_array, sparse.csc_matrix, sparse.bsr_array]
)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.float64])
def test_duplicate_elements(kind, dtype):
    """They are summed as in a dense array (True twice is True); X is not changed."""
    columns = np.tile([0, 0, 2], 40)
    members = (np.ones(120, dtype), columns, np.arange(0, 121, 3))
    rows = kind(sparse.csr_array(members, shape=(40, 3)))
    n_entries = rows.nnz
    y = np.arange(40) % 2
    clf = plain((3,), max_iter=3, tol=None, learning_rate=0.1, random_state=0)
    Z = clf.fit(rows, y).decision_function(rows)
    assert rows.nnz == n_entries
    np.testing.assert_allclose(Z, clf.decision_function(rows.toarray()), rtol=1e-9)
    expected = clf.fit(rows.toarray(), y).decision_function(rows.toarray())
    np.testing.assert_allclose(Z, expected, rtol=1e-9)
