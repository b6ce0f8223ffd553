"""
How large should a batch be?
============================

The article says that a mini-batch has typically 64 to 512 samples, and that powers of 2
are often chosen. This example measures both on this machine: the time that a network
needs to reach the same training cost, for batch sizes from 1 to all samples. It is a
product of two:

- **Epochs.** A larger batch makes fewer steps per epoch. As long as its step can be
  longer in proportion, the number of epochs stays the same. The gradient of a larger
  batch is more precise, and that permits longer steps, but only up to a limit which the
  curvature of the cost sets. Beyond it every doubling of the batch costs more epochs.
- **Time of an epoch.** Each step has a fixed price. A larger batch pays it less often,
  and its matrix products are more efficient. Beyond some size nothing is left to gain.

The fastest batch size lies where the one no longer falls and the other does not yet
rise. Powers of 2 (dots) have no advantage over the sizes between them (rings): both lie
on the same lines.

Where each step has a higher price, as on a GPU or in a deep-learning framework, the
time of an epoch falls for longer, and the fastest batch size is larger. The core in
NumPy shows it: run this with the environment variable ``SKBGD_ISA=numpy``.

Prints a table and writes ``batch_sizes.png`` beside this file. Runs in seconds::

    python examples/plot_batch_sizes.py
"""

# %%
# Handwritten digits: 1797 samples, 64 features, 10 classes.
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from skbgd import BGDClassifier

NETWORK = {
    "hidden_layer_sizes": (32,),
    "activation": "logistic",
    "output_activation": "softmax",
    "learning_rate_schedule": "constant",
    "alpha": 0.0,
    "random_state": 0,
    "n_jobs": 1,  # the curves do not depend on how many cores are idle
}
COST = 0.01
X, y = load_digits(return_X_y=True)


# %%
# One call of `partial_fit` is one epoch. The cost of all samples is measured after it,
# outside the time of training. The fastest epoch counts, because other processes may
# slow down some of them.
def train(batch_size, learning_rate, max_epochs):
    """Epochs until the cost is reached, and seconds of the fastest epoch."""
    clf = BGDClassifier(batch_size=batch_size, learning_rate=learning_rate, **NETWORK)
    cost, epoch = np.inf, 0
    while cost > COST and epoch < max_epochs:
        clf.partial_fit(X, y, classes=range(10))
        cost = log_loss(y, clf.predict_proba(X))
        epoch += 1
    return epoch, np.diff(clf.seconds_curve_, prepend=0).min()


# %%
# Every batch size gets the better of two step sizes, which are proportional to the
# batch size up to 64.
n = len(X)
powers = 2 ** np.arange(11)
between = np.round(2 ** np.arange(1.5, 11)).astype(int)
batch_sizes = np.sort(np.concatenate([powers, between, [n]]))
epochs, seconds, learning_rates = np.full((3, len(batch_sizes)), np.inf)
print("batch size  learning rate  steps/epoch  epochs  ms/epoch  ms in all")
for k, m in enumerate(batch_sizes):
    epochs[k] = 300
    for rate in (min(m, 64) / 8, min(m, 64) / 4):
        epoch, fastest = train(m, rate, max_epochs=int(epochs[k]))
        if epoch < epochs[k]:
            epochs[k], learning_rates[k] = epoch, rate
        seconds[k] = min(seconds[k], fastest)
    print(
        f"{m:10} {learning_rates[k]:14.4g} {-(-n // m):12} {epochs[k]:7.0f} "
        f"{1e3 * seconds[k]:9.2f} {1e3 * seconds[k] * epochs[k]:10.1f}"
    )
total = epochs * seconds
print(f"Fastest: {batch_sizes[total.argmin()]} samples per step.")

# %%
# The trade: epochs, the time of each, and the product.
plt.style.use("seaborn-v0_8-colorblind")
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.8), layout="constrained")
is_power = np.isin(batch_sizes, powers)
for ax, values, title in (
    (axes[0], epochs, f"Epochs to a cost of {COST}"),
    (axes[1], 1e3 * seconds, "Time of an epoch (ms)"),
    (axes[2], 1e3 * total, "Product: training time (ms)"),
):
    ax.loglog(batch_sizes, values, color="C0")
    ax.plot(
        batch_sizes[is_power], values[is_power], "o", color="C0", label="power of 2"
    )
    ax.plot(
        batch_sizes[~is_power],
        values[~is_power],
        "o",
        color="C0",
        markerfacecolor="white",
        label="between",
    )
    ax.set(xlabel="Samples per step (batch_size)", title=title)
    ax.set_xticks([1, 4, 16, 64, 256, n], ["1", "4", "16", "64", "256", "all"])
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_locator(plt.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.grid(alpha=0.3)
axes[1].legend()
typical = axes[2].axvspan(64, 512, color="C2", alpha=0.15, label="article: 64 to 512")
axes[2].legend(handles=[typical])
figure.suptitle(
    "The fastest batch is neither one sample nor all of them", fontsize="x-large"
)
if "__file__" in globals():  # a notebook shows the figure
    path = Path(__file__).with_name("batch_sizes.png")
    figure.savefig(path, dpi=120)
    print(f"Picture: {path}")
