"""The doors of the compiled core, its products, and its instruction sets.

What it computes is tested in test_backprop.py, threads in test_threads.py.
"""

import signal
import threading

import numpy as np
import pytest
from helpers import same, small, targets
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier

from skbgd import BGDClassifier
from skbgd._core import COMPILED, backprop
from skbgd._core.arguments import standardizer
from skbgd._network import Network
from skbgd._update_rules import UpdateRule

FLOATS = [np.float32, np.float64]
SETS = backprop.instruction_sets()
compiled = pytest.mark.skipif(not COMPILED, reason="of the compiled core alone")


@pytest.fixture(params=SETS)
def instruction_set(request):
    before = backprop.use_instruction_set(request.param)
    yield request.param
    backprop.use_instruction_set(before)


# Refusals


NETWORK = Network((4, 3, 2), "logistic", "logistic")
N = 6


def arguments():
    """Those of a call of `run_batches` that is right."""
    rng = np.random.default_rng(0)
    n = NETWORK.n_parameters
    return {
        "theta": rng.normal(size=n),
        "velocity": np.zeros(n),
        "second_moment": np.zeros(n),
        "gradient": np.zeros(n),
        "X": rng.normal(size=(N, 4)),
        "Y": rng.integers(2, size=(N, 1)).astype(np.intc),
        "weights": np.ones(N),
        "order": np.arange(N),
        "standard": None,
        "batch_size": 2,
        "layout": NETWORK.layout,
        "dtype": np.dtype(float),
        "gathered": True,
        "solver": "adam",
    }


def call(
    theta, velocity, second_moment, gradient, X, Y, weights, order, standard,
    batch_size, layout, dtype, gathered, solver,
):  # fmt: skip
    return backprop.run_batches(
        backprop.Model(NETWORK.layout, theta, velocity, second_moment, gradient),
        0,
        backprop.Data(X, Y, weights, order, standard),
        batch_size,
        UpdateRule(0.1, solver=solver),
        backprop.Workspace(layout, dtype, 4, gathered=gathered),
    )


def read_only(array):
    array.setflags(write=False)
    return array


