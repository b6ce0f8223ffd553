"""The estimator: parameters, validation, labels in and out; no arithmetic."""

import warnings
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from numbers import Integral, Real
from typing import Any, Literal, Protocol, Self
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ._descent import (
    SCHEDULES,
    SOLVERS,
    Descent,
    Plan,
    State,
    Step,
    mean_loss,
    minimize,
    rows_per_batch,
    schedule,
)
from ._network import ACTIVATIONS, OUTPUT_ACTIVATIONS, Network
from ._watch import CallbackSupportMixin, Watcher, with_callbacks


class _SparseRows(Protocol):
    """What scipy's sparse arrays and matrices have in common, whatever their type."""

    def tocsr(self, copy: bool = False) -> Any: ...


FLOATS = (np.float64, np.float32)

# Root mean square of a feature above which it should have been scaled.
LARGE_SCALE = 10.0

# Share by which the loss has to rise for a warning.
RISE = 0.01

# Parameters with which a warm start goes on as if they had not changed. The network's
# may not change.
WITHOUT_EFFECT_ON_STEPS = {
    "hidden_layer_sizes", "activation", "output_activation", "max_iter", "warm_start",
    "random_state", "verbose", "n_jobs",
}  # fmt: skip


class BGDClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    r"""Sigmoid multilayer network trained by gradient descent in batches of any size.

    One parameter, `batch_size`, leads from stochastic gradient descent (1) over
    mini-batches to batch gradient descent ("full").

    What is "auto" is planned from the number of rows and the layers: batches, a step
    size that falls to 0, and the epochs in which it does. It is for whoever chose
    nothing; an explicit value means what it says, whatever else is "auto". The Notes
    say what is minimised, and how.

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
        gradient descent; a number larger than the data means all rows. "auto" is a
        75th of the rows, but at least 8 and at most 128; in `partial_fit` of those of
        the call. A last, shorter batch is averaged over its own rows.

    learning_rate : float or "auto", default="auto"
        Step size :math:`\eta > 0`, which stays what it is in each epoch unless
        `learning_rate_schedule` names a rule. "auto" is, for batches of :math:`m` rows
        (for "full" as for 128), :math:`0.4 \sqrt{\min(m, 128)}`, times
        ``1 - momentum``, and

        - with hidden layers, divided by the root mean square :math:`r` of the features
          if that is larger than 1, and with other units than logistic ones by 8 times
          the number of hidden layers;
        - with a single neuron, at most :math:`1 / (L + \alpha)` with
          :math:`L = (1 + \operatorname{mean}_i \lVert x_i \rVert^2) / 4` (twice that
          for a softmax): every step of plain batch gradient descent lowers the cost.

        With ``solver="adam"`` it is 0.05, with other units than logistic ones in the
        hidden layers 0.01, over their number and over :math:`\sqrt{\max(1, r)}`. The
        features are those of `fit`, or of the first call of `partial_fit`. No single
        step size suits features of different scales: put a
        :class:`~sklearn.preprocessing.StandardScaler` in front.

    learning_rate_schedule : {"auto", "constant", "invscaling", "adaptive", \
            "cosine"} or callable, default="auto"
        The factor that multiplies the step size in each epoch, epochs counted from 0:

        - "auto": "cosine" in `fit` if `learning_rate` is "auto" too; "constant" if it
          is a number, and in `partial_fit`, which has no end;
        - "constant": 1;
        - "invscaling": :math:`1 / (t + 1)^p` after :math:`t` rows (`t_`), with
          :math:`p` = `power_t`;
        - "adaptive": a fifth of what it was whenever training would otherwise stop;
          it stops when the step size is below 1e-6. `partial_fit` keeps the factor;
        - "cosine": :math:`(1 + \cos(\pi k / T)) / 2` in epoch :math:`k`, with :math:`T`
          = `max_iter`: the step falls to 0, and training is over as planned;
        - a function of the epoch :math:`k` that returns the factor.

    power_t : float, default=0.5
        Exponent of "invscaling".

    solver : {"sgd", "adam"}, default="sgd"
        Rule of the step: gradient descent, with or without momentum, or Adam [5]_. See
        Notes.

    momentum : float in [0, 1), default=0.0
        Share :math:`\mu` of the last step that is carried into the next. Only for
        "sgd".

    nesterov : bool, default=False
        Whether to look ahead by the momentum (Nesterov). No effect without momentum.

    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Decay of Adam's averages of the gradient and of its square.

    epsilon : float, default=1e-8
        Keeps Adam's denominator from 0.

    max_gradient_norm : float or None, default=None
        Longer gradients (penalty included, over all parameters) are shortened to this
        Euclidean norm.

    alpha : float or "auto", default="auto"
        Strength of the L2 penalty, not divided by anything: what it is in
        :class:`~sklearn.linear_model.SGDClassifier`. For the effect of
        :class:`~sklearn.neural_network.MLPClassifier`'s, pass its ``alpha`` divided by
        its ``batch_size``. "auto" is :math:`2 / n` for :math:`n` rows, those of
        the call, and at most 2e-4, divided by the square of the number of hidden
        layers.

    max_iter : int or "auto", default="auto"
        Largest number of epochs (passes over the rows), with `warm_start` those of
        earlier calls included. "auto" is, for a cosine, 20 epochs and as many more as
        make 200 steps; for other schedules, whose end `tol` finds, 400. With
        `warm_start` it is so many epochs again when rows or parameters have changed.

    tol : float or None, default=1e-4
        How far the criterion has to fall, within `n_iter_no_change` epochs, for
        training to go on. The criterion is the training loss, or with `early_stopping`
        the validation loss or minus the score. None: always `max_iter` epochs.

    n_iter_no_change : int or "auto", default="auto"
        Training stops after exactly so many epochs in a row in which the criterion did
        not come to lie `tol` below the mark, the last value that did. "auto" is 50; for
        a cosine, whose epochs are planned, it is half of them with `early_stopping`,
        and without it the training loss ends nothing.

    shuffle : bool, default=True
        Whether to visit the rows in a new random order in each epoch. Without effect
        when a batch holds all rows.

    early_stopping : bool, default=False
        Whether to stop by the validation rows instead of the training loss, and to keep
        the parameters that were best on them. The validation rows are `X_val` and
        `y_val` of `fit`, or a part of the rows that is set aside.

    validation_fraction : float in (0, 1), default=0.1
        Share of the rows to set aside if `early_stopping` is True and no validation
        rows are given: at random, each class in proportion, the only member of a class
        never.

    scoring : str, callable or None, default=None
        What to judge the validation rows by: None is their loss, otherwise a
        scikit-learn scorer, ``scorer(estimator, X, y)``, larger is better. With weights
        it is called with ``sample_weight`` too.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, ``{label: weight}``; classes not named have weight 1.
        "balanced" gives every class the same total,
        ``n_samples / (n_classes * count)`` with counts weighted by `sample_weight`.
        They multiply `sample_weight`. `partial_fit` takes a dict or None. Not for
        multilabel targets.

    warm_start : bool, default=False
        Whether `fit` goes on from the last call instead of a new start. `max_iter`
        counts all epochs: ``fit`` with ``max_iter=a`` and again with ``a + b`` is one
        ``fit`` with ``a + b``, to the last bit, with the same rows and parameters and a
        schedule that does not depend on `max_iter`, as a cosine does.
        If the rows or a parameter of the objective, the steps or the stopping rule
        changed (such as `alpha`, `learning_rate` or `tol`), training goes on from the
        parameters reached, and the stopping rule starts anew. The classes, the features
        and the layers must be the same. A call that makes no epoch warns.

    random_state : int, RandomState instance or None, default=None
        Initial weights, order of the rows and choice of the validation rows. Pass an
        int for the same result each time.

    verbose : int, default=0
        1 lets `fit` print at most about 20 lines, 2 a line per epoch. With scikit-learn
        1.9 or newer see also `set_callbacks`.

    n_jobs : int or None, default=None
        Number of threads that `fit`, `partial_fit` and predictions may use; -1 is one
        for each core. None: as many as the BLAS may use at the time, at most one for
        each core; so the limits hold that joblib sets for its workers, those of
        threadpoolctl and of variables such as ``OPENBLAS_NUM_THREADS``. Small batches
        of small networks run in one thread whatever is allowed, and the BLAS is held to
        one thread meanwhile. Another number changes results by rounding only; the same
        number repeats them to the last bit, if no other fit runs in the process.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted; for multilabel targets the numbers of the labels.

    coefs_ : tuple of ndarray, each of shape (fan_in, fan_out)
        Weight matrices :math:`W_1, \dots, W_L`. To start from weights of your own,
        write into them after a first `partial_fit`: ``clf.coefs_[0][:] = W``.

    intercepts_ : tuple of ndarray, each of shape (fan_out,)
        Bias vectors :math:`b_1, \dots, b_L`, which can be written into likewise.

    coef_ : ndarray of shape (n_outputs, n_features)
        Without hidden layers, the weights as linear models have them: the transpose of
        ``coefs_[0]``. Not there with hidden layers.

    intercept_ : ndarray of shape (n_outputs,)
        Without hidden layers, ``intercepts_[0]``. Not there with hidden layers.

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
        The step size used last: at the end of a cosine almost 0.

    learning_rate_init_ : float
        The step size that the schedule multiplies, given or chosen.

    batch_size_ : int
        Rows per step in the last call.

    alpha_ : float
        Strength of the penalty in the last call.

    max_iter_ : int
        The largest number of epochs in the last `fit`, those of earlier calls included.

    loss_curve_ : list of float
        The objective :math:`J` in each of the `n_iter_` epochs. The loss of a row is
        taken just before the step it is part of, the penalty at the start of the
        epoch: with the whole batch, exactly :math:`J(\theta)` before each step.

    updates_curve_ : list of int
        Number of gradient steps up to the end of each epoch.

    seconds_curve_ : list of float
        Time spent in the epochs up to the end of each, in seconds, without what comes
        before and between them: checks of the input, validation rows, callbacks.

    validation_loss_curve_ : list of float
        The loss of the validation rows, without penalty, after each epoch; empty
        without validation rows, nan in epochs of a warm start that had none.

    validation_scores_ : list of float
        Their score after each epoch, if `scoring` is given; else empty.

    loss_ : float
        The last entry of `loss_curve_`.

    best_loss_ : float
        The smallest entry of `loss_curve_`.

    stop_reason_ : str
        Why the last `fit` ended: "converged" (`tol`), "early_stopping" (`tol` on the
        validation rows), "max_iter", "callback" or "interrupted" (Ctrl-C; the last
        epoch is then a part of one).

    See Also
    --------
    LossCurveDisplay : Draws how it was trained.
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
        \ell_i = -\sum_k [y_{ik} \log a_{ik} + (1 - y_{ik}) \log(1 - a_{ik})]

    (for softmax :math:`\ell_i = -\log a_{i y_i}`). The gradient of the sum
    :math:`E = \sum_i w_i \ell_i` comes by back-propagation,
    :math:`D_l = \partial E / \partial Z_l`, starting from :math:`D_L = w (a - y)` for
    both kinds of output:

    .. math::
        \frac{\partial E}{\partial W_l} = A_{l-1}^T D_l, \qquad
        \frac{\partial E}{\partial b_l} = \sum_i D_{l,i}, \qquad
        D_{l-1} = (D_l W_l^T) \odot f'(Z_{l-1})

    A step on batch :math:`B`, out of :math:`n` rows, is

    .. math::
        g = \frac{n}{|B| \sum_i w_i} \sum_{i \in B} w_i \nabla \ell_i + \alpha W,
        \qquad v \leftarrow \mu v - \eta g, \qquad \theta \leftarrow \theta + v

    and with Nesterov's momentum :math:`\theta \leftarrow \theta + \mu v - \eta g`. Step
    number :math:`t` of Adam is, elementwise,

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        s \leftarrow \beta_2 s + (1 - \beta_2) g^2, \quad
        \theta \leftarrow \theta - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
        \frac{m}{\sqrt{s} + \epsilon}

    So scaling all weights changes nothing, a batch of weight zero does no harm, and
    with the whole batch an integer weight is the same as repeating the row. Biases
    carry no penalty. In `partial_fit`, :math:`n` and :math:`\sum_i w_i` are those of
    the call.

    The initial weights and biases are uniform, those of the first hidden layer in
    :math:`\pm c \sqrt{3 / d}` for :math:`d` features with :math:`c = 3` for logistic
    units, 1.5 for tanh, :math:`\sqrt 2` for relu and 1 for identity (the weights over
    :math:`\sqrt r`, if :math:`r`, the root mean square of the features, is larger than
    1), those of the others in :math:`\pm c \sqrt{6 / (fan_{in} + fan_{out})}` [3]_ with
    :math:`c = 4` in front of logistic hidden units and 1 elsewhere; a single neuron
    starts at 0.

    A call that fails (bad input, or a step size so large that the loss is no longer
    finite) leaves the estimator as it was before the call. A model that is first fitted
    to float32 computes in float32, any other in float64.

    Sparse rows (CSR; other formats are converted) are never made dense. A step reads
    and writes the rows of :math:`W_1` that its elements name, so it costs what they
    cost, however many features there are; the penalty on the rest is carried in one
    number. Once an epoch there is a pass over all weights, for their norm. Momentum,
    Nesterov, Adam and `max_gradient_norm` change all weights in each step, and so do
    batches of more rows than fit the cache (256 at least): a step then costs what all
    weights cost.

    The work of a large batch is shared out to threads, each with a share of the rows
    and a share of the weights, so that no sum is split. Memory beside the data, its
    labels and a few copies of the weights is that of some hundred or thousand rows,
    however many there are; C-ordered float32 and float64 rows are used where they are.

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
    .. [5] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.

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
    ...     BGDClassifier(random_state=0),
    ... ).fit(X_train, y_train)
    >>> clf.score(X_test, y_test) > 0.95
    True
    >>> clf.predict(X_test[:4])
    array([0, 1, 1, 1])
    """

    classes_: NDArray[Any]
    n_layers_: int
    n_outputs_: int
    out_activation_: Literal["logistic", "softmax"]
    n_features_in_: int
    feature_names_in_: NDArray[Any]
    n_iter_: int
    t_: int
    learning_rate_: float
    learning_rate_init_: float
    batch_size_: int
    alpha_: float
    max_iter_: int
    loss_curve_: list[float]
    updates_curve_: list[int]
    seconds_curve_: list[float]
    validation_loss_curve_: list[float]
    validation_scores_: list[float]
    loss_: float
    best_loss_: float
    stop_reason_: Literal[
        "converged", "early_stopping", "max_iter", "callback", "interrupted"
    ]

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | NDArray[np.integer] = (100,),
        *,
        activation: Literal["logistic", "tanh", "relu", "identity"] = "logistic",
        output_activation: Literal["logistic", "softmax"] = "logistic",
        batch_size: int | Literal["full", "auto"] = "auto",
        learning_rate: float | Literal["auto"] = "auto",
        learning_rate_schedule: Literal[
            "auto", "constant", "invscaling", "adaptive", "cosine"
        ]
        | Callable[[int], float] = "auto",
        power_t: float = 0.5,
        solver: Literal["sgd", "adam"] = "sgd",
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        max_gradient_norm: float | None = None,
        alpha: float | Literal["auto"] = "auto",
        max_iter: int | Literal["auto"] = "auto",
        tol: float | None = 1e-4,
        n_iter_no_change: int | Literal["auto"] = "auto",
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        scoring: str | Callable[..., float] | None = None,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.output_activation = output_activation
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_schedule = learning_rate_schedule
        self.power_t = power_t
        self.solver = solver
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.max_gradient_norm = max_gradient_norm
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.scoring = scoring
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.n_jobs = n_jobs

    def fit(
        self,
        X: ArrayLike | _SparseRows,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | _SparseRows | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train as planned or until the loss stands still, anew or on (`warm_start`).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows to learn from. A C-contiguous array, or CSR, of float32 or float64
            is used as it is, without a copy unless `early_stopping` sets rows aside.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels (at least two), or indicators 0/1 of several labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows: not negative, not all zero. Only their ratios matter.

        X_val : {array-like, sparse matrix} of shape \
                (n_validation_samples, n_features), default=None
            Validation rows: their loss is recorded after each epoch, and with
            `early_stopping` training stops by it. In a
            :class:`~sklearn.pipeline.Pipeline`, ``transform_input=["X_val"]`` passes
            them through the steps before.

        y_val : array-like of shape (n_validation_samples,) or \
                (n_validation_samples, n_labels), default=None
            Their labels, any of those in `y`.

        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Their weights. Class weights come on top, in the loss.

        Returns
        -------
        self : BGDClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the input is not valid, or if the loss becomes infinite
            or NaN on the way. The estimator is then as it was before the call.

        KeyboardInterrupt
            After Ctrl-C. What was learned until then is kept, if there was a step:
            the fitted attributes are set, with ``stop_reason_ = "interrupted"``.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs were over before the criterion stood still, unless the
            step fell to 0 as planned ("cosine"); if the loss is larger in the end than
            it was at first; if `warm_start` left no epoch to be made; or if the
            features are badly scaled.

        See Also
        --------
        partial_fit : Train on rows that come in chunks.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skbgd import BGDClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> train, validation, test = slice(1000), slice(1000, 1400), slice(1400, None)
        >>> X = X / 16
        >>> clf = BGDClassifier(
        ...     batch_size=16, early_stopping=True, n_iter_no_change=5, random_state=0
        ... ).fit(X[train], y[train], X_val=X[validation], y_val=y[validation])
        >>> clf.stop_reason_
        'early_stopping'
        >>> clf.score(X[test], y[test]) > 0.85
        True
        """
        trained = copy(self)
        try:
            warning = trained._fit(X, y, sample_weight, X_val, y_val, sample_weight_val)
        except KeyboardInterrupt as interrupt:
            if getattr(interrupt, "keeps_epochs", False):
                self.__dict__ = trained.__dict__
            raise
        self.__dict__ = trained.__dict__  # all at once, and not if an error was raised
        if warning is not None:
            warnings.warn(warning, ConvergenceWarning, stacklevel=2)
        return self

    def partial_fit(
        self,
        X: ArrayLike | _SparseRows,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Go on training with one epoch over the given rows.

        Parameters, momentum or Adam's moments, counters, loss curve, schedule and the
        stream of random numbers go on from the last call of `fit` or `partial_fit`: k
        calls with the same rows are ``fit`` with ``max_iter=k``, ``tol=None`` and
        the same schedule, which "auto" does not choose alike: a stream has no end.
        After early stopping it goes on from the best parameters. The loss curve grows
        by one entry with each call.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows to learn from.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, any of `classes`, or indicators 0/1 of several labels.

        classes : array-like of shape (n_classes,), default=None
            All class labels that will ever come. Required in the first call, unless `y`
            holds indicators; optional and to be the same later.

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
            or NaN on the way. The estimator is then as it was before the call, also
            after Ctrl-C.

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
        trained = copy(self)
        trained._partial_fit(X, y, classes, sample_weight)
        self.__dict__ = trained.__dict__  # all at once, and not if an error was raised
        return self

    def decision_function(self, X: ArrayLike | _SparseRows) -> NDArray[np.floating]:
        """Compute the pre-activations of the output units.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Z : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One column per class or label; for two classes a vector, positive for the
            second class.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If `X` has another number of features than in `fit`, or NaN or infinity.

        Examples
        --------
        >>> from skbgd import BGDClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cold", "cold", "hot", "hot"]
        >>> clf = BGDClassifier(()).fit(X, y)
        >>> clf.decision_function([[0.0], [3.0]]).round(1)
        array([-4.5,  5.1])
        """
        Z = self._now()._outputs(Network.decision_function, X)
        return Z.ravel() if Z.shape[1] == 1 else Z

    def predict(self, X: ArrayLike | _SparseRows) -> NDArray[Any]:
        """Predict the class of each row, or 0/1 for each of its labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The most probable class; for multilabel targets, whether each label is more
            probable than not.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If `X` has another number of features than in `fit`, or NaN or infinity.

        Examples
        --------
        >>> from skbgd import BGDClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cold", "cold", "hot", "hot"]
        >>> clf = BGDClassifier(()).fit(X, y)
        >>> clf.predict([[0.0], [3.0]])
        array(['cold', 'hot'], dtype='<U4')
        """
        model = self._now()
        Z = model._outputs(Network.decision_function, X)
        if model._multilabel:
            return (Z > 0).astype(int)
        codes = (Z[:, 0] > 0).astype(int) if Z.shape[1] == 1 else Z.argmax(axis=1)
        return model.classes_[codes]

    def predict_proba(self, X: ArrayLike | _SparseRows) -> NDArray[np.floating]:
        """Compute the probability of each class, or of each label.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            In the order of `classes_`. Classes sum to 1 in each row, labels do not.
            More than two classes with ``output_activation="logistic"`` have the
            sigmoids of `decision_function`, divided by their sum.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If `X` has another number of features than in `fit`, or NaN or infinity.

        Examples
        --------
        >>> from skbgd import BGDClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cold", "cold", "hot", "hot"]
        >>> clf = BGDClassifier(()).fit(X, y)
        >>> clf.predict_proba([[0.0], [3.0]]).round(2)
        array([[0.99, 0.01],
               [0.01, 0.99]])
        """
        return self._now()._outputs(Network.probabilities, X)

    def predict_log_proba(self, X: ArrayLike | _SparseRows) -> NDArray[np.floating]:
        """Compute the logarithm of the probabilities.

        Computed from the pre-activations: finite where `predict_proba` rounds to 0.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        log_P : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            In the order of `classes_`.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If `X` has another number of features than in `fit`, or NaN or infinity.

        Examples
        --------
        >>> from skbgd import BGDClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cold", "cold", "hot", "hot"]
        >>> clf = BGDClassifier(()).fit(X, y)
        >>> clf.predict_log_proba([[1000.0]]).astype(int)
        array([[-3206,     0]])
        """
        return self._now()._outputs(Network.log_probabilities, X)

    @property
    def coefs_(self) -> tuple[NDArray[np.floating], ...]:
        """Weight matrices, views into the vector of all parameters."""
        model = self._now()
        return model._network.coefs(model._state.model)

    @property
    def intercepts_(self) -> tuple[NDArray[np.floating], ...]:
        """Bias vectors, views into the vector of all parameters."""
        model = self._now()
        return model._network.intercepts(model._state.model)

    @property
    def coef_(self) -> NDArray[np.floating]:
        """Weights of a linear model, a view like `coefs_`."""
        (W,) = self._only_layer(self.coefs_)
        return W.T

    @property
    def intercept_(self) -> NDArray[np.floating]:
        """Biases of a linear model, a view like `intercepts_`."""
        (b,) = self._only_layer(self.intercepts_)
        return b

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.sparse = True
        return tags

    @with_callbacks
    def _fit(self, X, y, sample_weight, X_val, y_val, sample_weight_val):
        """`fit` on an estimator that may be left half-way.

        Returns None or the text of a ConvergenceWarning.
        """
        # Check what came in.
        _check_parameters(self)
        # Callbacks see a frame with its names, as predictions want it.
        seen, reached = (X, y), self._reached
        warm = self.warm_start and hasattr(self, "_state")
        X, y = self._validate(X, y, reset=not warm)
        classes = _classes_in(y)
        if warm:
            self._check_same_network()
            self._check_same_classes(classes)
        else:
            self._multilabel = _is_multilabel(y)
            self.classes_ = classes
        Y = self._encode(y)
        sample_weight = _check_sample_weight(sample_weight, X)
        _check_some_weight(sample_weight, "sample_weight")

        # Where to start, what to learn from, what to judge by.
        if warm:
            self._state = self._state.copy()
        else:
            self._start(X)
        validation = self._given_validation(X_val, y_val, sample_weight_val)
        if validation is None and self.early_stopping:
            rows, validation = self._set_rows_aside(X, y, Y, sample_weight)
            X, y, Y = X[rows], y[rows], Y[rows]
            # ... and arrays, if these are only a part of the rows.
            seen, reached = (X, y), partial(self._reached, nameless=True)
            sample_weight = None if sample_weight is None else sample_weight[rows]
        class_weights = self._class_weights(Y, sample_weight)
        weights = _row_weights(Y, sample_weight, class_weights, X.dtype)
        _check_some_weight(weights, "sample_weight times class weight")
        goal = self._goal(X, Y, weights, validation)
        if self._state.goal != goal:
            self._state.go_on_from_model()
            self._state.goal, self._state.n_cuts = goal, 0
            self._state.start = self._state.n_iter

        # Descend.
        plan = self._plan(X.shape[0])
        watcher = Watcher(self, self._state, reached, *seen, sample_weight)
        validate = validation and self._validator(*validation, class_weights)
        with self._descent(Descent, plan, X, Y, weights) as descent:
            return self._descend(descent, plan, validate, watcher)

    def _partial_fit(self, X, y, classes, sample_weight):
        """`partial_fit` on an estimator that may be left half-way."""
        _check_parameters(self)
        if isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' needs all rows at once, which partial_fit "
                "never sees; pass a dict {label: weight}."
            )
        first = not hasattr(self, "_state")
        X, y = self._validate(X, y, reset=first)
        if first:
            self._multilabel = _is_multilabel(y)
            self.classes_ = _announced(y, classes, self._multilabel)
            self._start(X)
        else:
            self._check_same_network()
            if classes is not None:
                self._check_same_classes(np.unique(classes))
        Y = self._encode(y)
        sample_weight = _check_sample_weight(sample_weight, X)
        class_weights = self._class_weights(Y, sample_weight)
        weights = _row_weights(Y, sample_weight, class_weights, X.dtype)
        # The curves are shared: a stream is not to copy them in each call, and nothing
        # fails once they have grown.
        self._state = self._state.copy(curves=False)
        self._state.go_on_from_model()
        if weights is None or weights.any():
            plan = self._plan(X.shape[0], ends=False)
            with self._descent(Descent, plan, X, Y, weights) as descent:
                descent.epoch()
            self.learning_rate_ = descent.last_eta
        self._store()

    def _validate(self, X, y, reset):
        """X as the core can use it; y dense, (n,) or (n, n_labels)."""
        _refuse_masked(X, "X")
        _refuse_masked(y, "y")
        X, y = validate_data(
            self,
            _without_duplicates(X),
            y,
            reset=reset,
            dtype=FLOATS if reset else self._state.theta.dtype,
            order="C",
            accept_sparse="csr",
            multi_output=True,
        )
        X = _for_the_core(X)
        if issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _encode(self, y):
        """Codes of the classes, (n, 1), or indicators, (n, n_labels), for the core."""
        return _encode(y, self.classes_, self._multilabel)

    def _check_same_classes(self, classes):
        if self.classes_.tolist() != classes.tolist():
            raise ValueError(
                f"Training goes on with the classes {self.classes_.tolist()}; got "
                f"classes={classes.tolist()}. They must stay the same; for others fit "
                "a new estimator."
            )

    def _check_same_network(self):
        network = self._new_network(self.n_features_in_)
        if network != self._network:
            raise ValueError(
                f"Training goes on with {self._network}; the parameters now ask for "
                f"{network}. hidden_layer_sizes, activation and output_activation must "
                "stay the same, for others fit a new estimator."
            )

    def _new_network(self, n_features):
        n_classes = len(self.classes_)
        n_outputs = 1 if n_classes == 2 and not self._multilabel else n_classes
        exclusive = n_outputs > 1 and not self._multilabel
        return Network(
            (n_features, *_hidden_units(self.hidden_layer_sizes), n_outputs),
            self.activation,
            self.output_activation if exclusive else "logistic",
            exclusive=not self._multilabel,
        )

    def _start(self, X):
        """Set the network and the state to start from."""
        random_state = check_random_state(self.random_state)
        for name in ("loss_", "best_loss_", "learning_rate_", "learning_rate_init_"):
            vars(self).pop(name, None)
        self._network = self._new_network(X.shape[1])
        self._state = State(
            theta=self._network.initial_parameters(random_state, X.dtype),
            shuffle_state=int(random_state.randint(2**63, dtype=np.uint64)),
            split_seed=int(random_state.randint(2**32, dtype=np.uint64)),
        )

    def _given_validation(self, X_val, y_val, sample_weight_val):
        """The user's validation rows: X, y, codes, weights; None if there are none."""
        if X_val is None and y_val is None and sample_weight_val is None:
            return None
        if X_val is None or y_val is None:
            missing = "X_val" if X_val is None else "y_val"
            raise ValueError(
                f"Validation rows need X_val and y_val; {missing} is missing."
            )
        try:
            X_val, y_val = self._validate(X_val, y_val, reset=False)
            Y_val = self._encode(y_val)
        except ValueError as error:
            raise ValueError(f"In X_val, y_val: {error}") from error
        weights = _check_sample_weight(sample_weight_val, X_val, "sample_weight_val")
        _check_some_weight(weights, "sample_weight_val")
        return X_val, y_val, Y_val, weights

    def _set_rows_aside(self, X, y, Y, sample_weight):
        """Training row numbers, and validation rows as in `_given_validation`.

        Rows of weight zero and the only members of a class stay in training.
        """
        candidates = np.arange(len(Y))
        if sample_weight is not None:
            candidates = np.flatnonzero(sample_weight)
        stratify, n_least = None, 1
        if not self._multilabel:
            codes = Y[candidates, 0]
            counts = np.bincount(codes)
            candidates = candidates[counts[codes] > 1]
            stratify, n_least = Y[candidates, 0], max(1, (counts > 1).sum())
        n_validation = max(
            int(np.ceil(self.validation_fraction * len(candidates))), n_least
        )
        if len(candidates) == 0:
            raise ValueError(
                "early_stopping cannot set rows aside for validation: no class has two "
                "rows with a positive weight. Pass X_val and y_val."
            )
        if len(candidates) < n_validation + n_least:
            raise ValueError(
                f"early_stopping cannot set {n_validation} rows aside for validation "
                f"(validation_fraction={self.validation_fraction:g}, but at least one "
                f"of each class): of the {len(candidates)} rows that could be, at "
                f"least {n_least} must be left to learn from. Pass X_val and y_val."
            )
        _, aside = train_test_split(
            candidates,
            test_size=n_validation,
            random_state=self._state.split_seed,
            stratify=stratify,
        )
        aside.sort()
        rows = np.setdiff1d(np.arange(len(Y)), aside, assume_unique=True)
        weights = None if sample_weight is None else sample_weight[aside]
        return rows, (X[aside], y[aside], Y[aside], weights)

    def _validator(self, X_val, y_val, Y_val, sample_weight_val, class_weights):
        """A function that records and returns the criterion of the validation rows."""
        theta = self._state.theta
        weights = _row_weights(Y_val, sample_weight_val, class_weights, X_val.dtype)
        _check_some_weight(weights, "of the validation rows, times class weight")
        loss = partial(
            mean_loss, self._network, theta, X_val, Y_val, weights, self.n_jobs
        )
        if self.scoring is None:
            return self._recorder(loss)
        scorer = check_scoring(self, scoring=self.scoring)
        # It predicts with the parameters that the descent changes in place. By now
        # X_val is an array, whatever it came as.
        model = copy(self)
        model._state = State(theta=theta)
        vars(model).pop("feature_names_in_", None)
        weighted = {}
        if sample_weight_val is not None:
            weighted["sample_weight"] = sample_weight_val
        return self._recorder(loss, partial(scorer, model, X_val, y_val, **weighted))

    def _recorder(self, loss, score=None):
        """A function that calls and records `loss` and `score`."""
        state = self._state

        def record(curve, value):
            # nan for epochs without validation rows, so that entry k is epoch k + 1
            curve.extend([np.nan] * (state.n_iter - 1 - len(curve)))
            curve.append(float(value))
            return curve[-1]

        def validate():
            value = record(state.validation_loss_curve, loss())
            if score is None:
                return value
            return -record(state.validation_scores, score())

        return validate

    def _goal(self, X, Y, weights, validation):
        """What the stopping rule belongs to: where it changes, the rule starts anew."""
        if not self.warm_start:
            return ()
        arrays = [X, Y, weights]
        if validation is not None:
            arrays += [validation[0], validation[2], validation[3]]
        return self._goal_of(
            *(None if array is None else _fingerprint(array) for array in arrays)
        )

    def _goal_of(self, *fingerprints):
        values = self.get_params(deep=False).items()
        effective = [_name(v) for k, v in values if k not in WITHOUT_EFFECT_ON_STEPS]
        return (*effective, *fingerprints)

    def _reached(self, best=False, nameless=False):
        """What makes a copy of the estimator predict with the parameters reached."""
        state = self._state
        theta = state.model if best else state.theta
        attributes = {"_state": State(theta=theta.copy())}
        if nameless and "feature_names_in_" in vars(self):
            attributes["feature_names_in_"] = None
        return attributes

    def _class_weights(self, Y, sample_weight):
        """One weight per class, shape (n_classes,), or None."""
        if self.class_weight is None:
            return None
        if self._multilabel:
            raise ValueError(
                "class_weight is for classes that exclude each other; got "
                f"class_weight={self.class_weight!r} with multilabel y. Use "
                "sample_weight."
            )
        n_classes = len(self.classes_)
        class_weights = np.ones(n_classes)
        if isinstance(self.class_weight, str):  # "balanced"
            relative = None if sample_weight is None else _over_max(sample_weight)
            totals = np.bincount(Y[:, 0], weights=relative, minlength=n_classes)
            present = totals > 0
            class_weights[present] = totals.sum() / (n_classes * totals[present])
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

    _rows_per_batch = staticmethod(rows_per_batch)

    def _plan(self, n_samples, ends=True):
        """What "auto" stands for in this call; sets the attributes that tell."""
        plan = Plan.of(
            self, n_samples, self._state.start, ends=ends, rows=self._rows_per_batch
        )
        self.batch_size_, self.alpha_ = plan.batch_size, plan.alpha
        if ends:
            self.max_iter_ = plan.max_iter
        return plan

    def _descent(self, kind, plan, *data):
        """A `Descent`, or another class for rows elsewhere, with the parameters set."""
        adam = self.solver == "adam"
        step = Step(
            eta=self.learning_rate,
            alpha=plan.alpha,
            solver=self.solver,
            momentum=float(self.beta_1 if adam else self.momentum),
            nesterov=self.nesterov,
            beta_2=float(self.beta_2),
            epsilon=float(self.epsilon),
            max_gradient_norm=float(self.max_gradient_norm or 0),
        )
        return kind(
            self._network,
            self._state,
            *data,
            step=step,
            batch_size="full" if self.batch_size == "full" else plan.batch_size,
            schedule=schedule(
                plan.schedule,
                power_t=self.power_t,
                max_iter=plan.max_iter,
                start=plan.start,
            ),
            shuffle=self.shuffle,
            n_jobs=self.n_jobs,
        )

    def _descend(self, descent, plan, validate, watcher):
        """Run the epochs and set the fitted attributes; returns a warning or None."""
        state = self._state
        n_before = state.n_iter
        some_rows = descent.some_rows()
        if state.goal_loss is None:
            state.goal_loss = descent.objective_of(some_rows)
        try:
            self.stop_reason_ = minimize(
                descent,
                max_iter=plan.max_iter,
                tol=self.tol,
                n_iter_no_change=plan.n_iter_no_change,
                adaptive=plan.schedule == "adaptive",
                validate=validate,
                early_stopping=self.early_stopping,
                watcher=watcher,
            )
        except KeyboardInterrupt as interrupt:
            self.stop_reason_ = "interrupted"
            if state.n_iter > n_before:
                interrupt.keeps_epochs = True
                interrupt.add_note(
                    f"The fit was interrupted in epoch {state.n_iter}. What was "
                    "learned until then is kept: the estimator is fitted."
                )
            raise
        finally:
            self.learning_rate_init_ = float(descent.step.eta)
            if descent.last_eta is not None:
                self.learning_rate_ = descent.last_eta
            self._store()
        watcher.finish(self.stop_reason_)
        loss = descent.objective_of(some_rows)
        if not np.isfinite(loss):
            raise ValueError(
                f"The outputs overflow after epoch {state.n_iter} with learning_rate="
                f"{self.learning_rate_:g}: the descent has diverged. Try a smaller "
                "learning_rate, and scale the features (StandardScaler)."
            )
        return self._warning(plan, n_before, loss, some_rows[0])

    def _store(self):
        """Set the fitted attributes that show the state."""
        state = self._state
        self.n_layers_ = len(self._network.layers)
        self.n_outputs_ = self._network.layers[-1]
        self.out_activation_ = self._network.output_activation
        self.n_iter_ = state.n_iter
        self.t_ = state.t
        self.loss_curve_ = state.loss_curve
        self.updates_curve_ = state.updates_curve
        self.seconds_curve_ = state.seconds_curve
        self.validation_loss_curve_ = state.validation_loss_curve
        self.validation_scores_ = state.validation_scores
        if state.loss_curve:
            self.loss_ = state.loss_curve[-1]
            self.best_loss_ = state.best_loss

    def _warning(self, plan, n_before, loss, some_rows):
        """The warning that a fit deserves, or None.

        It began after `n_before` epochs, and ends with an objective of `loss` for some
        rows.
        """
        if self.n_iter_ == n_before:
            if self.stop_reason_ == "max_iter":
                return (
                    f"No epoch was made: max_iter={plan.max_iter} counts all epochs, "
                    f"and there were {n_before} before. Increase max_iter."
                )
            return (
                f"No epoch was made: training stopped in an earlier call (tol="
                f"{self.tol:g}, n_iter_no_change={plan.n_iter_no_change}), and neither "
                "the rows nor the parameters have changed. Change tol or "
                "n_iter_no_change to go on."
            )
        # Not that of epochs, in which small batches learn: the first may be far below.
        first = self._state.goal_loss
        if loss > first * (1 + RISE):
            return (
                f"The loss rose from {first:.3g} to {loss:.3g}. Try a smaller "
                f"learning_rate (it was {self.learning_rate_:g}), and scale the "
                "features (StandardScaler)."
            )
        if self.stop_reason_ != "max_iter" or self.tol is None:
            return None
        message = []
        if plan.schedule != "cosine":  # whose step falls to 0, as planned
            message.append(
                f"max_iter={plan.max_iter} epochs were over before the loss stood "
                f"still (within tol={self.tol:g} for n_iter_no_change="
                f"{plan.n_iter_no_change} epochs). Increase max_iter, or pass tol=None "
                "to train for just so many."
            )
        some = some_rows.astype(float)
        is_sparse = issparse(some)
        with np.errstate(over="ignore"):  # inf tells enough
            squares = some.multiply(some) if is_sparse else some * some
            scales = np.sqrt(squares.mean(axis=0))
        if scales.max() > LARGE_SCALE:
            scaler = "MaxAbsScaler" if is_sparse else "StandardScaler"
            message.append(
                "The features are badly scaled (root mean squares from "
                f"{scales.min():.2g} to {scales.max():.2g}); put a {scaler} in front."
            )
        return " ".join(message) or None

    def _now(self):
        """The model as it is now, as a whole: a fit in another thread replaces it."""
        model = object.__new__(type(self))
        model.__dict__ = self.__dict__  # `fit` puts another dict in its place
        return model

    def _only_layer(self, parameters):
        if len(parameters) > 1:
            raise AttributeError(
                "coef_ and intercept_ are there without hidden layers only "
                "(hidden_layer_sizes=()); see coefs_ and intercepts_."
            )
        return parameters

    def _outputs(self, function, X):
        """What a function of the network gives for the rows of X."""
        if not hasattr(self, "_state"):
            check_is_fitted(self)
        theta = self._state.model
        X = validate_data(
            self,
            _without_duplicates(X),
            reset=False,
            dtype=theta.dtype,
            order="C",
            accept_sparse="csr",
        )
        X = _for_the_core(X)
        outputs = function(self._network, theta, X, self.n_jobs)
        if np.isnan(outputs).any():
            raise ValueError(
                f"The outputs of some rows are no numbers: features up to "
                f"{abs(X).max():.2g} are too large for this network in {theta.dtype}. "
                "Scale them (StandardScaler), in fit and here."
            )
        return outputs


def _is_number(value, kind=Real):
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


def _hidden_units(hidden_layer_sizes):
    """The parameter as a tuple of ints; a bare number is one layer."""
    return tuple(int(n) for n in np.ravel(hidden_layer_sizes))


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
        or isinstance(sizes, (Sequence, np.ndarray))
        and np.ndim(sizes) == 1
        and all(_is_positive_int(size) for size in sizes),
        "a positive int or a sequence of positive ints, () for a single neuron",
    )
    for name, choices in (
        ("activation", ACTIVATIONS),
        ("output_activation", OUTPUT_ACTIVATIONS),
        ("solver", SOLVERS),
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
    rule = "a positive, finite number or 'auto'"
    if isinstance(learning_rate, str) and learning_rate in SCHEDULES:
        rule += f"; for a schedule set learning_rate_schedule={learning_rate!r}"
    check(
        "learning_rate",
        learning_rate == "auto"
        if isinstance(learning_rate, str)
        else _is_number(learning_rate) and 0 < learning_rate < np.inf,
        rule,
    )
    for name, low, high, rule in (
        ("momentum", 0, 1, "a number in [0, 1)"),
        ("beta_1", 0, 1, "a number in [0, 1)"),
        ("beta_2", 0, 1, "a number in [0, 1)"),
        ("power_t", 0, np.inf, "a finite number, 0 or larger"),
    ):
        value = getattr(clf, name)
        check(name, _is_number(value) and low <= value < high, rule)
    alpha = clf.alpha
    check(
        "alpha",
        alpha == "auto"
        if isinstance(alpha, str)
        else _is_number(alpha) and 0 <= alpha < np.inf,
        "a finite number, 0 or larger, or 'auto'",
    )
    for name, value, high, rule in (
        ("epsilon", clf.epsilon, np.inf, "a positive, finite number"),
        ("validation_fraction", clf.validation_fraction, 1, "a number in (0, 1)"),
    ):
        check(name, _is_number(value) and 0 < value < high, rule)
    limit = clf.max_gradient_norm
    check(
        "max_gradient_norm",
        limit is None or _is_number(limit) and 0 < limit < np.inf,
        "a positive, finite number or None",
    )
    check(
        "learning_rate_schedule",
        callable(clf.learning_rate_schedule)
        or isinstance(clf.learning_rate_schedule, str)
        and clf.learning_rate_schedule in ("auto", *SCHEDULES),
        "'auto', one of "
        + ", ".join(map(repr, SCHEDULES))
        + ", or a function of the epoch",
    )
    check(
        "scoring",
        clf.scoring is None or isinstance(clf.scoring, str) or callable(clf.scoring),
        "the name of a scorer, a callable or None",
    )
    for name in ("max_iter", "n_iter_no_change"):
        value = getattr(clf, name)
        check(
            name,
            value == "auto" if isinstance(value, str) else _is_positive_int(value),
            "a positive int or 'auto'",
        )
    check(
        "tol",
        clf.tol is None or _is_number(clf.tol) and 0 <= clf.tol < np.inf,
        "a finite number, 0 or larger, or None",
    )
    for name in ("nesterov", "shuffle", "early_stopping", "warm_start"):
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
    n_jobs = clf.n_jobs
    check(
        "n_jobs",
        n_jobs is None or _is_number(n_jobs, Integral) and n_jobs != 0,
        "an int other than 0 or None",
    )
    verbose = clf.verbose
    check(
        "verbose",
        _is_flag(verbose) or _is_number(verbose, Integral) and verbose >= 0,
        "0, 1 or 2",
    )


def _refuse_masked(array, name):
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name} must not have masked values, which scikit-learn would take for "
            f"valid; got {np.ma.count_masked(array)}. Drop them, or impute them in X."
        )


