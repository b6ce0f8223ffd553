"""Threads: the same results, no waiting for ever, and the BLAS as it was."""

import _thread
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from helpers import same, small
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.datasets import load_digits, make_classification
from threadpoolctl import threadpool_info, threadpool_limits

from skbgd import BGDClassifier, _rows
from skbgd._core import COMPILED, backprop, threads
from skbgd._core.threads import ThreadTeam, allowed_threads

X, y = make_classification(
    150, 13, n_informative=6, n_classes=3, random_state=0, shuffle=True
)
CSR = sparse.csr_array(np.where(np.abs(X) > 1, X, 0))
compiled = pytest.mark.skipif(not COMPILED, reason="of the compiled core alone")


@pytest.fixture
def eager(monkeypatch):
    """Threads for the smallest work."""
    monkeypatch.setattr(threads, "ROWS_PER_THREAD", 1)
    monkeypatch.setattr(threads, "WORK_PER_THREAD", 1)
    monkeypatch.setattr(threads, "WORK_OF_A_TEAM", 0)
    monkeypatch.setattr(threads, "_cores", lambda: 8)


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
        {},
        {"hidden_layer_sizes": (9, 5), "output_activation": "softmax"},
        {"hidden_layer_sizes": (), "alpha": 0.1},
        {"hidden_layer_sizes": (), "alpha": 0.1, "classes": 2},
        {"hidden_layer_sizes": (9,), "momentum": 0.9, "learning_rate": 0.02},
        {"hidden_layer_sizes": (9,), "solver": "adam", "learning_rate": 0.01},
        {"hidden_layer_sizes": (9, 4), "max_gradient_norm": 0.1},
        # More weights than rows: they are what is divided among the threads.
        {"hidden_layer_sizes": (40, 30)},
    ],
    ids=["plain", "deep", "neurons", "neuron", "momentum", "adam", "clipped", "wide"],
)
def test_results_do_not_depend_on_the_number_of_threads(
    eager, rows, batch_size, parameters
):
    """Parameters, curves and predictions are the same to rounding."""
    alone = fitted(1, rows, batch_size=batch_size, **parameters)
    for n_jobs in (2, 5):
        clf = fitted(n_jobs, rows, batch_size=batch_size, **parameters)
        for a, b in zip(clf.coefs_, alone.coefs_, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
        np.testing.assert_allclose(clf.loss_curve_, alone.loss_curve_, rtol=1e-11)
        np.testing.assert_allclose(
            clf.predict_proba(rows), alone.predict_proba(rows), rtol=0, atol=1e-11
        )


def test_same_number_of_threads_same_bits(eager):
    """Also where the first thread has tried to do it alone: for some milliseconds."""
    first, second = (fitted(3, batch_size=20, max_iter=400) for _ in range(2))
    np.testing.assert_array_equal(first.coefs_[0], second.coefs_[0])
    assert first.loss_curve_ == second.loss_curve_


def test_validation_loss_in_threads(eager):
    """The loss of the validation rows is computed by the same threads."""
    curves = [
        BGDClassifier(max_iter=5, tol=None, random_state=0, n_jobs=n_jobs)
        .fit(X, y, X_val=X[:50], y_val=y[:50])
        .validation_loss_curve_
        for n_jobs in (1, 4)
    ]
    np.testing.assert_allclose(*curves, rtol=1e-12)


def test_a_diverging_fit_in_threads_fails_and_leaves_no_trace(eager):
    clf = fitted(3)
    before = clf.coefs_[0].copy()
    clf.set_params(learning_rate=1e200, activation="identity", alpha=1.0)
    with pytest.raises(ValueError, match="diverged"):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.coefs_[0], before)


@compiled
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_threads_that_wait_are_stopped(eager, monkeypatch, error):
    """The first thread fails between two epochs, while the others wait for work."""
    core, calls, before = _rows.backprop.run_batches, [], _thread._count()

    def run_batches(*args):
        calls.append(args)
        if len(calls) == 3:
            time.sleep(0.05)
            raise error("not enough")
        return core(*args)

    monkeypatch.setattr(_rows.backprop, "run_batches", run_batches)
    clf = BGDClassifier(
        max_iter=8, tol=None, random_state=0, learning_rate=0.1, n_jobs=3
    )
    with pytest.raises(error, match="not enough"):
        clf.fit(X, y)
    deadline = time.monotonic() + 10  # they have left the core, and end soon
    while _thread._count() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert _thread._count() <= before
    # After Ctrl-C what was learned is kept.
    assert hasattr(clf, "coefs_") == (error is KeyboardInterrupt)
    assert getattr(clf, "n_iter_", 2) == 2


