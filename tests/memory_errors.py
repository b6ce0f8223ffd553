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
    vectors = [theta, *(np.zeros_like(theta) for _ in range(3))]
    parameters = backprop.Model(network.layout, *vectors)
    order, Z = np.arange(n), np.empty((n, 2))
    rows = backprop.Data(X[:n], Y, np.ones(n), order)
    work = backprop.Workspace(network.layout, theta.dtype, 4, gathered=True)
    rule = UpdateRule(0.1, solver="adam")
    arguments = {
        "run_batches": (parameters, 0, rows, 2, rule, work),
        "loss_gradient": (parameters, rows, work),
        "apply_gradient": (parameters, 0, rule),
        "outputs": (parameters, backprop.Data(X[:n]), Z, True, True, work),
        "squared_row_norms": (rows, np.empty(n)),
        "squared_weight_norms": (network.layout, theta),
        "shuffle": (order, 1),
        "NativeThreadPool": (2,),
    }

    def call(name):
        work.prepared_call = None  # check and allocate again
        getattr(backprop, name)(*arguments[name])

    return {name: lambda name=name: call(name) for name in arguments}


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
