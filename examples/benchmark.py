"""
How fast is it? Side by side with its peers
===========================================

Trains the same networks on the same data, with the same batches, step size and number
of epochs, with BGDClassifier, MLPClassifier, SGDClassifier and, if they are installed,
PyTorch on the CPU, loops compiled by Numba and JAX, in one process and in turns. Prints
tables (Markdown) of a peer's time over ours: above 1, ours is faster. Every program has
the threads that it takes by default, unless the table says "one thread". Only ratios
carry over to another machine::

    python examples/benchmark.py --quick    # less than a minute
    python examples/benchmark.py            # less than ten minutes

"""

import argparse
import itertools
import os
import platform
import subprocess
import sys
import time
import tracemalloc
import warnings
from unittest import mock

import numpy as np
import scipy.sparse
import sklearn
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from skbgd import BGDClassifier
from skbgd._core import INSTRUCTION_SET
from skbgd._core import threads as core_threads

try:
    import torch
except ImportError:
    torch = None
try:
    import numba
except ImportError:
    numba = None
# Read when JAX is imported
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("XLA_FLAGS", ONE_THREAD)
try:
    import jax
except ImportError:
    jax = None

STEP_SIZE = 0.01


def best_times(actions, seconds):
    """The best time of each action: in turns, twice at least, until time is over.

    The threads of a BLAS go on spinning for a while when they have nothing to do. The
    pause keeps them out of the time of the next action.
    """
    best = np.full(len(actions), np.inf)
    start, rounds = time.perf_counter(), 0
    while rounds < 2 or time.perf_counter() - start < seconds:
        for i, action in enumerate(actions):
            time.sleep(0.2)
            begin = time.perf_counter()
            action()
            best[i] = min(best[i], time.perf_counter() - begin)
        rounds += 1
    return best