@compiled
@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
@pytest.mark.parametrize("n_helpers", [0, 1])
@pytest.mark.parametrize("batch_size", [20, "full"])
def test_without_new_threads_the_rest_do_the_work(
    eager, monkeypatch, batch_size, n_helpers, error
):
    """Those that are there take all shares: the same bits."""
    expected = fitted(3, batch_size=batch_size)
    start, started = threads.start_new_thread, []

    def start_new_thread(*args):
        if len(started) == n_helpers:
            raise error("can't start new thread")
        started.append(start(*args))

    monkeypatch.setattr(threads, "start_new_thread", start_new_thread)
    clf = fitted(3, batch_size=batch_size)
    assert len(started) == n_helpers
    same(clf, expected)


LITTLE_MEMORY = """
import resource
import numpy as np
from skbgd import BGDClassifier
from skbgd._core import backprop, threads
threads.ROWS_PER_THREAD = threads.WORK_PER_THREAD = 1
threads.WORK_OF_A_TEAM = 0
threads._cores = lambda: 4
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
assert outcome(64 << 20, lambda: backprop.SharedTeam(10**7)) is None
"""


@compiled
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and RLIMIT_AS")
@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer needs memory"
)
def test_little_memory_for_threads():
    """Stacks of new threads do not fit: fewer threads, the same bits, and it returns.

    A thread may also start, and then find no memory to run Python.
    """
    run = [sys.executable, "-c", LITTLE_MEMORY]
    subprocess.run(run, check=True, timeout=120)


UNFINISHED = """
import threading, time
import numpy as np
from skbgd import BGDClassifier
from skbgd._core import threads
threads.ROWS_PER_THREAD = threads.WORK_PER_THREAD = 1
threads.WORK_OF_A_TEAM = 0
threads._cores = lambda: 2
X = np.random.default_rng(0).normal(size=(1000, 20))
clf = BGDClassifier(max_iter=10**6, tol=None, batch_size=200, n_jobs=2)
threading.Thread(target=clf.fit, args=(X, X[:, 0] > 0), daemon=True).start()
while not threads._at_work:
    time.sleep(0.01)
team = threads.ThreadTeam(2, 100, 100, 100)
assert team.n_threads == 2
team.run(lambda team: None)
"""


@compiled
def test_python_ends_beside_a_fit_and_a_team_that_was_not_left():
    """The thread of the fit is a daemon; those that help it are not waited for."""
    subprocess.run([sys.executable, "-c", UNFINISHED], check=True, timeout=60)


@compiled
def test_more_help_than_a_team_needs():
    """It returns at once; the others when the team is stopped."""
    team = backprop.SharedTeam(2)
    with ThreadPoolExecutor(2) as pool:
        help_ = [pool.submit(team.help) for _ in range(2)]
        done, _ = wait(help_, timeout=10, return_when="FIRST_COMPLETED")
        assert len(done) == 1
        team.stop()
    assert all(future.done() for future in help_)


def test_ctrl_c_while_threads_wait(eager):
    """A real signal, seen by the first thread in the core."""
    X = np.random.default_rng(0).normal(size=(20_000, 50))
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    clf = BGDClassifier(
        max_iter=100_000, tol=None, batch_size=64, random_state=0, n_jobs=3
    )
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, X[:, 0] > 0)
    timer.join()
    assert np.isfinite(clf.coefs_[0]).all()


def test_the_blas_is_never_limited(eager):
    """threadpool_info() is the same before, during and after a fit, or an error."""
    seen = []
    with threadpool_limits(2, user_api="blas"):
        before = threadpool_info()
        BGDClassifier(
            max_iter=1,
            tol=None,
            learning_rate=0.01,  # does not diverge
            random_state=0,
            scoring=lambda *_: seen.append(threadpool_info()) or 0.0,
        ).fit(X, y, X_val=X, y_val=y)
        assert seen == [before]
        with pytest.raises(ValueError, match="diverged"):
            fitted(1, learning_rate=1e300, activation="identity", alpha=1.0)
        assert threadpool_info() == before


@compiled
def test_default_number_of_threads_is_that_of_the_blas(monkeypatch):
    monkeypatch.setattr(threads, "_cores", lambda: 64)
    with threadpool_limits(1, user_api="blas"):
        assert allowed_threads(None) == 1
    with threadpool_limits(2, user_api="blas"):
        assert allowed_threads(None) == min(blas_threads())
        with ThreadTeam(None, 1 << 20, 1 << 40, 1 << 40) as team:
            assert team.n_threads == allowed_threads(None) == min(blas_threads())
            with ThreadPoolExecutor(1) as other:  # a fit in another thread
                assert other.submit(allowed_threads, None).result() == team.n_threads
    assert allowed_threads(3) == 3
    assert allowed_threads(-1) >= 1


