"""Threads: results do not depend on them, no call hangs, the BLAS is not limited."""

import _thread
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from core_helpers import (
    FLOATS,
    RTOL,
    ctrl_c_during,
    eager_threads,
    make_problem,
    replaced_method,
)
from helpers import PATIENCE, same, small
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.datasets import load_digits, make_classification
from threadpoolctl import threadpool_info, threadpool_limits

from skbgd import BGDClassifier
from skbgd._core import COMPILED, arguments, backprop, threads
from skbgd._core.arguments import Layout
from skbgd._core.threads import allowed_threads, n_threads_for

X, y = make_classification(
    150, 13, n_informative=6, n_classes=3, random_state=0, shuffle=True
)
CSR = sparse.csr_array(np.where(np.abs(X) > 1, X, 0))
compiled = pytest.mark.skipif(not COMPILED, reason="needs the compiled core")


@pytest.fixture
def eager():
    """Let the smallest fit use threads."""
    with eager_threads(n_cpus=8):
        yield


def fitted(n_jobs, rows=X, classes=3, **parameters):
    clf = BGDClassifier(
        **{"max_iter": 8, "tol": None, "random_state": 0, "learning_rate": 0.1}
        | parameters,
        n_jobs=n_jobs,
    )
    return clf.fit(rows, y % classes)


def blas_threads():
    return [
        lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"
    ]


@pytest.mark.parametrize("rows", [X, CSR], ids=["dense", "csr"])
@pytest.mark.parametrize("batch_size", [1, 7, 64, "full"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"output_activation": "logistic"},
        {"hidden_layer_sizes": (9, 5), "output_activation": "softmax"},
        {"hidden_layer_sizes": (), "alpha": 0.1},
        {"hidden_layer_sizes": (), "alpha": 0.1, "classes": 2},
        {"hidden_layer_sizes": (9,), "momentum": 0.9, "learning_rate": 0.02},
        {"hidden_layer_sizes": (9,), "solver": "adam", "learning_rate": 0.01},
        {"hidden_layer_sizes": (9, 4), "max_gradient_norm": 0.1},
        # With more weights than rows, the weights are divided among the threads.
        {"hidden_layer_sizes": (40, 30)},
        {"hidden_layer_sizes": (9, 5), "standardize": False},
    ],
    ids=[
        "sigmoids", "softmax", "single layer", "logistic regression", "momentum",
        "adam", "clipped", "wide", "raw features",
    ],
)  # fmt: skip
def test_results_do_not_depend_on_the_number_of_threads(
    eager, rows, batch_size, parameters
):
    """Parameters, curves and predictions agree to rounding."""
    expected = fitted(1, rows, batch_size=batch_size, **parameters)
    for n_jobs in (2, 5):
        clf = fitted(n_jobs, rows, batch_size=batch_size, **parameters)
        for a, b in zip(clf.coefs_, expected.coefs_, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
        np.testing.assert_allclose(clf.loss_curve_, expected.loss_curve_, rtol=1e-11)
        np.testing.assert_allclose(
            clf.predict_proba(rows), expected.predict_proba(rows), rtol=0, atol=1e-11
        )


def test_same_number_of_threads_same_bits(eager):
    """Also in a fit of many windows, some of which the leader computes alone."""
    first, second = (fitted(3, batch_size=20, max_iter=400) for _ in range(2))
    np.testing.assert_array_equal(first.coefs_[0], second.coefs_[0])
    assert first.loss_curve_ == second.loss_curve_


def test_validation_loss_in_threads(eager):
    """The validation loss is that of one thread, to rounding."""
    curves = [
        BGDClassifier(max_iter=5, tol=None, random_state=0, n_jobs=n_jobs)
        .fit(X, y, X_val=X[:50], y_val=y[:50])
        .validation_loss_curve_
        for n_jobs in (1, 4)
    ]
    np.testing.assert_allclose(*curves, rtol=1e-12)


def test_diverging_fit_in_threads(eager):
    """It raises the error and leaves the model as it was."""
    clf = fitted(3)
    before = clf.coefs_[0].copy()
    clf.set_params(learning_rate=1e200, activation="identity", alpha=1.0)
    with pytest.raises(ValueError, match="diverged"):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.coefs_[0], before)


