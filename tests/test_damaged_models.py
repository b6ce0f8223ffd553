"""A damaged model is an error when it is loaded, or else it works.

Its arrays and numbers are checked as arguments are: the core gets no wrong address. The
damage may come from a file, or from another program that writes models.
"""

import pickle
from copy import deepcopy

import numpy as np
import pytest
from core_helpers import unaligned
from helpers import small, targets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skbgd import BGDClassifier

CASES = {
    "binary": {},
    "multiclass": {"solver": "adam", "warm_start": True},
    "multilabel": {"early_stopping": True, "momentum": 0.9, "hidden_layer_sizes": ()},
}
STREAM = "the first rows of a stream"


def saved(kind):
    """The state of a fitted model, as it is pickled."""
    clf = small(max_iter=2, learning_rate=0.01, **CASES[kind]).fit(*targets(kind))
    return pickle.loads(pickle.dumps(clf.__getstate__()))


def saved_stream():
    """The state of a model whose mean and scale may still change."""
    X, y = targets("binary")
    clf = small().partial_fit(X[:9], y[:9], classes=[0, 1])
    return pickle.loads(pickle.dumps(clf.__getstate__()))


STATES = {kind: saved(kind) for kind in CASES} | {STREAM: saved_stream()}


def places(values, path=()):
    """The keys that lead to each value of the network and of the training state."""
    for name, value in values.items():
        if path or name in ("_network", "_state"):
            yield (*path, name)
            if isinstance(value, dict):
                yield from places(value, (*path, name))
    if not path:
        yield from (("classes_",), ("n_features_in_",), ("_multilabel",))


def changed(state, path, value):
    """A copy with another value in a place."""
    state = deepcopy(state)
    *way, last = path
    place = state
    for name in way:
        place = place[name]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return state


def check(kind, state):
    """Load a state; the model works unless the state is refused."""
    clf = BGDClassifier()
    try:
        clf.__setstate__(state)
    except ValueError as error:
        assert "is damaged" in str(error)
        assert vars(clf).keys() == vars(BGDClassifier()).keys()
        return
    X, y = targets("binary" if kind == STREAM else kind)
    uses = (
        clf.predict_proba,
        clf.predict,
        lambda X: clf.partial_fit(X, y),
        lambda X: clf.set_params(warm_start=True, max_iter=clf.n_iter_ + 2).fit(X, y),
        clf.predict_log_proba,
    )
    for use in uses:
        try:
            use(X)
        except (
            ValueError
        ) as error:  # such as parameters so large that training diverges
            assert str(error)


MISSING = object()
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1 << 31, 1 << 62, (1 << 64) - 1, 1 << 64, 10**30]),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
)
LISTS = st.lists(SCALARS | st.integers(1, 9), max_size=5)
ARRAYS = st.sampled_from(
    ["f8", "f4", ">f8", "f2", "i8", "O", "?", "c16", "U3"]
).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9),
        elements=SCALARS if dtype == "O" else None,
    )
)
VALUES = st.one_of(
    st.just(MISSING),
    SCALARS,
    LISTS,
    LISTS.map(tuple),
    ARRAYS,
    st.dictionaries(st.text(max_size=3), SCALARS, max_size=2),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STATES)
@settings(deadline=None)
@given(data=st.data())
def test_any_value_in_any_place(kind, data):
    """It is refused, or the model works or raises a ValueError."""
    state = STATES[kind]
    path = data.draw(st.sampled_from([*places(state)]))
    check(kind, changed(state, path, data.draw(VALUES)))


def with_last(array, value):
    array = array.copy()
    array.flat[-1] = value
    return array


ARRAY_CHANGES = {
    "longer": lambda a: np.append(a, a[:1], axis=0),
    "shorter": lambda a: a[:-1],
    "empty": lambda a: a[:0],
    "column": lambda a: a[:, np.newaxis],
    "scalar": lambda a: a[0],
    "objects": lambda a: a.astype("O"),
    "integers": lambda a: a.astype(int),
    "half": lambda a: a.astype("f2"),
    "complex": lambda a: a.astype(complex),
    "record": lambda a: a.view([("x", a.dtype)]),
    "list": lambda a: a.tolist(),
    "bytes": lambda a: a.tobytes(),
    "nan": lambda a: with_last(a, np.nan),
    "infinite": lambda a: with_last(a, -np.inf),
}
HARMLESS = {
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "unaligned": unaligned,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "subclass": lambda a: a.view(np.recarray),
}