def _without_duplicates(X):
    """Sparse X whose entries for one place are summed in their own type, as in dense X.

    Two times True is True, and not 2 as it would be after a conversion to floats.
    """
    if not issparse(X) or X.dtype.kind == "f":
        return X
    rows = X.tocsr()
    if rows.has_canonical_format:
        return X
    rows = rows.copy()
    rows.sum_duplicates()
    return rows


def _for_the_core(X):
    """Rows whose memory the core can walk through without looking."""
    if not issparse(X):
        return np.require(X, requirements="A")  # frombuffer with an odd offset
    integers = X.indices.dtype
    if integers not in (np.int32, np.int64):
        integers = np.dtype(np.int64)
    members = [
        np.require(member, dtype, ["A", "C"])
        for member, dtype in (
            (X.data, X.data.dtype), (X.indices, integers), (X.indptr, integers)
        )
    ]  # fmt: skip
    data, indices, indptr = members
    n_elements = min(len(data), len(indices))
    if (
        len(indptr) != X.shape[0] + 1
        or indptr[0] != 0
        or indptr[-1] > n_elements
        or (np.diff(indptr) < 0).any()
        or n_elements
        and not 0 <= indices.min() <= indices.max() < X.shape[1]
    ):
        raise ValueError(
            f"The sparse matrix X of shape {X.shape} is damaged: its indptr must rise "
            f"from 0 to at most {n_elements}, its indices be from 0 to "
            f"{X.shape[1] - 1}. See its method check_format."
        )
    if any(a is not b for a, b in zip(members, (X.data, X.indices, X.indptr))):  # noqa: B905
        X = type(X)((data, indices, indptr), shape=X.shape)
    return X


