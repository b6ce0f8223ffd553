"""
Samples in the memory of several machines
=========================================

:class:`skbgd.dask.DaskBGDClassifier` trains on dask arrays whose blocks are in the
memory of the workers of a Dask cluster. Here the cluster is three worker processes on
this machine, with a memory limit of 1 GB each. The samples are generated on the
workers, 1.1 GB in all: no worker could hold all of them, each holds a third.

With the whole batch, the loss curve is that of :class:`skbgd.BGDClassifier` in a single
process, to rounding. Every pass over the samples costs some 20 ms of Dask's scheduling,
however few they are. The picture shows what that means: Dask is for data that the
memory of one machine cannot hold. The workers share one machine here, so it does not
show the speed of a real cluster.

Last, joblib runs the fits of a grid search over the plain estimator on the same
workers.

Prints a table and writes ``dask.png`` beside this file. Needs about 3 GB of memory and
``pip install "skbgd[dask,examples]"``, and runs for half a minute::

    python examples/plot_dask.py
"""

# %%
import time
from pathlib import Path

import dask.array as da
import joblib
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster, wait
from sklearn.model_selection import GridSearchCV

from skbgd import BGDClassifier
from skbgd.dask import DaskBGDClassifier

N_WORKERS, MEMORY_LIMIT = 3, 1e9  # bytes, of each
N_SAMPLES, N_FEATURES, N_BLOCKS = 2_700_000, 100, 30
SMALLER = [300, 3_000, 30_000, 300_000]
NETWORK = {
    "hidden_layer_sizes": (8,),
    "activation": "logistic",
    "solver": "adam",
    "learning_rate": 0.05,
    "learning_rate_schedule": "cosine",
    "max_iter": 5,
    "random_state": 0,
}


# %%
# The data: a network of ten random neurons decides the class. Nothing is computed here.
def make_samples(n_samples, n_blocks):
    X = da.random.default_rng(0).standard_normal(
        size=(n_samples, N_FEATURES),
        dtype="f4",
        chunks=(n_samples // n_blocks, N_FEATURES),
    )
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(N_FEATURES, 10)).astype("f4") / np.sqrt(N_FEATURES)
    return X, da.tanh(3 * (X @ teacher)) @ rng.normal(size=10).astype("f4") > 0


# %%
# Training looks as always: only the import and the arrays are different.
def train(X, y, batch_size="full"):
    start = time.perf_counter()
    clf = DaskBGDClassifier(batch_size=batch_size, **NETWORK).fit(X, y)
    print(
        f"{len(X):>9,} samples, batch_size={batch_size}: "
        f"{time.perf_counter() - start:.1f} s, loss {clf.loss_:.3f}, "
        f"training accuracy {clf.score(X, y):.3f}",
        flush=True,
    )
    return clf


# %%
# The time of a pass, with Dask and in this process.
def seconds_per_pass(clf):
    return np.median(np.diff(clf.seconds_curve_))


def time_passes(whole):
    dask, single = {}, {}
    for n in SMALLER:
        X, y = make_samples(n, n_blocks=N_WORKERS)
        distributed = DaskBGDClassifier(batch_size="full", **NETWORK).fit(X, y)
        local = BGDClassifier(batch_size="full", **NETWORK).fit(*da.compute(X, y))
        dask[n], single[n] = seconds_per_pass(distributed), seconds_per_pass(local)
        difference = np.subtract(distributed.loss_curve_, local.loss_curve_)
        assert np.abs(difference).max() < 1e-5  # float32
        print(
            f"{n:>9,} samples: {1e3 * dask[n]:6.1f} ms per pass, "
            f"{1e3 * single[n]:6.2f} ms in a single process"
        )
    dask[N_SAMPLES] = seconds_per_pass(whole)
    print(f"{N_SAMPLES:>9,} samples: {1e3 * dask[N_SAMPLES]:6.1f} ms per pass")
    return dask, single


# %%
# The plain estimator in a grid search, on samples that fit in memory: every fit is a
# task.
def search(X, y):
    X, y = X.blocks[0].compute()[:20_000], y.blocks[0].compute()[:20_000]
    clf = BGDClassifier((8,), max_iter=5, tol=None, random_state=0)
    grid = {"batch_size": [32, 512], "learning_rate": [0.1, 1.0]}
    with joblib.parallel_config("dask"):
        return GridSearchCV(clf, grid, cv=3).fit(X, y)


def draw(dask, single):
    plt.style.use("seaborn-v0_8-colorblind")
    added = 1e3 * (dask[SMALLER[0]] - single[SMALLER[0]])
    figure, ax = plt.subplots(figsize=(7, 4.4), layout="constrained")
    ax.loglog(list(dask), [1e3 * t for t in dask.values()], "o-", label="Dask")
    ax.loglog(
        list(single), [1e3 * t for t in single.values()], "o-", label="single process"
    )
    ax.axvline(MEMORY_LIMIT / 4 / N_FEATURES, color="0.5", linestyle="--")
    ax.text(
        0.9 * MEMORY_LIMIT / 4 / N_FEATURES,
        min(1e3 * t for t in single.values()),
        "memory of\na worker",
        ha="right",
    )
    ax.set(
        xlabel="Samples",
        ylabel="Time of a pass (ms)",
        title=f"Dask adds {added:.0f} ms to a pass: use it for data beyond one memory",
    )
    ax.legend()
    ax.grid(alpha=0.3)
    return figure


def main():
    X, y = make_samples(N_SAMPLES, N_BLOCKS)
    print(f"{X.nbytes / 1e9:.2f} GB of samples, {MEMORY_LIMIT / 1e9:.2f} GB per worker")
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
        start = time.perf_counter()
        X, y = client.persist([X, y])
        wait([X, y])
        print(
            f"generating the samples {time.perf_counter() - start:5.1f} s", flush=True
        )
        whole = train(X, y)
        train(X[:270_000], y[:270_000], batch_size=27_000)
        best = search(X, y)
        print(f"grid search on the workers: {best.best_params_}")
        del X, y  # the workers may free their memory
        figure = draw(*time_passes(whole))
    path = Path(__file__).with_name("dask.png")
    figure.savefig(path, dpi=100)
    print(f"Picture: {path}")


# %%
# The workers are processes that import this file.
if __name__ == "__main__":
    main()
