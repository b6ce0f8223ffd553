"""The compiled core: its checks of arguments, its products, its instruction sets.

test_backprop.py tests what it computes, test_threads.py its threads.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from core_helpers import (
    COMPILED,
    FLOATS,
    ctrl_c_during,
    instruction_set,
    make_problem,
    read_only,
    unaligned,
)
from helpers import same, small, targets
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier

from skbgd import BGDClassifier
from skbgd._core import backprop
from skbgd._core.arguments import Layout, standardizer
from skbgd._network import Network
from skbgd._update_rules import UpdateRule

compiled = pytest.mark.skipif(not COMPILED, reason="needs the compiled core")


@pytest.fixture(params=backprop.instruction_sets())
def each_instruction_set(request):
    with instruction_set(request.param):
        yield


# Checks of the arguments


NETWORK = Network((4, 3, 2), "logistic", "logistic")
N = 6


def arguments():
    """Valid arguments of `call`."""
    rng = np.random.default_rng(0)
    n = NETWORK.n_parameters
    return {
        "theta": rng.normal(size=n),
        "velocity": np.zeros(n),
        "second_moment": np.zeros(n),
        "X": rng.normal(size=(N, 4)),
        "Y": rng.integers(2, size=(N, 1)).astype(np.intc),
        "weights": np.ones(N),
        "order": np.arange(N),
        "standardizer": None,
        "batch_size": 2,
        "n_threads": 1,
        "tile": 4,
        "n_steps": 0,
        "solver": "adam",
    }


def call(theta, X, Y, weights, n_steps, solver, **arrays):
    """An epoch; returns the number of rows."""
    trainer = backprop.Trainer(NETWORK.layout, theta, X, Y, weights, **arrays)
    trainer.epoch(UpdateRule(0.1, solver=solver), n_steps)
    return trainer.n_done


def csr(**members):
    """Sparse X with some of its arrays replaced, as SciPy would not allow."""
    X = csr_array(np.arange(1.0, 1 + 4 * N).reshape(N, 4))
    for name, value in members.items():
        setattr(X, name, value)
    return X


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


VALID, CSR = arguments(), csr()
OUTPUTS = ["theta", "velocity", "second_moment"]
VECTORS = [*OUTPUTS, "weights"]
# What makes an array invalid, and for which arguments.
CHANGES = {
    "short": (lambda a: a[:-1], VECTORS),
    "long": (lambda a: np.append(a, 0.0), VECTORS),
    "float32": (lambda a: a.astype(np.float32), VECTORS[1:]),
    "integers": (lambda a: a.astype(np.int64), [*VECTORS, "X", "Y"]),
    "byte order": (lambda a: a.astype(">f8"), [*VECTORS, "X"]),
    "strided": (lambda a: np.repeat(a, 2)[::2], [*VECTORS, "order"]),
    "unaligned": (unaligned, [*VECTORS, "X", "Y", "order"]),
    "read-only": (lambda a: read_only(a.copy()), OUTPUTS[1:]),
    "None": (lambda a: None, ["theta", "X"]),
    "1D": (lambda a: a[:, 0].copy(), ["X", "Y"]),
    "Fortran order": (np.asfortranarray, ["X"]),
    "strided rows": (lambda a: np.repeat(a, 2, axis=1)[:, ::2], ["X"]),
    "floats": (lambda a: a.astype(float), ["Y", "order"]),
    "int32": (lambda a: a.astype(np.int32), ["order"]),
}
DAMAGED = "The sparse matrix X of shape .* is damaged"
# The arguments that change, and the message.
INVALID = {
    f"{name}: {change}": ({name: function(VALID[name])}, f"{name} must be an array of")
    for change, (function, names) in CHANGES.items()
    for name in names
} | {
    "theta: float32": (
        {"theta": VALID["theta"].astype(np.float32)}, "velocity must be an array of",
    ),
    "theta: read-only": (
        {"theta": read_only(VALID["theta"].copy())}, "theta must be writable",
    ),
    "velocity: None": ({"velocity": None}, "second_moment needs"),
    "second_moment: None": ({"second_moment": None}, "Adam needs a second_moment"),
    "second_moment: for sgd": ({"solver": "sgd"}, "other solvers take none"),
    "X: float32": (
        {"X": VALID["X"].astype(np.float32)}, "weights must be an array of",
    ),
    "X: 3 features": ({"X": np.ones((N, 3))}, "X must have 4 features"),
    "X: 5 features": ({"X": np.ones((N, 5))}, "X must have 4 features"),
    "X: no rows": ({"X": np.ones((0, 4))}, "Y must have 0 rows; got 6"),
    "Y: None": ({"Y": None}, "no targets"),
    "Y: 5 rows": ({"Y": VALID["Y"][:-1]}, "Y must have 6 rows; got 5"),
    "Y: 3 columns": ({"Y": np.zeros((N, 3), np.intc)}, "1 or 2 columns .* got 3"),
    "Y: label 2": ({"Y": changed(VALID["Y"], 5, 2)}, "less than 2; got 0 to 2"),
    "Y: label -1": ({"Y": changed(VALID["Y"], 0, -1)}, "less than 2; got -1 to 1"),
    "Y: indicator 2": (
        {"Y": changed(np.zeros((N, 2), np.intc), (5, 1), 2)},
        "less than 2; got 0 to 2",
    ),
    "order: short": ({"order": VALID["order"][:-1]}, "order must be an array of"),
    "order: n": ({"order": changed(VALID["order"], 3, N)}, "from 0 to 5"),
    "order: -1": ({"order": changed(VALID["order"], 3, -1)}, "from 0 to 5"),
    "batch_size: 0": ({"batch_size": 0}, "batch_size and n_threads must be positive"),
    "batch_size: -1": ({"batch_size": -1}, "batch_size and n_threads must be positive"),
    "n_threads: 0": ({"n_threads": 0}, "batch_size and n_threads must be positive"),
    "tile: 0": ({"tile": 0}, "tile must be positive"),
    "n_steps: -1": ({"n_steps": -1}, "n_steps must not be negative"),
    "data: integers": (
        {"X": csr(data=CSR.data.astype(int))}, "X.data must be an array of",
    ),
    "indices: floats": (
        {"X": csr(indices=CSR.indices.astype(float))}, "X.indices must be an array of",
    ),
} | {
    f"standardizer: {name}": (
        {"standardizer": array}, "standardizer must be an array of",
    )
    for name, array in {
        "2 rows": np.ones((2, 4)),
        "3 columns": np.ones((3, 3)),
        "1D": np.ones(12),
        "float32": np.ones((3, 4), np.float32),
        "byte order": np.ones((3, 4), ">f8"),
        "strided": np.ones((3, 8))[:, ::2],
        "unaligned": unaligned(np.ones((3, 4))),
    }.items()
} | {
    f"csr: {name}": ({"X": csr(**members)}, DAMAGED)
    for name, members in {
        "index d": {"indices": changed(CSR.indices, 7, 4)},
        "index -1": {"indices": changed(CSR.indices, 7, -1)},
        "index 2**40": {"indices": changed(CSR.indices.astype(np.int64), 7, 1 << 40)},
        "short indices": {"indices": CSR.indices[:-1]},
        "short data": {"data": CSR.data[:-1]},
        "falling indptr": {"indptr": changed(CSR.indptr, 2, 3)},
        "negative indptr": {"indptr": changed(CSR.indptr, 0, -1)},
        "indptr beyond": {"indptr": changed(CSR.indptr, N, 4 * N + 1)},
        "indptr 2**62": {"indptr": changed(CSR.indptr.astype(np.int64), N, 1 << 62)},
        "short indptr": {"indptr": CSR.indptr[:-1]},
    }.items()
} | {
    f"csr: {name} of {dtype}": (
        {"X": csr(**{name: getattr(CSR, name).astype(dtype)})}, f"X.{name} must be",
    )
    for name, dtype in (
        ("data", "int64"), ("indices", "int16"), ("indptr", "int16"), ("indptr", "f8"),
    )
}  # fmt: skip


@compiled
@pytest.mark.parametrize("case", INVALID)
def test_invalid_arguments(case):
    """They raise an error before any memory is read or written."""
    changes, match = INVALID[case]
    given = arguments()
    assert call(**given) == N
    given |= changes
    before = {k: np.array(given[k]) for k in OUTPUTS if given[k] is not None}
    with pytest.raises(ValueError, match=match):
        call(**given)
    for name, value in before.items():
        np.testing.assert_array_equal(given[name], value)


INVALID_OUTPUTS = {
    "short": lambda Z: Z[:-1],
    "read-only": lambda Z: read_only(Z.copy()),
    "float32": lambda Z: Z.astype(np.float32),
    "transposed": lambda Z: Z.T,
}


@compiled
@pytest.mark.parametrize("invalid", INVALID_OUTPUTS)
def test_invalid_output_array(invalid):
    """An array for the outputs must be exactly what the core writes."""
    trainer = backprop.Trainer(NETWORK.layout, VALID["theta"], VALID["X"])
    Z = INVALID_OUTPUTS[invalid](np.zeros((N, 2)))
    with pytest.raises(ValueError, match=r"Z must be an array of \(6, 2\)"):
        trainer.outputs(Z, True)


@compiled
@pytest.mark.parametrize(
    "change",
    [
        lambda g: g[:-1],
        lambda g: np.append(g, 0.0),
        lambda g: read_only(g.copy()),
        lambda g: g.astype(np.float32),
        lambda g: np.repeat(g, 2)[::2],
        unaligned,
    ],
    ids=["short", "long", "read-only", "float32", "strided", "unaligned"],
)
def test_invalid_gradient(change):
    """An array for the gradient must be exactly what the core reads and writes."""
    trainer = backprop.Trainer(NETWORK.layout, VALID["theta"], VALID["X"], VALID["Y"])
    gradient = change(np.zeros(NETWORK.n_parameters))
    for call in (
        trainer.loss_gradient,
        lambda gradient: trainer.step(UpdateRule(0.1), 0, gradient),
    ):
        with pytest.raises(ValueError, match="gradient must be an array of"):
            call(gradient)


@compiled
def test_calls_that_a_trainer_does_not_allow():
    """Passes over all rows take no order; a step takes one thread."""
    layout, theta, Z = NETWORK.layout, VALID["theta"], np.empty((N, 2))
    rows = VALID["X"], VALID["Y"]
    ordered = backprop.Trainer(layout, theta, *rows, order=VALID["order"])
    with pytest.raises(ValueError, match="without order"):
        ordered.outputs(Z)
    with pytest.raises(ValueError, match="without order"):
        ordered.loss_gradient()
    with pytest.raises(ValueError, match="needs dense X"):
        backprop.Trainer(layout, theta, csr()).outputs(Z, True)
    with pytest.raises(ValueError, match="one thread"):
        backprop.Trainer(layout, theta, *rows, n_threads=2).step(
            UpdateRule(0.1), 0, np.zeros_like(theta)
        )


@compiled
@pytest.mark.parametrize("sizes", [{"tile": 1 << 62}, {"n_threads": 2**31 - 1}])
def test_memory_that_cannot_be_counted(sizes):
    """Sizes whose product may overflow raise a MemoryError."""
    units = (1000, 1000, 1)
    layout = Layout(units, "tanh", "logistic")
    theta, X = np.zeros(layout.n_parameters), np.zeros((2, 1000))
    with pytest.raises(MemoryError):
        backprop.Trainer(layout, theta, X, **{"tile": 4096} | sizes)


@compiled
def test_one_call_at_a_time():
    """A second call is an error, and does not disturb the first."""
    rng, n = np.random.default_rng(0), 60_000
    network = Network((64, 200, 1), "tanh", "logistic")
    start = 0.1 * rng.normal(size=network.n_parameters)
    X, Y = rng.normal(size=(n, 64)), np.ones((n, 1), np.intc)
    rule = UpdateRule(1e-3, momentum=0.5)

    def trainer():
        velocity = np.zeros_like(start)
        given = network.layout, start.copy(), X, Y
        return backprop.Trainer(*given, velocity=velocity, batch_size=1), given[1]

    (alone, expected), (disturbed, theta) = trainer(), trainer()
    alone.epoch(rule, 0)
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(disturbed.epoch, rule, 0)
        while disturbed.n_done == 0:
            time.sleep(0)
        for call in (
            lambda: disturbed.epoch(rule, 0),
            lambda: disturbed.outputs(np.empty((n, 1))),
        ):
            with pytest.raises(RuntimeError, match="in use by another call"):
                call()
        first.result()
    assert disturbed.n_done == n
    np.testing.assert_array_equal(theta, expected)


@compiled
def test_read_only_arrays_predict():
    """Outputs need neither theta nor X to be writable."""
    theta, X = read_only(VALID["theta"].copy()), read_only(VALID["X"].copy())
    Z = np.empty((N, 2))
    assert backprop.Trainer(NETWORK.layout, theta, X).outputs(Z, True)
    (W_1, W_2), (b_1, b_2) = NETWORK.coefs(theta), NETWORK.intercepts(theta)
    np.testing.assert_allclose(Z, expit(X @ W_1 + b_1) @ W_2 + b_2, rtol=1e-13)


@compiled
@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_over_one_class(dtype):
    """Its only label is 0 and nothing is learned; label 1 is out of bounds."""
    layout = Layout((2, 1), "logistic", "softmax")
    theta, gradient = np.ones(3, dtype), np.empty(3, dtype)
    X, Y = np.ones((4, 2), dtype), np.zeros((4, 1), np.intc)
    trainer = backprop.Trainer(layout, theta, X, Y, batch_size=1)
    assert trainer.loss_gradient(gradient) == 0
    np.testing.assert_array_equal(gradient, 0)
    with pytest.raises(ValueError, match="less than 1"):
        backprop.Trainer(layout, theta, X, Y + 1)
    Y[:] = 1  # after it was checked
    assert trainer.loss_gradient() == 0
    trainer.epoch(UpdateRule(0.1), 0)
    assert (trainer.loss_sum, trainer.n_done) == (0, 4)
    np.testing.assert_array_equal(theta, 1)


@compiled
def test_rows_without_targets_have_outputs_only():
    """Losses and epochs need targets."""
    trainer = backprop.Trainer(NETWORK.layout, VALID["theta"], VALID["X"])
    assert trainer.outputs(np.empty((N, 2)))
    with pytest.raises(ValueError, match="no targets"):
        trainer.loss_gradient()
    with pytest.raises(ValueError, match="no targets"):
        trainer.epoch(UpdateRule(0.1), 0)


@compiled
def test_no_rows():
    """The loss and gradient over no rows are 0."""
    gradient = np.ones(NETWORK.n_parameters)
    rows = VALID["X"][:0], VALID["Y"][:0]
    trainer = backprop.Trainer(NETWORK.layout, VALID["theta"], *rows)
    assert trainer.loss_gradient(gradient) == 0
    np.testing.assert_array_equal(gradient, 0)


@compiled
def test_checked_arguments_cannot_change():
    """A trainer keeps the arrays alive, and a second __init__ replaces nothing."""
    X = VALID["X"].copy()
    trainer = backprop.Trainer(NETWORK.layout, VALID["theta"].copy(), X, VALID["Y"])
    loss = trainer.loss_gradient()
    trainer.__init__(NETWORK.layout, VALID["theta"], np.ones((1000, 4)))
    with pytest.raises(AttributeError):
        trainer.theta = None
    with pytest.raises(ValueError, match="resize"):
        X.resize((1, 4))
    assert trainer.loss_gradient() == loss
    with pytest.raises(TypeError):
        backprop.Trainer.__new__(backprop.Trainer)


# Products


@compiled
@pytest.mark.parametrize("dtype", FLOATS)
@settings(max_examples=150, deadline=None)
@given(
    m=st.one_of(st.integers(1, 20), st.integers(1, 150)),
    n=st.one_of(st.integers(1, 20), st.integers(1, 150)),
    k=st.one_of(st.integers(1, 20), st.sampled_from([127, 129, 600, 9001])),
    transposed=st.tuples(st.booleans(), st.booleans()),
    gap=st.sampled_from([0, 3]),
    scale=st.sampled_from([1.0, -0.3]),
    decay=st.sampled_from([0.0, 1e-9, 0.25]),
    start=st.sampled_from(["zero", "bias", "accumulate"]),
    seed=st.integers(0, 1000),
)
def test_product(dtype, m, n, k, transposed, gap, scale, decay, start, seed):
    """C = P - decay P + scale A B is NumPy's for any shape, layout and kernel.

    A and B may be parts of wider matrices.
    """
    rng = np.random.default_rng(seed)

    def matrix(m, n):
        return rng.normal(size=(m, n + gap)).astype(dtype)[:, :n]

    A = matrix(k, m) if transposed[0] else matrix(m, k)
    B = matrix(n, k) if transposed[1] else matrix(k, n)
    A, B = (M.T if t else M for M, t in zip((A, B), transposed, strict=True))
    C = rng.normal(size=(m, n)).astype(dtype)
    bias = rng.normal(size=n).astype(dtype) if start == "bias" else None
    P = {"zero": 0.0, "bias": bias, "accumulate": C}[start]
    wide_A, wide_B = A.astype(float), B.astype(float)
    expected = P - decay * np.asarray(P, dtype=float) + scale * (wide_A @ wide_B)
    # The rounding error of a sum is bounded by the sum of absolute values.
    bound = np.finfo(dtype).eps * (k + 4) * (abs(wide_A) @ abs(wide_B) + 4)
    for name in backprop.instruction_sets():
        result = C.copy()
        with instruction_set(name):
            backprop.product(A, B, result, scale, decay, start == "accumulate", bias)
        assert (abs(result - expected) <= bound).all(), name


@compiled
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("k", range(1, 10))
def test_product_of_any_width(each_instruction_set, k, dtype):
    """Nothing outside of C is written, for every width and few rows of A or B."""
    rng = np.random.default_rng(k)
    for n in range(1, 71):
        B = rng.normal(size=(k, n)).astype(dtype)
        for m in (1, 2, 17):
            A = rng.normal(size=(k, m)).astype(dtype).T  # as in the update of W
            memory = np.full(m * n + 32, 7, dtype)
            C = memory[16:-16].reshape(m, n)
            expected = C - 0.25 * C + 0.5 * (A.astype(float) @ B)
            backprop.product(A, B, C, 0.5, 0.25, True)
            np.testing.assert_allclose(C, expected, 1e-5, 1e-5)
            assert (memory[:16] == 7).all() and (memory[-16:] == 7).all()


# Steps on few rows


def steps_in_place(network, theta, *rows, rule, **arrays):
    """Theta after an epoch of steps in place, and after one with a velocity."""
    ends = []
    for velocity in (None, np.zeros_like(theta)):
        end = theta.copy()
        trainer = backprop.Trainer(
            network.layout, end, *rows, velocity=velocity, tile=32, **arrays
        )
        trainer.epoch(rule, 0)
        ends.append((end, trainer.n_done))
    return ends


@compiled
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("alpha", [0.0, 0.05, 5.0])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("hidden", [(), (7,), (300, 3)], ids=str)
def test_blocks_of_steps(each_instruction_set, hidden, batch_size, alpha, dtype):
    """Several steps at once are the same steps, also beside a short last batch."""
    network, theta, X, Y, _, weights = make_problem(
        hidden, n=75, d=30, K=4, output="softmax", dtype=dtype, weighted=True
    )
    order = np.random.default_rng(0).permutation(75)
    ours, expected = steps_in_place(
        network, theta / 5, X, Y, weights,
        order=order, batch_size=batch_size, rule=UpdateRule(0.1, alpha=alpha),
    )  # fmt: skip
    assert ours[1] == expected[1] == 75
    tolerance = {np.float32: 1e-4, np.float64: 1e-12}[dtype]
    np.testing.assert_allclose(ours[0], expected[0], tolerance, tolerance)


@compiled
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("case", ["X", "weight", "overflow"])
def test_loss_that_is_not_finite_in_a_block(each_instruction_set, case, batch_size):
    """Theta holds the last complete step. Finite steps do not depend on X X^T."""
    network, theta, X, Y, _, weights = make_problem(
        (7,), n=75, d=30, dtype=np.float32, weighted=True
    )
    rule = UpdateRule(0.1)
    if case == "X":
        X[40, 3] = np.nan
        weights[40] = 1
    elif case == "weight":
        weights[41] = np.inf
    else:  # of a squared row norm
        X *= 1e20
        theta[: 30 * 7] *= 1e-20
        rule = UpdateRule(1e-37)
    ours, expected = steps_in_place(
        network, theta, X, Y, weights, batch_size=batch_size, rule=rule
    )
    n_done = 75 if case == "overflow" else 40 + (case == "weight") * (batch_size == 1)
    assert ours[1] == expected[1] == n_done
    assert np.isfinite(ours[0]).all()
    np.testing.assert_allclose(ours[0], expected[0], 1e-4, 1e-5)


# Instruction sets


@compiled
def test_unknown_instruction_set():
    """An error names it, and the selected one stays."""
    with instruction_set("baseline"):
        with pytest.raises(ValueError, match="mmx"):
            backprop.use_instruction_set("mmx")
        assert backprop.use_instruction_set("baseline") == "baseline"


@compiled
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("standardized", [False, True], ids=["raw", "standardized"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("output", ["logistic", "softmax"])
@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("units", [(5, 1), (5, 3), (37, 1), (37, 19, 6), (5, 4, 33)])
def test_instruction_sets_agree(
    each_instruction_set, units, batch_size, output, dtype, standardized, sparse
):
    """Loss, gradient and steps are those of the baseline, to rounding."""
    rng = np.random.default_rng(0)
    network = Network(units, "tanh", output if units[-1] > 1 else "logistic")
    X = rng.normal(size=(40, units[0])) * (rng.random((40, units[0])) < 0.5)
    X = X.astype(dtype)
    Y = rng.integers(max(units[-1], 2), size=(40, 1)).astype(np.intc)
    start = (rng.normal(size=network.n_parameters) * 0.3).astype(dtype)
    weights = rng.uniform(0.5, 1.5, 40).astype(dtype)
    order, transform = rng.permutation(40), None
    if standardized:
        shift, scale = rng.normal(size=units[0]), rng.uniform(0.5, 2, units[0])
        transform = standardizer(shift, scale, start.dtype)

    def results():
        theta, gradient = start.copy(), np.empty_like(start)
        rows = csr_array(X) if sparse else X
        given = network.layout, theta, rows, Y, weights
        shared = {"standardizer": transform, "tile": 16}
        loss = backprop.Trainer(*given, **shared).loss_gradient(gradient)
        trainer = backprop.Trainer(*given, **shared, order=order, batch_size=batch_size)
        trainer.epoch(UpdateRule(0.1, alpha=0.01), 0)
        assert trainer.n_done == 40
        return [loss, trainer.loss_sum, gradient, theta]

    ours = results()
    with instruction_set("baseline"):
        expected = results()
    tolerance = {np.float32: 1e-4, np.float64: 1e-12}[dtype]
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_logistic_regression_on_single_rows_is_sgd(each_instruction_set, sparse, alpha):
    """Its steps are those of SGDClassifier on dense rows.

    On sparse rows SGDClassifier takes smaller steps of the intercept.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 11)) * (rng.random((300, 11)) < 0.5)
    y = (X @ rng.normal(size=11) + rng.normal(size=300) > 0).astype(int)
    ours = BGDClassifier(
        (), batch_size=1, learning_rate=0.05, learning_rate_schedule="constant",
        alpha=alpha, shuffle=False, max_iter=7, tol=None, standardize=False,
    ).fit(csr_array(X) if sparse else X, y)  # fmt: skip
    theirs = SGDClassifier(
        loss="log_loss", learning_rate="constant", eta0=0.05, alpha=alpha,
        shuffle=False, max_iter=7, tol=None,
    ).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(ours.coefs_[0].ravel(), theirs.coef_[0], atol=1e-10)
    np.testing.assert_allclose(ours.intercepts_[0], theirs.intercept_, atol=1e-10)


