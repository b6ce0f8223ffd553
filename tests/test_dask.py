"""DaskBGDClassifier is BGDClassifier, however its rows are spread, whatever fails.

The workers are processes of a LocalCluster. What a fit computes is held against
BGDClassifier on one machine, whose own tests hold it against the equations.
"""

import gc
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from math import ceil

import joblib
import numpy as np
import pytest
from helpers import parameters, same
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV

from skbgd import BGDClassifier

pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

import dask.array as da  # noqa: E402
from dask import delayed  # noqa: E402

from skbgd.dask import DaskBGDClassifier, _rows  # noqa: E402

N = 600


@pytest.fixture(scope="module")
def client(request):
    """Two workers, or as many as a test asks for, of one thread each."""
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


def settled(client, n_workers=2):
    """Wait until workers that died are replaced and no task is left."""
    client.wait_for_workers(n_workers, timeout=30)
    deadline = time.monotonic() + 10
    gc.collect()  # exceptions that were caught hold on to what they saw
    while client.run_on_scheduler(n_tasks) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.run_on_scheduler(n_tasks) == 0


def n_tasks(dask_scheduler):
    return len(dask_scheduler.tasks)


def rows(n_classes=2, labels=None, n=N):
    X, y = make_classification(
        n, 7, n_informative=5, n_redundant=0, n_classes=n_classes, random_state=0
    )
    return X, y if labels is None else np.array([*labels])[y]


def multilabel_rows():
    return make_multilabel_classification(N, 7, n_classes=3, random_state=0)


def weights(n=N):
    return np.random.default_rng(0).integers(0, 4, size=n).astype(float)


def spread(array, chunks=200):
    """A dask array in blocks of rows."""
    return da.from_array(array, chunks=(chunks, *array.shape[1:]))


def close(a, b, atol=1e-10):
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
    usual = {"hidden_layer_sizes": (5,), "batch_size": "full", "max_iter": 10,
        "learning_rate_schedule": "constant",
    }  # fmt: skip
    return kind(**{**usual, "tol": None, "random_state": 0, **params})


LONG = ["binary, weights", "softmax", "multilabel"]
CASES = {
    "binary": ({}, rows(), None, 200),
    "binary, weights": ({}, rows(), weights(), (1, 300, 299)),
    "neuron": ({"hidden_layer_sizes": ()}, rows(labels="ab"), weights(), N),
    "sigmoids": ({"class_weight": {2: 5.0}}, rows(3), None, 45),
    "softmax": (
        {"output_activation": "softmax", "class_weight": "balanced"},
        rows(3),
        weights(),
        (500, 100),
    ),
    "multilabel": ({}, multilabel_rows(), weights(), 170),
    "adam": ({"solver": "adam", "max_gradient_norm": 0.1}, rows(3), None, 100),
    "lbfgs": ({"solver": "lbfgs", "max_iter": 30}, rows(3), weights(), 100),
    "nesterov": ({"momentum": 0.9, "nesterov": True}, rows(), None, 250),
}


@pytest.mark.parametrize(
    "client, case",
    [
        *((2, case) for case in CASES),
        *((n, case) for n in (1, 3) for case in LONG),
    ],
    indirect=["client"],
    scope="module",  # or each case would have its own cluster
)
def test_whole_batch_is_that_of_one_machine(client, case):
    """50 epochs agree to 1e-10, whatever the workers, blocks, weights and targets."""
    params, (X, y), sample_weight, chunks = CASES[case]
    params = {"max_iter": 50 if case in LONG else 15, **params}
    local = small(BGDClassifier, **params).fit(X, y, sample_weight)
    blocks = [da.from_array(X, chunks=(chunks, 7)), spread(y)]
    if sample_weight is not None:
        blocks.append(spread(sample_weight, 130))
    remote = small(**params).fit(*blocks)
    close(local, remote)
    if case != "lbfgs":  # which has no step size
        assert remote.learning_rate_ == pytest.approx(local.learning_rate_, rel=1e-12)


