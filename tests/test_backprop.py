"""Both cores: elementary functions, losses, gradients and steps.

Each core is compared with the formulas and with finite differences of the objective.
test_core_parity.py compares the cores with each other, test_descent.py tests epochs.
"""

from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest
from core_helpers import (
    CORES,
    FLOATS,
    RTOL,
    instruction_set,
    make_problem,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.special import expit

from skbgd._core import COMPILED, _numpy, backprop
from skbgd._core.arguments import standardizer
from skbgd._network import Network
from skbgd._update_rules import UpdateRule

HIDDEN = {0: (), 1: (7,), 2: (6, 5), 3: (5, 4, 3)}
# Beyond these, the sigmoid is not a normal number.
SIGMOID_RANGE = {np.float32: 87.3365, np.float64: 708.3964}
KERNELS = ["numpy", *backprop.instruction_sets()] if COMPILED else ["numpy"]


@pytest.fixture(params=CORES, scope="module")
def core(request):
    """The NumPy core, then the compiled one."""
    return CORES[request.param]


@pytest.fixture(params=KERNELS, scope="module")
def activate(request):
    """A function that applies an activation function to values of a dtype.

    NumPy's, then that of each compiled instruction set.
    """
    compiled = request.param != "numpy"
    core = backprop if compiled else _numpy

    def activate(name, values, dtype):
        result = np.array([values], dtype=dtype)
        core.activation(name, result)
        return result[0]

    with instruction_set(request.param) if compiled else nullcontext():
        yield activate


def ulps(a, b):
    """Distance of a from b in units of the last place of b."""
    return np.abs(a - b) / np.spacing(np.abs(b))


def loss_gradient(core, network, theta, X, Y, weights, tile=16, standardizer=None):
    gradient = np.full_like(theta, np.nan)
    trainer = core.Trainer(
        network.layout, theta, X, Y, weights, standardizer=standardizer, tile=tile
    )
    return trainer.loss_gradient(gradient), gradient


def epoch(
    core,
    network,
    theta,
    X,
    Y,
    weights=None,
    velocity=None,
    order=None,
    batch_size=8,
    tile=16,
    eta=0.3,
    **rule,
):
    """One epoch. Plain steps are made in place where a batch is within a tile."""
    trainer = core.Trainer(
        network.layout, theta, X, Y, weights,
        order=order, velocity=velocity, batch_size=batch_size, tile=tile,
    )  # fmt: skip
    trainer.epoch(UpdateRule(eta, **rule), 0)
    return trainer.loss_sum, trainer.n_done


# Elementary functions


@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_accuracy(activate, dtype):
    """The error is at most 4 ulp wherever the sigmoid is a normal number."""
    rng = np.random.default_rng(0)
    limit = SIGMOID_RANGE[dtype]
    z = np.concatenate(
        [
            rng.uniform(-limit, limit, size=200_001),
            rng.normal(size=200_000),
            np.linspace(-limit, -limit + 2, 10_000),
            rng.normal(size=1000) * 1e-6,
        ]
    ).astype(dtype)
    expected = expit(z)
    normal = expected >= np.finfo(dtype).tiny
    assert normal.sum() > 400_000
    assert ulps(activate("logistic", z, dtype), expected)[normal].max() <= 4


@given(
    z=st.floats(min_value=-708.39, max_value=1e300),
    position=st.integers(min_value=0, max_value=20),
)
def test_sigmoid_accuracy_at_each_position(activate, z, position):
    """The vector loop and its scalar remainder both have errors of at most 4 ulp."""
    values = np.zeros(21)
    values[position] = z
    assert ulps(activate("logistic", values, np.float64)[position], expit(z)) <= 4


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["logistic", "tanh", "relu", "identity"])
def test_activation_limits(activate, name, dtype):
    """Values at 0, at infinity and at huge numbers are exact, without a warning."""
    huge = np.finfo(dtype).max
    z = [0, 1e4, -1e4, huge, -huge, np.inf, -np.inf]
    expected = {
        "logistic": [0.5, 1, 0, 1, 0, 1, 0],
        "tanh": [0, 1, -1, 1, -1, 1, -1],
        "relu": [0, 1e4, 0, huge, 0, np.inf, 0],
        "identity": z,
    }[name]
    np.testing.assert_array_equal(activate(name, z, dtype), np.array(expected, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["logistic", "tanh", "relu", "identity"])
def test_nan_in_nan_out(activate, name, dtype):
    """A NaN gives NaN at its own position only."""
    for position in range(13):
        z = np.linspace(-2, 2, 13)
        z[position] = np.nan
        np.testing.assert_array_equal(np.isnan(activate(name, z, dtype)), np.isnan(z))


@pytest.mark.parametrize("dtype", FLOATS)
def test_tanh_accuracy(activate, dtype):
    """The error is at most 4 ulp, also near 0 where 2 sigmoid(2z) - 1 is inaccurate."""
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.uniform(-30, 30, 10_000), rng.normal(size=10_000) * 1e-5])
    z = z.astype(dtype)
    expected = np.tanh(z.astype(np.longdouble)).astype(dtype)
    assert ulps(activate("tanh", z, dtype), expected).max() <= 4