@compiled
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_waiting_workers_are_stopped(eager, error):
    """An error between two epochs ends the workers, which wait for the next one."""
    calls, before = [], _thread._count()

    def epoch(original, *args):
        calls.append(args)
        if len(calls) == 3:
            time.sleep(0.05)
            raise error("not enough")
        return original(*args)

    clf = BGDClassifier(
        max_iter=8, tol=None, random_state=0, learning_rate=0.1, n_jobs=3
    )
    with (
        replaced_method("epoch", epoch),
        pytest.raises(error, match="not enough"),
    ):
        clf.fit(X, y)
    deadline = time.monotonic() + PATIENCE  # they have left the core and end soon
    while _thread._count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert _thread._count() <= before
    # After Ctrl-C the finished epochs are kept.
    assert hasattr(clf, "coefs_") == (error is KeyboardInterrupt)
    assert getattr(clf, "n_iter_", 2) == 2


@compiled
@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
@pytest.mark.parametrize("n_workers", [0, 1])
@pytest.mark.parametrize("batch_size", [20, "full"])
def test_threads_that_cannot_start(eager, monkeypatch, batch_size, n_workers, error):
    """The other threads process all chunks and give the same bits."""
    expected = fitted(3, batch_size=batch_size)
    start, started = threads.start_new_thread, []

    def start_new_thread(*args):
        if len(started) == n_workers:
            raise error("can't start new thread")
        started.append(start(*args))

    monkeypatch.setattr(threads, "start_new_thread", start_new_thread)
    clf = fitted(3, batch_size=batch_size)
    assert len(started) == n_workers
    same(clf, expected)


def run_python(code):
    """Run a script that may import the modules beside this file."""
    command = [sys.executable, "-c", code]
    folder = Path(__file__).parent
    subprocess.run(command, check=True, timeout=PATIENCE, cwd=folder)


LITTLE_MEMORY = """
import resource
import numpy as np
from core_helpers import eager_threads
from skbgd import BGDClassifier
from skbgd._core import backprop
from skbgd._core.arguments import Layout
eager_threads(4).start()
X = np.random.default_rng(0).normal(size=(600, 20))

def fit():
    clf = BGDClassifier(max_iter=2, tol=None, batch_size=100, random_state=0, n_jobs=4)
    return clf.fit(X, X[:, 0] > 0).coefs_[0]

expected, limits = fit(), resource.getrlimit(resource.RLIMIT_AS)

def outcome(beyond, call):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used + beyond, limits[1]))
        return call()
    except MemoryError:
        return None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)

coefs = [outcome(beyond, fit) for beyond in range(0, 64 << 20, 1 << 20)]
assert all(W is None or (W == expected).all() for W in coefs)
assert coefs[-1] is not None
layout, theta = Layout((20, 1), "tanh", "logistic"), np.zeros(21)
trainer = lambda: backprop.Trainer(layout, theta, X, n_threads=10**7)
assert outcome(64 << 20, trainer) is None
"""


@compiled
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
@pytest.mark.skipif(
    "san.so" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers need memory"
)
def test_little_memory_for_threads():
    """A fit without memory for new threads gives the same bits or a MemoryError.

    A thread may also start, and then have no memory to run Python.
    """
    run_python(LITTLE_MEMORY)


UNFINISHED = """
import threading, time
import numpy as np
from core_helpers import eager_threads
from skbgd import BGDClassifier
from skbgd._core import backprop, threads
from skbgd._core.arguments import Layout
eager_threads(2).start()
X = np.random.default_rng(0).normal(size=(1000, 20))
clf = BGDClassifier(max_iter=10**6, tol=None, batch_size=200, n_jobs=2)
threading.Thread(target=clf.fit, args=(X, X[:, 0] > 0), daemon=True).start()
while not threads._running:
    time.sleep(0.01)
layout, theta = Layout((20, 1), "tanh", "logistic"), np.zeros(21)
trainer = backprop.Trainer(layout, theta, X, n_threads=2).__enter__()
assert trainer.outputs(np.empty((1000, 1)))
"""


@compiled
def test_python_exits_during_a_fit():
    """Workers of a daemon thread's fit, and of a pool not exited, do not delay it."""
    run_python(UNFINISHED)


def test_the_number_of_threads_of_a_stream(monkeypatch):
    """It depends on the samples of the call, not on the number of calls."""
    work = []

    def record(n_jobs, n_rows, n_multiplications_per_step, n_multiplications):
        work.append(n_multiplications)
        return 1

    monkeypatch.setattr("skbgd._trainer.n_threads_for", record)
    X, y = np.random.default_rng(0).normal(size=(9, 2)), np.arange(9) % 2
    clf = small(max_iter=3)
    for _ in range(6):
        clf.partial_fit(X, y, classes=[0, 1])
    assert len(work) == 6
    assert len(set(work)) == 1
    assert work[0] > 0


