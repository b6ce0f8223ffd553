"""Bad input: errors name the rule, the value and the cure, and change nothing."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from core_helpers import numpy_core
from helpers import small
from sklearn.base import clone
from sklearn.datasets import make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline

from skbgd import BGDClassifier

X, y = make_classification(40, 4, n_informative=3, n_redundant=0, random_state=0)
Y = make_multilabel_classification(40, 4, n_classes=3, random_state=0)[1]
NAN_X = np.where(np.eye(40, 4) == 1, np.nan, X)
INF_X = np.where(np.eye(40, 4) == 1, np.inf, X)


def snapshot(clf):
    """The attributes of an estimator, by value."""
    values = {}
    for name, value in vars(clf).items():
        if name == "_state":
            value = {
                key: item.tobytes() if isinstance(item, np.ndarray) else repr(item)
                for key, item in vars(value).items()
            }
        elif name != "_network":
            value = repr(value)
        values[name] = value
    return values


def check_raises(
    action, match, params=None, errors=(ValueError, TypeError), activation="logistic"
):
    """Assert that `action` raises on a new and a fitted estimator and changes none."""
    new = small(activation=activation)
    for clf in (new, clone(new).set_params(momentum=0.9).fit(X, y)):
        clf.set_params(**(params or {}))
        before = snapshot(clf)
        with pytest.raises(errors, match=match):
            action(clf)
        assert snapshot(clf) == before


def fit(clf):
    clf.fit(X, y)


def partial_fit(clf):
    clf.partial_fit(X, y, classes=[0, 1])


@pytest.mark.parametrize("method", [fit, partial_fit])
@pytest.mark.parametrize(
    "name, value, rule",
    [
        ("batch_size", 0, "positive int, 'full' or 'auto'"),
        ("batch_size", -1, "positive int, 'full' or 'auto'"),
        ("batch_size", 1.5, "positive int, 'full' or 'auto'"),
        ("batch_size", "half", "positive int, 'full' or 'auto'"),
        ("batch_size", True, "positive int, 'full' or 'auto'"),
        ("batch_size", None, "positive int, 'full' or 'auto'"),
        ("learning_rate", 0, "positive, finite number"),
        ("learning_rate", -0.1, "positive, finite number"),
        ("learning_rate", np.nan, "positive, finite number"),
        ("learning_rate", np.inf, "positive, finite number"),
        ("learning_rate", "fast", "positive, finite number"),
        ("learning_rate", "adaptive", "learning_rate_schedule='adaptive'"),
        ("learning_rate", True, "positive, finite number"),
        ("hidden_layer_sizes", 0, "sequence of positive ints"),
        ("hidden_layer_sizes", (3, 0), "sequence of positive ints"),
        ("hidden_layer_sizes", -3, "sequence of positive ints"),
        ("hidden_layer_sizes", (3, -1), "sequence of positive ints"),
        ("hidden_layer_sizes", 3.0, "sequence of positive ints"),
        ("hidden_layer_sizes", (3.0,), "sequence of positive ints"),
        ("hidden_layer_sizes", ((3,),), "sequence of positive ints"),
        ("hidden_layer_sizes", np.array([[3]]), "sequence of positive ints"),
        ("hidden_layer_sizes", (True,), "sequence of positive ints"),
        ("hidden_layer_sizes", "3", "sequence of positive ints"),
        ("hidden_layer_sizes", "", "sequence of positive ints"),
        ("hidden_layer_sizes", [[3], [3, 4]], "sequence of positive ints"),
        ("hidden_layer_sizes", None, "sequence of positive ints"),
        ("activation", "sigmoid", "'relu', 'identity'; .* called 'logistic' here"),
        ("activation", "linear", "'relu', 'identity'; .* called 'identity' here"),
        ("activation", "softmax", "'logistic', 'tanh', 'relu', 'identity'"),
        ("output_activation", "relu", "'logistic', 'softmax'"),
        ("output_activation", "sigmoid", "'softmax'; .* called 'logistic' here"),
        ("output_activation", "linear", r"'softmax'\.$"),
        ("solver", "newton", "'sgd'"),
        ("momentum", 1.0, r"\[0, 1\)"),
        ("momentum", -0.1, r"\[0, 1\)"),
        ("momentum", np.nan, r"\[0, 1\)"),
        ("nesterov", 1, "True or False"),
        ("alpha", -1e-9, "0 or larger"),
        ("alpha", np.inf, "0 or larger"),
        ("alpha", None, "0 or larger"),
        ("max_iter", 0, "positive int"),
        ("max_iter", 10.0, "positive int"),
        ("tol", -1, "0 or larger, 'auto' or None"),
        ("tol", np.nan, "0 or larger, 'auto' or None"),
        ("tol", "small", "0 or larger, 'auto' or None"),
        ("n_iter_no_change", 0, "positive int"),
        ("shuffle", "yes", "True or False"),
        ("class_weight", "equal", "'balanced' or None"),
        ("class_weight", {0: -1}, "'balanced' or None"),
        ("class_weight", {0: np.nan}, "'balanced' or None"),
        ("class_weight", [1, 2], "'balanced' or None"),
        ("verbose", -1, "0, 1 or 2"),
        ("verbose", "loud", "0, 1 or 2"),
    ],
)
def test_parameters(method, name, value, rule):
    """The message names the parameter, its value, and what it must be."""
    shown = np.array2string(value) if isinstance(value, np.ndarray) else repr(value)
    check_raises(method, f"Got {name}=.*must be .*{rule}", {name: value})
    with pytest.raises(ValueError) as error:
        method(small(**{name: value}))
    assert shown in str(error.value)


def test_init_does_not_validate():
    """Parameters are stored as they are, and neither clone nor set_params raises."""
    clf = BGDClassifier(batch_size=0, learning_rate="fast")
    assert clone(clf).set_params(alpha=-1).get_params()["batch_size"] == 0


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "X, y, match",
    [
        (NAN_X, y, "NaN"),
        (INF_X, y, "infinity"),
        (X[:, 0], y, "2D array"),
        (X[:0], y[:0], "0 sample"),
        (X[:, :0], y, "0 feature"),
        (X, y[:-1], "inconsistent"),
        (X, np.linspace(0, 1, 40), "continuous|not one of the classes"),
        (X, np.where(y == 0, np.nan, 1.0), "NaN"),
        (X, np.array([None, "a"] * 20, dtype=object), "missing labels|not one of the"),
        (X, np.array([1, "a"] * 20, dtype=object), "all numbers, all strings"),
        (X, np.column_stack([y, y + 1]), "one class label per row"),
        (X.astype(complex), y, "[Cc]omplex"),
        (np.full((40, 4), "a"), y, "convert|numeric"),
        (None, y, "2D array"),
        (np.ma.array(X, mask=X > 1), y, "X must not have masked values"),
        (X, np.ma.array(y, mask=y == 1), "y must not have masked values"),
        (X, None, "requires y"),
    ],
    ids=[
        "NaN in X", "inf in X", "1-D X", "no rows", "no features", "short y",
        "continuous y", "NaN in y", "None in y",
        "mixed y", "multi-output y", "complex X",
        "strings in X", "no X", "masked X", "masked y", "no y",
    ],
)  # fmt: skip
def test_data(call, X, y, match):
    """Rows and labels that cannot be used."""

    def action(clf):
        if call == "fit":
            clf.fit(X, y)
        else:
            clf.partial_fit(X, y, classes=[0, 1])

    check_raises(action, match)


def test_one_class():
    """The message names the class."""
    check_raises(lambda clf: clf.fit(X, np.full(40, 3)), "at least two classes.*one.*3")
    with pytest.raises(ValueError, match="at least two.*3"):
        small().partial_fit(X, np.full(40, 3), classes=[3])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "weights, match",
    [
        (-np.ones(40), "negative; got -1"),
        (np.full(40, np.nan), "NaN"),
        (np.full(40, np.inf), "infinity"),
        (np.ones(39), r"shape \(40,\).*got shape \(39,\)"),
        (np.ones((40, 1)), r"shape \(40,\).*got shape \(40, 1\)"),
        (["a"] * 40, "convert"),
        (np.ma.array(np.ones(40), mask=y == 1), "masked values"),
        ("2", "or one number for all; got '2'.* use class_weight"),
        (True, "or one number for all; got True"),
        (np.bool_(True), "or one number for all; got .*True"),
        (-2.0, "negative; got -2"),
        (np.nan, "NaN"),
        (np.inf, "infinity"),
        (np.array(2.0), r"or one number for all; got array\(2\.\)"),
    ],
    ids=[
        "negative", "NaN", "inf", "short", "column", "strings", "masked", "text",
        "boolean", "NumPy's boolean", "negative number", "NaN as number",
        "inf as number", "0-d",
    ],
)  # fmt: skip
def test_sample_weight(method, weights, match):
    """An array of one weight per row that is finite and not negative, or a number."""

    def action(clf):
        kwargs = {"classes": [0, 1]} if method == "partial_fit" else {}
        getattr(clf, method)(X, y, sample_weight=weights, **kwargs)

    check_raises(action, match)


def test_all_zero_weights():
    """An error in `fit`, which must return a model. `partial_fit` learns nothing.

    After a first call without weights, the next one equals a first call.
    """
    check_raises(lambda clf: clf.fit(X, y, np.zeros(40)), "weights are zero.*positive")
    check_raises(fit, "class weight", {"class_weight": {0: 0, 1: 0}})
    clf = small(momentum=0.9).partial_fit(X, y, classes=[0, 1])
    before = snapshot(clf)
    clf.partial_fit(X, y, sample_weight=np.zeros(40))
    assert snapshot(clf) == before
    late = small().partial_fit(X, y, classes=[0, 1], sample_weight=np.zeros(40))
    assert late.n_iter_ == late.t_ == 0
    late.partial_fit(X, y)
    expected = small().partial_fit(X, y, classes=[0, 1])
    np.testing.assert_array_equal(late.coefs_[0], expected.coefs_[0])


UNKNOWN = r"names the class 7.*the classes \[0, 1\].*no weight for \[1\].*every class"


@pytest.mark.parametrize(
    "action, class_weight, match",
    [
        (fit, {0: 2, 7: 1}, UNKNOWN),
        (partial_fit, {0: 2, 7: 1}, UNKNOWN),
        (partial_fit, "balanced", "balanced.*pass a dict"),
        (lambda clf: clf.fit(X, Y), {0: 1}, "multilabel y. Use sample_weight"),
    ],
    ids=["fit", "partial_fit", "balanced", "multilabel"],
)
def test_class_weight(action, class_weight, match):
    """Weights of classes that are not there, or not known, or not exclusive."""
    check_raises(action, match, {"class_weight": class_weight})


@pytest.mark.parametrize(
    "classes, match",
    [
        (None, "first call.*classes=..."),
        ({0, 1}, "classes must be a sequence of labels"),
        ([[0, 1]], "classes must be a sequence of labels"),
        (1, "classes must be a sequence of labels"),
    ],
    ids=["none", "set", "2-D", "number"],
)
def test_classes_of_the_first_partial_fit(classes, match):
    """They are required, unless the targets are multilabel."""
    with pytest.raises(ValueError, match=match):
        small().partial_fit(X, y, classes=classes)


@pytest.mark.parametrize(
    "args, match",
    [
        ((X, y + 1), r"label 2, which.* \[0, 1\]"),
        ((X, y.astype(str)), r"label '\d', .* \[0, 1\]"),
        ((X, (y + 0j).astype(object)), "numbers.*got complex"),
        ((X, y, [0, 1, 2]), "must not change"),
        ((X, y, [None, 1]), "classes must not have missing"),
        ((X, y, 1), "sequence of labels; got 1"),
        ((X[:, :3], y), "expecting 4 features"),
        ((X, Y), "one class label per row"),
    ],
    ids=[
        "unknown label", "strings", "complex", "other classes", "missing class",
        "no sequence", "features", "indicators",
    ],
)  # fmt: skip
def test_later_partial_fit(args, match):
    """Labels and features must be those of the first call."""
    clf = small().partial_fit(X, y, classes=[0, 1])
    before = snapshot(clf)
    with pytest.raises(ValueError, match=match):
        clf.partial_fit(*args)
    assert snapshot(clf) == before


@pytest.mark.parametrize(
    "targets, match",
    [
        (Y[:, :2], "indicators of 3 labels"),
        (y, "indicators of 3 labels"),
        (2 * Y, "must be 0 or 1"),
    ],
    ids=["two labels", "classes", "0 and 2"],
)
def test_later_partial_fit_of_multilabel_targets(targets, match):
    """The targets must be indicators of the same labels."""
    with pytest.raises(ValueError, match=match):
        small().partial_fit(X, Y).partial_fit(X, targets)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
@pytest.mark.parametrize(
    "rows, match",
    [
        (X[:, :3], "expecting 4 features"),
        (X[0], "2D array"),
        (NAN_X, "NaN"),
        (INF_X, "infinity"),
        (X[:0], "0 sample"),
    ],
    ids=["features", "1-D", "NaN", "inf", "no rows"],
)
def test_prediction(method, rows, match):
    """Rows that cannot be predicted, and a classifier that is not fitted."""
    with pytest.raises(NotFittedError, match="not fitted yet. Call 'fit'"):
        getattr(small(), method)(X)
    clf = small().fit(X, y)
    before = snapshot(clf)
    with pytest.raises(ValueError, match=match):
        getattr(clf, method)(rows)
    assert snapshot(clf) == before


@pytest.mark.parametrize(
    "name", ["coefs_", "intercepts_", "coef_", "intercept_", "mean_", "scale_"]
)
def test_parameters_of_an_unfitted_network(name):
    """There is no such attribute, and the error names `fit`."""
    clf = small()
    clf.note_ = "of a user"
    assert not hasattr(clf, name)
    with pytest.raises(AttributeError, match="not fitted yet. Call 'fit'"):
        getattr(clf, name)


@pytest.mark.parametrize(
    "name, hint",
    [
        ("learning_rate_init", "'learning_rate_init' is called 'learning_rate' here."),
        ("nesterovs_momentum", "'nesterovs_momentum' is called 'nesterov' here."),
        ("max_fun", "'max_fun' is called 'max_iter' here."),
        ("eta0", "'eta0' is called 'learning_rate' here."),
        ("hidden_layer_size", "Did you mean 'hidden_layer_sizes'?"),
        ("n_job", "Did you mean 'n_jobs'?"),
    ],
)
def test_unknown_names(name, hint):
    """For names of other packages and typos, the error names the parameter."""
    with pytest.raises(TypeError) as error:
        BGDClassifier(**{name: 1})
    expected = f"BGDClassifier.__init__() got an unexpected keyword argument {name!r}."
    assert str(error.value) == f"{expected} {hint}"
    for estimator, params in (
        (BGDClassifier(), {name: 1}),
        (make_pipeline(BGDClassifier()), {f"bgdclassifier__{name}": 1}),
    ):
        with pytest.raises(ValueError) as error:
            estimator.set_params(**params)
        assert f"Invalid parameter {name!r}" in str(error.value)
        assert str(error.value).endswith(hint)


def test_unknown_names_without_a_hint():
    """No parameter is proposed if none is similar."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'zzz'$"):
        BGDClassifier(zzz=1)
    with pytest.raises(ValueError, match=r"'warm_start'\]\.$"):
        BGDClassifier().set_params(zzz=1)


