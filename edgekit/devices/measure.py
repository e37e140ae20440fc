"""Latency of any callable: warm-up, then percentiles over raw samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Wall time per call.

    Attributes:
        samples_ms: every measured call, in order.
    """

    samples_ms: tuple[float, ...]

    def percentile(self, q: float) -> float:
        """The `q`-th percentile (0..100) in milliseconds, linearly interpolated."""
        return float(np.percentile(self.samples_ms, q))

    @property
    def p50_ms(self) -> float:
        return self.percentile(50)

    @property
    def p99_ms(self) -> float:
        return self.percentile(99)


def measure_latency(
    call: Callable[[], object],
    *,
    warm_up: int = 3,
    min_samples: int = 10,
    max_samples: int = 200,
    budget_s: float = 1.0,
) -> Latency:
    """Call until `budget_s` is spent, at least `min_samples` and at most `max_samples` times, after `warm_up` calls."""
    for _ in range(warm_up):
        call()
    samples: list[float] = []
    start = time.perf_counter()
    while len(samples) < max_samples and (len(samples) < min_samples or time.perf_counter() - start < budget_s):
        before = time.perf_counter()
        call()
        samples.append((time.perf_counter() - before) * 1e3)
    return Latency(tuple(samples))
