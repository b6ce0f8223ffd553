r"""
Five descents over the cost of one neuron
=========================================

A neuron with one input x has two weights, w and b. Its cost is a surface over these
two, drawn here as contour lines like a valley on a map; the star is the minimum. Five
descents start at w = b = 0 and take 60 steps each:

- whole batch: each step goes straight downhill, across the contour lines. The valley is
  long and narrow, so most of the way is along its floor, where the slope is small;
- mini-batch of 8 samples: the direction is right on average. The path wavers;
- stochastic, one sample: it wavers more, and near the minimum it does not settle;
- momentum: each step keeps 90 % of the last one. The steps along the floor add up, and
  the path overshoots the minimum and returns;
- Adam: it divides each weight's step by the size of that weight's recent gradients, so
  that all steps are about as long as the step size says, however small the slope.

The three pictures differ in the step size only. The whole batch alone could take steps
of 4, the stochastic descent could not: a noisy gradient needs smaller steps. A step
with the whole batch also computes 64 gradients, and a stochastic step only one.

Predict what a change does, then try it:

- a momentum of 0.99: the path runs far past the minimum, and back;
- batches of 32: their path hardly differs from that of the whole batch;
- ``x = x - x.mean()``, a scaled input: the valley becomes rounder and every path
  shorter.

Writes ``loss_surface.png`` beside this file. Runs in seconds::

    python examples/plot_loss_surface.py

With ``--interactive`` it opens a window with sliders for step size, batch size and
momentum. This needs a GUI backend of matplotlib, such as Tk or Qt.
"""

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skbgd import BGDClassifier

# A neuron without a penalty, and the size of a step as it is given. A batch is what one
# call of partial_fit gets.
NEURON = {
    "hidden_layer_sizes": (),
    "batch_size": "full",
    "learning_rate_schedule": "constant",
    "alpha": 0.0,
    "standardize": False,
}

# %%
# 64 samples with one input. The larger x, the more probable is the class y = 1.
rng = np.random.default_rng(0)
x = rng.normal(0.6, 1, size=64)
y = (rng.random(64) < 1 / (1 + np.exp(2.7 - 2 * x))).astype(int)
X = x[:, np.newaxis]


def cost(w, b):
    """Mean cross-entropy for arrays of w and b, from z = w x + b."""
    z = np.multiply.outer(w, x) + np.asarray(b)[..., np.newaxis]
    return (np.logaddexp(0, z) - y * z).mean(axis=-1)


# %%
# The path of a descent: `partial_fit` makes one step with each batch it is given.
def descend(batch_size, n_steps=60, **params):
    """w and b before the first step and after each step: two arrays."""
    clf = BGDClassifier(**NEURON, **params)
    rng = np.random.default_rng(1)
    path = [(0.0, 0.0)]
    while len(path) <= n_steps:
        order = rng.permutation(len(x))
        for k in range(0, len(x), batch_size):
            batch = order[k : k + batch_size]
            clf.partial_fit(X[batch], y[batch], classes=[0, 1])
            path.append((clf.coef_[0, 0], clf.intercept_[0]))
    return np.array(path[: n_steps + 1]).T


# L-BFGS finds the minimum.
best = BGDClassifier(**NEURON | {"solver": "lbfgs", "tol": 1e-6}).fit(X, y)
minimum = best.coef_[0, 0], best.intercept_[0]


def draw_surface(ax):
    """Contour lines of the cost and its minimum."""
    w, b = np.meshgrid(np.linspace(-1, 5, 200), np.linspace(-6.5, 1.5, 200))
    levels = cost(*minimum) + np.geomspace(0.005, 3, 12)
    ax.contour(w, b, cost(w, b), levels=levels, colors="0.8", linewidths=1)
    ax.plot(*minimum, "*", color="black", markersize=14, zorder=3)
    ax.set(xlim=(-1, 5), ylim=(-6.5, 1.5), xlabel="w")


# %%
# The picture: five descents with each of three step sizes.
DESCENTS = {
    "stochastic": {"batch_size": 1, "color": "#E69F00"},
    "mini-batch of 8": {"batch_size": 8, "color": "#0072B2"},
    "whole batch": {"batch_size": 64, "color": "black"},
    "whole batch, momentum": {"batch_size": 64, "momentum": 0.9, "color": "#CC79A7"},
    "whole batch, Adam": {"batch_size": 64, "solver": "adam", "color": "#009E73"},
}
STEP_SIZES = {"Too small": 0.03, "About right": 1.0, "Too large": 16.0}


def picture():
    figure, axes = plt.subplots(
        1, 3, figsize=(12, 5.2), layout="constrained", sharey=True
    )
    for ax, (judgement, step_size) in zip(axes, STEP_SIZES.items(), strict=True):
        draw_surface(ax)
        for name, descent in DESCENTS.items():
            params = {k: value for k, value in descent.items() if k != "color"}
            w, b = descend(learning_rate=step_size, **params)
            ax.plot(
                w, b, ".-", color=descent["color"], markersize=4, lw=1.2, label=name
            )
            print(f"step size {step_size:<5} {name:22} cost {cost(w, b)[-1]:.3f}")
        ax.set_title(f"{judgement}: step size {step_size:g}")
    axes[0].set_ylabel("b")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5
    )
    figure.suptitle(
        "Too small a step gets nowhere in 60 steps, too large a step leaves the valley"
    )
    return figure


# %%
# The window: one descent, moved by hand, and its cost after each step.
def window():
    from matplotlib.widgets import Slider

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 6.2))
    figure.subplots_adjust(bottom=0.3, left=0.08, right=0.97, wspace=0.25)
    draw_surface(left)
    left.set(ylabel="b", title="Path over the cost; the star is the minimum")
    (path,) = left.plot([], [], ".-", color="#0072B2", lw=1.2)
    (curve,) = right.plot([], [], color="#0072B2")
    right.axhline(cost(*minimum), color="0.4", linestyle="--", label="minimum")
    right.set(xlim=(0, 60), ylim=(0.3, 1.2), xlabel="Step", ylabel="Cost")
    right.legend(loc="upper right")

    def slider(height, *args, **params):
        return Slider(figure.add_axes([0.2, height, 0.6, 0.03]), *args, **params)

    log_step = slider(0.16, "Step size", -2, 1.5, valinit=0, valfmt="10^%.1f")
    log_batch = slider(0.1, "Batch size", 0, 6, valinit=6, valstep=1)
    momentum = slider(0.04, "Momentum", 0, 0.98, valinit=0, valfmt="%.2f")

    def update(_=None):
        batch_size, step_size = 2 ** int(log_batch.val), 10**log_step.val
        w, b = descend(batch_size, learning_rate=step_size, momentum=momentum.val)
        path.set_data(w, b)
        curve.set_data(range(len(w)), cost(w, b))
        log_step.valtext.set_text(f"{step_size:.2g}")
        log_batch.valtext.set_text(f"{batch_size}")
        right.set_title(f"Cost after 60 steps: {cost(w, b)[-1]:.3f}")
        figure.canvas.draw_idle()

    sliders = log_step, log_batch, momentum
    for each in sliders:
        each.on_changed(update)
    update()
    return sliders  # matplotlib needs them alive as long as the window


if __name__ == "__main__":
    if "--interactive" in sys.argv:
        sliders = window()
        plt.show()
    else:
        figure = picture()
        if "__file__" in globals():  # a notebook shows the figure
            path = Path(__file__).with_name("loss_surface.png")
            figure.savefig(path, dpi=100)
            print(f"Picture: {path}")