def text(column):
    rows = X.astype(object)
    rows[7, column] = "a"
    return rows


@pytest.mark.parametrize(
    "rows, column",
    [
        (text(2), "2"),
        (text(2).tolist(), "2"),
        (text(2).astype(str), "2"),
        (pd.DataFrame(text(2), columns=[*"abcd"]), "'c'"),
        (pd.DataFrame(text(2), columns=[*"abcd"]).astype({"b": "Float64"}), "'c'"),
        (pd.DataFrame(X, columns=[*"abcd"]).assign(c=pd.Timestamp(0)), "'c'"),
        (
            pd.DataFrame(X, columns=[*"abcd"]).assign(c=pd.Categorical(["x"] * 40)),
            "'c'",
        ),
    ],
    ids=["objects", "list", "strings", "frame", "nullable", "dates", "categorical"],
)
def test_a_column_without_numbers_is_named(rows, column):
    """In `fit` and in predictions."""
    with pytest.raises((ValueError, TypeError), match=f"Column {column} of X holds"):
        small().fit(rows, y)
    named = pd.DataFrame(X, columns=[*"abcd"])
    clf = small().fit(named if isinstance(rows, pd.DataFrame) else X, y)
    with pytest.raises((ValueError, TypeError), match=f"Column {column} of X holds"):
        clf.predict(rows)


