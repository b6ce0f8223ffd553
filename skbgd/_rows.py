"""Rows in local memory with the labels and weights of the user."""

import numpy as np
from sklearn.model_selection import train_test_split

from ._dataset import Dataset
from ._targets import (
    check_positive_weight,
    class_totals,
    classes_in,
    encode,
    is_multilabel,
    row_weights,
)


class LocalRows:
    """Rows of X with their labels and weights; `DaskRows` has the same methods.

    Parameters
    ----------
    X : ndarray of shape (n, d), C-contiguous, or CSR; float32 or float64
    y : ndarray of shape (n,) or (n, n_labels)
        Class labels, or 0/1 indicators.
    sample_weight : ndarray of shape (n,) or None
    n_jobs : int or None
    """

    def __init__(self, X, y, sample_weight, n_jobs):
        self.X, self.y, self.sample_weight, self.n_jobs = X, y, sample_weight, n_jobs
        self.n_samples, self.dtype = X.shape[0], X.dtype

    @property
    def multilabel(self):
        return is_multilabel(self.y)

    def classes(self):
        """The sorted labels, or the column numbers of indicators."""
        return classes_in(self.y)

    def class_totals(self, classes):
        """The total weight of each class, up to a common factor."""
        encoded = encode(self.y, classes, multilabel=False)[:, 0]
        return class_totals(encoded, self.sample_weight, len(classes))

    def check_labels(self, classes, multilabel):
        """Raise an error if a label is not one of the classes."""
        encode(self.y, classes, multilabel)

    def encoded(self, classes, multilabel, class_weights):
        """The rows with encoded labels or indicators, and weights of mean 1 or None."""
        Y = encode(self.y, classes, multilabel)
        weights = row_weights(Y, self.sample_weight, class_weights, self.dtype)
        return Dataset(self.X, Y, weights, self.n_jobs)

    def split(self, fraction, seed):
        """Split into training and validation rows, stratified by class.

        Rows of weight zero, and the row of a class that has only one, are training
        rows. If there are fewer validation rows than classes, some classes have none.
        """
        candidates = np.arange(self.n_samples)
        if self.sample_weight is not None:
            check_positive_weight(self.sample_weight.max(), "sample_weight")
            candidates = np.flatnonzero(self.sample_weight)
        stratify, n_classes = None, 1
        if not self.multilabel:
            _, encoded = np.unique(self.y[candidates], return_inverse=True)
            counts = np.bincount(encoded)
            candidates = candidates[counts[encoded] > 1]
            stratify, n_classes = self.y[candidates], max(1, (counts > 1).sum())
        n_validation = max(int(np.ceil(fraction * len(candidates))), 1)
        if len(candidates) == 0:
            raise ValueError(
                "early_stopping cannot set samples aside for validation: no class has "
                "two samples with a positive weight. Pass X_val and y_val."
            )
        if len(candidates) < n_validation + n_classes:
            raise ValueError(
                f"early_stopping cannot set {n_validation} samples aside for "
                f"validation (validation_fraction={fraction:g}): of the "
                f"{len(candidates)} samples that could be, at least {n_classes} must "
                "be left for training. Decrease validation_fraction, or pass X_val and "
                "y_val."
            )
        if n_validation < n_classes:
            aside = _spread_over_classes(candidates, stratify, n_validation, seed)
        else:
            _, aside = train_test_split(
                candidates, test_size=n_validation, random_state=seed, stratify=stratify
            )
        aside.sort()
        rest = np.setdiff1d(np.arange(self.n_samples), aside, assume_unique=True)
        return self._take(rest), self._take(aside)

    def _take(self, rows):
        return LocalRows(
            *(None if a is None else a[rows] for a in (self.X, self.y)),
            None if self.sample_weight is None else self.sample_weight[rows],
            self.n_jobs,
        )


def _spread_over_classes(rows, labels, n, seed):
    """Sample n rows, fewer than the classes, each of which has at least two rows.

    The classes, and the rows within each class, are put in random order. The sample is
    every (len(rows) / n)th row: the fraction of each class, rounded up or down.
    """
    random_state = np.random.RandomState(seed)
    _, encoded = np.unique(labels, return_inverse=True)
    rank = random_state.permutation(encoded.max() + 1)
    order = random_state.permutation(len(rows))
    order = order[np.argsort(rank[encoded[order]], kind="stable")]
    # As len(rows) > 2 n, no two are adjacent, and no class loses all its rows.
    positions = (np.arange(n) + random_state.uniform()) * (len(rows) / n)
    return rows[order[positions.astype(int)]]