def test_float32_stays(client):
    X, y = rows()
    remote = small().fit(spread(X.astype("f4")), spread(y))
    assert parameters(remote).dtype == np.float32
    assert remote.predict_proba(spread(X.astype("f4"))).dtype == np.float32
    local = small(BGDClassifier).fit(X.astype("f4"), y)
    close(local, remote, atol=1e-5)


def test_same_bits_each_time(client, monkeypatch):
    """Nor does it matter how the parameters travel."""
    X, y = (spread(array, 50) for array in rows())
    for batch_size in ("full", 200):
        clf = small(batch_size=batch_size, max_iter=4)
        first = clone(clf).fit(X, y)
        same(first, clone(clf).fit(X, y))
        with monkeypatch.context() as patch:
            patch.setattr(_rows, "EMBEDDED_BYTES", 0)
            same(first, clone(clf).fit(X, y))


@pytest.mark.parametrize("shuffle", [True, False])
def test_mini_batches_of_one_block(client, shuffle):
    """One block draws the batches that one machine draws, in the same order."""
    X, y = rows(3)
    clf = small(BGDClassifier, batch_size=60, shuffle=shuffle, momentum=0.5)
    remote = small(batch_size=60, shuffle=shuffle, momentum=0.5)
    close(clf.fit(X, y, weights()), remote.fit(*map(spread_whole, (X, y, weights()))))


def spread_whole(array):
    return spread(array, N)


@pytest.mark.parametrize("lengths", [[100] * 6, [1, 7, 300, 12], [3] * 50, [600]])
@pytest.mark.parametrize("n_rounds", [2, 7, 100])
def test_each_row_has_its_turn(lengths, n_rounds):
    """An epoch takes each row once, and about as many of each block in each round."""
    placed = object.__new__(_rows.DaskRows)
    placed.lengths = lengths
    blocks = list(range(len(lengths)))
    placed.shards = [
        _rows.Shard("a", blocks[::2]),
        _rows.Shard("b", blocks[1::2]),
    ]
    taken = np.zeros((len(lengths), n_rounds))
    end = np.zeros(len(lengths), dtype=int)
    for k in range(n_rounds):
        for shard, cuts in zip(placed.shards, placed.shares(k, n_rounds), strict=True):
            for block, (first, last) in zip(shard.blocks, cuts, strict=True):
                assert first == end[block]
                end[block] = last
                taken[block, k] = last - first
    assert end.tolist() == lengths
    expected = np.array(lengths)[:, None] / n_rounds
    assert (abs(taken - expected) <= 1.5).all()
    # ... and the batches are about equal: blocks do not all round up at once.
    assert np.ptp(taken.sum(axis=0)) <= max(3, 0.5 * len(lengths))


def test_mini_batches_of_sorted_rows(client):
    """Blocks of one class each are no harm: each step takes of all of them."""
    X, y = rows(3)
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    params = {"batch_size": 100, "max_iter": 12}
    shuffled = small(BGDClassifier, **params).fit(X, y)
    remote = small(**params).fit(spread(X, 100), spread(y, 100))
    assert remote.loss_ == pytest.approx(shuffled.loss_, rel=0.05)
    assert remote.t_ == shuffled.t_
    assert remote.updates_curve_ == shuffled.updates_curve_


def test_auto_batches_limit_the_rounds(client):
    X = da.random.default_rng(0).normal(size=(40_000, 2), chunks=20_000)
    clf = small(batch_size="auto", learning_rate=0.1, max_iter=1).fit(X, X[:, 0] > 0)
    assert clf.updates_curve_ == [100]
    clf = small(batch_size="auto", learning_rate=0.1, max_iter=1).fit(
        X[:1000], X[:1000, 0] > 0
    )
    assert clf.updates_curve_ == [4]  # of 256 rows


