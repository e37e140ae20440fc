"""Means over episodes with their 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mean:
    """A mean over episodes.

    Attributes:
        half_width: 1.96 standard deviations by the root of the number of episodes; None of a single one. It tells of
            other episodes of these classes, not of other classes.
    """

    mean: float
    half_width: float | None
    num_episodes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def mean_over(values: np.ndarray) -> Mean:
    """The mean of one value for each of E episodes, E at least 1."""
    if len(values) < 2:
        return Mean(float(values.mean()), None, len(values))
    return Mean(float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values)), len(values))
