"""Let each allocation of Python fail once, in calls of the core and the estimator.

    python tests/memory_errors.py [step]

It prints the exceptions that were raised. It exits with 1 if the compiled core raised
anything but a MemoryError, or if a failed call changed the estimator. In `fit` only
every `step`-th allocation fails: the suite uses 100, and 1 takes half a minute. Other
errors than a MemoryError come from NumPy and Python themselves. Needs `_testcapi`.
"""

import pickle
import sys
import traceback
from collections import Counter
from copy import deepcopy

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


def calls_of_the_core():
    network, n = Network((4, 3, 2), "logistic", "logistic"), 6
    theta, Y = np.ones(network.n_parameters), np.ones((n, 1), np.intc)
    velocity, second_moment, gradient = (np.zeros_like(theta) for _ in range(3))
    order, Z, norms = np.arange(n), np.empty((n, 2)), np.empty(n)
    rule = UpdateRule(0.1, solver="adam")

    def trainer(**arrays):
        moments = {"velocity": velocity, "second_moment": second_moment}
        given = network.layout, theta, X[:n], Y, np.ones(n)
        return backprop.Trainer(*given, **moments, **arrays)

    calls = {
        "epoch": lambda: trainer(order=order, batch_size=2).epoch(rule, 0),
        "loss_gradient": lambda: trainer().loss_gradient(gradient),
        "step": lambda: trainer().step(rule, 0, gradient),
        "outputs": lambda: trainer().outputs(Z, True),
        "threads": lambda: trainer(n_threads=2),
        "squared_row_norms": lambda: backprop.squared_row_norms(X[:n], norms),
        "squared_weight_norms": lambda: backprop.squared_weight_norms(
            network.layout, theta
        ),
        "shuffle": lambda: backprop.shuffle(order, 1),
    }
    for name, call in calls.items():
        yield name, lambda: None, lambda _, call=call: call()


def calls_of_the_estimator():
    for name, settings in SETTINGS.items():
        new = BGDClassifier((3,), max_iter=2, tol=None, random_state=0, **settings)
        model = deepcopy(new).fit(X, y)
        pickled = pickle.dumps(model)

        def fitted(model=model):
            return deepcopy(model)

        yield f"fit ({name})", fitted, lambda clf: clf.fit(X, y)
        if name != "lbfgs":
            yield f"partial_fit ({name})", fitted, lambda clf: clf.partial_fit(X, y)
    yield "predict_proba", fitted, lambda clf: clf.predict_proba(X)
    yield "predict_log_proba", fitted, lambda clf: clf.predict_log_proba(X)
    yield "dumps", fitted, pickle.dumps
    yield "loads", fitted, lambda _, pickled=pickled: pickle.loads(pickled)


def sweep(make, call, step):
    """Count the exceptions; list the failures that changed the estimator."""
    import _testcapi  # not in every Python, and pytest imports this file

    counts, changed = Counter(), []
    number = last = 0
    while number - last < 100 * step:  # the call makes fewer allocations
        clf = make()
        before = pickle.dumps(clf)
        try:
            _testcapi.set_nomemory(number, number + 1)
            try:
                call(clf)
            finally:
                _testcapi.remove_mem_hooks()
        except Exception as error:
            # Some reductions of NumPy fail without an exception of their own.
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            of_numpy = isinstance(error, SystemError) and "numpy" in str(frame)
            counts["NumPy" if of_numpy else type(error).__name__] += 1
            last = number
            if pickle.dumps(clf) != before:
                changed.append(number)
        number += step
    return counts, changed


def main(step=1):
    failed = False
    for calls in (calls_of_the_core, calls_of_the_estimator):
        strict = calls is calls_of_the_core
        if strict and not COMPILED:
            continue
        for name, make, call in calls():
            call(make())
            counts, changed = sweep(make, call, step if name.startswith("fit") else 1)
            print(f"{name}: {dict(counts.most_common())}", flush=True)
            if changed:
                print(f"  FAILED: the estimator has changed, allocations {changed}")
            other = strict and counts.keys() - {"NumPy"} != {"MemoryError"}
            if other:
                print("  FAILED: not a MemoryError")
            failed |= bool(changed) or other
    return failed


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