LONG_EPOCH = """
import threading, time
import numpy as np
from skbgd._core import backprop
from skbgd._core.arguments import Layout
from skbgd._update_rules import UpdateRule
layout = Layout((500, 500, 1), "tanh", "logistic")
X = np.zeros((100_000, 500), dtype=np.float32)
Y, theta = np.zeros((100_000, 1), dtype=np.intc), np.zeros(251_001, dtype=np.float32)
trainer = backprop.Trainer(layout, theta, X, Y, batch_size=200)
epoch = threading.Thread(target=trainer.epoch, args=(UpdateRule(0.1), 0), daemon=True)
epoch.start()
time.sleep(0.5)  # now it is in the epoch, which takes seconds
"""


@compiled
def test_python_exits_during_an_epoch_of_a_daemon_thread():
    """The thread looks for no signal meanwhile, which would abort the process."""
    run_python(LONG_EPOCH)


def sequential_fraction(*phases):
    """The fraction of time in which the leader works alone, in the last phase.

    Each phase has the seconds of a run in parallel and alone. Phases last 10 s; the
    first second of each, in which the mode may change, does not count.
    """
    selector, now = backprop.ModeSelector(), 0.0
    for parallel, sequential in phases:
        start, alone = now, 0.0
        while now < start + 10:
            runs_alone = selector.update(now)
            duration = sequential if runs_alone else parallel
            if runs_alone and now > start + 1:
                alone += duration
            now += duration
    return alone / (now - start - 1)


# Seconds of a run in parallel
SHORT_RUNS = pytest.mark.parametrize("seconds", [1e-5, 1e-4, 9e-4])


@compiled
@SHORT_RUNS
def test_leader_rarely_works_alone_if_this_is_slower(seconds):
    """Short runs are tried alone in one window of 200."""
    assert 0.001 < sequential_fraction((seconds, 2 * seconds)) < 0.02


@compiled
@SHORT_RUNS
def test_leader_works_alone_if_this_is_faster(seconds):
    """Short runs are then parallel in one window of 12."""
    assert 0.8 < sequential_fraction((seconds, seconds / 2)) < 0.95


@compiled
def test_leader_never_works_alone_in_long_runs():
    """Runs of 2 ms are parallel, even if they are slower."""
    assert sequential_fraction((2e-3, 1e-4)) == 0


@compiled
def test_leader_adapts_to_other_processes():
    """The mode changes when another process takes a CPU, and again when it ends."""
    idle, busy = (5e-5, 1e-4), (2e-4, 1e-4)
    assert sequential_fraction(idle, busy) > 0.8
    assert sequential_fraction(idle, busy, idle) < 0.02


@compiled
@pytest.mark.parametrize("dtype", FLOATS)
def test_gradient_in_parts(dtype):
    """The gradients of all threads' chunks add up to that of one thread."""
    network, theta, rows, Y, _, _ = make_problem((7,), n=200, dtype=dtype)
    results = []
    for n_threads in (1, 3):
        gradient = np.full_like(theta, np.nan)
        with backprop.Trainer(
            network.layout, theta, rows, Y, n_threads=n_threads, tile=16
        ) as trainer:
            results.append([trainer.loss_gradient(gradient), *gradient])
    np.testing.assert_allclose(*results, rtol=RTOL[dtype], atol=100 * RTOL[dtype])


@compiled
def test_more_workers_than_needed():
    """The surplus worker returns at once, the other when the pool is stopped."""
    layout, theta = Layout((1, 1), "tanh", "logistic"), np.zeros(2)
    trainer = backprop.Trainer(layout, theta, np.zeros((2, 1)), n_threads=2)
    with ThreadPoolExecutor(2) as executor:
        workers = [executor.submit(trainer.run_worker) for _ in range(2)]
        done, _ = wait(workers, PATIENCE, "FIRST_COMPLETED")
        assert len(done) == 1
        trainer.stop()
    assert all(worker.done() for worker in workers)


def test_ctrl_c_in_a_fit_with_threads(eager):
    """The leader sees the signal within an epoch; whole steps are kept."""
    X = np.random.default_rng(0).normal(size=(200_000, 50))
    clf = BGDClassifier(
        (400,), tol=None, batch_size=64, shuffle=False, random_state=0, n_jobs=3
    )
    with ctrl_c_during("epoch"):
        clf.fit(X, X[:, 0] > 0)
    assert clf.n_iter_ == 1
    assert 0 < clf.t_ < len(X)
    assert clf.t_ % 64 == 0
    assert np.isfinite(clf.coefs_[0]).all()


