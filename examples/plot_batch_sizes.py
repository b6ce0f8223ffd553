"""
Batch, mini-batch and stochastic gradient descent
=================================================

The same network, from the same start, for the same number of epochs, on real data:
only the number of rows per step changes. The whole batch makes one smooth step per
epoch; one row at a time makes as many as there are rows, and noisily; mini-batches lie
between. The step size is the same for all, to compare like with like. Left to itself
(``learning_rate="auto"``), the whole batch would take steps ten times as long.

L-BFGS sums over the whole batch as well, but learns the curvature of the cost from its
last steps and finds each step size by a line search. It gets as far as single rows do,
with a hundredth or less of the updates, each of which costs a pass over all rows.

Prints a table and writes ``batch_sizes.png`` beside this file. Runs in seconds::

    python examples/plot_batch_sizes.py
"""

# %%
# The data that the picture is about. Half of each set is held out.
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier, LossCurveDisplay

DATASETS = {"digits": load_digits, "breast cancer": load_breast_cancer}
DESCENTS = {
    "whole batch": {"batch_size": "full"},
    **{f"mini-batch ({m})": {"batch_size": m} for m in (512, 256, 128, 64)},
    "stochastic (1)": {"batch_size": 1},
    "L-BFGS": {"solver": "lbfgs"},
}
SHOWN = "whole batch", "mini-batch (64)", "stochastic (1)", "L-BFGS"
LEARNING_RATE = 0.1
EPOCHS = 60


# %%
# Train for a fixed number of epochs (``tol=None``), three times over, and keep the
# fastest; all three are the same but for the time.
def train(descent, X, y):
    clf = BGDClassifier(
        hidden_layer_sizes=(32,),
        **descent,
        learning_rate=LEARNING_RATE,
        max_iter=EPOCHS,
        tol=None,
        random_state=0,
    )
    runs = [clone(clf).fit(X, y) for _ in range(3)]
    return min(runs, key=lambda clf: clf.seconds_curve_[-1])


trained = {}
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
    trained[dataset] = {}
    for name, descent in DESCENTS.items():
        m = descent.get("batch_size")
        if isinstance(m, int) and m >= len(X_train):
            continue  # the whole batch again
        clf = train(descent, X_train, y_train)
        trained[dataset][name] = clf
        print(
            row.format(
                name,
                clf.updates_curve_[-1],
                clf.n_iter_,
                f"{clf.seconds_curve_[-1]:.3f}",
                f"{clf.loss_:.4f}",
                f"{clf.score(X_test, y_test):.3f}",
            )
        )

# %%
# Four of them: cost against epochs, updates and time. The cost is the mean
# cross-entropy over the rows, summed over the output units, ten for the digits, with
# the penalty.
figure, axes = plt.subplots(
    len(DATASETS), 3, figsize=(12, 6.5), sharey="row", layout="constrained"
)
for row_of_axes, dataset in zip(axes, DATASETS, strict=True):
    shown = {name: trained[dataset][name] for name in SHOWN}
    for ax, x in zip(row_of_axes, ("epochs", "updates", "seconds"), strict=True):
        LossCurveDisplay.from_estimators(
            shown, x=x, log_scale="y" if x == "epochs" else "xy", ax=ax
        )
        ax.get_legend().remove()
        ax.set_title(dataset)
        ax.grid(alpha=0.3)
        if x != "epochs":
            ax.set_ylabel("")
figure.legend(
    *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4
)
figure.suptitle(
    f"One network of 32 sigmoids, {EPOCHS} epochs, learning_rate={LEARNING_RATE}"
)
path = Path(__file__).with_name("batch_sizes.png")
figure.savefig(path, dpi=120)
print(f"Picture: {path}")
