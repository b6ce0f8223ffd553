"""What the docstrings of classes and methods hold.

pytest does not find the examples of methods: the classes state the public module, which
does not define them.
"""

import doctest
import re
from inspect import signature

import pytest

from skbgd import BGDClassifier, LossCurveDisplay

CLASSES = [BGDClassifier, LossCurveDisplay]
try:
    from skbgd.dask import DaskBGDClassifier
except ImportError:  # Dask is not installed
    pass
else:
    CLASSES.append(DaskBGDClassifier)


def documented(cls, section):
    """The names in a section of the docstring of a class."""
    text = cls.__doc__.split(f"    {section}\n    {'-' * len(section)}\n")[1]
    text = re.split(r"\n    -{3,}\n", text)[0]
    lines = re.findall(r"^    (\w[\w, ]*) : ", text, re.MULTILINE)
    return ", ".join(lines).split(", ")


@pytest.mark.parametrize("cls", [c for c in CLASSES if c is not LossCurveDisplay])
def test_parameters_and_attributes(cls):
    """Each is described in the docstring of each class, the parameters in order."""
    assert documented(cls, "Parameters") == list(signature(cls).parameters)
    clf = BGDClassifier((), learning_rate=0.1).fit([[0.0], [1.0]], [0, 1])
    names = {*vars(clf), *dir(cls)}
    fitted = {name for name in names if re.fullmatch(r"[a-z]\w*_", name)}
    assert fitted <= set(documented(cls, "Attributes"))


@pytest.mark.parametrize(
    "name, method",
    [
        (f"{cls.__name__}.{name}", getattr(cls, name))
        for cls in CLASSES
        for name in vars(cls)
        if not name.startswith("_")
        and not name.endswith("_request")  # scikit-learn's
        and callable(getattr(cls, name))
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_example(name, method):
    """Each public method has examples, and their output is right."""
    if name.startswith("LossCurveDisplay"):
        pytest.importorskip("matplotlib")
    test = doctest.DocTestParser().get_doctest(method.__doc__, {}, name, None, 0)
    assert test.examples
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert results.failed == 0
