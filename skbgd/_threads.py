"""How many threads work on what, and the BLAS held to one meanwhile."""

from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from contextvars import ContextVar
from functools import lru_cache

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

from ._backprop import BARRIER_WORKS, LARGE_PRODUCT, Together

# Multiplications between two meetings of the threads that make one more thread worth
# its while, and those of a whole call (examples/benchmark.py).
WORK_PER_THREAD = 1 << 22
WORK_PER_CALL = 1 << 25

# What the BLAS was allowed before the crew that is at work in this thread limited it.
_allowed = ContextVar("allowed", default=None)


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
    its kin, and those of threadpoolctl.
    """
    if n_jobs is not None:
        return n_jobs if n_jobs > 0 else max(1, _cores() + 1 + n_jobs)
    if _allowed.get() is not None:
        return _allowed.get()
    return min([_cores(), *_blas_threads()])


def _limit_blas_of_this_thread():
    """Where the BLAS's threads are OpenMP's, each thread has a limit of its own."""
    for library in _controller().lib_controllers:
        if getattr(library, "threading_layer", None) == "openmp":
            library.set_num_threads(1)


class Crew:
    """Threads that run functions of the core together, as a context.

    Within it the BLAS has one thread, unless another fit has limited it (and will lift
    the limit). Where there is too little to do it does nothing.

    Parameters
    ----------
    n_jobs : int or None
    most : int
        No more threads than that.
    meeting_work : int
        Multiplications between two meetings of the threads.
    call_work : int
        Multiplications in one call of `run`.
    n_calls : int
        1 or many.
    """

    def __init__(self, n_jobs, most, meeting_work, call_work, n_calls):
        self.n_threads = 1
        self.limits = call_work > WORK_PER_CALL
        if self.limits and BARRIER_WORKS:
            useful = 1 + meeting_work // WORK_PER_THREAD
            self.n_threads = min(allowed_threads(n_jobs), useful, most)
        if meeting_work > LARGE_PRODUCT and (n_calls > 1 or n_jobs is not None):
            self.limits = True
        self.n_jobs = n_jobs
        self.pool = None

    def __enter__(self):
        with ExitStack() as stack:
            if self.limits:
                token = _allowed.set(allowed_threads(self.n_jobs))
                stack.callback(_allowed.reset, token)
                if max(_blas_threads(), default=1) > 1:
                    limit = _controller().limit(limits=1)
                    stack.callback(limit.restore_original_limits)
            self.exit = stack.pop_all()
        return self

    def __exit__(self, *error):
        with self.exit:
            if self.pool is not None:
                pool, self.pool = self.pool, None
                pool.shutdown()

    def run(self, function, *args):
        """function(*args, together, rank) for each rank; the result of rank 0."""
        if self.n_threads == 1:
            return function(*args)
        if self.pool is None:
            self.pool = ThreadPoolExecutor(
                self.n_threads - 1, initializer=_limit_blas_of_this_thread
            )
        together = Together(self.n_threads)

        def member(rank):
            try:
                return function(*args, together, rank)
            except BaseException:
                together.stop()  # nobody is to wait for this thread
                raise

        others = []
        try:
            try:
                for rank in range(1, self.n_threads):
                    others.append(self.pool.submit(member, rank))
            except RuntimeError:  # no more threads, or Python is about to end
                together.stop()
                wait(others)
                return function(*args)
            result = member(0)
        finally:
            together.stop()
            wait(others)
        for other in others:
            other.result()  # raises what was raised there
        return result