def test_workers_of_joblib_share_the_cores():
    """In a pool of as many processes as cores, each has one thread."""
    n = threads._cores()
    assert (
        Parallel(n_jobs=n)(delayed(allowed_threads)(None) for _ in range(n))
        == [1 if n > 1 else allowed_threads(None)] * n
    )


def test_fewer_rows_than_threads(eager):
    clf = fitted(7, X, batch_size=2)
    expected = fitted(1, X, batch_size=2)
    for n in (1, 2, 5):
        assert clf.score(X[:n], y[:n]) == expected.score(X[:n], y[:n])
        np.testing.assert_allclose(
            clf.predict_proba(X[:n]), expected.predict_proba(X[:n]), rtol=1e-10
        )


def test_fits_in_several_threads_leave_the_blas_as_it_was(eager):
    """Eight at once, errors among them."""
    with threadpool_limits(2, user_api="blas"):
        before = threadpool_info()

        def fit(i):
            if i % 4 == 3:
                with pytest.raises(ValueError, match="diverged"):
                    fitted(None, learning_rate=1e300, activation="identity", alpha=1.0)
            return fitted(None, batch_size=20)

        with ThreadPoolExecutor(8) as pool:
            models = list(pool.map(fit, range(16)))
        assert threadpool_info() == before
    for clf in models:
        np.testing.assert_allclose(clf.loss_curve_, models[0].loss_curve_, rtol=1e-12)


def _fit_in_child(clf, queue):
    fitted(2, batch_size=20)
    queue.put(clf.predict(X).tolist())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_while_another_thread_fits(eager):
    """The core takes no lock that a child would inherit: it fits and predicts."""
    clf = fitted(1)
    expected = clf.predict(X).tolist()
    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(fitted, 2, batch_size=20, max_iter=2000)
        for _ in range(5):
            queue = context.SimpleQueue()
            child = context.Process(target=_fit_in_child, args=(clf, queue))
            child.start()
            child.join(60)
            assert child.exitcode == 0
            assert queue.get() == expected
        assert np.isfinite(fit.result(120).loss_)


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_in_the_midst_of_a_fit(eager):
    """It is finished twice, in the child by one thread: the same bits."""
    expected, children = fitted(3, batch_size=20, learning_rate_schedule="constant"), []

    def fork(epoch):
        if epoch == 4:
            children.append(os.fork())
        return 1.0

    clf = fitted(3, batch_size=20, learning_rate_schedule=fork)
    alike = (clf.coefs_[0] == expected.coefs_[0]).all()
    if children == [0]:
        os._exit(0 if alike else 3)
    assert alike
    deadline = time.monotonic() + 60
    ended = 0, None
    while ended[0] == 0 and time.monotonic() < deadline:
        ended = os.waitpid(children[0], os.WNOHANG)
        time.sleep(0.01)
    if ended[0] == 0:
        os.kill(children[0], signal.SIGKILL)
    assert ended == (children[0], 0)


@compiled
def test_the_mode_of_the_processor_is_restored(eager):
    """Small numbers are 0 within the core alone, and none is in Adam's moments."""
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
def test_bad_number_of_threads(n_jobs):
    with pytest.raises(ValueError, match=r"n_jobs=.*int other than 0 or None"):
        fitted(n_jobs)


# Threads of the user


@pytest.fixture
def restless():
    """Threads of Python take turns a hundred times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("change", ["features", "classes", "layers"])
def test_a_model_may_be_replaced_while_others_predict(restless, change):
    """A prediction sees one model as a whole, the old or the new, or an error."""
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


def test_threads_may_call_partial_fit_at_once():
    """A step may be lost, nothing else."""
    X, y = load_digits(return_X_y=True)
    clf = small(batch_size=32, learning_rate=0.1).partial_fit(X / 16, y, range(10))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):  # calls that begin together: at least one counts
            list(pool.map(lambda _: clf.partial_fit(X / 16, y), range(4)))
    assert np.isfinite(clf.predict_proba(X / 16)).all()
    assert 11 <= clf.n_iter_ <= 41
    assert clf.partial_fit(X, y).n_iter_ == len(clf.loss_curve_)


def test_threads_may_fit_and_predict_at_once():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    clf = small(batch_size=32).fit(X, y)
    P = clf.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: clf.predict_proba(X), range(8)):
            np.testing.assert_array_equal(result, P)
        for other in pool.map(lambda _: small(batch_size=32).fit(X, y), range(4)):
            same(other, clf)


def test_a_fit_shows_its_model_only_when_it_is_done(moons):
    """Another thread that predicts meanwhile sees the old model."""
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
