"""The latencies of points: how they are distributed, and which share lies below."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgekit.runtime.profile.measured import Measured
from edgekit.runtime.profile.report.chart import Chart, legend
from edgekit.runtime.profile.report.markup import figure
from edgekit.runtime.profile.report.scale import linear, logarithmic, thinned
from edgekit.runtime.profile.report.words import SHOWN_PERCENTILES, Named, digits, sources

MOST_CURVES = 6
_MOST_BINS, _LEAST_BINS = 70, 8
_MOST_CORNERS = 300
_WIDE = 12.0
"""A range of so many times its lower end is drawn on a logarithmic scale."""
_TAIL = 99.5


def draw_histogram(each: Named) -> str | None:
    """Of one point; None offline, which is one query."""
    samples = each.point.latencies_ms
    if samples is None:
        return None
    low, high, beyond = _drawn_range(samples)
    counts, edges = np.histogram(samples[samples <= high], bins=_num_bins(samples, low, high), range=(low, high))
    told = [
        f"{digits(start)} to {digits(stop)} ms: {count} queries" for start, stop, count in zip(edges, edges[1:], counts)
    ]
    chart = Chart(
        f"Distribution of latencies, {each.title}",
        linear((low, high), num_ticks=8),
        linear((0, int(counts.max())), zero=True, whole=True, num_ticks=5),
        x_label="latency (ms)",
        y_label="queries",
        described="; ".join(sources([each])),
        height=290,
        rows=3,
    )
    chart.bars(edges.tolist(), counts.tolist(), 0, told)
    note = f"{len(samples)} queries."
    if beyond:
        slower = "query is" if beyond == 1 else "queries are"
        note += f" {beyond} {slower} slower than what is drawn, up to {digits(float(samples.max()))} ms."
    return figure(
        "Latency distribution",
        _marked(chart, each.point, high),
        f"{note} {_percentiles_told(each.point)}",
        sources([each]),
    )


def draw_cumulative(points: Sequence[Named]) -> str | None:
    """A curve for each point; None where none has latencies or they are more than `MOST_CURVES`."""
    told = [(each, each.point.latencies_ms) for each in points]
    curves = [(each, np.sort(samples)) for each, samples in told if samples is not None]
    if not 1 <= len(curves) <= MOST_CURVES:
        return None
    low, high = min(float(s[0]) for _, s in curves), max(float(s[-1]) for _, s in curves)
    wide = high > _WIDE * low
    shown = [each for each, _ in curves]
    chart = Chart(
        f"Share of queries below a latency, {', '.join(each.title for each in shown)}",
        logarithmic((low, high)) if wide else linear((low, high), num_ticks=8),
        linear((0, 100), zero=True, num_ticks=5),
        x_label="latency (ms)",
        y_label="queries answered by then (%)",
        described="; ".join(sources(shown)),
        height=290,
        rows=3 if len(curves) == 1 else 0,
    )
    for series, (each, ordered) in enumerate(curves):
        if len(curves) == 1:
            _mark(chart, each.point, math.inf)
        kept = thinned(len(ordered), _MOST_CORNERS)
        steps = [(float(ordered[index]), 100 * (index + 1) / len(ordered)) for index in kept]
        chart.line([(float(ordered[0]), 0.0), *steps], series, stepped=True)
        found = [each.point.percentiles[q] for q in SHOWN_PERCENTILES if q in each.point.percentiles]
        known = [(one.value, one.q) for one in found if one.value is not None]
        chart.points(known, series, [f"{each.title}: p{q:g} {digits(value)} ms" for value, q in known])
    names = [each.title for each in shown] if len(shown) > 1 else [""]
    note = "Markers are p50, p90 and p99, where there are samples enough to tell them."
    note = note if len(curves) > 1 else _percentiles_told(curves[0][0].point)
    return figure("Cumulative latencies", chart.svg() + legend(names), note, sources(shown))


def _marked(chart: Chart, point: Measured, high: float) -> str:
    _mark(chart, point, high)
    return chart.svg()


def _mark(chart: Chart, point: Measured, high: float) -> None:
    for q in SHOWN_PERCENTILES:
        found = point.percentiles.get(q)
        if found is None or found.value is None or found.low is None or found.high is None or found.value > high:
            continue
        chart.mark(found.value, f"p{q:g} {digits(found.value)}", (min(found.low, high), min(found.high, high)))


def _percentiles_told(point: Measured) -> str:
    found = [point.percentiles[q] for q in SHOWN_PERCENTILES if q in point.percentiles]
    known = [f"p{each.q:g}" for each in found if each.value is not None]
    unknown = [each.reason or f"no p{each.q:g}" for each in found if each.value is None]
    told = f"Lines: {', '.join(known)}, each with its 95 % interval in grey." if known else ""
    return " ".join([told, *(f"Not told: {reason}." for reason in unknown)]).strip()


def _drawn_range(samples: np.ndarray) -> tuple[float, float, int]:
    """From the fastest to where few are slower, and how many these are: a few calls take a hundred times as long."""
    low, median, most = float(samples.min()), float(np.median(samples)), float(samples.max())
    tail = float(np.percentile(samples, _TAIL))
    high = most if most <= tail + 2 * (tail - low) or len(samples) < 50 else tail + 0.5 * (tail - low)
    if high <= low:
        low, high = 0.95 * low, 1.05 * max(high, median)
    return low, high, int((samples > high).sum())


def _num_bins(samples: np.ndarray, low: float, high: float) -> int:
    """By Freedman and Diaconis, within what can be seen."""
    first, third = np.percentile(samples, [25, 75])
    width = 2 * (third - first) / len(samples) ** (1 / 3)
    return int(min(max(math.ceil((high - low) / width) if width > 0 else _LEAST_BINS, _LEAST_BINS), _MOST_BINS))
