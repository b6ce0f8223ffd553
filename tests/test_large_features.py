"""Features near the largest float: a clear error, or a finite model."""

import numpy as np
import pytest
from sklearn.datasets import make_moons

from skbgd import BGDClassifier

X, y = make_moons(200, noise=0.2, random_state=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 8)])
@pytest.mark.parametrize("learning_rate", ["auto", 0.1])
@pytest.mark.parametrize("max_iter", [1, 5])
def test_error_or_finite_model(
    dtype, solver, activation, hidden, learning_rate, max_iter
):
    """Loss, probabilities and moments are finite, or the error says what to change."""
    limit = 38 if dtype == "f4" else 308
    for power in (limit // 4, limit // 2 - 1, limit // 2, limit // 2 + 4, limit - 2):
        rows = (X * 10.0**power).astype(dtype)
        clf = BGDClassifier(
            hidden, solver=solver, activation=activation, random_state=0,
            learning_rate=learning_rate, max_iter=max_iter, tol=None,
        )  # fmt: skip
        try:
            clf.fit(rows, y)
        except ValueError as error:
            assert "StandardScaler" in str(error) or "alpha" in str(error)
            continue
        assert np.isfinite(clf.loss_)
        P = clf.predict_proba(rows)
        assert np.isfinite(P).all()
        np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
        if solver == "adam":
            assert np.isfinite(clf._state.second_moment).all()


def test_overflow_in_a_prediction():
    """Huge rows raise an error in a model that was fitted to small ones."""
    clf = BGDClassifier((8, 8), activation="relu", max_iter=20, random_state=0)
    clf.set_params(tol=None, output_activation="softmax").fit(
        X.astype("f4"), y + (X[:, 0] > 1)
    )
    rows = np.array([[3e38, -3e38]], dtype="f4")
    for predict in (clf.predict, clf.predict_proba, clf.decision_function):
        with pytest.raises(ValueError, match="NaN .*too large.*StandardScaler"):
            for sign in (1, -1):
                predict(sign * rows)
                predict(sign * rows[:, ::-1])
