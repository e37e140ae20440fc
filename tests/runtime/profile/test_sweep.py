"""Points in processes of their own: what is written after each, what goes on, what is refused, crashed or too large."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.errors import EdgekitError, UsageError
from edgekit.core.settings import settings_to_dict
from edgekit.devices.loadgen import installed
from edgekit.runtime.profile import processes
from edgekit.runtime.profile.point import Point
from edgekit.runtime.profile.result import read_result, write_result
from edgekit.runtime.profile.sweep import combinations, profile

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Quick = Callable[..., Point]
SCHEMA = Path(__file__).parents[3] / "docs" / "profile.schema.json"


def check(result: dict[str, Any]) -> None:
    """Hold a result to the published schema, where the package jsonschema is at hand."""
    try:
        import jsonschema
    except ImportError:
        return
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(result)))


def test_combinations_are_all_and_in_order(quick: Quick) -> None:
    points = combinations(quick(batch=9, length="7"), threads=[1, 2], batch=[1, 4], length=[])
    assert [(point.threads, point.batch, point.length) for point in points] == [
        (1, 1, "7"),
        (1, 4, "7"),
        (2, 1, "7"),
        (2, 4, "7"),
    ]


def test_a_sweep_is_written_after_each_point_and_gone_on_with(quick: Quick, toy_bundle: Path, tmp_path: Path) -> None:
    out, seen = tmp_path / "sweep.json", list[int]()

    def report(index: int, total: int, step: str) -> None:
        if step == "loading":
            seen.append(len(read_result(out)["points"]) if out.exists() else 0)

    first = combinations(quick(toy_bundle), batch=[1, 99])
    result = profile(first, command="edgekit profile", out=out, report=report)
    assert seen == [0, 1]
    assert [point["state"] for point in result["points"]] == ["measured", "refused"]
    refused = result["points"][1]
    assert refused["reason"] == "x: expected batch in 1..16, received 99"
    check(result)
    assert read_result(out) == json.loads(json.dumps(result))

    seen.clear()
    more = profile(combinations(quick(toy_bundle), batch=[99, 1, 2]), out=out, resume=True, report=report)
    assert seen == [2]
    assert [point["asked"]["batch"] for point in more["points"]] == [1, 99, 2]
    assert more["points"][:2] == read_result(out)["points"][:2] == json.loads(json.dumps(result["points"]))
    check(more)

    with pytest.raises(UsageError, match=r"expected settings\.seed as in .*sweep\.json, 0; received 5") as caught:
        profile([quick(toy_bundle, seed=5)], out=out, resume=True)
    assert caught.value.hint == "another --out begins anew"
    with pytest.raises(UsageError, match=r"expected model\.sha256 as in"):
        profile([quick()], out=out, resume=True)
    assert len(read_result(out)["points"]) == 3


def test_a_whole_point_says_what_it_measured_and_why_not(quick: Quick, toy_bundle: Path) -> None:
    result = profile([quick(toy_bundle, cold_starts=2, layers=True)])
    check(result)
    (point,) = result["points"]
    cold = point["cold_start"]
    assert cold["num_processes"] == 2
    parts = ("interpreter_s", "import_s", "load_s", "first_inference_s")
    for index in range(2):
        total = cold["samples"]["total_s"][index]
        assert sum(cold["samples"][part][index] for part in parts) == pytest.approx(total)
    assert all(seconds > 0 for part in parts for seconds in cold["samples"][part])
    assert (point["energy"] is None) == ("energy" in point["not_measured"])
    assert len(point["recording"]["t_s"]) >= 2
    # a fresh process, whatever this one holds
    assert point["memory"]["before_mib"] is None or point["memory"]["before_mib"] < 80


def test_every_scenario_keeps_to_the_schema(quick: Quick, toy_bundle: Path) -> None:
    """By MLPerf's load generator where it is installed."""
    point = quick(toy_bundle, harness="auto", qps=200.0, bound_ms=1000.0, duration_s=0.2)
    scenarios = ["single-stream", "multi-stream", "offline", "server"]
    result = profile(combinations(point, scenario=scenarios))
    check(result)
    assert [each["scenario"]["name"] for each in result["points"]] == scenarios
    harness = "mlperf loadgen" if installed() else "edgekit"
    assert all(each["scenario"]["harness"].startswith(harness) for each in result["points"])


def test_the_only_point_with_wrong_options_is_an_error(quick: Quick, foreign: Path) -> None:
    with pytest.raises(UsageError, match="expected a size for every dynamic axis") as caught:
        profile([quick(foreign)])
    assert caught.value.hint == "--dim time=SIZE"
    states = [each["state"] for each in profile(combinations(quick(foreign), batch=[1, 2]))["points"]]
    assert states == ["refused", "refused"]


