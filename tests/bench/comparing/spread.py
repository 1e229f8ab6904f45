"""The median of some rounds and how far it can be trusted."""

from collections.abc import Sequence
from math import comb
from statistics import median
from typing import Final

import msgspec

MAX_CHANCE: Final = 0.05
"""That the true median lies beyond one end of the interval, if as few rounds as there are allow it."""


class Spread(msgspec.Struct, frozen=True):
    """A median, and an interval that most probably holds the true one."""

    middle: float
    low: float
    high: float


def spread_of(values: Sequence[float]) -> Spread:
    """Return the median and the confidence interval of it that order statistics give, whatever the distribution.

    The true median is below the k-th lowest of n values with the chance that fewer than k of n coins show heads
    (David and Nagaraja, Order Statistics, 2003, section 7.1). The interval is the narrowest with at most MAX_CHANCE on
    each side; with fewer than five values, no interval has so small a chance, and it is from the lowest to the highest.
    """
    ordered = sorted(values)
    count = len(ordered)
    outside, cut = 0, 0
    for fewer in range((count - 1) // 2 + 1):
        outside += comb(count, fewer)
        if outside > MAX_CHANCE * 2**count:
            break
        cut = fewer
    return Spread(middle=median(ordered), low=ordered[cut], high=ordered[count - 1 - cut])
