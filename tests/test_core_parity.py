"""The core in NumPy: the compiled one gives its results; where it is used."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from test_backprop import CORES, FLOATS, RTOL, layout_of, make_problem

import skbgd
from skbgd._core import COMPILED, _numpy
from skbgd._core.arguments import standardizer
from skbgd._update_rules import UpdateRule

both = pytest.mark.skipif(not COMPILED, reason="there is no other core to compare with")


def standard_of(d, dtype, rng):
    """What standardises d features: any shift and scale."""
    return standardizer(rng.normal(size=d), rng.uniform(0.5, 2, size=d), dtype)


@both
@settings(max_examples=300, deadline=None)
@given(
    n=st.integers(1, 40),
    d=st.integers(1, 20),
    K=st.integers(1, 6),
    hidden=st.lists(st.integers(1, 20), max_size=3),
    batch_size=st.integers(1, 50),
    tile=st.integers(1, 50),
    activation=st.sampled_from(["logistic", "tanh", "relu", "identity"]),
    output=st.sampled_from(["logistic", "softmax", "multilabel"]),
    alpha=st.sampled_from([0.0, 1e-3, 0.1]),
    rule=st.sampled_from(["plain", "in place", "momentum", "nesterov", "adam"]),
    max_gradient_norm=st.sampled_from([0.0, 0.1]),
    weighted=st.booleans(),
    ordered=st.booleans(),
    sparse=st.booleans(),
    standardized=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_steps_of_the_compiled_core_are_those_in_numpy(
    n, d, K, hidden, batch_size, tile, activation, output, alpha, rule,
    max_gradient_norm, weighted, ordered, sparse, standardized, seed,
):  # fmt: skip
    """Loss, gradient and two epochs, for any shape of net and batch, and any rule.

    Covers a short last batch, a batch_size beyond the rows, and tiles within a batch.
    """
    network, theta, X, Y, _, weights = make_problem(
        hidden, n, d, K,
        activation=activation,
        output="softmax" if output == "softmax" and K > 1 else "logistic",
        weighted=weighted and n > 1,
        multilabel=output == "multilabel",
        seed=seed,
    )  # fmt: skip
    theta *= 0.3
    rng = np.random.default_rng(seed)
    if sparse:
        X = csr_array(X * (rng.uniform(size=X.shape) < 0.3))
    standard = standard_of(d, theta.dtype, rng) if standardized else None
    order = rng.permutation(n) if ordered else None
    adam = rule == "adam"
    step = {
        "alpha": alpha,
        "solver": "adam" if adam else "sgd",
        "momentum": 0.9 if rule in ("momentum", "nesterov") else 0.0,
        "nesterov": rule == "nesterov",
        "epsilon": 1e-3,  # a step does not turn with the sign of a tiny gradient
        "max_gradient_norm": max_gradient_norm,
    }
    results = []
    for core in CORES.values():
        layout, end, gradient = layout_of(network, core), theta.copy(), theta.copy()
        velocity = np.zeros_like(theta) if adam or step["momentum"] else None
        second_moment = np.zeros_like(theta) if adam else None
        rows = core.Data(X, Y, weights, order, standard)
        work = core.Workspace(layout, theta.dtype, tile, gathered=True)
        loss = core.loss_gradient(
            core.Model(layout, theta, gradient=gradient), rows, work
        )
        in_place = rule == "in place" and not max_gradient_norm
        in_place = in_place and min(batch_size, n) <= tile
        buffer = None if in_place else np.empty_like(theta)
        epochs = [
            core.run_batches(
                core.Model(layout, end, velocity, second_moment, buffer),
                2 * adam,
                rows,
                batch_size,
                UpdateRule(0.02, **step),
                work,
            )
            for _ in range(2)
        ]
        assert [n_done for _, n_done in epochs] == [n, n]
        results.append([loss, gradient, [total for total, _ in epochs], end, velocity])
    for ours, theirs in zip(*results, strict=True):
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@both
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("standardized", [False, True], ids=["", "standardised"])
@pytest.mark.parametrize("container", [np.asarray, csr_array], ids=["dense", "csr"])
def test_other_results_of_the_compiled_core_are_those_in_numpy(
    container, standardized, dtype
):
    """Outputs, norms, the order of the rows."""
    network, theta, X, Y, _, _ = make_problem((6, 5), output="softmax", dtype=dtype)
    X[X < -0.5] = 0
    X[7] = 0
    standard = None
    if standardized:
        standard = standard_of(5, X.dtype, np.random.default_rng(0))
    results = []
    for core in CORES.values():
        layout = layout_of(network, core)
        rows = core.Data(container(X), standardizer=standard)
        parameters = core.Model(layout, theta)
        Z, A, norms = np.empty((40, 3), dtype), np.empty((40, 3), dtype), np.empty(40)
        work = core.Workspace(layout, theta.dtype, 16, gathered=standardized)
        for out, activated in ((Z, False), (A, True)):
            assert core.outputs(parameters, rows, out, activated, False, work)
        core.squared_row_norms(rows, norms)
        results.append([Z, A, norms, core.squared_weight_norms(layout, theta)])
        assert (layout.d, layout.K, layout.offsets) == (5, 3, network.layout.offsets)
        assert layout.scratch_per_row(True) == network.layout.scratch_per_row(True)
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=RTOL[dtype], atol=RTOL[dtype])


@both
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_moments_of_the_compiled_core_are_those_in_numpy(weighted, dtype):
    """Of some of the rows, without those of weight 0; a column may be constant."""
    _, _, X, _, _, weights = make_problem(n=40, d=19, dtype=dtype, weighted=weighted)
    X[:, 3], X[:, 4], X[:, 5] = 7, X[:, 4] > 0, X[:, 5] * 1e30
    for start, stop in ((0, 40), (5, 6), (7, 30)):
        results = []
        for core in CORES.values():
            moments = np.full((6, 19), np.nan)
            rows = core.Data(X, None, weights)
            total = core.column_moments(rows, start, stop, moments)
            results.append([np.array(total), moments])
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


@both
@pytest.mark.parametrize("n", [0, 1, 2, 1000])
@pytest.mark.parametrize("state", [0, 1, 12345, (1 << 64) - 1])
def test_orders_of_the_compiled_core_are_those_in_numpy(n, state):
    orders = {name: np.empty(n, dtype=np.intp) for name in CORES}
    states = {CORES[name].shuffle(order, state) for name, order in orders.items()}
    assert len(states) == 1
    np.testing.assert_array_equal(orders["numpy"], orders["compiled"])


def test_ctrl_c_leaves_whole_steps_in_numpy():
    """Wherever it comes: theta, velocity and the counts are of the same step."""
    network, start, X, Y, _, _ = make_problem((20,), n=4000)
    layout, n_done = layout_of(network, _numpy), set()

    def arguments(n=4000):
        theta, velocity = start.copy(), np.zeros_like(start)
        work = _numpy.Workspace(layout, start.dtype, 16)
        parameters = _numpy.Model(layout, theta, velocity)
        return parameters, _numpy.Data(X[:n], Y[:n]), work

    def run(parameters, rows, work):
        step = UpdateRule(0.01, momentum=0.9)
        _numpy.run_batches(parameters, 0, rows, 2, step, work)

    for delay in np.linspace(0.001, 0.02, 40):
        parameters, rows, work = arguments()
        timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            run(parameters, rows, work)
            timer.join(60)
        timer.join()
        if work.n_done:
            expected, rows, expected_work = arguments(work.n_done)
            run(expected, rows, expected_work)
            np.testing.assert_array_equal(parameters.theta, expected.theta)
            np.testing.assert_array_equal(parameters.velocity, expected.velocity)
            assert work.loss_sum == expected_work.loss_sum
        n_done.add(work.n_done)
    assert len(n_done - {0, 4000}) > 10


# Which core is used


def imported(before="", cwd=None, **environment):
    """What a new Python says of the core, and its warnings or errors."""
    code = f"{before}\nimport skbgd._core as c; print(c.COMPILED, c.INSTRUCTION_SET)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"SKBGD_ISA": ""} | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    return result.stdout.strip(), result.stderr


def test_the_environment_chooses_the_core():
    """Without a warning; a set that is not there is an error, in both cores."""
    assert imported(SKBGD_ISA="numpy") == ("False numpy", "")
    said, errors = imported(SKBGD_ISA="mmx")
    assert said == ""
    assert "ValueError: Got SKBGD_ISA='mmx'; on this machine it must be" in errors
    assert "'numpy'" in errors.splitlines()[-1]


def test_without_the_compiled_core_numpy_and_one_warning():
    """Where it cannot be imported."""
    said, warned = imported("import sys; sys.modules['skbgd._core._backprop'] = None")
    assert said == "False numpy"
    assert warned.count("RuntimeWarning: ") == 1
    assert "nstall a C++ compiler" in warned
    assert "SKBGD_ISA=numpy" in warned


def test_sources_that_are_not_compiled_say_how_to_get_the_compiled_core(tmp_path):
    """Python in a clone imports the clone, whatever is installed."""
    sources = Path(skbgd.__file__).parent
    compiled = shutil.ignore_patterns("_backprop.*", "__pycache__")
    shutil.copytree(sources, tmp_path / "skbgd", ignore=compiled)
    (tmp_path / "pyproject.toml").touch()
    said, warned = imported(cwd=tmp_path)
    assert said == "False numpy"
    assert "run Python in another folder" in warned
    assert f'pip install -e "{tmp_path.resolve()}"' in warned


def test_a_clone_does_not_hide_the_package(tmp_path):
    """Python beside a clone imports the installed package, not the folder skbgd."""
    (tmp_path / "skbgd" / "skbgd").mkdir(parents=True)
    assert imported(cwd=tmp_path) == imported()


def test_with_a_compiler_the_core_is_compiled():
    """The extension is optional: that it is missing for no reason would go unseen."""
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler) or subprocess.run([compiler, "--version"]).returncode:
        pytest.skip("there is no compiler here")
    said, errors = imported()
    assert said.startswith("True")
    assert errors == ""
