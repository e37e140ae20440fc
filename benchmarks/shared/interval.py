"""A median with its 95 % interval, and what it says of a bound."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["reached", "not reached", "not resolved"]

MIN_SAMPLES = 6
"""Of fewer, not even the whole range holds the median with 95 % probability (1 - 2 / 2^n)."""

_DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A median and the bounds of its 95 % interval, of so many samples."""

    median: float
    low: float
    high: float
    num_samples: int

    def text(self, digits: int = 2) -> str:
        """`6.52 (6.40 to 6.61)`."""
        median, low, high = (f"{value:.{digits}f}" for value in (self.median, self.low, self.high))
        return f"{median} ({low} to {high})"

    def to_json(self) -> dict[str, float]:
        rounded = {name: round(value, 4) for name, value in asdict(self).items() if name != "num_samples"}
        return {**rounded, "num_samples": self.num_samples}

    def verdict(self, *, at_least: float = -np.inf, at_most: float = np.inf) -> Verdict:
        """Whether the whole interval lies inside the bounds, wholly outside, or neither; of too few samples neither."""
        if self.num_samples < MIN_SAMPLES:
            return "not resolved"
        if at_least <= self.low and self.high <= at_most:
            return "reached"
        return "not reached" if self.high < at_least or self.low > at_most else "not resolved"


def median_interval(samples: npt.ArrayLike) -> Interval:
    """The median, with its interval by percentile bootstrap.

    Args:
        samples: one per round; of two contenders give the rounds' ratios, so that what slows a round slows both.
    """
    values = np.asarray(samples, np.float64)
    drawn = np.random.default_rng(0).choice(values, (_DRAWS, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Interval(float(np.median(values)), float(low), float(high), len(values))
