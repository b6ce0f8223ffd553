"""Saved models: plain values and arrays, the public class, a number for the format."""

import io
import pickle
import warnings
from copy import copy, deepcopy
from pathlib import Path

import numpy as np
import pytest
from helpers import small
from joblib import dump, load
from sklearn.datasets import load_iris
from sklearn.exceptions import InconsistentVersionWarning

from skbgd import BGDClassifier, _saving

X, y = load_iris(return_X_y=True)
SAVED = Path(__file__).parent / "model_format_1.pickle"


def fitted(**params):
    """A classifier of iris after 5 epochs."""
    return small(**{"learning_rate": 0.02, "max_iter": 5, **params}).fit(X, y)


def names_in(pickled):
    """The modules and names that a pickle imports."""
    names = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            names.add((module, name))
            return super().find_class(module, name)

    Recorder(io.BytesIO(pickled)).load()
    return names


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "adam", "warm_start": True},
        {"early_stopping": True, "scoring": "accuracy"},
    ],
    ids=["plain", "adam", "early stopping"],
)
def test_a_pickle_names_no_private_module(params):
    """It consists of arrays and the public class: private names may change."""
    names = names_in(pickle.dumps(fitted(**params)))
    ours = {name for name in names if name[0].startswith("skbgd")}
    assert ours == {("skbgd", "BGDClassifier")}
    assert all(module.split(".")[0] in ("skbgd", "numpy") for module, _ in names)


@pytest.mark.parametrize("copied", [copy, deepcopy, "pickle", "joblib"])
def test_a_copy_predicts_and_resumes_equally(copied, tmp_path):
    """The original does not change with the copy."""
    clf = fitted(solver="adam", warm_start=True)
    if copied == "pickle":
        other = pickle.loads(pickle.dumps(clf))
    elif copied == "joblib":
        dump(clf, tmp_path / "model")
        other = load(tmp_path / "model")
    else:
        other = copied(clf)
    P = clf.predict_proba(X)
    np.testing.assert_array_equal(other.predict_proba(X), P)
    assert other.get_params() == clf.get_params()
    assert other.loss_curve_ == clf.loss_curve_
    other.set_params(max_iter=9).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), P)
    clf.set_params(max_iter=9).fit(X, y)
    np.testing.assert_array_equal(other.predict_proba(X), clf.predict_proba(X))


def moved(clf, offset, writable):
    """The model from a pickle whose arrays are `offset` bytes off alignment to 64.

    Out-of-band buffers of protocol 5, as from a message or from shared memory.
    """
    buffers = []
    pickled = pickle.dumps(clf, protocol=5, buffer_callback=buffers.append)
    assert buffers

    def move(buffer):
        raw = np.frombuffer(buffer.raw(), np.uint8)
        room = np.empty(len(raw) + 128, np.uint8)
        start = -room.ctypes.data % 64 + offset
        there = room[start : start + len(raw)]
        there[:] = raw
        there.setflags(write=writable)
        return there

    return pickle.loads(pickled, buffers=map(move, buffers))


@pytest.mark.parametrize("writable", [True, False], ids=["writable", "read-only"])
@pytest.mark.parametrize("offset", range(1, 17))
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_arrays_of_a_model_may_be_unaligned_or_read_only(dtype, offset, writable):
    """The model predicts and resumes as before."""
    rows = X.astype(dtype)
    clf = fitted(solver="adam", warm_start=True, early_stopping=True)
    clf.set_params(max_iter=7).fit(rows, y)
    arrays = {name for name, a in vars(clf._state).items() if isinstance(a, np.ndarray)}
    assert arrays == {"theta", "velocity", "second_moment", "best_theta"}
    others = [moved(clf, offset, writable) for _ in range(3)]
    P = clf.predict_proba(rows)
    for other in others:
        np.testing.assert_array_equal(other.predict_proba(rows), P)
        for kind in ("coefs_", "intercepts_"):
            for a, b in zip(getattr(other, kind), getattr(clf, kind), strict=True):
                np.testing.assert_array_equal(a, b)
    resumed, continued, best = others
    resumed.set_params(max_iter=9).fit(rows, y)
    continued.partial_fit(rows, y)
    best.set_params(solver="lbfgs", max_iter=9).fit(rows, y)
    for other, expected in (
        (resumed, deepcopy(clf).set_params(max_iter=9).fit(rows, y)),
        (continued, deepcopy(clf).partial_fit(rows, y)),
        (best, deepcopy(clf).set_params(solver="lbfgs", max_iter=9).fit(rows, y)),
    ):
        np.testing.assert_array_equal(
            other.predict_proba(rows), expected.predict_proba(rows)
        )


