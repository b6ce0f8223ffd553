"""Multilayer networks by batch, mini-batch and stochastic gradient descent."""

from ._classifier import BGDClassifier

__all__ = ["BGDClassifier"]
__version__ = "0.1.0"
