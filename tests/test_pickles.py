"""Saved models: arrays and plain values, one public name, a number for the form."""

import io
import pickle
import warnings
from copy import copy, deepcopy
from pathlib import Path

import numpy as np
import pytest
from joblib import dump, load
from sklearn.datasets import load_iris
from sklearn.exceptions import InconsistentVersionWarning

from skbgd import BGDClassifier, _saving

X, y = load_iris(return_X_y=True)
SAVED = Path(__file__).parent / "model_format_1.pickle"


def fitted(**params):
    params = {"max_iter": 5, "tol": None, "random_state": 0, **params}
    return BGDClassifier((4,), learning_rate=0.1, **params).fit(X, y)


def names_in(pickled):
    """The modules and names that a pickle asks for."""
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
def test_a_pickle_holds_arrays_and_the_public_class_alone(params):
    """No private module, whose name the next version may have changed."""
    names = names_in(pickle.dumps(fitted(**params)))
    ours = {name for name in names if name[0].startswith("skbgd")}
    assert ours == {("skbgd", "BGDClassifier")}
    assert all(module.split(".")[0] in ("skbgd", "numpy") for module, _ in names)


@pytest.mark.parametrize("copied", [copy, deepcopy, "pickle", "joblib"])
def test_a_copy_predicts_and_goes_on_alike(copied, tmp_path):
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


def test_a_model_that_is_not_fitted():
    clf = pickle.loads(pickle.dumps(BGDClassifier((7,), alpha=0.5)))
    assert clf.get_params()["hidden_layer_sizes"] == (7,)
    assert not hasattr(clf, "coefs_")


def test_a_file_of_this_format_loads_for_ever():
    """Written by the first version that had a format, from `fitted()`.

    In protocol 3, with NumPy 1's name of `numpy._core`, which NumPy 2 reads too.
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
    state = fitted().__getstate__()
    for number in (None, 0, 2):
        with pytest.raises(ValueError, match=f"in the format {number}; .* format 1"):
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
def test_versions_that_predicted_otherwise_warn(monkeypatch, saved_by, warns):
    """Those before the last change of a prediction, and those that are not known."""
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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(fitted()))
