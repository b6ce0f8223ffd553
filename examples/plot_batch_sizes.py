"""
Batch, mini-batch and stochastic gradient descent
=================================================

The same network, from the same start, for the same number of epochs, on real data:
only the number of rows per step changes. The whole batch makes one smooth step per
epoch; one row at a time makes as many as there are rows, and noisily; mini-batches lie
between. The step size is the same for all, to compare like with like. Left to itself
(``learning_rate="auto"``), the whole batch would take steps ten times as long.

Prints a table and writes ``batch_sizes.png`` beside this file. Runs in seconds::

    python examples/plot_batch_sizes.py
"""

# %%
# The data that the picture is about. Half of each set is held out.
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier

DATASETS = {"digits": load_digits, "breast cancer": load_breast_cancer}
BATCH_SIZES = ["full", 512, 256, 128, 64, 1]
LEARNING_RATE = 0.1
EPOCHS = 60


def name(batch_size):
    return {"full": "whole batch", 1: "stochastic (1)"}.get(
        batch_size, f"mini-batch ({batch_size})"
    )


# %%
# Train for a fixed number of epochs (``tol=None``) and take the time, the best of
# three; every epoch does the same work.
def train(batch_size, X, y):
    clf = BGDClassifier(
        hidden_layer_sizes=(32,),
        batch_size=batch_size,
        learning_rate=LEARNING_RATE,
        max_iter=EPOCHS,
        tol=None,
        random_state=0,
    )
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        clf.fit(X, y)
        seconds.append(time.perf_counter() - start)
    return clf, min(seconds)


curves = {}
row = "{:<17} {:>8} {:>7} {:>9} {:>14} {:>14}"
print(
    row.format(
        "descent",
        "updates",
        "epochs",
        "seconds",
        "training cost",
        "test accuracy",
    )
)
for dataset, load in DATASETS.items():
    X, y = load(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=0
    )
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    print(f"{dataset}: {len(X_train)} training rows, {len(X_test)} test rows")
    for batch_size in BATCH_SIZES:
        if batch_size != "full" and batch_size >= len(X_train):
            continue  # the whole batch again
        clf, seconds = train(batch_size, X_train, y_train)
        curves[dataset, batch_size] = clf.loss_curve_, seconds
        n_rows = len(X_train) if batch_size == "full" else batch_size
        print(
            row.format(
                name(batch_size),
                clf.n_iter_ * -(-len(X_train) // n_rows),
                clf.n_iter_,
                f"{seconds:.3f}",
                f"{clf.loss_:.4f}",
                f"{clf.score(X_test, y_test):.3f}",
            )
        )

# %%
# Cost against epoch, and cost against time. The cost is the mean cross-entropy over the
# rows, summed over the output units, ten for the digits, with the penalty.
STYLES = {
    "full": {"color": "black", "linestyle": "-"},
    64: {"color": "tab:red", "linestyle": "--", "linewidth": 2},
    1: {"color": "tab:blue", "linestyle": ":", "linewidth": 2.5},
}
figure, axes = plt.subplots(
    len(DATASETS), 2, figsize=(9, 6.5), sharey="row", layout="constrained"
)
for (left, right), dataset in zip(axes, DATASETS, strict=True):
    for batch_size, style in STYLES.items():
        loss_curve, seconds = curves[dataset, batch_size]
        epochs = np.arange(1, EPOCHS + 1)
        left.plot(epochs, loss_curve, label=name(batch_size), **style)
        right.plot(1e3 * seconds / EPOCHS * epochs, loss_curve, **style)
    left.set(ylabel="training cost", title=f"{dataset}: cost against epoch")
    right.set(title=f"{dataset}: cost against time")
    left.set(xlabel="epoch", yscale="log")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(xlabel="training time (ms)", xscale="log")
    for ax in (left, right):
        ax.grid(alpha=0.3)
figure.legend(
    *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3
)
figure.suptitle(
    f"One network of 32 sigmoids, {EPOCHS} epochs, learning_rate={LEARNING_RATE}"
)
path = Path(__file__).with_name("batch_sizes.png")
figure.savefig(path, dpi=120)
print(f"Picture: {path}")
