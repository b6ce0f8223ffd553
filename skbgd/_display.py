"""The picture of a training: loss against epochs, updates or seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ._classifier import BGDClassifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

AXIS_LABELS = {"epochs": "Epoch", "updates": "Update", "seconds": "Training time (s)"}
LOG_SCALES = (None, "x", "y", "xy")


class LossCurveDisplay:
    """Loss curves of one or several trained classifiers.

    The training loss is a solid line, the validation loss a dashed one in the same
    colour. A ring marks the best epoch on the validation rows, a cross the last epoch
    made, where training stopped.

    Draw with :meth:`from_estimator` or :meth:`from_estimators`. The parameters are
    stored as attributes, lists with one entry per classifier; :meth:`plot` draws them
    again, against something else or on other axes.

    Parameters
    ----------
    loss : list of array-like of shape (n_epochs,)
        Training loss in each epoch, `loss_curve_`: the objective, penalty included.

    validation_loss : list of array-like of shape (n_epochs,), default=None
        Loss of the validation rows after each epoch, `validation_loss_curve_`, without
        penalty. May be shorter than the training loss; None or empty for a classifier
        without validation rows.

    updates : list of array-like of shape (n_epochs,), default=None
        Gradient steps made up to the end of each epoch, `updates_curve_`.

    seconds : list of array-like of shape (n_epochs,), default=None
        Training time up to the end of each epoch, `seconds_curve_`.

    best_epoch : list of int, default=None
        Best epoch on the validation rows, counted from 1; None for a classifier without
        validation rows.

    name : list of str, default=None
        Names for the legend; None for no name.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The axes.

    figure_ : matplotlib.figure.Figure
        The figure.

    lines_ : list of matplotlib.lines.Line2D
        The curves: for each classifier the training loss, then the validation loss if
        there is one.

    marks_ : list of matplotlib.lines.Line2D
        The marks: for each classifier the last epoch, then the best one if there is
        one.

    See Also
    --------
    BGDClassifier : The classifier whose training is shown.
    sklearn.model_selection.LearningCurveDisplay : Scores against the number of rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbgd import BGDClassifier, LossCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = BGDClassifier(batch_size=10, max_iter=20, tol=None).fit(X, y)
    >>> display = LossCurveDisplay(
    ...     loss=[clf.loss_curve_], updates=[clf.updates_curve_], name=["iris"]
    ... ).plot(x="updates")
    >>> [int(x) for x in display.lines_[0].get_xdata()[:3]]
    [15, 30, 45]
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: list[Line2D]
    marks_: list[Line2D]

    def __init__(
        self,
        *,
        loss: Sequence[Any],
        validation_loss: Sequence[ArrayLike | None] | None = None,
        updates: Sequence[ArrayLike] | None = None,
        seconds: Sequence[ArrayLike] | None = None,
        best_epoch: Sequence[int | None] | None = None,
        name: Sequence[str | None] | None = None,
    ) -> None:
        self.loss = loss
        self.validation_loss = validation_loss
        self.updates = updates
        self.seconds = seconds
        self.best_epoch = best_epoch
        self.name = name

    def plot(
        self,
        ax: Axes | None = None,
        *,
        x: Literal["epochs", "updates", "seconds"] = "epochs",
        log_scale: Literal["x", "y", "xy"] | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on. None: those of a new figure.

        x : {"epochs", "updates", "seconds"}, default="epochs"
            What to draw against: epochs, gradient steps or training time. The loss of
            an epoch is drawn where the epoch ends.

        log_scale : {"x", "y", "xy"}, default=None
            Axes with a logarithmic scale. None: neither.

        line_kw : dict, default=None
            Keywords of matplotlib's `plot` for all curves, such as ``linewidth``.

        Returns
        -------
        display : LossCurveDisplay
            This object, with `ax_`, `figure_`, `lines_` and `marks_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If a parameter is none of its choices, or the lists have different lengths,
            or what is asked for as `x` was not given.

        Examples
        --------
        >>> from skbgd import LossCurveDisplay
        >>> display = LossCurveDisplay(loss=[[1.0, 0.5, 0.25]])
        >>> display.plot(log_scale="y").ax_.get_yscale()
        'log'
        """
        if x not in AXIS_LABELS:
            choices = ", ".join(map(repr, AXIS_LABELS))
            raise ValueError(f"Got x={x!r}; it must be one of {choices}.")
        if log_scale not in LOG_SCALES:
            raise ValueError(
                f"Got log_scale={log_scale!r}; it must be 'x', 'y', 'xy' or None."
            )
        x_per_classifier: Sequence[Any]
        if x == "epochs":
            x_per_classifier = [np.arange(1, len(loss) + 1) for loss in self.loss]
        elif getattr(self, x) is None:
            raise ValueError(
                f"x={x!r} needs the {x} of each epoch; this display was made without "
                "them."
            )
        else:
            x_per_classifier = self._per_classifier(x)
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                "LossCurveDisplay.plot requires matplotlib. You can install matplotlib "
                "with `pip install matplotlib`"
            ) from error
        from matplotlib.cbook import normalize_kwargs
        from matplotlib.lines import Line2D
        from matplotlib.ticker import LogLocator, MaxNLocator

        if ax is None:
            _, ax = plt.subplots()
        self.ax_, self.figure_, self.lines_, self.marks_ = ax, ax.figure, [], []
        dashed: dict[str, Any] = {"linestyle": "--"}
        last_mark: dict[str, Any] = {"linestyle": "none", "marker": "x"}
        best_mark: dict[str, Any] = {**last_mark, "marker": "o", "mfc": "white"}
        line_style = normalize_kwargs(dict(line_kw or {}), Line2D)
        single = len(self.loss) == 1
        for x_values, loss, validation_loss, best, name in zip(
            x_per_classifier,
            self.loss,
            self._per_classifier("validation_loss"),
            self._per_classifier("best_epoch"),
            self._per_classifier("name"),
            strict=True,
        ):
            label = "training loss" if single and name is None else name
            self.lines_ += ax.plot(x_values, loss, **{"label": label, **line_style})
            color = self.lines_[-1].get_color()
            self.marks_ += ax.plot(x_values[-1], loss[-1], color=color, **last_mark)
            if validation_loss is not None and len(validation_loss) > 0:
                self.lines_ += ax.plot(
                    x_values[: len(validation_loss)],
                    validation_loss,
                    **{"color": color, **dashed, **line_style, "label": None},
                )
            if best is not None:
                self.marks_ += ax.plot(
                    x_values[best - 1],
                    validation_loss[best - 1],
                    color=color,
                    **best_mark,
                )

        # The legend explains dashes and marks once, not for each classifier.
        n_curves = len(self.loss)
        existing = ax.get_legend_handles_labels()[1]
        validated = len(self.lines_) > n_curves
        for label, is_drawn, style in (
            ("validation loss", validated, dashed),
            ("best epoch", len(self.marks_) > n_curves, best_mark),
            ("last epoch", True, last_mark),
        ):
            if is_drawn and label not in existing:
                ax.plot([], [], color=color if single else "0.4", label=label, **style)
        ax.legend()
        ax.set(xlabel=AXIS_LABELS[x], ylabel="Loss" if validated else "Training loss")
        if "x" in (log_scale or ""):
            ax.set_xscale("log")
        elif x != "seconds" and ax.get_xscale() == "linear":
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        if "y" in (log_scale or ""):
            ax.set_yscale("log")
            # Losses seldom span many decades: 0.2, not 2 x 10^-1.
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("")
        return self

    def _per_classifier(self, name: str) -> Sequence[Any]:
        """The attribute of this name, or None for each classifier."""
        values = getattr(self, name)
        if values is None:
            return [None] * len(self.loss)
        if len(values) != len(self.loss):
            raise ValueError(
                f"{name} has {len(values)} entries, loss has {len(self.loss)}; both "
                "must have one for each classifier."
            )
        return values

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        x: Literal["epochs", "updates", "seconds"] = "epochs",
        log_scale: Literal["x", "y", "xy"] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the training of a fitted classifier.

        Parameters
        ----------
        estimator : BGDClassifier, Pipeline or search
            A fitted classifier, a :class:`~sklearn.pipeline.Pipeline` that ends in one,
            or a search such as :class:`~sklearn.model_selection.GridSearchCV`, whose
            best estimator is drawn.

        x : {"epochs", "updates", "seconds"}, default="epochs"
            What to draw against: epochs, gradient steps or training time.

        log_scale : {"x", "y", "xy"}, default=None
            Axes with a logarithmic scale. None: neither.

        name : str, default=None
            Name for the legend. None: "training loss".

        ax : matplotlib.axes.Axes, default=None
            Axes to draw on. None: those of a new figure.

        line_kw : dict, default=None
            Keywords of matplotlib's `plot` for the curves, such as ``linewidth``.

        Returns
        -------
        display : LossCurveDisplay
            What was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If the classifier is not fitted.
        TypeError
            If there is no BGDClassifier in `estimator`.
        ValueError
            If a parameter is none of its choices, or the classifier made no epoch, or
            the search kept no estimator (``refit=False``).

        See Also
        --------
        from_estimators : Several classifiers on the same axes.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbgd import BGDClassifier, LossCurveDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = BGDClassifier(max_iter=20, tol=None).fit(X, y)
        >>> display = LossCurveDisplay.from_estimator(clf, x="seconds")
        >>> display.ax_.get_xlabel()
        'Training time (s)'
        """
        display = cls._from_fitted([(name, estimator)])
        return display.plot(ax, x=x, log_scale=log_scale, line_kw=line_kw)

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        *,
        x: Literal["epochs", "updates", "seconds"] = "epochs",
        log_scale: Literal["x", "y", "xy"] | None = None,
        ax: Axes | None = None,
        line_kw: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the training of several fitted classifiers on the same axes.

        Parameters
        ----------
        estimators : dict
            ``{name: estimator}``; each as in :meth:`from_estimator`.

        x : {"epochs", "updates", "seconds"}, default="epochs"
            What to draw against: epochs, gradient steps or training time.

        log_scale : {"x", "y", "xy"}, default=None
            Axes with a logarithmic scale. None: neither.

        ax : matplotlib.axes.Axes, default=None
            Axes to draw on. None: those of a new figure.

        line_kw : dict, default=None
            Keywords of matplotlib's `plot` for all curves, such as ``linewidth``.

        Returns
        -------
        display : LossCurveDisplay
            What was drawn.

        Raises
        ------
        ImportError, NotFittedError, TypeError, ValueError
            As in :meth:`from_estimator`; ValueError too if there is no estimator.

        See Also
        --------
        from_estimator : A single classifier.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbgd import BGDClassifier, LossCurveDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> classifiers = {
        ...     f"batch_size={m}": BGDClassifier(batch_size=m, max_iter=20, tol=None)
        ...     for m in (10, 50, "full")
        ... }
        >>> for clf in classifiers.values():
        ...     clf = clf.fit(X, y)
        >>> display = LossCurveDisplay.from_estimators(classifiers, x="updates")
        >>> [line.get_label() for line in display.lines_]
        ['batch_size=10', 'batch_size=50', 'batch_size=full']
        """
        if not isinstance(estimators, Mapping) or not estimators:
            raise ValueError(
                "estimators must be a dict {name: fitted estimator} with at least one; "
                f"got {estimators!r}."
            )
        display = cls._from_fitted(estimators.items())
        return display.plot(ax, x=x, log_scale=log_scale, line_kw=line_kw)

    @classmethod
    def _from_fitted(cls, estimators: Iterable[tuple[str | None, Any]]) -> Self:
        names, classifiers = [], []
        for name, estimator in estimators:
            clf = _find_classifier(estimator)
            check_is_fitted(clf)
            if clf.n_iter_ == 0:
                raise ValueError(f"{clf} made no epoch: there is no loss to draw.")
            names.append(name)
            classifiers.append(clf)
        # Copies, as partial_fit appends to the same lists; cut to the epochs of this
        # classifier, as a copy of it may have appended too.
        return cls(
            loss=[np.array(clf.loss_curve_[: clf.n_iter_]) for clf in classifiers],
            validation_loss=[np.array(c.validation_loss_curve_) for c in classifiers],
            updates=[np.array(c.updates_curve_[: c.n_iter_]) for c in classifiers],
            seconds=[np.array(c.seconds_curve_[: c.n_iter_]) for c in classifiers],
            best_epoch=[_best_epoch(clf) for clf in classifiers],
            name=names,
        )


def _find_classifier(estimator: Any) -> BGDClassifier:
    """The BGDClassifier in which a Pipeline or a search ends."""
    inner = estimator
    while not isinstance(inner, BGDClassifier):
        if isinstance(inner, Pipeline):
            inner = inner.steps[-1][1]
        elif hasattr(inner, "best_estimator_"):
            inner = inner.best_estimator_
        elif hasattr(inner, "refit"):  # a search
            check_is_fitted(inner)
            raise ValueError(
                f"The search kept no estimator (refit={inner.refit!r}), so there is no "
                "loss curve; search with refit=True."
            )
        else:
            raise TypeError(
                "A loss curve needs a fitted BGDClassifier, or a Pipeline or search "
                f"that ends in one; got {estimator!r}."
            )
    return inner


def _best_epoch(clf: BGDClassifier) -> int | None:
    """The first epoch with the highest score, or without scores the lowest loss."""
    scores = np.array(clf.validation_scores_)
    if not scores.size:
        scores = -np.array(clf.validation_loss_curve_)
    if np.isnan(scores).all():  # there are none
        return None
    return 1 + int(np.nanargmax(scores))
