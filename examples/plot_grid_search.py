"""
Searching for a learning rate and a batch size
==============================================

A Pipeline with a scaler, and a grid over the two parameters that matter most. They
depend on each other: the smaller the batch, the noisier its gradient, and the smaller
the steps have to be. Each model trains for the same number of epochs, so small batches
make more steps and take longer.

Prints the best and writes ``grid_search.png`` beside this file: the accuracy, the time
of a fit, and how the best model was trained. Runs in seconds::

    python examples/plot_grid_search.py
"""

# %%
# Handwritten digits, 5 learning rates, 5 batch sizes, 3 folds.
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier, LossCurveDisplay

LEARNING_RATES = [0.01, 0.03, 0.1, 0.3, 1.0]
BATCH_SIZES = [1, 8, 64, 256, "full"]

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        ("network", BGDClassifier((32,), max_iter=40, tol=None, random_state=0)),
    ]
)
grid = {"network__learning_rate": LEARNING_RATES, "network__batch_size": BATCH_SIZES}
search = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)


# %%
# A row per learning rate, a column per batch size.
def table(key):
    results = search.cv_results_
    values = np.empty((len(LEARNING_RATES), len(BATCH_SIZES)))
    for params, value in zip(results["params"], results[key], strict=True):
        i = LEARNING_RATES.index(params["network__learning_rate"])
        j = BATCH_SIZES.index(params["network__batch_size"])
        values[i, j] = value
    return values


accuracy, milliseconds = table("mean_test_score"), 1e3 * table("mean_fit_time")
best = {name.split("__")[1]: value for name, value in search.best_params_.items()}
print(f"best of {accuracy.size}: {best}")
print(f"accuracy in cross-validation {search.best_score_:.3f}")
print(f"accuracy on new rows         {search.score(X_test, y_test):.3f}")
for j, batch_size in enumerate(BATCH_SIZES):
    i = accuracy[:, j].argmax()
    print(
        f"batch_size={batch_size!r:<7} best learning_rate {LEARNING_RATES[i]:<5} "
        f"accuracy {accuracy[i, j]:.3f}   fit {milliseconds[i, j]:.0f} ms"
    )

# %%
# The scales of the two tables are logarithmic: in the errors, and in the time.
figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
for ax, values, form, shade, title in (
    (axes[0], accuracy, "{:.3f}", -np.log(1.001 - accuracy), "Accuracy (3 folds)"),
    (axes[1], milliseconds, "{:.0f}", -np.log(milliseconds), "Time of a fit (ms)"),
):
    image = ax.imshow(shade, cmap="viridis", aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(values):
        dark = image.norm(shade[i, j]) < 0.6
        ax.text(
            j, i, form.format(value), ha="center", va="center", color="wk"[not dark]
        )
    ax.set(
        xticks=range(len(BATCH_SIZES)),
        xticklabels=BATCH_SIZES,
        yticks=range(len(LEARNING_RATES)),
        yticklabels=LEARNING_RATES,
        xlabel="batch_size",
        ylabel="learning_rate",
        title=title,
    )
LossCurveDisplay.from_estimator(search, log_scale="y", ax=axes[2])
axes[2].set_title(", ".join(f"{name}={value}" for name, value in best.items()))
axes[2].grid(alpha=0.3)
path = Path(__file__).with_name("grid_search.png")
figure.savefig(path, dpi=100)
print(f"Picture: {path}")
