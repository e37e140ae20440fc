"""Points against each other: latency over length, throughput over batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.runtime.profile.report.chart import Chart, legend
from edgekit.runtime.profile.report.markup import figure
from edgekit.runtime.profile.report.scale import at_values, fitting
from edgekit.runtime.profile.report.words import Named, digits, sources, without

MOST_SERIES = 12
_WIDE = 8.0


@dataclass(frozen=True)
class _Spot:
    """Where a point lies, the interval of its height, and which it is."""

    x: float
    y: float
    interval: tuple[float, float] | None
    of: Named


def draw_length(points: Sequence[Named]) -> tuple[str | None, str]:
    """Median latency over the length of an item: a figure; or None, and why there is none."""
    timed = [each for each in points if each.point.latencies_ms is not None]
    if not timed:
        return None, "no point has latencies: offline is one query"
    sound = all(each.point.audio_s is not None for each in timed)
    steps = all(str(each.point.asked["length"]).isdecimal() for each in timed)
    if not sound and not steps:
        return None, "the points have no length, or not all in one unit"

    def place(each: Named) -> _Spot | None:
        median = each.point.percentiles.get(50.0)
        length = each.point.audio_s if sound else float(each.point.asked["length"] or 0)
        if length is None or median is None or median.value is None or median.low is None or median.high is None:
            return None
        return _Spot(length, median.value, (median.low, median.high), each)

    return _draw(
        timed,
        place,
        "length",
        "Latency against length",
        ("length of an item (s)" if sound else "length of an item (steps)", "median latency (ms)"),
        "Median with its 95 % interval.",
    )


def draw_batch(points: Sequence[Named]) -> tuple[str | None, str]:
    """Throughput over the items of a call: a figure; or None, and why there is none."""

    def place(each: Named) -> _Spot:
        return _Spot(float(each.point.items_per_call), each.point.throughput_per_s, None, each)

    served = [each for each in points if each.point.load["scenario"] != "server"]
    if not served:
        return None, "a server's throughput is what was asked of it"
    labels = ("batch (items of a call)", "throughput (items/s)")
    return _draw(served, place, "batch", "Throughput against batch", labels, "Each measured once.")


def _draw(
    points: Sequence[Named],
    place: Callable[[Named], _Spot | None],
    over: str,
    title: str,
    labels: tuple[str, str],
    note: str,
) -> tuple[str | None, str]:
    series: dict[str, list[_Spot]] = {}
    for name, members in without(points, over).items():
        line = sorted(filter(None, map(place, members)), key=lambda spot: spot.x)
        if len({spot.x for spot in line}) > 1:
            series[name] = line
    if not series:
        return None, f"no two points differ in the {over} alone"
    drawn = dict(list(series.items())[:MOST_SERIES])
    spots = [spot for line in drawn.values() for spot in line]
    places, told = [spot.x for spot in spots], sources([spot.of for spot in spots])
    chart = Chart(
        title,
        at_values(places, log=over == "batch" or max(places) > _WIDE * min(places)),
        fitting([end for spot in spots for end in (spot.interval or (spot.y,))], wide=4 * _WIDE),
        x_label=labels[0],
        y_label=labels[1],
        described="; ".join(told),
    )
    for index, line in enumerate(drawn.values()):
        chart.line([(spot.x, spot.y) for spot in line], index)
        for spot in line:
            if spot.interval is not None:
                chart.whisker(spot.x, *spot.interval, index)
        words = [f"{spot.of.title}: {digits(spot.y)}" for spot in line]
        chart.points([(spot.x, spot.y) for spot in line], index, words)
    if len(series) > len(drawn):
        note += f" {len(series) - len(drawn)} more lines are in the table alone."
    names = list(drawn) if len(drawn) > 1 else [""]
    return figure(title, chart.svg() + legend(names), note, told), ""