def test_a_model_in_a_memory_map_stays_in_the_file(tmp_path):
    """A read-only map of joblib: predictions do not copy it, and training copies it."""
    dump(fitted(warm_start=True), tmp_path / "model")
    clf, expected = load(tmp_path / "model", mmap_mode="r"), fitted(warm_start=True)
    theta = clf._state.theta
    assert type(theta) is np.ndarray
    assert not theta.flags.owndata and not theta.flags.writeable
    assert all(np.shares_memory(W, theta) for W in clf.coefs_)
    np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    for other in (clf, expected):
        other.set_params(max_iter=9).fit(X, y)
    np.testing.assert_array_equal(clf.coefs_[0], expected.coefs_[0])
    assert clf.coefs_[0].flags.writeable
    again = load(tmp_path / "model", mmap_mode="r")
    np.testing.assert_array_equal(again._state.theta, theta)


def test_a_model_from_a_machine_of_the_other_byte_order():
    """It predicts and resumes as the original."""
    clf = fitted(solver="adam", warm_start=True)
    state = clf.__getstate__()
    state["_state"] = {
        name: a.astype(a.dtype.newbyteorder()) if isinstance(a, np.ndarray) else a
        for name, a in state["_state"].items()
    }
    other = BGDClassifier()
    other.__setstate__(state)
    np.testing.assert_array_equal(other.predict_proba(X), clf.predict_proba(X))
    for each in (clf, other):
        each.set_params(max_iter=9).fit(X, y)
    np.testing.assert_array_equal(other.coefs_[0], clf.coefs_[0])


def test_a_model_that_is_not_fitted():
    """It keeps its parameters."""
    clf = pickle.loads(pickle.dumps(BGDClassifier((7,), alpha=0.5)))
    assert clf.get_params()["hidden_layer_sizes"] == (7,)
    assert not hasattr(clf, "coefs_")


def test_a_file_of_the_first_format_is_read():
    """It was written by the first version that had a format.

    It has protocol 3 and the name that `numpy._core` has in NumPy 1, which NumPy 2
    reads too.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        clf = pickle.loads(SAVED.read_bytes())
    with np.load(SAVED.with_suffix(".npz")) as expected:
        np.testing.assert_allclose(
            clf.predict_proba(X), expected["probabilities"], rtol=1e-10
        )
        np.testing.assert_array_equal(clf.coefs_[1], expected["weights"])
    assert clf.n_iter_ == len(clf.loss_curve_) == 5
    clf.set_params(warm_start=True, max_iter=6).fit(X, y)
    assert clf.partial_fit(X, y).n_iter_ == 7


def test_another_format_is_an_error():
    """The error names both formats."""
    state = fitted().__getstate__()
    for number in (None, 0, 2):
        with pytest.raises(ValueError, match=f"in format {number}; .* format 1"):
            BGDClassifier().__setstate__({**state, "_format": number})


@pytest.mark.parametrize(
    "saved_by, warns",
    [
        ("0.2.9", True),
        ("0.2.10.dev1", True),
        ("0.3", False),
        ("0.3.0rc1", False),
        ("0.3.1.dev12+g12ab", False),
        ("0.10.0", False),
        ("0.10.2", False),
        ("0.10.3", True),
        ("1.0", True),
        ("", True),
        (None, True),
    ],
)
def test_versions_with_other_predictions_warn(monkeypatch, saved_by, warns):
    """A version before the last change of predictions, a newer or an unknown one."""
    monkeypatch.setattr(_saving, "SAME_PREDICTIONS_SINCE", "0.3.0")
    monkeypatch.setattr(_saving, "__version__", "0.10.2")
    state = {**fitted().__getstate__(), "_skbgd_version": saved_by}
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        BGDClassifier().__setstate__(state)
    assert [w.category for w in record] == [_saving.SavedByAnotherVersion] * warns
    for warning in record:
        assert issubclass(warning.category, InconsistentVersionWarning)
        assert f"from skbgd version {saved_by} when" in str(warning.message)


def test_the_present_version_does_not_warn():
    """A model that this version has saved is read without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(fitted()))
