"""Where the fbank student's time goes on ONNX Runtime: by operator, one thread, beside a bare matrix product.

Started by `hubert_student.py --profile` as `python -m student.profiling BUNDLE`; prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from edgekit.core.bundle import open_bundle
from edgekit.runtime.features import open_features
from student.turns import speech

AUDIO_S = 20
NUM_RUNS = 7
GEMMS = ((999, 480, 480), (1024, 1024, 1024))
"""[m, k] x [k, n]: the student's own at 20 s, and one that suits any BLAS."""

_KERNEL = "_kernel_time"


def profile_bundle(path: Path) -> dict[str, Any]:
    """Milliseconds and GFLOP/s per operator of one inference of 20 s, the median of the runs.

    The session has the settings of edgekit's backend.
    """
    bundle = open_bundle(path)
    x = open_features(bundle.manifest.features)(speech(AUDIO_S))
    feed = {"x": x[None], "x_lens": np.array([len(x)], np.int64)}
    settings = _settings()
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        file = bundle.checked(bundle.artifact("infer", "onnx", "fp32").files[0])
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        for _ in range(NUM_RUNS + 1):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = _split_runs(events)[1:]  # the first allocates
    return {
        "audio_s": AUDIO_S,
        "num_threads": 1,
        "model_run_ms": round(float(np.median([run["wall_ms"] for run in runs])), 3),
        "operators": _operators([run["nodes"] for run in runs]),
    }


def gemm_peaks() -> list[dict[str, Any]]:
    """GFLOP/s of bare products, best of many: NumPy's BLAS, and ONNX Runtime with a constant weight."""
    rows = []
    for m, k, n in GEMMS:
        random = np.random.default_rng(0)
        a, b = (random.standard_normal(shape, np.float32) for shape in ((m, k), (k, n)))
        out = np.empty((m, n), np.float32)
        session = _matmul_session(a, b)
        feed = {"a": a}
        gflop = 2 * m * k * n / 1e9
        rows.append(
            {
                "m_k_n": [m, k, n],
                "numpy_gflop_s": round(gflop / _best_s(lambda: np.matmul(a, b, out=out)), 1),  # noqa: B023  (called now)
                "onnxruntime_gflop_s": round(gflop / _best_s(lambda: session.run(None, feed)), 1),  # noqa: B023
            }
        )
    return rows


def _settings() -> onnxruntime.SessionOptions:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.enable_mem_pattern = False
    settings.intra_op_num_threads = 1
    return settings


def _matmul_session(a: np.ndarray, b: np.ndarray) -> onnxruntime.InferenceSession:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, a.shape)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [len(a), b.shape[1]])],
        [onnx.numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnxruntime.InferenceSession(model.SerializeToString(), _settings(), providers=["CPUExecutionProvider"])


def _best_s(call: Callable[[], object], budget_s: float = 1.0) -> float:
    times = []
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _split_runs(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per run its wall time in ms and its kernels' events; a run's event comes after those of its kernels."""
    runs, nodes = [], []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            nodes.append(event)
        elif event["name"] == "model_run":
            runs.append({"wall_ms": event["dur"] / 1e3, "nodes": nodes})
            nodes = []
    return runs


def _operators(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Slowest first: calls, median ms, share of the kernels' time and, of products, GFLOP and GFLOP/s."""
    times_ms: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(runs)))
    gflops: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for index, nodes in enumerate(runs):
        for node in nodes:
            times_ms[node["args"]["op_name"]][index] += node["dur"] / 1e3
    for node in runs[0]:
        calls[node["args"]["op_name"]] += 1
        gflops[node["args"]["op_name"]] += _gflop(node["args"])
    medians = {name: float(np.median(times)) for name, times in times_ms.items()}
    whole = sum(medians.values())
    return [
        {
            "operator": name,
            "calls": calls[name],
            "ms": round(ms, 3),
            "share": round(ms / whole, 4),
            "gflop": round(gflops[name], 3),
            "gflop_s": round(gflops[name] / ms * 1e3, 1),
        }
        for name, ms in sorted(medians.items(), key=lambda item: -item[1])
    ]


def _gflop(arguments: dict[str, Any]) -> float:
    """Of a kernel as it was called, from the shapes in the profile; 0 for all that is no product."""
    given, made = (_shapes(arguments[f"{side}_type_shape"]) for side in ("input", "output"))
    match arguments["op_name"]:
        case "MatMul" | "FusedMatMul" | "Gemm":
            # [.., m, k] or [.., k, m]: the weight may be prepacked and is not listed then
            return 2 * prod(given[0]) * made[0][-1] / 1e9
        case "Conv" | "FusedConv":
            return 2 * prod(made[0]) * prod(given[1][1:]) / 1e9
        case "MultiHeadAttention":
            (batch, num_queries, width), keys, values = given[:3]
            return 2 * batch * num_queries * keys[1] * (width + values[-1]) / 1e9
    return 0.0


def _shapes(entries: list[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for entry in entries for shape in entry.values()]


def main() -> None:
    profile = profile_bundle(Path(sys.argv[1]))
    print(json.dumps({**profile, "gemm": gemm_peaks()}))


if __name__ == "__main__":
    main()
