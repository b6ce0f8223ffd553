"""
Stopping by one's own validation rows
=====================================

A network that is large for its data learns the noise in the end: the training loss goes
on falling while the loss of rows it has not seen rises again. With `early_stopping` the
descent ends there, and the best parameters are kept. The validation rows are ours, and
a Pipeline scales them like the training rows.

Prints what happened and writes ``early_stopping.png`` beside this file. Runs in
seconds::

    python examples/plot_early_stopping.py
"""

# %%
# Two noisy half-moons: 60 rows to learn from, 200 to judge by, many to test on.
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


# %%
# `transform_input` names the arguments of `fit` that the steps before transform too;
# the request says that the classifier wants them.
def train(early_stopping):
    clf = BGDClassifier(
        hidden_layer_sizes=(100,),
        solver="adam",
        learning_rate=0.03,
        alpha=0.0,
        max_iter=500,
        tol=0 if early_stopping else None,
        n_iter_no_change=50,
        early_stopping=early_stopping,
        random_state=0,
    ).set_fit_request(X_val=True, y_val=True)
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("network", clf)], transform_input=["X_val"]
    )
    return pipeline.fit(X, y, X_val=X_val, y_val=y_val)


with sklearn.config_context(enable_metadata_routing=True):
    stopped, not_stopped = train(early_stopping=True), train(early_stopping=False)

# %%
# Where it stopped, why, and what that is worth on the test rows.
row = "{:<22} {:>6} {:>15} {:>15} {:>14} {:>14}"
print(
    row.format(
        "", "epochs", "stop_reason_", "training loss", "test log-loss", "test accuracy"
    )
)
for name, model in (("with early stopping", stopped), ("without", not_stopped)):
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
    f"\nThe validation loss was lowest after epoch {best}, and {clf.n_iter_ - best} "
    f"epochs (n_iter_no_change={clf.n_iter_no_change}) did not improve on it."
)

# %%
# Training and validation loss, with and without. Both are the same descent up to where
# early stopping ends it.
figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
LossCurveDisplay.from_estimators(
    {"without early stopping": not_stopped, "with early stopping": stopped}, ax=ax
)
ax.set(ylim=(0, None), title="100 sigmoids, 60 rows: learning the moons, then noise")
ax.grid(alpha=0.3)
path = Path(__file__).with_name("early_stopping.png")
figure.savefig(path, dpi=120)
print(f"Picture: {path}")
