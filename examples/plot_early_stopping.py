"""
Early stopping with validation data of your own
===============================================

A network that is large for its data learns the noise in the end: the training loss
keeps falling while the loss on new samples rises. With ``early_stopping=True`` training
ends when the validation loss has stopped improving, and the best parameters are kept.
Here the validation samples are passed to `fit`, and a Pipeline scales them like the
training samples.

Prints a table and writes ``early_stopping.png`` beside this file. Runs in seconds::

    python examples/plot_early_stopping.py
"""

# %%
# Two noisy half-moons: 60 samples to train on, 200 to validate, 5000 to test.
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.datasets import make_moons
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier, LossCurveDisplay

X, y = make_moons(60, noise=0.35, random_state=0)
X_val, y_val = make_moons(200, noise=0.35, random_state=1)
X_test, y_test = make_moons(5000, noise=0.35, random_state=2)
TRAINING = {
    "hidden_layer_sizes": (100,),
    "batch_size": 16,
    "solver": "adam",
    "learning_rate": 0.03,
    "learning_rate_schedule": "constant",
    "alpha": 0.0,
    "max_iter": 500,
    "n_iter_no_change": 50,
    "random_state": 0,
}


# %%
# `set_fit_request` says that the classifier takes `X_val` and `y_val`,
# `transform_input` that the steps before it transform `X_val` too.
def train(**params):
    clf = BGDClassifier(**TRAINING, **params)
    clf.set_fit_request(X_val=True, y_val=True)
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("network", clf)], transform_input=["X_val"]
    )
    return pipeline.fit(X, y, X_val=X_val, y_val=y_val)


with sklearn.config_context(enable_metadata_routing=True):
    stopped = train(early_stopping=True, tol=0)
    not_stopped = train(tol=None)

# %%
# When and why training ended, and the effect on the test samples.
row = "{:<22} {:>6} {:>15} {:>14} {:>14} {:>14}"
print(
    row.format(
        "", "epochs", "stop_reason_", "training loss", "test log-loss", "test accuracy"
    )
)
for name, model in (("early stopping", stopped), ("no early stopping", not_stopped)):
    clf = model["network"]
    print(
        row.format(
            name,
            clf.n_iter_,
            clf.stop_reason_,
            f"{clf.loss_:.4f}",
            f"{log_loss(y_test, model.predict_proba(X_test)):.4f}",
            f"{model.score(X_test, y_test):.4f}",
        )
    )
clf = stopped["network"]
best = int(np.argmin(clf.validation_loss_curve_)) + 1
print(
    f"\nThe validation loss was lowest after epoch {best}. The next "
    f"{clf.n_iter_ - best} epochs (n_iter_no_change={clf.n_iter_no_change}) did not "
    "improve on it."
)

# %%
# The losses without early stopping. Up to the epoch where it ends training, they are
# the same with it. The training loss is the mean while the epoch runs, so in the first
# epochs it lies above the validation loss, which is measured after each epoch.
plt.style.use("seaborn-v0_8-colorblind")
figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
LossCurveDisplay.from_estimator(not_stopped, ax=ax)
ax.legend(loc="center right")
ax.axvline(clf.n_iter_, color="C2")
ax.text(clf.n_iter_ + 6, 0.94, f"early stopping: epoch {clf.n_iter_}", color="C2")
ax.set(
    ylim=(0, None),
    ylabel="Loss (training: mean during the epoch)",
    title="Early stopping ends training when only the noise is left to learn",
)
ax.grid(alpha=0.3)
if "__file__" in globals():  # a notebook shows the figure
    path = Path(__file__).with_name("early_stopping.png")
    figure.savefig(path, dpi=110)
    print(f"Picture: {path}")