def test_rows_of_different_lengths():
    """The error is that of NumPy; no column can be named."""
    with pytest.raises(ValueError, match="inhomogeneous"):
        small().fit([*X[:-1].tolist(), [1.0]], y)


class Lazy:
    """Rows that are not computed yet, such as a LazyFrame of polars."""

    def collect(self):
        return X


@pytest.mark.parametrize(
    "name, action",
    [
        ("X", lambda clf: clf.fit(Lazy(), y)),
        ("X", lambda clf: clf.partial_fit(Lazy(), y)),
        ("X", lambda clf: clf.predict(Lazy())),
        ("y", lambda clf: clf.fit(X, Lazy())),
        ("classes", lambda clf: clf.partial_fit(X, y, classes=Lazy())),
        ("sample_weight", lambda clf: clf.fit(X, y, Lazy())),
    ],
    ids=["fit", "partial_fit", "predict", "y", "classes", "sample_weight"],
)
def test_rows_that_are_not_computed_yet(name, action):
    """The error says how to compute them."""
    with pytest.raises(ValueError, match=rf"got a Lazy.* Pass {name}\.collect"):
        action(small().fit(X, y))


def test_polars_lazy_frame():
    """It can be fitted when it is collected."""
    polars = pytest.importorskip("polars")
    with pytest.raises(ValueError, match=r"got a LazyFrame.* Pass X\.collect"):
        small().fit(polars.DataFrame(X).lazy(), y)
    small().fit(polars.DataFrame(X).lazy().collect(), y)


