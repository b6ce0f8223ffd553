"""
Rare classes and costly errors
==============================

One payment in fifty is a fraud, and a missed fraud costs the amount of the payment. A
classifier minimises the mean loss of all samples, and misses most frauds, because they
are rare. Two kinds of weights change what it minimises:

- ``class_weight="balanced"`` gives both classes the same total weight. It catches more
  frauds and raises many more false alarms;
- `sample_weight` gives each payment the weight of an error in money. Precision and
  recall count payments, so they do not show the gain; the cost of the errors does. Here
  it is lowest with these weights, and highest with balanced classes.

Prints a table and writes ``imbalanced.png`` beside this file. Runs in seconds::

    python examples/plot_imbalanced.py
"""

# %%
# Payments with 10 features and their amount. A missed fraud costs the amount, a false
# alarm costs 20.
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification
from sklearn.metrics import PrecisionRecallDisplay, precision_score, recall_score
from sklearn.model_selection import train_test_split

from skbgd import BGDClassifier

FALSE_ALARM = 20.0
NETWORK = {
    "hidden_layer_sizes": (16,),
    "activation": "logistic",
    "batch_size": 64,
    "learning_rate": 2.0,
    "learning_rate_schedule": "cosine",
    "max_iter": 100,
    "random_state": 0,
}
X, fraud = make_classification(
    30_000,
    10,
    n_informative=6,
    n_clusters_per_class=2,
    weights=[0.98],
    flip_y=0.005,
    class_sep=1.0,
    random_state=0,
)
amount = np.random.default_rng(0).lognormal(mean=4, sigma=1.5, size=len(X))
X = np.column_stack([X, np.log(amount)])
X_train, X_test, y_train, y_test, amount_train, amount_test = train_test_split(
    X, fraud, amount, test_size=0.5, stratify=fraud, random_state=0
)
cost_train = np.where(y_train == 1, amount_train, FALSE_ALARM)
cost_test = np.where(y_test == 1, amount_test, FALSE_ALARM)


# %%
# The same network three times. Only the weights differ.
def train(class_weight=None, sample_weight=None):
    clf = BGDClassifier(class_weight=class_weight, **NETWORK)
    return clf.fit(X_train, y_train, sample_weight)


models = {
    "no weights": train(),
    'class_weight="balanced"': train(class_weight="balanced"),
    "sample_weight=cost": train(sample_weight=cost_train),
}

# %%
# The decisions on new payments: an alarm where the probability of fraud is above 1/2.
print(f"{y_test.sum()} frauds in {len(y_test)} new payments")
row = "{:<25} {:>9} {:>7} {:>7} {:>16}"
print(row.format("", "precision", "recall", "alarms", "cost of errors"))
summary = {}
for name, model in models.items():
    alarm = model.predict(X_test)
    summary[name] = {
        "precision": precision_score(y_test, alarm),
        "recall": recall_score(y_test, alarm),
        "cost": cost_test[alarm != y_test].sum(),
    }
    s = summary[name]
    print(
        row.format(
            name,
            f"{s['precision']:.3f}",
            f"{s['recall']:.3f}",
            alarm.sum(),
            f"{s['cost']:,.0f}",
        )
    )
plain, balanced, by_cost = summary.values()
assert balanced["recall"] > plain["recall"]
assert by_cost["cost"] < min(plain["cost"], balanced["cost"])

# %%
# Precision against recall for every threshold; the dots are at the threshold 1/2.
figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=(3, 2)
)
for color, (name, model) in zip(
    ("#0072B2", "#E69F00", "#009E73"), models.items(), strict=True
):
    PrecisionRecallDisplay.from_estimator(model, X_test, y_test, name=name, ax=left)
    left.lines[-1].set(color=color, label=name)
    left.plot(
        summary[name]["recall"],
        summary[name]["precision"],
        "o",
        color=color,
        markersize=9,
        markeredgecolor="black",
    )
    bars = right.barh(name, summary[name]["cost"] / 1e3, color=color)
    right.bar_label(bars, fmt="%.1f", padding=3)
left.plot([], [], "o", color="0.6", markeredgecolor="black", label="threshold 1/2")
left.set(
    title="Balanced classes: more frauds found, more false alarms",
    xlabel="Recall: part of the frauds that are found",
    ylabel="Precision: part of the alarms that are right",
    aspect="auto",
)
left.legend(loc="lower left")
left.grid(alpha=0.3)
right.invert_yaxis()
right.margins(x=0.15)
right.set(xlabel="Cost of the errors (thousands)", title="Weights by cost save most")
if "__file__" in globals():  # a notebook shows the figure
    path = Path(__file__).with_name("imbalanced.png")
    figure.savefig(path, dpi=100)
    print(f"Picture: {path}")
