"""Scales of a chart: where a value lies, and which values are worth a tick."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_DIGITS = 6
_MARGIN, _AROUND = 0.04, 1.1


@dataclass(frozen=True)
class Scale:
    """From `low` to `high`, which is larger; where `log`, both are above 0.

    Attributes:
        ticks: values in order, each with its label.
    """

    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()

    def at(self, value: float) -> float:
        """0 at `low`, 1 at `high`; outside what lies outside."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return math.log(value / self.low) / math.log(self.high / self.low)


def linear(values: Iterable[float], *, zero: bool = False, whole: bool = False, num_ticks: int = 6) -> Scale:
    """A scale that holds the values, in round numbers; with `zero` from 0 on where none is below it.

    Args:
        whole: of counts, which have no ticks between whole numbers.
    """
    found = list(values)
    low, high = min(found), max(found)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        around = abs(high) / 2 or 1.0
        low, high = (0.0, high or 1.0) if zero and high >= 0 else (low - around, high + around)
    step = _round_step((high - low) / num_ticks)
    if whole:
        step = max(step if step != 2.5 else 5.0, 1.0)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [index * step for index in range(first, last + 1)]
    return Scale(ticks[0], ticks[-1], ticks=_labelled(ticks))


def logarithmic(values: Iterable[float]) -> Scale:
    """A logarithmic scale that holds the values, all above 0, with ticks at 1, 2 and 5, or at powers of ten alone."""
    found = list(values)
    low, high = min(found) / _AROUND, max(found) * _AROUND
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1,), (1, 2, 5), (1, 2, 3, 5, 7)):
        ticks = [tick for power in decades for mantissa in mantissas if low <= (tick := mantissa * 10.0**power) <= high]
        if len(ticks) >= 4:
            every = math.ceil(len(ticks) / 8)
            return Scale(low, high, True, _labelled(ticks[::every]))
    # less than a decade: the ticks of a linear scale
    straight = linear((low, high), num_ticks=5)
    return Scale(low, high, True, tuple(tick for tick in straight.ticks if low <= tick[0] <= high))


def fitting(values: Sequence[float], *, wide: float = 8.0, num_ticks: int = 6) -> Scale:
    """From 0 on; logarithmic where the largest of the values is more than `wide` times the smallest."""
    if min(values) > 0 and max(values) > wide * min(values):
        return logarithmic(values)
    return linear(values, zero=True, num_ticks=num_ticks)


def at_values(values: Iterable[float], *, log: bool) -> Scale:
    """A scale of at least two values, with its ticks where they are, but for those that would lie on each other."""
    found = sorted(set(values))
    if log:
        by = (found[-1] / found[0]) ** _MARGIN
        scale = Scale(found[0] / by, found[-1] * by, True)
    else:
        by = (found[-1] - found[0]) * _MARGIN
        scale = Scale(found[0] - by, found[-1] + by)
    kept: list[float] = []
    for value in found:
        if not kept or scale.at(value) - scale.at(kept[-1]) > 0.06:
            kept.append(value)
    return replace(scale, ticks=tuple((value, f"{value:g}") for value in kept))


def thinned(num: int, most: int) -> list[int]:
    """Which of `num` points to draw where more than `most` would only lie on each other; the ends among them."""
    if num <= most:
        return list(range(num))
    return sorted({round(index * (num - 1) / (most - 1)) for index in range(most)})


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(each for each in _STEPS if each * power >= step * (1 - 1e-9)) * power


def _labelled(ticks: Sequence[float]) -> tuple[tuple[float, str], ...]:
    """With as many digits as tell them apart."""
    most = max(abs(tick) for tick in ticks)
    if most >= 1e6 or 0 < most < 1e-4:
        return tuple((tick, f"{tick:.3g}") for tick in ticks)
    for digits in range(_MOST_DIGITS):
        if all(abs(round(tick, digits) - tick) <= 1e-9 * most for tick in ticks):
            break
    if len(ticks) > 1 and max(ticks) / max(min(abs(t) for t in ticks if t), 1e-300) > 100:
        return tuple((tick, f"{tick:g}") for tick in ticks)
    return tuple((tick, f"{tick + 0.0:.{digits}f}") for tick in ticks)