@pytest.mark.parametrize(
    "method, batch_size", [(fit, 1), (fit, 16), (fit, "full"), (partial_fit, 16)]
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_divergence_names_epoch_and_step_size(method, momentum, batch_size):
    """The error names a smaller step size, and no scaler: the features are scaled."""
    params = {
        "learning_rate": 1e200,
        "momentum": momentum,
        "batch_size": batch_size,
    }
    message = r"epoch \d+ with learning_rate=1e\+200 .*smaller learning_rate\.[^S]*$"
    check_raises(method, message, params, ValueError, activation="relu")


def test_divergence_in_the_last_step_is_seen():
    """With the full batch, the loss before the only step is finite, theta is not."""
    clf = small(learning_rate=1e308, batch_size="full", activation="identity")
    with pytest.raises(ValueError, match="epoch 1 with"):
        clf.partial_fit(1e10 * X, y, classes=[0, 1])


def test_features_too_large_for_the_automatic_step_size():
    """Raw features must have finite squares, except in rows of weight zero.

    Squares of float32 features are computed in float64.
    """
    plain = {"standardize": False}
    check_raises(lambda clf: clf.fit(X * 1e200, y), "too large.*StandardScaler", plain)
    w = np.ones(40)
    w[3] = 0
    outlier = X.copy()
    outlier[3] = 1e200
    assert small(**plain).fit(outlier, y, w).learning_rate_ > 0.1
    small(**plain).fit((X * 1e20).astype(np.float32), y)


def test_a_penalty_that_overflows_is_seen():
    """The mean loss is finite here, the objective is not."""
    clf = small(alpha=3.0, learning_rate=1.0, batch_size=16, max_iter=600)
    with pytest.raises(ValueError, match="epoch .* alpha=3"):
        clf.fit(X, y)


def test_parameters_that_overflow_are_seen():
    """The step that makes them infinite fails, although its own loss is finite."""
    clf = small().fit(X, y)
    before = snapshot(clf)
    with pytest.raises(ValueError, match="diverged"):
        clf.set_params(learning_rate=1e300).partial_fit(X, y)
    assert snapshot(clf.set_params(learning_rate="auto")) == before


@pytest.mark.parametrize("core", [nullcontext, numpy_core], ids=["", "numpy"])
def test_a_gradient_whose_square_overflows_is_seen(core):
    """Adam would divide by it, and make no step any more."""
    clf = small(hidden_layer_sizes=(), solver="adam", learning_rate=1e-300)
    clf.set_params(standardize=False)
    before = snapshot(clf)
    with core(), pytest.raises(ValueError, match="The square of the gradient is no lo"):
        clf.fit(X * 1e200, y)
    assert snapshot(clf) == before


@pytest.mark.parametrize("core", [nullcontext, numpy_core], ids=["", "numpy"])
def test_a_gradient_whose_norm_overflows_is_seen(core):
    """It cannot be shortened to a limit; the loss of its batch is finite.

    A step that multiplies the weights by 0, no less, is not blamed on alpha.
    """
    clf = small(hidden_layer_sizes=(), learning_rate=1.0, alpha=1.0)
    clf.set_params(max_gradient_norm=1.0, standardize=False)
    before = snapshot(clf)
    with core(), pytest.raises(ValueError, match="diverged") as error:
        clf.fit(X * 1e200, y)
    assert "smaller alpha" not in str(error.value)
    assert snapshot(clf) == before


def test_a_loss_that_increased_is_no_convergence():
    """|1 - eta alpha| = 1.05: each step lengthens the weights, and none overflows."""
    clf = small(
        learning_rate=0.5, alpha=4.1, batch_size="full", tol=1e-4, max_iter=99,
        n_iter_no_change=10,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning, match="from .* smaller learning_rate"):
        clf.fit(X, y)


@pytest.mark.parametrize(
    "params", [{"hidden_layer_sizes": (4,)}, {"activation": "tanh"}], ids=str
)
def test_other_layers_cannot_resume(params):
    """Neither in partial_fit nor with warm_start."""
    match = "the model has layers of 4-8-1"
    clf = small().fit(X, y).set_params(**params)
    with pytest.raises(ValueError, match=match):
        clf.partial_fit(X, y)
    with pytest.raises(ValueError, match=match):
        clf.set_params(warm_start=True).fit(X, y)


@pytest.mark.parametrize(
    "sizes", [(2**62, 4), (2**31, 2**31), (2**63,)], ids=["product", "square", "int64"]
)
def test_sizes_beyond_memory(sizes):
    """Sizes that overflow 64 bits are refused."""
    with pytest.raises(MemoryError, match="A network of .* units is too large"):
        small(hidden_layer_sizes=sizes).fit(X, y)


def test_a_single_label():
    """Only for y the cure names the rows of a sample."""
    with pytest.raises(ValueError, match=r"got 1\. For a single sample pass"):
        small().fit(X[:1], 1)
    with pytest.raises(ValueError, match=r"classes must .* got 3\.$"):
        small().partial_fit(X, y, classes=3)
