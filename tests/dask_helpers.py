"""Dask arrays, small classifiers and comparisons for the tests of skbgd.dask."""

import gc
import time

import numpy as np
import pytest
from helpers import PATIENCE, parameters
from sklearn.datasets import make_classification, make_multilabel_classification

pytest.importorskip("dask.array")
pytest.importorskip("distributed")

import dask.array as da  # noqa: E402

from skbgd.dask import DaskBGDClassifier  # noqa: E402

N = 600


def settled(client, n_workers=2):
    """Wait until killed workers are replaced; assert that no task is left."""
    client.wait_for_workers(n_workers, timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    gc.collect()  # tracebacks of caught exceptions keep futures alive
    while client.run_on_scheduler(n_tasks) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.run_on_scheduler(n_tasks) == 0


def n_tasks(dask_scheduler):
    """The number of tasks that the scheduler knows."""
    return len(dask_scheduler.tasks)


def rows(n_classes=2, labels=None, n=N):
    """Rows and their labels: numbers, or those of the given list."""
    X, y = make_classification(
        n, 7, n_informative=5, n_redundant=0, n_classes=n_classes, random_state=0
    )
    return X, y if labels is None else np.array([*labels])[y]


def multilabel_rows():
    return make_multilabel_classification(N, 7, n_classes=3, random_state=0)


def weights(n=N):
    return np.random.default_rng(0).integers(0, 4, size=n).astype(float)


def spread(array, chunks=200):
    """A dask array in blocks of `chunks` rows."""
    return da.from_array(array, chunks=(chunks, *array.shape[1:]))


def close(a, b, atol=1e-10):
    """Assert that two classifiers have equal parameters and history, to rounding."""
    np.testing.assert_allclose(parameters(a), parameters(b), rtol=0, atol=atol)
    np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=0, atol=atol)
    np.testing.assert_allclose(
        a.validation_loss_curve_, b.validation_loss_curve_, rtol=0, atol=atol
    )
    assert a.updates_curve_ == b.updates_curve_
    assert (a.n_iter_, a.t_) == (b.n_iter_, b.t_)
    assert a.classes_.tolist() == b.classes_.tolist()
    assert a.stop_reason_ == b.stop_reason_


def small(kind=DaskBGDClassifier, **params):
    """A classifier that makes 10 epochs on full batches with a constant step size."""
    usual = {"hidden_layer_sizes": (5,), "batch_size": "full", "max_iter": 10,
        "learning_rate_schedule": "constant",
    }  # fmt: skip
    return kind(**{**usual, "tol": None, "random_state": 0, **params})
