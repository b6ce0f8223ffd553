"""The criterion on validation rows."""

import numpy as np
from sklearn.metrics import check_scoring

from ._descent import State
from ._targets import divided_by_max


def validation_criterion(clf, rows, data):
    """Return a function that records and returns the criterion on validation rows.

    None if there are no validation rows. `data` are the encoded `rows`.
    """
    if rows is None:
        return None
    state, network = clf._state, clf._network
    scorer = None
    if clf.scoring is not None:
        scorer = check_scoring(clf, scoring=clf.scoring)
        # The model shares the parameters, which training changes in place. X_val is an
        # array here, without feature names.
        model = clf._copy()
        model._state = State(theta=state.theta)
        vars(model).pop("feature_names_in_", None)
        weighted = {}
        if rows.sample_weight is not None:
            weighted["sample_weight"] = rows.sample_weight
            with np.errstate(all="ignore"):
                if np.isinf(rows.sample_weight.sum()):  # a scorer would overflow too
                    weighted["sample_weight"] = divided_by_max(rows.sample_weight)

    def record(curve, value):
        # Entry k is for epoch k + 1: nan for epochs without validation rows.
        curve.extend([np.nan] * (state.n_iter - 1 - len(curve)))
        curve.append(float(value))
        return curve[-1]

    def validate():
        loss = record(state.validation_loss_curve, data.mean_loss(network, state.theta))
        if scorer is None:
            return loss
        try:
            score = scorer(model, rows.X, rows.y, **weighted)
        except ValueError as error:
            present = set() if clf._multilabel else {*rows.y.tolist()}
            missing = [k for k in clf.classes_.tolist() if k not in present]
            if clf._multilabel or not missing:
                raise
            raise ValueError(
                f"scoring={clf.scoring!r} failed on the validation samples, which lack "
                f"{len(missing)} classes, such as {missing[0]!r}: {error} Use a scorer "
                "that does not need all classes, increase validation_fraction, or pass "
                "X_val and y_val."
            ) from error
        try:
            return -record(state.validation_scores, score)
        except TypeError as error:
            raise ValueError(f"scoring must return a number; got {score!r}.") from error

    return validate
