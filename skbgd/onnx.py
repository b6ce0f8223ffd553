"""Fitted models as ONNX graphs: importing this lets skl2onnx convert BGDClassifier.

Then ``skl2onnx.to_onnx(model, X[:1])`` works with a :class:`skbgd.BGDClassifier` alone,
in a Pipeline, behind a ColumnTransformer, and inside of CalibratedClassifierCV,
VotingClassifier and what else skl2onnx converts. A
:class:`skbgd.dask.DaskBGDClassifier` goes through its `to_local`. The graph computes in
float64 if its input is float64, in float32 otherwise.

The options are those that skl2onnx has for classifiers, passed as
``to_onnx(model, X[:1], options={"zipmap": False})``:

- `zipmap`: True (the default), probabilities as a list of dicts; False, as an array;
  "columns", as an output for each class;
- `raw_scores`: True for what `decision_function` gives instead of probabilities, with
  the columns ``(-z, z)`` for two classes;
- `output_class_labels`: True for the labels of the classes as one more output;
- `nocl`: True for the numbers of the classes instead of their labels.

ONNX has no dicts of float64: pass ``zipmap=False`` for a graph in float64. Of
CalibratedClassifierCV, skl2onnx converts ``method="isotonic"`` only roughly and one
around a Pipeline wrongly, whatever the classifier: put it inside of the Pipeline.

Needs ``pip install "skbgd[onnx]"``. The opset may be any from 7 that skl2onnx supports.

Examples
--------
>>> import numpy as np
>>> import skbgd.onnx
>>> from skbgd import BGDClassifier
>>> from skl2onnx import to_onnx
>>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), ["cold", "cold", "hot", "hot"]
>>> clf = BGDClassifier((), max_iter=50, tol=None).fit(X, y)
>>> graph = to_onnx(clf, X[:1], options={"zipmap": False})
>>> [output.name for output in graph.graph.output]
['label', 'probabilities']
"""

import warnings
from typing import Any

import numpy as np

try:
    from onnx import TensorProto
    from onnx.numpy_helper import from_array
    from skl2onnx import update_registered_converter
    from skl2onnx.common.data_types import Int64TensorType, guess_proto_type
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
    )
    from skl2onnx.common.utils_classifier import get_label_classes
except ImportError as error:
    raise ImportError(
        'skbgd.onnx needs skl2onnx: pip install "skbgd[onnx]", and onnxruntime to run '
        "what it makes."
    ) from error

from ._classifier import BGDClassifier

__all__: list[str] = []

ACTIVATIONS = {"logistic": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}


class _Graph:
    """Adds the nodes and constants of one estimator to a graph that skl2onnx builds."""

    def __init__(self, scope, container, dtype):
        self.scope = scope
        self.container = container
        self.dtype = dtype

    def constant(self, values):
        """The name of an array."""
        name = self.scope.get_unique_variable_name("constant")
        values = np.asarray(values, dtype=self.dtype)
        self.container.add_initializer(name, None, None, from_array(values, name))
        return name

    def labels(self, classes):
        """The name of a vector of strings or of int64."""
        name = self.scope.get_unique_variable_name("classes")
        values = classes.tolist()
        if all(isinstance(label, str) for label in values):
            kind, values = TensorProto.STRING, [label.encode() for label in values]
        else:
            kind, values = TensorProto.INT64, [int(label) for label in values]
        self.container.add_initializer(name, kind, [len(values)], values)
        return name

    def node(self, op, *inputs, output=None, **attributes):
        """The name of what an operation gives."""
        output = output or self.scope.get_unique_variable_name(op.lower())
        name = self.scope.get_unique_operator_name(op)
        self.container.add_node(op, list(inputs), output, name=name, **attributes)
        return output

    def pre_activations(self, A, clf):
        """Of the output layer, Z (n, K) for rows A (n, d)."""
        standard = clf._network.standardizer(np.dtype(self.dtype))
        if standard is not None:
            # Not folded into W_1: a difference of large numbers would lose digits.
            high, low, inverse = map(self.constant, standard)
            A = self.node("Sub", self.node("Sub", A, high), low)
            A = self.node("Mul", A, inverse)
        layers = list(zip(clf.coefs_, clf.intercepts_, strict=True))
        for layer, (W, b) in enumerate(layers, start=1):
            A = self.node("MatMul", A, self.constant(W))
            A = self.node("Add", A, self.constant(b))
            if layer < len(layers) and clf.activation != "identity":
                A = self.node(ACTIVATIONS[clf.activation], A)
        return A

    def log_sigmoid(self, Z):
        """min(z, 0) - log(1 + exp(-|z|)): nothing overflows, no digit is lost."""
        minus_relu = self.node("Neg", self.node("Relu", self.node("Neg", Z)))
        small = self.node("Exp", self.node("Neg", self.node("Abs", Z)))
        log = self.node("Log", self.node("Add", small, self.constant(1)))
        return self.node("Sub", minus_relu, log)


def _is_multilabel(clf):
    """Whether the outputs are labels: what it predicts then has a column for each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a row without names
        return clf.predict(np.zeros((1, clf.n_features_in_))).ndim == 2


def _set_shapes(operator):
    """Tell skl2onnx the types and shapes of label and probabilities."""
    calculate_linear_classifier_output_shapes(operator)
    clf = operator.raw_operator
    if _is_multilabel(clf):
        n = operator.inputs[0].get_first_dimension()
        operator.outputs[0].set_type(Int64TensorType([n, clf.n_outputs_]))


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes from the rows to label and probabilities."""
    clf = operator.raw_operator
    label, probabilities = (output.full_name for output in operator.outputs)
    rows = operator.inputs[0]
    kind = guess_proto_type(rows.type)
    in_double = kind == TensorProto.DOUBLE
    graph = _Graph(scope, container, np.float64 if in_double else np.float32)
    X = rows.full_name
    if kind not in (TensorProto.DOUBLE, TensorProto.FLOAT):
        X = graph.node("Cast", X, to=TensorProto.FLOAT)
    Z = graph.pre_activations(X, clf)
    multilabel = _is_multilabel(clf)
    multiclass = clf.n_outputs_ > 1 and not multilabel
    if clf.n_outputs_ == 1 and not multilabel:
        Z = graph.node("Concat", graph.node("Neg", Z), Z, axis=1)

    # As in `predict`, by the pre-activations: probabilities tie where they round to 1.
    if multilabel:
        above = graph.node("Greater", Z, graph.constant(0))
        graph.node("Cast", above, output=label, to=TensorProto.INT64)
    else:
        encoded = graph.node("ArgMax", Z, axis=1, keepdims=0)
        classes = graph.labels(get_label_classes(scope, clf))
        graph.node("Gather", classes, encoded, output=label, axis=0)

    if scope.get_options(clf, {"raw_scores": False})["raw_scores"]:
        graph.node("Identity", Z, output=probabilities)
    elif clf.out_activation_ == "softmax":
        graph.node("Softmax", Z, output=probabilities, axis=1)
    elif multiclass:  # sigma(z_k) / sum_j sigma(z_j)
        graph.node("Softmax", graph.log_sigmoid(Z), output=probabilities, axis=1)
    else:
        graph.node("Exp", graph.log_sigmoid(Z), output=probabilities)


update_registered_converter(
    BGDClassifier,
    "SkbgdBGDClassifier",
    _set_shapes,
    _convert,
    options={
        "zipmap": [True, False, "columns"],
        "output_class_labels": [False, True],
        "nocl": [True, False],
        "raw_scores": [True, False],
    },
)
