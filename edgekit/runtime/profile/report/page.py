"""The page: what to beware of, a table of all points, points against each other, and each point in full."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from edgekit.core.errors import EdgekitError
from edgekit.core.files import write_atomic
from edgekit.devices.percentiles import Percentile
from edgekit.runtime.profile.measured import Result
from edgekit.runtime.profile.reading import read_measured
from edgekit.runtime.profile.report.accuracy import Accuracy, is_accuracy, read_accuracy
from edgekit.runtime.profile.report.across import draw_batch, draw_length
from edgekit.runtime.profile.report.latency import MOST_CURVES, draw_cumulative, draw_histogram
from edgekit.runtime.profile.report.layers import draw_layers
from edgekit.runtime.profile.report.markup import bullets, document, note, table
from edgekit.runtime.profile.report.pareto import draw_accuracy, draw_energy
from edgekit.runtime.profile.report.timeline import draw_timeline
from edgekit.runtime.profile.report.words import (
    SHOWN_PERCENTILES,
    Named,
    costs,
    digits,
    flags,
    in_common,
    in_full,
    name_points,
    sources,
)

_MOST_OPEN, _MOST_ROWS = 3, 16
_MOST_FLAGS = 8


def write_report(paths: Sequence[Path], out: Path) -> None:
    """Write a page that needs no other file.

    Args:
        paths: results of `edgekit profile`, and of `edgekit benchmark asr --json` for the accuracy beside them.

    Raises:
        EdgekitError: a file is none of both, nothing was measured in them, or the page cannot be written.
    """
    told = [(path, is_accuracy(path)) for path in paths]
    accuracies = [read_accuracy(path) for path, of_accuracy in told if of_accuracy]
    results = [read_measured(path) for path, of_accuracy in told if not of_accuracy]
    write_atomic(out, to_html(results, accuracies))


def to_html(results: Sequence[Result], accuracies: Sequence[Accuracy] = ()) -> bytes:
    """The page.

    Raises:
        EdgekitError: nothing was measured.
    """
    points = name_points(results)
    if not points:
        lost = [f": {missing.state}: {missing.reason}" for result in results for missing in result.missing]
        raise EdgekitError(
            f"expected a result with a point that was measured, received none{lost[0] if lost else ''}",
            hint="edgekit profile --out FILE.json",
        )
    models = ", ".join(dict.fromkeys(each.point.origin.model for each in points))
    title = f"Profile of {models}"
    parts = [f"<h1>{escape(title)}</h1>", _flags(flags(results, points)), _summary(points)]
    full = [_one(each) for each in points]
    if len(points) > 1:
        full = [_folded(each, body, is_open=len(points) <= _MOST_OPEN) for each, body in zip(points, full)]
    across = _against_each_other(points, accuracies)
    if len(points) == 1:
        return document(title, [*parts, "<h2>In full</h2>", *full, *across])
    return document(title, [*parts, *across, "<h2>Each point in full</h2>", *full])


def _flags(told: Sequence[str]) -> str:
    if not told:
        return note("Nothing is known that would have spoilt these figures.")
    first, more = told[:_MOST_FLAGS], told[_MOST_FLAGS:]
    rest = f"<details><summary>{len(more)} more</summary>{bullets(more)}</details>" if more else ""
    return f"<div class=flags><strong>Before you trust these figures</strong>{bullets(first)}{rest}</div>"


def _summary(points: Sequence[Named]) -> str:
    header = ["#", "point", "p50 ms", "p90 ms", "p99 ms", "items/s", "RTF", "peak MiB", "mJ/item"]
    rows = table(header, map(_row, points), words=(0, 1))
    told = (
        "Point: one combination of settings; item: one input of a batch; RTF: real-time factor, seconds of computing "
        "per second of sound. In brackets: 95 % intervals. A dash: not measured, or too few samples."
    )
    same = note(f"All: {common}.") if len(points) > 1 and (common := in_common(points)) else ""
    if len(points) > _MOST_ROWS:
        rows = f"<details><summary>Table of all {len(points)} points</summary>{rows}</details>"
    lines = "".join(f"<p class=source>{escape(source)}</p>" for source in sources(points))
    return f"<h2>All points</h2>{same}{rows}{note(told)}{lines}"


def _row(each: Named) -> list[str]:
    point = each.point
    return [
        f"#{each.number}",
        escape(each.name or in_common([each])),
        *(_with_interval(point.percentiles.get(q)) for q in SHOWN_PERCENTILES),
        digits(point.throughput_per_s),
        "-" if point.rtf is None else f"{point.rtf:.4f}",
        f"{point.peak_mib:.0f}",
        "-" if point.energy_j is None else digits(1e3 * point.energy_j),
    ]


def _with_interval(found: Percentile | None) -> str:
    if found is None or found.value is None or found.low is None or found.high is None:
        return "-"
    return f"{digits(found.value)}<br><small>({digits(found.low)} to {digits(found.high)})</small>"


def _against_each_other(points: Sequence[Named], accuracies: Sequence[Accuracy]) -> list[str]:
    length, batch = draw_length(points), draw_batch(points)
    energy, accuracy = draw_energy(points), draw_accuracy(points, accuracies)
    named = {
        "latency against length": length,
        "throughput against batch": batch,
        "energy against latency": energy,
        "accuracy against latency": accuracy,
    }
    drawn = [found for found, _ in named.values() if found is not None]
    if len(points) > 1:
        curves = draw_cumulative(points)
        if curves is not None:
            drawn.insert(0, curves)
        else:
            timed = sum(each.point.latencies_ms is not None for each in points)
            why = f"it takes up to {MOST_CURVES} points with latencies, there are {timed or 'none'}"
            named["cumulative latencies together"] = None, why
    lacking = [f"{name}: {why}" for name, (found, why) in named.items() if found is None]
    told = f"<p class=note>Not drawn:</p>{bullets(lacking)}" if lacking else ""
    return [*(["<h2>Points against each other</h2>"] if drawn else []), *drawn, told]


def _one(each: Named) -> str:
    point = each.point
    parts = [note(in_full(point)), bullets(costs(point))]
    timeline, lacking = draw_timeline(each)
    shown = [draw_histogram(each), draw_cumulative([each]), timeline, *draw_layers(each)]
    parts += [drawn for drawn in shown if drawn is not None]
    untold = [f"{name}: {why}" for name, why in point.not_measured.items()]
    untold += [words for words in lacking if words.split(":")[0] not in point.not_measured]
    if untold:
        parts.append(f"<p class=note>Not measured:</p>{bullets(untold)}")
    return "".join(parts)


def _folded(each: Named, body: str, *, is_open: bool) -> str:
    opened = " open" if is_open else ""
    return f"<details class=point{opened}><summary>{escape(each.title)}</summary>{body}</details>"
