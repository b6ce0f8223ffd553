"""The equations of examples/plot_article.py hold, and its checks detect a change.

The example checks its equations when it runs. Here it runs unchanged, and once for each
equation with that equation changed.
"""

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

ARTICLE = Path(__file__).parents[1] / "examples" / "plot_article.py"
OTHER_FUNCTIONS = {"check", "slip", "classifier", "neuron", "w_and_b", "article_figure"}
EQUATIONS = [
    node.name
    for node in ast.parse(ARTICLE.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef)
    and node.name not in OTHER_FUNCTIONS
    and not node.name.startswith("J_of_")
]


@pytest.fixture(scope="module")
def article():
    spec = importlib.util.spec_from_file_location("plot_article", ARTICLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("units", [(2, 1), (5, 3, 2), (4, 6, 3, 2)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_back_propagation_equals_the_package(article, units, batch_size):
    """An epoch by the article's equations gives the weights of BGDClassifier."""
    rng = np.random.default_rng(0)
    sizes = list(zip(units[1:], units[:-1], strict=True))
    W = [rng.normal(size=shape) for shape in sizes]
    b = [rng.normal(size=(n_units, 1)) for n_units in units[1:]]
    X = rng.normal(size=(units[0], 11))
    Y = rng.integers(0, 2, size=(units[-1], 11))
    labels = Y if units[-1] > 1 else Y[0]
    clf = article.classifier(
        W, b, X, labels, learning_rate=article.lam, batch_size=batch_size, shuffle=False
    ).partial_fit(X.T, labels.T)
    new_W, new_b = article.epoch(
        [None, *W], [None, *b], X, Y, batch_size, np.arange(X.shape[1])
    )
    for ours, theirs in zip(new_W[1:], clf.coefs_, strict=True):
        np.testing.assert_allclose(ours, theirs.T, rtol=0, atol=1e-12)
    for ours, theirs in zip(new_b[1:], clf.intercepts_, strict=True):
        np.testing.assert_allclose(ours[:, 0], theirs, rtol=0, atol=1e-12)


def larger(value):
    """The value times 1.01, or the elements of a sequence times 1.01."""
    if isinstance(value, list | tuple):
        return type(value)(map(larger, value))
    return None if value is None else 1.01 * value


@pytest.mark.usefixtures("article")  # it runs without an error if nothing is changed
@pytest.mark.parametrize("name", EQUATIONS)
def test_a_changed_equation_is_detected(name):
    """A check fails if the result of an equation is 1 % too large."""

    class LargerResult(ast.NodeTransformer):
        def visit_FunctionDef(self, node):
            return self.generic_visit(node) if node.name == name else node

        def visit_Return(self, node):
            call = ast.Call(ast.Name("larger", ast.Load()), [node.value], [])
            return ast.copy_location(ast.Return(call), node)

    tree = LargerResult().visit(ast.parse(ARTICLE.read_text(encoding="utf-8")))
    code = compile(ast.fix_missing_locations(tree), str(ARTICLE), "exec")
    # A probability above 1 has no logarithm.
    with pytest.raises((AssertionError, RuntimeWarning)):
        exec(code, {"__name__": "plot_article", "larger": larger})