def _check_sample_weight(sample_weight, X, name="sample_weight"):
    """sample_weight as an array of float64, or None."""
    if sample_weight is None:
        return None
    _refuse_masked(sample_weight, name)
    n_samples = X.shape[0]
    if isinstance(sample_weight, (Real, str)):
        raise ValueError(
            f"{name} must have shape ({n_samples},), one weight per row; got "
            f"{sample_weight!r}. For weights of classes use class_weight."
        )
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name=name
    )
    if weights.shape != (n_samples,):
        raise ValueError(
            f"{name} must have shape ({n_samples},), one weight per row; got shape "
            f"{weights.shape}."
        )
    if (weights < 0).any():
        raise ValueError(
            f"{name} must not be negative; got {weights.min():g}. A weight of 0 leaves "
            "a row out."
        )
    return weights


def _check_some_weight(weights, name):
    if weights is not None and not weights.any():
        raise ValueError(
            f"All weights are zero ({name}); at least one row needs a positive weight."
        )


def _row_weights(Y, sample_weight, class_weights, dtype):
    """sample_weight times class weight, 1 on average or all 0; None for all 1."""
    if sample_weight is None and class_weights is None:
        return None
    weights = np.ones(len(Y)) if sample_weight is None else _over_max(sample_weight)
    if class_weights is not None:
        weights = weights * _over_max(class_weights)[Y[:, 0]]
    if weights.any():
        weights = _over_max(weights)
        weights /= weights.mean()
    return weights.astype(dtype)


