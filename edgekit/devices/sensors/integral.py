"""Energy between two times: from a counter's readings, or from powers with the trapezoid rule."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise

Readings = Sequence[tuple[float, float]]
"""Time in seconds, increasing, and value."""


def counted(energy_j: Readings, start_s: float, stop_s: float, longest_gap_s: float) -> float | None:
    """The difference of a counter, interpolated between its readings, in its unit.

    None: there is no reading before `start_s` or after `stop_s`, or the readings around one of them are further apart
    than `longest_gap_s`. A gap in between does no harm.
    """
    at_start, at_stop = (_at(energy_j, time_s, longest_gap_s) for time_s in (start_s, stop_s))
    return None if at_start is None or at_stop is None else at_stop - at_start


def integrated(power: Readings, start_s: float, stop_s: float, longest_gap_s: float) -> float | None:
    """The integral of power over time by the trapezoid rule, its ends interpolated, in power's unit times seconds.

    None: as with `counted`, and where any two readings in between are further apart than `longest_gap_s`.
    """
    ends = (_at(power, start_s, longest_gap_s), _at(power, stop_s, longest_gap_s))
    if ends[0] is None or ends[1] is None:
        return None
    inside = power[_after(power, start_s) : _before(power, stop_s)]
    points = [(start_s, ends[0]), *inside, (stop_s, ends[1])]
    steps = list(pairwise(points))
    if any(later[0] - sooner[0] > longest_gap_s for sooner, later in steps):
        return None
    return sum((later[0] - sooner[0]) * (later[1] + sooner[1]) / 2 for sooner, later in steps)


def _after(readings: Readings, time_s: float) -> int:
    return bisect_right(readings, time_s, key=lambda reading: reading[0])


def _before(readings: Readings, time_s: float) -> int:
    return bisect_left(readings, time_s, key=lambda reading: reading[0])


def _at(readings: Readings, time_s: float, longest_gap_s: float) -> float | None:
    """Linearly interpolated; None outside the readings and in a gap that is too long."""
    index = _before(readings, time_s)
    if index == len(readings):
        return None
    later_s, later = readings[index]
    if later_s == time_s:
        return later
    if index == 0:
        return None
    sooner_s, sooner = readings[index - 1]
    if later_s - sooner_s > longest_gap_s:
        return None
    return sooner + (later - sooner) * (time_s - sooner_s) / (later_s - sooner_s)
