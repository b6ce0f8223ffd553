"""
Rare classes and costly rows
============================

One payment in fifty is fraud, and payments are not worth the same. Left alone, a
classifier minimises the mean loss of all rows, and misses most of what is rare.
``class_weight="balanced"`` gives both classes the same total weight: more frauds are
caught for more false alarms, at another point of much the same curve of precision
against recall. `sample_weight` can give each row the weight of its error in money.
Payments are then ranked by the money at stake; precision and recall, which count
payments, do not improve by that, but the bill does: here balanced classes cost more in
false alarms than the frauds they catch.

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
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier

FALSE_ALARM = 20.0
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
# The same network three times over; only the weights differ.
def train(class_weight=None, sample_weight=None):
    clf = BGDClassifier(
        (16,), class_weight=class_weight, max_iter=200, tol=None, random_state=0
    )
    return make_pipeline(StandardScaler(), clf).fit(
        X_train, y_train, bgdclassifier__sample_weight=sample_weight
    )


models = {
    "no weights": train(),
    'class_weight="balanced"': train(class_weight="balanced"),
    "sample_weight=cost": train(sample_weight=cost_train),
}

# %%
# What each does on new payments, where it says "fraud" at a probability of a half.
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
# Precision against recall for every threshold, and where the half is.
figure, (left, right) = plt.subplots(
    1, 2, figsize=(12, 4.8), layout="constrained", width_ratios=(3, 2)
)
for color, (name, model) in zip(
    ("tab:blue", "tab:orange", "tab:green"), models.items(), strict=True
):
    PrecisionRecallDisplay.from_estimator(model, X_test, y_test, name=name, ax=left)
    left.plot(
        summary[name]["recall"],
        summary[name]["precision"],
        "o",
        color=color,
        markersize=9,
        markeredgecolor="black",
    )
    right.barh(name, summary[name]["cost"] / 1e3, color=color)
left.set(
    title="Dots: where the classifier says fraud at a half",
    xlabel="Recall",
    ylabel="Precision",
    aspect="auto",
)
left.legend(loc="upper right")
left.grid(alpha=0.3)
right.invert_yaxis()
right.set(xlabel="Thousands", title="Cost of the errors on new payments")
path = Path(__file__).with_name("imbalanced.png")
figure.savefig(path, dpi=100)
print(f"Picture: {path}")
