"""
Searching for a learning rate and a batch size
==============================================

A grid over the two parameters that matter most. They depend on each other: the gradient
of a small batch is noisy, so its steps have to be smaller, and it takes more of them in
an epoch, so they may be. Search over both.

Each model trains for the same 40 epochs. Small batches take more steps in them, which
takes longer: the printed table has the times.

Prints a table and writes ``grid_search.png`` beside this file. Runs in seconds::

    python examples/plot_grid_search.py
"""

# %%
# Handwritten digits, 7 learning rates, 5 batch sizes, 3 folds.
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split

from skbgd import BGDClassifier

LEARNING_RATES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
BATCH_SIZES = [1, 8, 64, 256, "full"]
NETWORK = {
    "hidden_layer_sizes": (32,),
    "activation": "logistic",
    "output_activation": "softmax",
    "max_iter": 40,
    "tol": None,
    "random_state": 0,
}
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
# Some steps of this grid are much too large, and training warns of it.
warnings.simplefilter("ignore", ConvergenceWarning)
grid = {"learning_rate": LEARNING_RATES, "batch_size": BATCH_SIZES}
search = GridSearchCV(BGDClassifier(**NETWORK), grid, cv=3).fit(X_train, y_train)


# %%
# A row per learning rate, a column per batch size.
def table(key):
    results = search.cv_results_
    values = np.empty((len(LEARNING_RATES), len(BATCH_SIZES)))
    for params, value in zip(results["params"], results[key], strict=True):
        i = LEARNING_RATES.index(params["learning_rate"])
        j = BATCH_SIZES.index(params["batch_size"])
        values[i, j] = value
    return values


accuracy, milliseconds = table("mean_test_score"), 1e3 * table("mean_fit_time")
best_rates = accuracy.argmax(axis=0)
for j, batch_size in enumerate(BATCH_SIZES):
    i = best_rates[j]
    print(
        f"batch_size={batch_size!r:<7} best learning_rate {LEARNING_RATES[i]:<5} "
        f"accuracy {accuracy[i, j]:.3f}   fit {milliseconds[i, j]:.0f} ms"
    )
print(f"best of {accuracy.size}: {search.best_params_}")
print(f"accuracy in cross-validation {search.best_score_:.3f}")
print(f"accuracy on new samples      {search.score(X_test, y_test):.3f}")

# %%
# The colour is the error on a logarithmic scale: the lighter, the more accurate.
figure, ax = plt.subplots(figsize=(6.5, 5), layout="constrained")
log_error = np.log(1.001 - accuracy)
image = ax.imshow(-log_error, cmap="cividis", aspect="auto", origin="lower")
for (i, j), value in np.ndenumerate(accuracy):
    ax.text(
        j,
        i,
        f"{value:.1%}",
        ha="center",
        va="center",
        color="white" if image.norm(-log_error[i, j]) < 0.6 else "black",
        weight="bold" if i == best_rates[j] else "normal",
    )
for j, i in enumerate(best_rates):
    ax.add_patch(plt.Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, fill=False, lw=2))
ax.set(
    xticks=range(len(BATCH_SIZES)),
    xticklabels=BATCH_SIZES,
    yticks=range(len(LEARNING_RATES)),
    yticklabels=LEARNING_RATES,
    xlabel="batch_size",
    ylabel="learning_rate",
    title="Larger batches need larger steps\n(accuracy, best of each column framed)",
)
if "__file__" in globals():  # a notebook shows the figure
    path = Path(__file__).with_name("grid_search.png")
    figure.savefig(path, dpi=110)
    print(f"Picture: {path}")
