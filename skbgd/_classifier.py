"""The estimator. `FittingMixin._fit` lists the steps of a fit."""

import warnings
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ._array_layout import (
    check_core_layout,
    explain_bad_columns,
    has_core_layout,
    without_duplicates,
)
from ._callbacks import CallbackSupportMixin
from ._fitting import FittingMixin
from ._network import write_array, write_arrays
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
    explain_unknown_parameters,
    unavailable_with_lbfgs,
)
from ._saving import from_plain, to_plain
from ._targets import as_label_array, check_not_lazy
from ._trainer import pre_activations

MISSING = object()


class BGDClassifier(
    CallbackSupportMixin, FittingMixin, ClassifierMixin, BaseEstimatorWithHints
):
    r"""Multilayer perceptron classifier trained by gradient descent.

    `batch_size` selects the method: 1 is stochastic gradient descent, "full" is batch
    gradient descent, and a number in between is mini-batch gradient descent. `solver`
    offers Adam and L-BFGS as well.

    Parameters that are "auto" are chosen from the number of samples and the layers: the
    batch size, the initial step size, the number of epochs and the penalty. `fit`
    decreases the step size to 0 along a cosine. Explicit values are used as given; a
    number for `learning_rate` is the initial step size. The attributes `batch_size_`,
    `learning_rate_init_`, `max_iter_` and `alpha_` report the values in use. Dense
    features are standardized by default, so no scaler is needed in front.

    A parameter that has no effect in combination with the others is ignored without a
    warning. Its description says when it is used.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Number of units in each hidden layer. ``()`` means no hidden layers, which is
        logistic regression.

    activation : {"logistic", "tanh", "relu", "identity"}, default="logistic"
        Activation function of the hidden layers. Only used with hidden layers.

    output_activation : {"auto", "logistic", "softmax"}, default="auto"
        Activation function of the output layer for more than two classes:

        - "auto": "softmax";
        - "softmax": one softmax over the classes, with its cross-entropy as the loss;
        - "logistic": one sigmoid unit per class, with the sum of their binary
          cross-entropies as the loss. Probabilities are normalized to sum to 1.

        Two classes always use one sigmoid unit, which is the same model as a softmax of
        two. Multilabel targets always use one sigmoid unit per label.

    batch_size : int, "full" or "auto", default="auto"
        Number of samples per gradient step. 1 is stochastic gradient descent, "full"
        is batch gradient descent. A number larger than `n_samples` means all samples. A
        smaller last batch is averaged over its own samples.

        "auto" is ``n_samples // 75``, but at least 8 and at most 32. With 40 samples or
        fewer it is "full". In `partial_fit` it is ``n_samples // 75`` for the samples
        of the call, but at least 4 and at most 32.

        Only used when ``solver="sgd"`` or ``"adam"``.

    learning_rate : float or "auto", default="auto"
        Initial step size :math:`\eta > 0`. `learning_rate_schedule` multiplies it by a
        factor in each epoch.

        "auto" depends on the batch size :math:`m` (128 if it is "full"), the layers,
        and the root mean square :math:`r` of the features. With ``solver="sgd"`` it is
        :math:`0.4 \sqrt{\min(m, 128)}`, and

        - with hidden layers, at most :math:`32 m / (1 + d \min(1, r)^2)` for :math:`d`
          features, unless the batch is full. This is divided by :math:`\max(1, r)`, and
          at most :math:`1 / \alpha`. For an `activation` other than "logistic" it is
          also divided by 8 times the number of hidden layers;
        - without hidden layers, at most :math:`1 / (L + \alpha)`. Here
          :math:`L = (1 + \operatorname{mean}_i \lVert x_i \rVert^2) / 4`, or twice this
          value for a softmax. Each step of plain batch gradient descent then decreases
          the objective.

        The result is multiplied by ``1 - momentum``.

        With ``solver="adam"`` it is 0.05, or 0.01 with hidden layers of an `activation`
        other than "logistic". It is divided by the number of hidden layers and by
        :math:`\sqrt{\max(1, r)}`.

        With weights :math:`w_i` (sample weight times class weight), :math:`m` is
        multiplied by the effective fraction of the samples,
        :math:`(\sum_i w_i)^2 / (n \sum_i w_i^2)`, unless the batch is full.

        The features are those that the first layer receives, in the samples that
        determine `mean_` and `scale_`: with `standardize`, :math:`r \leq 1`. If they
        are not standardized, they are those of `fit`, or of the first call of
        `partial_fit` with a positive weight. Scale such features, since no single step
        size suits features of different scales.

        Only used when ``solver="sgd"`` or ``"adam"``.

    learning_rate_schedule : {"auto", "constant", "invscaling", "adaptive", \
            "cosine"} or callable, default="auto"
        Factor that multiplies `learning_rate` in epoch :math:`k = 0, 1, \dots`:

        - "auto": "cosine" in `fit`. In `partial_fit`, where the number of epochs is
          unknown, it is :math:`1 / \sqrt{1 + t / 1000}` after :math:`t` samples (`t_`),
          and the model is an average over the calls: the parameters after call
          :math:`k = 0, 1, \dots` enter the average with weight :math:`5 / (k + 5)`;
        - "constant": 1;
        - "invscaling": :math:`1 / (t + 1)^p` after :math:`t` samples (`t_`), with
          :math:`p` = `power_t`;
        - "adaptive": divided by 5 each time that training would otherwise stop, until
          the step size is at most 1e-6. `partial_fit` keeps the factor of `fit`;
        - "cosine": :math:`(1 + \cos(\pi k / T)) / 2` with :math:`T` = `max_iter`, so
          the step size decreases to 0 at the end of training. In later calls of
          `partial_fit` it stays 0, unless `max_iter` is "auto", which then depends on
          the samples of the call;
        - a callable that takes :math:`k` and returns the factor.

        Only used when ``solver="sgd"`` or ``"adam"``.

    power_t : float, default=0.5
        Exponent of the "invscaling" schedule. Only used when
        ``learning_rate_schedule="invscaling"`` and ``solver="sgd"`` or ``"adam"``.

    solver : {"sgd", "adam", "lbfgs"}, default="sgd"
        Optimizer:

        - "sgd": gradient descent, with momentum if `momentum` is not 0;
        - "adam": Adam;
        - "lbfgs": L-BFGS on the full batch, by :mod:`scipy`. It needs no step size and
          far fewer passes over the data than ``batch_size="full"``. An epoch is one
          iteration, which makes one or more passes. There is no `partial_fit`.

    momentum : float in [0, 1), default=0.0
        Momentum coefficient :math:`\mu`. Only used when ``solver="sgd"``.

    nesterov : bool, default=False
        Whether to use Nesterov's momentum. Only used when ``solver="sgd"`` and
        `momentum` > 0.

    beta_1, beta_2 : float in [0, 1), default=0.9, 0.999
        Exponential decay rates of Adam's averages of the gradient and of its square.
        Only used when ``solver="adam"``.

    epsilon : float, default=1e-8
        Value added to Adam's denominator for numerical stability. Only used when
        ``solver="adam"``.

    max_gradient_norm : float or None, default=None
        Maximum Euclidean norm of the gradient of all parameters, penalty included.
        Larger gradients are scaled down to it. None: no maximum. Only used when
        ``solver="sgd"`` or ``"adam"``.

    alpha : float or "auto", default="auto"
        Strength of the L2 penalty. It has the same meaning as in
        :class:`~sklearn.linear_model.SGDClassifier`.
        :class:`~sklearn.neural_network.MLPClassifier` divides its ``alpha`` by the
        batch size: pass ``alpha / batch_size`` for the same penalty. With `standardize`
        the penalty applies to the weights of standardized features.

        "auto" is :math:`c / n` for :math:`n` samples, divided by the square of the
        number of hidden layers, where :math:`c = 0.5`, or 0.25 for "adam". In `fit` it
        is multiplied

        - for :math:`n < 100` by :math:`(n / 100)^2`, where :math:`n` is at least 40;
        - for :math:`n > 2000` by :math:`\sqrt{n / 2000}`, but at most by 2.

        In `partial_fit`, :math:`n` is the number of samples in the call, and
        :math:`c / n` is at most 2e-4. With sample weights :math:`w_i`, :math:`n` is the
        effective number of samples, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`.

    max_iter : int or "auto", default="auto"
        Maximum number of epochs (passes over the data). With `warm_start` the epochs of
        earlier calls count too.

        "auto" depends on the schedule and the solver:

        - for a cosine schedule ``100_000 // n_samples``, but at least 25 and at most
          40; with ``solver="adam"`` 25. It is more if these epochs have fewer than 250
          steps, or 1000 steps without hidden layers;
        - for other schedules 400, since training usually stops earlier by `tol`;
        - with ``solver="lbfgs"`` 1000 iterations.

        With `warm_start` this number of epochs is added whenever the stopping rule
        restarts (see `warm_start`).

    tol : float, "auto" or None, default="auto"
        Tolerance of the stopping rule. An epoch is an improvement if the criterion is
        lower than the reference by more than `tol`; see `n_iter_no_change`. The
        criterion is the training loss. With `early_stopping` it is the validation loss
        or the negative score. "auto" is 1e-4. None: train for exactly `max_iter`
        epochs.

        ``solver="lbfgs"`` stops when no entry of the gradient of the objective exceeds
        `tol` in absolute value (0 if `tol` is None), and does not use the training loss
        as a criterion.

    n_iter_no_change : int or "auto", default="auto"
        Number of consecutive epochs without an improvement after which training stops.
        The reference is the criterion of the last improvement, so small gains add up.

        "auto" is 50, or half of the epochs of a cosine schedule. If `tol` is "auto" too
        and `early_stopping` is False, a cosine schedule is always completed.

        Only used when ``solver="sgd"`` or ``"adam"``, or when `early_stopping` is True.

    standardize : bool, default=True
        Whether to standardize dense features: the first layer receives each feature
        minus its mean, divided by its standard deviation. A
        :class:`~sklearn.preprocessing.StandardScaler` in front does the same, except
        that here a feature with only two values becomes 0 and 1. Sample weights are
        taken into account. `X` is not copied.

        The values, `mean_` and `scale_`, are computed in `fit`. In `partial_fit` they
        are those of all samples so far, until there are 30 and each feature has varied,
        or until there are 1000. Then they no longer change. If `fit` with `warm_start`
        comes before that, it adds its samples, unless they are sparse, and the values
        are final. Samples of weight 0 do not count.

        If a feature drifts, such as a timestamp, use ``standardize=False``. For each
        chunk call `partial_fit` of a :class:`~sklearn.preprocessing.StandardScaler`,
        then its `transform`, then `partial_fit` here.

        If the first samples are sparse, features are never standardized. If they are
        dense, later sparse samples are standardized too.

    shuffle : bool, default=True
        Whether to shuffle the samples in each epoch. Only used when ``solver="sgd"`` or
        ``"adam"`` and a batch does not hold all samples.

    early_stopping : bool, default=False
        Whether to stop when the criterion on validation samples stops improving, and to
        keep the parameters of the best epoch. Pass validation samples to `fit` as
        `X_val` and `y_val`; otherwise `fit` sets some training samples aside.

    validation_fraction : float in (0, 1), default=0.1
        Fraction of the training samples to set aside for validation. They are drawn at
        random, from each class in proportion to its size, so a rare class may have no
        validation sample. The only sample of a class is never set aside. Only used when
        `early_stopping` is True and `X_val` is not passed.

    scoring : str, callable or None, default=None
        Criterion on the validation samples. None: their loss. Otherwise a scikit-learn
        scorer, ``scorer(estimator, X, y)``, of which larger values are better. With
        weights it is called with ``sample_weight`` too. The scorer receives a copy of
        the estimator with the parameters of the epoch; `X` is an array or sparse, never
        a DataFrame. Some scorers, such as "roc_auc_ovr", need a sample of each class.
        Only used with validation samples.

    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, ``{label: weight}``, by which `sample_weight` is
        multiplied. Classes that are not in the dict have weight 1. "balanced" gives
        every class the same total weight: a class has the weight
        ``n_samples / (n_classes * count)``, with counts weighted by `sample_weight`.
        Only the ratios of the weights in a call matter. With a single class in a call
        of `partial_fit`, class weights have no effect.

        If the dict has a weight for every class, it may also have labels that are not
        in `y`, such as those of a class that a cross-validation fold lacks. Otherwise
        an unknown label is an error. `partial_fit` does not support "balanced".
        Multilabel targets support None only.

    warm_start : bool, default=False
        Whether `fit` continues from the parameters of the last call. The classes, the
        features and the layers must be the same.

        `max_iter` includes the epochs of earlier calls. Calling `fit` with
        ``max_iter=a`` and then with ``a + b`` gives the result of one call with
        ``a + b``, to the last bit, if the samples and all other parameters are the same
        and the schedule does not depend on `max_iter`, as a cosine does.

        If the samples or a parameter of the objective, the steps or the stopping rule
        have changed, such as `alpha`, `learning_rate` or `tol`, the stopping rule
        restarts. L-BFGS always restarts. A call that makes no epoch warns, unless
        L-BFGS is at the minimum.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the samples and the choice of
        validation samples. Pass an int for reproducible results.

    verbose : int, default=0
        1: `fit` prints about 20 progress lines. 2: it prints one line per epoch. With
        scikit-learn 1.9 or newer, see also `set_callbacks`.

    n_jobs : int or None, default=None
        Maximum number of threads of `fit`, `partial_fit` and predictions, at most one
        per CPU. None: the number of threads that BLAS may use, so the limits of joblib,
        threadpoolctl and variables such as ``OPENBLAS_NUM_THREADS`` apply. -1: one per
        CPU. Batches of fewer than 96 samples use one thread. The same number of
        threads gives the same result to the last bit, another number the same up to
        rounding. Without the compiled core, `n_jobs` has no effect on the threads of
        BLAS.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted. For multilabel targets, the numbers of the labels.

    coefs_ : tuple of ndarray, each of shape (fan_in, fan_out)
        Weight matrices :math:`W_1, \dots, W_L`. With `standardize`, they apply to
        standardized features. The first layer of the same model for `X` itself has
        ``W = coefs_[0] / scale_[:, None]`` and ``b = intercepts_[0] - mean_ @ W``.

        A fitted estimator accepts other weights of the same shapes, ``clf.coefs_ =
        [W_1, W_2]``, and copies them. `partial_fit`, or `fit` with `warm_start`, then
        continues from them, without momentum and with a new stopping rule. Setting them
        discards the best parameters of early stopping. The weights belong to the
        present `mean_` and `scale_`, if any, which no longer change. To start from your
        own weights, first create the layers with
        ``partial_fit(X, y, classes, sample_weight=0)``, which does not train.

    intercepts_ : tuple of ndarray, each of shape (fan_out,)
        Bias vectors :math:`b_1, \dots, b_L`. Can be set like `coefs_`.

    coef_ : ndarray of shape (n_outputs, n_features)
        The transpose of ``coefs_[0]``, as in linear models. Can be set like `coefs_`.
        Only available without hidden layers.

    intercept_ : ndarray of shape (n_outputs,)
        ``intercepts_[0]``. Can be set like `coefs_`. Only available without hidden
        layers.

    mean_ : ndarray of shape (n_features,) or None
        Value subtracted from each feature: its mean, or the smaller value of a feature
        with two values. None if features are not standardized, or if no sample had a
        positive weight yet.

    scale_ : ndarray of shape (n_features,) or None
        Value by which each feature is then divided: its standard deviation, or the
        difference of the values of a feature with two values, or 1 for a constant
        feature. None if features are not standardized, or if no sample had a positive
        weight yet.

    n_layers_ : int
        Number of layers, including the input and output layers.

    n_outputs_ : int
        Number of output units.

    out_activation_ : {"logistic", "softmax"}
        Activation function of the output layer.

    n_features_in_ : int
        Number of features.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features. Only available if all feature names of `X` are strings.

    n_iter_ : int
        Number of epochs of `fit` and of the calls of `partial_fit` after it.

    t_ : int
        Number of samples processed, each counted once per epoch. L-BFGS counts them
        once per gradient.

    learning_rate_ : float
        Step size of the last epoch. Almost 0 at the end of a cosine schedule. Not
        available with ``solver="lbfgs"``.

    learning_rate_init_ : float
        Initial step size, given or chosen. Not available with ``solver="lbfgs"``.

    batch_size_ : int
        Number of samples per step in the last call.

    alpha_ : float
        Strength of the penalty in the last call.

    max_iter_ : int
        Maximum number of epochs of the last `fit`, including those of earlier calls.

    loss_curve_ : list of float
        Objective :math:`J` in each epoch. The loss of a sample is computed just before
        the step that uses it, and the penalty at the start of the epoch. With the full
        batch this is :math:`J(\theta)` before each step, and for L-BFGS it is
        :math:`J(\theta)` after each iteration.

    updates_curve_ : list of int
        Number of gradient steps up to the end of each epoch. L-BFGS counts gradients.

    seconds_curve_ : list of float
        Training time up to the end of each epoch, in seconds, without the time for
        checks of the input, validation and callbacks.

    validation_loss_curve_ : list of float
        Loss of the validation samples, without penalty, after each epoch. Empty without
        validation samples, NaN for earlier epochs of a warm start that had none.

    validation_scores_ : list of float
        Score of the validation samples after each epoch. Empty without `scoring`.

    loss_ : float
        Last entry of `loss_curve_`.

    best_loss_ : float
        Smallest entry of `loss_curve_`.

    stop_reason_ : str
        Reason why the last `fit` stopped: "converged" (`tol`), "early_stopping" (`tol`
        on validation samples), "max_iter", "callback", or "interrupted" (Ctrl-C; the
        last epoch may then be incomplete, except for L-BFGS).

    See Also
    --------
    LossCurveDisplay : Plots the loss curves of fitted classifiers.
    sklearn.neural_network.MLPClassifier : Multilayer perceptron in NumPy.
    sklearn.linear_model.SGDClassifier : Linear models trained by stochastic gradient
        descent.

    Notes
    -----
    **Coming from MLPClassifier.** No scaler is needed in front: dense features are
    standardized, unless `standardize` is False. These parameters have another name,
    default or meaning:

    =========================  ==============================  =========================
    MLPClassifier              BGDClassifier                   Difference
    =========================  ==============================  =========================
    activation="relu"          activation="logistic"           Wider initial weights.
    solver="adam"              solver="sgd"                    Same choices.
    alpha=0.0001               alpha="auto"                    Not divided by the batch
                                                               size: alpha / batch_size
                                                               is the same penalty; for
                                                               L-BFGS alpha / n_samples.
    batch_size="auto"          batch_size="auto"               8 to 32 instead of 200;
                                                               "full" is all samples.
    learning_rate_init=0.001   learning_rate="auto"            Chosen from batch size,
                                                               layers and features.
    learning_rate="constant"   learning_rate_schedule="auto"   A cosine in `fit`; used
                                                               by "adam" too.
    momentum=0.9               momentum=0.0
    nesterovs_momentum=True    nesterov=False
    max_iter=200               max_iter="auto"                 With warm starts, the
                                                               total of all calls.
    max_fun=15000              max_iter="auto"                 Counts the iterations of
                                                               L-BFGS.
    tol=0.0001                 tol="auto"                      Small gains add up. By
                                                               default, a cosine
                                                               schedule is completed.
    n_iter_no_change=10        n_iter_no_change="auto"         Exactly this number of
                                                               epochs, not one more.
    early_stopping=False       early_stopping=False            By the loss, unless
                                                               `scoring` is set;
                                                               ignored in `partial_fit`.
    =========================  ==============================  =========================

    `hidden_layer_sizes`, `power_t`, `shuffle`, `random_state`, `verbose`, `warm_start`,
    `validation_fraction`, `beta_1`, `beta_2` and `epsilon` have the same names and
    meanings. With equal settings and initial weights, both classifiers make the same
    steps, up to rounding.

    **Coming from linear models.** ``LogisticRegression(C=C)`` has the same coefficients
    as::

        BGDClassifier(
            (), solver="lbfgs", alpha=1 / (n_samples * C), standardize=False
        )

    In place of ``SGDClassifier(loss="log_loss")`` use ``BGDClassifier((),
    batch_size=1)``: ``eta0`` is `learning_rate`, ``learning_rate`` is
    `learning_rate_schedule`, and `alpha` has the same meaning. For more than two
    classes, ``output_activation="logistic"`` is one-vs-rest.

    **Speed and memory.** Pass `X` as a C-contiguous array or a CSR matrix of float32 or
    float64: it is then not copied. A model that is first fitted to float32 data
    computes in float32, any other in float64. For more threads increase `batch_size`;
    each thread may need memory for one more gradient. Apart from the data, memory does
    not grow with the number of samples.

    Sparse data are never converted to a dense array as a whole. A step takes time in
    proportion to the nonzero elements in its batch, independent of the number of
    features, if ``solver="sgd"``, `momentum` is 0, `max_gradient_norm` is None, and the
    batch has at most 128 samples. Otherwise each step changes all weights.

    **Failed and concurrent calls.** A call that raises an error leaves the estimator
    unchanged, for instance if the step size is so large that the loss is no longer
    finite. Other threads may predict during a call; they use the previous model.
    Parameters that a scorer, a callback or another thread sets during a call apply from
    the next call on.

    **Objective.** Let :math:`x_i` be the samples, standardized [1]_ if `standardize` is
    True, and :math:`A_0 = X`. Layer :math:`l = 1, \dots, L` computes

    .. math::
        Z_l = A_{l-1} W_l + b_l, \qquad A_l = f(Z_l)

    where :math:`f` is the `activation` in hidden layers, and in the last layer the
    sigmoid :math:`\sigma(z) = 1 / (1 + e^{-z})` or a softmax. Let :math:`w_i` be the
    sample weight times the class weight. For every batch size the objective is

    .. math::
        J(\theta) = \frac{\sum_i w_i \ell_i}{\sum_i w_i}
        + \frac{\alpha}{2} \sum_l \lVert W_l \rVert^2, \qquad
        \ell_i = -\sum_k [y_{ik} \log a_{ik} + (1 - y_{ik}) \log(1 - a_{ik})]

    or, for a softmax, :math:`\ell_i = -\log a_{i y_i}`. Biases are not penalized.

    **Gradient.** The gradient of :math:`E = \sum_i w_i \ell_i` is computed by
    back-propagation [2]_ of :math:`D_l = \partial E / \partial Z_l`, which starts from
    :math:`D_L = w (a - y)` for both kinds of output:

    .. math::
        \frac{\partial E}{\partial W_l} = A_{l-1}^T D_l, \qquad
        \frac{\partial E}{\partial b_l} = \sum_i D_{l,i}, \qquad
        D_{l-1} = (D_l W_l^T) \odot f'(Z_{l-1})

    **Steps.** A step [3]_ on a batch :math:`B` out of :math:`n` samples is

    .. math::
        g = \frac{n}{|B| \sum_i w_i} \sum_{i \in B} w_i \nabla \ell_i + \alpha W,
        \qquad v \leftarrow \mu v - \eta g, \qquad \theta \leftarrow \theta + v

    With Nesterov's momentum the last equation is
    :math:`\theta \leftarrow \theta + \mu v - \eta g`. Step number :math:`t` of Adam
    [4]_ is, elementwise,

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        s \leftarrow \beta_2 s + (1 - \beta_2) g^2, \quad
        \theta \leftarrow \theta - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
        \frac{m}{\sqrt{s} + \epsilon}

    L-BFGS [5]_ minimizes :math:`J` on all samples. In `partial_fit`, :math:`n` and
    :math:`\sum_i w_i` are those of the call.

    Multiplying all weights by a constant therefore has no effect, and a batch whose
    weights are all 0 is harmless. With the full batch and a number for `alpha`, an
    integer weight is equivalent to repeating the sample.

    **Initial weights.** Without hidden layers all parameters are initially 0.
    Otherwise weights and biases are uniform in :math:`[-u, u]`:

    - In the first hidden layer :math:`u = c \sqrt{3 / d}` for :math:`d` features, with
      :math:`c = 3` for logistic units, 1.5 for tanh, :math:`\sqrt 2` for relu and 1 for
      identity. :math:`W_1` is then divided by the root mean square :math:`r` of the
      features, or by :math:`\sqrt r` if :math:`r > 1`. When later samples of a stream
      change `mean_` and `scale_`, :math:`W_1` is multiplied by the old divisor over the
      new one.
    - In the other layers :math:`u = c \sqrt{6 / (fan_{in} + fan_{out})}` [6]_, with
      :math:`c = 4` for logistic hidden units and 1 otherwise.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, "Efficient BackProp", in Neural
       Networks: Tricks of the Trade, Springer, 1998.
    .. [2] D. E. Rumelhart, G. E. Hinton, R. J. Williams, "Learning representations by
       back-propagating errors", Nature 323, 1986.
    .. [3] L. Bottou, F. E. Curtis, J. Nocedal, "Optimization methods for large-scale
       machine learning", SIAM Review 60, 2018.
    .. [4] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    .. [5] D. C. Liu, J. Nocedal, "On the limited memory BFGS method for large scale
       optimization", Mathematical Programming 45, 1989.
    .. [6] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep
       feedforward neural networks", AISTATS 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import train_test_split
    >>> from skbgd import BGDClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = BGDClassifier(random_state=0).fit(X_train, y_train)
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
        """Fit the model to training data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data. A C-contiguous array or CSR matrix of float32 or float64 is
            not copied, unless `early_stopping` sets samples aside.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels of at least two classes, or 0/1 indicators of several labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples: not negative, and not all zero. Only their ratios
            matter. A number is the weight of every sample.

        X_val : {array-like, sparse matrix} of shape \
                (n_validation_samples, n_features), default=None
            Validation data. Their loss is recorded after each epoch, and with
            `early_stopping` it determines when training stops. They must be transformed
            in the same way as `X`; in a :class:`~sklearn.pipeline.Pipeline` by metadata
            routing, as in the examples.
            :class:`~sklearn.model_selection.GridSearchCV` and similar tools split each
            argument that has the length of `X`. To use all validation samples in every
            split, pass an `X_val` of another length.

        y_val : array-like of shape (n_validation_samples,) or \
                (n_validation_samples, n_labels), default=None
            Labels of the validation data. Each must be a label in `y`.

        sample_weight_val : array-like of shape (n_validation_samples,), default=None
            Weights of the validation samples. In the loss they are multiplied by the
            class weights.

        Returns
        -------
        self : BGDClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the input is invalid, or if the loss becomes infinite or
            NaN. The estimator is then unchanged.

        KeyboardInterrupt
            After Ctrl-C. If a step was made, the estimator keeps the parameters reached
            by then and is fitted, with ``stop_reason_ = "interrupted"``.

        Warns
        -----
        UserWarning
            If most values of a feature in `X_val` are far from those in `X`, for
            instance because only one of the two is scaled. Only dense data are
            compared.

        ConvergenceWarning
            - If a call with `warm_start` made no epoch.
            - If the final loss is larger than the initial one. Not for L-BFGS.

            Unless `tol` is None, also

            - if training stopped by `max_iter` before it converged. After a cosine
              schedule, whose step size decreases to 0, there is no such warning;
            - if L-BFGS found no lower loss before its gradient was within `tol`;
            - if the final loss is hardly or not lower than that of predicting the class
              frequencies for all samples;
            - if it is more than half of that loss, and `learning_rate` is a number more
              than 500 times smaller than "auto" would be;
            - if features that are not standardized are badly scaled.

        See Also
        --------
        partial_fit : Train on a stream, one chunk of samples per call.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skbgd import BGDClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> train, validation, test = slice(1000), slice(1000, 1400), slice(1400, None)
        >>> clf = BGDClassifier(
        ...     batch_size=16, early_stopping=True, n_iter_no_change=5, random_state=0
        ... ).fit(X[train], y[train], X_val=X[validation], y_val=y[validation])
        >>> clf.stop_reason_
        'early_stopping'
        >>> clf.score(X[test], y[test]) > 0.85
        True

        In a Pipeline, metadata routing lets the preceding steps transform the
        validation data too (``sklearn.set_config`` enables it permanently):

        >>> from sklearn import config_context
        >>> from sklearn.decomposition import PCA
        >>> from sklearn.pipeline import make_pipeline
        >>> clf = BGDClassifier(random_state=0)
        >>> with config_context(enable_metadata_routing=True):
        ...     clf = clf.set_fit_request(X_val=True, y_val=True)
        ...     pipeline = make_pipeline(
        ...         PCA(30), clf, transform_input=["X_val"]
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
            if trained._has_new_epochs(before.get("_state")):
                trained._finish_interrupted_fit(interrupt)
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
        """Continue training with one epoch over the given samples.

        Training continues from the last call of `fit` or `partial_fit`: the parameters,
        momentum or Adam's moments, the counters, the loss curve, the schedule and the
        random numbers. After early stopping it continues from the best parameters. With
        ``learning_rate_schedule="auto"`` the model is an average over the calls. The
        first samples determine how features are standardized, see `standardize`. If
        there are few samples in all, ``solver="adam"`` mostly gives better
        probabilities.

        The result of k calls with the same samples is that of ``fit`` with
        ``max_iter=k`` and ``tol=None``, if `batch_size`, `alpha` and
        `learning_rate_schedule` are not "auto", which means other values here.
        `max_iter` is only used by a cosine schedule. `tol`, `n_iter_no_change`,
        `early_stopping`, `validation_fraction`, `scoring`, `warm_start` and `verbose`
        are not used.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training data.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels, each of them in `classes`, or 0/1 indicators of several
            labels.

        classes : array-like of shape (n_classes,), default=None
            All classes that may occur in any call. Required in the first call, unless
            `y` has indicators. If passed again, they must not change.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, not negative. Only the ratios of the weights in a
            call matter. If all are zero, the call creates the layers but does not
            train. A number is the weight of every sample.

        Returns
        -------
        self : BGDClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the input is invalid, or if the loss becomes infinite or
            NaN. The estimator is then unchanged, as after Ctrl-C.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from skbgd import BGDClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = BGDClassifier(batch_size=4, random_state=0)
        >>> for chunk in np.array_split(np.arange(1500), 15):
        ...     clf = clf.partial_fit(X[chunk], y[chunk], classes=np.arange(10))
        >>> clf.score(X[1500:], y[1500:]) > 0.8
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
                # This estimator has the same lists.
                trained._state.truncate_curves(state.n_iter)
            raise
        return self

    def decision_function(self, X: "Rows") -> "NDArray[np.floating]":
        """Return the pre-activations of the output units.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        Z : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            One column per class or label. For two classes a vector, which is positive
            for the second class.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If the number of features differs from that in `fit`, or if `X` contains NaN
            or infinity.

        Examples
        --------
        >>> from skbgd import BGDClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cold", "cold", "hot", "hot"]
        >>> clf = BGDClassifier(()).fit(X, y)
        >>> clf.decision_function([[0.0], [3.0]]).round(1)
        array([-8.5,  8.5])
        """
        Z = self._view()._pre_activations(X)
        return Z.ravel() if Z.shape[1] == 1 else Z

    def predict(self, X: "Rows") -> "NDArray[Any]":
        """Predict the class of each sample, or 0/1 for each of its labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            The most probable class. For multilabel targets, 1 for each label with a
            probability above 0.5.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If the number of features differs from that in `fit`, or if `X` contains NaN
            or infinity.

        Examples
        --------
        >>> from skbgd import BGDClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cold", "cold", "hot", "hot"]
        >>> clf = BGDClassifier(()).fit(X, y)
        >>> clf.predict([[0.0], [3.0]])
        array(['cold', 'hot'], dtype='<U4')
        """
        model = self._view()
        Z = model._pre_activations(X)
        if model._multilabel:
            return (Z > 0).astype(int)
        encoded = (Z[:, 0] > 0).astype(int) if Z.shape[1] == 1 else Z.argmax(axis=1)
        return model.classes_[encoded]

    def predict_proba(self, X: "Rows") -> "NDArray[np.floating]":
        """Predict the probability of each class, or of each label.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        P : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            Probabilities in the order of `classes_`. Those of classes sum to 1 for each
            sample, those of labels do not. More than two classes with
            ``output_activation="logistic"`` have the sigmoids of `decision_function`,
            divided by their sum.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If the number of features differs from that in `fit`, or if `X` contains NaN
            or infinity.

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
        Z = model._pre_activations(X)
        return model._network.probabilities(Z)

    def score(
        self, X: "Rows", y: "ArrayLike", sample_weight: "ArrayLike | None" = None
    ) -> float:
        """Return the accuracy; for multilabel targets, all labels must be correct.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Test samples.

        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            True labels of the samples, of any type that `fit` accepts.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        accuracy : float
            Fraction of the samples that are classified correctly.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If the number of features differs from that in `fit`, if `X` contains NaN or
            infinity, or if the labels are of another kind.

        Examples
        --------
        >>> from skbgd import BGDClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cold", "cold", "hot", "hot"]
        >>> BGDClassifier(()).fit(X, y).score(X, y)
        1.0
        """
        return super().score(X, as_label_array(y, "y"), sample_weight)

    def predict_log_proba(self, X: "Rows") -> "NDArray[np.floating]":
        """Predict the logarithm of the probability of each class, or of each label.

        It is computed from the pre-activations, and finite where `predict_proba` rounds
        to 0.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        log_P : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            Logarithms in the order of `classes_`.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If the number of features differs from that in `fit`, or if `X` contains NaN
            or infinity.

        Examples
        --------
        >>> from skbgd import BGDClassifier
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["cold", "cold", "hot", "hot"]
        >>> clf = BGDClassifier(()).fit(X, y)
        >>> clf.predict_log_proba([[1000.0]]).astype(int)
        array([[-5643,     0]])
        """
        model = self._view()
        Z = model._pre_activations(X)
        return model._network.log_probabilities(Z)

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
        """Values subtracted from the features."""
        check_is_fitted(self)
        return self._view()._network.shift

    @property
    def scale_(self) -> "NDArray[np.float64] | None":
        """Values by which the features are divided."""
        check_is_fitted(self)
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
        """Set an attribute that is a view of the parameters, on a copy of these."""
        model = self._view()
        if not hasattr(model, "_state"):
            raise AttributeError(
                f"{name} can be set after the layers are created: call fit or "
                "partial_fit first. To create them without training, call partial_fit "
                "with sample_weight=0."
            )
        changed = model._copy()
        changed._state = model._state.restarted_from(
            model._state.best_or_last_theta.copy()
        )
        write(arrays, getattr(changed, name), name)
        # If a fit in another thread has ended by now, its model remains unchanged.
        model._state = changed._state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_state")

    # Predicting --------------------------------------------------------------------

    def _view(self):
        """An estimator with the present attributes, also if another thread fits."""
        model = object.__new__(type(self))
        model.__dict__ = self.__dict__  # `_commit` replaces the dict, not its items
        return model

    def _single_layer(self, parameters):
        if len(parameters) > 1:
            raise AttributeError(
                "coef_ and intercept_ are only available without hidden layers "
                "(hidden_layer_sizes=()); use coefs_ and intercepts_."
            )
        return parameters

    def _pre_activations(self, X):
        """Z_L, the pre-activations of the output units for each row, (n, K)."""
        if not hasattr(self, "_state"):
            check_is_fitted(self)
        theta, Z = self._state.best_or_last_theta, None
        given = self._network, theta, self.n_jobs
        # scikit-learn's validation takes longer than the prediction of one row.
        if not hasattr(self, "feature_names_in_") and has_core_layout(
            X, theta.dtype, self.n_features_in_
        ):
            Z = pre_activations(X, *given, check_finite=True)
        if Z is None:  # or NaN or infinity in X: an error, unless config allows it
            X = self._validate_X(X, theta)
            Z = pre_activations(X, *given)
        if np.count_nonzero(np.isnan(Z)):  # faster than `any`
            raise ValueError(
                "The output is NaN for some samples: features of up to "
                f"{abs(X).max():.2g} are too large for this network in "
                f"{theta.dtype}. Scale them (StandardScaler), in fit and here."
            )
        return Z

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
        """A shallow copy, without the conversions that `copy.copy` makes."""
        copy = object.__new__(type(self))
        copy.__dict__ = self.__dict__.copy()
        return copy

    def _commit(self, trained, before):
        """Replace the fitted attributes by those of a trained copy, all at once.

        `before` has the initial attributes of the copy. Parameters and other attributes
        that a scorer, a callback or another thread has set on `self` since are kept.
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
            for name, value in current.copy().items():  # set since the copy above
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


# The attributes that training sets.
FITTED_ATTRIBUTES = {
    *BGDClassifier.__annotations__,
    "_multilabel",
    "_network",
    "_state",
}
