"""DaskBGDClassifier gives the results of BGDClassifier, for any blocks and workers.

The workers are processes of a LocalCluster. test_dask_faults.py tests faults.
"""

import pickle
import re
import subprocess
import sys
from math import ceil

import joblib
import numpy as np
import pytest
from dask_helpers import (
    N,
    close,
    multilabel_rows,
    rows,
    settled,
    small,
    spread,
    weights,
)
from helpers import parameters, same
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV

from skbgd import BGDClassifier

distributed = pytest.importorskip("distributed")

import dask.array as da  # noqa: E402
from dask import delayed  # noqa: E402

from skbgd.dask import DaskBGDClassifier, _rows  # noqa: E402
from skbgd.dask._trainer import DaskTrainer  # noqa: E402

LONG = ["binary, weights", "softmax", "multilabel"]
CASES = {
    "binary": ({}, rows(), None, 200),
    "binary, weights": ({}, rows(), weights(), (1, 300, 299)),
    "single layer": (
        {"hidden_layer_sizes": ()},
        rows(labels="ab"),
        weights(),
        N,
    ),
    "sigmoids": (
        {"output_activation": "logistic", "class_weight": {2: 5.0}},
        rows(3),
        None,
        45,
    ),
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
    scope="module",  # one cluster for all cases
)
def test_full_batches(client, case):
    """50 epochs are those of one machine to 1e-10, for any workers and blocks."""
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


def test_object_labels_and_a_scalar_weight(client):
    """They give the bits of numeric labels and of no weights."""
    X, y = rows(3)
    expected = small().fit(spread(X), spread(y))
    for labels in (y.astype(object), np.array([*y[:300], *y[300:] * 1.0], object)):
        clf = small().fit(spread(X), spread(labels), sample_weight=2.0)
        same(clf, expected)
        assert clf.classes_.dtype.kind in "if"


def test_float32(client):
    """Rows of float32 are computed in float32."""
    X, y = rows()
    remote = small().fit(spread(X.astype("f4")), spread(y))
    assert parameters(remote).dtype == np.float32
    assert remote.predict_proba(spread(X.astype("f4"))).dtype == np.float32
    local = small(BGDClassifier).fit(X.astype("f4"), y)
    close(local, remote, atol=1e-5)


def test_repeated_fit_gives_the_same_bits(client, monkeypatch):
    """Also if the parameters are sent in another way."""
    X, y = (spread(array, 50) for array in rows())
    for batch_size in ("full", 200):
        clf = small(batch_size=batch_size, max_iter=4)
        first = clone(clf).fit(X, y)
        same(first, clone(clf).fit(X, y))
        with monkeypatch.context() as patch:
            patch.setattr(_rows, "MAX_EMBEDDED_BYTES", 0)
            same(first, clone(clf).fit(X, y))


@pytest.mark.parametrize("shuffle", [True, False])
def test_mini_batches_of_one_block(client, shuffle):
    """With one block, batches and their order are those of one machine."""
    X, y = rows(3)
    clf = small(BGDClassifier, batch_size=60, shuffle=shuffle, momentum=0.5)
    remote = small(batch_size=60, shuffle=shuffle, momentum=0.5)
    close(clf.fit(X, y, weights()), remote.fit(*map(spread_whole, (X, y, weights()))))


def spread_whole(array):
    return spread(array, N)


@pytest.mark.parametrize("lengths", [[100] * 6, [1, 7, 300, 12], [3] * 50, [600]])
@pytest.mark.parametrize("n_batches", [2, 7, 100])
def test_an_epoch_uses_each_row_once(lengths, n_batches):
    """Each batch takes about the same part of every block."""
    rows = object.__new__(_rows.DaskRows)
    rows.lengths = lengths
    trainer = object.__new__(DaskTrainer)
    trainer.rows = rows
    blocks = list(range(len(lengths)))
    rows.shards = [_rows.Shard("a", blocks[::2]), _rows.Shard("b", blocks[1::2])]
    taken = np.zeros((len(lengths), n_batches))
    end = np.zeros(len(lengths), dtype=int)
    for k in range(n_batches):
        all_bounds = trainer.batch_bounds(k, n_batches)
        for shard, bounds in zip(rows.shards, all_bounds, strict=True):
            for block, (first, last) in zip(shard.blocks, bounds, strict=True):
                assert first == end[block]
                end[block] = last
                taken[block, k] = last - first
    assert end.tolist() == lengths
    expected = np.array(lengths)[:, None] / n_batches
    assert (abs(taken - expected) <= 1.5).all()
    # Batches are about equal: blocks do not all round up for the same one.
    assert np.ptp(taken.sum(axis=0)) <= max(3, 0.5 * len(lengths))


