"""The estimator: parameters, validation, labels in and out; no arithmetic."""

import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ._descent import Descent, State, minimize
from ._network import ACTIVATIONS, OUTPUT_ACTIVATIONS, Network

FLOATS = (np.float64, np.float32)


class BGDClassifier(ClassifierMixin, BaseEstimator):
    r"""Sigmoid multilayer network trained by gradient descent in batches of any size.

    One parameter, `batch_size`, leads from stochastic gradient descent (1) over
    mini-batches to batch gradient descent ("full").

    Read more in the Notes on what is minimised and how.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units in each hidden layer. ``()`` is a single neuron, that is logistic
        regression, with one unit per class if there are more than two.

    activation : {"logistic", "tanh", "relu", "identity"}, default="logistic"
        Activation function of the hidden layers.

    output_activation : {"logistic", "softmax"}, default="logistic"
        What the output units are when there are more than two classes. "logistic":
        one sigmoid unit per class with the binary cross-entropy summed over the units,
        probabilities normalised to sum to 1. "softmax": one softmax over the classes
        with its cross-entropy. Two classes always have one sigmoid unit (the softmax of
        two is the same model), multilabel targets one sigmoid unit per label.

    batch_size : int, "full" or "auto", default="auto"
        Rows per gradient step. 1 is stochastic gradient descent, "full" is batch
        gradient descent; a number larger than the data means all rows. "auto" is
        ``min(256, n_samples)``. A last, shorter batch is averaged over its own rows.

    learning_rate : float or "auto", default="auto"
        Step size :math:`\eta > 0`. "auto" is 1 for `batch_size` "auto" or "full" and
        :math:`\sqrt{\min(m, 256)} / 16` for one of :math:`m` rows (1/16 for a single
        row), times ``1 - momentum``, and

        - with hidden layers, divided by the root mean square of the features if that is
          larger than 1;
        - with a single neuron, at most
          :math:`4 / (1 + \operatorname{mean}_i \lVert x_i \rVert^2)`, small enough for
          every step of batch gradient descent to lower the cost.

        It is set by the rows of `fit`, or of the first call of `partial_fit`. No single
        step size suits features of different scales: put a
        :class:`~sklearn.preprocessing.StandardScaler` in front.

    solver : {"sgd"}, default="sgd"
        Rule of the step; see Notes.

    momentum : float in [0, 1), default=0.0
        Share :math:`\mu` of the last step that is carried into the next.

    nesterov : bool, default=False
        Whether to look ahead by the momentum (Nesterov). No effect without momentum.

    alpha : float, default=0.0001
        Strength of the L2 penalty, not divided by anything: what it is in
        :class:`~sklearn.linear_model.SGDClassifier`. For the effect of
        :class:`~sklearn.neural_network.MLPClassifier`'s, pass its ``alpha`` divided by
        its ``batch_size``.

    max_iter : int, default=400
        Largest number of epochs (passes over the rows).

    tol : float or None, default=1e-4
        How far the loss has to fall, within `n_iter_no_change` epochs, for training to
        go on. None: always `max_iter` epochs.

    n_iter_no_change : int, default=50
        Training stops after exactly so many epochs in a row in which the loss did not
        come to lie `tol` below the mark, the last loss that did.

    shuffle : bool, default=True
        Whether to visit the rows in a new random order in each epoch. Without effect
        when a batch holds all rows.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, ``{label: weight}``; classes not named have weight 1.
        "balanced" gives every class the same total,
        ``n_samples / (n_classes * count)`` with counts weighted by `sample_weight`.
        They multiply `sample_weight`. `partial_fit` takes a dict only. Not for
        multilabel targets.

    random_state : int, RandomState instance or None, default=None
        Initial weights and order of the rows. Pass an int for the same result each
        time.

    verbose : int, default=0
        1 prints about 20 lines in the longest `fit`, 2 a line per epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted; for multilabel targets the numbers of the labels.

    coefs_ : list of ndarray, each of shape (fan_in, fan_out)
        Weight matrices :math:`W_1, \dots, W_L`.

    intercepts_ : list of ndarray, each of shape (fan_out,)
        Bias vectors :math:`b_1, \dots, b_L`.

    n_layers_ : int
        Number of layers, input and output included.

    n_outputs_ : int
        Number of output units.

    out_activation_ : {"logistic", "softmax"}
        Activation function of the output layer.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    n_iter_ : int
        Number of epochs, over `fit` and the calls of `partial_fit` that followed it.

    t_ : int
        Number of rows visited so far, each counted once per epoch.

    learning_rate_ : float
        The step size used last.

    loss_curve_ : list of float
        The objective :math:`J` in each of the `n_iter_` epochs. The loss of a row is
        taken just before the step it is part of, the penalty at the start of the
        epoch: with the whole batch, exactly :math:`J(\theta)` before each step.

    loss_ : float
        The last entry of `loss_curve_`.

    best_loss_ : float
        The smallest entry of `loss_curve_`.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : Multilayer perceptron in NumPy.
    sklearn.linear_model.SGDClassifier : Linear models, one row at a time.

    Notes
    -----
    Rows are :math:`x_i`, and :math:`A_0 = X`. Layer :math:`l = 1 \dots L` computes

    .. math::
        Z_l = A_{l-1} W_l + b_l, \qquad A_l = f(Z_l)

    with :math:`f` the `activation` in hidden layers and the sigmoid
    :math:`\sigma(z) = 1 / (1 + e^{-z})` or a softmax in the last. With row weights
    :math:`w_i` (`sample_weight` times class weight) the objective is, whatever the
    batch size,

    .. math::
        J(\theta) = \frac{\sum_i w_i \ell_i}{\sum_i w_i}
        + \frac{\alpha}{2} \sum_l \lVert W_l \rVert^2, \qquad
        \ell_i = -\sum_k y_{ik} \log a_{ik} + (1 - y_{ik}) \log(1 - a_{ik})

    (for softmax :math:`\ell_i = -\log a_{i y_i}`). Its gradient comes by
    back-propagation, :math:`D_l = \partial J / \partial Z_l`, starting from
    :math:`D_L = w (a - y)` for both kinds of output:

    .. math::
        \frac{\partial J}{\partial W_l} = A_{l-1}^T D_l, \qquad
        \frac{\partial J}{\partial b_l} = \sum_i D_{l,i}, \qquad
        D_{l-1} = (D_l W_l^T) \odot f'(Z_{l-1})

    A step on batch :math:`B`, out of :math:`n` rows, is

    .. math::
        g = \frac{n}{|B| \sum_i w_i} \sum_{i \in B} w_i \nabla \ell_i + \alpha W,
        \qquad v \leftarrow \mu v - \eta g, \qquad \theta \leftarrow \theta + v

    and with Nesterov's momentum :math:`\theta \leftarrow \theta + \mu v - \eta g`. So
    scaling all weights changes nothing, a batch of weight zero does no harm, and with
    the whole batch an integer weight is the same as repeating the row. Biases carry no
    penalty. In `partial_fit`, :math:`n` and :math:`\sum_i w_i` are those of the call.

    The initial weights and biases are uniform in :math:`\pm g \sqrt{6 / (fan_{in} +
    fan_{out})}`, with gain :math:`g = 4` in front of logistic hidden units and 1
    elsewhere; a single neuron starts at 0.

    A call that fails (bad input, or a step size so large that the loss is no longer
    finite) leaves the estimator as it was before the call. Data of dtype float32
    is computed in float32, everything else in float64.

    References
    ----------
    .. [1] D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning representations by
       back-propagating errors", Nature 323, 1986.
    .. [2] Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, "Efficient BackProp", in Neural
       Networks: Tricks of the Trade, Springer, 1998.
    .. [3] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep
       feedforward neural networks", AISTATS 2010.
    .. [4] L. Bottou, F. E. Curtis, J. Nocedal, "Optimization methods for large-scale
       machine learning", SIAM Review 60, 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skbgd import BGDClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = make_pipeline(
    ...     StandardScaler(),
    ...     BGDClassifier(batch_size=32, max_iter=50, tol=None, random_state=0),
    ... ).fit(X_train, y_train)
    >>> clf.score(X_test, y_test) > 0.95
    True
    >>> clf.predict(X_test[:4])
    array([0, 1, 1, 1])
    """

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        *,
        activation="logistic",
        output_activation="logistic",
        batch_size="auto",
        learning_rate="auto",
        solver="sgd",
        momentum=0.0,
        nesterov=False,
        alpha=1e-4,
        max_iter=400,
        tol=1e-4,
        n_iter_no_change=50,
        shuffle=True,
        class_weight=None,
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.output_activation = output_activation
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.solver = solver
        self.momentum = momentum
        self.nesterov = nesterov
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.shuffle = shuffle
        self.class_weight = class_weight
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None):
        """Train from a new start until the loss stands still.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to learn from. A C-contiguous array of float32 or float64 is used
            as it is, without a copy.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels (at least two), or indicators 0/1 of several labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows: not negative, not all zero. Only their ratios matter.

        Returns
        -------
        self : BGDClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the input is not valid, or if the loss becomes infinite
            or NaN on the way. The estimator is then as it was before the call.

        Warns
        -----
        ConvergenceWarning
            If the loss still falls after `max_iter` epochs.
        """
        with _unchanged_on_error(self):
            _check_parameters(self)
            X, y = self._validate(X, y, reset=True)
            self._multilabel = _is_multilabel(y)
            self.classes_ = _classes_in(y)
            Y = self._encode(y)
            weights = self._row_weights(Y, sample_weight, X.dtype)
            if weights is not None and not weights.any():
                raise ValueError(
                    "All weights are zero (sample_weight times class weight); at least "
                    "one row needs a positive weight."
                )
            self._start(X)
            descent = self._descent(self._state, X, Y, weights)
            converged = minimize(
                descent,
                max_iter=self.max_iter,
                tol=self.tol,
                n_iter_no_change=self.n_iter_no_change,
                verbose=self.verbose,
            )
            self._store(descent.state)
            self.learning_rate_ = descent.learning_rate
        if not converged and self.tol is not None:
            warnings.warn(
                f"The loss still falls after max_iter={self.max_iter} epochs. Increase "
                "max_iter or learning_rate, or stop earlier by a larger tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Go on training with one epoch over the given rows.

        Weights, momentum, counters, loss curve and the stream of random numbers go on
        from the last call of `fit` or `partial_fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to learn from.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, any of `classes`, or indicators 0/1 of several labels.

        classes : array-like of shape (n_classes,), default=None
            All class labels that will ever come. Required in the first call (except
            for indicators), optional and to be the same later.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, not negative. If all are zero nothing is learned.

        Returns
        -------
        self : BGDClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the input is not valid, or if the loss becomes infinite
            or NaN on the way. The estimator is then as it was before the call.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from skbgd import BGDClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = BGDClassifier(batch_size=4, random_state=0)
        >>> for rows in np.array_split(np.arange(1500), 15):  # chunks of a stream
        ...     clf = clf.partial_fit(X[rows] / 16, y[rows], classes=np.arange(10))
        >>> clf.score(X[1500:] / 16, y[1500:]) > 0.8
        True
        """
        with _unchanged_on_error(self):
            _check_parameters(self)
            if self.class_weight == "balanced":
                raise ValueError(
                    "class_weight='balanced' needs all rows at once, which partial_fit "
                    "never sees; pass a dict {label: weight}."
                )
            first = not hasattr(self, "_state")
            X, y = self._validate(X, y, reset=first)
            if first:
                self._multilabel = classes is None and _is_multilabel(y)
                self.classes_ = (
                    _classes_in(y) if self._multilabel else _announced(classes)
                )
            elif classes is not None and not np.array_equal(
                self.classes_, np.unique(classes)
            ):
                raise ValueError(
                    "classes must be the same in every call of partial_fit; got "
                    f"classes={classes!r} after {self.classes_.tolist()}."
                )
            Y = self._encode(y)
            weights = self._row_weights(Y, sample_weight, X.dtype)
            if first:
                self._start(X)
            # The old state stays whole until the epoch has gone well.
            state = self._state.copy()
            if weights is None or weights.any():
                descent = self._descent(state, X, Y, weights)
                descent.epoch()
                self.learning_rate_ = descent.learning_rate
            self._store(state)
        return self

    def decision_function(self, X):
        """Pre-activations of the output units.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Z : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One column per class or label; for two classes a vector, positive for the
            second class.
        """
        Z = self._pre_activations(X)
        return Z.ravel() if Z.shape[1] == 1 else Z

    def predict(self, X):
        """Predict the class of each row, or 0/1 for each of its labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The most probable class; for multilabel targets, whether each label is more
            probable than not.
        """
        Z = self._pre_activations(X)
        if self._multilabel:
            return (Z > 0).astype(int)
        codes = (Z[:, 0] > 0).astype(int) if Z.shape[1] == 1 else Z.argmax(axis=1)
        return self.classes_[codes]

    def predict_proba(self, X):
        """Probability of each class, or of each label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            In the order of `classes_`. Classes sum to 1 in each row, labels do not.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X):
        """Logarithm of the probability of each class, or of each label.

        Computed from the pre-activations: finite where `predict_proba` rounds to 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        log_P : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            In the order of `classes_`.
        """
        Z = self._pre_activations(X)
        return self._network.log_probabilities(Z, exclusive=not self._multilabel)

    @property
    def coefs_(self):
        """Weight matrices, views into the vector of all parameters."""
        return self._network.coefs(self._state.theta)

    @property
    def intercepts_(self):
        """Bias vectors, views into the vector of all parameters."""
        return self._network.intercepts(self._state.theta)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _validate(self, X, y, reset):
        """X in a dtype and order the core can use; y dense, (n,) or (n, n_labels)."""
        X, y = validate_data(
            self,
            X,
            y,
            reset=reset,
            dtype=FLOATS if reset else self._state.theta.dtype,
            order="C",
            multi_output=True,
        )
        if issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _encode(self, y):
        """Codes of the classes, (n, 1), or indicators, (n, n_labels), for the core."""
        if self._multilabel:
            if y.ndim != 2 or y.shape[1] != len(self.classes_):
                raise ValueError(
                    f"y must hold 0/1 indicators of {len(self.classes_)} labels, one "
                    f"column each; got an array of shape {y.shape}."
                )
            if not np.isin(y, (0, 1)).all():
                raise ValueError(
                    "The indicators in y must be 0 or 1; got the values "
                    f"{np.unique(y)[:5].tolist()}."
                )
            return np.ascontiguousarray(y, dtype=np.intc)
        if y.ndim != 1:
            raise ValueError(
                f"y must hold one class label per row; got an array of shape {y.shape}."
            )
        try:
            codes = np.searchsorted(self.classes_, y)
            known = self.classes_[np.minimum(codes, len(self.classes_) - 1)] == y
        except TypeError:  # labels that do not compare, such as numbers and strings
            known = np.isin(y, self.classes_.astype(object))
        if not np.all(known):
            unknown = np.unique(y[np.logical_not(known)].astype(str))[:5].tolist()
            raise ValueError(
                f"y holds labels that were not announced: {unknown}. The classes are "
                f"{self.classes_.tolist()}; announce all of them in the first call, "
                "partial_fit(X, y, classes=...)."
            )
        return codes.astype(np.intc)[:, np.newaxis]

    def _row_weights(self, Y, sample_weight, dtype):
        """sample_weight times class weight, 1 on average or all 0; None for all 1."""
        if sample_weight is None and self.class_weight is None:
            return None
        if sample_weight is None:
            weights = np.ones(len(Y))
        else:
            weights = _check_sample_weight(sample_weight, len(Y))
        if self.class_weight is not None:
            if self._multilabel:
                raise ValueError(
                    "class_weight is for classes that exclude each other; got "
                    f"class_weight={self.class_weight!r} with multilabel y. Use "
                    "sample_weight."
                )
            codes = Y[:, 0]
            weights = weights * self._class_weights(codes, weights)[codes]
        if weights.any():
            weights = weights / weights.max()  # no overflow in the sum
            weights /= weights.mean()
        return weights.astype(dtype)

    def _class_weights(self, codes, weights):
        """One weight per class, shape (n_classes,)."""
        n_classes = len(self.classes_)
        class_weights = np.ones(n_classes)
        if isinstance(self.class_weight, str):  # "balanced"
            totals = np.bincount(codes, weights=weights, minlength=n_classes)
            present = totals > 0
            class_weights[present] = weights.sum() / (n_classes * totals[present])
            return class_weights
        code_of = {label: code for code, label in enumerate(self.classes_.tolist())}
        for label, weight in self.class_weight.items():
            if label not in code_of:
                raise ValueError(
                    f"class_weight names the class {label!r}, which is none of the "
                    f"classes {self.classes_.tolist()}."
                )
            class_weights[code_of[label]] = weight
        return class_weights

    def _start(self, X):
        """Set the network and the state to start from."""
        random_state = check_random_state(self.random_state)
        n_classes = len(self.classes_)
        n_outputs = 1 if n_classes == 2 and not self._multilabel else n_classes
        exclusive = n_outputs > 1 and not self._multilabel
        self._network = Network(
            (X.shape[1], *_hidden_units(self.hidden_layer_sizes), n_outputs),
            self.activation,
            self.output_activation if exclusive else "logistic",
        )
        self._state = State(
            theta=self._network.initial_parameters(random_state, X.dtype),
            shuffle_state=int(random_state.randint(2**63, dtype=np.uint64)),
        )

    def _descent(self, state, X, Y, weights):
        return Descent(
            self._network,
            state,
            X,
            Y,
            weights,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            alpha=self.alpha,
            momentum=self.momentum,
            nesterov=self.nesterov,
            shuffle=self.shuffle,
        )

    def _store(self, state):
        """Take over the state that the descent has reached."""
        self._state = state
        self.n_layers_ = len(self._network.units)
        self.n_outputs_ = int(self._network.units[-1])
        self.out_activation_ = self._network.output_activation
        self.n_iter_ = state.n_iter
        self.t_ = state.t
        self.loss_curve_ = state.loss_curve
        if state.loss_curve:
            self.loss_ = state.loss_curve[-1]
            self.best_loss_ = min(state.loss_curve)

    def _pre_activations(self, X):
        check_is_fitted(self)
        theta = self._state.theta
        X = validate_data(self, X, reset=False, dtype=theta.dtype, order="C")
        return self._network.decision_function(theta, X)


@contextmanager
def _unchanged_on_error(estimator):
    """Whatever ends the block early, give the estimator its attributes back."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def _is_number(value, kind=Real):
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


def _hidden_units(hidden_layer_sizes):
    """The parameter as a tuple; a bare number is one layer."""
    if np.ndim(hidden_layer_sizes) == 0:
        return (hidden_layer_sizes,)
    return tuple(hidden_layer_sizes)


def _is_positive_int(value):
    return _is_number(value, Integral) and value >= 1


def _is_flag(value):
    return isinstance(value, (bool, np.bool_))


def _check_parameters(clf):
    """Raise a ValueError that gives the rule and the value for the first bad one."""

    def check(name, valid, rule):
        if not valid:
            raise ValueError(f"Got {name}={getattr(clf, name)!r}; it must be {rule}.")

    sizes = clf.hidden_layer_sizes
    check(
        "hidden_layer_sizes",
        _is_positive_int(sizes)
        or isinstance(sizes, (tuple, list, np.ndarray))
        and all(_is_positive_int(size) for size in sizes),
        "a positive int or a sequence of positive ints, () for a single neuron",
    )
    for name, choices in (
        ("activation", ACTIVATIONS),
        ("output_activation", OUTPUT_ACTIVATIONS),
        ("solver", ("sgd",)),
    ):
        value = getattr(clf, name)
        check(
            name,
            isinstance(value, str) and value in choices,
            "one of " + ", ".join(map(repr, choices)),
        )
    batch_size = clf.batch_size
    check(
        "batch_size",
        batch_size in ("full", "auto")
        if isinstance(batch_size, str)
        else _is_positive_int(batch_size),
        "a positive int, 'full' or 'auto'",
    )
    learning_rate = clf.learning_rate
    check(
        "learning_rate",
        learning_rate == "auto"
        if isinstance(learning_rate, str)
        else _is_number(learning_rate) and 0 < learning_rate < np.inf,
        "a positive, finite number or 'auto'",
    )
    for name, low, high, rule in (
        ("momentum", 0, 1, "a number in [0, 1)"),
        ("alpha", 0, np.inf, "a finite number, 0 or larger"),
    ):
        value = getattr(clf, name)
        check(name, _is_number(value) and low <= value < high, rule)
    for name in ("max_iter", "n_iter_no_change"):
        check(name, _is_positive_int(getattr(clf, name)), "a positive int")
    check(
        "tol",
        clf.tol is None or _is_number(clf.tol) and 0 <= clf.tol < np.inf,
        "a finite number, 0 or larger, or None",
    )
    for name in ("nesterov", "shuffle"):
        check(name, _is_flag(getattr(clf, name)), "True or False")
    class_weight = clf.class_weight
    check(
        "class_weight",
        class_weight is None
        or isinstance(class_weight, str)
        and class_weight == "balanced"
        or isinstance(class_weight, dict)
        and all(_is_number(w) and 0 <= w < np.inf for w in class_weight.values()),
        "a dict of labels and weights (finite, 0 or larger), 'balanced' or None",
    )
    verbose = clf.verbose
    check(
        "verbose",
        _is_flag(verbose) or _is_number(verbose, Integral) and verbose >= 0,
        "0, 1 or 2",
    )


def _check_sample_weight(sample_weight, n_samples):
    """sample_weight as an array of float64."""
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.ndim != 1 or len(weights) != n_samples:
        raise ValueError(
            f"sample_weight must have shape ({n_samples},), one weight per row of X; "
            f"got shape {weights.shape}."
        )
    if (weights < 0).any():
        raise ValueError(
            f"sample_weight must not be negative; got {weights.min():g}. A weight of 0 "
            "leaves a row out."
        )
    return weights


def _is_multilabel(y):
    return y.ndim == 2 and type_of_target(y) == "multilabel-indicator"


def _classes_in(y):
    """The sorted labels in y, or the numbers of its columns if they are indicators."""
    check_classification_targets(y)
    if y.ndim == 2:
        return np.arange(y.shape[1])
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least two classes; got one class: {classes.tolist()[0]!r}."
        )
    return classes


def _announced(classes):
    """The sorted labels of the first call of partial_fit."""
    if classes is None:
        raise ValueError(
            "The first call of partial_fit must announce all classes: "
            "partial_fit(X, y, classes=...). Got classes=None."
        )
    classes = np.unique(column_or_1d(classes))
    if len(classes) < 2:
        raise ValueError(
            f"classes must hold at least two labels; got {classes.tolist()}."
        )
    return classes
