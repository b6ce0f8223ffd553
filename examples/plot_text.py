"""
Text: a network on a million sparse features
============================================

Which subpackage of SciPy or scikit-learn does a piece of documentation come from? The
texts are the docstrings of the installed packages, so nothing is downloaded.
HashingVectorizer turns each into 2^20 features, about two dozen of which are not zero.

`BGDClassifier` takes sparse rows as they are: the cost of a step depends on the
elements that are not zero, not on the million features. It is compared with
SGDClassifier, which is made for such data, but has neither hidden layers nor a softmax.

Prints a table and writes ``text.png`` beside this file. Runs in seconds::

    python examples/plot_text.py
"""

# %%
# A sample is a paragraph of a docstring, and its class is the subpackage it is from.
import re
import time
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import scipy
import sklearn
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skbgd import BGDClassifier

texts, labels = [], []
for package in (scipy, sklearn):
    root = Path(package.__file__).parent
    for path in sorted(root.glob("*/**/*.py")):
        subpackage = path.relative_to(root).parts[0]
        if "tests" in path.parts or subpackage.startswith("_"):
            continue
        source = path.read_text(encoding="utf-8")
        for docstring in re.findall(
            r'^ *r?"""(.*?)"""', source, re.DOTALL | re.MULTILINE
        ):
            for paragraph in docstring.split("\n\n"):
                if len(paragraph) > 80:
                    texts.append(paragraph)
                    labels.append(f"{root.name}.{subpackage}")

common = {label for label, count in Counter(labels).items() if count >= 400}
texts, labels = zip(
    *[(t, label) for t, label in zip(texts, labels, strict=True) if label in common],
    strict=True,
)
train, test, y, y_test = train_test_split(
    texts, labels, test_size=0.25, stratify=labels, random_state=0
)
print(f"{len(texts)} paragraphs from {len(common)} subpackages")

# %%
# Three classifiers on the same features. The time is that of `fit`, without the
# hashing. The rows have length 1 and most features are rare, so the steps may be large.
NETWORK = {
    "output_activation": "softmax",
    "learning_rate_schedule": "cosine",
    "alpha": 1e-6,
    "max_iter": 20,
    "random_state": 0,
}
classifiers = {
    "SGDClassifier": SGDClassifier(loss="log_loss", alpha=1e-6, random_state=0),
    "BGDClassifier, no hidden layer": BGDClassifier(
        (), batch_size=16, learning_rate=50.0, **NETWORK
    ),
    "BGDClassifier, 64 hidden units": BGDClassifier(
        (64,), activation="tanh", batch_size=4, learning_rate=0.2, **NETWORK
    ),
}
X = HashingVectorizer(dtype=np.float32).transform(train)
print(f"{X.shape[1]} features, {X.nnz / X.shape[0]:.0f} of them in a paragraph\n")
print(f"{'':32}accuracy   log-loss   seconds")
scores = {}
for name, clf in classifiers.items():
    start = time.perf_counter()
    clf.fit(X, y)
    seconds = time.perf_counter() - start
    # In use, both steps are one estimator.
    pipeline = make_pipeline(HashingVectorizer(dtype=np.float32), clf)
    P = pipeline.predict_proba(test)
    accuracy = np.mean(clf.classes_[P.argmax(axis=1)] == np.array(y_test))
    scores[name] = accuracy, log_loss(y_test, P, labels=clf.classes_), seconds
    print(f"{name:32}{accuracy:8.3f}   {scores[name][1]:8.3f}   {seconds:7.1f}")

# %%
# The accuracy of all three is the same. A softmax gives better probabilities, that is a
# lower log-loss, than one classifier per class. A hidden layer adds nothing to a bag of
# words.
fig, ax = plt.subplots(figsize=(9, 3), layout="constrained")
bars = ax.barh(
    list(scores),
    [loss for _, loss, _ in scores.values()],
    color=["0.6", "#0072B2", "#56B4E9"],
)
ax.bar_label(
    bars,
    [f"accuracy {accuracy:.1%}, {s:.1f} s" for accuracy, _, s in scores.values()],
    padding=4,
)
ax.invert_yaxis()
ax.margins(x=0.45)
ax.set(
    xlabel="Log-loss on new paragraphs",
    title="A softmax gives the best probabilities in the least time",
)
if "__file__" in globals():  # a notebook shows the figure
    path = Path(__file__).with_name("text.png")
    fig.savefig(path, dpi=110)
    print(f"Picture: {path}")
