"""`edgekit compare` as typed: tables, JSON, exit codes that a CI can rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.runtime.profile.point import Point
from edgekit.runtime.profile.sweep import profile

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def measured(_toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of a real, short profile."""
    path = tmp_path_factory.mktemp("measured") / "result.json"
    profile([Point(str(_toy_bundle), threads=1, duration_s=0.1, warm_up_limit_s=0.05, harness="edgekit")], out=path)
    return path


@pytest.fixture
def profiled(measured: Path, tmp_path: Path) -> Path:
    """The same with latencies that are known."""
    # how many queries a busy machine answers, and how they hang together, is no part of what is tested here
    return rewrite(measured, tmp_path / "a.json", by=1.0, seed=1)


def rewrite(source: Path, path: Path, *, by: float, seed: int, **changes: Any) -> Path:
    """A copy of a result with 400 latencies around 10 ms times `by`; `changes` replace values of its point."""
    result = json.loads(source.read_text(encoding="utf-8"))
    samples = 10 * by * (1 + 0.02 * np.random.default_rng(seed).gamma(2.0, size=400))
    point = result["points"][0]
    point |= {"samples_ms": samples.tolist(), "throughput_per_s": 1e3 / samples.mean(), **changes}
    for each in point["latency"]["percentiles"]:
        if each["q"] < 99.5:
            each |= {"value": float(np.percentile(samples, each["q"])), "low": 1.0, "high": 99.0, "reason": None}
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def test_the_same_file_is_no_difference(cli: Cli, profiled: Path) -> None:
    ran = cli("compare", profiled, profiled, "--fail-if-slower", "5%")
    assert ran.code == 0, ran.err
    rows = [line for line in ran.out.splitlines() if line.startswith((" p50", " p90", " p99", " throughput"))]
    assert len(rows) == 4
    assert all("1.000" in row and "no difference measured" in row for row in rows)
    assert "circular block bootstrap" in ran.out
    assert "differs:" not in ran.out
    assert "not measured: not asked for (--cold-starts)" in ran.out


def test_slower_by_a_fifth_fails_with_the_table_printed(cli: Cli, profiled: Path, tmp_path: Path) -> None:
    slower = rewrite(profiled, tmp_path / "b.json", by=1.2, seed=1)
    ran = cli("compare", profiled, slower, "--fail-if-slower", "5%")
    assert ran.code == 1
    (row,) = (line for line in ran.out.splitlines() if line.startswith(" p50"))
    name, unit, _, _, ratio, low, _, high, *verdict = row.split()
    assert (name, unit, ratio, " ".join(verdict)) == ("p50", "ms", "1.200", "B is slower")
    assert 1.19 < float(low) < 1.2 < float(high) < 1.21
    error = next(line for line in ran.err.splitlines() if line.startswith("error"))
    assert error.startswith(
        "error: expected B to be at most 5 % slower than A, received: p50 is 1.200 times that of A; p90"
    )
    assert cli("compare", profiled, slower).code == 0, "it only fails where that is asked for"
    assert cli("compare", profiled, slower, "--fail-if-slower", "25%").code == 0
    assert cli("compare", slower, profiled, "--fail-if-slower", "0%").code == 0, "faster is not slower"


def test_noise_does_not_fail(cli: Cli, profiled: Path, tmp_path: Path) -> None:
    for seed in range(2, 7):
        again = rewrite(profiled, tmp_path / "b.json", by=1.0, seed=seed)
        ran = cli("compare", profiled, again, "--fail-if-slower", "5%")
        assert ran.code == 0, ran.err


def test_folders_are_compared_run_by_run(cli: Cli, profiled: Path, tmp_path: Path) -> None:
    for name, by in (("old", 1.0), ("same", 1.05), ("slow", 1.5)):
        (tmp_path / name).mkdir()
        for index, speed in enumerate((1.0, 1.1, 1.2, 1.3)):
            rewrite(profiled, tmp_path / name / f"{index}.json", by=by * speed, seed=index)
    ran = cli("compare", tmp_path / "old", tmp_path / "slow", "--fail-if-slower", "5%")
    assert ran.code == 1
    assert f"A: {tmp_path / 'old'}, 4 results: " in ran.out
    assert "the exact interval by Mann" in ran.out
    assert "received: p50 is 1." in ran.err
    assert "--help" not in ran.err
    assert cli("compare", tmp_path / "old", tmp_path / "same", "--fail-if-slower", "5%").code == 0
    single = cli("compare", tmp_path / "old" / "0.json", tmp_path / "same" / "3.json", "--fail-if-slower", "5%")
    assert single.code == 1, "which one run of each tells from others"
    assert "hint:  one run differs from the next: edgekit compare --help says how to profile for a CI" in single.err
    for name in ("old", "same"):
        (tmp_path / name / "0.json").unlink()
    few = cli("compare", tmp_path / "old", tmp_path / "same", "--fail-if-slower", "5%")
    assert few.code == 2
    assert "hint:  profile both again, 4 times or more in all" in few.err


