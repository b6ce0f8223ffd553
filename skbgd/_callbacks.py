"""Per-epoch reporting: printed lines and scikit-learn's callbacks."""

from ._descent import State

try:  # scikit-learn 1.9 and newer
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Replaces the mixin of scikit-learn before 1.9, without its methods."""

    def with_callbacks(method):
        return method


class Progress:
    """Reports each epoch of `fit`.

    Parameters
    ----------
    clf : BGDClassifier
        The estimator during `fit`, with the attribute `max_iter_`.
    state : State
        The training state.
    X, y, sample_weight
        The training rows, which are passed to callbacks.
    has_feature_names : bool
        False if X has lost the feature names of the argument of `fit`.
    """

    def __init__(self, clf, state, X, y, sample_weight, has_feature_names):
        self.clf = clf
        self.state = state
        self.has_feature_names = has_feature_names
        # verbose=1: about 20 lines if all epochs are made; 2: one line per epoch.
        self.interval = 1 if clf.verbose > 1 else -(-clf.max_iter_ // 20)
        self.context = None
        if hasattr(clf, "_init_callback_context"):
            metadata = {"sample_weight": sample_weight}
            self.callback_args = {
                "estimator": clf,
                "X": X,
                "y": y,
                "metadata": None if sample_weight is None else metadata,
            }
            n_epochs = max(0, clf.max_iter_ - state.n_iter)
            self.context = clf._init_callback_context(max_subtasks=n_epochs)
            self.context.call_on_fit_task_begin(**self.callback_args)

    def attributes(self, best=False):
        """The attributes that make a copy predict with the last or best parameters."""
        theta = self.state.best_or_last_theta if best else self.state.theta
        attributes = {"_state": State(theta=theta.copy())}
        if not self.has_feature_names and "feature_names_in_" in vars(self.clf):
            attributes["feature_names_in_"] = None
        return attributes

    def before_epoch(self):
        if self.context is not None:
            self.epoch = self.context.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(
                **self.callback_args, reconstruction_attributes=self.attributes
            )

    def after_epoch(self):
        """Report the epoch and return True if a callback requests a stop."""
        state = self.state
        if self.clf.verbose and state.n_iter % self.interval == 0:
            self.print_line()
        return self.context is not None and self.epoch.call_on_fit_task_end(
            **self.callback_args, reconstruction_attributes=self.attributes
        )

    def print_line(self):
        state, max_iter = self.state, self.clf.max_iter_
        line = f"epoch {state.n_iter:>{len(str(max_iter))}} of {max_iter}"
        for name, values in (
            ("loss", state.loss_curve),
            ("validation loss", state.validation_loss_curve),
            ("score", state.validation_scores),
        ):
            if values:
                line += f"   {name} {values[-1]:.6g}"
        print(line, flush=True)  # pipes and files are buffered

    def finish(self, stop_reason):
        if self.clf.verbose:
            print(
                f"stopped after {self.state.n_iter} epochs: {stop_reason}", flush=True
            )
        if self.context is not None:
            self.context.call_on_fit_task_end(
                **self.callback_args,
                reconstruction_attributes=lambda: self.attributes(best=True),
            )
