"""
One neuron against hidden layers
================================

A single neuron (``hidden_layer_sizes=()``) divides the plane by a straight line. Two
hidden sigmoids have two lines to combine; eight make a curve through two half-moons, or
close it around a circle. On data as simple as these, a second layer adds nothing.

Prints the accuracies on new rows and writes ``decision_boundary.png`` beside this file.
Runs in seconds::

    python examples/plot_decision_boundary.py
"""

# %%
# Two noisy shapes, and three networks behind a scaler.
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.colors import ListedColormap
from sklearn.datasets import make_circles, make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier

DATASETS = {
    "moons": make_moons(600, noise=0.2, random_state=0),
    "circles": make_circles(600, noise=0.1, factor=0.5, random_state=0),
}
NETWORKS = {
    "one neuron": (),
    "2 hidden sigmoids": (2,),
    "8 hidden sigmoids": (8,),
    "two layers of 8": (8, 8),
}


# %%
# Train each for the same 1000 epochs, on half of the rows.
def train(hidden_layer_sizes, X, y):
    clf = BGDClassifier(
        hidden_layer_sizes, batch_size=32, max_iter=1000, tol=None, random_state=0
    )
    return make_pipeline(StandardScaler(), clf).fit(X, y)


figure, axes = plt.subplots(
    len(DATASETS), len(NETWORKS), figsize=(13, 6.5), layout="constrained"
)
print(f"{'test accuracy':<20}" + "".join(f"{dataset:>10}" for dataset in DATASETS))
accuracies = {}
for i, (dataset, (X, y)) in enumerate(DATASETS.items()):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=0
    )
    for ax, (name, sizes) in zip(axes[i], NETWORKS.items(), strict=True):
        model = train(sizes, X_train, y_train)
        accuracies[name, dataset] = accuracy = model.score(X_test, y_test)
        # The probability of the second class, and the line where it is a half.
        boundary = {"eps": 0.3, "grid_resolution": 200, "ax": ax}
        DecisionBoundaryDisplay.from_estimator(
            model,
            X,
            response_method="predict_proba",
            plot_method="pcolormesh",
            cmap="RdBu",
            vmin=0,
            vmax=1,
            alpha=0.5,
            **boundary,
        )
        DecisionBoundaryDisplay.from_estimator(
            model,
            X,
            response_method="decision_function",
            plot_method="contour",
            levels=[0],
            colors="black",
            linewidths=1.5,
            **boundary,
        )
        ax.scatter(
            *X_test.T,
            c=y_test,
            cmap=ListedColormap(["tab:red", "tab:blue"]),
            s=14,
            edgecolors="white",
            linewidths=0.4,
        )
        ax.set(xticks=[], yticks=[], title=f"{name}: {accuracy:.3f}")
for name in NETWORKS:
    row = "".join(f"{accuracies[name, dataset]:>10.3f}" for dataset in DATASETS)
    print(f"{name:<20}{row}")

# %%
# No straight line does better than chance on a ring around a disc.
assert accuracies["one neuron", "circles"] < 0.7
assert accuracies["8 hidden sigmoids", "circles"] > 0.95
figure.suptitle(
    "Probability of the blue class, the line where it is 1/2, and accuracy on the rows "
    "shown, which are new"
)
path = Path(__file__).with_name("decision_boundary.png")
figure.savefig(path, dpi=100)
print(f"Picture: {path}")
