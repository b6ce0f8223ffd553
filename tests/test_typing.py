"""Type hints: the public API has them, and mypy accepts and rejects what it should.

mypy checks this file too. Lines of `typed` with a comment "type: ignore" must be errors
(`warn_unused_ignores`), all others must not.
"""

import inspect
from importlib.resources import files
from typing import Any, assert_type, get_type_hints

import numpy as np
import pytest
from numpy.typing import NDArray

import skbgd
from skbgd import BGDClassifier, LossCurveDisplay


def public_functions() -> list[Any]:
    functions = []
    for name in skbgd.__all__:
        for key, member in vars(getattr(skbgd, name)).items():
            if key.startswith("_") and key != "__init__":
                continue
            function = getattr(member, "fget", getattr(member, "__func__", member))
            if inspect.isfunction(function):
                functions.append(function)
    return functions


@pytest.mark.parametrize("function", public_functions(), ids=lambda f: f.__qualname__)
def test_annotated(function: Any) -> None:
    """Each parameter and the return value have a type."""
    parameters = set(inspect.signature(function).parameters) - {"self", "cls"}
    assert parameters | {"return"} == set(function.__annotations__)


@pytest.mark.parametrize("function", public_functions(), ids=lambda f: f.__qualname__)
def test_signatures_are_short(function: Any) -> None:
    """`help` prints a line for each parameter, without private modules."""
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        assert len(str(parameter)) < 80
    assert "._" not in str(signature)
    assert "numpy." not in str(signature)
    if not function.__module__.endswith("_display"):  # with matplotlib's types
        assert get_type_hints(function)


def test_public_functions() -> None:
    """The tests above cover methods, properties and class methods."""
    names = {function.__qualname__ for function in public_functions()}
    assert "BGDClassifier.fit" in names
    assert "BGDClassifier.coefs_" in names
    assert "LossCurveDisplay.from_estimator" in names


def test_py_typed() -> None:
    """The package has the marker file that type checkers look for."""
    assert files("skbgd").joinpath("py.typed").is_file()


def typed(X: NDArray[np.float64], y: list[str]) -> None:
    """Correct and wrong uses, for mypy; never called."""
    clf: BGDClassifier = BGDClassifier((8,), batch_size="full").fit(X, y)
    assert_type(clf.predict_proba(X), NDArray[np.floating])
    assert_type(clf.loss_curve_, list[float])
    assert_type(clf.coefs_[0], NDArray[np.floating])
    clf.coefs_ = [X, [[1.0]]]
    clf.intercept_ = [0.0]
    display = LossCurveDisplay.from_estimator(clf, x="updates", log_scale="xy")
    assert_type(display, LossCurveDisplay)
    BGDClassifier(8, batch_size=32, learning_rate=0.1, class_weight={"a": 2.0})
    BGDClassifier([8, 8], learning_rate_schedule=lambda epoch: 1 / (1 + epoch))

    BGDClassifier(batch_size=1.5)  # type: ignore[arg-type]
    BGDClassifier(batch_size="all")  # type: ignore[arg-type]
    BGDClassifier(learning_rate="constant")  # type: ignore[arg-type]
    BGDClassifier((8,), "relu")  # type: ignore[call-arg]
    BGDClassifier(hidden_layers=(8,))  # type: ignore[call-arg]
    clf.coefs_ = 1.0  # type: ignore[assignment]
    clf.fit(X)  # type: ignore[call-arg]
    LossCurveDisplay.from_estimator(clf, x="rows")  # type: ignore[arg-type]
