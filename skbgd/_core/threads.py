"""How many threads work on what."""

import atexit
import os
from _thread import start_new_thread
from functools import lru_cache

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

from . import COMPILED, backprop

# One more thread is worth its while for so many rows of a batch, as all weights go from
# core to core in each step; for so many multiplications between two meetings of the
# threads; and, as threads have to be started, for so many in all (benchmark.py).
ROWS_PER_THREAD = 64
WORK_PER_THREAD = 1 << 17
WORK_OF_A_TEAM = 1 << 25


@lru_cache(maxsize=1)
def _controller():
    return ThreadpoolController().select(user_api="blas")


@lru_cache(maxsize=1)
def _cores():
    return cpu_count()  # reads the quota of a container


def _blas_threads():
    numbers = [library.num_threads for library in _controller().lib_controllers]
    return [n for n in numbers if n is not None]


def allowed_threads(n_jobs):
    """The number of threads that `n_jobs` stands for.

    None: as many as the BLAS may use at the moment, at most one for each core. So the
    limits that joblib sets for its workers hold here, those of OPENBLAS_NUM_THREADS and
    its kin, and those of threadpoolctl. The core itself uses no BLAS and sets no limit.
    """
    if n_jobs is not None:
        return n_jobs if n_jobs > 0 else max(1, _cores() + 1 + n_jobs)
    return min([_cores(), *_blas_threads()])


_at_work: set["ThreadTeam"] = set()  # whose threads may be waiting for work


@atexit.register
def _stop_all():
    """At the end of Python, teams that were not left, as of threads that still fit."""
    for team in list(_at_work):
        team.stop()


def _forget_all():
    """In a child, which has none of the threads and may not touch what they wait for.

    A fit that resumes there, as its callback has forked, has the work of a whole team.
    """
    for team in list(_at_work):
        team.team = backprop.SharedTeam(team.n_threads)
    _at_work.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class ThreadTeam:
    """Threads that run functions of the core together, as a context.

    One thread alone where the core is NumPy, whose products have those of the BLAS.

    Parameters
    ----------
    n_jobs : int or None
    n_rows : int
        Of a batch.
    work_per_step : int
        Multiplications between two meetings of the threads.
    work : int
        Multiplications in all calls of `run`.
    """

    def __init__(self, n_jobs, n_rows, work_per_step, work):
        self.n_threads = 1
        if COMPILED and work > WORK_OF_A_TEAM:
            useful = min(n_rows // ROWS_PER_THREAD, work_per_step // WORK_PER_THREAD)
            # More threads than cores would only wait for each other.
            self.n_threads = max(1, min(allowed_threads(n_jobs), useful, _cores()))
        self.team = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        """Let the other threads end; a call that is under way is finished by one."""
        if self.team is not None:
            self.team.stop()
            _at_work.discard(self)

    def run(self, function, *args):
        """function(*args, team): it divides its work among those that help the team."""
        if self.n_threads == 1:
            return function(*args)
        if self.team is None:
            self.team = backprop.SharedTeam(self.n_threads)
            _at_work.add(self)
            for _ in range(1, self.n_threads):
                try:
                    # The `start` of a threading.Thread would wait for ever if there is
                    # no memory for the new thread to begin with.
                    start_new_thread(self.team.help, ())
                except (RuntimeError, MemoryError):
                    break  # those that are there do all the work
        return function(*args, self.team)
