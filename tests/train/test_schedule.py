from __future__ import annotations

import pytest

from edgekit.train.schedule import SCHEDULES, rate_share


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rises_linearly_to_its_peak(schedule: str) -> None:
    shares = [rate_share(schedule, step, 1000, 0.1) for step in range(1000)]
    assert shares[0] == pytest.approx(0.01)
    assert shares[49] == pytest.approx(0.5)
    assert max(shares) == pytest.approx(1.0, abs=0.02)
    assert all(0 <= share <= 1 for share in shares)


def test_where_each_ends() -> None:
    ends = {schedule: rate_share(schedule, 999, 1000, 0.1) for schedule in SCHEDULES}
    assert ends["linear"] == pytest.approx(1 / 900)
    assert ends["cosine"] == pytest.approx(0, abs=1e-4)
    assert ends["tri-stage"] == pytest.approx(0.05, rel=0.02)
    assert ends["constant"] == 1


def test_tri_stage_holds_its_peak() -> None:
    assert rate_share("tri-stage", 100, 1000, 0.1) == 1
    assert rate_share("tri-stage", 499, 1000, 0.1) == 1
    assert rate_share("tri-stage", 750, 1000, 0.1) == pytest.approx(0.05**0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
def test_short_runs_have_a_rate(schedule: str, num_steps: int, warmup: float) -> None:
    shares = [rate_share(schedule, step, num_steps, warmup) for step in range(num_steps)]
    assert all(0 < share <= 1 for share in shares)
