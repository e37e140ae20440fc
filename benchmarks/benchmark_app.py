"""The median latency that `edgekit profile` tells of a model on OpenVINO against that of OpenVINO's own benchmark_app.

    python benchmarks/benchmark_app.py BUNDLE [--rounds 10] [--seconds 5] [--json FILE]

Each is a process of its own, on one thread, one request at a time, in an order that turns around each round; BUNDLE
is what `edgekit export disconformer` makes, and is given 5 s. Beside them a bare loop around OpenVINO's Python
binding, which like edgekit hands the inputs over at each call, where benchmark_app sets them once. Goal: the ratios
of the medians within 0.97 to 1.03.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from shared.interval import median_interval
from shared.record import describe, load, record, write_result

FRAMES = 500
RATIO = (0.97, 1.03)
BARE_LOOP = """
import sys, time
import numpy as np, openvino
given = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
request = openvino.Core().compile_model(sys.argv[1], "CPU", given).create_infer_request()
inputs, times_s = dict(np.load(sys.argv[2])), []
for _ in range(20):
    request.infer(inputs, share_inputs=True, share_outputs=True)
until_s = time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < until_s:
    began_s = time.perf_counter()
    request.infer(inputs, share_inputs=True, share_outputs=True)
    times_s.append(time.perf_counter() - began_s)
print(1e3 * np.median(times_s))
"""
SUBJECTS = ("benchmark_app", "bare_loop", "edgekit")


def write_inputs(folder: Path) -> None:
    """The same for both: lengths beyond the recording would leave one of them a model that masks differently."""
    inputs = {
        "x": np.random.default_rng(0).standard_normal((1, FRAMES, 80), np.float32),
        "x_lens": np.array([FRAMES], np.int64),
    }
    np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type]
    for name, array in inputs.items():
        np.save(folder / f"{name}.npy", array)


def by_edgekit(model: Path, inputs: Path, seconds: int) -> float:
    """Milliseconds."""
    options = ("--data", str(inputs / "inputs.npz"), "--backend", "openvino", "--threads", "1")
    options += ("--duration", f"{seconds}", "--cold-starts", "0", "--no-layers", "--json")
    told = json.loads(_run([sys.executable, "-m", "edgekit", "profile", str(model), *options]))
    return float(next(one["value"] for one in told["points"][0]["latency"]["percentiles"] if one["q"] == 50))


def by_benchmark_app(model: Path, inputs: Path, seconds: int) -> float:
    """Milliseconds."""
    options = (
        "-i",
        f"x:{inputs / 'x.npy'},x_lens:{inputs / 'x_lens.npy'}",
        "-data_shape",
        f"x[1,{FRAMES},80],x_lens[1]",
    )
    options += ("-hint", "none", "-api", "sync", "-nstreams", "1", "-nthreads", "1", "-t", f"{seconds}")
    options += ("-infer_precision", "f32")  # else it computes in bf16, where the processor can
    app = Path(sys.executable).parent / "benchmark_app"
    told = _run([str(app), "-m", str(model), *options])
    found = re.search(r"Median: +([0-9.]+) ms", told)
    if found is None:
        raise SystemExit(f"expected a median of benchmark_app, received:\n{told[-2000:]}")
    return float(found[1])


def by_bare_loop(model: Path, inputs: Path, seconds: int) -> float:
    """Milliseconds."""
    return float(_run([sys.executable, "-c", BARE_LOOP, str(model), str(inputs / "inputs.npz"), str(seconds)]))


def _run(command: list[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-2000:]}")
    return ended.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="of edgekit export disconformer")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=5, help="of each process")
    parser.add_argument("--json", type=Path, help="also write the result here")
    given = parser.parse_args()

    found = list(given.bundle.glob("infer-onnx-*.onnx"))
    if len(found) != 1:
        parser.error(f"expected one infer-onnx-*.onnx in {given.bundle}, received {len(found)}")
    (model,) = found
    result = record("benchmark_app", ("edgekit", "openvino"))
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder)
        write_inputs(inputs)
        for turn in range(given.rounds):
            measure = {"benchmark_app": by_benchmark_app, "bare_loop": by_bare_loop, "edgekit": by_edgekit}
            subjects = SUBJECTS[::-1] if turn % 2 else SUBJECTS
            rounds.append({each: round(measure[each](model, inputs, given.seconds), 4) for each in subjects})
            print(rounds[-1], flush=True)
    result |= {"load_after": load(), "median_ms": rounds, "ratios": {}}
    for subject, reference in (("edgekit", "benchmark_app"), ("edgekit", "bare_loop"), ("bare_loop", "benchmark_app")):
        ratio = median_interval([each[subject] / each[reference] for each in rounds])
        verdict = ratio.verdict(at_least=RATIO[0], at_most=RATIO[1])
        result["ratios"][f"{subject}/{reference}"] = ratio.to_json() | {"verdict": verdict}
        print(f"median of {subject} / {reference}: {ratio.text(4)} {verdict}")
    print(describe(result))
    if given.json:
        write_result(given.json, result)


if __name__ == "__main__":
    main()
