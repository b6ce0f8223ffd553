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

    def counted(function, every_caller):
        @wraps(function, updated=())
        def wrapper(*args, **kwargs):
            nonlocal count
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if every_caller or caller.split(".")[0] == "skbgd":
                count += 1
                if count == number:
                    failures.append(function.__name__)
                    raise MemoryError
            return function(*args, **kwargs)

        return wrapper

    with ExitStack() as stack:
        for module, names, every_caller in (
            (np, ALLOCATING, False),
            (core, [name for name in vars(core) if name[0] != "_"], True),
        ):
            for name in names:
                function = getattr(module, name)
                if callable(function):
                    function = counted(function, every_caller)
                    stack.enter_context(patch.object(module, name, function))
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
