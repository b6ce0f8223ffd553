"""Settings that are needed before SciPy is imported, and fixtures."""

import logging
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

# A shell starts background jobs with SIGINT ignored; tests raise it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Without it scikit-learn skips its check of the array API.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# So that tests can import helpers.py.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("helpers", "core_helpers", "dask_helpers")


@pytest.fixture(autouse=True)
def seeded():
    """Fits without `random_state` are the same in each run."""
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture
def moons():
    """Training and validation rows: X, X_val, y, y_val."""
    from sklearn.datasets import make_moons
    from sklearn.model_selection import train_test_split

    X, y = make_moons(300, noise=0.25, random_state=0)
    return train_test_split(X, y, test_size=0.5, random_state=0)


@pytest.fixture(scope="module")
def client(request):
    """A Dask client with two workers, or with `request.param`, of one thread each."""
    distributed = pytest.importorskip("distributed")

    with (
        distributed.LocalCluster(
            n_workers=getattr(request, "param", 2),
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
