"""Ratios of what two runs measured, each with a 95 % interval that assumes no distribution.

A percentile or mean of many successive samples: both runs are drawn again in blocks (circular block bootstrap, Politis
and Romano 1992), since successive samples are not independent, and the ratio's 2.5th and 97.5th percentile are taken.
How long the blocks are, each run's own samples tell (Politis and White 2004, as corrected by Patton, Politis and White
2009), here by their ranks: a few very slow calls would hide how the others hang together.

A few independent samples: the median of all ratios and, by the distribution of Mann and Whitney's statistic, those of
them that hold it (Hodges and Lehmann 1963).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.devices.percentiles import CONFIDENCE, min_samples

NUM_RESAMPLES, LEAST_RESAMPLES = 2000, 300
_VALUES, _VALUES_AT_ONCE = 4 * 10**7, 2 * 10**6
"""What is drawn of a run in all and at once: of very long runs fewer resamples are drawn."""
_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Ratio:
    """B over A.

    Attributes:
        value: None where `reason` says that one of them is not known.
        low, high: the 95 % interval; None where `reason` says that there is none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @property
    def holds_one(self) -> bool | None:
        """None: there is no interval."""
        return None if self.low is None or self.high is None else self.low <= 1 <= self.high


def percentile_ratios(a: np.ndarray, b: np.ndarray, percentiles: Sequence[float]) -> list[Ratio]:
    """Of successive samples, `[n]` and `[m]`, all above 0; no interval where too few say anything of a percentile."""
    num = min(len(a), len(b))
    told = [q for q in percentiles if num >= min_samples(q)]
    if told:
        of_a, of_b = _resampled(a, b, lambda rows: np.percentile(rows, told, axis=1).T)
    found = []
    for q in percentiles:
        if q not in told:
            reason = f"too few samples: {len(a)} and {len(b)}, {min_samples(q)} are needed"
            found.append(Ratio(None, reason=reason))
            continue
        low, high = _ends(of_b[:, told.index(q)] / of_a[:, told.index(q)])
        found.append(Ratio(float(np.percentile(b, q) / np.percentile(a, q)), low, high))
    return found


def mean_ratio(a: np.ndarray, b: np.ndarray) -> Ratio:
    """Of successive samples, `[n]` and `[m]`, whose sums are above 0."""
    least = min_samples(50)
    value = float(b.mean() / a.mean())
    if min(len(a), len(b)) < least:
        return Ratio(value, reason=f"too few samples: {len(a)} and {len(b)}, {least} are needed")
    of_a, of_b = _resampled(a, b, lambda rows: rows.mean(axis=1))
    return Ratio(value, *_ends(of_b / of_a))


def shift_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Of a few independent samples above 0: the median of all pairs' ratios, with its exact interval."""
    pairs = np.sort(np.divide.outer(np.array(b, np.float64), np.array(a, np.float64)), axis=None)
    value = float(np.median(pairs))
    counts = _mann_whitney(len(a), len(b))
    at_most = np.cumsum(counts) / counts.sum()
    beyond = int(np.searchsorted(at_most, _TAIL, side="right"))  # so many pairs may be left out on either side
    if beyond == 0:
        return Ratio(value, reason=f"too few samples: {len(a)} and {len(b)}, 4 and 4 are enough")
    return Ratio(value, float(pairs[beyond - 1]), float(pairs[len(pairs) - beyond]))


def block_length(samples: np.ndarray) -> int:
    """How many successive samples hang together, `[n]`: 1 where they are independent.

    Politis and White 2004, section 3.2, with their constants; of the samples' ranks.
    """
    num = len(samples)
    if num < 10 or not np.ptp(samples):
        return 1
    _, places, counts = np.unique(samples, return_inverse=True, return_counts=True)
    # of equal samples, as of a clock that ticks slowly, the mean rank: in the order of time they would seem to drift
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    transformed = np.fft.rfft(ranks - ranks.mean(), 2 * num)
    covariances = np.fft.irfft(transformed * transformed.conj())[:num] / num
    window = max(5, math.ceil(math.sqrt(math.log10(num))))
    most = min(math.ceil(math.sqrt(num)) + window, num - 1)
    quiet = np.abs(covariances[1 : most + 1] / covariances[0]) < 2 * math.sqrt(math.log10(num) / num)
    silent = (lag for lag in range(len(quiet) - window + 1) if quiet[lag : lag + window].all())
    lags = np.arange(-(reach := min(2 * max(next(silent, most), 1), most)), reach + 1)
    flat_top = np.clip(2 * (1 - np.abs(lags) / reach), 0.0, 1.0)
    weighed = flat_top * covariances[np.abs(lags)]
    bias, spread = float(np.sum(np.abs(lags) * weighed)), float(np.sum(weighed))
    best = (2 * bias**2 / (4 / 3 * spread**2)) ** (1 / 3) * num ** (1 / 3) if spread > 0 else math.inf
    return max(1, math.ceil(min(best, 3 * math.sqrt(num), num / 3)))


def _resampled(
    a: np.ndarray, b: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of both runs drawn again in blocks, `[num_resamples, ...]` each.

    Args:
        statistic: of each row of `[rows, n]`.
    """
    num_resamples = max(LEAST_RESAMPLES, min(NUM_RESAMPLES, _VALUES // max(len(a), len(b))))
    random = np.random.default_rng(0)  # one for both, so that what is drawn of one says nothing of the other
    return _drawn(a, statistic, num_resamples, random), _drawn(b, statistic, num_resamples, random)


def _drawn(
    samples: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    num_resamples: int,
    random: np.random.Generator,
) -> np.ndarray:
    num, length = len(samples), block_length(samples)
    num_blocks, at_once = -(-num // length), max(1, _VALUES_AT_ONCE // num)
    circle = np.concatenate([samples, samples[:length]])
    found = []
    for begun in range(0, num_resamples, at_once):
        starts = random.integers(num, size=(min(at_once, num_resamples - begun), num_blocks))
        rows = circle[starts[:, :, None] + np.arange(length)]
        found.append(statistic(rows.reshape(len(starts), -1)[:, :num]))
    return np.concatenate(found)


def _ends(ratios: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(ratios, [100 * _TAIL, 100 * (1 - _TAIL)])
    return float(low), float(high)


def _mann_whitney(num_a: int, num_b: int) -> np.ndarray:
    """How many orders of both samples have so many pairs in which B is before A, float64 [num_a * num_b + 1].

    The coefficients of the Gaussian binomial, each factor multiplied in by a cumulative sum.
    """
    counts = np.zeros(num_a * num_b + 1)
    counts[0] = 1.0
    for each in range(1, num_a + 1):
        counts[num_b + each :] -= counts[: len(counts) - num_b - each].copy()
        for start in range(each):
            counts[start::each] = np.cumsum(counts[start::each])
    return counts
