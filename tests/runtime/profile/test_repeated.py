"""Results of the same in a folder: what one run after the other tells, and what is not of the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import EdgekitError, UsageError
from edgekit.runtime.profile import ratios
from edgekit.runtime.profile.compare import Comparison, compare
from edgekit.runtime.profile.measured import Result
from edgekit.runtime.profile.reading import read_measured
from edgekit.runtime.profile.repeated import joined, read_repeated

pytestmark = pytest.mark.device_side


@pytest.fixture
def folder(made: ModuleType, tmp_path: Path) -> Any:
    """`folder("a", [point, ...], [point, ...])`: a folder with a result of each list."""

    def write(name: str, *results: list[dict[str, Any]], **changes: Any) -> Path:
        (tmp_path / name).mkdir()
        for index, points in enumerate(results):
            made.write(tmp_path / name / f"{index}.json", *points, **changes)
        return tmp_path / name

    return write


def verdicts(found: Comparison) -> dict[str, str]:
    return {figure.name: figure.verdict for figure in found.pairs[0].figures}


def test_four_of_each_tell_how_runs_differ(folder: Any, made: ModuleType) -> None:
    def side(name: str, by: float) -> Result:
        run = made.latencies()
        points = [
            made.point(by * speed * run, energy=made.energy(0.1 * speed), cold_start=made.cold_start(0.5 * by * speed))
            for speed in (1.0, 1.1, 1.2, 1.3)
        ]
        return read_repeated(folder(name, *([point] for point in points)))

    before, same, slower = side("a", 1.0), side("b", 1.1), side("c", 1.5)
    found = compare(before, slower)
    assert (found.num_a, found.num_b, found.a.origin.path[-1]) == (4, 4, "a")
    assert "each result" in found.method
    p50 = found.pairs[0].figures[0]
    assert (p50.name, p50.verdict, p50.ratio.value) == ("p50", "B is slower", pytest.approx(1.5, rel=0.02))
    assert (p50.ratio.low, p50.ratio.high) == (pytest.approx(1.5 / 1.3), pytest.approx(1.5 * 1.3)), "all pairs of runs"
    assert p50.a == pytest.approx(np.median(made.latencies()) * 1.15)
    told = verdicts(found)
    assert (told["throughput"], told["cold start"]) == ("B is slower", "B is slower")
    assert (told["energy of an item"], told["peak memory"]) == ("no difference measured", "no difference measured")
    assert [each.name for each in found.pairs[0].slower_by_more_than(0.1)] == ["p50", "p90", "p99"]
    assert set(verdicts(compare(before, same)).values()) == {"no difference measured"}
    assert found.to_json()["a"]["num_results"] == 4


def test_too_few_results_have_no_interval(folder: Any, made: ModuleType) -> None:
    three, one = folder("a", *([made.point()] for _ in range(3))), folder("b", [made.point()])
    for a, b in ((three, three), (one, three)):
        found = compare(read_repeated(a), read_repeated(b))
        assert not found.pairs[0].can_be_slower
    assert verdicts(found)["p50"] == "no interval: 1 and 3 results, 4 and 4 are enough"
    assert compare(read_repeated(one), read_repeated(one)).pairs[0].can_be_slower, "by the samples within"


def test_what_differs_from_run_to_run_is_no_alarm(
    made: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 runs of the same, each on a machine that is now faster, now slower."""
    monkeypatch.setattr(ratios, "NUM_RESAMPLES", 200)
    monkeypatch.setattr(ratios, "LEAST_RESAMPLES", 200)
    random = np.random.default_rng(0)
    runs = []
    for index in range(40):
        samples = made.latencies(100, ms=10 * np.exp(0.2 * random.standard_normal()), seed=index)
        runs.append(read_measured(made.write(tmp_path / "run.json", made.point(samples))))

    def alarms(num: int) -> int:
        """In 40 comparisons of so many runs with as many others."""
        found = 0
        for _ in range(40):
            chosen = [runs[index] for index in random.permutation(40)[: 2 * num]]
            pair = compare(joined(chosen[:num], "a"), joined(chosen[num:], "b")).pairs[0]
            found += bool(pair.slower_by_more_than(0.05))
        return found

    assert alarms(1) > 8, "one run of each tells nothing of others"
    assert alarms(4) <= 2
    assert alarms(8) <= 2


def test_a_point_that_one_result_lacks_is_missing(folder: Any, made: ModuleType) -> None:
    one, two, four = (made.point(asked={"batch": batch}) for batch in (1, 2, 4))
    whole = read_repeated(folder("a", [one, two, four], [one, two, four]))
    assert [len(point.again) for point in whole.points] == [1, 1, 1]
    half = read_repeated(folder("b", [one, two, four], [one, made.refused("it crashed", batch=2)]))
    found = compare(whole, half)
    assert [pair.name for pair in found.pairs] == ["batch 1"]
    assert [lost.split(": ", 1)[1] for lost in found.failed_b] == [
        "refused: it crashed",
        "missing: 1 of 2 results hold it",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"sha256": "cd" * 32}}, "received model abab"),
        ({"versions": {"numpy": "2.1.0"}}, "received numpy 2.0.0 in "),
        ({"machine": {"power_mode": "15W"}}, "received power mode none in "),
    ],
)
def test_results_of_a_folder_are_of_the_same(made: ModuleType, tmp_path: Path, changes: Any, told: str) -> None:
    made.write(tmp_path / "a.json")
    made.write(tmp_path / "b.json", **changes)
    with pytest.raises(UsageError, match=f"expected results of the same, {re.escape(told)}"):
        read_repeated(tmp_path)


def test_what_is_no_folder_of_results_is_told(made: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match=r"expected results of edgekit profile \(\*.json\) in .*received none"):
        read_repeated(tmp_path)
    made.write(tmp_path / "a.json", made.point(), made.point())
    made.write(tmp_path / "b.json", made.point(), made.point())
    with pytest.raises(EdgekitError, match=r"expected points that differ in what is asked of them in .*a\.json"):
        read_repeated(tmp_path)
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(EdgekitError, match=r"expected a result of edgekit profile at .*b\.json"):
        read_repeated(tmp_path)


def test_one_result_is_itself(made: ModuleType, tmp_path: Path) -> None:
    path = made.write(tmp_path / "a.json")
    alone, within = read_repeated(path), read_repeated(tmp_path)
    assert alone.points[0].again == within.points[0].again == ()
    assert within.origin == replace(alone.origin, path=str(tmp_path))
