"""The compiled core gives the results of the NumPy core; which of them is used."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from core_helpers import CORES, FLOATS, RTOL, make_problem, numpy_core
from helpers import PATIENCE, parameters, small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

import skbgd
from skbgd._core import COMPILED, _numpy
from skbgd._core.arguments import Layout, standardizer
from skbgd._update_rules import UpdateRule

both = pytest.mark.skipif(not COMPILED, reason="needs the compiled core")


def random_standardizer(d, dtype, rng):
    """A standardizer of d features with a random shift and scale."""
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
    rule=st.sampled_from(["plain", "momentum", "nesterov", "adam"]),
    max_gradient_norm=st.sampled_from([0.0, 0.1]),
    weighted=st.booleans(),
    ordered=st.booleans(),
    sparse=st.booleans(),
    standardized=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_steps(
    n, d, K, hidden, batch_size, tile, activation, output, alpha, rule,
    max_gradient_norm, weighted, ordered, sparse, standardized, seed,
):  # fmt: skip
    """Loss, gradient and two epochs agree for any network, batch size and rule.

    Includes a short last batch, batches of more rows than there are or than a tile.
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
    transform = random_standardizer(d, theta.dtype, rng) if standardized else None
    order = rng.permutation(n) if ordered else None
    adam = rule == "adam"
    step = {
        "alpha": alpha,
        "solver": "adam" if adam else "sgd",
        "momentum": 0.9 if rule in ("momentum", "nesterov") else 0.0,
        "nesterov": rule == "nesterov",
        "epsilon": 1e-3,  # rounding of tiny gradients does not change the step
        "max_gradient_norm": max_gradient_norm,
    }
    results = []
    for core in CORES.values():
        layout, end, gradient = network.layout, theta.copy(), theta.copy()
        velocity = np.zeros_like(theta) if adam or step["momentum"] else None
        second_moment = np.zeros_like(theta) if adam else None
        rows = {"standardizer": transform, "tile": tile}
        passes = core.Trainer(layout, theta, X, Y, weights, **rows)
        loss = passes.loss_gradient(gradient)
        assert passes.loss_gradient() == pytest.approx(loss, rel=1e-12)
        trainer = core.Trainer(
            layout, end, X, Y, weights, **rows, order=order, velocity=velocity,
            second_moment=second_moment, batch_size=batch_size,
        )  # fmt: skip
        totals = []
        for _ in range(2):
            trainer.epoch(UpdateRule(0.02, **step), 2 * adam)
            assert trainer.n_done == n
            totals.append(trainer.loss_sum)
        # A step on the whole gradient, which it overwrites
        trainer.step(UpdateRule(0.02, **step), 2, gradient / n)
        results.append([loss, gradient, totals, end, velocity])
    for ours, theirs in zip(*results, strict=True):
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@both
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("standardized", [False, True], ids=["raw", "standardized"])
@pytest.mark.parametrize("container", [np.asarray, csr_array], ids=["dense", "csr"])
def test_outputs_and_norms(container, standardized, dtype):
    """Outputs, norms and the layout of the parameters agree."""
    network, theta, X, Y, _, _ = make_problem((6, 5), output="softmax", dtype=dtype)
    X[X < -0.5] = 0
    X[7] = 0
    transform = None
    if standardized:
        transform = random_standardizer(5, X.dtype, np.random.default_rng(0))
    results = []
    for core in CORES.values():
        Z, norms = np.empty((40, 3), dtype), np.empty(40)
        trainer = core.Trainer(
            network.layout, theta, container(X), standardizer=transform, tile=16
        )
        assert trainer.outputs(Z)
        A, sigmoids = Z.copy(), Z.copy()
        core.activation("softmax", A)
        core.activation("logistic", sigmoids)
        core.squared_row_norms(container(X), norms)
        squares = core.squared_weight_norms(network.layout, theta)
        results.append([Z, A, sigmoids, norms, squares])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=RTOL[dtype], atol=RTOL[dtype])


