"""The number of threads of a trainer, and its worker threads."""

import atexit
import os
from _thread import start_new_thread
from functools import lru_cache

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

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


def n_threads_for(n_jobs, n_rows, n_multiplications_per_step, n_multiplications):
    """The number of threads that pay off, at most those that `n_jobs` allows.

    Parameters
    ----------
    n_jobs : int or None
    n_rows : int
        Number of rows of a batch.
    n_multiplications_per_step : int
        Number of multiplications between two barriers.
    n_multiplications : int
        Number of multiplications in all calls together.
    """
    if n_multiplications <= MIN_MULTIPLICATIONS:
        return 1
    useful = min(
        n_rows // MIN_ROWS_PER_THREAD,
        n_multiplications_per_step // MIN_MULTIPLICATIONS_PER_THREAD,
    )
    # More threads than CPUs would only wait for each other.
    return max(1, min(allowed_threads(n_jobs), useful, _n_cpus()))


_running: set = set()  # trainers with worker threads


def start_workers(trainer):
    """Start the worker threads of a trainer of the compiled core."""
    _running.add(trainer)
    try:
        for _ in range(1, trainer.n_threads):
            # threading.Thread.start would wait forever if the new thread ran out of
            # memory before it signalled that it had started.
            start_new_thread(trainer.run_worker, ())
    except (RuntimeError, MemoryError):
        pass  # the threads there are process all chunks
    except BaseException:  # Ctrl-C
        stop_workers(trainer)
        raise


def stop_workers(trainer):
    """Stop the workers; the calling thread finishes a call in progress."""
    trainer.stop()
    _running.discard(trainer)


@atexit.register
def _stop_all():
    """At exit, stop the workers in use, such as those of a fit in a daemon thread."""
    for trainer in list(_running):
        trainer.stop()


def _replace_all():
    """After a fork, replace the thread pools: the child has none of their workers.

    A fit that resumes in the child, forked by its callback, processes all chunks in one
    thread.
    """
    for trainer in list(_running):
        trainer.replace_thread_pool()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_all)