def array_places(state):
    for path in places(state):
        value = state
        for name in path:
            value = value[name]
        if isinstance(value, np.ndarray) and path != ("classes_",):
            yield path, value


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("change", ARRAY_CHANGES)
def test_a_wrong_array_is_refused(kind, change):
    """Another shape, a type that is not that of the array, or a value not finite.

    The velocity of large gradients may overflow.
    """
    for path, array in array_places(STATES[kind]):
        if path[-1] == "velocity" and change in ("nan", "infinite"):
            continue
        state = changed(STATES[kind], path, ARRAY_CHANGES[change](array))
        with pytest.raises(ValueError, match="is damaged: .* Load another copy"):
            BGDClassifier().__setstate__(state)


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("change", HARMLESS)
def test_the_memory_of_an_array_does_not_matter(kind, change):
    """The model predicts the same, to the last bit."""
    X, _ = targets("binary" if kind == STREAM else kind)
    clf = BGDClassifier()
    clf.__setstate__(deepcopy(STATES[kind]))
    for path, array in array_places(STATES[kind]):
        other = BGDClassifier()
        other.__setstate__(changed(STATES[kind], path, HARMLESS[change](array)))
        np.testing.assert_array_equal(other.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize(
    "path, value",
    [
        (("_network", "units"), (6, -8, 4)),
        (("_network", "units"), (6, 1 << 60, 4)),
        (("_network", "units"), (6, 1 << 30, 1 << 30, 4)),
        (("_network", "units"), (6.0, 8.0, 4.0)),
        (("_network", "units"), ()),
        (("_network", "activation"), "step"),
        (("_network", "exclusive"), False),
        (("_network", "scale"), np.zeros(6)),
        (("_state", "theta"), MISSING),
        (("_state", "second_moment"), np.full(92, -1.0)),
        (("_state", "velocity"), None),
        (("_state", "n_iter"), 1 << 40),
        (("_state", "best_loss"), None),
        (("_state", "mean_squared_row_norm"), "large"),
        (("_state", "mean_squared_row_norm"), np.nan),
        (("_state", "n_steps"), -1),
        (("_state", "n_steps"), 1 << 62),
        (("_state", "shuffle_state"), 1 << 64),
        (("_state", "stopping"), {}.keys()),
        (("_state", "extra"), 0),
        (("_state",), None),
        (("_network",), MISSING),
        (("n_features_in_",), 5),
        (("classes_",), np.arange(5)),
        (("classes_",), np.array([3, 2, 1, 0])),
        (("_multilabel",), True),
    ],
)
def test_a_wrong_value_is_refused(path, value):
    """The error names the estimator and the value."""
    state = changed(STATES["multiclass"], path, value)
    with pytest.raises(ValueError, match="This BGDClassifier is damaged: .*fit a new"):
        BGDClassifier().__setstate__(state)


@pytest.mark.parametrize(
    "row, value", [(0, 0.0), (1, np.full(6, 1e9)), (2, -1e9), (4, np.full(6, -1.0))]
)
def test_impossible_moments_are_refused(row, value):
    """No weight, a smallest value above the largest, a negative deviation."""
    moments = STATES[STREAM]["_state"]["stream_moments"].copy()
    moments[row] = value
    state = changed(STATES[STREAM], ("_state", "stream_moments"), moments)
    with pytest.raises(ValueError, match="is damaged: stream_moments must"):
        BGDClassifier().__setstate__(state)


@pytest.mark.parametrize(
    "name, value", [("theta", np.zeros(3)), ("theta", np.full(92, np.nan)), ("t", -1)]
)
def test_a_damaged_skops_file_is_refused(monkeypatch, name, value):
    """It is loaded through the same checks."""
    skops_io = pytest.importorskip("skops.io")
    clf = BGDClassifier()
    clf.__setstate__(deepcopy(STATES["multiclass"]))
    state = changed(STATES["multiclass"], ("_state", name), value)
    with monkeypatch.context() as context:
        context.setattr(BGDClassifier, "__getstate__", lambda self: state)
        data = skops_io.dumps(clf)
    with pytest.raises(ValueError, match=f"is damaged: {name} must be"):
        skops_io.loads(data, trusted=["skbgd.BGDClassifier"])
