"""skrub's pipelines for tables."""

import numpy as np
import pandas as pd
import pytest

from skbgd import BGDClassifier

skrub = pytest.importorskip("skrub")


def test_tabular_pipeline_prepares_a_table():
    """Numbers with missing values, categories and dates need no other preparation."""
    rng = np.random.default_rng(0)
    n = 300
    size = rng.normal(size=n)
    kind = rng.choice(["red", "green", "blue"], size=n)
    y = np.where((size > 0) & (kind != "red"), "yes", "no")
    size[::20] = np.nan
    days = pd.to_timedelta(rng.integers(1000, size=n), unit="D")
    day = pd.Timestamp(2020, 1, 1) + days
    X = pd.DataFrame({"size": size, "kind": kind, "day": day})
    model = skrub.tabular_pipeline(BGDClassifier(random_state=0)).fit(X, y)
    assert isinstance(model[-1], BGDClassifier)
    assert model.score(X, y) > 0.9
