"""How many threads work on what."""

from concurrent.futures import ThreadPoolExecutor
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
        self.pool = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.pool is not None:
            self.team.stop()
            self.pool.shutdown()
            self.pool = None

    def run(self, function, *args):
        """function(*args, team): it divides its work among those that help the team."""
        if self.n_threads == 1:
            return function(*args)
        if self.pool is None:
            self.team = backprop.SharedTeam(self.n_threads)
            self.pool = ThreadPoolExecutor(self.n_threads - 1)
            try:
                for _ in range(1, self.n_threads):
                    self.pool.submit(self.team.help)
            except RuntimeError:
                pass  # No more threads: the work is done by those that are there.
        return function(*args, self.team)
