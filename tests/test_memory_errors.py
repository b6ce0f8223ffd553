"""A call without memory raises a MemoryError and leaves the estimator as it was.

test_threads.py tests threads without memory, test_bad_input.py networks that are too
large for any memory.
"""

import pickle
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from functools import wraps
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from core_helpers import CORES, numpy_core
from helpers import PATIENCE, same
from memory_errors import ESTIMATOR_CALLS, SETTINGS, estimator

SCRIPT = Path(__file__).parent / "memory_errors.py"
ALLOCATING = (
    "empty", "empty_like", "zeros", "zeros_like", "arange", "array", "asarray", "stack",
    "require",
)  # fmt: skip


@pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1 crashes without memory")
def test_each_allocation_of_the_compiled_core_may_fail():
    """The core raises a MemoryError."""
    if not hasattr(pytest.importorskip("_testcapi"), "set_nomemory"):
        pytest.skip("Python cannot let allocations fail")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@contextmanager
def memory_error_in(core, number):
    """Call `number` of the package raises: of the core, or of NumPy for an array.

    Yields a list that then has one element, or none if there are fewer calls.
    """
    count, failures = 0, []

    def count_call(name):
        nonlocal count
        count += 1
        if count == number:
            failures.append(name)
            raise MemoryError

    def counted(function, every_caller=True):
        @wraps(function, updated=())
        def wrapper(*args, **kwargs):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if every_caller or caller.split(".")[0] == "skbgd":
                count_call(function.__name__)
            return function(*args, **kwargs)

        return wrapper

    def counted_class(cls):
        def new(subclass, *args, **kwargs):
            count_call(cls.__name__)
            if cls.__new__ is object.__new__:
                return object.__new__(subclass)
            return cls.__new__(subclass, *args, **kwargs)

        methods = {
            name: counted(method)
            for name, method in vars(cls).items()
            if name[0] != "_" and callable(method)
        }
        return type(cls.__name__, (cls,), {"__new__": new, **methods})

    with ExitStack() as stack:
        for name in ALLOCATING:
            function = counted(getattr(np, name), every_caller=False)
            stack.enter_context(patch.object(np, name, function))
        for name, value in list(vars(core).items()):
            if name[0] != "_" and callable(value):
                ours = counted_class if isinstance(value, type) else counted
                stack.enter_context(patch.object(core, name, ours(value)))
        yield failures


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("fitted", [False, True], ids=["new", "fitted"])
@pytest.mark.parametrize(
    "solver, name",
    [
        *product(SETTINGS, ["fit", "predict_proba", "predict_log_proba"]),
        *product(["sgd", "adam"], ["partial_fit"]),
    ],
)
def test_each_call_of_the_core_may_fail(solver, name, fitted, core):
    """The estimator is as before, and the next call as if none had failed."""
    fitted |= name.startswith("predict")
    call = ESTIMATOR_CALLS[name]
    with numpy_core() if core == "numpy" else nullcontext():
        clf, expected = estimator(solver, fitted), estimator(solver, fitted)
        call(expected)
        before, number, failures = pickle.dumps(clf), 0, [""]
        while failures:
            number += 1
            with memory_error_in(CORES[core], number) as failures:
                try:
                    call(clf)
                except MemoryError:
                    assert failures
                else:
                    assert not failures, "the error was lost"
            assert not failures or pickle.dumps(clf) == before, failures
    assert number > 3
    same(clf, expected)