def _over_max(weights):
    """Weights in the same ratios, at most 1: sums and products do not overflow."""
    return weights / weights.max() if weights.any() else weights


def _name(value):
    """A parameter that may be a function or a dict, in a form that can be kept."""
    if isinstance(value, dict):
        return dict(value)
    return getattr(value, "__qualname__", "function") if callable(value) else value


def _fingerprint(array):
    """A checksum of about a thousand evenly spaced rows."""
    some = array[:: 1 + array.shape[0] // 1000]
    parts = [some.data, some.indices, some.indptr] if issparse(some) else [some]
    return array.shape, *(crc32(part.tobytes()) for part in parts)


def _is_multilabel(y):
    return y.ndim == 2 and type_of_target(y) == "multilabel-indicator"


def _classes_in(y):
    """The sorted labels in y, or the numbers of its columns if they are indicators."""
    if y.ndim == 2 and not _is_multilabel(y):
        raise ValueError(
            "y must hold one class label per row, or 0/1 indicators of several labels; "
            f"got an array of shape {y.shape} with other values."
        )
    if y.ndim == 2:
        return np.arange(y.shape[1])
    classes = _sorted_labels(y, "y")
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least two classes; got one class: {classes.tolist()[0]!r}."
        )
    return classes


def _encode(y, classes, multilabel):
    """Codes of the classes, (n, 1), or indicators, (n, n_labels), for the core."""
    if multilabel:
        if y.ndim != 2 or y.shape[1] != len(classes):
            raise ValueError(
                f"y must hold 0/1 indicators of {len(classes)} labels, one "
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
            "y must hold one class label per row; got an array of shape "
            f"{y.shape}. For 0/1 indicators of several labels fit a new estimator."
        )
    known = np.zeros(len(y), dtype=bool)
    kinds = y.dtype.kind, classes.dtype.kind
    # Text never equals a number; older NumPy only warns.
    if "O" in kinds or (kinds[0] == "U") == (kinds[1] == "U"):
        try:
            codes = np.searchsorted(classes, y)
            known = classes[np.minimum(codes, len(classes) - 1)] == y
        except TypeError:  # objects that do not compare with the classes
            pass
    if not known.all():
        example = y[~known][:1].tolist()[0]
        raise ValueError(
            f"y holds the label {example!r}, which is none of the classes "
            f"{classes.tolist()}. They are fixed by fit, or announced in the "
            "first call of partial_fit(X, y, classes=...)."
        )
    return codes.astype(np.intc)[:, np.newaxis]