@compiled
def test_an_epoch_of_many_single_rows():
    """An epoch is that over the first rows, then over the others.

    It is made in parts of about 100 000 rows, between which Ctrl-C is looked for.
    """
    network, start, X, Y, _, _ = make_problem((), n=250_000, d=1, K=1)
    ends, losses = [], []
    for cuts in ([], [40_000, 180_000]):
        theta = start.copy()
        losses.append(0.0)
        for rows, labels in zip(np.split(X, cuts), np.split(Y, cuts), strict=True):
            trainer = backprop.Trainer(
                network.layout, theta, rows, labels, batch_size=1
            )
            trainer.epoch(UpdateRule(0.01), 0)
            assert trainer.n_done == len(rows)
            losses[-1] += trainer.loss_sum
        ends.append(theta)
    np.testing.assert_array_equal(*ends)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@compiled
def test_ctrl_c_ends_an_epoch_of_single_rows():
    """The steps made before are complete."""
    network = Network((1, 1), "logistic", "logistic")
    X = np.zeros((40_000_000, 1), np.float32)  # needs little memory: all pages are one
    Y = np.zeros(X.shape, np.intc)

    theta, expected = np.ones((2, 2), np.float32)
    with ctrl_c_during("epoch"):
        trainer = backprop.Trainer(network.layout, theta, X, Y, batch_size=1)
        trainer.epoch(UpdateRule(1e-6), 0)
    n = trainer.n_done
    assert 0 < n < len(X)
    whole = backprop.Trainer(network.layout, expected, X[:n], Y[:n], batch_size=1)
    whole.epoch(UpdateRule(1e-6), 0)
    np.testing.assert_array_equal(theta, expected)


