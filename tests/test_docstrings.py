"""Examples in the docstrings of methods.

pytest does not find them: the classes state the public module, which does not define
them.
"""

import doctest

import pytest

from skbgd import BGDClassifier, LossCurveDisplay

CLASSES = [BGDClassifier, LossCurveDisplay]
try:
    from skbgd.dask import DaskBGDClassifier
except ImportError:  # Dask is not installed
    pass
else:
    CLASSES.append(DaskBGDClassifier)


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
