"""
Text: a network on a million sparse features
============================================

Which part of SciPy or scikit-learn does a piece of documentation come from? The texts
are the docstrings in the installed packages, so nothing is downloaded.
HashingVectorizer makes them rows of 2^20 features, of which each text has two dozen.

BGDClassifier takes such rows as they are: the cost of a step depends on the elements
of its rows, not on the million features. It is compared with SGDClassifier, which is
made for such data, but has neither hidden layers nor a softmax.
"""

# %%
# The texts
# ---------
# One row is a paragraph of a docstring, its class the subpackage in which it stands.

import ast
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

from skbgd import BGDClassifier, LossCurveDisplay

texts, labels = [], []
for package in (scipy, sklearn):
    root = Path(package.__file__).parent
    for path in sorted(root.glob("*/**/*.py")):
        if "tests" in path.parts or path.relative_to(root).parts[0].startswith("_"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                    if len(paragraph) > 80:
                        texts.append(paragraph)
                        labels.append(f"{root.name}.{path.relative_to(root).parts[0]}")

common = {label for label, count in Counter(labels).items() if count >= 200}
texts, labels = zip(
    *[(t, label) for t, label in zip(texts, labels, strict=True) if label in common],
    strict=True,
)
train, test, y, y_test = train_test_split(
    texts, labels, test_size=0.25, stratify=labels, random_state=0
)
print(f"{len(texts)} paragraphs from {len(common)} subpackages")

# %%
# Three classifiers
# -----------------
# The same features for each. The time is that of fit alone, without the hashing. The
# rows have length 1 and most features are rare: that is why step sizes are so large. A
# hidden layer has little to add to a bag of words.

classifiers = {
    "SGDClassifier": SGDClassifier(loss="log_loss", alpha=1e-6, random_state=0),
    "one layer, softmax": BGDClassifier(
        (),
        output_activation="softmax",
        batch_size=16,
        learning_rate=50.0,
        learning_rate_schedule="cosine",
        alpha=1e-6,
        max_iter=20,
        tol=None,
        random_state=0,
    ),
    "64 hidden units, softmax": BGDClassifier(
        (64,),
        activation="tanh",
        output_activation="softmax",
        batch_size=4,
        learning_rate=0.2,
        learning_rate_schedule="cosine",
        alpha=1e-6,
        max_iter=20,
        tol=None,
        random_state=0,
    ),
}
X = HashingVectorizer(dtype=np.float32).transform(train)
print(f"{X.shape[1]} features, {X.nnz / X.shape[0]:.0f} of them in a paragraph\n")
print(f"{'':26}accuracy   log-loss   seconds")
scores = {}
for name, clf in classifiers.items():
    start = time.perf_counter()
    clf.fit(X, y)
    seconds = time.perf_counter() - start
    # In use, both steps are one estimator.
    pipeline = make_pipeline(HashingVectorizer(dtype=np.float32), clf)
    P = pipeline.predict_proba(test)
    accuracy = np.mean(clf.classes_[P.argmax(axis=1)] == np.array(y_test))
    scores[name] = accuracy, log_loss(y_test, P, labels=clf.classes_)
    print(f"{name:26}{accuracy:8.3f}   {scores[name][1]:8.3f}   {seconds:7.1f}")

# %%
# The picture
# -----------

fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
ours = {name: clf for name, clf in classifiers.items() if name != "SGDClassifier"}
LossCurveDisplay.from_estimators(ours, x="seconds", log_scale="y", ax=left)
left.set_title("Training")
positions = np.arange(len(scores))
right.barh(positions, [loss for _, loss in scores.values()], color=["0.6", "C0", "C1"])
right.set_yticks(positions, scores)
for position, (accuracy, _) in zip(positions, scores.values(), strict=True):
    right.text(0.03, position, f"accuracy {accuracy:.3f}", va="center", color="white")
right.invert_yaxis()
right.set(xlabel="Log-loss on new paragraphs", title="New paragraphs")
fig.savefig(Path(__file__).with_name("text.png"), dpi=120)