# Predictions


def test_ctrl_c_ends_a_prediction():
    """The core stops in the middle of a prediction of seconds."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 8)).astype(np.float32)
    clf = BGDClassifier(
        (1500, 1500), learning_rate=1e-6, max_iter=1, tol=None, n_jobs=1, random_state=0
    )
    clf.fit(X, X[:, 0] > 0)
    many = np.zeros((100_000, 8), dtype=np.float32)
    with ctrl_c_during("outputs"):
        clf.predict(many)


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
def test_non_finite_features(fitted, method, value):
    """The error is scikit-learn's, also for arrays that the core checks itself."""
    clf, X = fitted
    X = X.copy()
    X[-1, -1] = value
    predict = getattr(clf, method)
    text = message(predict, X)
    assert ("NaN" if np.isnan(value) else "infinity") in text
    assert text == message(predict, np.asfortranarray(X))


def test_assume_finite(fitted):
    """Infinities are then allowed; a NaN in the output is still an error."""
    clf, X = fitted
    X = X.copy()
    X[0, 0] = np.inf
    with config_context(assume_finite=True):
        result = clf.predict_proba(X)
        np.testing.assert_array_equal(result, clf.predict_proba(np.asfortranarray(X)))
        X[0, 0] = np.nan
        text = message(clf.predict_proba, X)
        assert text == message(clf.predict_proba, np.asfortranarray(X))