@pytest.mark.parametrize("early_stopping", [True, False])
def test_validation_rows(client, early_stopping):
    """Judged by the same loss as on one machine, with weights of rows and classes."""
    X, y = rows(3)
    sample_weight = weights()
    train, validation = slice(None, 400), slice(400, None)
    params = {
        "early_stopping": early_stopping,
        "tol": 3e-2,
        "n_iter_no_change": 3,
        "max_iter": 60,
        "class_weight": "balanced",
    }

    def fit(clf, convert):
        parts = [
            convert(array[rows])
            for rows in (train, validation)
            for array in (X, y, sample_weight)
        ]
        return clf.fit(
            *parts[:3], X_val=parts[3], y_val=parts[4], sample_weight_val=parts[5]
        )

    local = fit(small(BGDClassifier, **params), np.asarray)
    remote = fit(small(**params), lambda array: spread(array, 90))
    assert local.stop_reason_ == ("early_stopping" if early_stopping else "converged")
    close(local, remote)


def test_validation_arrays_have_a_scorer(client):
    X, y = rows()
    params = {"early_stopping": True, "scoring": "accuracy"}
    given = {"X_val": X[400:], "y_val": y[400:]}
    local = small(BGDClassifier, **params).fit(X[:400], y[:400], **given)
    remote = small(**params).fit(spread(X[:400]), spread(y[:400]), **given)
    close(local, remote)
    assert remote.validation_scores_ == local.validation_scores_


def test_warm_start_goes_on(client):
    X, y = (spread(array) for array in rows())
    for params in ({"momentum": 0.9}, {"batch_size": 200}):
        whole = small(max_iter=5, **params).fit(X, y)
        parts = small(max_iter=2, warm_start=True, **params).fit(X, y)
        same(whole, parts.set_params(max_iter=5).fit(X, y))


def test_automatic_parameters(client):
    """Batches are its own, the plan is made from them."""
    X, y = (spread(array) for array in rows())
    clf = DaskBGDClassifier((5,), random_state=0).fit(X, y)
    n = X.shape[0]
    assert clf.batch_size_ == min(256, n)
    assert clf.n_iter_ == clf.max_iter_ == 20 + ceil(200 / ceil(n / 256))
    assert clf.alpha_ == 2e-4
    assert clf.learning_rate_ < 0.01 * clf.learning_rate_init_
    assert clf.to_local().max_iter_ == clf.max_iter_


# Faults.


def killing(client, epoch, worker=None):
    """A schedule that kills a worker before an epoch, and the time when it did."""
    killed = []

    def rule(k):
        if k == epoch and not killed:
            pids = client.run(os.getpid)
            os.kill(pids[worker or min(pids)], signal.SIGKILL)
            killed.append(time.monotonic())
        return 1.0

    return rule, killed


@pytest.mark.parametrize("batch_size", ["full", 3000])
def test_killed_worker_costs_only_time(client, batch_size):
    """The rows it held are made again; not one bit of the result is different."""
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
    assert killed and time.monotonic() - killed[0] < 20
    same(undisturbed, disturbed)
    assert disturbed.validation_loss_curve_ == undisturbed.validation_loss_curve_
    settled(client)


def test_rows_that_cannot_come_back(client):
    """An error that says so; the parameters of the last finished epoch are kept."""
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
    assert killed and time.monotonic() - killed[0] < 20
    assert clf.stop_reason_ == "interrupted"
    assert clf.n_iter_ == len(clf.loss_curve_) == 3
    same(clf, small(max_iter=3, batch_size=batch_size).fit(spread(X, 300), spread(y)))
    del parts, blocks
    settled(client)


def test_rows_lost_before_an_epoch(client):
    """Then the estimator is as it was before the call."""

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


def test_interrupted(client):
    """Ctrl-C keeps what was reached, and leaves nothing running or in memory."""
    X, y = (spread(array) for array in rows())

    def rule(k):
        if k == 3:
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        return 1.0

    clf = small(max_iter=100_000, learning_rate_schedule=rule)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert clf.stop_reason_ == "interrupted"
    assert 3 <= clf.n_iter_ < 1000
    assert len(clf.loss_curve_) == clf.n_iter_
    settled(client)


# What travels.