def test_a_crash_is_that_points_alone(quick: Quick, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = toy_bundle.parent / "crash"
    # as the system kills what takes too much memory, at the first point
    (toy_bundle.parent / "healthy").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (toy_bundle.parent / "healthy").chmod(0o755)
    crashing.write_text('#!/bin/sh\nmv "$(dirname "$0")/healthy" "$0"\nkill -9 $$\n')
    crashing.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(crashing))
    result = profile(combinations(quick(toy_bundle), batch=[1, 2]))
    killed, measured = result["points"]
    assert (killed["state"], killed["reason"]) == ("failed", "its process was killed by signal 9 (SIGKILL)")
    assert "out of memory" in killed["hint"]
    assert measured["state"] == "measured"
    check(result)


def test_a_process_that_ends_otherwise_tells_its_last_words(
    quick: Quick, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho '{\"step\": \"loa'\necho 'no room in the hall' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(broken))
    (point,) = profile([quick(toy_bundle)])["points"]
    assert (point["state"], point["reason"]) == ("failed", "its process ended with 3: no room in the hall")


def test_what_takes_too_long_is_ended(quick: Quick, toy_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(slow))
    monkeypatch.setattr(processes, "MORE_S", 0.2)
    outcome = processes.run("measure", quick(toy_bundle, duration_s=0.001, warm_up_limit_s=0.001))
    assert (outcome.state, outcome.hint) == ("failed", "a shorter --duration")


LIMITED = """if True:
    import json, resource, sys
    from edgekit.runtime.profile.point import Point
    from edgekit.runtime.profile.sweep import combinations, profile
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    point = Point(sys.argv[1], dims=("time=90000",), values=("x_lens=90000",), threads=1, duration_s=0.05,
                  warm_up_limit_s=0.05, harness="edgekit")
    points = profile(combinations(point, batch=[1, 9000, 2]))["points"]
    print(json.dumps([[each["state"], each["reason"]] for each in points]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory")
def test_a_point_that_finds_no_memory_is_recorded_and_the_sweep_goes_on(foreign: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(foreign)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    first, too_large, last = json.loads(ran.stdout)
    assert first == last == ["measured", None]
    assert too_large == ["refused", "it needs more memory than this process may have"]


def test_a_process_ends_with_the_one_that_started_it(quick: Quick, toy_bundle: Path) -> None:
    """As where a sweep is killed: what measures next would be measured beside it."""
    command = [sys.executable, "-m", "edgekit.runtime.profile.child", "measure"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(settings_to_dict(quick(toy_bundle, duration_s=3600.0))).encode() + b"\n")
        process.stdin.flush()
        while not json.loads(process.stdout.readline()).get("recorded"):
            pass
        process.stdin.write(b"go on\n")
        process.stdin.close()
        assert process.wait(timeout=20) == 1


def test_a_sweep_goes_on_with_a_whole_result_alone(quick: Quick, toy_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    whole = profile([quick(toy_bundle)], out=out)
    for name in ("model", "settings", "machine", "versions"):
        write_result(out, {key: value for key, value in whole.items() if key != name})
        with pytest.raises(EdgekitError, match=f"expected a value at {name} of .*sweep.json, received 'nothing'"):
            profile([quick(toy_bundle)], out=out, resume=True)
    write_result(out, {**whole, "points": [{"state": "refused"}]})
    with pytest.raises(EdgekitError, match=r"expected a value at points\[0\].asked of .*sweep.json"):
        profile([quick(toy_bundle)], out=out, resume=True)
    write_result(out, {**whole, "machine": {**whole["machine"], "power_mode": "15W"}})
    with pytest.raises(UsageError, match=r"expected machine.power_mode as in .*, '15W'; received None"):
        profile([quick(toy_bundle)], out=out, resume=True)


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    for content in ("", "{}", '{"kind": "other", "schema": 1, "points": []}', "[]"):
        (tmp_path / "file.json").write_text(content)
        with pytest.raises(EdgekitError, match="expected a result of edgekit profile at"):
            read_result(tmp_path / "file.json")
    with pytest.raises(EdgekitError, match="expected a result"):
        read_result(tmp_path / "none.json")
    write_result(tmp_path / "new.json", {"schema": 2, "kind": "edgekit-profile", "points": []})
    with pytest.raises(EdgekitError, match=r"expected schema 1 at .*, received 2"):
        read_result(tmp_path / "new.json")