@both
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_moments(weighted, dtype):
    """Moments of some rows agree, with weights of 0, constant and huge columns."""
    _, _, X, _, _, weights = make_problem(n=40, d=19, dtype=dtype, weighted=weighted)
    X[:, 3], X[:, 4], X[:, 5] = 7, X[:, 4] > 0, X[:, 5] * 1e30
    for start, stop in ((0, 40), (5, 6), (7, 30)):
        results = []
        for core in CORES.values():
            moments = np.full((6, 19), np.nan)
            total = core.column_moments(X, weights, start, stop, moments)
            results.append([np.array(total), moments])
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "rule",
    [
        UpdateRule(0.1, alpha=0.01),
        UpdateRule(0.1, alpha=0.01, momentum=0.9),
        UpdateRule(0.1, momentum=0.9, nesterov=True),
        UpdateRule(0.1, alpha=0.01, solver="adam"),
        UpdateRule(0.1, max_gradient_norm=0.01),
    ],
    ids=["plain", "momentum", "nesterov", "adam", "limited"],
)
def test_step_along_a_given_gradient(core, dtype, rule):
    """Along the mean gradient of all rows it is the step of a batch of all rows."""
    network, start, X, Y, _, _ = make_problem((6,), dtype=dtype)

    def vectors():
        result = {"theta": start.copy()}
        if rule.needs_velocity:
            result["velocity"] = np.full_like(start, 0.01)
        if rule.needs_second_moment:
            result["second_moment"] = np.full_like(start, 0.01)
        return result

    expected, result, gradient = vectors(), vectors(), np.empty_like(start)
    core.Trainer(network.layout, X=X, Y=Y, **expected).epoch(rule, 3)
    trainer = core.Trainer(network.layout, X=X, Y=Y, **result)
    trainer.loss_gradient(gradient)
    gradient /= len(X)
    trainer.step(rule, 3, gradient)
    for name, value in result.items():
        tolerance = {"rtol": RTOL[dtype], "atol": RTOL[dtype]}
        np.testing.assert_allclose(value, expected[name], **tolerance)
    assert (result["theta"] != start).all()


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
def test_no_step_along_an_endless_gradient(core):
    """A gradient whose norm is limited and not finite changes nothing."""
    network, start, X, Y, *_ = make_problem((6,))
    gradient, theta = np.full_like(start, np.inf), start.copy()
    rule = UpdateRule(0.1, max_gradient_norm=1.0)
    core.Trainer(network.layout, theta, X, Y).step(rule, 0, gradient)
    np.testing.assert_array_equal(theta, start)


@both
@pytest.mark.filterwarnings("ignore:The loss increased")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("hidden", [(), (4,)], ids=["single layer", "hidden layer"])
@pytest.mark.parametrize("container", [np.asarray, csr_array], ids=["dense", "csr"])
def test_strong_penalty(container, hidden, batch_size, dtype):
    """Both cores agree after hundreds of steps that each shrink the weights by half.

    The compiled core stores the weights of sparse features as a product with a factor
    for all, which leaves its range here. Some rows have the weight 0.
    """
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(400, 5)) * (rng.uniform(size=(400, 5)) < 0.5)).astype(dtype)
    given = X[:, 0] > X[:, 1], rng.integers(3, size=400).astype(float)
    params = {"alpha": 5.0, "learning_rate": 0.1, "standardize": False, "max_iter": 3}
    clf = small(hidden_layer_sizes=hidden, batch_size=batch_size, **params)
    results = [parameters(clf.fit(container(X), *given))]
    with numpy_core():
        results.append(parameters(clf.fit(container(X), *given)))
    np.testing.assert_allclose(*results, rtol=0, atol=RTOL[dtype])


def test_network_that_cannot_be_laid_out():
    """Networks without layers or units and unknown functions are errors."""
    with pytest.raises(ValueError, match="units must be at least 2 positive numbers"):
        Layout((3,), "tanh", "softmax")
    with pytest.raises(ValueError, match="units must be at least 2 positive numbers"):
        Layout((3, 0), "tanh", "softmax")
    with pytest.raises(ValueError, match="Got activation 'step'"):
        Layout((3, 2), "step", "softmax")


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
def test_what_a_trainer_refuses(core):
    """Sizes must be positive; losses need targets, a gradient no order."""
    network, theta, X, Y, _, _ = make_problem((3,))
    for size in ("batch_size", "n_threads", "tile"):
        with pytest.raises(ValueError, match=f"{size}.* positive"):
            core.Trainer(network.layout, theta, X, Y, **{size: 0})
    with pytest.raises(ValueError, match="no targets"):
        core.Trainer(network.layout, theta, X).loss_gradient()
    order = np.arange(len(X))
    with pytest.raises(ValueError, match="order"):
        core.Trainer(network.layout, theta, X, Y, order=order).loss_gradient()


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 20, 39])
def test_outputs_find_what_is_not_finite(row, value, core):
    """A NaN or an infinity in any row; without the check they have outputs."""
    network, theta, X, _, _, _ = make_problem((3,))
    Z = np.empty((len(X), network.layout.K))
    trainer = core.Trainer(network.layout, theta, X, tile=16)
    assert trainer.outputs(Z, check_finite=True)
    X[row, 1] = value
    assert not trainer.outputs(Z, check_finite=True)
    assert trainer.outputs(Z)