@compiled
def test_default_number_of_threads(monkeypatch):
    """It is the BLAS's limit at the time of the call, in any thread."""
    monkeypatch.setattr(threads, "_n_cpus", lambda: 64)
    with threadpool_limits(1, user_api="blas"):
        assert allowed_threads(None) == 1
    with threadpool_limits(2, user_api="blas"):
        assert allowed_threads(None) == min(blas_threads())
        n_threads = n_threads_for(None, 1 << 20, 1 << 40, 1 << 40)
        assert n_threads == allowed_threads(None) == min(blas_threads())
        with ThreadPoolExecutor(1) as other:
            assert other.submit(allowed_threads, None).result() == n_threads
    assert allowed_threads(3) == 3
    assert allowed_threads(-1) >= 1


def test_processes_of_joblib_share_the_cpus():
    """With one process for each CPU, each process uses one thread."""
    n = threads._n_cpus()
    assert (
        Parallel(n_jobs=n)(delayed(allowed_threads)(None) for _ in range(n))
        == [1 if n > 1 else allowed_threads(None)] * n
    )


def test_fewer_rows_than_threads(eager):
    """Training batches and predictions of few rows agree with one thread."""
    clf = fitted(7, X, batch_size=2)
    expected = fitted(1, X, batch_size=2)
    for n in (1, 2, 5):
        assert clf.score(X[:n], y[:n]) == expected.score(X[:n], y[:n])
        np.testing.assert_allclose(
            clf.predict_proba(X[:n]), expected.predict_proba(X[:n]), rtol=1e-10
        )


def test_concurrent_fits_never_limit_the_blas(eager):
    """threadpool_info() is the same before, during and after fits, and after errors."""
    with threadpool_limits(2, user_api="blas"):
        before, during = threadpool_info(), []

        def schedule(epoch):
            during.append(threadpool_info())
            return 1.0

        def fit(i):
            if i % 4 == 3:
                with pytest.raises(ValueError, match="diverged"):
                    fitted(None, learning_rate=1e300, activation="identity", alpha=1.0)
            return fitted(None, batch_size=20, learning_rate_schedule=schedule)

        with ThreadPoolExecutor(8) as pool:
            models = list(pool.map(fit, range(16)))
        assert threadpool_info() == before
    assert len(during) >= 16 * 8
    assert all(info == before for info in during)
    for clf in models:
        np.testing.assert_allclose(clf.loss_curve_, models[0].loss_curve_, rtol=1e-12)


def _fit_in_child(clf, queue):
    fitted(2, batch_size=20)
    queue.put(clf.predict(X).tolist())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_while_another_thread_fits(eager):
    """The child holds no lock of the fit: it fits and predicts."""
    clf = fitted(1)
    expected = clf.predict(X).tolist()
    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(fitted, 2, batch_size=20, max_iter=2000)
        for _ in range(5):
            queue = context.SimpleQueue()
            child = context.Process(target=_fit_in_child, args=(clf, queue))
            child.start()
            child.join(PATIENCE)
            assert child.exitcode == 0
            assert queue.get() == expected
        assert np.isfinite(fit.result(PATIENCE).loss_)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_while_another_thread_creates_a_network(monkeypatch):
    """The networks share no lock, which the child would wait for."""
    clf = fitted(1)
    context, original = multiprocessing.get_context("fork"), arguments.Layout
    forked, entered = threading.Event(), threading.Event()

    def layout(*args):
        if not entered.is_set():
            entered.set()
            forked.wait(120)
        return original(*args)

    monkeypatch.setattr(arguments, "Layout", layout)
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(fitted, 1)
        assert entered.wait(60)
        queue = context.SimpleQueue()
        child = context.Process(target=_fit_in_child, args=(clf, queue))
        child.start()
        child.join(60)
        child.kill()
        forked.set()
        assert child.exitcode == 0
        assert queue.get() == clf.predict(X).tolist()
        fit.result(60)


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_within_a_fit(eager):
    """Parent and child, which has one thread, finish it with the same bits."""
    expected, children = fitted(3, batch_size=20, learning_rate_schedule="constant"), []

    def fork(epoch):
        if epoch == 4:
            children.append(os.fork())
        return 1.0

    clf = fitted(3, batch_size=20, learning_rate_schedule=fork)
    equal = (clf.coefs_[0] == expected.coefs_[0]).all()
    if children == [0]:
        os._exit(0 if equal else 3)
    assert equal
    deadline = time.monotonic() + PATIENCE
    ended = 0, None
    while ended[0] == 0 and time.monotonic() < deadline:
        ended = os.waitpid(children[0], os.WNOHANG)
        time.sleep(0.01)
    if ended[0] == 0:
        os.kill(children[0], signal.SIGKILL)
    assert ended == (children[0], 0)


