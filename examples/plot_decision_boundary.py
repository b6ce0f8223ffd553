"""
What hidden layers add
======================

A single neuron (``hidden_layer_sizes=()``) divides the plane by a straight line. A
hidden sigmoid is such a neuron too, and the output adds up what the hidden ones say:
two of them can make a strip, three can bend the line twice or close it to a ring. More
than that only rounds the corners here.

The networks are trained by L-BFGS until the gradient vanishes, so that the pictures
show what a network of that size can do. Gradient descent takes a while to get there: it
first finds the line of a single neuron, on a plateau of the cost, and bends it later.

Try: ``"solver": "sgd", "learning_rate": 0.5, "tol": None`` with 100 epochs, then 1000.

Prints the accuracies on new samples and writes ``decision_boundary.png`` beside this
file. Runs in seconds::

    python examples/plot_decision_boundary.py
"""

# %%
# Two noisy shapes, and four networks.
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.colors import ListedColormap
from sklearn.datasets import make_circles, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.model_selection import train_test_split

from skbgd import BGDClassifier

DATASETS = {
    "moons": make_moons(600, noise=0.2, random_state=0),
    "circles": make_circles(600, noise=0.1, factor=0.5, random_state=0),
}
NETWORKS = {
    "one neuron": (),
    "2 hidden sigmoids": (2,),
    "3 hidden sigmoids": (3,),
    "8 hidden sigmoids": (8,),
}
TRAINING = {"solver": "lbfgs", "alpha": 1e-4, "max_iter": 1000, "random_state": 0}

# %%
# Train each network on half of the samples. The shading is the probability of the blue
# class, the black line is where it is 1/2.
# One neuron cannot separate the circles, and a warning says so.
warnings.simplefilter("ignore", ConvergenceWarning)
figure, axes = plt.subplots(
    len(DATASETS), len(NETWORKS), figsize=(12, 6.4), layout="constrained"
)
print(f"{'test accuracy':<20}" + "".join(f"{dataset:>10}" for dataset in DATASETS))
accuracies = {}
for i, (dataset, (X, y)) in enumerate(DATASETS.items()):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=0
    )
    for ax, (name, sizes) in zip(axes[i], NETWORKS.items(), strict=True):
        model = BGDClassifier(sizes, **TRAINING)
        model.fit(X_train, y_train)
        accuracies[name, dataset] = accuracy = model.score(X_test, y_test)
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
            cmap=ListedColormap(["#D55E00", "#0072B2"]),
            s=14,
            edgecolors="white",
            linewidths=0.4,
        )
        ax.set(xticks=[], yticks=[], title=f"{name}: {accuracy:.1%}")
for name in NETWORKS:
    row = "".join(f"{accuracies[name, dataset]:>10.3f}" for dataset in DATASETS)
    print(f"{name:<20}{row}")

# %%
# No straight line does better than chance on a ring around a disc.
assert accuracies["one neuron", "circles"] < 0.7
assert accuracies["3 hidden sigmoids", "circles"] > 0.95
assert accuracies["3 hidden sigmoids", "moons"] > 0.9
figure.suptitle(
    "One neuron draws a straight line, three hidden sigmoids bend it or close it\n"
    "(accuracy on new samples)"
)
if "__file__" in globals():  # a notebook shows the figure
    path = Path(__file__).with_name("decision_boundary.png")
    figure.savefig(path, dpi=100)
    print(f"Picture: {path}")
