"""Time that is left, and what fits into it."""

from __future__ import annotations

import math
import time

import pytest

from edgekit.runtime.adapt.budget import Budget

pytestmark = pytest.mark.device_side


def test_without_an_end() -> None:
    budget = Budget()
    assert budget.left_s == math.inf
    assert budget.look_s(100) == 0


def test_time_goes_by_from_where_it_began() -> None:
    budget = Budget(100, began=time.monotonic() - 10)
    assert budget.elapsed_s == pytest.approx(10, abs=0.5)
    assert budget.left_s == pytest.approx(88, abs=0.5)  # two seconds are kept for writing
    assert Budget(1).left_s == pytest.approx(0.9, abs=0.04)
    assert Budget(1, began=time.monotonic() - 5).left_s < 0


def test_the_pace_is_what_was_measured_and_a_margin() -> None:
    budget = Budget(100)
    budget.looked(1, 10)
    budget.looked(3, 10)
    assert budget.look_s(5) == pytest.approx(1.0 * 1.3)
    assert budget.learn_s(5) == pytest.approx(4 * budget.look_s(5))  # until it is known
    budget.learned(10, 20)
    assert budget.learn_s(5) == pytest.approx(2.5 * 1.3)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_no_budget(seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Budget(seconds)