@compiled
def test_subnormal_numbers_are_flushed_in_the_core_only(eager):
    """They are 0 in Adam's moments and normal arithmetic afterwards keeps them."""
    clf = fitted(2, X.astype(np.float32), solver="adam", alpha=1e-3, batch_size=20)
    tiny = np.float32(1e-40)
    assert tiny * np.float32(0.5) > 0
    zeros = np.hstack([X, np.zeros_like(X)]).astype(np.float32)
    clf = fitted(1, zeros, solver="adam", alpha=1e-3, batch_size=2, max_iter=30)
    for moment in (clf._state.velocity, clf._state.second_moment):
        size = np.abs(moment[moment != 0])
        assert (size >= np.finfo(np.float32).tiny).all()
    assert tiny * np.float32(0.5) > 0
    P = clf.predict_proba(np.full_like(zeros[:2], tiny))
    np.testing.assert_array_equal(P, clf.predict_proba(np.zeros_like(zeros[:2])))


@pytest.mark.parametrize("n_jobs", [0, 1.5, "all", True])
def test_invalid_n_jobs(n_jobs):
    """The message states the rule and the value."""
    with pytest.raises(ValueError, match=r"n_jobs=.*int other than 0 or None"):
        fitted(n_jobs)


# Calls from several threads


@pytest.fixture
def frequent_switches():
    """Python switches between threads a hundred times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("change", ["features", "classes", "layers"])
def test_fit_while_other_threads_predict(frequent_switches, change):
    """A prediction uses the old model or the new one, or raises an error."""
    rng = np.random.default_rng(0)
    data = []
    for n in (3, 700):
        n_features, n_classes = (5, n) if change == "classes" else (n, 3)
        X = rng.normal(size=(1400, n_features)).astype(np.float32)
        data.append((X, np.arange(1400) % n_classes))
    clf = BGDClassifier((4,), max_iter=1, tol=None, random_state=0, learning_rate=0.1)
    clf.fit(*data[0])
    done, failures = threading.Event(), []

    def predict(X):
        while not done.is_set():
            try:
                P = clf.predict_proba(X[:5])
                assert P.shape[1] in (3, 700)
                assert np.isfinite(P).all()
                assert set(clf.predict(X[:5])) <= set(range(700))
                assert {W.ndim for W in clf.coefs_} == {2}
            except ValueError as error:
                if "features, but BGDClassifier is expecting" not in str(error):
                    failures.append(error)
            except BaseException as error:
                failures.append(error)

    with ThreadPoolExecutor(3) as pool:
        for rows, _ in [data[0], data[1], data[0]]:
            pool.submit(predict, rows)
        for k in range(60):
            if change == "layers":
                clf.set_params(hidden_layer_sizes=[(4,), (90, 50)][k % 2])
                clf.fit(*data[0])
            else:
                clf.fit(*data[k % 2])
        done.set()
    assert failures == []


def test_concurrent_partial_fit():
    """Calls may be lost, but the model and its counters stay consistent."""
    X, y = load_digits(return_X_y=True)
    clf = small(batch_size=32, learning_rate=0.1).partial_fit(X / 16, y, range(10))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):  # of four concurrent calls at least one counts
            list(pool.map(lambda _: clf.partial_fit(X / 16, y), range(4)))
    assert np.isfinite(clf.predict_proba(X / 16)).all()
    assert 11 <= clf.n_iter_ <= 41
    assert clf.partial_fit(X, y).n_iter_ == len(clf.loss_curve_)


def test_concurrent_fits_and_predictions():
    """They give the bits of calls one after the other."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    clf = small(batch_size=32).fit(X, y)
    P = clf.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: clf.predict_proba(X), range(8)):
            np.testing.assert_array_equal(result, P)
        for other in pool.map(lambda _: small(batch_size=32).fit(X, y), range(4)):
            same(other, clf)


def test_predictions_during_a_fit(moons):
    """They are those of the old model until `fit` returns."""
    X, _, y, _ = moons
    clf = small().fit(X, y)
    P = clf.predict_proba(X)
    seen = []

    def look(epoch):
        seen.append(clf.predict_proba(X))
        return 1.0

    clf.set_params(learning_rate_schedule=look, max_iter=5).fit(X, y)
    assert len(seen) == 5
    for during in seen:
        np.testing.assert_array_equal(during, P)
