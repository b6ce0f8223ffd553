"""The estimator: `fit` as a table of contents; no arithmetic."""

import warnings
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ._callbacks import (
    CallbackSupportMixin,
    Progress,
    validation_criterion,
    with_callbacks,
)
from ._descent import Descent, State, minimize
from ._lbfgs import QuasiNewton
from ._network import Network, write_array, write_arrays
from ._parameters import (
    Activation,
    Auto,
    BaseEstimatorWithHints,
    BatchSize,
    ClassWeight,
    LayerSizes,
    OutputActivation,
    RandomState,
    Rows,
    Schedule,
    Scoring,
    Solver,
    check_parameters,
    explain_unknown_parameters,
    hidden_units,
    unavailable_with_lbfgs,
)
from ._rows import (
    LocalRows,
    check_core_layout,
    explain_bad_columns,
    has_core_layout,
    output_layer,
    without_duplicates,
)
from ._saving import from_plain, to_plain
from ._settings import Settings, resolve_batch_size
from ._targets import (
    as_label_array,
    check_classes,
    check_not_lazy,
    check_not_masked,
    check_positive_weight,
    check_sample_weight,
    class_weights,
    classes_for_partial_fit,
)
from ._update_rules import UpdateRule
from ._warnings import convergence_warning, dissimilar_rows_warning

FLOAT_DTYPES = (np.float64, np.float32)

MISSING = object()

# Parameters that a warm start does not compare with those of the last call; those of
# the network are checked apart, as they must not change.
NOT_IN_STOPPING_KEY = {
    "hidden_layer_sizes", "activation", "output_activation", "standardize", "max_iter",
    "warm_start", "random_state", "verbose", "n_jobs",
}  # fmt: skip


class BGDClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimatorWithHints):
    r"""Sigmoid multilayer network trained by gradient descent in batches of any size.

    One parameter, `batch_size`, leads from stochastic gradient descent (1) over
    mini-batches to batch gradient descent ("full"); `solver` to Adam and L-BFGS.

    What is "auto" is planned from the number of rows and the layers: the batch size, a
    step size that falls to 0, and the number of epochs. An explicit value is used as
    given, whatever else is "auto". A parameter that the others leave without effect is
    ignored without a warning; its description says when it is used. The Notes say what
    is minimised, and how.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units in each hidden layer. ``()`` is a single neuron, that is logistic
        regression, with one unit per class if there are more than two.

    activation : {"logistic", "tanh", "relu", "identity"}, default="logistic"
        Activation function of the hidden layers. Only used when there are any.

    output_activation : {"auto", "logistic", "softmax"}, default="auto"
        Activation function of the output units for more than two classes. "softmax",
        which "auto" stands for: one softmax over the classes with its cross-entropy.
        "logistic": one sigmoid unit per class with the binary cross-entropy summed over
        the units; probabilities are normalised to sum to 1. Two classes always have one
        sigmoid unit (the softmax of two is the same model), multilabel targets one
        sigmoid unit per label.

    batch_size : int, "full" or "auto", default="auto"
        Rows per gradient step. 1 is stochastic gradient descent, "full" is batch
        gradient descent; a number larger than the data means all rows. "auto" is
        ``n_samples // 75``, but at least 8 and at most 32; in `fit` all rows if there
        are 40 or fewer. In `partial_fit` it is at least 4, from the rows of the call. A
        last, shorter batch is averaged over its own rows. Only used when
        ``solver="sgd"`` or ``"adam"``.

    learning_rate : float or "auto", default="auto"
        Step size :math:`\eta > 0`, which `learning_rate_schedule` multiplies. "auto"
        is, for batches of :math:`m` rows (for "full" as for 128),
        :math:`0.4 \sqrt{\min(m, 128)}`, times ``1 - momentum``, and

        - with hidden layers, divided by the root mean square :math:`r` of the features
          if that is larger than 1, and with other units than logistic ones by 8 times
          the number of hidden layers;
        - with a single neuron, at most :math:`1 / (L + \alpha)` with
          :math:`L = (1 + \operatorname{mean}_i \lVert x_i \rVert^2) / 4` (twice that
          for a softmax): every step of plain batch gradient descent lowers the cost.

        With ``solver="adam"`` it is 0.05, with other units than logistic ones in the
        hidden layers 0.01, over their number and over :math:`\sqrt{\max(1, r)}`. The
        features are those that the network sees in `fit`, or in the first call of
        `partial_fit`: with `standardize`, :math:`r \leq 1`. No single step size suits
        features of different scales, so scale those that are not standardised. Only
        used when ``solver="sgd"`` or ``"adam"``.

        Where the rows have weights :math:`w_i`, they count as
        :math:`(\sum_i w_i)^2 / \sum_i w_i^2` effective rows, and :math:`m` shrinks in
        proportion: a few heavy rows take smaller steps.

    learning_rate_schedule : {"auto", "constant", "invscaling", "adaptive", \
            "cosine"} or callable, default="auto"
        The factor that multiplies the step size in each epoch, epochs counted from 0:

        - "auto": "cosine" in `fit`; in `partial_fit`, whose end is not known,
          :math:`1 / \sqrt{1 + t / 1000}` after :math:`t` rows (`t_`). The model is
          then the average of the parameters after each call, in which call :math:`k`,
          counted from 0, has the weight :math:`9 / (k + 9)`;
        - "constant": 1;
        - "invscaling": :math:`1 / (t + 1)^p` after :math:`t` rows (`t_`), with
          :math:`p` = `power_t`;
        - "adaptive": divided by 5 whenever training would otherwise stop, until the
          step size is below 1e-6. `partial_fit` keeps the factor;
        - "cosine": :math:`(1 + \cos(\pi k / T)) / 2` in epoch :math:`k`, with :math:`T`
          = `max_iter`: the step falls to 0 at the planned end of training;
        - a function of the epoch :math:`k` that returns the factor.

        Only used when ``solver="sgd"`` or ``"adam"``.

    power_t : float, default=0.5
        Exponent of "invscaling". Only used when
        ``learning_rate_schedule="invscaling"`` and ``solver="sgd"`` or ``"adam"``.

    solver : {"sgd", "adam", "lbfgs"}, default="sgd"
        Rule of the step: gradient descent, with or without momentum, or Adam [5]_; see
        Notes. "lbfgs" is L-BFGS [6]_ on the whole batch, by :mod:`scipy`: it finds its
        own step sizes and needs far fewer passes over the rows than "full", each as
        long. It has no `partial_fit`. An epoch is one of its iterations, of one or more
        passes.

    momentum : float in [0, 1), default=0.0
        Share :math:`\mu` of the last step that is carried into the next. Only used
        when ``solver="sgd"``.

    nesterov : bool, default=False
        Whether to look ahead by the momentum (Nesterov). Only used when
        ``solver="sgd"`` and `momentum` > 0.

    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Decay of Adam's averages of the gradient and of its square. Only used when
        ``solver="adam"``.

    epsilon : float, default=1e-8
        Keeps Adam's denominator from 0. Only used when ``solver="adam"``.

    max_gradient_norm : float or None, default=None
        Longer gradients (penalty included, over all parameters) are shortened to this
        Euclidean norm. Only used when ``solver="sgd"`` or ``"adam"``.

    alpha : float or "auto", default="auto"
        Strength of the L2 penalty, not divided by anything: what it is in
        :class:`~sklearn.linear_model.SGDClassifier`. For the effect of
        :class:`~sklearn.neural_network.MLPClassifier`'s, pass its ``alpha`` divided by
        its ``batch_size``. "auto" is :math:`0.5 / n` for :math:`n` (effective) rows,
        times :math:`(n / 100)^2` if there are fewer than 100, and for fewer than 40
        what it is for 40. In `partial_fit`, whose calls may be small, it is
        :math:`0.5 / n`, but at most 2e-4. Divided by the square of the number of hidden
        layers. With `standardize` the weights that are penalised are
        those of standardised features, whatever the units of `X`.

    max_iter : int or "auto", default="auto"
        Largest number of epochs (passes over the rows), with `warm_start` those of
        earlier calls included. "auto" is, for a cosine, ``100_000 // n_samples``, but
        at least 25 and at most 40 (for "adam" 25), or more if these are fewer than 400
        steps (1000 without hidden layers); for other schedules, which `tol` ends, 400,
        and for "lbfgs" 1000. With `warm_start` the same number is added when rows or
        parameters have changed.

    tol : float, "auto" or None, default="auto"
        An epoch counts as an improvement if the criterion is more than `tol` below the
        reference, see `n_iter_no_change`. The criterion is the training loss, or with
        `early_stopping` the validation loss or minus the score. "auto" is 1e-4. None:
        always `max_iter` epochs. "lbfgs" stops when no entry of the gradient of
        :math:`J` is larger than `tol` (None: 0), and does not judge by the training
        loss.

    n_iter_no_change : int or "auto", default="auto"
        Training stops after exactly this many consecutive epochs without an
        improvement. The reference moves only when it is beaten by `tol`, so small gains
        add up. "auto" is 50, and for a cosine, whose epochs are planned, half of them;
        but if `tol` is "auto" too and `early_stopping` is False, a cosine is always
        completed. Only used when ``solver="sgd"`` or ``"adam"``, or `early_stopping` is
        True.

    standardize : bool, default=True
        Whether the network sees each dense feature minus its mean, over its standard
        deviation: what a :class:`~sklearn.preprocessing.StandardScaler` in front gives,
        but with the weights of the rows, for a feature of two values 0 and 1, and
        without a copy of `X`. See `mean_` and `scale_`. They are taken from the rows
        that `fit` learns from, or from the first call of `partial_fit` that has a
        positive weight, which should hold enough rows to estimate them. Later calls of
        `partial_fit`, and of `fit` with `warm_start`, keep them. Sparse rows are not
        standardised, unless dense ones came first. False: the features as they are.

    shuffle : bool, default=True
        Whether to visit the rows in a new random order in each epoch. Only used when
        ``solver="sgd"`` or ``"adam"`` and a batch does not hold all rows.

    early_stopping : bool, default=False
        Whether to stop by the validation rows instead of the training loss, and to keep
        the parameters that were best on them. The validation rows are `X_val` and
        `y_val` of `fit`, or a part of the rows that is set aside.

    validation_fraction : float in (0, 1), default=0.1
        Share of the rows to set aside: at random, each class in proportion, so that a
        rare class may have no validation row. The only member of a class is never set
        aside. Only used when `early_stopping` is True and no validation rows are given.

    scoring : str, callable or None, default=None
        What to judge the validation rows by: None is their loss, otherwise a
        scikit-learn scorer, ``scorer(estimator, X, y)``, larger is better. With weights
        it is called with ``sample_weight`` too. The estimator that it is given is a
        copy, which predicts with the parameters of the epoch. Some scorers, such as
        "roc_auc_ovr", need a row of each class. Only used when there are validation
        rows.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, ``{label: weight}``; classes not named have weight 1. A
        label that is none of the classes is ignored if every class has a weight, as
        where a fold of a search lacks a rare class, and otherwise an error.
        "balanced" gives every class the same total,
        ``n_samples / (n_classes * count)`` with counts weighted by `sample_weight`.
        They multiply `sample_weight`. `partial_fit` takes a dict or None. Not for
        multilabel targets.

    warm_start : bool, default=False
        Whether `fit` continues from the last call instead of a new start. `max_iter`
        counts all epochs: ``fit`` with ``max_iter=a`` and again with ``a + b`` is one
        ``fit`` with ``a + b``, to the last bit, with the same rows and parameters and a
        schedule that does not depend on `max_iter`, as a cosine does.
        If the rows or a parameter of the objective, the steps or the stopping rule
        changed (such as `alpha`, `learning_rate` or `tol`), training continues from the
        parameters reached with a fresh stopping rule; "lbfgs" always does. The classes,
        the features and the layers must be the same. A call that makes no epoch warns,
        unless "lbfgs" is at the minimum.

    random_state : int, RandomState instance or None, default=None
        Initial weights, order of the rows and choice of the validation rows. Pass an
        int for the same result each time.

    verbose : int, default=0
        1 lets `fit` print at most about 20 lines, 2 a line per epoch. With scikit-learn
        1.9 or newer see also `set_callbacks`.

    n_jobs : int or None, default=None
        Number of threads that `fit`, `partial_fit` and predictions may use, at most one
        for each core; -1 is one for each core. None: as many as the BLAS may use at the
        time, so that the limits of joblib's workers, of threadpoolctl and of variables
        such as ``OPENBLAS_NUM_THREADS`` apply. Batches of less than 128 rows run in
        one thread whatever is allowed. Another number changes results by rounding only;
        the same number repeats them to the last bit. The matrix products are this
        package's own: no BLAS is called or limited, and a process may fork while
        another thread fits; but SciPy's part of "lbfgs" calls its BLAS for vectors.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted; for multilabel targets the numbers of the labels.

    coefs_ : tuple of ndarray, each of shape (fan_in, fan_out)
        Weight matrices :math:`W_1, \dots, W_L`. A fitted estimator takes others of the
        same shapes, ``clf.coefs_ = [W_1, W_2]``, and copies them. `partial_fit`, or
        `fit` with `warm_start`, then continues from them, without momentum and with a
        fresh stopping rule; the best parameters of early stopping are given up, curves
        and counters are kept. To start from weights of your own, let a first
        `partial_fit` build the layers: with weights of 0 for all rows it learns
        nothing. With `standardize` they are for standardised features. Those for `X`
        itself are, in the first layer, ``W = coefs_[0] / scale_[:, None]`` and
        ``b = intercepts_[0] - mean_ @ W``.

    intercepts_ : tuple of ndarray, each of shape (fan_out,)
        Bias vectors :math:`b_1, \dots, b_L`, which can be set likewise.

    coef_ : ndarray of shape (n_outputs, n_features)
        Without hidden layers, the weights as linear models have them: the transpose of
        ``coefs_[0]``, which can be set likewise. Not there with hidden layers.

    intercept_ : ndarray of shape (n_outputs,)
        Without hidden layers, ``intercepts_[0]``, which can be set likewise. Not there
        with hidden layers.

    mean_ : ndarray of shape (n_features,) or None
        What is subtracted from each feature: its mean, or the smaller of its values if
        it has two. None if the rows are not standardised: with ``standardize=False``,
        or if they were sparse.

    scale_ : ndarray of shape (n_features,) or None
        What each feature is divided by then: its standard deviation, or the difference
        of its values if it has two, or 1 if it is constant to rounding. None like
        `mean_`.

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
        Number of rows visited so far, each counted once per epoch; for "lbfgs" once
        per gradient.

    learning_rate_ : float
        The step size used last: at the end of a cosine almost 0. Not there with
        "lbfgs".

    learning_rate_init_ : float
        The step size that the schedule multiplies, given or chosen. Not there with
        "lbfgs".

    batch_size_ : int
        Rows per step in the last call.

    alpha_ : float
        Strength of the penalty in the last call.

    max_iter_ : int
        The largest number of epochs in the last `fit`, those of earlier calls included.

    loss_curve_ : list of float
        The objective :math:`J` in each of the `n_iter_` epochs. The loss of a row is
        taken just before the step it is part of, the penalty at the start of the
        epoch: with the whole batch, exactly :math:`J(\theta)` before each step. For
        "lbfgs" it is :math:`J(\theta)` after each iteration.

    updates_curve_ : list of int
        Number of gradient steps up to the end of each epoch; for "lbfgs", whose
        iterations may need several, of gradients computed.

    seconds_curve_ : list of float
        Time spent in the epochs up to the end of each, in seconds. Checks of the input,
        validation and callbacks are not included.

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
        epoch is then a part of one, but for "lbfgs").

    See Also
    --------
    LossCurveDisplay : Draws how it was trained.
    sklearn.neural_network.MLPClassifier : Multilayer perceptron in NumPy.
    sklearn.linear_model.SGDClassifier : Linear models, one row at a time.

    Notes
    -----
    Rows are :math:`x_i`, and :math:`A_0 = X`, standardised if `standardize` is True:
    all that follows, the penalty, the step sizes and the initial weights among it, is
    about features of that scale. Layer :math:`l = 1 \dots L` computes

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
    with the whole batch and a number as `alpha` an integer weight is the same as
    repeating the row. Biases carry no penalty. In `partial_fit`, :math:`n` and
    :math:`\sum_i w_i` are those of the call.

    The initial weights and biases are uniform, those of the first hidden layer in
    :math:`\pm c \sqrt{3 / d}` for :math:`d` features with :math:`c = 3` for logistic
    units, 1.5 for tanh, :math:`\sqrt 2` for relu and 1 for identity (the weights over
    :math:`\sqrt r`, if :math:`r`, the root mean square of the features, is larger than
    1), those of the others in :math:`\pm c \sqrt{6 / (fan_{in} + fan_{out})}` [3]_ with
    :math:`c = 4` in front of logistic hidden units and 1 elsewhere; a single neuron
    starts at 0.

    A call that fails (bad input, or a step size so large that the loss is no longer
    finite) leaves the estimator as it was before the call. During a call the estimator
    is the old one, and another thread may predict with it. Parameters and attributes
    that a scorer, a callback or another thread sets on it meanwhile are kept; the
    parameters apply from the next call on.

    A model that is first fitted to float32 computes in float32, any other in float64.

    Sparse rows (CSR; other formats are converted) are never made dense, but for some
    rows at a time where dense rows came first and were standardised. A step reads and
    writes the rows of :math:`W_1` that its elements name: its cost depends on their
    number, not on that of the features. The penalty on all other rows is kept as one
    factor. Once an epoch there is a pass over all weights, for their norm. Momentum,
    Nesterov, Adam and `max_gradient_norm` change all weights in each step, and so do
    batches of more rows than fit the cache (256 at least): each step is then a pass
    over all weights.

    The rows of a large batch are divided among threads, each of which sums up a
    gradient of its own; then each adds up a part of all these gradients and makes that
    part of the step. Whoever is free does what another has not begun, and now and then
    one tries whether it is faster alone, as where other processes take the cores.

    Beside the data, its labels and a few copies of the weights, one for each thread
    among them, memory is needed for some hundred or thousand rows, however many there
    are; C-ordered float32 and float64 rows are not copied.

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
    .. [6] D. C. Liu, J. Nocedal, "On the limited memory BFGS method for large scale
       optimization", Mathematical Programming 45, 1989.

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

    @explain_unknown_parameters
    def __init__(
        self,
        hidden_layer_sizes: "LayerSizes" = (100,),
        *,
        activation: "Activation" = "logistic",
        output_activation: "OutputActivation" = "auto",
        batch_size: "BatchSize" = "auto",
        learning_rate: "float | Auto" = "auto",
        learning_rate_schedule: "Schedule" = "auto",
        power_t: float = 0.5,
        solver: "Solver" = "sgd",
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        max_gradient_norm: float | None = None,
        alpha: "float | Auto" = "auto",
        max_iter: "int | Auto" = "auto",
        tol: "float | Auto | None" = "auto",
        n_iter_no_change: "int | Auto" = "auto",
        standardize: bool = True,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        scoring: "Scoring" = None,
        class_weight: "ClassWeight" = None,
        warm_start: bool = False,
        random_state: "RandomState" = None,
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
        self.standardize = standardize
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
        X: "Rows",
        y: "ArrayLike",
        sample_weight: "ArrayLike | None" = None,
        *,
        X_val: "Rows | None" = None,
        y_val: "ArrayLike | None" = None,
        sample_weight_val: "ArrayLike | None" = None,
    ) -> Self:
        """Train to the end of the plan, or until the loss stands still.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows to learn from. A C-contiguous array, or CSR, of float32 or float64
            is used as it is, without a copy unless `early_stopping` sets rows aside.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels (at least two), or indicators 0/1 of several labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows: not negative, not all zero. Only their ratios matter. A
            number is the weight of every row.

        X_val : {array-like, sparse matrix} of shape \
                (n_validation_samples, n_features), default=None
            Validation rows: their loss is recorded after each epoch, and with
            `early_stopping` training stops by it. They must be transformed as `X` is:
            in a :class:`~sklearn.pipeline.Pipeline` by metadata routing, as in the
            examples. :class:`~sklearn.model_selection.GridSearchCV` and all that
            divides `X` into folds divides each argument of `fit` that has as many rows:
            give `X_val` another number of rows, which all reach every fit.

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
        UserWarning
            If the values of a feature in `X_val` are mostly far from those in `X`, as
            when only one of them is scaled. Dense rows are compared.

        ConvergenceWarning
            If `max_iter` epochs were over before the criterion stood still, unless the
            step fell to 0 as planned ("cosine"); if L-BFGS came to where it found no
            lower loss before its gradient was within `tol`; if the loss is larger in
            the end than it was at first; if `warm_start` left no epoch to be made; or
            if features that are not standardised are badly scaled.

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

        In a Pipeline the steps in front transform the validation rows too, with
        scikit-learn's metadata routing (``sklearn.set_config`` switches it on for
        good):

        >>> from sklearn import config_context
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> clf = BGDClassifier(random_state=0)
        >>> with config_context(enable_metadata_routing=True):
        ...     clf = clf.set_fit_request(X_val=True, y_val=True)
        ...     pipeline = make_pipeline(
        ...         StandardScaler(), clf, transform_input=["X_val"]
        ...     ).fit(X[train], y[train], X_val=X[validation], y_val=y[validation])
        >>> pipeline[-1].validation_loss_curve_[-1] < 0.5
        True
        """
        trained = self._copy()
        before = trained.__dict__.copy()
        try:
            fit_warnings = trained._fit(
                X, y, sample_weight, X_val, y_val, sample_weight_val
            )
        except self._INTERRUPTS as interrupt:
            if getattr(interrupt, "keeps_epochs", False):
                self._commit(trained, before)
            raise
        self._commit(trained, before)
        try:
            for warning in fit_warnings:
                warnings.warn(warning, stacklevel=2)
        except MemoryError:
            pass  # the model is complete
        return self

    @unavailable_with_lbfgs
    def partial_fit(
        self,
        X: "Rows",
        y: "ArrayLike",
        classes: "ArrayLike | None" = None,
        sample_weight: "ArrayLike | None" = None,
    ) -> Self:
        """Continue training with one epoch over the given rows.

        Parameters, momentum or Adam's moments, counters, loss curve, schedule and the
        stream of random numbers continue from the last call of `fit` or `partial_fit`:
        k calls with the same rows give what ``fit`` gives with ``max_iter=k``,
        ``tol=None`` and the same schedule and penalty ("auto" chooses others here, as a
        stream has no end). After early stopping it continues from the best parameters.
        The loss curve grows by one entry with each call. How features are standardised
        is decided by the first rows with a positive weight. `max_iter` is only used by
        a cosine; `tol`, `n_iter_no_change`, `early_stopping`, `validation_fraction`,
        `scoring`, `warm_start` and `verbose` are not used.

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
            Weights of the rows, not negative. If all are zero nothing is learned. A
            number is the weight of every row.

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
        trained = self._copy()
        before = trained.__dict__.copy()
        try:
            trained._partial_fit(X, y, classes, sample_weight)
            self._commit(trained, before)
        except BaseException:
            state = before.get("_state")
            if state is not None and trained._state.n_iter > state.n_iter:
                trained._state.truncate_curves(state.n_iter)  # which are shared
            raise
        return self

    def decision_function(self, X: "Rows") -> "NDArray[np.floating]":
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
        array([-8.5,  8.5])
        """
        Z = self._view()._output_function(X)(activated=False)
        return Z.ravel() if Z.shape[1] == 1 else Z

    def predict(self, X: "Rows") -> "NDArray[Any]":
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
        model = self._view()
        Z = model._output_function(X)(activated=False)
        if model._multilabel:
            return (Z > 0).astype(int)
        encoded = (Z[:, 0] > 0).astype(int) if Z.shape[1] == 1 else Z.argmax(axis=1)
        return model.classes_[encoded]

    def predict_proba(self, X: "Rows") -> "NDArray[np.floating]":
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
        >>> clf.predict_proba([[1.0], [2.0]]).round(2)
        array([[0.94, 0.06],
               [0.06, 0.94]])
        """
        model = self._view()
        outputs = model._output_function(X)
        return model._network.probabilities(outputs)

    def predict_log_proba(self, X: "Rows") -> "NDArray[np.floating]":
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
        array([[-5643,     0]])
        """
        model = self._view()
        outputs = model._output_function(X)
        return model._network.log_probabilities(outputs)

    @property
    def coefs_(self) -> "tuple[NDArray[np.floating], ...]":
        """Weight matrices, views into the vector of all parameters."""
        check_is_fitted(self)
        model = self._view()
        return model._network.coefs(model._state.best_or_last_theta)

    @coefs_.setter
    def coefs_(self, arrays: "Iterable[ArrayLike]") -> None:
        self._set_weights("coefs_", arrays, write_arrays)

    @property
    def intercepts_(self) -> "tuple[NDArray[np.floating], ...]":
        """Bias vectors, views into the vector of all parameters."""
        check_is_fitted(self)
        model = self._view()
        return model._network.intercepts(model._state.best_or_last_theta)

    @intercepts_.setter
    def intercepts_(self, arrays: "Iterable[ArrayLike]") -> None:
        self._set_weights("intercepts_", arrays, write_arrays)

    @property
    def mean_(self) -> "NDArray[np.float64] | None":
        """What is subtracted from the features."""
        return self._view()._network.shift

    @property
    def scale_(self) -> "NDArray[np.float64] | None":
        """What the features are divided by."""
        return self._view()._network.scale

    @property
    def coef_(self) -> "NDArray[np.floating]":
        """Weights of a linear model, a view like `coefs_`."""
        (W,) = self._single_layer(self.coefs_)
        return W.T

    @coef_.setter
    def coef_(self, array: "ArrayLike") -> None:
        self._set_weights("coef_", array, write_array)

    @property
    def intercept_(self) -> "NDArray[np.floating]":
        """Biases of a linear model, a view like `intercepts_`."""
        (b,) = self._single_layer(self.intercepts_)
        return b

    @intercept_.setter
    def intercept_(self, array: "ArrayLike") -> None:
        self._set_weights("intercept_", array, write_array)

    def _set_weights(self, name, arrays, write):
        """Set an attribute that is a view of the parameters, in a copy of them."""
        model = self._view()
        if not hasattr(model, "_state"):
            raise AttributeError(
                f"{name} can be set when there are layers: call fit or partial_fit "
                "first. With weights of 0 for all rows partial_fit learns nothing."
            )
        changed = model._copy()
        changed._state = model._state.restarted_from(
            model._state.best_or_last_theta.copy()
        )
        write(arrays, getattr(changed, name), name)
        # A fit in another thread may be over by now: its model stays as it is.
        model._state = changed._state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_state")

    # Fitting -----------------------------------------------------------------------

    # Exceptions after which `fit` keeps the epochs that were made.
    _INTERRUPTS: tuple[type[BaseException], ...] = (KeyboardInterrupt,)

    @with_callbacks
    def _fit(self, X, y, sample_weight, *validation):
        """`fit` on a copy of the estimator, which an error may leave half trained.

        Returns the warnings that it deserves.
        """
        check_parameters(self)
        resumed = self.warm_start and hasattr(self, "_state")
        with self._load_rows(X, y, sample_weight, reset=not resumed) as rows:
            if resumed:
                self._check_same_network()
                self._check_same_classes(rows.classes())
                self._state = self._state.copy()
                self._state.continue_from_average()
            else:
                self._initialize(rows, rows.classes())
            callback_args = X, y, sample_weight
            has_feature_names = True
            validation_rows = self._load_validation_rows(rows, *validation)
            dissimilarity = self._check_similarity(rows, validation_rows)
            if validation_rows is None and self.early_stopping:
                rows, validation_rows = rows.split(
                    self.validation_fraction, self._state.split_seed, self._multilabel
                )
                # A part of the rows, as an array without the names of its features
                callback_args = rows.X, rows.y, rows.sample_weight
                has_feature_names = False
            self._set_targets(rows, "sample_weight times class weight", validation_rows)
            self._reset_stopping_rule_if_changed(rows, validation_rows)
            settings = self._resolve_settings(rows)
            progress = Progress(self, self._state, *callback_args, has_feature_names)
            minimizer = self._make_minimizer(rows, settings)
            with rows:
                nonconvergence = self._run_epochs(
                    minimizer, settings, validation_rows, progress
                )
        messages = (UserWarning, dissimilarity), (ConvergenceWarning, nonconvergence)
        return [category(text) for category, text in messages if text is not None]

    def _partial_fit(self, X, y, classes, sample_weight):
        """`partial_fit` on a copy of the estimator."""
        check_parameters(self)
        if isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' needs all rows at once, which partial_fit "
                "never sees; pass a dict {label: weight}."
            )
        first = not hasattr(self, "_state")
        with self._load_local_rows(X, y, sample_weight, reset=first) as rows:
            if first:
                multilabel = rows.multilabel
                classes = classes_for_partial_fit(rows.y, classes, multilabel)
                self._initialize(rows, classes)
            else:
                self._check_same_network()
                if classes is not None:
                    self._check_same_classes(check_classes(classes))
            self._set_targets(rows)
            # The curves are shared, not copied: a call costs the same however long
            # they are. An epoch appends to them last, after all that may fail.
            self._state = self._state.copy(curves=False)
            self._state.restart_from_best()
            if rows.total_weight > 0:
                settings = self._resolve_settings(rows, streaming=True)
                averaged = settings.schedule == "averaged"
                if not averaged:
                    self._state.continue_from_average()
                descent = self._make_minimizer(rows, settings)
                descent.epoch()
                if averaged:
                    self._state.update_average()
                self.learning_rate_ = descent.last_eta
                self.learning_rate_init_ = descent.update_rule.eta
        self._set_fitted_attributes()

    def _load_rows(self, X, y, sample_weight, reset):
        """The training rows of `fit`."""
        return self._load_local_rows(X, y, sample_weight, reset)

    def _load_local_rows(self, X, y, sample_weight, reset, name="sample_weight"):
        """The rows, checked: arrays as the core takes them."""
        check_not_masked(X, "X")
        check_not_masked(y, "y")
        check_not_lazy(X, "X")
        y = as_label_array(y, "y")
        with explain_bad_columns(X):
            X, y = validate_data(
                self,
                without_duplicates(X),
                y,
                reset=reset,
                dtype=FLOAT_DTYPES if reset else self._state.theta.dtype,
                order="C",
                accept_sparse="csr",
                multi_output=True,
            )
        X = check_core_layout(X)
        if issparse(y):
            y = y.toarray()
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        sample_weight = check_sample_weight(sample_weight, X.shape[0], name)
        return LocalRows(X, y, sample_weight, self.n_jobs)

    def _load_validation_rows(self, rows, X_val, y_val, sample_weight_val):
        """The user's validation rows; None if there are none."""
        if X_val is None and y_val is None and sample_weight_val is None:
            return None
        if X_val is None or y_val is None:
            missing = "X_val" if X_val is None else "y_val"
            raise ValueError(
                f"Validation rows need X_val and y_val; {missing} is missing."
            )
        name = "sample_weight_val"
        try:
            validation_rows = self._load_local_rows(
                X_val, y_val, sample_weight_val, reset=False, name=name
            )
            validation_rows.check_labels(self.classes_, self._multilabel)
        except ValueError as error:
            raise ValueError(f"In X_val, y_val: {error}") from error
        return validation_rows

    def _check_similarity(self, rows, validation_rows):
        """The text of a warning if the user's validation rows look unlike the rows."""
        local = isinstance(rows, LocalRows) and isinstance(validation_rows, LocalRows)
        if not local:
            return None
        names = getattr(self, "feature_names_in_", None)
        return dissimilar_rows_warning(rows.X, validation_rows.X, names)

    def _initialize(self, rows, classes):
        """Set the classes, the network, and the state to start from."""
        for name in ("loss_", "best_loss_", "learning_rate_", "learning_rate_init_"):
            vars(self).pop(name, None)
        self._multilabel = rows.multilabel
        self.classes_ = classes
        self._network = self._new_network()
        random_state = check_random_state(self.random_state)
        self._state = State(
            theta=self._network.initial_parameters(random_state, rows.dtype),
            shuffle_state=int(random_state.randint(2**63, dtype=np.uint64)),
            split_seed=int(random_state.randint(2**32, dtype=np.uint64)),
        )

    def _new_network(self):
        n_classes = len(self.classes_)
        n_outputs = 1 if n_classes == 2 and not self._multilabel else n_classes
        multiclass = n_outputs > 1 and not self._multilabel
        hidden = hidden_units(self.hidden_layer_sizes)
        return Network(
            (int(self.n_features_in_), *hidden, n_outputs),
            self.activation,
            self._resolve_output_activation(multiclass),
            exclusive=not self._multilabel,
            standardize=bool(self.standardize),
        )

    def _resolve_output_activation(self, multiclass):
        """Of the units of more than two classes, or of other outputs."""
        if not multiclass:
            return "logistic"
        return "softmax" if self.output_activation == "auto" else self.output_activation

    def _check_same_network(self):
        network = self._new_network()
        if network != self._network:
            raise ValueError(
                f"Training goes on with {self._network}; the parameters now ask for "
                f"{network}. hidden_layer_sizes, activation, output_activation and "
                "standardize must stay the same, for others fit a new estimator."
            )

    def _check_same_classes(self, classes):
        if self.classes_.tolist() != classes.tolist():
            raise ValueError(
                f"Training goes on with the classes {self.classes_.tolist()}; got "
                f"classes={classes.tolist()}. They must stay the same; for others fit "
                "a new estimator."
            )

    def _set_targets(self, rows, weight_name=None, validation_rows=None):
        """Give the rows their codes and weights; `weight_name`: of those to check."""
        weights_of_classes = class_weights(
            self.class_weight,
            self.classes_,
            self._multilabel,
            lambda: rows.class_totals(self.classes_),
        )
        encoding = self.classes_, self._multilabel, weights_of_classes
        rows.set_targets(*encoding)
        if weight_name is not None:
            check_positive_weight(rows.total_weight, weight_name)
        if validation_rows is not None:
            validation_rows.set_targets(*encoding)
            name = "of the validation rows, times class weight"
            check_positive_weight(validation_rows.total_weight, name)

    def _reset_stopping_rule_if_changed(self, rows, validation_rows):
        """Take a fresh one if the rows or a parameter that matters have changed."""
        if not self.warm_start:
            return
        values = self.get_params(deep=False).items()
        key = (
            # Callables are compared as objects: two lambdas have the same name. A dict
            # may be changed in place.
            *(
                dict(value) if isinstance(value, dict) else value
                for name, value in values
                if name not in NOT_IN_STOPPING_KEY
            ),
            rows.key,
            None if validation_rows is None else validation_rows.key,
        )
        if self._state.stopping.key != key:
            self._state.restart_from_best(key)

    _resolve_batch_size = staticmethod(resolve_batch_size)

    def _resolve_settings(self, rows, streaming=False):
        """Resolve the parameters. Sets `batch_size_`, `alpha_`, in fit `max_iter_`."""
        settings = Settings.resolve(
            self,
            rows,
            self._state.stopping.first_epoch,
            streaming=streaming,
            batch_size_resolver=self._resolve_batch_size,
        )
        self.batch_size_, self.alpha_ = settings.batch_size, settings.alpha
        if not streaming:
            self.max_iter_ = settings.max_iter
        return settings

    def _make_minimizer(self, rows, settings):
        """The minimizer. The first also sets how the network standardises rows."""
        problem = self._network, self._state, rows
        if self.solver == "lbfgs":
            minimizer = QuasiNewton(*problem, settings.alpha, settings.tol)
        else:
            update_rule = UpdateRule(
                eta=self.learning_rate,
                alpha=settings.alpha,
                solver=self.solver,
                momentum=0.0 if self.solver == "adam" else float(self.momentum),
                nesterov=self.nesterov,
                beta_1=float(self.beta_1),
                beta_2=float(self.beta_2),
                epsilon=float(self.epsilon),
                max_gradient_norm=float(self.max_gradient_norm or 0),
            )
            minimizer = Descent(
                *problem, update_rule, settings, self.power_t, self.shuffle
            )
        self._network = minimizer.network
        return minimizer

    def _run_epochs(self, minimizer, settings, validation_rows, progress):
        """Run the epochs, set the fitted attributes; returns a warning or None."""
        state = self._state
        n_before = state.n_iter
        sample = minimizer.rows.sample()
        if state.stopping.initial_loss is None:
            state.stopping.initial_loss = minimizer.objective(sample)
        try:
            self.stop_reason_ = minimize(
                minimizer,
                max_iter=settings.max_iter,
                tol=settings.tol,
                n_iter_no_change=settings.n_iter_no_change,
                adaptive=settings.schedule == "adaptive",
                validate=validation_criterion(self, validation_rows),
                early_stopping=self.early_stopping,
                progress=progress,
            )
        except self._INTERRUPTS as interrupt:
            self.stop_reason_ = "interrupted"
            interrupt.keeps_epochs = state.n_iter > n_before
            if interrupt.keeps_epochs:
                interrupt.add_note(
                    f"The fit was interrupted in epoch {state.n_iter}. What was "
                    "learned until then is kept: the estimator is fitted."
                )
            raise
        finally:
            if minimizer.last_eta is not None:
                self.learning_rate_init_ = minimizer.update_rule.eta
                self.learning_rate_ = minimizer.last_eta
            self._set_fitted_attributes()
        progress.finish(self.stop_reason_)
        loss = minimizer.objective(sample)
        if not np.isfinite(loss):
            quantity = "The loss after the last step"
            raise ValueError(minimizer.divergence_message(quantity))
        return convergence_warning(self, minimizer, settings, n_before, loss, sample)

    def _set_fitted_attributes(self):
        state = self._state
        self.n_layers_ = len(self._network.units)
        self.n_outputs_ = self._network.units[-1]
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

    # Predicting --------------------------------------------------------------------

    def _view(self):
        """A view of the model that a fit in another thread does not change half-way."""
        model = object.__new__(type(self))
        model.__dict__ = self.__dict__  # `fit` puts another dict in its place
        return model

    def _single_layer(self, parameters):
        if len(parameters) > 1:
            raise AttributeError(
                "coef_ and intercept_ are there without hidden layers only "
                "(hidden_layer_sizes=()); see coefs_ and intercepts_."
            )
        return parameters

    def _output_function(self, X):
        """The output layer for the rows of X: a function of `activated` and rows."""
        if not hasattr(self, "_state"):
            check_is_fitted(self)
        theta = self._state.best_or_last_theta
        # scikit-learn's validation takes longer than the prediction for a row.
        unchecked = not hasattr(self, "feature_names_in_") and has_core_layout(
            X, theta.dtype, self.n_features_in_
        )
        if not unchecked:
            X = self._validate_X(X, theta)

        def outputs(activated, selection=None):
            nonlocal X, unchecked
            rows = X if selection is None else X[selection]
            given = self._network, theta, rows, activated, self.n_jobs
            out = output_layer(*given, check_finite=unchecked)
            if out is None:  # NaN or infinity in X: an error, unless told otherwise
                X, unchecked = self._validate_X(X, theta), False
                return outputs(activated, selection)
            if np.isnan(out).any():
                raise ValueError(
                    "The outputs of some rows are no numbers: features up to "
                    f"{abs(rows).max():.2g} are too large for this network in "
                    f"{theta.dtype}. Scale them (StandardScaler), in fit and here."
                )
            return out

        return outputs

    def _validate_X(self, X, theta):
        check_not_lazy(X, "X")
        with explain_bad_columns(X):
            X = validate_data(
                self,
                without_duplicates(X),
                reset=False,
                dtype=theta.dtype,
                order="C",
                accept_sparse="csr",
            )
        return check_core_layout(X)

    # Copies and pickles ------------------------------------------------------------

    def _copy(self):
        """A shallow copy, without the conversions of a pickle."""
        copy = object.__new__(type(self))
        copy.__dict__ = self.__dict__.copy()
        return copy

    def _commit(self, trained, before):
        """Take the fitted attributes of a trained copy, all at once.

        `before` are the attributes that the copy began with. What was set on `self`
        since then stays, parameters too: by a scorer, a callback or another thread.
        """
        after = trained.__dict__
        changed = FITTED_ATTRIBUTES | {
            name
            for name in {*before, *after}
            if after.get(name, MISSING) is not before.get(name, MISSING)
        }
        current = self.__dict__
        copied = current.copy()
        self.__dict__ = {
            **{name: value for name, value in copied.items() if name not in changed},
            **{name: value for name, value in after.items() if name in changed},
        }
        try:
            for name, value in current.copy().items():  # was set in these lines
                if name not in changed and copied.get(name, MISSING) is not value:
                    setattr(self, name, value)
        except BaseException:  # no memory, Ctrl-C
            self.__dict__ = current
            raise

    def __getstate__(self):
        """Parameters and attributes as arrays and plain Python values."""
        return to_plain(super().__getstate__())

    def __setstate__(self, state):
        super().__setstate__(from_plain(state, type(self).__name__))


# The attributes that training sets: all others are the user's.
FITTED_ATTRIBUTES = {
    *BGDClassifier.__annotations__,
    "_multilabel",
    "_network",
    "_state",
}
