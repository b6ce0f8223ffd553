"""Multilayer networks by batch, mini-batch and stochastic gradient descent."""

from ._classifier import BGDClassifier
from ._display import LossCurveDisplay

__all__ = ["BGDClassifier", "LossCurveDisplay"]
__version__ = "0.1.0"