def _announced(y, classes, multilabel):
    """The sorted labels of the first call of partial_fit."""
    if multilabel:
        n_labels = y.shape[1]
        if classes is not None and np.unique(classes).tolist() != [*range(n_labels)]:
            raise ValueError(
                f"y holds indicators of {n_labels} labels, whose classes are their "
                f"numbers 0 to {n_labels - 1}; got classes={classes!r}. Leave classes "
                "out."
            )
        return np.arange(n_labels)
    if classes is None:
        raise ValueError(
            "The first call of partial_fit must announce all classes: "
            "partial_fit(X, y, classes=...). Got classes=None."
        )
    classes = _sorted_labels(column_or_1d(classes), "classes")
    if len(classes) < 2:
        raise ValueError(
            f"classes must hold at least two labels; got {classes.tolist()}."
        )
    return classes


def _sorted_labels(labels, name):
    """The different labels, sorted; an error if they are no labels of classes."""
    classes = _distinct(labels, name)
    check_classification_targets(labels)
    return classes


def _distinct(labels, name):
    """The different values, sorted, of an array that may come from pandas."""
    if labels.dtype == object and any(x is None or x != x for x in labels):
        raise ValueError(f"{name} must not have missing labels; got None or NaN.")
    try:
        return np.unique(labels)
    except TypeError as error:
        raise ValueError(
            f"The labels in {name} must be all numbers or all strings; got "
            f"{sorted({type(x).__name__ for x in labels.tolist()})}."
        ) from error