def test_json_is_all_there_is_on_standard_output(cli: Cli, profiled: Path, tmp_path: Path) -> None:
    slower = rewrite(profiled, tmp_path / "b.json", by=1.2, seed=1)
    ran = cli("compare", profiled, slower, "--json", "--fail-if-slower", "5%")
    assert ran.code == 1
    found = json.loads(ran.out)
    assert found["fail_if_slower"] == {"ratio": 1.05, "slower": ["p50", "p90", "p99"]}
    (pair,) = found["pairs"]
    assert [figure["name"] for figure in pair["figures"]][:4] == ["p50", "p90", "p99", "throughput"]
    median = pair["figures"][0]["ratio"]
    assert median["value"] == pytest.approx(1.2)
    assert median["low"] < 1.2 < median["high"]
    assert json.loads(cli("compare", profiled, profiled, "--json").out)["fail_if_slower"] is None


def test_what_is_not_the_same_is_wrong_usage(cli: Cli, profiled: Path, tmp_path: Path) -> None:
    longer = rewrite(profiled, tmp_path / "b.json", by=1.0, seed=1, items_per_call=8)
    ran = cli("compare", profiled, longer)
    assert (ran.code, ran.out) == (2, "")
    assert "error: expected the same in both but for what ran, received batch: 1 in A, 8 in B\n" in ran.err
    assert "hint:  --anyway compares them" in ran.err
    ran = cli("compare", profiled, longer, "--anyway")
    assert ran.code == 0
    assert "warning: not the same: batch: 1 in A, 8 in B" in ran.err


@pytest.mark.parametrize("share", ["5", "0.05", "%", "-1%", "nan%", "x%"])
def test_a_share_is_a_percentage(cli: Cli, profiled: Path, share: str) -> None:
    ran = cli("compare", profiled, profiled, f"--fail-if-slower={share}")
    assert ran.code == 2
    assert f"expected a percentage for --fail-if-slower, received {share!r}" in ran.err
    assert "hint:  --fail-if-slower 5%" in ran.err


def test_a_check_that_cannot_fail_is_refused(cli: Cli, profiled: Path, tmp_path: Path) -> None:
    few = rewrite(profiled, tmp_path / "b.json", by=1.0, seed=1, samples_ms=[1.0, 2.0])
    ran = cli("compare", few, few, "--fail-if-slower", "5%")
    assert ran.code == 2
    assert "expected a latency with an interval for --fail-if-slower, received none" in ran.err


def test_a_point_that_is_lost_fails(cli: Cli, profiled: Path, tmp_path: Path) -> None:
    result = json.loads(profiled.read_text(encoding="utf-8"))
    point = result["points"][0]
    more = {**point, "asked": {**point["asked"], "batch": 2}, "items_per_call": 2}
    lost = {key: more[key] for key in ("asked", "date", "load_before", "load_after", "hint")}
    (tmp_path / "sweep.json").write_text(json.dumps({**result, "points": [point, more]}))
    lost |= {"state": "failed", "reason": "it was killed"}
    (tmp_path / "half.json").write_text(json.dumps({**result, "points": [point, lost]}))
    ran = cli("compare", tmp_path / "sweep.json", tmp_path / "half.json", "--fail-if-slower", "5%")
    assert ran.code == 1
    assert "not measured in B: " in ran.out
    assert "B could not measure scenario single-stream, threads 1, batch 2: failed: it was killed" in ran.err
    assert cli("compare", tmp_path / "sweep.json", tmp_path / "half.json").code == 0


def test_what_is_no_result_is_said(cli: Cli, profiled: Path, tmp_path: Path) -> None:
    ran = cli("compare", profiled, tmp_path / "none.json")
    assert ran.code == 1
    assert "expected a result of edgekit profile at" in ran.err
    newer = tmp_path / "newer.json"
    newer.write_text('{"kind": "edgekit-profile", "schema": 2, "points": []}')
    ran = cli("compare", newer, profiled)
    assert ran.code == 1
    assert "expected schema 1 at" in ran.err
    assert cli("compare", profiled).code == 2
