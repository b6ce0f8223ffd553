"""What has to be set before SciPy is imported, the way to `helpers`, fixtures."""

import logging
import os
import sys
from pathlib import Path

import pytest

# scikit-learn skips its array API check without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# `import helpers` finds the file beside this one.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("helpers", "dask_helpers")


@pytest.fixture
def moons():
    """Rows to learn from and rows to validate with: X, X_val, y, y_val."""
    from sklearn.datasets import make_moons
    from sklearn.model_selection import train_test_split

    X, y = make_moons(300, noise=0.25, random_state=0)
    return train_test_split(X, y, test_size=0.5, random_state=0)


@pytest.fixture(scope="module")
def client(request):
    """Two workers of Dask, or as many as a test asks for, of one thread each."""
    import distributed

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
