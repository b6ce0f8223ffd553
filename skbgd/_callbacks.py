"""Progress of a fit: printed lines and scikit-learn's callbacks."""

try:  # scikit-learn 1.9 and newer
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's, without its methods."""

    def with_callbacks(method):
        return method


class Progress:
    """Reports each epoch of a fit.

    Parameters
    ----------
    clf : BGDClassifier
        The estimator that is being fitted; `verbose` and `max_iter_` are read from it.
    state : State
        Of the descent.
    reconstruction_attributes : callable
        Gives the attributes with which a copy of `clf` predicts as trained so far, or
        with ``best=True`` as it will in the end.
    X, y, sample_weight : training rows, handed to callbacks.
    """

    def __init__(self, clf, state, reconstruction_attributes, X, y, sample_weight):
        self.clf = clf
        self.state = state
        # About 20 lines for the longest fit, or a line for each epoch.
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
            self.attributes = reconstruction_attributes
            n_epochs = max(0, clf.max_iter_ - state.n_iter)
            self.context = clf._init_callback_context(max_subtasks=n_epochs)
            self.context.call_on_fit_task_begin(**self.callback_args)

    def before_epoch(self):
        if self.context is not None:
            self.epoch = self.context.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(
                **self.callback_args, reconstruction_attributes=self.attributes
            )

    def after_epoch(self):
        """Returns True if a callback asks to stop."""
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
        print(line)

    def finish(self, stop_reason):
        if self.clf.verbose:
            print(f"stopped after {self.state.n_iter} epochs: {stop_reason}")
        if self.context is not None:
            self.context.call_on_fit_task_end(
                **self.callback_args,
                reconstruction_attributes=lambda: self.attributes(best=True),
            )
