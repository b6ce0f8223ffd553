"""Random parameters on random data give an error, or a model that is consistent.

The suite runs 400 cases. More run by

    python tests/test_fuzz.py 20000 [first]

which prints the frequency of each outcome, and the numbers of the cases that failed.
``check(number)`` repeats a case.
"""

import os
import pickle
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter

import numpy as np
import pandas
import pytest
from core_helpers import eager_threads, numpy_core
from helpers import parameters
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from skbgd import BGDClassifier
from skbgd._update_rules import SCHEDULES, SOLVERS

CASES, CASES_PER_TEST = 400, 20
DTYPES = [*4 * ["f8"], *2 * ["f4"], "f2", "g", "i1", "u1", "i8", "?", "O", ">f8",
          "c16", "U9"]  # fmt: skip
CONTAINERS = [
    *4 * ["array"], "fortran", "strided", "reversed", "unaligned", "read-only",
    "memmap", "list", "frame", *2 * ["csr_array"], "csc_array", "coo_array",
    "dok_array", "lil_array", "bsr_array", "dia_array", "csr_matrix", "coo_matrix",
    "unsorted", "duplicates", "64-bit",
]  # fmt: skip
VALUES = [*9 * ["normal"], *4 * ["many zeros"], *2 * ["constant"], "zero", "huge",
          "tiny", "subnormal", "mixed", "nan", "inf"]  # fmt: skip
TARGETS = [*9 * ["int"], "negative", "str", "bool", "float", "object", "column", "list",
           "series", "categorical", *3 * ["multilabel"]]  # fmt: skip
WRONG_TARGETS = ["one class", "short", "fraction", "nan", "none", "cube", "mixed",
                 "number"]  # fmt: skip
WEIGHTS = [*9 * ["no"], *4 * ["random"], "ints", "some zero", "one row", "huge", "tiny",
           "subnormal", "list"]  # fmt: skip
WRONG_WEIGHTS = ["all zero", "negative", "nan", "short", "text"]
SETTINGS = {
    "hidden_layer_sizes": [(), (), (1,), (4,), 3, (5, 4), [2], (3, 2, 3)],
    "activation": ["logistic", "logistic", "tanh", "relu", "identity"],
    "output_activation": ["auto", "logistic", "softmax"],
    "batch_size": ["auto", "auto", "full", 1, 2, 7, 10**6],
    "learning_rate": ["auto", "auto", 1e-300, 1e-3, 0.5, 100.0],
    "learning_rate_schedule": ["auto", *SCHEDULES, lambda epoch: 1 / (1 + epoch)],
    "power_t": [0.5, 0.0, 50.0],
    "solver": [*3 * ["sgd"], *SOLVERS],
    "momentum": [0.0, 0.0, 0.9, 0.999],
    "nesterov": [False, True],
    "beta_1": [0.9, 0.0],
    "beta_2": [0.999, 0.0],
    "epsilon": [1e-8, 1e-300, 1.0],
    "max_gradient_norm": [None, None, 1e-3, 1e300],
    "alpha": ["auto", "auto", 0.0, 1e-300, 0.1, 1e6],
    "max_iter": [1, 2, 3, 3, 3, "auto"],
    "tol": ["auto", 1e-4, None, 0.0, 1e300],
    "n_iter_no_change": ["auto", 1, 3],
    "shuffle": [True, True, False],
    "early_stopping": [*5 * [False], True],
    "validation_fraction": [0.1, 0.5, 1e-9, 0.999],
    "scoring": [*9 * [None], "accuracy", lambda clf, X, y, **_: clf.score(X, y)],
    "class_weight": [*9 * [None], *3 * ["balanced"], {0: 2.0, 1: 0.0}, {"a": 1.0}],
    "warm_start": [False, False, True],
    "n_jobs": [None, 1, 2, -1],
    "standardize": [True, True, False],
}
# Each is invalid for some parameter.
WRONG = [
    None,
    -1,
    0,
    1.5,
    np.nan,
    np.inf,
    "all",
    (),
    [1, "a"],
    True,
    10**30,
    np.array(3),
]