def test_mini_batches_of_sorted_rows(client):
    """Blocks of one class each train as shuffled rows do."""
    X, y = rows(3)
    order = np.argsort(y, kind="stable")
    X, y = X[order], y[order]
    params = {"batch_size": 100, "max_iter": 12, "learning_rate": 1.0}
    shuffled = small(BGDClassifier, **params).fit(X, y)
    remote = small(**params).fit(spread(X, 100), spread(y, 100))
    assert remote.loss_ == pytest.approx(shuffled.loss_, rel=0.01)
    assert remote.t_ == shuffled.t_
    assert remote.updates_curve_ == shuffled.updates_curve_


@pytest.mark.parametrize(
    "n, batch_size, n_batches",
    [
        (100, 100, 1),
        (1000, 256, 4),
        (6400, 256, 25),
        (20_000, 800, 25),
        (32_000, 1280, 25),
        (64_000, 1280, 50),
        (128_000, 1280, 100),
        (10**7, 10**5, 100),
    ],
)
def test_auto_batch_size(n, batch_size, n_batches):
    """25 batches of 256 to 1280 rows per epoch; above 32 000 rows, up to 100."""
    assert DaskBGDClassifier._resolve_batch_size("auto", n) == batch_size
    assert ceil(n / batch_size) == n_batches


