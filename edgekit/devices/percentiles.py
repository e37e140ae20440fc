"""What samples of a latency tell: percentiles with intervals that assume no distribution, mean, jitter."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Percentile:
    """One percentile of a population, as its samples tell it.

    Attributes:
        q: which, 0 to 100.
        value: linearly interpolated between samples; None where `reason` says that there are too few.
        low, high: the order statistics that hold it with at least 95 % probability, half of the rest on either side.
        reason: why there is no value.
    """

    q: float
    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    @property
    def width(self) -> float:
        """That of the interval, relative to the value; infinite where there is none."""
        if self.value is None or self.low is None or self.high is None or self.value <= 0:
            return math.inf
        return (self.high - self.low) / self.value


@dataclass(frozen=True)
class Distribution:
    """Samples of one latency, in the order in which they were taken.

    Attributes:
        jitter: mean absolute difference of successive samples (the delay variation of RFC 3393, over all of them); None
            of one sample.
        lag1_autocorrelation: of successive samples; the intervals assume 0, and are too narrow where it is high. None
            where all are alike or there are fewer than three.
    """

    num_samples: int
    mean: float
    min: float
    max: float
    jitter: float | None
    lag1_autocorrelation: float | None
    percentiles: tuple[Percentile, ...]

    def percentile(self, q: float) -> Percentile:
        return next(each for each in self.percentiles if each.q == q)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "percentiles": [asdict(each) for each in self.percentiles]}


def describe(samples: npt.ArrayLike, percentiles: tuple[float, ...] = PERCENTILES) -> Distribution:
    """Describe at least one sample."""
    values = np.asarray(samples, np.float64)
    ordered = np.sort(values)
    steps = np.abs(np.diff(values))
    return Distribution(
        len(values),
        float(values.mean()),
        float(ordered[0]),
        float(ordered[-1]),
        float(steps.mean()) if len(steps) else None,
        _lag1(values),
        tuple(percentile_of(ordered, q) for q in percentiles),
    )


def percentile_of(ordered: np.ndarray, q: float) -> Percentile:
    """The `q`-th percentile of samples that are in order, `[n]`.

    How many of n samples lie below the true percentile is binomial, whatever the distribution is, so that the l-th and
    u-th in order hold it with a probability that a table of the binomial gives (Conover, Practical Nonparametric
    Statistics, section 3.2).
    """
    num = len(ordered)
    needed = min_samples(q)
    if num < needed:
        return Percentile(q, None, None, None, f"too few samples for p{q:g}: {num}, at least {needed} are needed")
    low, high = _ranks(num, q / 100)
    return Percentile(q, float(np.percentile(ordered, q)), float(ordered[low - 1]), float(ordered[high - 1]))


def min_samples(q: float) -> int:
    """How many samples have an interval for the `q`-th percentile: of fewer, one of its ends lies beyond them all."""
    tail = (1 - CONFIDENCE) / 2
    return math.ceil(math.log(tail) / math.log(max(q / 100, 1 - q / 100)))


def _ranks(num: int, p: float) -> tuple[int, int]:
    """The ranks, from 1, of the samples at both ends of the interval; `num` is enough for them to exist."""
    tail = (1 - CONFIDENCE) / 2
    k = np.arange(1, num + 1)
    # of k of num: each from the one before, in logarithms, since the first may be smaller than a float can be
    log_pmf = np.concatenate([[0.0], np.cumsum(np.log((num - k + 1) / k) + math.log(p / (1 - p)))])
    pmf = np.exp(log_pmf - log_pmf.max())
    at_most = np.cumsum(pmf / pmf.sum())
    # P(fewer than l) <= tail; P(u or more) <= tail
    low = int(np.searchsorted(at_most, tail, side="right"))
    high = int(np.searchsorted(at_most, 1 - tail, side="left")) + 1
    return max(low, 1), min(high, num)


def _lag1(values: np.ndarray) -> float | None:
    centred = values - values.mean()
    power = float(centred @ centred)
    return float(centred[1:] @ centred[:-1] / power) if len(values) > 2 and power > 0 else None
