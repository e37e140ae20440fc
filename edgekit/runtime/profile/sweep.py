"""Points one after the other, each in a process of its own, with the machine recorded; the file after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from edgekit.core.errors import UsageError
from edgekit.devices.recording import Recorder
from edgekit.runtime.profile.energy import energy_of, idle_power_mw
from edgekit.runtime.profile.measured import Asked
from edgekit.runtime.profile.point import Point
from edgekit.runtime.profile.processes import cold_start, run
from edgekit.runtime.profile.reading import read_measured
from edgekit.runtime.profile.result import check_same, head, load_average, now, read_result, write_result

Report = Callable[[int, int, str], None]
"""Told which point of how many it is, from 1, and what is done next."""


def combinations(point: Point, **lists: Sequence[Any]) -> list[Point]:
    """A point for every combination; the last list changes first. A list that is empty leaves the point's own."""
    given = {name: values for name, values in lists.items() if values}
    return [replace(point, **dict(zip(given, chosen))) for chosen in product(*given.values())]


def profile(
    points: Sequence[Point],
    *,
    command: str = "",
    out: Path | None = None,
    resume: bool = False,
    report: Report = lambda index, total, step: None,
) -> dict[str, Any]:
    """Measure points of one model.

    Args:
        points: they differ only in what `Point.asked` names.
        out: the result is written there after each point.
        resume: go on with what is there; points that it holds are not measured again.

    Returns:
        The result, as docs/profile.schema.json describes it. What could not be measured stands there with its reason.

    Raises:
        EdgekitError: there is no such model, or `out` cannot be gone on with or written.
        UsageError: the only point has options that do not fit the model.
    """
    result: dict[str, Any] = {**head(points[0], command), "points": []}
    known: list[Asked] = []
    if resume and out is not None and out.exists():
        before, read = read_result(out), read_measured(out)
        check_same(out, before, result)
        result = before
        known = [*(point.asked for point in read.points), *(point.asked for point in read.missing)]
    for index, point in enumerate(points, start=1):
        if point.asked in known:
            report(index, len(points), "is there already")
            continue
        measured, wrong = measure(point, lambda step: report(index, len(points), step))  # noqa: B023
        if wrong is not None and len(points) == 1:
            raise wrong
        result["points"].append(measured)
        if out is not None:
            write_result(out, result)
    return result


def measure(point: Point, report: Callable[[str], None]) -> tuple[dict[str, Any], UsageError | None]:
    """One point of a result: what it measured, or why not; and the error, where that is the caller's."""
    measured: dict[str, Any] = {"asked": point.asked, "state": "measured", "reason": None, "hint": None, "date": now()}
    measured["load_before"] = load_average()
    idle_mw = idle_power_mw(point.idle_s)
    outcome = run("measure", point, report, Recorder())
    measured["load_after"] = load_average()
    measured |= {"state": outcome.state, "reason": outcome.reason, "hint": outcome.hint}
    if outcome.result is None or outcome.recording is None:
        wrong = UsageError(outcome.reason or "", hint=outcome.hint) if outcome.exit_code == 2 else None
        return measured, wrong
    measured |= outcome.result
    if point.cold_starts:
        report("starting it anew")
    # the backend that was found, so that finding it is no part of the start
    measured["cold_start"], why = cold_start(replace(point, backend=measured["session"]["backend"]))
    _note(measured, "cold_start", why)
    marks = measured.pop("marks")
    measured["energy"], why = energy_of(outcome.recording, idle_mw, marks, measured["audio_s"])
    _note(measured, "energy", why)
    if measured["energy"] is not None and idle_mw is None:
        _note(measured, "energy.above_idle_j", "the idle power was not measured: --set idle_s=3")
    measured["recording"] = outcome.recording.to_json()
    measured["warnings"] += outcome.recording.warnings
    return measured, None


def _note(measured: dict[str, Any], what: str, why: str | None) -> None:
    if why is not None:
        measured["not_measured"][what] = why


def failed(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that were not measured."""
    return [point for point in points if point["state"] != "measured"]
