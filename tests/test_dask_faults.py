"""Dask workers that are killed, rows that are lost, and the traffic of a fit."""

import os
import pickle
import signal
import threading

import numpy as np
import pytest
from dask_helpers import N, n_tasks, rows, settled, small, spread
from helpers import parameters, same
from sklearn.base import clone

distributed = pytest.importorskip("distributed")

import dask.array as da  # noqa: E402
from dask import delayed  # noqa: E402

from skbgd.dask import _rows  # noqa: E402
from skbgd.dask._trainer import DaskTrainer  # noqa: E402

# Faults


def killing(client, epoch, worker=None):
    """A schedule that kills a worker before an epoch, and the list of those killed."""
    killed = []

    def rule(k):
        if k == epoch and not killed:
            pids = client.run(os.getpid)
            killed.append(worker or min(pids))
            os.kill(pids[killed[0]], signal.SIGKILL)
        return 1.0

    return rule, killed


@pytest.mark.parametrize("batch_size", ["full", 3000])
def test_killed_worker(client, batch_size):
    """Its rows are computed again, and the fit gives the same bits."""
    rng = da.random.default_rng(0)
    X = rng.normal(size=(9000, 4), chunks=1500)
    y = X[:, 0] * X[:, 1] > 0
    params = {
        "batch_size": batch_size, "early_stopping": True, "max_iter": 6,
        "learning_rate": 0.5,
    }  # fmt: skip
    validation = {"X_val": X[:1500], "y_val": y[:1500]}
    undisturbed = small(**params).fit(X, y, **validation)
    rule, killed = killing(client, 3)
    disturbed = small(learning_rate_schedule=rule, **params).fit(X, y, **validation)
    assert killed
    same(undisturbed, disturbed)
    assert disturbed.validation_loss_curve_ == undisturbed.validation_loss_curve_
    settled(client)


def test_killed_worker_during_lbfgs(client, monkeypatch):
    """The fit gives the same bits."""
    rng = da.random.default_rng(0)
    X = rng.normal(size=(9000, 4), chunks=1500)
    y = X[:, 0] * X[:, 1] > 0
    clf = small(solver="lbfgs", max_iter=8)
    undisturbed = clone(clf).fit(X, y)
    kill, killed = killing(client, 4)
    calls = []
    loss_gradient = DaskTrainer.loss_gradient

    def killed_before(*args):
        kill(len(calls))
        calls.append(args)
        return loss_gradient(*args)

    monkeypatch.setattr(DaskTrainer, "loss_gradient", killed_before)
    disturbed = clf.fit(X, y)
    assert killed
    same(undisturbed, disturbed)
    settled(client)


def test_scattered_rows_of_a_killed_worker(client):
    """They are lost: the error says so, and the finished epochs are kept."""
    batch_size = 300
    X, y = rows()
    workers = sorted(client.scheduler_info()["workers"])
    parts = [
        client.scatter(X[i : i + 300], workers=[worker])
        for i, worker in zip((0, 300), workers, strict=True)
    ]
    blocks = da.concatenate([da.from_delayed(part, (300, 7), float) for part in parts])
    rule, killed = killing(client, 3, workers[0])
    clf = small(learning_rate_schedule=rule, batch_size=batch_size)
    with pytest.raises(RuntimeError, match="not if they were scattered"):
        clf.fit(blocks, spread(y))
    assert killed
    assert clf.stop_reason_ == "interrupted"
    assert clf.n_iter_ == len(clf.loss_curve_) == 3
    same(clf, small(max_iter=3, batch_size=batch_size).fit(spread(X, 300), spread(y)))
    del parts, blocks
    settled(client)


def test_rows_that_cannot_be_loaded(client):
    """Their error is raised, and the estimator stays as it was."""

    @delayed
    def missing():
        raise OSError("no such file")

    lost = da.from_delayed(missing(), (N, 7), float)
    X, y = rows()
    clf = small().fit(spread(X), spread(y))
    before = pickle.dumps(clf)
    with pytest.raises(OSError, match="no such file"):
        clf.fit(lost, spread(y))
    assert pickle.dumps(clf) == before


def test_ctrl_c(client):
    """Finished epochs are kept, and no task keeps running or stays in memory."""
    X, y = (spread(array) for array in rows())

    def rule(k):
        if k == 3:
            waiting.set()
        return 1.0

    def press():
        waiting.wait()  # and then for the GIL, until `fit` waits for the workers
        signal.raise_signal(signal.SIGINT)

    waiting, thread = threading.Event(), threading.Thread(target=press, daemon=True)
    thread.start()
    clf = small(max_iter=100_000, learning_rate_schedule=rule)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert clf.stop_reason_ == "interrupted"
    thread.join()
    assert 3 <= clf.n_iter_ < clf.max_iter
    assert len(clf.loss_curve_) == clf.n_iter_
    settled(client)


def test_ctrl_c_while_a_step_is_computed(client, monkeypatch):
    """The finished steps are kept, and the tasks of the last one are canceled."""
    X, y = (spread(array) for array in rows())
    waits, last, wait = [], [], _rows.wait

    def interrupted(future):
        waits.append(1)
        if len(waits) == 20:
            last.append(future)
            raise KeyboardInterrupt
        return wait(future)

    clf = small(max_iter=100)
    monkeypatch.setattr(_rows, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert last.pop().cancelled()
    assert 3 < clf.n_iter_ < 20
    assert len(clf.loss_curve_) == clf.n_iter_
    settled(client)


# Traffic


@pytest.mark.parametrize("embedded", [True, False])
def test_traffic_of_a_step(client, monkeypatch, embedded):
    """A step sends about 2 x workers x parameters, and the scheduler keeps no task.

    Dask counts what workers send: the sums, and parameters that they forward. The
    machine's network counter includes what the scheduler sends, and what other
    programs send: the step with the least traffic is taken.
    """
    psutil = pytest.importorskip("psutil")
    if not embedded:
        monkeypatch.setattr(_rows, "MAX_EMBEDDED_BYTES", 0)
    X = da.random.default_rng(0).normal(size=(2000, 400), chunks=(250, 400))
    counts = {}

    def sent_by_worker(dask_worker):
        return dask_worker.transfer_outgoing_bytes_total

    def rule(k):
        if 3 <= k <= 8:
            network = psutil.net_io_counters().bytes_sent
            sent = sum(client.run(sent_by_worker).values())
            counts[k] = np.array([network, sent, client.run_on_scheduler(n_tasks)])
        return 1.0

    clf = small(hidden_layer_sizes=(300,), max_iter=9, learning_rate_schedule=rule)
    clf.set_params(learning_rate=0.01)
    clf.fit(X, X[:, 0] * X[:, 1] > 0)
    steps = np.diff([counts[k] for k in sorted(counts)], axis=0)
    network, sent, tasks = steps[:, 0].min(), steps[:, 1].mean(), steps[:, 2].sum()
    size = parameters(clf).nbytes
    n_workers = 2
    assert sent == pytest.approx(size * (2 if embedded else 3), rel=0.1)
    assert 0.5 <= sent / (2 * n_workers * size) <= 2
    assert 0.5 <= network / (2 * n_workers * size) <= 2
    assert tasks == 0
    settled(client)
