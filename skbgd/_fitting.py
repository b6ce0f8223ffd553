"""The steps of `fit` and `partial_fit`. `_fit` lists them; the rest is elsewhere."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d, validate_data

from ._array_layout import (
    check_core_layout,
    explain_bad_columns,
    without_duplicates,
)
from ._callbacks import Progress, with_callbacks
from ._descent import Descent, State, minimize
from ._lbfgs import QuasiNewton
from ._moments import Moments
from ._network import Network
from ._parameters import (
    check_parameters,
    hidden_units,
)
from ._rows import LocalRows
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
from ._validation import validation_criterion
from ._warnings import convergence_warning, dissimilar_rows_warning

FLOAT_DTYPES = (np.float64, np.float32)

# Parameters that may change between warm starts without restarting the stopping rule.
# Those of the network are among them since `_check_same_network` compares them.
NOT_IN_STOPPING_KEY = {
    "hidden_layer_sizes", "activation", "output_activation", "standardize", "max_iter",
    "warm_start", "random_state", "verbose", "n_jobs",
}  # fmt: skip


class FittingMixin:
    """Fits an estimator in place, which is a copy that an error may leave half trained.

    `DaskBGDClassifier` overrides how rows are loaded.
    """

    # Exceptions after which `fit` keeps the epochs made before.
    _INTERRUPTS: tuple[type[BaseException], ...] = (KeyboardInterrupt,)

    def _has_new_epochs(self, before):
        """Whether `fit` made epochs after the state `before`."""
        state = vars(self).get("_state")
        if state is before:
            return False
        resumed = before is not None and self.warm_start
        return state.n_iter > (before.n_iter if resumed else 0)

    def _finish_interrupted_fit(self, interrupt):
        """Set the fitted attributes, and add a note to the exception."""
        self._set_fitted_attributes()
        self.stop_reason_ = "interrupted"
        interrupt.add_note(
            "fit was interrupted. The parameters reached by then are kept: the "
            f"estimator is fitted, with n_iter_={self.n_iter_}."
        )

    @with_callbacks
    def _fit(self, X, y, sample_weight, *validation):
        """`fit` on a copy of the estimator, which an error may leave half trained.

        Returns a list of warnings.
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
            dissimilarity = self._dissimilar_rows_warning(rows, validation_rows)
            if validation_rows is None and self.early_stopping:
                rows, validation_rows = rows.split(
                    self.validation_fraction, self._state.split_seed
                )
                # Arrays, without feature names.
                callback_args = rows.X, rows.y, rows.sample_weight
                has_feature_names = False
            name = "sample_weight times class weight"
            data, validation_data = self._encode(rows, name, validation_rows)
            self._reset_stopping_rule_if_changed(data, validation_data)
            settings = self._resolve_settings(data)
            if self._state.n_iter < settings.max_iter:  # otherwise there is no epoch
                self._initialize_first_layer(data)
            minimizer = self._make_minimizer(data, settings)
            validate = validation_criterion(self, validation_rows, validation_data)
            progress = Progress(self, self._state, *callback_args, has_feature_names)
            with minimizer.trainer:
                nonconvergence = self._run_epochs(
                    minimizer, settings, validate, progress
                )
        messages = (UserWarning, dissimilarity), (ConvergenceWarning, nonconvergence)
        return [category(text) for category, text in messages if text is not None]

    def _partial_fit(self, X, y, classes, sample_weight):
        """`partial_fit` on a copy of the estimator."""
        check_parameters(self)
        if isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight='balanced' is not supported in partial_fit, which does "
                "not see all samples; pass a dict {label: weight}."
            )
        is_first_call = not hasattr(self, "_state")
        rows = self._load_local_rows(X, y, sample_weight, reset=is_first_call)
        if is_first_call:
            classes = classes_for_partial_fit(rows.y, classes, rows.multilabel)
            self._initialize(rows, classes)
        else:
            self._check_same_network()
            if classes is not None:
                self._check_same_classes(check_classes(classes))
        data, _ = self._encode(rows)
        # The curves are shared, not copied, so the time of a call does not depend on
        # their length. An epoch appends to them last, after all that may fail.
        self._state = self._state.copy(curves=False)
        self._state.restart_from_best()
        if data.total_weight > 0:
            settings = self._resolve_settings(data, streaming=True)
            averaged = settings.schedule == "averaged"
            if not averaged:
                self._state.continue_from_average()
            self._initialize_first_layer(data, streaming=True)
            descent = self._make_minimizer(data, settings)
            with descent.trainer:
                descent.epoch()
            if averaged:
                self._state.update_average()
            self.learning_rate_ = descent.last_eta
            self.learning_rate_init_ = descent.update_rule.eta
        self._set_fitted_attributes()

    def _load_rows(self, X, y, sample_weight, reset):
        """A context of the training rows of `fit`."""
        return nullcontext(self._load_local_rows(X, y, sample_weight, reset))

    def _load_local_rows(self, X, y, sample_weight, reset, name="sample_weight"):
        """Checked rows in memory, as arrays in the layout of the core."""
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
        """The validation rows passed to `fit`, or None."""
        if X_val is None and y_val is None and sample_weight_val is None:
            return None
        if X_val is None or y_val is None:
            missing = "X_val" if X_val is None else "y_val"
            raise ValueError(
                f"Validation needs both X_val and y_val; {missing} is missing."
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

    def _dissimilar_rows_warning(self, rows, validation_rows):
        """A warning if the validation rows differ from the training rows, or None."""
        local = isinstance(rows, LocalRows) and isinstance(validation_rows, LocalRows)
        if not local:
            return None
        names = getattr(self, "feature_names_in_", None)
        return dissimilar_rows_warning(rows.X, validation_rows.X, names)

    def _initialize(self, rows, classes):
        """Set the classes, the network and the initial state."""
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
        """The activation of the output layer; `multiclass`: more than two classes."""
        if not multiclass:
            return "logistic"
        return "softmax" if self.output_activation == "auto" else self.output_activation

    def _check_same_network(self):
        network = self._new_network()
        if len(network.units) == 2:  # no hidden layer uses the activation
            network = replace(network, activation=self._network.activation)
        if network != self._network:
            raise ValueError(
                f"Cannot resume: the model has {self._network}; the parameters specify "
                f"{network}. hidden_layer_sizes, activation, output_activation and "
                "standardize must not change; for other values fit a new estimator."
            )

    def _check_same_classes(self, classes):
        if self.classes_.tolist() != classes.tolist():
            raise ValueError(
                f"Cannot resume: the model has the classes {self.classes_.tolist()}; "
                f"got classes={classes.tolist()}. They must not change; for other "
                "classes fit a new estimator."
            )

    def _encode(self, rows, weight_name=None, validation_rows=None):
        """Rows and validation rows with encoded labels and normalized weights.

        `weight_name` describes the weights in the error if all are 0; None: no error.
        """
        weights_of_classes = class_weights(
            self.class_weight,
            self.classes_,
            self._multilabel,
            lambda: rows.class_totals(self.classes_),
        )
        encoding = self.classes_, self._multilabel, weights_of_classes
        data, validation_data = rows.encoded(*encoding), None
        if weight_name is not None:
            check_positive_weight(data.total_weight, weight_name)
        if validation_rows is not None:
            validation_data = validation_rows.encoded(*encoding)
            name = "of the validation samples, times class weight"
            check_positive_weight(validation_data.total_weight, name)
        return data, validation_data

    def _reset_stopping_rule_if_changed(self, data, validation_data):
        """Restart the stopping rule if the rows or its parameters have changed."""
        if not self.warm_start:
            return
        values = self.get_params(deep=False).items()
        key = (
            # Callables are compared by identity, since lambdas have the same name.
            # Dicts are copied, since they may be changed in place.
            *(
                dict(value) if isinstance(value, dict) else value
                for name, value in values
                if name not in NOT_IN_STOPPING_KEY
            ),
            data.key,
            None if validation_data is None else validation_data.key,
        )
        if self._state.stopping.key != key:
            self._state.restart_from_best(key)

    _resolve_batch_size = staticmethod(resolve_batch_size)

    def _resolve_settings(self, data, streaming=False):
        """Resolve the parameters. Sets `batch_size_`, `alpha_`, in fit `max_iter_`."""
        settings = Settings.resolve(
            self,
            data,
            self._state.stopping.first_epoch,
            streaming=streaming,
            batch_size_resolver=self._resolve_batch_size,
        )
        self.batch_size_, self.alpha_ = settings.batch_size, settings.alpha
        if not streaming:
            self.max_iter_ = settings.max_iter
        return settings

    def _initialize_first_layer(self, data, streaming=False):
        """Let the first rows determine the scale of W_1 and how rows are standardized.

        The first chunks of a stream may have few rows, which say little about later
        ones. The mean and scale of the features change until there are enough rows, and
        the scale of W_1 with them.
        """
        state = self._state
        norm = state.mean_squared_row_norm
        if norm is not None and state.stream_moments is None:
            return
        dtype = state.theta.dtype
        moments = data.moments() if self._network.standardize else None
        if moments is not None:
            if state.stream_moments is not None:
                moments = Moments.from_array(state.stream_moments) + moments
            is_final = moments.has_enough_rows(dtype)
            state.stream_moments = None if is_final else moments.to_array()
            self._network, state.mean_squared_row_norm = self._network.standardized(
                moments, dtype
            )
        elif norm is None:
            state.mean_squared_row_norm = float(data.mean_squared_row_norm())
        if not streaming:  # also after sparse rows
            state.stream_moments = None
        if not state.theta_set_by_user:
            for theta in (state.theta, state.average):
                if theta is not None:
                    self._network.scale_first_layer(
                        theta, state.mean_squared_row_norm, norm
                    )

    def _make_minimizer(self, data, settings):
        problem = self._network, self._state, data
        if self.solver == "lbfgs":
            return QuasiNewton(*problem, settings.alpha, settings.tol)
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
        return Descent(*problem, update_rule, settings, self.power_t, self.shuffle)

    def _run_epochs(self, minimizer, settings, validate, progress):
        """Run the epochs and set the fitted attributes; returns a warning or None."""
        state = self._state
        n_before = state.n_iter
        sample = minimizer.data.sample()
        if state.stopping.initial_loss is None:
            loss = sample.mean_loss(self._network, state.theta)
            state.stopping.initial_loss = minimizer.objective.value(loss, state.theta)
        try:
            self.stop_reason_ = minimize(
                minimizer,
                max_iter=settings.max_iter,
                tol=settings.tol,
                n_iter_no_change=settings.n_iter_no_change,
                adaptive=settings.schedule == "adaptive",
                validate=validate,
                early_stopping=self.early_stopping,
                progress=progress,
            )
        finally:
            if minimizer.last_eta is not None:
                self.learning_rate_init_ = minimizer.update_rule.eta
                self.learning_rate_ = minimizer.last_eta
            elif self.solver == "lbfgs":
                for name in ("learning_rate_init_", "learning_rate_"):
                    vars(self).pop(name, None)
            self._set_fitted_attributes()
        progress.finish(self.stop_reason_)
        loss = sample.mean_loss(self._network, state.theta)
        if not np.isfinite(minimizer.objective.value(loss, state.theta)):
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