@pytest.mark.parametrize("embedded", [True, False])
def test_parameters_travel_and_rows_do_not(client, monkeypatch, embedded):
    """A step sends about 2 x workers x parameters; Dask's own memory does not grow.

    Dask counts what workers send: the sums, and the parameters where they pass them
    on. That is checked to a tenth. What goes out of the scheduler is not among it; the
    counter that Dask's monitor of the network reads, which has everything, is.
    """
    psutil = pytest.importorskip("psutil")
    if not embedded:
        monkeypatch.setattr(_rows, "EMBEDDED_BYTES", 0)
    X = da.random.default_rng(0).normal(size=(2000, 400), chunks=(250, 400))
    counts = {}

    def sent_by_worker(dask_worker):
        return dask_worker.transfer_outgoing_bytes_total

    def rule(k):
        if k in (3, 8):
            network = psutil.net_io_counters().bytes_sent
            sent = sum(client.run(sent_by_worker).values())
            counts[k] = np.array([network, sent, client.run_on_scheduler(n_tasks)])
        return 1.0

    clf = small(hidden_layer_sizes=(300,), max_iter=9, learning_rate_schedule=rule)
    clf.set_params(learning_rate=0.01)
    clf.fit(X, X[:, 0] * X[:, 1] > 0)
    network, sent, tasks = counts[8] - counts[3]
    size = 5 * parameters(clf).nbytes  # in five steps
    n_workers = 2
    assert sent == pytest.approx(size * (2 if embedded else 3), rel=0.1)
    assert 0.5 <= sent / (2 * n_workers * size) <= 2
    assert 0.5 <= network / (2 * n_workers * size) <= 2
    assert tasks == 0
    settled(client)


def test_persisted_blocks_are_used_where_they_are(client):
    """Neither moved nor copied; other memory layouts are put right."""
    X, y = rows()
    local = small(BGDClassifier).fit(X, y)
    persisted = client.persist(spread(X))
    distributed.wait(persisted)
    before = client.who_has(persisted)
    with _rows.DaskRows(client) as placed:
        placed.load(persisted, spread(y), None, np.dtype("f8"))
        assert [client.who_has(placed.X)[f.key] for f in placed.X] == [
            before[f.key] for f in placed.X
        ]
    close(local, small().fit(persisted, spread(y)))
    turned = client.persist(spread(X).map_blocks(np.asfortranarray))
    close(local, small().fit(turned, spread(y)))
    single = client.persist(spread(np.round(X).astype("i2")))
    close(small(BGDClassifier).fit(np.round(X), y), small().fit(single, spread(y)))


# Forms of input.


