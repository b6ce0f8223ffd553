"""Calls that need memory; each allocation of Python fails once in those of the core.

    python tests/memory_errors.py

It prints the exceptions that the compiled core raised, and exits with 1 if one was not
a MemoryError. `.ci/fail_allocations` does the same in calls of the estimator, where
NumPy and Python may crash without memory. Needs `_testcapi`.
"""

import pickle
import sys
from collections import Counter

import numpy as np

from skbgd import BGDClassifier
from skbgd._core import COMPILED, backprop
from skbgd._network import Network
from skbgd._update_rules import UpdateRule

rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 4)), rng.integers(0, 3, size=40)
SETTINGS = {
    "sgd": {"batch_size": 16},
    "adam": {"solver": "adam", "early_stopping": True},
    "lbfgs": {"solver": "lbfgs"},
}
ESTIMATOR_CALLS = {
    "fit": lambda clf: clf.fit(X, y),
    "partial_fit": lambda clf: clf.partial_fit(X, y, classes=range(3)),
    "predict_proba": lambda clf: clf.predict_proba(X),
    "predict_log_proba": lambda clf: clf.predict_log_proba(X),
    "pickle": lambda clf: pickle.loads(pickle.dumps(clf)),
}


def estimator(solver, fitted=True):
    clf = BGDClassifier((3,), max_iter=2, tol=None, random_state=0, **SETTINGS[solver])
    return clf.fit(X, y) if fitted else clf


def calls_of_the_core():
    """Functions without arguments, by name."""
    network, n = Network((4, 3, 2), "logistic", "logistic"), 6
    theta, Y = np.ones(network.n_parameters), np.ones((n, 1), np.intc)
    velocity, second_moment, gradient = (np.zeros_like(theta) for _ in range(3))
    order, Z, norms, weights = np.arange(n), np.empty((n, 2)), np.empty(n), np.ones(n)
    rule = UpdateRule(0.1, solver="adam")

    def trainer(Y=None, **arrays):
        moments = {"velocity": velocity, "second_moment": second_moment}
        given = network.layout, theta, X[:n], Y, weights
        return backprop.Trainer(*given, **moments, **arrays)

    # Checks of Y use NumPy's reductions, which fail in their own ways without memory.
    ordered, unordered = trainer(Y, order=order, batch_size=2), trainer(Y)
    return {
        "Trainer": lambda: trainer(order=order, n_threads=2),
        "epoch": lambda: ordered.epoch(rule, 0),
        "loss_gradient": lambda: unordered.loss_gradient(gradient),
        "step": lambda: unordered.step(rule, 0, gradient),
        "outputs": lambda: unordered.outputs(Z, True),
        "squared_row_norms": lambda: backprop.squared_row_norms(X[:n], norms),
        "squared_weight_norms": lambda: backprop.squared_weight_norms(
            network.layout, theta
        ),
        "shuffle": lambda: backprop.shuffle(order, 1),
    }


def error_without_memory(call, number):
    """The exception of a call in which allocation `number` fails, or None."""
    import _testcapi  # not in every Python, and pytest imports this file

    try:
        _testcapi.set_nomemory(number, number + 1)
        try:
            call()
        finally:
            _testcapi.remove_mem_hooks()
    except Exception as error:
        return error


def main():
    failed = False
    for name, call in calls_of_the_core().items() if COMPILED else ():
        call()
        counts, number, last = Counter(), 0, 0
        while number - last < 100:  # the call makes fewer allocations
            error = error_without_memory(call, number)
            if error is not None:
                counts[type(error).__name__] += 1
                last = number
            number += 1
        print(f"{name}: {dict(counts.most_common())}", flush=True)
        if counts.keys() != {"MemoryError"}:
            print("  FAILED: not a MemoryError")
            failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
