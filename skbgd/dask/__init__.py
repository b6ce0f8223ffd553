"""Training on a Dask cluster: the workers hold the rows and return gradients."""

try:
    import dask.array  # noqa: F401
    import distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        'skbgd.dask needs Dask: pip install "skbgd[dask]" on every machine.'
    ) from error

from ._classifier import DaskBGDClassifier

__all__ = ["DaskBGDClassifier"]

# Pickles contain the name of the public module, which does not change.
DaskBGDClassifier.__module__ = "skbgd.dask"
