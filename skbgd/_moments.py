"""Mean, standard deviation and range of the features, and how to standardize them."""

from dataclasses import dataclass, fields
from functools import reduce
from operator import add

import numpy as np

from ._core import backprop

# The rows are read in blocks of this many elements, which fit in the cache.
BLOCK_ELEMENTS = 1 << 17

# The first rows of a stream determine how it is standardized: at least 30 rows, and
# further ones while a feature is constant, until there are 1000.
STREAM_ROWS = 30, 1000

# A column is constant if its range is at most this many rounding errors.
ROUNDING_ERRORS = 4


@dataclass(frozen=True)
class Moments:
    """Moments of the columns of weighted rows; `+` gives those of the combined rows.

    Rows of weight 0 are ignored.

    Parameters
    ----------
    weight : float
        The sum of the weights. `Dataset.moments` replaces it by the number of rows of
        positive weight, so that the chunks of a stream count by their rows.
    low, high : ndarray of shape (d,)
        The smallest and the largest value.
    mean : ndarray of shape (d,)
        The mean minus `low`, which keeps more digits if all values are large.
    deviation : ndarray of shape (d,)
        The population standard deviation.
    two_valued : ndarray of shape (d,)
        Whether all values are `low` or `high`.
    """

    weight: float
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    two_valued: np.ndarray

    @classmethod
    def from_rows(cls, X, weights):
        """Compute the moments of dense rows, block by block."""
        n, d = X.shape
        step = max(1, BLOCK_ELEMENTS // d)
        starts = range(0, n, step)
        return reduce(
            add, (cls._from_block(X, weights, i, min(i + step, n)) for i in starts)
        )

    @classmethod
    def _from_block(cls, X, weights, start, stop):
        moments = np.empty((6, X.shape[1]))
        weight = float(backprop.column_moments(X, weights, start, stop, moments))
        low, high, _, mean, variance, between = moments
        with np.errstate(all="ignore"):  # `standardization` checks for infinities
            # mean and variance are those of u, where x = low + u (high - low)
            mean, deviation = mean * (high - low), np.sqrt(variance) * (high - low)
        return cls(weight, low, high, mean, deviation, between == 0)

    @classmethod
    def from_array(cls, values):
        """The inverse of `to_array`."""
        weight, low, high, mean, deviation, two_valued = values
        return cls(float(weight[0]), low, high, mean, deviation, two_valued > 0)

    def to_array(self):
        """All values as one array of shape (6, d), the weight in each column."""
        rows = np.broadcast_arrays(*(getattr(self, item.name) for item in fields(self)))
        return np.array(rows, dtype=float)

    def has_enough_rows(self, dtype):
        """Whether these rows determine how a stream is standardized."""
        few, many = STREAM_ROWS
        return self.weight >= many or (
            self.weight >= few and not self.constant_columns(dtype).any()
        )

    def constant_columns(self, dtype):
        """Whether the values of each column are equal, up to rounding in this dtype."""
        limits = np.finfo(dtype)
        largest = np.maximum(abs(self.low), abs(self.high))
        with np.errstate(all="ignore"):
            rounding = np.maximum(ROUNDING_ERRORS * limits.eps * largest, limits.tiny)
            return self.high - self.low <= rounding

    def __add__(self, other):
        """Combine the moments (Chan, Golub & LeVeque, "Updating formulae", 1979)."""
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
            # s^2 = (1 - p) s_1^2 + p s_2^2 + p (1 - p) delta^2, where hypot prevents
            # an overflow of the squares
            deviation = np.hypot(
                np.hypot(np.sqrt(1 - p) * self.deviation, np.sqrt(p) * other.deviation),
                np.sqrt(p * (1 - p)) * delta,
            )
            # If the same rows are added again, the deviation keeps its exact value.
            is_same = (delta == 0) & (self.deviation == other.deviation)
            deviation = np.where(is_same, self.deviation, deviation)
        return Moments(weight, low, high, mean, deviation, two_valued)

    def standardization(self, dtype):
        """The shift and scale of each column, and the mean squared row norm after both.

        They are the mean and the standard deviation. The values of a two-valued column
        become 0 and 1, those of a constant column 0. Each scale and its reciprocal are
        normal numbers of the given dtype.
        """
        constant = self.constant_columns(dtype)
        with np.errstate(all="ignore"):
            spread = self.high - self.low
            two_valued = self.two_valued & ~constant
            shift = np.where(two_valued, self.low, self.low + self.mean)
            scale = np.where(two_valued, spread, self.deviation)
            scale = np.where(constant, 1.0, scale)
        finite = np.isfinite(spread) & np.isfinite(shift) & np.isfinite(scale)
        if not finite.all():
            worst = np.argmin(finite)
            raise ValueError(
                "standardize=True needs features whose differences are finite; got one "
                f"from {self.low[worst]:.3g} to {self.high[worst]:.3g}. Divide it by a "
                "constant."
            )
        tiny = np.finfo(dtype).tiny
        scale = np.clip(scale, tiny, 1 / tiny)
        # mean (x - shift)^2 = s^2 + (mean - shift)^2
        squares = (self.deviation / scale) ** 2
        squares += (np.where(two_valued, self.mean, 0) / scale) ** 2
        return shift, scale, float(squares.sum())
