"""No memory: a MemoryError, and the estimator as it was.

That of threads is tested in test_threads.py, sizes beyond all memory in
test_bad_input.py.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "memory_errors.py"


@pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1 crashes in sums of its own")
def test_each_allocation_may_fail():
    """In `fit` one in a hundred, elsewhere each; see the script."""
    if not hasattr(pytest.importorskip("_testcapi"), "set_nomemory"):
        pytest.skip("Python cannot let allocations fail")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, "100"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
