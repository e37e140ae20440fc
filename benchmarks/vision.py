"""Photographs to classes: edgekit against transformers' processor with torch, `torch.compile` and optimum's ONNX.

    python benchmarks/vision.py --data PHOTOS [--optimum-python PATH] [--out FILE.json] [--quick]

Decode, resize, infer and score, on ONNX Runtime and OpenVINO, with 1 and 2 threads: ResNet-50 with random weights and
EfficientNet-lite0 with those of its package, where that is installed. One process for each model and number of threads
holds all subjects and takes them in turns. optimum-onnx has an environment of its own (made and kept in the platform's
cache folder where none is given); of a network that it does not know, torch's own export stands in its place.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from shared.record import describe, load, record, write_result
from shared.worker import environment
from student.peer import make_environment
from vision.models import MODELS, Model, make_efficientnet, make_resnet
from vision.ratios import RULES, goals_of, report

from edgekit.runtime.features.picture import SUFFIXES

HERE = Path(__file__).parent
PACKAGES = ("edgekit", "numpy", "onnxruntime", "openvino", "pillow", "torch", "transformers")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--pictures", type=int, default=40, help="how many of them, in the order of their names")
    parser.add_argument("--rounds", type=int, default=40, help="of every model and number of threads")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="one after the other")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="which networks")
    parser.add_argument("--optimum-python", type=Path, help="the Python of an environment with optimum-onnx")
    parser.add_argument("--no-optimum", action="store_true", help="torch's own export in its place, everywhere")
    parser.add_argument("--out", type=Path, help="the result, default results/vision[-quick].json beside this")
    parser.add_argument("--quick", action="store_true", help="four pictures, one thread, few rounds: does it run?")
    arguments = parser.parse_args()
    threads, rounds, trial = ([1], 3, 2) if arguments.quick else (arguments.threads, arguments.rounds, 7)
    out = arguments.out or HERE / "results" / f"vision{'-quick' if arguments.quick else ''}.json"
    photographs = photographs_of(arguments.data, 4 if arguments.quick else arguments.pictures)

    result = record("vision", PACKAGES)
    result |= {"rules": RULES, "num_photographs": len(photographs)}
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        models = make_models(Path(folder), arguments)
        kept = ("name", "weights", "maker", "facts")
        result["models"] = [{name: getattr(model, name) for name in kept} for model in models]
        result |= {"load_before": load(), "cells": [], "goals": []}
        for model in models:
            for num_threads in threads:
                plan = {
                    "model": model.to_json(),
                    "num_threads": num_threads,
                    "photographs": [str(path) for path in photographs],
                    "num_rounds": rounds,
                    "num_trial_rounds": trial,
                }
                result["cells"].append(measure(plan, Path(folder)))
                result["goals"] += goals_of(result["cells"][-1])
                result["load_after"] = load()
                write_result(out, result)
    print(report(result["cells"], result["goals"]))
    say(describe(result))
    say(f"written to {out}")


def photographs_of(folder: Path, count: int) -> list[Path]:
    """The first photographs by name.

    Raises:
        SystemExit: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(SUFFIXES))
    if not found:
        raise SystemExit(f"expected photographs in {folder}, there are none")
    return found[:count]


def make_models(work: Path, arguments: argparse.Namespace) -> list[Model]:
    """All that is compared, exported now."""
    made = []
    for name in arguments.models:
        folder = work / name
        folder.mkdir()
        say(f"export {name}")
        if name == "resnet-50":
            python, why = None, "--no-optimum was given"
            if not arguments.no_optimum:
                python = arguments.optimum_python or make_environment(
                    user_cache_path("edgekit") / "benchmarks" / "optimum"
                )
            made.append(make_resnet(folder, python, why))
        else:
            made.append(make_efficientnet(folder))
    return made


def measure(plan: dict[str, Any], work: Path) -> dict[str, Any]:
    """One cell, in a process whose libraries find the number of threads in the environment."""
    path = work / "plan.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    command = [sys.executable, "-m", "vision.worker", str(path)]
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=environment(plan["num_threads"]), check=False
    )
    if ended.returncode:  # it has said why on standard error
        raise SystemExit(ended.returncode)
    cell: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return cell


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
