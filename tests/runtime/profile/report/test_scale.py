"""Scales: round ticks that hold all values, and where values lie between them."""

from __future__ import annotations

import math
import random

import pytest

from edgekit.runtime.profile.report.scale import Scale, at_values, fitting, linear, logarithmic, thinned

pytestmark = pytest.mark.device_side


def labels(scale: Scale) -> list[str]:
    return [text for _, text in scale.ticks]


@pytest.mark.parametrize(
    ("values", "zero", "told"),
    [
        ((3.2, 17.9), False, ["2.5", "5.0", "7.5", "10.0", "12.5", "15.0", "17.5", "20.0"]),
        ((3.2, 17.9), True, ["0", "5", "10", "15", "20"]),
        ((0.012, 0.019), False, ["0.012", "0.014", "0.016", "0.018", "0.020"]),
        ((5.0, 5.0), True, ["0", "1", "2", "3", "4", "5"]),
        ((5.0, 5.0), False, ["2", "3", "4", "5", "6", "7", "8"]),
        ((0.0, 0.0), True, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((-3.0, 4.0), True, ["-4", "-2", "0", "2", "4"]),
        ((0.0, 3e6), True, ["0", "5e+05", "1e+06", "1.5e+06", "2e+06", "2.5e+06", "3e+06"]),
    ],
)
def test_linear(values: tuple[float, ...], zero: bool, told: list[str]) -> None:
    assert labels(linear(values, zero=zero)) == told


@pytest.mark.parametrize(("most", "told"), [(1, "0 1"), (3, "0 1 2 3"), (12, "0 5 10 15"), (90, "0 20 40 60 80 100")])
def test_counts_have_ticks_at_whole_numbers(most: int, told: str) -> None:
    assert labels(linear((0, most), zero=True, whole=True, num_ticks=5)) == told.split()


def test_a_linear_scale_holds_its_values_between_few_ticks() -> None:
    draw = random.Random(0)
    for _ in range(300):
        values = [draw.uniform(-1, 1) * 10 ** draw.uniform(-5, 8) for _ in range(3)]
        scale = linear(values, zero=draw.random() < 0.5)
        assert all(-1e-6 <= scale.at(value) <= 1 + 1e-6 for value in values)
        assert 3 <= len(scale.ticks) <= 10
        assert len(set(labels(scale))) == len(scale.ticks), "each tick has a label of its own"
        assert all(math.isclose(float(text), tick, rel_tol=1e-2, abs_tol=1e-12) for tick, text in scale.ticks)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((1.0, 1000.0), ["1", "10", "100", "1000"]),
        ((3.0, 90.0), ["5", "10", "20", "50"]),
        ((30.0, 42.0), ["30", "35", "40", "45"]),
    ],
)
def test_logarithmic(values: tuple[float, ...], told: list[str]) -> None:
    scale = logarithmic(values)
    assert labels(scale) == told
    assert scale.at(math.sqrt(scale.low * scale.high)) == pytest.approx(0.5)
    assert all(0 < scale.at(value) < 1 for value in values)


def test_ticks_at_values_leave_out_those_that_would_lie_on_each_other() -> None:
    assert labels(at_values([8, 1, 2, 4], log=True)) == ["1", "2", "4", "8"]
    assert labels(at_values([1, 1.01, 10], log=False)) == ["1", "10"]


def test_fitting_is_logarithmic_where_values_are_far_apart() -> None:
    assert [fitting(values).log for values in ([1.0, 5.0], [1.0, 9.0], [0.0, 9.0])] == [False, True, False]


def test_thinned_keeps_both_ends() -> None:
    assert thinned(3, 5) == [0, 1, 2]
    kept = thinned(1000, 5)
    assert (kept[0], kept[-1], len(kept)) == (0, 999, 5)
