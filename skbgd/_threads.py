"""How many threads work on what, and the BLAS held to one meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import lru_cache

from joblib import cpu_count, effective_n_jobs
from threadpoolctl import ThreadpoolController

from ._backprop import Together

# Multiplications between two meetings of the threads that make one more thread worth
# its while, and those of a whole call (examples/benchmark.py).
WORK_PER_THREAD = 1 << 20
WORK_PER_CALL = 1 << 23

# What the BLAS was allowed before the crew that is at work in this thread limited it.
_allowed = ContextVar("allowed", default=None)


@lru_cache(maxsize=1)
def _controller():
    return ThreadpoolController().select(user_api="blas")


@lru_cache(maxsize=1)
def _cores():
    return cpu_count()  # reads the quota of a container


def _blas_threads():
    return [library.num_threads for library in _controller().lib_controllers]


def allowed_threads(n_jobs):
    """The number of threads that `n_jobs` stands for.

    None: as many as the BLAS may use at the moment, at most one for each core. So the
    limits that joblib sets for its workers hold here, those of OPENBLAS_NUM_THREADS and
    its kin, and those of threadpoolctl.
    """
    if n_jobs is not None:
        return effective_n_jobs(n_jobs)
    if _allowed.get() is not None:
        return _allowed.get()
    return min([_cores(), *_blas_threads()])


class Crew:
    """Threads that run functions of the core together, as a context.

    Within it the BLAS has one thread. Where a call is over too soon to be shared out,
    it does nothing.

    Parameters
    ----------
    n_jobs : int or None
    most : int
        No more threads than that.
    meeting_work : int
        Multiplications between two meetings of the threads.
    call_work : int
        Multiplications in one call of `run`.
    """

    def __init__(self, n_jobs, most, meeting_work, call_work):
        self.n_threads = 1
        self.is_needed = call_work > WORK_PER_CALL
        if self.is_needed:
            self.allowed = allowed_threads(n_jobs)
            useful = 1 + meeting_work // WORK_PER_THREAD
            self.n_threads = min(self.allowed, useful, most)
        self.pool = self.limit = None

    def __enter__(self):
        if self.is_needed:
            self.token = _allowed.set(self.allowed)
            # If another fit has limited the BLAS, it will also lift the limit.
            if max(_blas_threads(), default=1) > 1:
                self.limit = _controller().limit(limits=1)
        return self

    def __exit__(self, *error):
        if self.pool is not None:
            self.pool.shutdown()
            self.pool = None
        if self.limit is not None:
            self.limit.restore_original_limits()
            self.limit = None
        if self.is_needed:
            _allowed.reset(self.token)

    def run(self, function, *args):
        """function(*args, together, rank) for each rank; the result of rank 0."""
        if self.n_threads == 1:
            return function(*args)
        if self.pool is None:
            self.pool = ThreadPoolExecutor(self.n_threads - 1)
        together = Together(self.n_threads)

        def member(rank):
            try:
                return function(*args, together, rank)
            except BaseException:
                together.stop()  # nobody is to wait for this thread
                raise

        others = []
        try:
            for rank in range(1, self.n_threads):
                others.append(self.pool.submit(member, rank))
            return member(0)
        finally:
            together.stop()
            for other in others:
                other.result()