@both
@pytest.mark.parametrize("n", [0, 1, 2, 1000])
@pytest.mark.parametrize("state", [0, 1, 12345, (1 << 64) - 1])
def test_shuffle(n, state):
    """Both cores make the same order of the rows from the same state."""
    orders = {name: np.empty(n, dtype=np.intp) for name in CORES}
    states = {CORES[name].shuffle(order, state) for name, order in orders.items()}
    assert len(states) == 1
    np.testing.assert_array_equal(orders["numpy"], orders["compiled"])


@pytest.mark.parametrize("n_steps", range(0, 400, 20))
def test_ctrl_c_leaves_whole_steps(n_steps):
    """In NumPy, theta, velocity and progress are those of the same complete steps.

    The signal comes after `n_steps` steps, at any instruction of a later one.
    """
    network, start, X, Y, _, _ = make_problem((20,), n=400_000)
    rule = UpdateRule(0.01, momentum=0.9)

    def trainer(n):
        theta, velocity = start.copy(), np.zeros_like(start)
        return _numpy.Trainer(
            network.layout, theta, X[:n], Y[:n], velocity=velocity, batch_size=2
        )

    def press():
        while interrupted.n_done < 2 * n_steps:
            time.sleep(0)
        signal.raise_signal(signal.SIGINT)

    interrupted = trainer(len(X))
    thread = threading.Thread(target=press, daemon=True)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        interrupted.epoch(rule, 0)
        thread.join(PATIENCE)
    n_done = interrupted.n_done
    assert 2 * n_steps <= n_done < len(X)
    if n_done:
        expected = trainer(n_done)
        expected.epoch(rule, 0)
        np.testing.assert_array_equal(interrupted.theta, expected.theta)
        np.testing.assert_array_equal(interrupted.velocity, expected.velocity)
        assert interrupted.loss_sum == expected.loss_sum


# Which core is used


def imported(before="", cwd=None, **environment):
    """Output of a new Python process: the core that it uses, and its errors."""
    code = f"{before}\nimport skbgd._core as c; print(c.COMPILED, c.INSTRUCTION_SET)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"SKBGD_ISA": ""} | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    return result.stdout.strip(), result.stderr


def test_environment_selects_the_core():
    """SKBGD_ISA=numpy gives no warning; an unknown instruction set is an error."""
    assert imported(SKBGD_ISA="numpy") == ("False numpy", "")
    said, errors = imported(SKBGD_ISA="mmx")
    assert said == ""
    assert "ValueError: Got SKBGD_ISA='mmx'; on this machine it must be" in errors
    assert "'numpy'" in errors.splitlines()[-1]


def test_fallback():
    """NumPy is used, with one warning, if the compiled core cannot be imported."""
    said, warned = imported("import sys; sys.modules['skbgd._core._backprop'] = None")
    assert said == "False numpy"
    assert warned.count("RuntimeWarning: ") == 1
    assert "nstall a C++ compiler" in warned
    assert "SKBGD_ISA=numpy" in warned


def test_cure_of_an_installed_package(tmp_path, monkeypatch):
    """Outside a clone, pip is to compile the package."""
    monkeypatch.setattr(skbgd._core, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert "--force-reinstall --no-deps --no-binary=skbgd" in skbgd._core._cure()


def test_instruction_set_of_numpy():
    """It is the only one of the NumPy core."""
    assert _numpy.use_instruction_set("numpy") == "numpy"
    with pytest.raises(ValueError, match="Got instruction set 'avx2'"):
        _numpy.use_instruction_set("avx2")


def test_fallback_in_a_clone(tmp_path):
    """A clone that is not compiled hides the installed package and says so."""
    sources = Path(skbgd.__file__).parent
    compiled = shutil.ignore_patterns("_backprop.*", "__pycache__")
    shutil.copytree(sources, tmp_path / "skbgd", ignore=compiled)
    (tmp_path / "pyproject.toml").touch()
    said, warned = imported(cwd=tmp_path)
    assert said == "False numpy"
    assert "run Python in another folder" in warned
    assert f'pip install -e "{tmp_path.resolve()}"' in warned


def test_beside_a_clone(tmp_path):
    """Python started beside a clone imports the installed package."""
    (tmp_path / "skbgd" / "skbgd").mkdir(parents=True)
    assert imported(cwd=tmp_path) == imported()


def test_core_is_compiled_where_there_is_a_compiler():
    """The extension is optional, so an unexpected failure would go unnoticed."""
    compiler = os.environ.get("CXX", "c++")
    if not shutil.which(compiler) or subprocess.run([compiler, "--version"]).returncode:
        pytest.skip("needs a C++ compiler")
    said, errors = imported()
    assert said.startswith("True")
    assert errors == ""
