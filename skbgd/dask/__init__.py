"""Descent over many machines: rows stay on Dask's workers, gradients are summed."""

try:
    import dask.array  # noqa: F401
    import distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        'skbgd.dask needs Dask: pip install "skbgd[dask]", on every machine.'
    ) from error

from ._classifier import DaskBGDClassifier

__all__ = ["DaskBGDClassifier"]

# Pickles name the public module, which stays.
DaskBGDClassifier.__module__ = "skbgd.dask"
