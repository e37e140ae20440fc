"""Ratios of two runs: intervals hold the truth as often as they say, also where successive samples hang together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edgekit.runtime.profile import ratios
from edgekit.runtime.profile.ratios import block_length, mean_ratio, percentile_ratios, shift_ratio

pytestmark = pytest.mark.device_side


def drifting(num: int, hold: float, seed: int) -> np.ndarray:
    """Latencies of which each is like the one before (an autoregressive process of that coefficient)."""
    shocks = np.random.default_rng(seed).standard_normal(num) * np.sqrt(1 - hold**2)
    values = np.zeros(num)
    for index in range(1, num):
        values[index] = hold * values[index - 1] + shocks[index]
    return 10 * np.exp(0.1 * values)


def test_the_same_run_is_no_difference_and_a_slower_one_is() -> None:
    run = drifting(500, 0.0, seed=1)
    for ratio in (*percentile_ratios(run, run, (50, 90, 99)), mean_ratio(run, run)):
        assert (ratio.value, ratio.holds_one) == (1.0, True)
        assert ratio.low is not None
        assert ratio.low < 1 < (ratio.high or 0), "both are drawn on their own"
    for ratio in (*percentile_ratios(run, 1.2 * run, (50, 90)), mean_ratio(run, 1.2 * run)):
        assert ratio.value == pytest.approx(1.2)
        assert ratio.low is not None
        assert 1.15 < ratio.low < 1.2 < (ratio.high or 0) < 1.25


@pytest.mark.parametrize("hold", [0.0, 0.8])
def test_intervals_hold_the_truth_as_often_as_they_say(hold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratios, "NUM_RESAMPLES", 200)
    monkeypatch.setattr(ratios, "LEAST_RESAMPLES", 200)
    pairs = [(drifting(400, hold, 2 * seed), 1.1 * drifting(400, hold, 2 * seed + 1)) for seed in range(100)]
    missed = 0
    for a, b in pairs:
        (median,) = percentile_ratios(a, b, (50,))
        missed += not (median.low or 9) <= 1.1 <= (median.high or 0)
    # 5 in a hundred; 12 or more of 100 would be seen in 4 of 1000 such tests, were the intervals right
    assert missed <= 12, f"{missed} of {len(pairs)}"


def test_blocks_are_as_long_as_samples_hang_together() -> None:
    assert max(block_length(drifting(400, 0.0, seed)) for seed in range(10)) <= 5
    assert 8 <= np.median([block_length(drifting(400, 0.8, seed)) for seed in range(10)]) <= 40
    slow = drifting(400, 0.8, seed=0)
    slow[7] *= 1000
    assert abs(block_length(slow) - block_length(drifting(400, 0.8, seed=0))) <= 2, "one slow call hides nothing"
    assert block_length(np.ones(400)) == 1
    assert 1 < block_length(np.arange(400.0)) <= 60
    assert [block_length(np.arange(1.0, num + 1)) for num in (1, 2, 9)] == [1, 1, 1]
    ticks = [np.round(10 * drifting(2000, 0.0, seed) / 12) for seed in range(10)]
    assert max(len(np.unique(each)) for each in ticks) < 10
    assert np.median([block_length(each) for each in ticks]) <= 5, "a clock that ticks slowly is no drift"


def test_independent_blocks_would_tell_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the blocks are for: without them runs that drift are told apart although nothing has changed."""
    pairs = [(drifting(400, 0.8, 2 * seed), drifting(400, 0.8, 2 * seed + 1)) for seed in range(40)]
    monkeypatch.setattr(ratios, "NUM_RESAMPLES", 300)
    monkeypatch.setattr(ratios, "block_length", lambda samples: 1)
    assert sum(not percentile_ratios(a, b, (50,))[0].holds_one for a, b in pairs) > 10


def test_long_runs_are_drawn_less_often() -> None:
    run = np.random.default_rng(0).random(140_000) + 1
    counted = []
    drawn, _ = ratios._resampled(run, run, lambda rows: counted.append(len(rows)) or rows[:, 0])
    assert len(drawn) == ratios.LEAST_RESAMPLES == sum(counted) / 2
    assert max(counted) * len(run) <= 2_000_000, "not all at once"


def test_too_few_samples_have_no_interval() -> None:
    five, many = np.arange(1.0, 6), np.arange(1.0, 1000)
    median, tail = percentile_ratios(five, many, (50, 99))
    assert (median.value, median.low, median.reason) == (None, None, "too few samples: 5 and 999, 6 are needed")
    assert tail.reason == "too few samples: 5 and 999, 368 are needed"
    mean = mean_ratio(five, five)
    assert (mean.value, mean.low, mean.reason) == (1.0, None, "too few samples: 5 and 5, 6 are needed")


@pytest.mark.parametrize(("num_a", "num_b"), [(1, 1), (2, 3), (4, 4), (5, 3), (6, 6)])
def test_mann_whitney_counts_are_those_of_all_orders(num_a: int, num_b: int) -> None:
    counted = np.zeros(num_a * num_b + 1)
    for places in combinations(range(num_a + num_b), num_a):
        others = [place for place in range(num_a + num_b) if place not in places]
        counted[sum(other < place for place in places for other in others)] += 1
    assert ratios._mann_whitney(num_a, num_b).tolist() == counted.tolist()


def test_a_few_samples_have_an_exact_interval() -> None:
    a, b = [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.2, 2.4, 2.6, 2.8]
    ratio = shift_ratio(a, b)
    pairs = sorted(y / x for x in a for y in b)
    # of 25 pairs 2 may be left out at either end: Mann and Whitney's U is at most 2 in 4 of 252 orders, at most 3 in 7
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(2.0), pairs[2], pairs[-3])
    assert ratio.holds_one is False
    assert shift_ratio(a, a).holds_one is True
    few = shift_ratio(a[:3], b[:3])
    assert (few.low, few.reason) == (None, "too few samples: 3 and 3, 4 and 4 are enough")
    assert shift_ratio(a[:4], b[:4]).low == 2.0 / 1.3, "all pairs"
