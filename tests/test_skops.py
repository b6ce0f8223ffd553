"""skops.io saves and loads a fitted classifier with one trusted type."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbgd import BGDClassifier

skops_io = pytest.importorskip("skops.io")

TRUSTED = ["skbgd.BGDClassifier"]


@pytest.mark.parametrize("fit_dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["binary", "classes", "multilabel"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_skops(kind, fit_dtype, solver):
    """Predictions and further training of the loaded classifier have the same bits."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(fit_dtype)
    y = {
        "binary": np.array(["no", "yes"])[rng.integers(0, 2, 60)],
        "classes": rng.integers(0, 3, 60),
        "multilabel": rng.integers(0, 2, (60, 3)),
    }[kind]
    clf = BGDClassifier((5,), solver=solver, max_iter=5, tol=None, random_state=0)
    model = make_pipeline(StandardScaler(), clf).fit(X, y)
    data = skops_io.dumps(model)
    assert skops_io.get_untrusted_types(data=data) == TRUSTED
    loaded = skops_io.loads(data, trusted=TRUSTED)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    for a, b in zip(loaded[-1].coefs_, clf.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert loaded[-1].loss_curve_ == clf.loss_curve_
    loaded[-1].partial_fit(X, y)
    clf.partial_fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