def test_frames(client):
    """Names of columns, labels of text, and partitions of unknown or no length."""
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    X, y = rows(3, labels=["red", "green", "blue"])
    frame = pd.DataFrame(X, columns=[*"abcdefg"]).assign(label=y, weight=weights())
    spread_frame = dd.from_pandas(frame, npartitions=3)
    spread_frame = spread_frame[spread_frame.g.abs() < 1.5]  # lengths are not known
    spread_frame = dd.concat([spread_frame[spread_frame.a > 99], spread_frame])
    frame = frame[frame.g.abs() < 1.5]
    local = small(BGDClassifier).fit(frame[[*"abcdefg"]], frame.label, frame.weight)
    remote = small().fit(
        spread_frame[[*"abcdefg"]], spread_frame.label, spread_frame.weight
    )
    close(local, remote)
    assert remote.feature_names_in_.tolist() == [*"abcdefg"]
    P = remote.predict_proba(spread_frame[[*"abcdefg"]])
    np.testing.assert_allclose(P, local.predict_proba(frame[[*"abcdefg"]]), atol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        remote.predict(spread_frame[[*"gfedcba"]])
    accuracy = remote.score(spread_frame[[*"abcdefg"]], spread_frame.label)
    assert accuracy == pytest.approx(local.score(frame[[*"abcdefg"]], frame.label))


def test_blocks_that_do_not_match(client):
    """Columns in blocks, blocks without rows, unknown lengths, a column of labels."""
    X, y = rows()
    local = small(BGDClassifier).fit(X, y)
    X_blocks = da.from_array(X, chunks=((0, 250, 0, 350), 3))
    close(local, small().fit(X_blocks, y))
    unknown = spread(X, 90)[spread(np.ones(N, dtype=bool), 90)]
    assert np.isnan(unknown.shape[0])
    close(local, small().fit(unknown, spread(y)))
    with pytest.warns(DataConversionWarning):
        close(local, small().fit(X_blocks, spread(y[:, np.newaxis])))


def with_value(array, value):
    array = array.astype(float)
    array[-1] = value
    return array


X, Y = rows()
BAD = {
    "array": (TypeError, "must be a dask array.*BGDClassifier", X, Y, {}),
    "vector": (ValueError, "two dimensions", spread(X[:, 0]), spread(Y), {}),
    "lengths": (ValueError, "as many rows; got 600 and 599", spread(X), Y[1:], {}),
    "weights": (
        ValueError,
        "X and sample_weight must have as many rows",
        spread(X),
        Y,
        {"sample_weight": spread(weights(5))},
    ),
    "negative": (
        ValueError,
        "sample_weight must not be negative; got -1",
        spread(X),
        Y,
        {"sample_weight": spread(with_value(weights(), -1))},
    ),
    "zero": (
        ValueError,
        "All weights are zero",
        spread(X),
        Y,
        {"sample_weight": spread(np.zeros(N))},
    ),
    "no rows": (ValueError, "at least one row", spread(X)[:0], spread(Y)[:0], {}),
    "nan": (ValueError, "Input X contains NaN", spread(with_value(X, np.nan)), Y, {}),
    "nan in y": (ValueError, "NaN", spread(X), spread(with_value(Y, np.nan)), {}),
    "one class": (ValueError, "at least two classes", spread(X), 0 * Y, {}),
    "numbers": (ValueError, "continuous", spread(X), spread(X[:, 0]), {}),
    "columns": (ValueError, "0/1 indicators", spread(X), spread(X[:, :2]), {}),
    "y_val alone": (ValueError, "X_val", spread(X), Y, {"y_val": spread(Y)}),
    "X_val alone": (ValueError, "y_val is missing", spread(X), Y, {"X_val": spread(X)}),
    "unseen class": (
        ValueError,
        "In X_val, y_val: y holds the label 7",
        spread(X),
        Y,
        {"X_val": spread(X), "y_val": spread(with_value(Y, 7).astype(int))},
    ),
    "X_val columns": (
        ValueError,
        "In X_val, y_val: X has 3 features",
        spread(X),
        Y,
        {"X_val": spread(X[:, :3]), "y_val": spread(Y)},
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(client, case):
    """A clear error, and the estimator as it was."""
    kind, message, X, y, given = BAD[case]
    clf = small()
    before = dict(vars(clf))
    with pytest.raises(kind, match=message):
        clf.fit(X, y, **given)
    assert vars(clf) == before


def test_bad_parameters(client):
    X, y = (spread(array) for array in rows())
    with pytest.raises(ValueError, match="momentum"):
        small(momentum=1).fit(X, y)
    with pytest.raises(ValueError, match="sets none aside"):
        small(early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="scoring must be None"):
        small(scoring="accuracy").fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="diverged"):
        small(learning_rate=1e300, alpha=1.0).fit(X, y)
    with pytest.raises(TypeError, match="warm_start=True"):
        small().partial_fit(X, y, classes=[0, 1])


# What comes out.

METHODS = ["decision_function", "predict", "predict_proba", "predict_log_proba"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ["binary", "sigmoids", "multilabel", "neuron"])
def test_lazy_predictions(client, case, method):
    """Those of the arrays, with known dtype and chunks, before anything is computed."""
    params, (X, y), _, _ = CASES[case]
    clf = small(max_iter=2, **params)
    clf.__dict__ = small(BGDClassifier, max_iter=2, **params).fit(X, y).__dict__
    expected = getattr(clf, method)(X)
    lazy = getattr(clf, method)(spread(X, (0, 1, 599)))
    assert isinstance(lazy, da.Array)
    assert lazy.chunks == ((0, 1, 599), *((k,) for k in expected.shape[1:]))
    assert lazy.dtype == expected.dtype
    assert lazy._meta.shape == (0,) * expected.ndim or len(lazy._meta) == 0
    computed = lazy.compute()
    assert computed.dtype == expected.dtype
    if method == "predict":
        np.testing.assert_array_equal(computed, expected)
    else:
        np.testing.assert_allclose(computed, expected, rtol=1e-12)


@pytest.mark.parametrize("case", ["sigmoids", "multilabel"])
def test_score(client, case):
    _, (X, y), _, _ = CASES[case]
    clf = small().fit(spread(X), spread(y))
    assert clf.score(spread(X), spread(y)) == pytest.approx(clf.score(X, y))
    weighted = clf.score(spread(X), spread(y), spread(weights()))
    assert weighted == pytest.approx(clf.score(X, y, weights()))


def test_leaves_the_cluster_behind(client, tmp_path):
    """A pickle needs no client, and `to_local` no Dask."""
    X, y = rows()
    clf = small().fit(spread(X), spread(y))
    settled(client)
    assert b"distributed" not in pickle.dumps(clf)
    local = clf.to_local()
    assert type(local) is BGDClassifier
    assert local.get_params() == clf.get_params()
    same(local, clf)
    local.partial_fit(X, y)
    assert (local.n_iter_, clf.n_iter_) == (11, 10)
    assert len(clf.loss_curve_) == 10
    clf.partial_fit(X, y)
    same(local, clf)

    (tmp_path / "clf").write_bytes(pickle.dumps((clf, X, clf.predict_proba(X))))
    (tmp_path / "local").write_bytes(pickle.dumps(local))
    code = """
import pickle, sys
import numpy as np
import skbgd
with open("local", "rb") as file:
    pickle.load(file)
assert not {"dask", "distributed"} & set(sys.modules)
with open("clf", "rb") as file:
    clf, X, P = pickle.load(file)
np.testing.assert_array_equal(clf.predict_proba(X), P)
import dask.array as da
try:
    clf.fit(da.from_array(X), X[:, 0] > 0)
except RuntimeError as error:
    assert "    client = Client()" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)


def test_verbose(client, capsys):
    X, y = (spread(array) for array in rows())
    small(verbose=2, max_iter=3).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines] == ["epoch"] * 3 + ["stopp"]


def test_grid_search_on_workers(client):
    """The plain estimator, one fit per task."""
    X, y = rows()
    grid = {"learning_rate": [0.1, 1.0], "batch_size": [30, "full"]}
    search = GridSearchCV(small(BGDClassifier, max_iter=5), grid, cv=2)
    here = clone(search).fit(X, y)
    with joblib.parallel_config("dask"):
        there = clone(search).fit(X, y)
    np.testing.assert_allclose(
        there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )
    assert there.best_params_ == here.best_params_


def test_docstring_has_the_parameters():
    for name in BGDClassifier().get_params():
        assert f"{name} : " in DaskBGDClassifier.__doc__ or f"{name}, " in (
            DaskBGDClassifier.__doc__
        )
    assert "loss_curve_ : " in DaskBGDClassifier.__doc__


@pytest.mark.parametrize("batch_size", ["full", 100])
def test_blocks_of_csr(client, batch_size):
    """Sparse blocks give what the same dense blocks give, and are never dense."""
    X, y = rows(3)
    X[np.abs(X) < 1] = 0
    params = {"batch_size": batch_size, "learning_rate": 0.5}
    dense = small(**params).fit(spread(X), spread(y), spread(weights()))
    X = spread(X).map_blocks(sparse.csr_array)
    clf = small(**params).fit(X, spread(y), spread(weights()))
    close(clf, dense)
    P = clf.predict_proba(X)
    assert P.shape == (N, 3)
    np.testing.assert_allclose(
        P.compute(), clf.to_local().predict_proba(rows_of(X)), rtol=1e-12
    )
    if batch_size == "full":
        local = small(BGDClassifier, **params).fit(rows_of(X), y, weights())
        close(clf, local)


def rows_of(X):
    """The blocks of a dask array of CSR, below each other."""
    return sparse.vstack([block.compute() for block in X.to_delayed().ravel()])
