"""The number of threads, and the thread pool that runs functions of the core."""

import atexit
import os
from _thread import start_new_thread
from functools import lru_cache

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

from . import COMPILED, backprop

# The least that makes one more thread pay off (measured by examples/benchmark.py):
# rows of a batch, since each step moves all weights between CPUs, and multiplications
# between two barriers.
MIN_ROWS_PER_THREAD = 48
MIN_MULTIPLICATIONS_PER_THREAD = 1 << 17
# The least multiplications in all calls together that make starting threads pay off.
MIN_MULTIPLICATIONS = 1 << 25


@lru_cache(maxsize=1)
def _controller():
    return ThreadpoolController().select(user_api="blas")


@lru_cache(maxsize=1)
def _n_cpus():
    return cpu_count()  # respects the CPU quota of a container


def _blas_threads():
    numbers = [library.num_threads for library in _controller().lib_controllers]
    return [n for n in numbers if n is not None]


def allowed_threads(n_jobs):
    """The number of threads that `n_jobs` allows.

    None means the current limit of the BLAS, and at most one thread per CPU. This
    respects the limits that joblib sets for its workers, OPENBLAS_NUM_THREADS and
    similar variables, and threadpoolctl. The core itself calls no BLAS and sets no
    limit.
    """
    if n_jobs is not None:
        return n_jobs if n_jobs > 0 else max(1, _n_cpus() + 1 + n_jobs)
    return min([_n_cpus(), *_blas_threads()])


_running: set["ThreadPool"] = set()  # pools with worker threads


@atexit.register
def _stop_all():
    """At exit, stop the pools in use, such as that of a fit in a daemon thread."""
    for pool in list(_running):
        pool.stop()


def _replace_all():
    """After a fork, replace the native pools: the child has none of their workers.

    Locks and counters of the old pools may be in any state and must not be used. A fit
    that resumes in the child, forked by its callback, processes all chunks in one
    thread.
    """
    for pool in list(_running):
        pool.native_pool = backprop.NativeThreadPool(pool.n_threads)
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_all)


class ThreadPool:
    """Context manager that runs functions of the core in several threads.

    It starts its worker threads at the first call of `run`. With the NumPy core it uses
    one thread, and the BLAS its own.

    Parameters
    ----------
    n_jobs : int or None
    n_rows : int
        Number of rows of a batch.
    n_multiplications_per_step : int
        Number of multiplications between two barriers.
    n_multiplications : int
        Number of multiplications in all calls of `run`.
    """

    def __init__(self, n_jobs, n_rows, n_multiplications_per_step, n_multiplications):
        self.n_threads = 1
        if COMPILED and n_multiplications > MIN_MULTIPLICATIONS:
            useful = min(
                n_rows // MIN_ROWS_PER_THREAD,
                n_multiplications_per_step // MIN_MULTIPLICATIONS_PER_THREAD,
            )
            # More threads than CPUs would only wait for each other.
            self.n_threads = max(1, min(allowed_threads(n_jobs), useful, _n_cpus()))
        self.native_pool = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        """Stop the workers; the calling thread finishes a call in progress."""
        if self.native_pool is not None:
            self.native_pool.stop()
            _running.discard(self)

    def run(self, function, *args):
        """Return function(*args, native_pool); with one thread, function(*args)."""
        if self.n_threads == 1:
            return function(*args)
        if self.native_pool is None:
            self.native_pool = backprop.NativeThreadPool(self.n_threads)
            _running.add(self)
            for _ in range(1, self.n_threads):
                try:
                    # threading.Thread.start would wait forever if the new thread ran
                    # out of memory before it signalled that it had started.
                    start_new_thread(self.native_pool.run_worker, ())
                except (RuntimeError, MemoryError):
                    break  # the threads there are process all chunks
        return function(*args, self.native_pool)
