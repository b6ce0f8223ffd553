"""
How the default hyper-parameters were chosen
============================================

Compares settings of BGDClassifier with MLPClassifier's defaults on the data sets that
scikit-learn bundles and a few made ones: a StandardScaler in front, mean accuracy and
log-loss over five shuffled folds, and the time of a fit relative to MLPClassifier's.
They take turns on each fold, on one core. Prints a Markdown table, in half a minute, or
in three with the candidates that were not chosen::

    python examples/study_defaults.py --candidates > examples/study_defaults.md
    python examples/study_defaults.py
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_circles,
    make_classification,
    make_moons,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skbgd import BGDClassifier

DATASETS = {
    "digits": load_digits(return_X_y=True),
    "breast cancer": load_breast_cancer(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "iris": load_iris(return_X_y=True),
    "moons": make_moons(1000, noise=0.2, random_state=0),
    "circles": make_circles(1000, noise=0.1, factor=0.5, random_state=0),
    "classification": make_classification(2000, 20, n_informative=10, random_state=0),
}
CANDIDATES = [
    {"learning_rate": 0.1},
    {"learning_rate": 0.3},
    {"learning_rate": 1.0},
    {"learning_rate": 2.0},
    {"alpha": 0.0},
    {"alpha": 1e-3},
    {"max_iter": 200},
    {"max_iter": 1000},
    {"n_iter_no_change": 10},
    {"n_iter_no_change": 25},
    {"tol": 1e-3},
    {"momentum": 0.9, "nesterov": True},
    {"solver": "adam"},
    {"solver": "adam", "learning_rate": 0.001},
    {"batch_size": 32, "max_iter": 100},
    {"batch_size": 1, "max_iter": 50},
    {"batch_size": 1, "max_iter": 50, "learning_rate": 1.0},
]


def evaluate(make_estimators, X, y):
    """Mean accuracy, log-loss, seconds and epochs of each estimator, folds in turn."""
    results = []
    folds = StratifiedKFold(5, shuffle=True, random_state=0).split(X, y)
    for seed, (train, test) in enumerate(folds):
        scaler = StandardScaler().fit(X[train])
        X_train, X_test = scaler.transform(X[train]), scaler.transform(X[test])
        for make in make_estimators:
            start = time.perf_counter()
            clf = make(random_state=seed).fit(X_train, y[train])
            seconds = time.perf_counter() - start
            P = clf.predict_proba(X_test)
            accuracy = accuracy_score(y[test], clf.classes_[P.argmax(axis=1)])
            results.append((accuracy, log_loss(y[test], P), seconds, clf.n_iter_))
    return np.reshape(results, (5, len(make_estimators), 4)).mean(axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument(
        "--candidates", action="store_true", help="the rejected ones too"
    )
    settings = [{}] + (CANDIDATES if parser.parse_args().candidates else [])
    warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter is one of the knobs

    def maker(params):
        return lambda random_state: BGDClassifier(**params, random_state=random_state)

    makers = [lambda random_state: MLPClassifier(random_state=random_state)]
    makers += [maker(params) for params in settings]
    with threadpool_limits(1):
        results = [evaluate(makers, X, y) for X, y in DATASETS.values()]
    results = np.transpose(results, (1, 0, 2))

    print(
        "Each cell: accuracy, log-loss, epochs, and how many times as fast as "
        "MLPClassifier's\nthe fit was. The last two columns: points of accuracy gained "
        "on MLPClassifier(), at\nworst and on average over the data sets.\n"
    )
    print("| setting | " + " | ".join(DATASETS) + " | worst | mean |")
    print("|---|" + "---|" * (len(DATASETS) + 2))
    names = ["MLPClassifier()"] + [
        "**BGDClassifier()**" if not p else ", ".join(f"{k}={v}" for k, v in p.items())
        for p in settings
    ]
    reference = results[0]
    for name, result in zip(names, results, strict=True):
        cells = [
            f"{accuracy:.3f}, {loss:.3f}, {epochs:.0f}, {base / seconds:.1f}x"
            for (accuracy, loss, seconds, epochs), base in zip(
                result, reference[:, 2], strict=True
            )
        ]
        gain = 100 * (result[:, 0] - reference[:, 0])
        print(
            f"| {name} | {' | '.join(cells)} | {gain.min():+.1f} | {gain.mean():+.1f} |"
        )


if __name__ == "__main__":
    main()
