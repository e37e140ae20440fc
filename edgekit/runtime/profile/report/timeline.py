"""What the machine's sensors told while a point was measured: power, temperature, clocks, throttling."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.runtime.profile.measured import Columns, Sensed
from edgekit.runtime.profile.report.chart import Chart, legend
from edgekit.runtime.profile.report.markup import figure
from edgekit.runtime.profile.report.scale import linear
from edgekit.runtime.profile.report.words import Named, sources

_MOST_LINES = 6
_MOST_CORNERS, _LEAST_CORNERS = 700, 8
_LONGEST_GAP_S = 1.0
"""Where a sensor told nothing for longer, its line breaks, as energy is not told there either."""
Reading = tuple[float, float]
Runs = list[list[Reading]]
"""Readings of one sensor, in parts between which it told nothing."""


def draw_timeline(each: Named) -> tuple[str | None, list[str]]:
    """A panel for each kind of sensor that told anything; and of the others why not."""
    sensed = each.point.sensed
    kinds = (
        ("power", "power (W)", {name: _scaled(column, 1e-3) for name, column in sensed.power_mw.items()}, True),
        ("temperature", "temperature (°C)", sensed.temperature_c, False),
        ("clocks", "clock (MHz)", sensed.clock_mhz, True),
    )
    drawn, lacking, notes = [], [], []
    for kind, label, columns, zero in kinds:
        lines = _lines(sensed.t_s, columns)
        if not lines:
            lacking.append(f"{kind}: {sensed.not_measured.get(kind, 'no sensor told any')}")
            continue
        drawn.append(_panel(each, label, lines[:_MOST_LINES], zero=zero))
        if any(len(runs) > 1 for _, runs in lines[:_MOST_LINES]):
            notes.append(f"Where a line of {kind} breaks, its sensor told nothing.")
        if len(lines) > _MOST_LINES:
            notes.append(f"Of {len(lines)} sensors of {kind}, the {_MOST_LINES} that moved most.")
    if not drawn:
        return None, lacking
    if sensed.total is not None:
        notes.append(f"Total power is measured by {sensed.total}.")
    if not any(told is not None for told in sensed.throttled):
        lacking.append(f"throttling: {sensed.not_measured.get('throttling', 'the machine does not tell')}")
    elif any(sensed.throttled):
        notes.append("Shaded: a clock was held down.")
    else:
        notes.append("No clock was held down.")
    return figure("Power, temperature and clocks", "".join(drawn), " ".join(notes), sources([each])), lacking


def _panel(each: Named, label: str, lines: Sequence[tuple[str, Runs]], *, zero: bool) -> str:
    sensed = each.point.sensed
    values = [value for _, runs in lines for readings in runs for _, value in readings]
    chart = Chart(
        f"{label} over time, {each.title}",
        linear(sensed.t_s, zero=True, num_ticks=8),
        linear(values, zero=zero, num_ticks=4),
        x_label="time (s)",
        y_label=label,
        described="; ".join(sources([each])),
        height=190,
    )
    for start, stop in _spells(sensed):
        chart.shade(start, stop, f"throttled, {start:.1f} to {stop:.1f} s")
    for series, (name, runs) in enumerate(lines):
        most = max(_MOST_CORNERS // len(runs), _LEAST_CORNERS)
        for readings in runs:
            chart.line(_thinned(readings, most), series, dashed=True)
        alone = [readings[0] for readings in runs if len(readings) == 1]
        chart.points(alone, series, [f"{name}: {value:g} at {at:.1f} s" for at, value in alone])
    return chart.svg() + legend([name for name, _ in lines], markers=False)


def _lines(t_s: Sequence[float], columns: Columns) -> list[tuple[str, Runs]]:
    """Of each sensor with readings, those that moved most first where not all can be drawn."""
    lines = [(name, runs) for name, column in columns.items() if (runs := _runs(t_s, column))]
    if len(lines) <= _MOST_LINES:
        return lines

    def moved(line: tuple[str, Runs]) -> float:
        values = [value for readings in line[1] for _, value in readings]
        return min(values) - max(values)

    return sorted(lines, key=moved)


def _runs(t_s: Sequence[float], column: Sequence[float | None]) -> Runs:
    runs: Runs = []
    missed = False
    for at, value in zip(t_s, column):
        if value is None:
            missed = True
            continue
        if not runs or (missed and at - runs[-1][-1][0] > _LONGEST_GAP_S):
            runs.append([])
        runs[-1].append((at, value))
        missed = False
    return runs


def _spells(sensed: Sensed) -> list[tuple[float, float]]:
    """From the first sample that was throttled to the last, of each spell."""
    spells: list[tuple[float, float]] = []
    before = False
    for at, throttled in zip(sensed.t_s, sensed.throttled):
        if throttled and before:
            spells[-1] = (spells[-1][0], at)
        elif throttled:
            spells.append((at, at))
        before = bool(throttled)
    return spells


def _thinned(readings: list[Reading], most: int) -> list[Reading]:
    """Of each of equal parts the lowest and the highest, in order, so that no peak is lost."""
    if len(readings) <= most:
        return readings
    per_part = -(-2 * len(readings) // most)
    parts = [readings[begun : begun + per_part] for begun in range(0, len(readings), per_part)]
    kept = [(min(part, key=lambda each: each[1]), max(part, key=lambda each: each[1])) for part in parts]
    return [each for pair in kept for each in sorted(set(pair))]


def _scaled(column: Sequence[float | None], by: float) -> tuple[float | None, ...]:
    return tuple(None if value is None else value * by for value in column)
