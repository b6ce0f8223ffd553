"""Rows as given by the user, converted to the memory layout of the core."""

from contextlib import contextmanager

import numpy as np
from scipy.sparse import issparse

from ._core.arguments import check_csr
from ._targets import is_missing


@contextmanager
def explain_bad_columns(X):
    """A context in which errors about X name the first column with a non-number."""
    try:
        with np.errstate(all="ignore"):  # conversion to float32
            yield
    except (TypeError, ValueError) as error:
        found = _first_non_number(X)
        if found is None:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        name, value = found
        raise kind(
            f"{str(error).rstrip('.')}. Column {name!r} of X holds {value!r}; all "
            "columns must hold numbers. Encode it (OneHotEncoder, OrdinalEncoder), or "
            "drop it."
        ) from error


def _first_non_number(X):
    """The column name and the value of the first non-number in X, or None."""
    try:
        array = np.asarray(X)
    except ValueError:  # rows of different lengths
        return None
    if array.ndim != 2 or array.dtype.kind in "biufc":
        return None
    names = getattr(X, "columns", range(array.shape[1]))
    for name, column in zip(names, array.T.astype(object), strict=True):
        for value in column:
            try:
                np.nan if is_missing(value) else float(value)
            except (TypeError, ValueError):
                return name, value
    return None


def without_duplicates(X):
    """Sum the duplicate entries of sparse X in its own dtype, as `toarray` does.

    The sum of True and True is then True, and not 2 as after a conversion to floats.
    The conversion in older versions of SciPy also sorts the indices of X in place.
    """
    if not issparse(X) or X.dtype in (np.float32, np.float64):
        return X
    rows = X.tocsr()
    if rows.has_canonical_format:
        return X
    rows = rows.copy()
    rows.sum_duplicates()
    return rows


def has_core_layout(X, dtype, n_features):
    """Whether X needs no conversion, and no check except for NaN and infinity."""
    return (
        type(X) is np.ndarray
        and X.dtype == dtype
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == n_features
        and X.flags.c_contiguous
        and X.flags.aligned
    )


def check_core_layout(X):
    """Return X aligned, contiguous and native, with indices of 32 or 64 bits.

    An error is raised if the structure of sparse X is invalid.
    """
    if not issparse(X):
        # np.frombuffer with an odd offset; a DataFrame in the other byte order
        return np.require(X, X.dtype.newbyteorder("="), "A")
    integers = X.indices.dtype
    if integers not in (np.int32, np.int64):
        integers = np.dtype(np.int64)
    members = [
        np.require(member, dtype, ["A", "C"])
        for member, dtype in (
            (X.data, X.data.dtype), (X.indices, integers), (X.indptr, integers)
        )
    ]  # fmt: skip
    check_csr(X.shape, *members)
    if any(a is not b for a, b in zip(members, (X.data, X.indices, X.indptr))):  # noqa: B905
        X = type(X)(tuple(members), shape=X.shape)
    return X
