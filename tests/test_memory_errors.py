"""A call without memory raises a MemoryError and leaves the estimator as it was.

test_threads.py tests threads without memory, test_bad_input.py networks that are too
large for any memory.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import PATIENCE

SCRIPT = Path(__file__).parent / "memory_errors.py"


@pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1 crashes in its own sums")
def test_each_allocation_may_fail():
    """No failure changes the estimator; `fit` tries every hundredth allocation."""
    if not hasattr(pytest.importorskip("_testcapi"), "set_nomemory"):
        pytest.skip("Python cannot let allocations fail")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, "100"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stdout + run.stderr