def test_auto_batch_size_is_as_good_as_that_of_one_machine():
    """Its larger batches give no higher validation loss on 100 noisy features."""
    n = 12_000
    X, y = make_classification(
        2 * n, 100, n_informative=10, n_clusters_per_class=4, flip_y=0.1, random_state=0
    )
    validation = {"X_val": X[n:], "y_val": y[n:]}
    local = BGDClassifier(random_state=0).fit(X[:n], y[:n], **validation)
    batch_size = DaskBGDClassifier._resolve_batch_size("auto", n)
    large = clone(local).set_params(batch_size=batch_size)
    large.fit(X[:n], y[:n], **validation)
    assert (local.batch_size_, large.batch_size_) == (32, 480)
    loss, expected = (clf.validation_loss_curve_[-1] for clf in (large, local))
    assert loss < 1.01 * expected


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_standardize(client, weighted, solver):
    """Raw features have the mean and scale of one machine, and give its results.

    One has two values in each block and more in all; one block has no weight.
    """
    X, y = rows(3)
    X[:, 1] = np.round(1990 + 10 * X[:, 1])
    X[:, 2] = 1e6 + np.arange(N) % 2 + (np.arange(N) >= 300)
    X[:, 3] = np.where(X[:, 3] > 0, 3.0, -5.0)
    X[:, 4] = 7
    given = [X, y]
    if weighted:
        given.append(weights())
        given[2][:90] = 0
        X[:90, 4] = 9
    params = {"solver": solver, "class_weight": {0: 2.0}, "alpha": 0.01}
    params["learning_rate"] = 0.01 if solver == "adam" else 0.1
    local = small(BGDClassifier, **params).fit(*given, X_val=X, y_val=y)
    blocks = [spread(X, 90), *(spread(array, 200) for array in given[1:])]
    remote = small(**params).fit(*blocks, X_val=spread(X, 50), y_val=spread(y))
    close(local, remote, atol=1e-9)
    np.testing.assert_allclose(remote.mean_, local.mean_, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(remote.scale_, local.scale_, rtol=1e-12)
    assert remote.mean_[3:5].tolist() == [-5.0, 7.0]
    assert remote.scale_[3:5].tolist() == [8.0, 1.0]
    P = local.predict_proba(X)
    np.testing.assert_allclose(remote.predict_proba(spread(X, 70)), P, atol=1e-9)


def test_score_of_a_column_of_labels(client):
    X, y = rows()
    clf = small(max_iter=2).fit(spread(X), spread(y))
    score = clf.score(spread(X), spread(y[:, np.newaxis]))
    assert score == clf.score(spread(X), spread(y))


def test_standardize_after_a_stream(client):
    """The fit adds its rows, but not those of weight 0, to the few of the stream."""
    X, y = rows()
    w = np.where(np.arange(N) < 40, weights() + 1, 0.0)
    params = {"learning_rate": 0.1, "alpha": 0.01, "warm_start": True}
    local, remote = (
        small(kind, **params).partial_fit(100 * X[:6], y[:6], classes=np.unique(y))
        for kind in (BGDClassifier, DaskBGDClassifier)
    )
    local.fit(X, y, w)
    remote.fit(*(spread(array) for array in (X, y, w)))
    np.testing.assert_allclose(remote.mean_, local.mean_, rtol=1e-12)
    np.testing.assert_allclose(remote.scale_, local.scale_, rtol=1e-12)


def test_sparse_block_among_dense_ones(client):
    """Then no row is standardized."""
    X, y = rows()
    blocks = spread(X[:200]), spread(X[200:], 400).map_blocks(sparse.csr_array)
    clf = small().fit(da.concatenate(blocks), spread(y))
    assert clf.mean_ is None
    close(clf, small(BGDClassifier, standardize=False).fit(X, y))


@pytest.mark.parametrize("early_stopping", [True, False])
def test_validation_rows(client, early_stopping):
    """Their loss, with weights of rows and classes, is that of one machine."""
    X, y = rows(3)
    sample_weight = weights()
    train, validation = slice(None, 400), slice(400, None)
    params = {
        "early_stopping": early_stopping,
        "tol": 3e-2,
        "n_iter_no_change": 3,
        "max_iter": 60,
        "class_weight": "balanced",
        "learning_rate": 1.0,
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


def test_scoring_of_validation_arrays(client):
    """Validation rows that are NumPy arrays are scored as on one machine."""
    X, y = rows()
    params = {"early_stopping": True, "scoring": "accuracy"}
    given = {"X_val": X[400:], "y_val": y[400:]}
    local = small(BGDClassifier, **params).fit(X[:400], y[:400], **given)
    remote = small(**params).fit(spread(X[:400]), spread(y[:400]), **given)
    close(local, remote)
    assert remote.validation_scores_ == local.validation_scores_


def test_warm_start(client):
    """A fit in two parts gives the bits of one fit."""
    X, y = (spread(array) for array in rows())
    for params in ({"momentum": 0.9}, {"batch_size": 200}):
        whole = small(max_iter=5, **params).fit(X, y)
        parts = small(max_iter=2, warm_start=True, **params).fit(X, y)
        same(whole, parts.set_params(max_iter=5).fit(X, y))


def test_automatic_parameters(client):
    """The other parameters are resolved from the batch size of Dask."""
    X, y = (spread(array) for array in rows())
    clf = DaskBGDClassifier((5,), random_state=0).fit(X, y)
    n = X.shape[0]
    assert clf.batch_size_ == min(256, n)
    assert clf.n_iter_ == clf.max_iter_ == ceil(250 / ceil(n / 256)) > 40
    assert clf.alpha_ == 0.5 / n
    assert clf.learning_rate_ < 0.01 * clf.learning_rate_init_
    assert clf.to_local().max_iter_ == clf.max_iter_


def test_batches_without_rows(client):
    """Small batches of blocks of unequal lengths may be empty; each row is used."""
    X, y = (array[:60] for array in rows())
    chunks = 1, 19, 40
    clf = small(hidden_layer_sizes=(), batch_size=1, max_iter=2)
    clf.fit(da.from_array(X, (chunks, -1)), da.from_array(y, chunks))
    assert clf.t_ == 2 * 60


# Input


def test_persisted_blocks(client):
    """They are neither moved nor copied, unless their memory layout is another."""
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
    fortran = client.persist(spread(X).map_blocks(np.asfortranarray))
    close(local, small().fit(fortran, spread(y)))
    short = client.persist(spread(np.round(X).astype("i2")))
    close(small(BGDClassifier).fit(np.round(X), y), small().fit(short, spread(y)))


def test_frames(client):
    """Column names, text labels, and partitions of unknown length or without rows."""
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    X, y = rows(3, labels=["red", "green", "blue"])
    frame = pd.DataFrame(X, columns=[*"abcdefg"]).assign(label=y, weight=weights())
    spread_frame = dd.from_pandas(frame, npartitions=3)
    spread_frame = spread_frame[spread_frame.g.abs() < 1.5]  # unknown lengths
    spread_frame = dd.concat([spread_frame[spread_frame.a > 99], spread_frame])
    frame = frame[frame.g.abs() < 1.5]
    columns = [*"abcdefg"]
    params = {"learning_rate": 0.5}
    local = small(BGDClassifier, **params).fit(
        frame[columns], frame.label, frame.weight
    )
    remote = small(**params).fit(
        spread_frame[columns], spread_frame.label, spread_frame.weight
    )
    close(local, remote)
    assert remote.feature_names_in_.tolist() == columns
    P = remote.predict_proba(spread_frame[columns])
    np.testing.assert_allclose(P, local.predict_proba(frame[columns]), atol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        remote.predict(spread_frame[columns[::-1]])
    accuracy = remote.score(spread_frame[columns], spread_frame.label)
    assert accuracy == pytest.approx(local.score(frame[columns], frame.label))


def test_blocks_of_any_shape(client):
    """Blocks of columns, without rows, of unknown length; labels in a column."""
    X, y = rows()
    local = small(BGDClassifier).fit(X, y)
    X_blocks = da.from_array(X, chunks=((0, 250, 0, 350), 3))
    close(local, small().fit(X_blocks, y))
    unknown = spread(X, 90)[spread(np.ones(N, dtype=bool), 90)]
    assert np.isnan(unknown.shape[0])
    close(local, small().fit(unknown, spread(y)))
    with pytest.warns(DataConversionWarning):
        remote = small().fit(X_blocks, spread(y[:, np.newaxis]))
    close(local, remote)
    P = remote.predict_proba(X_blocks).compute()
    np.testing.assert_allclose(P, local.predict_proba(X), atol=1e-9)


def test_few_rows_in_a_block(client):
    """An epoch of mini-batches sees each row once, also those that few batches use."""
    X, y = rows(3)
    unchanged = {"learning_rate": 1e-300, "alpha": 0.0, "max_iter": 2}
    local = small(BGDClassifier, **unchanged).fit(X, y)
    for lengths in [(1, N - 1), (N - 2, 2), (2, N - 4, 2)]:
        blocks = (da.from_array(a, chunks=(lengths, *a.shape[1:])) for a in (X, y))
        remote = small(batch_size=40, **unchanged).fit(*blocks)
        np.testing.assert_allclose(remote.loss_curve_, local.loss_curve_, rtol=1e-12)
        assert remote.updates_curve_ == [15, 30]


def test_multilabel_validation(client):
    """The validation loss is that of one machine; other labels are an error."""
    X, y = multilabel_rows()
    X_val, y_val = X[:200], y[:200]
    local = small(BGDClassifier).fit(X, y, X_val=X_val, y_val=y_val)
    clf, given = small(), (spread(X), spread(y))
    close(local, clf.fit(*given, X_val=spread(X_val), y_val=spread(y_val)))
    with pytest.raises(ValueError, match="In X_val, y_val: .* indicators of 3 labels"):
        clf.fit(*given, X_val=spread(X_val), y_val=spread(y_val[:, :2]))


def with_value(array, value):
    array = array.astype(float)
    array[-1] = value
    return array


X, Y = rows()
BAD = {
    "array": (TypeError, "must be a dask array.*BGDClassifier", X, Y, {}),
    "delayed y": (TypeError, "y must be a dask array", spread(X), delayed(Y), {}),
    "a block of another length": (
        ValueError,
        "A block of X has 599 rows, the same block of y 600",
        da.from_delayed(delayed(X[1:]), (N, 7), float),
        spread(Y, N),
        {},
    ),
    "vector": (ValueError, "two dimensions", spread(X[:, 0]), spread(Y), {}),
    "lengths": (ValueError, "number of rows; got 600 and 599", spread(X), Y[1:], {}),
    "weights": (
        ValueError,
        "X and sample_weight must have the same number of rows",
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
    "negative number": (
        ValueError,
        "sample_weight must not be negative; got -2",
        spread(X),
        Y,
        {"sample_weight": -2.0},
    ),
    "zero number": (
        ValueError,
        "All weights are zero",
        spread(X),
        Y,
        {"sample_weight": 0},
    ),
    "text weight": (
        ValueError,
        "or one number for all; got 'a'",
        spread(X),
        Y,
        {"sample_weight": "a"},
    ),
    "text": (
        ValueError,
        "Column 0 of X holds 'a'",
        spread(np.where(X > 1, "a", "1").astype(object)),
        Y,
        {},
    ),
    "mixed y": (
        ValueError,
        "labels in y must be all numbers, all strings or all booleans",
        spread(X),
        spread(np.array([1] * 300 + ["a"] * (N - 300), dtype=object)),
        {},
    ),
    "None in y": (
        ValueError,
        "missing labels",
        spread(X),
        spread(np.array([None, "a"] * (N // 2), dtype=object)),
        {},
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
    """It raises an error and leaves the estimator as it was."""
    kind, message, X, y, given = BAD[case]
    clf = small()
    before = dict(vars(clf))
    with pytest.raises(kind, match=message):
        clf.fit(X, y, **given)
    assert vars(clf) == before


def test_class_weight_of_a_class_without_rows(client):
    """It is ignored if every class has a weight, otherwise an error."""
    X, y = rows(3)
    given = {0: 1.0, 1: 2.0, 2: 5.0}
    clf = small(class_weight=given | {3: 50.0}).fit(spread(X), spread(y))
    close(clf, small(BGDClassifier, class_weight=given).fit(X, y))
    with pytest.raises(ValueError, match=r"names the class 3, .* no weight for \[2\]"):
        small(class_weight={0: 1.0, 1: 2.0, 3: 5.0}).fit(spread(X), spread(y))


def test_bad_parameters(client):
    """Parameters that the rows, Dask or any fit do not allow raise an error."""
    X, y = (spread(array) for array in rows())
    with pytest.raises(ValueError, match="momentum"):
        small(momentum=1).fit(X, y)
    with pytest.raises(ValueError, match="sets none aside"):
        small(early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="scoring must be None"):
        small(scoring="accuracy").fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="diverged"):
        small(learning_rate=1e300, alpha=1.0).fit(X, y)
    with pytest.raises(ValueError, match="diverged"):
        small(learning_rate=1e300, activation="identity", batch_size=50).fit(X, y)
    with pytest.raises(TypeError, match="warm_start=True"):
        small().partial_fit(X, y, classes=[0, 1])


# Output

METHODS = ["decision_function", "predict", "predict_proba", "predict_log_proba"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ["binary", "sigmoids", "multilabel", "single layer"])
def test_lazy_predictions(client, case, method):
    """They are dask arrays of known dtype and chunks, equal to those of arrays."""
    params, (X, y), _, _ = CASES[case]
    params = {"max_iter": 2, "learning_rate": 0.5, **params}
    clf = small(**params)
    clf.__dict__ = small(BGDClassifier, **params).fit(X, y).__dict__
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
    """The score of dask arrays is that of arrays, with weights too."""
    _, (X, y), _, _ = CASES[case]
    clf = small().fit(spread(X), spread(y))
    assert clf.score(spread(X), spread(y)) == pytest.approx(clf.score(X, y))
    weighted = clf.score(spread(X), spread(y), spread(weights()))
    assert weighted == pytest.approx(clf.score(X, y, weights()))


@pytest.mark.parametrize("length", range(1, 17))
def test_labels_of_any_length(client, length):
    """A model sent between workers predicts and trains, whatever its alignment.

    The length of object labels decides at which address its weights arrive.
    """
    X, y = rows(labels=["a" * length, "b" * length])
    y = y.astype(object)
    clf = small(hidden_layer_sizes=(300,), learning_rate=0.1, max_iter=1)
    clf.fit(spread(X), spread(y))
    assert clf.score(spread(X), spread(y)) == clf.score(X, y)
    local = clf.to_local()
    here, there = sorted(client.scheduler_info()["workers"])
    model = client.scatter(local, workers=[here])
    P = client.submit(BGDClassifier.predict_proba, model, X, workers=[there])
    np.testing.assert_array_equal(P.result(), local.predict_proba(X))
    trained = client.submit(BGDClassifier.partial_fit, model, X, y, workers=[there])
    same(trained.result(), local.partial_fit(X, y))


def test_fitted_model_needs_no_cluster(client, tmp_path):
    """A pickle predicts without a client, and that of `to_local` without Dask."""
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
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_verbose(client, capsys):
    """2 prints a line per epoch and the reason to stop."""
    X, y = (spread(array) for array in rows())
    small(verbose=2, max_iter=3).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in lines] == ["epoch"] * 3 + ["stopp"]


def test_verbose_prints_the_time_of_a_pass(client, capsys):
    """It is measured in the first passes; the time of all passes is derived from it."""
    X, y = (spread(array) for array in rows())
    small(verbose=1, batch_size=100, max_iter=3).fit(X, y)
    (line,) = pass_lines(capsys)
    found = re.fullmatch(
        r"a pass over the workers takes (.+) s; 6 per epoch and at most 18 in total, "
        r"(.+) s",
        line,
    )
    assert float(found[2]) == pytest.approx(18 * float(found[1]), rel=0.06)  # rounded
    small(solver="lbfgs", verbose=1, max_iter=9).fit(X, y)
    (line,) = pass_lines(capsys)
    assert re.fullmatch(r"a pass over the workers takes \S+ s", line)
    small(batch_size=100, max_iter=3).fit(X, y)
    assert pass_lines(capsys) == []


def pass_lines(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("a pass")]


def test_grid_search_on_workers(client):
    """A search of BGDClassifier on Dask has the scores of a local one."""
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
    """It describes each parameter, and the attributes."""
    for name in BGDClassifier().get_params():
        assert f"{name} : " in DaskBGDClassifier.__doc__ or f"{name}, " in (
            DaskBGDClassifier.__doc__
        )
    assert "loss_curve_ : " in DaskBGDClassifier.__doc__


@pytest.mark.parametrize(
    "params",
    [
        {"batch_size": "full", "learning_rate": 0.5},
        {"batch_size": 100, "learning_rate": 0.5},
        {"solver": "lbfgs", "max_iter": 30},
    ],
    ids=["full", "mini-batches", "lbfgs"],
)
def test_blocks_of_csr(client, params):
    """Sparse blocks give the results of the same dense blocks."""
    X, y = rows(3)
    X[np.abs(X) < 1] = 0
    params = {**params, "standardize": False}
    dense = small(**params).fit(spread(X), spread(y), spread(weights()))
    X = spread(X).map_blocks(sparse.csr_array)
    clf = small(**params).fit(X, spread(y), spread(weights()))
    close(clf, dense)
    P = clf.predict_proba(X)
    assert P.shape == (N, 3)
    np.testing.assert_allclose(
        P.compute(), clf.to_local().predict_proba(rows_of(X)), rtol=1e-12
    )
    if params.get("batch_size") != 100:
        local = small(BGDClassifier, **params).fit(rows_of(X), y, weights())
        close(clf, local)


def rows_of(X):
    """The blocks of a dask array of CSR as one matrix."""
    return sparse.vstack([block.compute() for block in X.to_delayed().ravel()])


def test_without_dask():
    """The import tells how to install it."""
    code = "import sys; sys.modules['distributed'] = None; import skbgd.dask"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True).stderr
    assert 'pip install "skbgd[dask]"' in said