# Loss


def single_row_loss(core, z, y, output, K):
    """Loss and gradient of one row whose output pre-activations are z."""
    network = Network((1, K), "logistic", output)
    theta = np.concatenate([np.zeros(K), np.broadcast_to(z, K).astype(float)])
    Y = np.array(y, dtype=np.intc).reshape(1, -1)
    return loss_gradient(core, network, theta, np.ones((1, 1)), Y, None)


@pytest.mark.parametrize("z", [0.0, 1e-9, 1.0, -3.0, 40.0, -40.0, 745.0, 1e4, -1e4])
@pytest.mark.parametrize("y", [0, 1])
def test_cross_entropy_from_pre_activation(core, z, y):
    """softplus(z) - y z is accurate for any z, also when it is tiny."""
    loss, gradient = single_row_loss(core, z, y, "logistic", K=1)
    signed = -z if y else z
    # log(1 + e^s) = max(s, 0) + log1p(e^-|s|)
    expected = max(signed, 0) + np.log1p(np.exp(-abs(signed)))
    if expected > np.finfo(float).tiny:
        assert loss == pytest.approx(expected, rel=1e-15, abs=0)
    else:
        assert 0 <= loss <= np.finfo(float).tiny
    assert gradient[1] == pytest.approx(expit(z) - y, rel=1e-14, abs=1e-300)


@pytest.mark.parametrize("top", [0.0, 1e-3, 30.0, 700.0, 1e4])
@pytest.mark.parametrize("y", [0, 1])
def test_softmax_loss_from_pre_activations(core, top, y):
    """log sum exp(z) - z_y with z = (top, 0, -1) is accurate for any top."""
    loss, gradient = single_row_loss(core, [top, 0, -1], y, "softmax", K=3)
    rest = np.exp(-top) + np.exp(-1 - top)
    expected = np.log1p(rest) + (top if y == 1 else 0)
    assert loss == pytest.approx(expected, rel=1e-15, abs=1e-308)
    # dl/db = softmax(z) - y adds up to 0
    assert gradient[3:].sum() == pytest.approx(0, abs=1e-15)
    assert gradient[3 + y] < 0 or loss < 1e-300


# Gradient


def sigma(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z)
    return e / e.sum(axis=1, keepdims=True)


FUNCTIONS = {
    "logistic": sigma,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "identity": lambda z: z,
    "softmax": softmax,
}


def objective(network, theta, X, one_hot, w, alpha):
    """J = sum_i w_i l_i / sum_i w_i + alpha / 2 sum_l ||W_l||^2, from log(a)."""
    a, last = X, len(network.layers) - 1
    Ws, bs = network.coefs(theta), network.intercepts(theta)
    for layer, (W, b) in enumerate(zip(Ws, bs, strict=True)):
        output = layer == last
        name = network.output_activation if output else network.activation
        a = FUNCTIONS[name](a @ W + b)
    losses = one_hot * np.log(a)
    if network.output_activation == "logistic":
        losses += (1 - one_hot) * np.log(1 - a)
    return w @ -losses.sum(axis=1) / w.sum() + alpha / 2 * sum((W**2).sum() for W in Ws)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("depth", HIDDEN)