def draw(number, n=(1, 2, 3, 7, 12, 30, 30, 60, 60), d=(1, 1, 2, 5, 9)):
    """The settings, X, y and weights of a case; n and d are the possible sizes."""
    rng = np.random.default_rng(number)

    def pick(options):
        return options[rng.integers(len(options))]

    settings = {name: pick(options) for name, options in SETTINGS.items()}
    settings["random_state"] = int(rng.integers(1000))
    if rng.random() < 0.1:
        settings[pick([*SETTINGS])] = pick(WRONG)
    n, d = pick(n), pick(d)
    X = contained(values(pick(VALUES), n, d, rng), pick(DTYPES), pick(CONTAINERS), rng)
    y = pick(WRONG_TARGETS if rng.random() < 0.1 else TARGETS)
    w = pick(WRONG_WEIGHTS if rng.random() < 0.05 else WEIGHTS)
    return settings, X, targets(y, n, rng), weights(w, n, rng)


def values(kind, n, d, rng):
    X = rng.normal(size=(n, d))
    if kind == "many zeros":
        X[rng.random((n, d)) < 0.7] = 0
    elif kind == "constant":
        X[:, rng.integers(d)] = rng.choice([0.0, 1.0, 1e9])
    elif kind == "nan" or kind == "inf":
        X[rng.integers(n), rng.integers(d)] = float(kind)
    elif kind == "mixed":
        X *= 10.0 ** rng.integers(-12, 12, size=d)
    X *= {"zero": 0.0, "huge": 10.0 ** rng.integers(10, 307), "subnormal": 1e-310,
          "tiny": 10.0 ** -rng.integers(10, 300)}.get(kind, 1.0)  # fmt: skip
    return X


