"""HuBERT Base against its students, and edgekit's export of Base against optimum's: latency on the CPU.

    python benchmarks/hubert_student.py [--optimum-python PATH] [--out FILE.json] [--quick] [--profile]

From a float32 waveform in memory to greedy CTC tokens, features and decoding included, on ONNX Runtime and OpenVINO;
torch eager beside them. 1, 5, 10 and 20 s of speech, 1 and 2 threads. One process per number of threads holds all
subjects and takes them in turns. The peer is optimum-onnx, in an environment of its own (made and kept in the
platform's cache folder where none is given), with the same random weights as ours and the fastest of its settings.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from shared.record import load, record, write_result
from student.goals import goals_of, rows_of
from student.peer import export_peer, make_checkpoint, make_environment
from student.tables import report
from student.worker import Plan

from edgekit.export.build import Request, build
from edgekit.export.export import ExportRequest, export

HERE = Path(__file__).parent
PACKAGES = ("edgekit", "numpy", "onnxruntime", "openvino", "torch", "transformers")
ROUNDS = {1: 40, 5: 20, 10: 13, 20: 9}
"""By seconds of audio."""
TRIAL = (5, 7)
QUICK_ROUNDS = {1: 8}
QUICK_TRIAL = (1, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--optimum-python", type=Path, help="the Python of an environment with optimum-onnx")
    parser.add_argument("--out", type=Path, help="the result, default results/hubert_student[-quick].json beside this")
    parser.add_argument("--quick", action="store_true", help="1 s of audio, one thread, few rounds: does it run?")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts, one after the other")
    parser.add_argument("--short", action="store_true", help="half the rounds, at least 7")
    parser.add_argument("--profile", action="store_true", help="also time the fbank student's operators at 20 s")
    arguments = parser.parse_args()

    out = arguments.out or HERE / "results" / f"hubert_student{'-quick' if arguments.quick else ''}.json"
    rounds, trial, threads = (QUICK_ROUNDS, QUICK_TRIAL, [1]) if arguments.quick else (ROUNDS, TRIAL, arguments.threads)
    if arguments.short:
        rounds = {audio_s: max(7, num_rounds // 2) for audio_s, num_rounds in rounds.items()}
    result = record("hubert_student", PACKAGES)
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        work = Path(folder)
        models, result["peer"] = make_models(work, arguments.optimum_python)
        result |= {"load_before": load(), "setups": [], "rows": [], "goals": [], "cells": []}
        for num_threads in threads:
            measure(Plan(num_threads, **models, rounds=rounds, trial=trial), work, result, out)
        if arguments.profile:
            say("profiling the fbank student at 20 s")
            with start_module("student.profiling", models["bundles"]["fbank"], 1) as process:
                result["profile"] = json.loads(process.communicate()[0])
            ended(process)
    result["load_after"] = load()
    write_result(out, result)
    print(report(result))
    say(f"written to {out}")


def make_models(work: Path, python: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """All that is compared, exported now: paths by `Plan`'s fields, and what to record of the peer."""
    if python is None:
        folder = user_cache_path("edgekit") / "benchmarks" / "optimum"
        say(f"the peer's environment: {folder}")
        python = make_environment(folder)
    checkpoint = work / "checkpoint"
    say("HuBERT Base, random weights")
    make_checkpoint(checkpoint)
    say("export by optimum")
    peer, facts = export_peer(python, checkpoint, work / "optimum")
    bundles = {}
    for model, request in (
        ("edgekit-base", ExportRequest("hubert", str(checkpoint))),
        ("waveform", ExportRequest("hubert-student", variant="deep-thin-waveform")),
        ("fbank", ExportRequest("hubert-student", variant="deep-thin-fbank")),
    ):
        say(f"export by edgekit: {model}")
        path = export(request, work / model).path
        build(path, Request("openvino"))
        bundles[model] = str(path)
    models = {
        "checkpoint": str(checkpoint),
        "bundles": bundles,
        "peer": {level: str(path) for level, path in peer.items()},
    }
    return models, facts


def measure(plan: Plan, work: Path, result: dict[str, Any], out: Path) -> None:
    """Run one worker, and write the result anew after each of its cells."""
    path = work / f"plan-{plan.num_threads}.json"
    path.write_text(plan.to_json(), encoding="utf-8")
    with start_module("student.worker", path, plan.num_threads) as process:
        assert process.stdout is not None
        for line in process.stdout:
            kind, content = next(iter(json.loads(line).items()))
            result[f"{kind}s"].append(content)
            result |= {"rows": rows_of(result["cells"]), "goals": goals_of(result["cells"]), "load_after": load()}
            write_result(out, result)
    ended(process)


def start_module(name: str, argument: Path | str, num_threads: int) -> subprocess.Popen[str]:
    """A module of this folder in a process of its own; NumPy's BLAS, used by features and decoding, has one thread."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
        "OMP_NUM_THREADS": str(num_threads),
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": str(num_threads),
    }
    command = [sys.executable, "-m", name, str(argument)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def ended(process: subprocess.Popen[str]) -> None:
    """Raise SystemExit where a worker failed; it has said why on standard error."""
    if process.returncode:
        raise SystemExit(process.returncode)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
