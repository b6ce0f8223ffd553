"""What takes too long for the suite: resources over 2000 fits, threads at once, forks.

    python tests/long_runs.py

prints the figures of each and exits with 1 if one is not as it should be. Needs /proc.
"""

import gc
import multiprocessing
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import sparse
from sklearn.datasets import make_classification
from threadpoolctl import threadpool_info, threadpool_limits

from skbgd import BGDClassifier
from skbgd._core import threads

X, y = make_classification(300, 20, n_informative=8, n_classes=3, random_state=0)
CSR = sparse.csr_array(np.where(np.abs(X) > 1, X, 0))
SETTINGS = [
    {"output_activation": "logistic"},
    {"hidden_layer_sizes": (), "batch_size": 1},
    {"batch_size": "full", "momentum": 0.9, "nesterov": True},
    {"solver": "adam", "early_stopping": True},
    {"output_activation": "softmax", "max_gradient_norm": 0.1, "learning_rate": 0.01},
    {"activation": "identity", "learning_rate": 1e300, "alpha": 1.0},  # an error
]


def fit(i, **settings):
    """A fit in threads, and predictions; its error, if it had one."""
    rows = CSR if i % 2 else X
    settings = {"max_iter": 3, "tol": None, "random_state": 0} | settings
    clf = BGDClassifier(**SETTINGS[i % len(SETTINGS)] | settings)
    try:
        clf.fit(rows, y)
    except ValueError as error:
        return str(error)
    return clf.predict_proba(rows)


def resources():
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    n_threads = len(os.listdir("/proc/self/task"))
    return resident / 2**20, n_threads, len(os.listdir("/proc/self/fd"))


def resources_stay(n=2000):
    """Memory, threads and file descriptors after 200 fits are those after all."""
    start = time.perf_counter()
    for i in range(n):
        fit(i)
        if i + 1 in (200, n):
            memory, n_threads, files = resources()
            print(
                f"  after {i + 1} fits: {memory:.1f} MiB, {n_threads} threads, {files} "
                f"file descriptors, {time.perf_counter() - start:.0f} s"
            )
            if i + 1 == 200:
                before = memory, n_threads, files
    assert memory < before[0] + 2
    assert (n_threads, files) == before[1:]


def threads_at_once(n=16, rounds=12):
    """Each result is that of one thread alone; the BLAS has its limit right after."""
    expected = [fit(i) for i in range(len(SETTINGS))]
    limits = 0
    with threadpool_limits(2, user_api="blas"):
        before = threadpool_info()
        barrier = threading.Barrier(n)

        def work(k):
            barrier.wait()
            return [(i, fit(i)) for i in range(k, k + rounds)]

        with ThreadPoolExecutor(n) as pool:
            for future in [pool.submit(work, k) for k in range(n)]:
                for i, result in future.result():
                    one = expected[i % len(SETTINGS)]
                    if isinstance(one, str):
                        assert result == one
                    else:
                        np.testing.assert_allclose(result, one, rtol=1e-8, atol=1e-10)
                limits += threadpool_info() == before
        assert threadpool_info() == before
    assert limits == n
    print(f"  {n} threads, {n * rounds} fits and predictions: as in one thread")


def in_child(queue):
    queue.put([type(fit(i)).__name__ for i in range(len(SETTINGS))])


def forks(n=50):
    """A process forked after a fit in threads, or during one, fits too."""
    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(1) as pool:
        for i in range(n):
            fit(i)
            other = pool.submit(fit, i + 1, max_iter=100) if i % 2 else None
            queue = context.SimpleQueue()
            child = context.Process(target=in_child, args=(queue,))
            child.start()
            child.join(120)
            assert child.exitcode == 0, f"child {i}: {child.exitcode}"
            assert queue.get().count("str") == 1
            if other is not None:
                other.result()
    print(f"  {n} forks: each child fitted {len(SETTINGS)} models")


def main():
    warnings.simplefilter("ignore")
    # Threads for the smallest work.
    threads.MIN_ROWS_PER_THREAD = threads.MIN_MULTIPLICATIONS_PER_THREAD = 1
    threads.MIN_MULTIPLICATIONS = 0
    threads._n_cpus = lambda: 4
    failed = 0
    for run in (resources_stay, threads_at_once, forks):
        print(f"{run.__name__}: {run.__doc__}", flush=True)
        try:
            run()
        except AssertionError as error:
            failed = 1
            print(f"  FAILED: {error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
