"""
Rows in the memory of several machines
======================================

:class:`skbgd.dask.DaskBGDClassifier` trains on dask arrays whose blocks lie on the
workers of a Dask cluster. Here the cluster is three worker processes on this machine,
each with a memory limit of 1 GB; the rows are made on the workers, 1.1 GB in all. No
worker could hold all of them; each holds a third. The workers share one machine, so
this shows that the result is the same and what a round costs, not how a real network
behaves.

Whole-batch descent is compared with :class:`skbgd.BGDClassifier` with all rows in the
memory of this process: every number of the loss curve agrees. Mini-batches descend
faster in the same number of epochs. Then the time of a round against the number of its
rows: below some ten thousand rows it is Dask's answering time, whatever the rows.
Last, a grid search over the plain estimator, whose fits are shared out to the same
workers by joblib.

Prints what happened and writes ``dask.png`` beside this file. Needs about 4 GB of
memory, ``pip install "skbgd[dask,examples]"``, and runs for about a minute::

    python examples/plot_dask.py
"""

# %%
import os
import time
from pathlib import Path

import dask.array as da
import joblib
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster, wait
from sklearn.model_selection import GridSearchCV

from skbgd import BGDClassifier, LossCurveDisplay
from skbgd.dask import DaskBGDClassifier

N_WORKERS, MEMORY_LIMIT = 3, 1e9  # bytes, of each
N_ROWS, N_FEATURES, N_BLOCKS = 2_700_000, 100, 30
SETTINGS = {
    "hidden_layer_sizes": (8,),
    "solver": "adam",
    "max_iter": 10,
    "tol": None,
    "random_state": 0,
}


# %%
# The rows: whether a network of ten random neurons fires. Nothing is computed here.
def make_rows(n_rows, n_blocks=N_BLOCKS):
    X = da.random.default_rng(0).standard_normal(
        size=(n_rows, N_FEATURES), dtype="f4", chunks=(n_rows // n_blocks, N_FEATURES)
    )
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(N_FEATURES, 10)).astype("f4") / np.sqrt(N_FEATURES)
    return X, da.tanh(3 * (X @ teacher)) @ rng.normal(size=10).astype("f4") > 0


# %%
# Training, whole-batch and in nine mini-batches per epoch: what is different from a
# BGDClassifier is the import and the arrays. The rows are made once, by `persist`, and
# used where they are by both.
def train(X, y):
    models = {}
    for name, batch_size in (
        ("whole batch, Dask", "full"),
        ("300 000 rows a step, Dask", 300_000),
    ):
        start = time.perf_counter()
        models[name] = DaskBGDClassifier(batch_size=batch_size, **SETTINGS).fit(X, y)
        print(f"{name:28}{time.perf_counter() - start:6.1f} s", flush=True)
    return models


def train_here(X, y):
    """All rows in the memory of this process, made by Dask's threads."""
    X, y = da.compute(X, y, scheduler="threads")
    start = time.perf_counter()
    clf = BGDClassifier(batch_size="full", **SETTINGS).fit(X, y)
    print(f"{'whole batch, one process':28}{time.perf_counter() - start:6.1f} s")
    return clf


# %%
# The time of a round: whole-batch descent on fewer and fewer rows.
def time_rounds(whole):
    seconds = {}
    for n in [300, 3_000, 30_000, 300_000]:
        clf = DaskBGDClassifier(batch_size="full", **SETTINGS)
        seconds[n] = time_of_round(clf.fit(*make_rows(n, n_blocks=N_WORKERS)))
    seconds[N_ROWS] = time_of_round(whole)
    for n, t in seconds.items():
        print(f"{n:>9,} rows: {1e3 * t:6.1f} ms per round")
    return seconds


def time_of_round(clf):
    return np.median(np.diff(clf.seconds_curve_))


# %%
# The plain estimator in a grid search, on rows that fit in memory: every fit is a task.
def search(X, y):
    X, y = X.blocks[0].compute()[:20_000], y.blocks[0].compute()[:20_000]
    clf = BGDClassifier((8,), max_iter=5, tol=None, random_state=0)
    grid = {"batch_size": [32, 512], "learning_rate": [0.1, 1.0]}
    with joblib.parallel_config("dask"):
        return GridSearchCV(clf, grid, cv=3).fit(X, y)


def main():
    X, y = make_rows(N_ROWS)
    print(f"{X.nbytes / 1e9:.2f} GB of rows, {MEMORY_LIMIT / 1e9:.2f} GB per worker")
    assert X.nbytes > MEMORY_LIMIT
    with (
        LocalCluster(
            n_workers=N_WORKERS,
            threads_per_worker=1,
            memory_limit=MEMORY_LIMIT,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        lazy = X, y
        start = time.perf_counter()
        X, y = client.persist([X, y])
        wait([X, y])
        print(f"{'making the rows':28}{time.perf_counter() - start:6.1f} s", flush=True)
        models = train(X, y)
        for name, clf in models.items():
            print(f"{name:28}{clf.score(X, y):8.3f} accuracy on the same rows")
        best = search(X, y)
        print(f"grid search on the workers: {best.best_params_}")
        del X, y  # the workers may forget them
        seconds = time_rounds(models["whole batch, Dask"])

    here = train_here(*lazy)
    there = models["whole batch, Dask"]
    difference = np.abs(np.subtract(here.loss_curve_, there.loss_curve_)).max()
    print(f"largest difference of the losses: {difference:.1e} (float32)")
    assert difference < 1e-3

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    LossCurveDisplay.from_estimators(models, ax=left)
    left.plot(
        range(1, here.n_iter_ + 1), here.loss_curve_, "k:", lw=3, label="one process"
    )
    left.set(title="Whole batch and mini-batches")
    left.legend()
    right.loglog(list(seconds), list(seconds.values()), "o-")
    right.axhline(
        min(seconds.values()), color="0.6", linestyle="--", label="Dask's own time"
    )
    right.set(
        xlabel="Rows in the round",
        ylabel="Time of a round (s)",
        title=f"{N_WORKERS} workers on {os.cpu_count()} cores",
    )
    right.legend()
    for ax in (left, right):
        ax.grid(alpha=0.3)
    path = Path(__file__).with_name("dask.png")
    figure.savefig(path, dpi=100)
    print(f"Picture: {path}")


# %%
# The workers are processes that import this file.
if __name__ == "__main__":
    main()
