"""Percentiles and their intervals, against the binomial computed exactly and against populations that are known."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from edgekit.devices.percentiles import PERCENTILES, describe, min_samples, percentile_of

pytestmark = pytest.mark.device_side


def below(num: int, p: Fraction, k: int) -> Fraction:
    """P(at most k of num), exactly."""
    return sum((comb(num, i) * p**i * (1 - p) ** (num - i) for i in range(k + 1)), Fraction(0))


@pytest.mark.parametrize("q", PERCENTILES[:4])
@pytest.mark.parametrize("more", [0, 1, 63])
def test_ends_are_the_narrowest_ranks_that_the_binomial_allows(q: float, more: int) -> None:
    num, p, tail = min_samples(q) + more, Fraction(str(q)) / 100, Fraction(25, 1000)
    found = percentile_of(np.arange(1.0, num + 1), q)  # a sample's value is its rank
    assert found.low is not None
    assert found.high is not None
    low, high = int(found.low), int(found.high)
    assert below(num, p, low - 1) <= tail < below(num, p, low)
    assert 1 - below(num, p, high - 1) <= tail < 1 - below(num, p, high - 2)
    assert found.value is not None
    assert low <= found.value <= high


@pytest.mark.parametrize(("q", "needed"), [(50, 6), (90, 36), (95, 72), (99, 368), (99.9, 3688)])
def test_too_few_samples_have_no_percentile(q: float, needed: int) -> None:
    # of one sample less, all lie on one side of the percentile with more than 2.5 %
    assert needed == min_samples(q)
    tail = max(Fraction(str(q)) / 100, 1 - Fraction(str(q)) / 100)
    assert tail**needed <= Fraction(25, 1000) < tail ** (needed - 1)
    found = percentile_of(np.arange(needed - 1.0), q)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.reason == f"too few samples for p{q:g}: {needed - 1}, at least {needed} are needed"
    assert percentile_of(np.arange(float(needed)), q).reason is None


def test_intervals_hold_what_they_promise_whatever_the_distribution_is() -> None:
    random = np.random.default_rng(0)
    for draw, true in ((random.exponential, np.log(10)), (random.standard_cauchy, 3.0776835)):
        held = 0
        for _ in range(1000):
            found = percentile_of(np.sort(draw(size=60)), 90)
            assert found.low is not None
            assert found.high is not None
            held += found.low <= true <= found.high
        # 95 % at least; three standard deviations of the count below
        assert held >= 930


def test_a_description_is_numpys() -> None:
    samples = np.random.default_rng(1).exponential(3, 400)
    told = describe(samples)
    assert told.percentile(50).value == np.median(samples)
    assert told.percentile(99).value == np.percentile(samples, 99)
    assert (told.num_samples, told.min, told.max) == (400, samples.min(), samples.max())
    assert told.mean == pytest.approx(samples.mean())
    assert told.jitter == pytest.approx(np.abs(np.diff(samples)).mean())
    assert told.lag1_autocorrelation == pytest.approx(np.corrcoef(samples[1:], samples[:-1])[0, 1], abs=0.01)


def test_what_one_sample_tells() -> None:
    told = describe([2.5])
    assert (told.mean, told.min, told.max, told.jitter, told.lag1_autocorrelation) == (2.5, 2.5, 2.5, None, None)
    assert [each.value for each in told.percentiles] == [None] * 5
    assert told.percentile(50).width == np.inf
    assert describe([3.0] * 10).lag1_autocorrelation is None