def table(title, header, rows):
    print(f"\n### {title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def seconds(t):
    """Three digits and a unit."""
    scale, unit = (1, "s") if t > 1 else (1e3, "ms") if t > 1e-3 else (1e6, "µs")
    return f"{t * scale:.3g} {unit}"


def synthetic(n, d, K, dtype):
    """Normal rows with the labels of a random linear model."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.float32)
    y = (X @ rng.standard_normal((d, K), dtype=np.float32)).argmax(axis=1)
    return X.astype(dtype, copy=False), y


def processor():
    """Its name, where Linux tells it, and the instruction set that our core uses."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1] for line in file if "model name" in line]
        name = names[0].strip() if names else name
    return f"{name} ({INSTRUCTION_SET}), {os.cpu_count()} cores"


def digits(n, d, K, dtype):
    X, y = load_digits(return_X_y=True)
    return StandardScaler().fit_transform(X).astype(dtype), y


# %%
# Hidden layers
# -------------
# A network, where its rows come from and how many they are, and for each batch size the
# rows and epochs of one fit: as many steps as can be waited for.

BATCH_SIZES = [1, 8, 32, 128, 512, "all"]
NETWORKS = {
    "30-16-1": (
        synthetic,
        20_000,
        [
            (20_000, 1),
            (20_000, 4),
            (20_000, 8),
            (20_000, 12),
            (20_000, 20),
            (20_000, 40),
        ],
    ),
    "64-32-10 (digits)": (
        digits,
        1_797,
        [(1_797, 5), (1_797, 20), (1_797, 40), (1_797, 80), (1_797, 80), (1_797, 80)],
    ),
    "784-100-10": (
        synthetic,
        60_000,
        [(2_000, 1), (24_000, 1), (60_000, 1), (60_000, 1), (60_000, 1), (60_000, 3)],
    ),
    "13-100-3": (
        synthetic,
        20_000,
        [(5_000, 1), (20_000, 1), (20_000, 2), (20_000, 4), (20_000, 4), (20_000, 8)],
    ),
    "54-40-7": (
        synthetic,
        20_000,
        [(5_000, 1), (20_000, 1), (20_000, 2), (20_000, 4), (20_000, 4), (20_000, 8)],
    ),
    "100-256-128-64-5": (
        synthetic,
        20_000,
        [(2_000, 1), (8_000, 1), (20_000, 1), (20_000, 1), (20_000, 1), (20_000, 3)],
    ),
}


def estimators(hidden, batch_size, epochs, shuffle=True):
    """BGDClassifier and MLPClassifier with the same work to do."""
    common = {
        "hidden_layer_sizes": hidden,
        "activation": "logistic",
        "batch_size": batch_size,
        "alpha": 0.0,
        "max_iter": epochs,
        "shuffle": shuffle,
        "random_state": 0,
    }
    ours = BGDClassifier(
        **common, output_activation="softmax", learning_rate=STEP_SIZE, tol=None,
        standardize=False,
    )  # fmt: skip
    mlp = MLPClassifier(
        **common,
        solver="sgd",
        learning_rate_init=STEP_SIZE,
        momentum=0.0,
        nesterovs_momentum=False,
        tol=0.0,
        n_iter_no_change=10**6,
    )
    return ours, mlp


def torch_network(clf):
    """A PyTorch network with the parameters of a fitted BGDClassifier."""
    layers = []
    for W, b in zip(clf.coefs_, clf.intercepts_, strict=True):
        layer = torch.nn.Linear(*W.shape).to(torch.from_numpy(W).dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, torch.nn.Sigmoid()]
    return torch.nn.Sequential(*layers[:-1])


def torch_fit(network, X, y, batch_size, epochs, shuffle=True):
    """Gradient descent as PyTorch's users write it; returns the last epoch's loss."""
    binary = network[-1].out_features == 1
    X = torch.from_numpy(X)
    y = torch.from_numpy(y)
    if binary:
        y = y.to(X.dtype)[:, None]
    optimizer = torch.optim.SGD(network.parameters(), lr=STEP_SIZE)
    loss = torch.nn.BCEWithLogitsLoss() if binary else torch.nn.CrossEntropyLoss()
    for _ in range(epochs):
        total = 0.0
        order = torch.randperm(len(X)) if shuffle else torch.arange(len(X))
        for rows in order.split(batch_size):
            optimizer.zero_grad()
            value = loss(network(X[rows]), y[rows])
            value.backward()
            optimizer.step()
            total += len(rows) * value.item()
    return total / len(X)


def disagreement(hidden, batch_size, X, y):
    """How far the peers' loss is from ours after an epoch from the same start."""
    ours, mlp = estimators(hidden, batch_size, 1, shuffle=False)
    classes = np.unique(y)
    ours.partial_fit(X, y, classes=classes)
    mlp.partial_fit(X, y, classes=classes)
    mlp.coefs_ = [W.copy() for W in ours.coefs_]
    mlp.intercepts_ = [b.copy() for b in ours.intercepts_]
    network = torch_network(ours) if torch is not None else None
    loss = ours.partial_fit(X, y).loss_
    losses = [mlp.partial_fit(X, y).loss_]
    if torch is not None:
        losses.append(torch_fit(network, X, y, batch_size, 1, shuffle=False))
    return max(abs(other / loss - 1) for other in losses)


def hidden_layers(dtype, names, batch_sizes, budget):
    with_torch = torch is not None and dtype == np.float32
    rows, torch_rows, times, differences = [], [], [], []
    for name in names:
        source, n, sizes = NETWORKS[name]
        d, *hidden, K = map(int, name.split()[0].split("-"))
        X, y = source(n, d, max(2, K), dtype)
        cells, torch_cells, steps = [], [], []
        for batch_size in batch_sizes:
            n, epochs = sizes[BATCH_SIZES.index(batch_size)]
            m = n if batch_size == "all" else batch_size
            data = X[:n], y[:n]
            part = X[: 50 * m], y[: 50 * m]
            differences.append(disagreement(hidden, min(m, len(part[0])), *part))
            ours, mlp = estimators(hidden, m, epochs)
            actions = [lambda: ours.fit(*data), lambda: mlp.fit(*data)]  # noqa: B023
            if with_torch:
                network = torch_network(ours.fit(*data))
                actions.append(lambda: torch_fit(network, *data, m, epochs))  # noqa: B023
            t, t_mlp, *t_torch = best_times(actions, budget)
            cells.append(f"{t_mlp / t:.1f}")
            torch_cells += [f"{t_torch / t:.1f}" for t_torch in t_torch]
            steps.append(seconds(t / epochs / -(-n // m)))
        rows.append([name, *cells])
        torch_rows.append([name, *torch_cells])
        times.append([name, *steps])
    header = ["network, rows per step", *map(str, batch_sizes)]
    kind = np.dtype(dtype).name
    table(f"MLPClassifier's time / ours, {kind}", header, rows)
    if with_torch:
        table(f"PyTorch's time / ours, {kind}", header, torch_rows)
    table(f"Our time for a step, {kind}", header, times)
    print(
        "\nFrom the same start the losses of an epoch differ by a part of "
        f"{max(differences):.0e} at most."
    )


# %%
# Few rows per step
# -----------------
# Against what a user can write: loops that Numba compiles, and a scan over the steps in
# JAX. Both do the same steps on a network with one hidden layer.


def loops_epoch(W_1, b_1, W_2, b_2, X, y, order, m, eta):
    """One epoch in plain loops, for Numba to compile."""
    d, h = W_1.shape
    K = W_2.shape[1]
    A, D = np.empty((m, h), X.dtype), np.empty((m, h), X.dtype)
    P = np.empty((m, K), X.dtype)
    for start in range(0, len(order) - m + 1, m):
        rows = order[start : start + m]
        for i in range(m):
            x, a, p = X[rows[i]], A[i], P[i]
            a[:] = b_1
            for t in range(d):
                for j in range(h):
                    a[j] += x[t] * W_1[t, j]
            for j in range(h):
                a[j] = 1 / (1 + np.exp(-a[j]))
            p[:] = b_2
            for j in range(h):
                for k in range(K):
                    p[k] += a[j] * W_2[j, k]
            if K == 1:
                p[0] = 1 / (1 + np.exp(-p[0])) - y[rows[i]]
            else:
                p[:] = np.exp(p - p.max())
                p /= p.sum()
                p[y[rows[i]]] -= 1
            for j in range(h):
                s = X.dtype.type(0)
                for k in range(K):
                    s += p[k] * W_2[j, k]
                D[i, j] = s * a[j] * (1 - a[j])
        for i in range(m):
            x, a, p, delta = X[rows[i]], A[i], P[i], D[i]
            for j in range(h):
                for k in range(K):
                    W_2[j, k] -= eta / m * a[j] * p[k]
            b_2 -= eta / m * p
            for t in range(d):
                for j in range(h):
                    W_1[t, j] -= eta / m * x[t] * delta[j]
            b_1 -= eta / m * delta


def scan_epoch(parameters, X, y, batches, eta):
    """One epoch in JAX; `batches` has the row numbers of a step in each row."""

    def loss(parameters, x, y):
        W_1, b_1, W_2, b_2 = parameters
        z = jax.nn.sigmoid(x @ W_1 + b_1) @ W_2 + b_2
        if z.shape[1] == 1:
            return (jax.nn.softplus(z[:, 0]) - y * z[:, 0]).mean()
        return (jax.nn.logsumexp(z, axis=1) - z[jax.numpy.arange(len(y)), y]).mean()

    def step(parameters, rows):
        gradient = jax.grad(loss)(parameters, X[rows], y[rows])
        return jax.tree.map(lambda p, g: p - eta * g, parameters, gradient), None

    return jax.lax.scan(step, parameters, batches)[0]


FEW_ROWS = ("30-16-1", "64-32-10", "784-100-10", "300-200-5", "100-10-1")


def few_rows(names, budget):
    compiled = numba and numba.njit(fastmath=True)(loops_epoch)
    scanned = jax and jax.jit(scan_epoch)
    rows, eta = [], np.float32(STEP_SIZE)
    for name in names:
        d, h, K = map(int, name.split("-"))
        for m in (1, 4, 8, 16):
            n = 2_048
            X, y = synthetic(n, d, max(2, K), np.float32)
            order = np.random.default_rng(0).permutation(n)
            clf = estimators((h,), m, 1)[0].set_params(n_jobs=1).fit(X, y)
            parameters = [
                clf.coefs_[0], clf.intercepts_[0], clf.coefs_[1], clf.intercepts_[1]
            ]  # fmt: skip
            epochs = 1 + 2 * 10**8 // (n * d * h)
            actions = [
                lambda: clf.set_params(max_iter=1).fit(X, y),  # noqa: B023
                lambda: clf.set_params(max_iter=1 + epochs).fit(X, y),  # noqa: B023
            ]
            if numba:
                own = [p.copy() for p in parameters]
                actions.append(lambda: compiled(*own, X, y, order, m, eta))  # noqa: B023
            if jax:
                values = [*map(jax.numpy.asarray, (X, y, order.reshape(-1, m)))]
                actions.append(
                    lambda: jax.block_until_ready(
                        scanned(parameters, *values, eta)  # noqa: B023
                    )
                )
            for action in actions:
                action()  # compiles
            one, more, *peers = best_times(actions, budget)
            t = (more - one) / epochs
            cells = [f"{peer / t:.1f}" for peer in peers]
            rows.append([name, str(m), seconds(t * m / n), *cells])
    peers = ["Numba's time / ours"] * bool(numba) + ["JAX's time / ours"] * bool(jax)
    table(
        "Few rows per step, one thread, float32",
        ["network", "rows per step", "our step", *peers],
        rows,
    )


# %%
# Networks from the benchmarks of other packages
# ----------------------------------------------
# SimpleChains.jl: a full batch with Adam. OpenNN: HIGGS, batches of 100 samples.


def other_benchmarks(budget):
    rows = []
    for name, n, m, K, epochs, solver in (
        ("SimpleChains: 4-32-16-4", 10_000, 10_000, 4, 100, "adam"),
        ("OpenNN: 28-300-300-300-300-300-1", 10_000, 100, 2, 4, "sgd"),
    ):
        units = [*map(int, name.split()[1].split("-"))]
        weights = [p * q for p, q in itertools.pairwise(units)]
        work = 2 * n * (3 * sum(weights) - weights[0])
        X, y = synthetic(n, units[0], K, np.float32)
        for n_jobs in (1, 2):
            clf = estimators(units[1:-1], m, 1)[0]
            clf.set_params(activation="tanh", solver=solver, n_jobs=n_jobs)
            t = epoch_time(clf, X, y, epochs, budget)
            speed = [f"{work / t / 1e9:.0f} GF/s", f"{n / t:.0f} rows/s"]
            rows.append([name, str(n_jobs), seconds(t), *speed])
    table(
        "Networks from the benchmarks of other packages, float32",
        ["network", "threads", "our epoch", "speed", ""],
        rows,
    )


# %%
# The share of the machine's peak
# -------------------------------

STEPS = {
    "30-16-1": (1, 512),
    "64-32-10": (1, 512),
    "54-40-7": (256,),
    "13-100-3": (32,),
    "300-50-20-1": (64, 8_000),
    "784-100-10": (1, 32, 512, 60_000),
}


def shares(dtype, budget):
    """Useful multiplications of a step per second, as a share of a large product's."""
    rows, M = [], np.ones((1024, 1024), dtype)
    for name, batch_sizes in STEPS.items():
        d, *hidden, K = units = [*map(int, name.split("-"))]
        weights = [p * q for p, q in itertools.pairwise(units)]
        # Forward, gradients, and back to every layer but the first
        work = 3 * sum(weights) - weights[0]
        for m in batch_sizes:
            n = 2_000 if m == 1 else max(m, 8_000)
            X, y = synthetic(n, d, max(2, K), dtype)
            clf = estimators(hidden, m, 1)[0].set_params(n_jobs=1)
            epochs = 1 + 10**9 // (n * work)
            t = epoch_time(clf, X, y, epochs, budget) / -(-n // m)
            with threadpool_limits(1):
                peak = 1024**3 / best_times([lambda: M @ M], budget)[0]
            share = m * work / t / peak
            rows.append([name, str(m), seconds(t), f"{100 * share:.0f} %"])
    table(
        f"One thread, share of the speed of a product of 1024³, {dtype.__name__}",
        ["network", "rows per step", "our step", "share"],
        rows,
    )


# %%
# Two threads
# -----------


def two_threads(budget):
    """Where they gain; fit uses them only where `skbgd._core.threads` expects that."""
    always = {
        "MIN_ROWS_PER_THREAD": 1,
        "MIN_MULTIPLICATIONS_PER_THREAD": 1,
        "MIN_MULTIPLICATIONS": 0,
    }
    batch_sizes, n, rows = (32, 64, 128, 256, 1024, 8192), 8192, []
    with mock.patch.multiple(core_threads, **always):
        for units in ((20, 50, 2), (64, 50, 10), (200, 100, 5), (784, 200, 10)):
            d, *hidden, K = units
            X, y = synthetic(n, d, K, np.float32)
            epochs = 3 + 10**9 // (n * sum(p * q for p, q in itertools.pairwise(units)))
            cells = []
            for m in batch_sizes:
                ours, _ = estimators(hidden, m, epochs)
                one, two = best_times(
                    [lambda n=n: ours.set_params(n_jobs=n).fit(X, y) for n in (1, 2)],  # noqa: B023
                    budget,
                )
                cells.append(f"{one / two:.2f}")
            rows.append(["-".join(map(str, units)), *cells])
    table(
        "Time of one thread / that of two, float32",
        ["network, rows per step", *map(str, batch_sizes)],
        rows,
    )


# %%
# A busy machine
# --------------


def busy_machine(budget):
    """Threads, and those of MLPClassifier's BLAS, beside processes that want cores."""
    rows = []
    for n_busy, (d, hidden, K, m, epochs) in itertools.product(
        (0, 1, 2, 4), [(100, (200, 100), 5, 300, 3), (64, (50,), 10, 128, 30)]
    ):
        X, y = synthetic(9_000, d, K, np.float32)
        ours, mlp = estimators(hidden, m, epochs)
        busy = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(n_busy)
        ]
        try:
            one, two, eight, peer = best_times(
                [lambda n=n: ours.set_params(n_jobs=n).fit(X, y) for n in (1, 2, 8)]  # noqa: B023
                + [lambda: mlp.fit(X, y)],  # noqa: B023
                3 * budget,
            )
        finally:
            for process in busy:
                process.kill()
                process.wait()
        name = "-".join(map(str, (d, *hidden, K)))
        ratios = [f"{t / one:.2f}" for t in (two, eight, peer)]
        rows.append([str(n_busy), f"{name}, {m}", seconds(one), *ratios])
    header = ["busy processes", "network, rows per step", "one thread"]
    table(
        "Beside busy processes: time / one thread's",
        [*header, "n_jobs=2", "n_jobs=8", "MLPClassifier"],
        rows,
    )


# %%
# The core in NumPy
# -----------------


def numpy_core():
    """The same with the core that needs no compiler, in a process of its own."""
    print("\n## The core in NumPy (SKBGD_ISA=numpy)", flush=True)
    command = [sys.executable, __file__, "--hidden-layers"]
    subprocess.run(command, env=os.environ | {"SKBGD_ISA": "numpy"}, check=True)


# %%
# One neuron, one row per step
# ----------------------------


def one_neuron(budget):
    rows = []
    for d, K in ((30, 2), (784, 2), (784, 10)):
        for alpha in (0.0, 1e-4):
            cells = [f"{d} features, {K} classes, alpha={alpha:g}"]
            for dtype in (np.float32, np.float64):
                X, y = synthetic(20_000, d, K, dtype)
                epochs = 20 if d == 30 else 3
                common = {"alpha": alpha, "max_iter": epochs, "tol": None}
                common["random_state"] = 0
                ours = BGDClassifier(
                    (), batch_size=1, learning_rate=STEP_SIZE, standardize=False,
                    **common,
                )  # fmt: skip
                sgd = SGDClassifier(
                    loss="log_loss", learning_rate="constant", eta0=STEP_SIZE, **common
                )
                actions = [lambda: ours.fit(X, y), lambda: sgd.fit(X, y)]  # noqa: B023
                t, t_sgd = best_times(actions, budget)
                cells += [f"{t_sgd / t:.1f}", seconds(t / epochs / len(X))]
            rows.append(cells)
    table(
        "SGDClassifier(loss='log_loss')'s time / ours, one neuron, one row per step",
        ["data", "float32", "our step", "float64", "our step"],
        rows,
    )


# %%
# L-BFGS
# ------
# The same objective to the same tolerance for one neuron; as many iterations for
# networks, each with the start that its class makes.


def lbfgs(dtype, budget):
    common = {"solver": "lbfgs", "random_state": 0}
    cases = []
    for d, K, name in ((30, 2, ""), (784, 10, ""), (20_000, 2, ", CSR")):
        X, y = sparse_rows(20_000, d, dtype) if name else synthetic(20_000, d, K, dtype)
        ours = BGDClassifier(
            (), output_activation="softmax", alpha=1 / len(y), tol=1e-5,
            standardize=False, **common,
        )  # fmt: skip
        theirs = LogisticRegression(tol=1e-5, max_iter=1000)
        cases.append((f"LogisticRegression, {d} features{name}", ours, theirs, X, y))
    for name, n, iterations in (
        ("30-16-1", 20_000, 100),
        ("64-32-10 (digits)", 1_797, 100),
        ("784-100-10", 20_000, 20),
    ):
        d, hidden, K = map(int, name.split()[0].split("-"))
        X, y = NETWORKS[name][0](n, d, max(K, 2), dtype)
        ours = BGDClassifier(
            hidden, output_activation="softmax", alpha=1e-3, tol=None,
            max_iter=iterations, standardize=False, **common,
        )  # fmt: skip
        theirs = MLPClassifier(
            hidden, activation="logistic", alpha=1e-3 * n, tol=0, max_iter=iterations,
            **common,
        )  # fmt: skip
        cases.append((f"MLPClassifier, {name}", ours, theirs, X, y))
    rows = []
    for name, ours, theirs, X, y in cases:
        times = best_times(
            [lambda: ours.fit(X, y), lambda: theirs.fit(X, y)],  # noqa: B023
            budget,
        )
        rows.append(
            [
                name,
                f"{times[1] / times[0]:.1f}",
                seconds(times[0]),
                f"{ours.n_iter_}, {ours.updates_curve_[-1]}",
                f"{np.max(theirs.n_iter_)}",
            ]
        )
    table(
        f"L-BFGS: the peer's time / ours, {np.dtype(dtype)}",
        [
            "peer and rows",
            "ratio",
            "our fit",
            "iterations, gradients",
            "its iterations",
        ],
        rows,
    )


# %%
# The limit: the matrix products
# ------------------------------


def bare_products(budget):
    """The whole batch of 784-100-10 against its five matrix products alone."""
    n, d, h, K, epochs = 60_000, 784, 100, 10, 3
    X, y = synthetic(n, d, K, np.float32)
    A, W_1 = np.ones((n, h), np.float32), np.ones((d, h), np.float32)
    D, W_2 = np.ones((n, K), np.float32), np.ones((h, K), np.float32)
    outputs = [np.empty_like(M) for M in (A, D, A, W_1, W_2)]
    ours, _ = estimators((h,), n, epochs)

    def products():
        for _ in range(epochs):
            np.matmul(X, W_1, out=outputs[0])
            np.matmul(A, W_2, out=outputs[1])
            np.matmul(D, W_2.T, out=outputs[2])
            np.matmul(X.T, A, out=outputs[3])
            np.matmul(A.T, D, out=outputs[4])

    one, more, bare = best_times(
        [
            lambda: ours.set_params(max_iter=1).fit(X, y),
            lambda: ours.set_params(max_iter=1 + epochs).fit(X, y),
            products,
        ],
        budget,
    )
    epoch = (more - one) / epochs  # without what fit costs once
    table(
        "A whole batch of 784-100-10, 60 000 rows, float32",
        ["our epoch", "its five matrix products alone (BLAS)", "our speed"],
        [
            [
                seconds(epoch),
                seconds(bare / epochs),
                f"{100 * bare / epochs / epoch:.0f} %",
            ]
        ],
    )


# %%
# Prediction
# ----------


def prediction(budget):
    X, y = synthetic(60_000, 784, 10, np.float32)
    ours, mlp = (clf.fit(X[:512], y[:512]) for clf in estimators((100,), 512, 1))
    rows = []
    for n in (1, 100, 60_000):
        calls = 1 + 500 // n
        actions = [
            lambda clf=clf, n=n, calls=calls: [
                clf.predict_proba(X[:n]) for _ in range(calls)
            ]
            for clf in (ours, mlp)
        ]
        t, t_mlp = best_times(actions, budget)
        rows.append([str(n), f"{t_mlp / t:.2f}", seconds(t / calls)])
    table(
        "predict_proba of 784-100-10, float32",
        ["rows", "MLPClassifier's time / ours", "our time"],
        rows,
    )


# %%
# A grid search
# -------------


def grid_search(quick):
    X, y = digits(1_797, 64, 10, np.float32)
    batch_sizes = [32, 512] if quick else [8, 32, 128, 512]
    rates = [0.01] if quick else [0.003, 0.01, 0.03, 0.1]
    ours, mlp = estimators((32,), "auto", 20)
    times = []
    for clf, name, n_jobs in (
        (ours, "learning_rate", 1),
        (ours, "learning_rate", 2),
        (mlp, "learning_rate_init", 1),
    ):
        grid = {"batch_size": batch_sizes, name: rates}
        search = GridSearchCV(clf, grid, cv=5, n_jobs=n_jobs)

        def run(search=search):
            search.fit(X, y)

        if n_jobs > 1:
            run()  # starts the workers
        times.append(best_times([run], 0)[0] if clf is ours else timed(run))
    one, two, peer = times
    table(
        f"GridSearchCV on digits, {len(batch_sizes)} batch sizes x {len(rates)} "
        "learning rates, 5 folds, 20 epochs",
        ["ours", "with n_jobs=2", "gain of n_jobs=2", "MLPClassifier's time / ours"],
        [[seconds(one), seconds(two), f"{one / two:.2f}", f"{peer / one:.1f}"]],
    )


def timed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


# %%
# Sparse rows
# -----------


def sparse_rows(n, d, dtype=np.float32):
    """80 elements a row at random places; the label is the sign of a half of them."""
    rng = np.random.default_rng(0)
    indices = np.sort(rng.integers(d, size=(n, 80), dtype=np.int32), axis=1).ravel()
    elements = rng.standard_normal(80 * n).astype(dtype)
    indptr = np.arange(0, 80 * n + 1, 80, dtype=np.int32)
    X = scipy.sparse.csr_array((elements, indices, indptr), shape=(n, d))
    X.sum_duplicates()
    return X, (X[:, : d // 2].sum(axis=1) > 0).astype(int)


def epoch_time(clf, X, y, epochs, budget):
    """Of one epoch, without what fit costs once."""

    def fit(n_epochs):
        clf.set_params(max_iter=n_epochs).fit(X, y)

    one, more = best_times([lambda: fit(1), lambda: fit(1 + epochs)], budget)
    return (more - one) / epochs


def sparse_networks(budget):
    rows, n = [], 20_000
    for d, hidden, alpha in (
        (50_000, 16, 0.0),
        (50_000, 16, 1e-4),
        (50_000, 100, 0.0),
        (50_000, 100, 1e-4),
        (500_000, 16, 0.0),
    ):
        X, y = sparse_rows(n, d)
        ours, mlp = (
            clf.set_params(alpha=alpha) for clf in estimators((hidden,), 64, 1)
        )
        t = epoch_time(ours, X, y, 4, budget)
        # MLPClassifier takes very long: 40 of its 313 steps.
        part = X[: 64 * 40], y[: 64 * 40]
        epochs = 5 if d * hidden < 10**6 else 1
        t_mlp = epoch_time(mlp, *part, epochs, 0) * n / (64 * 40)
        rows.append(
            [f"{d}-{hidden}-1, alpha={alpha:g}", f"{t_mlp / t:.0f}", seconds(t)]
        )
    table(
        "Sparse rows with 80 elements, 20 000 rows, 64 per step, float32",
        ["network", "MLPClassifier's time / ours", "our epoch"],
        rows,
    )


def sparse_neuron(budget):
    rows = []
    for alpha in (0.0, 1e-4):
        cells = [f"50 000 features, alpha={alpha:g}"]
        for dtype in (np.float32, np.float64):
            X, y = sparse_rows(20_000, 50_000, dtype)
            common = {"alpha": alpha, "max_iter": 10, "tol": None, "random_state": 0}
            ours = BGDClassifier((), batch_size=1, learning_rate=STEP_SIZE, **common)
            sgd = SGDClassifier(
                loss="log_loss", learning_rate="constant", eta0=STEP_SIZE, **common
            )
            actions = [lambda: ours.fit(X, y), lambda: sgd.fit(X, y)]  # noqa: B023
            t, t_sgd = best_times(actions, budget)
            cells += [f"{t_sgd / t:.1f}", seconds(t / 10 / len(y))]
        rows.append(cells)
    table(
        "SGDClassifier(loss='log_loss')'s time / ours, sparse rows, one neuron, one "
        "row per step",
        ["data", "float32", "our step", "float64", "our step"],
        rows,
    )


# %%
# Memory
# ------


def memory():
    """Peak of the memory that Python and NumPy allocate while fit and predict run."""
    X, y = synthetic(60_000, 784, 10, np.float32)
    X_sparse, y_sparse = sparse_rows(20_000, 500_000)
    rows = []
    for name, data, hidden, batch_size in (
        ("784-100-10, 60 000 rows (188 MB), whole batch", (X, y), 100, len(y)),
        ("the same, 32 rows per step", (X, y), 100, 32),
        (
            "500000-16-1, 20 000 sparse rows, 64 per step; weights: 32 MB",
            (X_sparse, y_sparse),
            16,
            64,
        ),
    ):
        cells = [name]
        for clf in estimators((hidden,), batch_size, 2):
            if clf.__class__ is MLPClassifier and batch_size == 64:
                cells.append("")  # takes minutes
                continue
            tracemalloc.start()
            clf.fit(*data).predict(data[0])
            cells.append(f"{tracemalloc.get_traced_memory()[1] / 1e6:.0f} MB")
            tracemalloc.stop()
        rows.append(cells)
    table(
        "Peak memory above the data, fit and predict",
        ["network", "ours", "MLPClassifier"],
        rows,
    )


# %%
# Growth
# ------


def growth(budget):
    """How the time of an epoch grows with rows, features and hidden units."""
    rows = []
    for name, sizes in (
        ("rows", [(n, 400, 128) for n in (5_000, 10_000, 20_000)]),
        ("features", [(10_000, d, 128) for d in (200, 400, 800)]),
        ("hidden units", [(10_000, 400, h) for h in (64, 128, 256)]),
    ):
        times = []
        for n, d, h in sizes:
            data = synthetic(n, d, 2, np.float32)
            ours, _ = estimators((h,), 64, 3)
            times.append(best_times([lambda: ours.fit(*data)], budget / 3)[0])  # noqa: B023
        slope = np.polyfit(np.log([1, 2, 4]), np.log(times), 1)[0]
        rows.append([name, *map(seconds, times), f"{slope:.2f}"])
    table(
        "Time of three epochs as one size doubles twice; exponent of the growth",
        ["size", "", "twice", "four times", "exponent"],
        rows,
    )


# %%
# All together
# ------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument(
        "--quick", action="store_true", help="a part, in less than a minute"
    )
    parser.add_argument(
        "--hidden-layers", action="store_true", help="the first table alone, shorter"
    )
    args = parser.parse_args()
    quick = args.quick
    warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are given
    if args.hidden_layers:
        hidden_layers(np.float32, NETWORKS, [1, 32, 512, "all"], 0.3)
        return
    blas = {
        f"{library['internal_api']} {library['version']}, "
        f"{library['num_threads']} threads"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }
    versions = [
        f"Python {platform.python_version()}",
        f"NumPy {np.__version__}",
        f"SciPy {scipy.__version__}",
        f"scikit-learn {sklearn.__version__}",
        *(
            f"{name} {module.__version__}" if module else f"no {name}"
            for name, module in (("PyTorch", torch), ("Numba", numba), ("JAX", jax))
        ),
    ]
    print("; ".join([processor(), ", ".join(versions), *sorted(blas)]))
    start = time.perf_counter()
    if quick:
        hidden_layers(np.float32, [*NETWORKS][:3], [32, "all"], 0.1)
    else:
        hidden_layers(np.float32, NETWORKS, BATCH_SIZES, 1.0)
        hidden_layers(np.float64, [*NETWORKS][:3], BATCH_SIZES, 0.5)
    budget = 0.1 if quick else 1.0
    few_rows(FEW_ROWS[:2] if quick else FEW_ROWS, budget)
    other_benchmarks(budget)
    shares(np.float32, budget)
    if not quick:
        shares(np.float64, budget)
        two_threads(budget)
        busy_machine(budget)
    one_neuron(budget)
    bare_products(budget)
    prediction(budget)
    grid_search(quick)
    sparse_neuron(budget)
    lbfgs(np.float64, budget)
    if not quick:
        lbfgs(np.float32, budget)
        sparse_networks(budget)
        memory()
        growth(budget)
        numpy_core()
    print(f"\nTook {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
