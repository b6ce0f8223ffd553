"""Mean and standard deviation of the columns of rows, and how to standardise them."""

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from ._core import backprop

# Elements of the rows that are read at a time, to stay in the cache.
BLOCK = 1 << 17

# A column is constant if its values differ by this many roundings at most.
ROUNDINGS = 4


@dataclass(frozen=True)
class Moments:
    """Of the columns of some rows with weights; those of other rows can be added.

    Rows of weight 0 are left out.

    Parameters
    ----------
    weight : float
        Of all rows.
    low, high : ndarray of shape (d,)
    mean : ndarray of shape (d,)
        Minus `low`, to keep the digits that differ from row to row.
    deviation : ndarray of shape (d,)
        The standard deviation of the population.
    two_valued : ndarray of shape (d,)
        Whether there is no value but `low` and `high`.
    """

    weight: float
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    two_valued: np.ndarray

    @classmethod
    def of(cls, X, weights):
        """Those of dense rows, in one pass over blocks of them."""
        n, d = X.shape
        rows, step = backprop.Data(X, None, weights), max(1, BLOCK // d)
        blocks = (cls._of_block(rows, i, min(i + step, n)) for i in range(0, n, step))
        return reduce(add, blocks)

    @classmethod
    def _of_block(cls, rows, start, stop):
        moments = np.empty((6, rows.d))
        weight = float(backprop.column_moments(rows, start, stop, moments))
        low, high, _, mean, variance, between = moments  # of u
        with np.errstate(all="ignore"):  # what is not finite is found in the end
            # x = low + u (high - low)
            mean, deviation = mean * (high - low), np.sqrt(variance) * (high - low)
        return cls(weight, low, high, mean, deviation, between == 0)

    def __add__(self, other):
        """Those of all rows (Chan, Golub & LeVeque, "Updating formulae", 1979)."""
        if self.weight == 0 or other.weight == 0:
            return self if other.weight == 0 else other
        weight = self.weight + other.weight
        p = other.weight / weight
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        two_valued = self.two_valued & other.two_valued
        for value in (self.low, self.high, other.low, other.high):
            two_valued = two_valued & ((value == low) | (value == high))
        with np.errstate(all="ignore"):
            first = (self.low - low) + self.mean
            delta = (other.low - low) + other.mean - first
            mean = first + p * delta
            # s^2 = (1 - p) s_1^2 + p s_2^2 + p (1 - p) delta^2; no square overflows
            deviation = np.hypot(
                np.hypot(np.sqrt(1 - p) * self.deviation, np.sqrt(p) * other.deviation),
                np.sqrt(p * (1 - p)) * delta,
            )
        return Moments(weight, low, high, mean, deviation, two_valued)

    def standard(self, dtype):
        """Shift and scale of each column, and the mean of ||x||^2 after both.

        They are mean and standard deviation; two values become 0 and 1, a constant 0.
        The scales and their reciprocals are normal numbers of the type of the rows.
        """
        limits = np.finfo(dtype)
        with np.errstate(all="ignore"):
            spread = self.high - self.low
            largest = np.maximum(abs(self.low), abs(self.high))
            rounding = np.maximum(ROUNDINGS * limits.eps * largest, limits.tiny)
            constant = spread <= rounding
            two_valued = self.two_valued & ~constant
            shift = np.where(two_valued, self.low, self.low + self.mean)
            scale = np.where(two_valued, spread, self.deviation)
            scale = np.where(constant, 1.0, scale)
        finite = np.isfinite(spread) & np.isfinite(shift) & np.isfinite(scale)
        if not finite.all():
            worst = np.argmin(finite)
            raise ValueError(
                "standardize=True needs features whose differences are finite numbers; "
                f"got one from {self.low[worst]:.3g} to {self.high[worst]:.3g}. Divide "
                "it by a constant."
            )
        scale = np.clip(scale, limits.tiny, 1 / limits.tiny)
        # mean (x - shift)^2 = s^2 + (mean - shift)^2
        squares = (self.deviation / scale) ** 2
        squares += (np.where(two_valued, self.mean, 0) / scale) ** 2
        return shift, scale, float(squares.sum())
