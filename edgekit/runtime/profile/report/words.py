"""A point in words: what tells it from the others, where it ran, what may have spoilt it; numbers with their digits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from edgekit.runtime.profile.measured import Measured, Result, describe_asked

SHOWN_PERCENTILES = (50.0, 90.0, 99.0)
_FIRST = ("throttled", "hot", "clocks", "the warm-up")
"""How what spoils a figure most begins, in `Measured.warnings`."""


@dataclass(frozen=True)
class Named:
    """A point on the page.

    Attributes:
        number: from 1.
        told: what is not the same for all points there, by name, in words.
    """

    number: int
    told: Mapping[str, str]
    point: Measured

    @property
    def name(self) -> str:
        return ", ".join(filter(None, self.told.values()))

    @property
    def title(self) -> str:
        return f"#{self.number} {self.name}".strip()


def name_points(results: Sequence[Result]) -> list[Named]:
    """All points of all results, each with what is not the same for all."""
    points = [point for result in results for point in result.points]
    paths = {point.origin.path for point in points}
    alike = len({Path(path).name for path in paths}) < len(paths)  # as before/1.json and after/1.json
    told = [_told(point) | ({"result": point.origin.path} if alike else {}) for point in points]
    names = [name for name in (told[0] if told else {}) if len({each[name] for each in told}) > 1]
    return [
        Named(number, {name: each[name] for name in names}, point)
        for number, (each, point) in enumerate(zip(told, points), start=1)
    ]


def _told(point: Measured) -> dict[str, str]:
    """By what it may differ from others, in words that need no name beside them."""
    run_on = point.run_on
    return {
        "result": Path(point.origin.path).name,
        "model": point.origin.model,
        "machine": point.origin.device,
        "scenario": _scenario(point),
        "backend": run_on["backend"],
        "device": run_on["device"],
        "precision": run_on["precision"],
        "threads": "1 thread" if run_on["threads"] == "1" else f"{run_on['threads']} threads",
        "batch": f"batch {point.items_per_call}",
        "length": point.length or "",
    }


def in_common(points: Sequence[Named]) -> str:
    """What is the same for all points, in words, but for result, model and machine."""
    told = _told(points[0].point)
    kept = [words for name, words in told.items() if name not in ("result", "model", "machine", *points[0].told)]
    return ", ".join(filter(None, kept))


def in_full(point: Measured) -> str:
    """What was measured, in words."""
    computed = point.run_on["computed in"]
    told = {name: words for name, words in _told(point).items() if name not in ("result", "model", "machine")}
    inputs = f"inputs: {'; '.join(point.inputs)}"
    graph = "" if computed == point.run_on["precision"] else f"graph computed in {computed}"
    queries = f"{point.num_queries} queries by {point.harness}"
    return ", ".join(filter(None, [*told.values(), graph, queries, inputs]))


def costs(point: Measured) -> list[str]:
    """What was measured besides latencies, in words: whether a bound was kept, memory, cold start, energy."""
    gpu = "" if point.gpu_mib is None else f"; of the GPU {point.gpu_mib:.0f} MiB"
    told = [] if point.bound is None else [point.bound]
    told.append(f"memory: {point.peak_mib:.0f} MiB at most, read {point.memory_read}{gpu}")
    if starts_s := point.cold_starts_s:
        span = f", {digits(min(starts_s))} to {digits(max(starts_s))} s" if len(starts_s) > 1 else ""
        told.append(f"cold start: {digits(median(starts_s))} s, median of fresh processes: {len(starts_s)}{span}")
    if point.energy_j is not None:
        told.append(f"energy: {digits(1e3 * point.energy_j)} mJ per item by {point.energy_by}, idle power included")
    return told


def without(points: Sequence[Named], *dropped: str) -> dict[str, list[Named]]:
    """Points that differ in nothing but what is dropped, by the words for what else they are."""
    found: dict[str, list[Named]] = {}
    for each in points:
        name = ", ".join(words for key, words in each.told.items() if words and key not in dropped)
        found.setdefault(name, []).append(each)
    return found


def _scenario(point: Measured) -> str:
    name, *more = point.load.items()
    return " ".join([name[1], *(f"({words} {value})" for words, value in more)])


def sources(points: Sequence[Named]) -> list[str]:
    """How points were measured, a line for each result: command, device, versions, date, load."""
    told: dict[str, list[Measured]] = {}
    for each in points:
        told.setdefault(each.point.origin.path, []).append(each.point)
    return [_source(of_one) for of_one in told.values()]


def _source(points: Sequence[Measured]) -> str:
    origin, run_on = points[0].origin, points[0].run_on
    loads = [point.load_before[0] for point in points if point.load_before]
    load = "load not told"
    if loads:
        load = f"load {min(loads):g}" + (f" to {max(loads):g}" if max(loads) > min(loads) else "") + " before"
    if len(points) == 1 and points[0].load_after:
        load += f", {points[0].load_after[0]:g} after"
    where = dict.fromkeys(f"{p.run_on['backend']} {p.run_on['version']} on {p.run_on['device']}" for p in points)
    versions = [f"{name} {version}" for name, version in origin.versions.items() if name != run_on["backend"]]
    date = points[0].date if len(points) == 1 else origin.date
    weights = ["random weights"] if origin.random_weights else []
    return " · ".join([origin.command or origin.path, *weights, origin.device, *where, ", ".join(versions), date, load])


def flags(results: Sequence[Result], points: Sequence[Named]) -> list[str]:
    """What a reader should know before any figure: the same of several points told once."""
    found: dict[str, list[tuple[Named, str]]] = {}
    for each in points:
        for flag in _flags(each.point):
            found.setdefault(re.sub(r"\d+(\.\d+)?", "", flag), []).append((each, flag))
    ordered = sorted(found.values(), key=lambda alike: not alike[0][1].startswith(_FIRST))
    told = [_alike(alike) if len(points) > 1 else alike[0][1] for alike in ordered]
    lost: dict[str, list[str]] = {}
    for result in results:
        for missing in result.missing:
            lost.setdefault(f"{missing.state}: {missing.reason}", []).append(describe_asked(missing.asked))
    return told + [f"{reason} ({'; '.join(asked)})" for reason, asked in lost.items()]


def _alike(flagged: Sequence[tuple[Named, str]]) -> str:
    """The same said of several points, maybe with other numbers."""
    first = flagged[0][1]
    other = "" if len({flag for _, flag in flagged}) == 1 else f" (numbers are those of #{flagged[0][0].number})"
    return f"{_numbers([each for each, _ in flagged])}: {first}{other}"


def _flags(point: Measured) -> list[str]:
    found = list(point.warnings)
    if any(point.sensed.throttled) and not any(warning.startswith("throttled") for warning in found):
        found.append("throttled: a clock was held down while it was measured")
    short = [f"p{q:g}" for q in SHOWN_PERCENTILES if q in point.percentiles and point.percentiles[q].value is None]
    if short:
        found.append(f"too few samples for {', '.join(short)}")
    if point.busy:
        found.append(point.busy)
    return found


def _numbers(points: Sequence[Named]) -> str:
    """As "#1, #4 to #7"."""
    runs: list[list[int]] = []
    for each in points:
        if runs and each.number == runs[-1][-1] + 1:
            runs[-1].append(each.number)
        else:
            runs.append([each.number])
    return ", ".join(f"#{run[0]}" if len(run) == 1 else f"#{run[0]} to #{run[-1]}" for run in runs)


def digits(value: float) -> str:
    """With three digits at least that mean something."""
    size = abs(value)
    if size < 0.1:
        return f"{value:.3g}"
    return f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"
