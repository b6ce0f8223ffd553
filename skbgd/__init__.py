"""Multilayer networks by batch, mini-batch and stochastic gradient descent."""

__version__ = "0.1.0"

from ._classifier import BGDClassifier
from ._display import LossCurveDisplay

__all__ = ["BGDClassifier", "LossCurveDisplay"]

# Pickles refer to the public module, whose name does not change.
BGDClassifier.__module__ = "skbgd"
