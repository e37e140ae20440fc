"""Means over speakers with their 95 % intervals, and whether two arms differ.

The error rate of a speaker is micro over the recordings; over speakers it is the plain mean. Intervals are percentile
bootstraps over speakers (Bisani and Ney 2004), since a speaker's recordings are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekit.runtime.word_errors import MIN_SPEAKERS, NUM_RESAMPLES


@dataclass(frozen=True)
class Estimate:
    """A mean over speakers.

    Attributes:
        interval: the lower and upper end of its 95 % interval; None of fewer than `MIN_SPEAKERS` speakers, who say
            nothing of others.
    """

    mean: float
    interval: tuple[float, float] | None
    num_speakers: int

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the interval lies on one side of zero; None where there is none."""
        return None if self.interval is None else self.interval[0] > 0 or self.interval[1] < 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate(values: Mapping[str, float]) -> Estimate | None:
    """The mean of one value per speaker; None of nobody."""
    if not values:
        return None
    drawn = np.array([values[name] for name in sorted(values)], np.float64)
    if len(drawn) < MIN_SPEAKERS:
        return Estimate(float(drawn.mean()), None, len(drawn))
    random = np.random.default_rng(0)
    means = drawn[random.integers(len(drawn), size=(NUM_RESAMPLES, len(drawn)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(drawn.mean()), (float(low), float(high)), len(drawn))


def difference(a: Mapping[str, float], b: Mapping[str, float]) -> Estimate | None:
    """The mean of `a - b` over the speakers that have both; None of nobody."""
    return estimate({name: a[name] - b[name] for name in a.keys() & b.keys()})


def verdict(name_a: str, name_b: str, found: Estimate) -> str:
    """What `difference` of two error rates says; the lower rate is the better."""
    if found.interval is None:
        return f"too few speakers to tell (fewer than {MIN_SPEAKERS})"
    if not found.excludes_zero:
        return "no difference measured"
    return f"{name_a if found.mean < 0 else name_b} is better"