def contained(X, dtype, container, rng):
    """X in another type and container, or unchanged if they do not fit."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if np.dtype(dtype).kind in "iu":
            X = 3 * np.nan_to_num(X)
        X = X.astype(dtype)
    n, d = X.shape
    if container == "fortran":
        return np.asfortranarray(X)
    if container == "strided":
        return np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    if container == "reversed":
        return X[::-1, ::-1]
    if container == "unaligned" and dtype != "O":
        room = np.empty(X.nbytes + 1, np.uint8)
        room[1:] = np.frombuffer(X.tobytes(), np.uint8)
        return np.frombuffer(room.data, X.dtype, X.size, offset=1).reshape(n, d)
    if container == "read-only":
        X.setflags(write=False)
    elif container == "memmap" and dtype != "O":
        with tempfile.NamedTemporaryFile() as file:
            X.tofile(file.name)
            return np.memmap(file.name, X.dtype, "r", shape=(n, d))
    elif container == "list":
        return X.tolist()
    elif container == "frame":
        return pandas.DataFrame(X, columns=[f"x{j}" for j in range(d)])
    elif X.dtype.char in "fdg?bBq" and X.dtype.isnative and container != "array":
        if "_" in container:
            return getattr(sparse, container)(X)
        X = sparse.csr_array(X)
        if container == "64-bit":
            X.indices, X.indptr = X.indices.astype("i8"), X.indptr.astype("i8")
        elif container == "unsorted":
            for first, last in zip(X.indptr[:-1], X.indptr[1:], strict=True):
                X.indices[first:last] = X.indices[first:last][::-1].copy()
                X.data[first:last] = X.data[first:last][::-1].copy()
            X.has_sorted_indices = False
        elif container == "duplicates":
            members = np.repeat(X.data, 2), np.repeat(X.indices, 2), 2 * X.indptr
            X = sparse.csr_array(members, shape=(n, d))
    return X


def targets(kind, n, rng):
    n_classes = rng.integers(2, 5)
    y = rng.permutation(np.arange(n) % n_classes)
    some = rng.integers(n)
    if kind == "negative":
        return y - 2
    if kind in ("str", "object", "categorical", "mixed"):
        y = np.array(["a", "b", "label", "ä"])[y]
        if kind == "categorical":
            return pandas.Series(pandas.Categorical(y))
        if kind != "str":
            y = y.astype(object)
        if kind == "mixed":
            y[some] = 3
        return y
    if kind == "bool":
        return y > 0
    if kind in ("float", "fraction", "nan"):
        y = y.astype(rng.choice(["f2", "f4", "f8"]))
        if kind != "float":
            y[some] = {"fraction": 0.5, "nan": np.nan}[kind]
        return y
    if kind == "column":
        return y[:, np.newaxis]
    if kind == "list":
        return y.tolist()
    if kind == "series":
        return pandas.Series(y, index=np.arange(n)[::-1])
    if kind == "multilabel":
        Y = rng.integers(2, size=(n, 3))
        return [Y, sparse.csr_array(Y), Y.astype(bool), Y.astype(float)][some % 4]
    if kind == "one class":
        return np.ones(n, int)
    if kind == "short":
        return y[:-1]
    if kind == "none":
        return None
    if kind == "cube":
        return np.zeros((n, 2, 2), int)
    return 1 if kind == "number" else y


def weights(kind, n, rng):
    w = rng.uniform(0.1, 2, size=n)
    if kind == "no":
        return None
    if kind == "ints":
        return rng.integers(4, size=n)
    if kind == "some zero":
        w[rng.random(n) < 0.5] = 0
    elif kind in ("negative", "nan"):
        w[rng.integers(n)] = {"negative": -1, "nan": np.nan}[kind]
    elif kind == "one row":
        w[1:] = 0
    elif kind == "list":
        return w.tolist()
    elif kind == "short":
        return w[:-1]
    elif kind == "text":
        return ["heavy"] * n
    scale = {"huge": 5e307, "tiny": 1e-300, "subnormal": 1e-310, "all zero": 0}
    return w * scale.get(kind, 1)


# What must hold ----------------------------------------------------------------------


def plain(value):
    """A value that is pickled to equal bytes if it is equal."""
    if not isinstance(value, np.ndarray):
        return value
    numbers = value.tolist() if value.dtype.hasobject else value.tobytes()
    return value.dtype.str, value.shape, numbers


def content(data):
    """Bytes that change if the data do."""
    if sparse.issparse(data):
        # Without SciPy's flags of whether the indices are sorted, and without the
        # identity of dtypes.
        data = [
            (name, plain(value))
            for name, value in sorted(vars(data).items())
            if isinstance(value, np.ndarray | dict)
        ]
    return pickle.dumps(data)


def snapshot(clf):
    """Parameters and attributes of an estimator, by value."""
    state = vars(clf).copy()
    state = {name: value for name, value in state.items() if name != "_network"}
    if "_state" in state:
        state["_state"] = state["_state"].to_dict()
    return repr(clf.get_params()), [
        (name, content(value)) for name, value in state.items() if not callable(value)
    ]


def fit(clf, X, y, w, X_val=None, y_val=None, w_val=None):
    """Fit, check the warnings and that the data are unchanged, and return an error."""
    before = content([content(X), content(y), w])
    validation = {"X_val": X_val, "y_val": y_val, "sample_weight_val": w_val}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            clf.fit(X, y, w, **validation)
            error = None
        except (ValueError, TypeError, MemoryError) as raised:
            error = raised
    for warning in seen:
        allowed = ConvergenceWarning, DataConversionWarning
        # scikit-learn sums up inf and -inf before it refuses them.
        refused = error is not None and "invalid value encountered in" in str(warning)
        assert issubclass(warning.category, allowed) or refused, str(warning.message)
    assert content([content(X), content(y), w]) == before, "the data were changed"
    return error


def check(number):
    """Run a case and return its outcome; an AssertionError if anything is wrong."""
    settings, *data = draw(number)
    if number % 8 == 0:
        data += data  # validation rows
    clf = BGDClassifier(**settings)
    error = fit(clf, *data)
    if error is not None:
        check_error(error, clf, settings, data)
        first_line = str(error).splitlines()[0]
        return type(error).__name__ + ": " + re.sub("[-+.0-9e]*[0-9]", "#", first_line)
    check_predictions(clf, data[0])
    again = clone(clf)
    assert fit(again, *data) is None
    np.testing.assert_array_equal(parameters(again), parameters(clf))
    assert again.loss_curve_ == clf.loss_curve_
    return compare(clf, *data[:3])


def check_error(error, clf, settings, data):
    """It changes neither a new nor a fitted estimator."""
    assert str(error)
    assert vars(clf).keys() == settings.keys() | {"verbose"}
    fitted = BGDClassifier(max_iter=1, learning_rate=0.1, tol=None)
    fitted.fit([[0.0], [1.0]], [0, 1]).set_params(**settings)
    if fitted.warm_start is True:
        fitted.warm_start = False
    before = snapshot(fitted)
    assert type(fit(fitted, *data)) is type(error)
    assert snapshot(fitted) == before, "an error changed the estimator"


def check_predictions(clf, X):
    """Probabilities are finite, between 0 and 1, and those of classes sum to 1."""
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    multilabel = not isinstance(clf.classes_, np.ndarray) or clf.predict(X).ndim == 2
    P = clf.predict_proba(X)
    assert np.isfinite(P).all()
    assert (P >= 0).all()
    assert (P <= 1).all()
    if not multilabel:
        assert P.shape == (n, len(clf.classes_))
        np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
        assert np.isin(clf.predict(X), clf.classes_).all()
    assert not np.isnan(clf.predict_log_proba(X)).any()


def is_extreme(dense, squared_norm):
    """Whether rows of this mean squared norm make rounding visible in the results."""
    return dense.any() and not 1e-30 < squared_norm < 1e4


def compare(clf, X, y, w):
    """Threads, containers and cores change results by rounding, after small steps."""
    dtype = clf.coefs_[0].dtype
    dense = X.toarray() if sparse.issparse(X) else np.asarray(X)
    dense = np.ascontiguousarray(dense.astype(dtype))
    with np.errstate(over="ignore"):
        squared_norm = np.square(dense.astype(float)).sum(axis=1).mean()
    if clf.solver == "lbfgs" or is_extreme(dense, squared_norm):
        return "fitted"
    gentle = clone(clf).set_params(
        learning_rate=1e-3 / (1 + squared_norm),
        learning_rate_schedule="constant",
        alpha=min(clf.alpha_, 0.1),
        epsilon=0.1,
        max_iter=3,
        tol=None,
        early_stopping=False,
        n_jobs=1,
    )

    def fitted(rows, **settings):
        result = clone(gentle).set_params(**settings)
        error = fit(result, rows, y, w)
        assert error is None, error
        return result, result.predict_proba(rows)

    csr = sparse.csr_array(dense)
    expected, plain = fitted(dense), fitted(dense, standardize=False)
    others = {
        "container": (fitted(X), plain if sparse.issparse(X) else expected),
        "csr": (fitted(csr), plain),
        "predictions": ((expected[0], expected[0].predict_proba(csr)), expected),
    }
    with eager_threads():
        others["threads"] = fitted(dense, n_jobs=2), expected
    with numpy_core():
        others["numpy"] = fitted(dense), expected
        others["numpy, csr"] = fitted(csr), plain
    tolerance = {"f": 1e-4, "d": 1e-9}[dtype.char]
    for name, ((ours, our_P), (theirs, their_P)) in others.items():
        for a, b in ((our_P, their_P), (parameters(ours), parameters(theirs))):
            np.testing.assert_allclose(
                a, b, rtol=tolerance, atol=tolerance, err_msg=name
            )
    return "fitted, and compared"


@pytest.mark.parametrize("first", range(0, CASES, CASES_PER_TEST))
def test_random_cases(first):
    """A failure names the number of its case."""
    for number in range(first, first + CASES_PER_TEST):
        try:
            check(number)
        except Exception as error:
            error.add_note(f"In case {number}.")
            raise


def main(n, first=0):
    start, outcomes, failed = time.perf_counter(), Counter(), []
    for number in range(first, first + n):
        try:
            outcomes[check(number)] += 1
        except Exception:
            failed.append(number)
            print(f"-- case {number}")
            traceback.print_exc(limit=-3, file=sys.stdout)
        if (number + 1 - first) % 1000 == 0:
            print(f"{number + 1 - first} cases, {len(failed)} failed", flush=True)
    for outcome, count in outcomes.most_common():
        print(f"{count:6d} {outcome[:150]!r}")
    seconds = time.perf_counter() - start
    print(f"{n} cases in {seconds:.0f} s, {len(failed)} failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("SCIPY_ARRAY_API", "1")
    sys.exit(main(*map(int, sys.argv[1:])))
