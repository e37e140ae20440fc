"""Joules against the integral that is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.devices.sensors.integral import counted, integrated

pytestmark = pytest.mark.device_side


def times(num: int, seed: int = 0) -> list[float]:
    """From 0 to 10, as irregular as a busy machine makes them."""
    inside = np.random.default_rng(seed).uniform(0, 10, num - 2)
    return sorted([0.0, 10.0, *inside.tolist()])


@pytest.mark.parametrize(("start_s", "stop_s"), [(0, 10), (1.234, 8.765), (3.3, 3.31), (5, 5)])
def test_a_ramp_is_exact(start_s: float, stop_s: float) -> None:
    readings = [(time_s, 200 + 30 * time_s) for time_s in times(100)]
    exact = 200 * (stop_s - start_s) + 15 * (stop_s**2 - start_s**2)
    assert integrated(readings, start_s, stop_s, 1.0) == pytest.approx(exact, rel=1e-12, abs=1e-12)


def test_a_sine_as_near_as_the_rule_allows() -> None:
    """Its error is at most (b - a) h^2 / 12 max|f''|, with steps of h = 0.1 s."""
    frequency = 2 * math.pi * 0.5
    readings = [(0.1 * index, 5000 + 3000 * math.sin(frequency * 0.1 * index)) for index in range(101)]
    start_s, stop_s = 0.7, 9.2
    exact = 5000 * (stop_s - start_s) - 3000 / frequency * (
        math.cos(frequency * stop_s) - math.cos(frequency * start_s)
    )
    bound = (stop_s - start_s) * 0.1**2 / 12 * 3000 * frequency**2
    assert integrated(readings, start_s, stop_s, 1.0) == pytest.approx(exact, abs=bound)


def test_steps_are_numpys() -> None:
    rng = np.random.default_rng(1)
    at = times(300, seed=1)
    values = rng.uniform(0, 1e4, len(at))
    assert integrated(list(zip(at, values)), 0, 10, 1.0) == pytest.approx(
        np.trapezoid(values, at) if hasattr(np, "trapezoid") else np.trapz(values, at)
    )


def test_a_counter_is_interpolated() -> None:
    """A constant 40 W, counted: any part of it is exact."""
    readings = [(time_s, 40 * time_s) for time_s in times(50)]
    assert counted(readings, 1.11, 7.77, 10.0) == pytest.approx(40 * 6.66)
    assert counted(readings, 0, 10, 10.0) == pytest.approx(400)


def test_outside_the_readings_nothing_is_known() -> None:
    readings = [(1.0, 5.0), (1.5, 5.0), (2.0, 5.0)]
    for start_s, stop_s in ((0.9, 1.5), (1.5, 2.1), (2.1, 2.2)):
        assert integrated(readings, start_s, stop_s, 1.0) is None
        assert counted(readings, start_s, stop_s, 1.0) is None
    assert integrated([], 0, 1, 1.0) is None
    assert counted([], 0, 1, 1.0) is None


def test_a_gap_is_not_guessed() -> None:
    readings = [(0.0, 100.0), (0.5, 120.0), (4.0, 400.0), (4.5, 420.0)]
    assert integrated(readings, 0.1, 0.4, 1.0) is not None
    assert integrated(readings, 0.1, 4.2, 1.0) is None, "nobody knows the power in between"
    assert counted(readings, 0.1, 4.2, 1.0) == pytest.approx(408 - 104), "a counter does"
    assert counted(readings, 0.1, 2.0, 1.0) is None
    assert integrated(readings, 0.6, 0.7, 1.0) is None, "inside the gap"