@pytest.mark.parametrize(
    "index, match",
    [(np.s_[:, :2], "2 features"), (np.s_[0], "1D array"), (np.s_[:0], "0 sample")],
    ids=["features", "1D", "no rows"],
)
def test_wrong_shapes(fitted, index, match):
    """They raise scikit-learn's errors."""
    clf, X = fitted
    assert match in message(clf.predict, X[index].copy())


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.tolist(),
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        unaligned,
        lambda X: read_only(X.copy()),
        lambda X: X.astype(X.dtype.newbyteorder()),
    ],
    ids=["list", "Fortran order", "strided", "unaligned", "read-only", "byte order"],
)
def test_predictions_do_not_depend_on_the_container(fitted, convert):
    """Rows in any memory layout are predicted alike, to the last bit."""
    clf, X = fitted
    np.testing.assert_array_equal(clf.predict_proba(convert(X)), clf.predict_proba(X))


def test_predictions_of_another_dtype(fitted):
    """Rows of another float type are converted to that of the model."""
    clf, X = fitted
    exact = np.float32(X).astype(X.dtype)  # both types hold it
    other = exact.astype(np.float64 if X.dtype == np.float32 else np.float32)
    np.testing.assert_array_equal(clf.predict_proba(other), clf.predict_proba(exact))


@pytest.mark.parametrize("dtype", ["i4", "i8", "f8"])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_does_not_depend_on_the_memory(kind, dtype, early_stopping):
    """Unaligned and read-only rows, labels and weights give the same bits."""
    X, y = targets(kind)
    y, w = y.astype(dtype), np.linspace(1, 2, len(X))
    moved = [read_only(unaligned(array)) for array in (X, y, w)]
    clf = small(early_stopping=early_stopping, max_iter=3)
    expected, other = clone(clf).fit(X, y, w), clone(clf).fit(*moved)
    same(other, expected)
    same(other.partial_fit(*moved[:2]), expected.partial_fit(X, y))