def unaligned(array):
    room = np.empty(array.nbytes + 1, dtype=np.uint8)
    result = room[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def csr(**members):
    """Sparse rows, some of whose arrays are replaced: SciPy would not make them."""
    X = csr_array(np.arange(1.0, 1 + 4 * N).reshape(N, 4))
    for name, value in members.items():
        setattr(X, name, value)
    return X


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


GOOD, FULL = arguments(), csr()
NAMES = ["theta", "velocity", "second_moment", "gradient"]
REFUSED = [
    *[{name: GOOD[name][:-1]} for name in [*NAMES, "weights"]],
    *[{name: np.append(GOOD[name], 0.0)} for name in [*NAMES, "weights"]],
    *[{name: GOOD[name].astype(np.float32)} for name in [*NAMES, "X", "weights"]],
    *[{name: GOOD[name].astype(np.int64)} for name in [*NAMES, "X", "weights"]],
    *[{name: GOOD[name].astype(">f8")} for name in [*NAMES, "X", "weights"]],
    *[{name: np.repeat(GOOD[name], 2)[::2]} for name in [*NAMES, "weights", "order"]],
    *[{name: unaligned(GOOD[name])} for name in [*NAMES, "X", "Y", "weights", "order"]],
    *[{name: read_only(GOOD[name].copy())} for name in NAMES],
    *[{name: None} for name in ["theta", "velocity", "second_moment", "X", "Y"]],
    {"X": GOOD["X"][:, :3].copy()},
    {"X": np.ones((N, 5))},
    {"X": np.ones(4)},
    {"X": np.asfortranarray(GOOD["X"])},
    {"X": np.ones((N, 8))[:, ::2]},
    {"X": np.ones((0, 4))},
    {"Y": GOOD["Y"][:-1]},
    {"Y": GOOD["Y"][:, 0]},
    {"Y": np.zeros((N, 3), np.intc)},
    {"Y": GOOD["Y"].astype(np.int64)},
    {"Y": GOOD["Y"].astype(float)},
    {"Y": changed(GOOD["Y"], 5, 2)},
    {"Y": changed(GOOD["Y"], 0, -1)},
    {"Y": changed(np.zeros((N, 2), np.intc), (5, 1), 2)},
    {"order": changed(GOOD["order"], 3, N)},
    {"order": changed(GOOD["order"], 3, -1)},
    {"order": np.arange(N, dtype=np.int32)},
    {"order": np.arange(N, dtype=float)},
    {"standard": np.ones((2, 4))},
    {"standard": np.ones((3, 3))},
    {"standard": np.ones(12)},
    {"standard": np.ones((3, 4), np.float32)},
    {"standard": np.ones((3, 4), ">f8")},
    {"standard": np.ones((3, 8))[:, ::2]},
    {"standard": unaligned(np.ones((3, 4)))},
    {"batch_size": 0},
    {"batch_size": -1},
    {"solver": "sgd"},
    {"layout": Network((4, 2), "logistic", "logistic").layout},
    {"dtype": np.dtype(np.float32)},
    {"dtype": np.dtype(int)},
    {"gathered": False},
    {"gathered": False, "order": None, "standard": np.ones((3, 4))},
    {"gathered": False, "standard": np.ones((3, 4)), "X": csr()},
    {"X": csr(indices=changed(FULL.indices, 7, 4))},
    {"X": csr(indices=changed(FULL.indices, 7, -1))},
    {"X": csr(indices=changed(FULL.indices.astype(np.int64), 7, 1 << 40))},
    {"X": csr(indices=FULL.indices[:-1])},
    {"X": csr(indices=FULL.indices.astype(float))},
    {"X": csr(data=FULL.data[:-1])},
    {"X": csr(data=FULL.data.astype(int))},
    {"X": csr(indptr=changed(FULL.indptr, 2, 3))},
    {"X": csr(indptr=changed(FULL.indptr, 0, -1))},
    {"X": csr(indptr=changed(FULL.indptr, N, 4 * N + 1))},
    {"X": csr(indptr=changed(FULL.indptr.astype(np.int64), N, 1 << 62))},
    {"X": csr(indptr=FULL.indptr[:-1])},
]


@compiled
@pytest.mark.parametrize("wrong", REFUSED, ids=lambda w: next(iter(w)))
def test_wrong_arguments_are_refused(wrong):
    """An error, before anything is read or written."""
    given = arguments()
    assert call(**given)[1] == N
    given |= wrong
    before = {name: np.array(given[name]) for name in NAMES if given[name] is not None}
    with pytest.raises(ValueError):
        call(**given)
    for name, value in before.items():
        np.testing.assert_array_equal(given[name], value)


@compiled
def test_parameters_that_are_read_only_can_predict():
    theta, X = read_only(GOOD["theta"].copy()), read_only(GOOD["X"].copy())
    out = np.empty((N, 2))
    given = (
        backprop.Model(NETWORK.layout, theta),
        backprop.Data(X),
    )
    work = backprop.Workspace(NETWORK.layout, theta.dtype, 4)
    assert backprop.outputs(*given, out, True, True, work)
    (W_1, W_2), (b_1, b_2) = NETWORK.coefs(theta), NETWORK.intercepts(theta)
    np.testing.assert_allclose(out, expit(expit(X @ W_1 + b_1) @ W_2 + b_2), rtol=1e-13)
    for Z in (out[:-1], read_only(out.copy()), out.astype(np.float32), out.T):
        with pytest.raises(ValueError):
            backprop.outputs(*given, Z, True, True, work)
    with pytest.raises(ValueError, match="for 1 threads"):
        backprop.outputs(*given, out, True, True, work, backprop.NativeThreadPool(2))


@compiled
@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_over_one_class(dtype):
    """Its only code is 0: nothing to learn. 1 is refused, it lies past the row."""
    layout = backprop.Layout((2, 1), "logistic", "softmax")
    gradient = np.empty(3, dtype)
    parameters = backprop.Model(layout, np.ones(3, dtype), gradient=gradient)
    work = backprop.Workspace(layout, np.dtype(dtype), 4)
    X, Y = np.ones((4, 2), dtype), np.zeros((4, 1), np.intc)
    assert backprop.loss_gradient(parameters, backprop.Data(X, Y), work) == 0
    np.testing.assert_array_equal(gradient, 0)
    rows = backprop.Data(X, Y)
    with pytest.raises(ValueError, match="less than 1"):
        backprop.loss_gradient(parameters, backprop.Data(X, Y + 1), work)
    Y[:] = 1  # after it was checked
    assert backprop.loss_gradient(parameters, rows, work) == 0
    in_place = backprop.Model(layout, parameters.theta)
    step = UpdateRule(0.1)
    assert backprop.run_batches(in_place, 0, rows, 1, step, work) == (0, 4)
    np.testing.assert_array_equal(parameters.theta, 1)


@compiled
def test_what_was_not_checked_for_the_call_before_is_checked():
    theta, X = GOOD["theta"], GOOD["X"]
    parameters = backprop.Model(NETWORK.layout, theta)
    work = backprop.Workspace(NETWORK.layout, theta.dtype, 4)
    for Y in (None, np.full((N, 1), 7, np.intc)):
        rows = backprop.Data(X, Y)
        backprop.outputs(parameters, rows, np.empty((N, 2)), True, False, work)
        with pytest.raises(ValueError, match="no targets|less than 2"):
            backprop.loss_gradient(parameters, rows, work)
    with pytest.raises(AttributeError):
        rows.Y = GOOD["Y"]


@compiled
def test_no_rows():
    """The gradient of nothing is 0; norms are of all rows, whatever their order."""
    gradient = np.ones(NETWORK.n_parameters)
    parameters = backprop.Model(NETWORK.layout, GOOD["theta"], gradient=gradient)
    rows = backprop.Data(GOOD["X"][:0], GOOD["Y"][:0])
    work = backprop.Workspace(NETWORK.layout, gradient.dtype, 4)
    assert backprop.loss_gradient(parameters, rows, work) == 0
    np.testing.assert_array_equal(gradient, 0)
    norms = np.empty(N)
    backprop.squared_row_norms(
        backprop.Data(GOOD["X"], None, None, np.zeros(99, int)), norms
    )
    np.testing.assert_allclose(norms, (GOOD["X"] ** 2).sum(axis=1))


@compiled
def test_checked_arguments_stay_as_they_are():
    """A second __init__ does not join targets to other rows; none is left out."""
    parameters = backprop.Model(NETWORK.layout, GOOD["theta"])
    rows = backprop.Data(GOOD["X"], GOOD["Y"])
    work = backprop.Workspace(NETWORK.layout, GOOD["theta"].dtype, 4)
    loss = backprop.loss_gradient(parameters, rows, work)
    rows.__init__(np.ones((1000, 4)))
    assert rows.n == N
    assert backprop.loss_gradient(parameters, rows, work) == loss
    for cls in (backprop.Model, backprop.Data):
        with pytest.raises(TypeError):
            cls.__new__(cls)


# Products


@compiled
@pytest.mark.parametrize("dtype", FLOATS)
@settings(max_examples=150, deadline=None)
@given(
    m=st.one_of(st.integers(1, 20), st.integers(1, 150)),
    n=st.one_of(st.integers(1, 20), st.integers(1, 150)),
    k=st.one_of(st.integers(1, 20), st.sampled_from([127, 129, 600, 9001])),
    turned=st.tuples(st.booleans(), st.booleans()),
    gap=st.sampled_from([0, 3]),
    scale=st.sampled_from([1.0, -0.3]),
    decay=st.sampled_from([0.0, 1e-9, 0.25]),
    start=st.sampled_from(["zero", "bias", "accumulate"]),
    seed=st.integers(0, 1000),
)
def test_product(dtype, m, n, k, turned, gap, scale, decay, start, seed):
    """C = P - decay P + scale A B is NumPy's, for every shape, order and set.

    A and B may be parts of wider matrices.
    """
    rng = np.random.default_rng(seed)

    def matrix(m, n):
        return rng.normal(size=(m, n + gap)).astype(dtype)[:, :n]

    A = matrix(k, m) if turned[0] else matrix(m, k)
    B = matrix(n, k) if turned[1] else matrix(k, n)
    A, B = (M.T if t else M for M, t in zip((A, B), turned, strict=True))
    C = rng.normal(size=(m, n)).astype(dtype)
    bias = rng.normal(size=n).astype(dtype) if start == "bias" else None
    P = {"zero": 0.0, "bias": bias, "accumulate": C}[start]
    wide_A, wide_B = A.astype(float), B.astype(float)
    expected = P - decay * np.asarray(P, dtype=float) + scale * (wide_A @ wide_B)
    # The error of a sum of products is bounded by that of their sizes.
    bound = np.finfo(dtype).eps * (k + 4) * (abs(wide_A) @ abs(wide_B) + 4)
    for name in SETS:
        before = backprop.use_instruction_set(name)
        result = C.copy()
        try:
            backprop.product(A, B, result, scale, decay, start == "accumulate", bias)
        finally:
            backprop.use_instruction_set(before)
        assert (abs(result - expected) <= bound).all(), name


# Instruction sets


@compiled
def test_unknown_instruction_set():
    before = backprop.use_instruction_set("baseline")
    with pytest.raises(ValueError, match="mmx"):
        backprop.use_instruction_set("mmx")
    assert backprop.use_instruction_set(before) == "baseline"


@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_on_each(instruction_set, dtype):
    """Within 4 ulp of SciPy's, wherever it is a normal number."""
    rng = np.random.default_rng(0)
    limit = {np.float32: 87.3, np.float64: 708.3}[dtype]
    z = np.append(rng.uniform(-limit, limit, 50_001), rng.normal(size=50_000))
    z = z.astype(dtype)
    values = z.copy()
    backprop.activation("logistic", values)
    expected = expit(z)
    assert (np.abs(values - expected) / np.spacing(expected)).max() <= 4


@compiled
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("standardized", [False, True], ids=["", "standardised"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("output", ["logistic", "softmax"])
@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("units", [(5, 1), (5, 3), (37, 1), (37, 19, 6), (5, 4, 33)])
def test_each_is_the_baseline_to_rounding(
    instruction_set, units, batch_size, output, dtype, standardized, sparse
):
    rng = np.random.default_rng(0)
    network = Network(units, "tanh", output if units[-1] > 1 else "logistic")
    X = rng.normal(size=(40, units[0])) * (rng.random((40, units[0])) < 0.5)
    X = X.astype(dtype)
    Y = rng.integers(max(units[-1], 2), size=(40, 1)).astype(np.intc)
    start = (rng.normal(size=network.n_parameters) * 0.3).astype(dtype)
    weights = rng.uniform(0.5, 1.5, 40).astype(dtype)
    order, how = rng.permutation(40), None
    if standardized:
        d = units[0]
        how = standardizer(rng.normal(size=d), rng.uniform(0.5, 2, d), start.dtype)

    def results():
        work = backprop.Workspace(network.layout, start.dtype, 16, gathered=True)
        rows = backprop.Data(csr_array(X) if sparse else X, Y, weights, order, how)
        theta, gradient = start.copy(), np.empty_like(start)
        loss = backprop.loss_gradient(
            backprop.Model(network.layout, theta, gradient=gradient), rows, work
        )
        total, n_done = backprop.run_batches(
            backprop.Model(network.layout, theta), 0, rows, batch_size,
            UpdateRule(0.1, alpha=0.01), work,
        )  # fmt: skip
        assert n_done == 40
        return [loss, total, gradient, theta]

    ours = results()
    backprop.use_instruction_set("baseline")
    tolerance = {np.float32: 1e-4, np.float64: 1e-12}[dtype]
    for our, expected in zip(ours, results(), strict=True):
        np.testing.assert_allclose(our, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_one_neuron_on_single_rows_is_sgd(instruction_set, sparse, alpha):
    """SGDClassifier's logistic regression: the same steps from the same start.

    It is given dense rows: with sparse ones it slows down its intercept.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 11)) * (rng.random((300, 11)) < 0.5)
    y = (X @ rng.normal(size=11) + rng.normal(size=300) > 0).astype(int)
    ours = BGDClassifier(
        (), batch_size=1, learning_rate=0.05, learning_rate_schedule="constant",
        alpha=alpha, shuffle=False, max_iter=7, tol=None, momentum=0.0,
        standardize=False,
    ).fit(csr_array(X) if sparse else X, y)  # fmt: skip
    theirs = SGDClassifier(
        loss="log_loss", learning_rate="constant", eta0=0.05, alpha=alpha,
        shuffle=False, max_iter=7, tol=None,
    ).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(ours.coefs_[0].ravel(), theirs.coef_[0], atol=1e-10)
    np.testing.assert_allclose(ours.intercepts_[0], theirs.intercept_, atol=1e-10)


# Predictions


@compiled
def test_ctrl_c_ends_a_prediction():
    """The last rows, which would take seconds to reach, are not computed."""
    network = Network((8, 1500, 1500, 1), "logistic", "logistic")
    theta = np.zeros(network.n_parameters, np.float32)
    data = backprop.Data(np.zeros((400_000, 8), np.float32))
    Z = np.full((400_000, 1), np.nan, np.float32)
    workspace = backprop.Workspace(network.layout, theta.dtype, 64)
    model = backprop.Model(network.layout, theta)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        backprop.outputs(model, data, Z, True, True, workspace)
    timer.join()
    assert np.isnan(Z[-1])


@pytest.fixture(scope="module", params=FLOATS)
def fitted(request):
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(request.param)
    clf = BGDClassifier((5,), max_iter=3, tol=None, random_state=0)
    return clf.fit(X, X[:, 0] > 0), X


def message(function, *args):
    with pytest.raises(ValueError) as raised:
        function(*args)
    return str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
def test_what_is_not_finite_is_refused_as_ever(fitted, method, value):
    """An array that needs no conversion gives the words of scikit-learn too."""
    clf, X = fitted
    X = X.copy()
    X[-1, -1] = value
    predict = getattr(clf, method)
    text = message(predict, X)
    assert ("NaN" if np.isnan(value) else "infinity") in text
    assert text == message(predict, np.asfortranarray(X))


def test_assume_finite(fitted):
    """Then infinities pass; a NaN is still no number when it comes out."""
    clf, X = fitted
    X = X.copy()
    X[0, 0] = np.inf
    with config_context(assume_finite=True):
        result = clf.predict_proba(X)
        np.testing.assert_array_equal(result, clf.predict_proba(np.asfortranarray(X)))
        X[0, 0] = np.nan
        text = message(clf.predict_proba, X)
        assert text == message(clf.predict_proba, np.asfortranarray(X))


def test_wrong_shapes(fitted):
    clf, X = fitted
    assert "2 features" in message(clf.predict, X[:, :2].copy())
    assert "1D array" in message(clf.predict, X[0])
    assert "0 sample" in message(clf.predict, X[:0])


def test_all_ways_in_give_the_same(fitted):
    clf, X = fitted
    expected = clf.predict_proba(X)
    other = np.float64 if X.dtype == np.float32 else np.float32
    exact = np.float32(X).astype(X.dtype)  # so that both types hold it
    ways = [X.tolist(), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2]]
    for way in [
        *ways,
        unaligned(X),
        read_only(X.copy()),
        X.astype(X.dtype.newbyteorder()),
    ]:
        np.testing.assert_array_equal(clf.predict_proba(way), expected)
    np.testing.assert_array_equal(
        clf.predict_proba(exact.astype(other)), clf.predict_proba(exact)
    )


@pytest.mark.parametrize("dtype", ["i4", "i8", "f8"])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_rows_may_lie_anywhere(kind, dtype, early_stopping):
    """Rows, labels and weights that are unaligned and read-only train the same."""
    X, y = targets(kind)
    y, w = y.astype(dtype), np.linspace(1, 2, len(X))
    moved = [read_only(unaligned(array)) for array in (X, y, w)]
    clf = small(early_stopping=early_stopping, max_iter=3)
    expected, other = clone(clf).fit(X, y, w), clone(clf).fit(*moved)
    same(other, expected)
    same(other.partial_fit(*moved[:2]), expected.partial_fit(X, y))
