"""Several results of the same as one, for a comparison: they tell what a result alone cannot, how one run differs from
the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.core.errors import EdgekitError, UsageError
from edgekit.runtime.profile.measured import Measured, Missing, Result, describe_asked
from edgekit.runtime.profile.reading import read_measured


def read_repeated(path: Path) -> Result:
    """A result from its file, or from a folder all that lie in it, as one.

    Raises:
        EdgekitError: as `read_measured`; a folder without results.
        UsageError: results of a folder that are not of the same.
    """
    if not path.is_dir():
        return read_measured(path)
    files = sorted(path.glob("*.json"))
    if not files:
        raise EdgekitError(
            f"expected results of edgekit profile (*.json) in {path}, received none",
            hint=f"edgekit profile MODEL --out {path}/1.json",
        )
    return joined([read_measured(file) for file in files], str(path))


def joined(results: Sequence[Result], path: str) -> Result:
    """One result of several: each point holds what the first has measured, and `again` what the others have.

    A point that one of them could not measure, or does not hold, is missing.

    Raises:
        UsageError: they are not of the same.
        EdgekitError: one holds a point twice.
    """
    origin = replace(results[0].origin, path=path)
    if len(results) == 1:
        return replace(results[0], origin=origin)
    asked = [[describe_asked(point.asked) for point in result.points] for result in results]
    for names, result in zip(asked, results):
        if len(set(names)) < len(names):
            raise EdgekitError(f"expected points that differ in what is asked of them in {result.origin.path}")
    missing = {describe_asked(each.asked): each for result in results for each in result.missing}
    points = []
    by_name = [dict(zip(names, result.points)) for names, result in zip(asked, results)]
    for name in dict.fromkeys(name for names in asked for name in names):
        found = [each[name] for each in by_name if name in each]
        if len(found) == len(results):
            points.append(replace(_alike(found), again=tuple(found[1:])))
        else:
            reason = f"{len(found)} of {len(results)} results hold it"
            missing.setdefault(name, Missing(found[0].asked, "missing", reason))
    return Result(origin, tuple(points), tuple(missing.values()))


def _alike(points: Sequence[Measured]) -> Measured:
    """The first of points that must be of the same."""
    first, *others = points
    for other in others:
        for name, value in _same(first).items():
            if _same(other).get(name) != value:
                raise UsageError(
                    f"expected results of the same, received {name} {value} in {first.origin.path}, "
                    f"{_same(other).get(name)} in {other.origin.path}"
                )
    return first


def _same(point: Measured) -> dict[str, str | None]:
    """What further results must have in common with the first."""
    origin = point.origin
    return {
        "model": origin.sha256,
        "graph": origin.graph,
        **origin.machine,
        **origin.versions,
        **point.run_on,
        **point.load,
        "harness": point.harness,
        "batch": str(point.items_per_call),
        "length": point.length,
        "inputs": "; ".join(point.inputs),
    }