@pytest.mark.parametrize("output", ["logistic", "softmax", "multilabel", "binary"])
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
def test_gradient_equals_finite_differences(
    core, activation, output, depth, alpha, weighted, dtype
):
    """Gradient and step are those of the objective, by a five-point stencil."""
    network, theta, X, Y, one_hot, weights = make_problem(
        HIDDEN[depth],
        n=11,
        K=1 if output == "binary" else 3,
        activation=activation,
        output="softmax" if output == "softmax" else "logistic",
        dtype=dtype,
        weighted=weighted,
        multilabel=output == "multilabel",
    )
    w = np.ones(len(X)) if weights is None else weights.astype(float)

    def J(t):
        return objective(network, t, X.astype(float), one_hot, w, alpha)

    h, start = 1e-4, theta.astype(float)
    expected = np.empty(len(theta))
    for k in range(len(theta)):
        e = np.zeros(len(theta))
        e[k] = h
        expected[k] = (
            8 * (J(start + e) - J(start - e)) - (J(start + 2 * e) - J(start - 2 * e))
        ) / (12 * h)

    atol = {np.float32: 2e-6, np.float64: 1e-9}[dtype]
    _, gradient = loss_gradient(core, network, theta, X, Y, weights, tile=4)
    with_penalty = gradient / len(X)
    for coef, W in zip(network.coefs(with_penalty), network.coefs(theta), strict=True):
        coef += dtype(alpha) * W
    np.testing.assert_allclose(with_penalty, expected, rtol=0, atol=atol)

    # theta - theta_new = eta g, in place (tile=16) and with a stored gradient
    for tile, eta in product((16, 4), (0.5, 1.0)):
        stepped = theta.copy()
        epoch(
            core, network, stepped, X, Y, weights, batch_size=11, eta=eta, alpha=alpha,
            tile=tile,
        )  # fmt: skip
        np.testing.assert_allclose(
            (theta - stepped) / dtype(eta), expected, rtol=0, atol=4 * atol
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("container", [np.asarray, csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("depth", HIDDEN)
@pytest.mark.parametrize("output", ["logistic", "softmax", "multilabel"])
def test_gradient_of_standardized_rows(core, output, depth, container, dtype):
    """It is that of the objective at (X - shift) / scale, for shifts of many scales."""
    network, theta, X, Y, one_hot, weights = make_problem(
        HIDDEN[depth],
        n=11,
        output="softmax" if output == "softmax" else "logistic",
        dtype=dtype,
        weighted=True,
        multilabel=output == "multilabel",
    )
    shift, scale = np.array([0, 1e3, -1e4, 0.1, 7]), np.array([1, 0.5, 100, 2, 3])
    X = (X * scale + shift).astype(dtype)
    w, Z = weights.astype(float), (X.astype(float) - shift) / scale
    h, start = 1e-4, theta.astype(float)
    expected = np.empty(len(theta))
    for k in range(len(theta)):
        e = h * (np.arange(len(theta)) == k)
        losses = [
            objective(network, start + c * e, Z, one_hot, w, 0) for c in (1, -1, 2, -2)
        ]
        expected[k] = (8 * (losses[0] - losses[1]) - (losses[2] - losses[3])) / (12 * h)
    how = standardizer(shift, scale, theta.dtype)
    loss, gradient = loss_gradient(
        core, network, theta, container(X), Y, weights, 4, how
    )
    atol = {np.float32: 2e-6, np.float64: 1e-9}[dtype]
    np.testing.assert_allclose(gradient / len(X), expected, rtol=0, atol=atol)
    expected = objective(network, start, Z, one_hot, w, 0)
    assert loss / len(X) == pytest.approx(expected, rel=RTOL[dtype])


@pytest.mark.parametrize("dtype", FLOATS)
def test_loss_gradient_is_a_sum_over_rows(core, dtype):
    """Results of parts of the data add up, for any tile; no input is changed."""
    network, theta, X, Y, _, weights = make_problem(dtype=dtype, weighted=True, n=50)
    for array in (theta, X, Y, weights):
        array.setflags(write=False)
    total, gradient = loss_gradient(core, network, theta, X, Y, weights, tile=64)
    for tile in (1, 7, 50):
        loss, other = loss_gradient(core, network, theta, X, Y, weights, tile=tile)
        assert loss == pytest.approx(total, rel=RTOL[dtype])
        np.testing.assert_allclose(other, gradient, rtol=RTOL[dtype], atol=RTOL[dtype])
    parts = [
        loss_gradient(core, network, theta, X[s], Y[s], weights[s])
        for s in (slice(0, 13), slice(13, 50))
    ]
    assert sum(p[0] for p in parts) == pytest.approx(total, rel=RTOL[dtype])
    np.testing.assert_allclose(
        sum(p[1] for p in parts), gradient, rtol=RTOL[dtype], atol=RTOL[dtype]
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("hidden", [(17, 5), (33,), (300, 90)])
@pytest.mark.parametrize("K", [1, 12])
def test_gradient_does_not_depend_on_the_tile(core, hidden, K, dtype):
    """Products of single rows and of many rows agree for wide layers."""
    network, theta, X, Y, _, _ = make_problem(hidden, n=130, d=70, K=K, dtype=dtype)
    theta *= dtype(0.2)
    _, by_row = loss_gradient(core, network, theta, X, Y, None, tile=1)
    _, by_tile = loss_gradient(core, network, theta, X, Y, None, tile=130)
    scale = np.abs(by_row).max()
    np.testing.assert_allclose(by_tile, by_row, rtol=0, atol=RTOL[dtype] * scale)


# Steps


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_order_is_the_order_of_the_rows(core, batch_size):
    """Rows in an `order` give what rows stored in this order give."""
    network, theta, X, Y, _, weights = make_problem(weighted=True)
    order = np.random.default_rng(1).permutation(len(X)).astype(np.intp)
    by_order, stored = theta.copy(), theta.copy()
    total, _ = epoch(
        core, network, by_order, X, Y, weights, order=order, batch_size=batch_size
    )
    expected, _ = epoch(
        core, network, stored, X[order], Y[order], weights[order], batch_size=batch_size
    )
    np.testing.assert_array_equal(by_order, stored)
    assert total == expected


def test_penalty_too_small_for_a_float32_factor(core):
    """The penalty also acts in float32 where 1 - eta alpha rounds to 1."""
    if core is _numpy:
        pytest.skip("400 000 steps are slow, and the gradient includes the penalty")
    shift = {}
    for dtype in FLOATS:
        network, theta, X, Y, _, _ = make_problem((), n=1000, K=1, dtype=dtype)
        X *= dtype(0.02)  # the cross-entropy hardly changes W
        ends = {alpha: theta.copy() for alpha in (0.0, 1e-4)}
        for alpha, end in ends.items():
            for _ in range(100):
                epoch(core, network, end, X, Y, batch_size=1, eta=2e-4, alpha=alpha)
        shift[dtype] = (ends[1e-4] - ends[0.0])[:5]
    assert np.abs(shift[np.float64]).max() > 1e-3
    np.testing.assert_allclose(shift[np.float32], shift[np.float64], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_batch_of_zero_weight_makes_no_step(core, dtype):
    """It changes nothing, even if its pre-activations overflow."""
    network, theta, X, Y, _, _ = make_problem((), n=16, dtype=dtype)
    weights = np.ones(16, dtype=dtype)
    weights[8:] = 0
    X[8:] = np.finfo(dtype).max / 2
    X[8:, 0] *= -1
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(X[8:] @ network.coefs(theta)[0]).all()
    expected = theta.copy()
    epoch(core, network, expected, X[:8], Y[:8])
    total, n_done = epoch(core, network, theta, X, Y, weights)
    assert n_done == 16
    assert np.isfinite(total)
    np.testing.assert_array_equal(theta, expected)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("tile", [8, 2])
def test_non_finite_loss_ends_the_epoch(core, momentum, tile):
    """The step of the batch with this loss is not made, nor any later step."""
    network, theta, X, Y, _, _ = make_problem(activation="relu")
    velocity = np.zeros_like(theta) if momentum else None
    expected, expected_velocity = theta.copy(), np.zeros_like(theta)
    epoch(
        core, network, expected, X[:16], Y[:16], None,
        expected_velocity if momentum else None, momentum=momentum, tile=tile,
    )  # fmt: skip
    X[20] = np.inf
    total, n_done = epoch(
        core, network, theta, X, Y, None, velocity, momentum=momentum, tile=tile
    )
    assert n_done == 16
    assert not np.isfinite(total)
    np.testing.assert_array_equal(theta, expected)
    if momentum:
        np.testing.assert_array_equal(velocity, expected_velocity)


def test_shuffle_is_a_fair_permutation(core):
    """Each of the 24 orders of 4 rows is equally frequent in a sequence of states."""
    counts, state = {}, 123
    order = np.empty(4, dtype=np.intp)
    for _ in range(24_000):
        state = core.shuffle(order, state)
        assert sorted(order) == [0, 1, 2, 3]
        counts[tuple(order)] = counts.get(tuple(order), 0) + 1
    assert len(counts) == 24
    # chi-squared with 23 degrees of freedom: above 49.7 once in a thousand seeds
    assert sum((c - 1000) ** 2 / 1000 for c in counts.values()) < 49.7


def test_shuffle_is_a_function_of_its_state(core):
    first, second = np.empty(1000, dtype=np.intp), np.empty(1000, dtype=np.intp)
    assert core.shuffle(first, 7) == core.shuffle(second, 7) != 7
    np.testing.assert_array_equal(first, second)
    core.shuffle(second, 8)
    assert (first != second).any()
