"""`edgekit profile`, as typed: tables, JSON, files, sweeps, and an answer to every wrong turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.bundle import open_bundle

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Cli = Callable[..., Any]
QUICK = ("--duration", "0.1", "--threads", "1", "--set", "harness=edgekit", "--set", "warm_up_limit_s=0.05")


def test_a_point_is_a_table_and_a_file(cli: Cli, toy_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    ran = cli("profile", toy_bundle, "--length", "1s", "--cold-starts", "1", "--out", out, *QUICK)
    assert ran.code == 0, ran.err
    for text in (
        "toy tiny, graph infer",
        "p50",
        "95 % interval",
        "too few samples",
        "cold start",
        "median of 1 processes",
    ):
        assert text in ran.out
    assert "Conv" in ran.out
    assert "1 of 1: warming up" in ran.err
    assert ran.err.rstrip().splitlines()[-1].startswith(("written to", "warning: "))
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["command"].startswith("edgekit profile ")
    (point,) = result["points"]
    assert f"{point['rtf']:.5f}" in ran.out
    assert (point["session"]["num_threads"], point["audio_s"]) == (1, 1.0)


def test_json_is_all_there_is_on_standard_output(cli: Cli, toy_bundle: Path) -> None:
    ran = cli("profile", toy_bundle, "--json", "--no-layers", "--cold-starts", "0", *QUICK)
    assert ran.code == 0, ran.err
    (point,) = json.loads(ran.out)["points"]
    assert (point["layers"], point["cold_start"]) == (None, None)
    assert point["not_measured"]["layers"] == "not asked for (--layers)"
    assert point["not_measured"]["cold_start"] == "not asked for (--cold-starts)"


def test_a_sweep_has_a_row_for_each_point(cli: Cli, toy_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep.json"
    ran = cli("profile", toy_bundle, "--sweep", "--batch", "1,2,99", "--out", out, *QUICK)
    assert ran.code == 0, ran.err
    assert "single-stream, onnxruntime fp32 on cpu, threads: 1, length 0.5s\n" in ran.out
    header, rows = ran.out.split("p50 ms (95 %)")
    assert header.rstrip().endswith("batch   queries")
    assert [line.split()[0] for line in rows.splitlines()[2:4]] == ["1", "2"]
    assert "refused: scenario single-stream, threads 1, batch 99: x: expected batch in 1..16, received 99" in ran.out
    again = cli("profile", toy_bundle, "--sweep", "--batch", "1,2,99", "--out", out, "--resume", *QUICK)
    assert again.err.count("is there already") == 3
    assert again.out == ran.out


def test_scenarios_stand_side_by_side(cli: Cli, toy_bundle: Path) -> None:
    server = ("--qps", "50", "--latency-bound", "1000")
    ran = cli(
        "profile", toy_bundle, "--scenario", "offline,server", "--no-layers", "--cold-starts", "0", *server, *QUICK
    )
    assert ran.code == 0, ran.err
    assert "scenario server, threads 1: p99 at most 1000 ms: not resolved (100.0 % of the queries keep it)" in ran.out


def test_another_models_sizes_are_asked_for(cli: Cli, toy_bundle: Path) -> None:
    file = toy_bundle / open_bundle(toy_bundle).graph().artifacts[0].file
    ran = cli("profile", file, *QUICK)
    assert (ran.code, ran.out) == (2, "")
    assert "error: expected a size for every dynamic axis of x: float32[batch, time]; received none" in ran.err
    assert ran.err.endswith("hint:  --dim time=SIZE\n")
    ran = cli("profile", file, "--dim", "time=8000", *QUICK)
    assert ran.code == 2
    assert ran.err.endswith("hint:  --value x_lens=300, or --data FILE.npz\n")
    options = ("--dim", "time=8000", "--value", "x_lens=8000", "--batch", "2", "--cold-starts", "0")
    ran = cli("profile", file, *options, *QUICK)
    assert ran.code == 0, ran.err
    assert "x: float32[2, 8000], normal, seed 0" in ran.out
    assert "onnxruntime as in the file on cpu" in ran.out


WRONG = {
    "--batch 1,2": "expected one value for --batch, received several",
    "--batch one": "expected whole numbers of 1 or more for --batch, received 'one'",
    "--threads 0": "expected whole numbers of 1 or more for --threads, received '0'",
    "--resume": "expected --out with --resume, received none",
    "--scenario batch": "expected a scenario among single-stream, multi-stream, offline, server, all; received 'batch'",
    "--scenario server": "expected a rate of queries and a bound of their latency for the scenario server",
    "--duration 0": "a time and a rate above 0",
    "--set speed=1": "expected one of model, graph,",
    "--set harness=loadgem": "harness: expected 'auto' or 'loadgen' or 'edgekit', received 'loadgem'",
    "--out .": "expected a file for --out, received the folder .",
    "--batch ,": "expected a value, or several as 1,8; received ','",
    "--batch 99999999999999999999": "expected batch from 1 to 1e+09, received 1e+20",
    "--duration 1e10": "expected duration_s from 0 to 1e+06, received 1e+10",
    "--duration nan": "expected duration_s from 0 to 1e+06, received nan",
    "--set warm_up_limit_s=inf": "expected warm_up_limit_s from 0 to 1e+06, received inf",
    "--set cold_starts=-2": "expected cold_starts from 0 to 1e+09, received -2",
    "--set threads=0": "expected threads from 1 to 1e+09, received 0",
    "--set median_width=-1": "expected median_width from 0 to 1e+09, received -1",
}


@pytest.mark.parametrize("options", WRONG)
def test_wrong_usage_is_told_before_anything_runs(cli: Cli, toy_bundle: Path, options: str) -> None:
    ran = cli("profile", toy_bundle, *options.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert WRONG[options] in ran.err
    assert "loading" not in ran.err


def test_what_cannot_run_here_is_an_error_with_its_remedy(cli: Cli, toy_bundle: Path, tmp_path: Path) -> None:
    ran = cli("profile", toy_bundle, "--precision", "fp16", *QUICK)
    assert (ran.code, ran.out) == (1, "")
    assert "holds no fp16 artifact of graph 'infer' for any backend" in ran.err
    assert "hint:  edgekit inspect" in ran.err
    ran = cli("profile", tmp_path / "model.pt")
    assert ran.code == 2
    assert "expected a bundle's folder or a file with a suffix among .onnx" in ran.err
