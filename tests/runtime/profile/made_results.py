"""Results as docs/profile.schema.json describes them, with figures that are made up and therefore known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.devices.percentiles import describe

MODEL = {
    "kind": "bundle",
    "path": "models/small",
    "sha256": "ab" * 32,
    "num_bytes": 1_000_000,
    "graph": "infer",
    "family": "toy",
    "variant": "tiny",
    "task": "speech-recognition",
    "weights": "random",
}


def latencies(num: int = 500, *, ms: float = 10.0, seed: int = 0) -> np.ndarray:
    """As those of a quiet machine: most alike, a few slow; float64 [num]."""
    random = np.random.default_rng(seed)
    return ms * (1 + 0.05 * random.gamma(2.0, size=num)) * np.where(random.random(num) < 0.01, 2.0, 1.0)


def recording(num: int = 0, **sensors: Any) -> dict[str, Any]:
    """Of `num` samples, ten a second; `sensors` as in the schema."""
    return {
        "total": "VDD_IN" if "power_mw" in sensors else None,
        "not_measured": {} if sensors else {"power": "no sensor", "temperature": "no zone", "clocks": "no clock"},
        "warnings": [],
        "t_s": [round(0.1 * index, 4) for index in range(num)],
        "power_mw": {},
        "energy_j": {},
        "temperature_c": {},
        "clock_mhz": {},
        "throttled": [None] * num,
        **sensors,
    }


def layers(module: str = "encoder.blocks") -> dict[str, Any]:
    """Two operators in three blocks."""
    nodes = [(f"{module}.{block}", kind, ms) for block in range(3) for kind, ms in (("MatMul", 2.0), ("Add", 0.5))]
    by_type = [
        {"name": k, "ms": 3 * ms, "share": 3 * ms / 7.5, "num_nodes": 3} for k, ms in (("MatMul", 2), ("Add", 0.5))
    ]
    by_module = [{"name": f"{module}.{block}", "ms": 2.5, "share": 1 / 3, "num_nodes": 2} for block in range(3)]
    told = [{"name": f"{m}/{k}", "type": k, "module": m, "kernel": "CPU", "ms": ms} for m, k, ms in nodes]
    sums = {"run_ms": 8.0, "sum_ms": 7.5}
    return {
        "source": "a made-up pass",
        "num_runs": 20,
        **sums,
        "by_type": by_type,
        "by_module": by_module,
        "nodes": told,
    }


def energy(item_j: float) -> dict[str, Any]:
    each = {"energy_j": item_j, "above_idle_j": None}
    whole = {"energy_j": 500 * item_j, "above_idle_j": None}
    power = {"measured_by": "VDD_IN", "idle_power_mw": None, "mean_power_mw": 5000.0}
    return {**power, **whole, "per_item": each, "per_audio_s": None}


def cold_start(*total_s: float) -> dict[str, Any]:
    names = ("interpreter_s", "import_s", "load_s", "first_inference_s", "total_s")
    medians = {name: float(np.median(total_s)) for name in names}
    return {"num_processes": len(total_s), **medians, "samples": {name: list(total_s) for name in names}}


def point(samples_ms: np.ndarray | None = None, **changes: Any) -> dict[str, Any]:
    """A measured point of single-stream, unless `changes` say otherwise; those of `asked` and `session` are merged."""
    samples = latencies() if samples_ms is None else samples_ms
    asked = {
        "scenario": "single-stream",
        "backend": None,
        "precision": None,
        "threads": 1,
        "batch": None,
        "length": None,
    }
    asked |= changes.pop("asked", {})
    session = {
        "backend": asked["backend"] or "onnxruntime",
        "version": "1.20.0",
        "device": "cpu",
        "precision": asked["precision"] or "fp32",
        "computed_in": asked["precision"] or "fp32",
        "num_threads": asked["threads"],
        "load_s": 0.3,
    } | changes.pop("session", {})
    batch, audio_s = asked["batch"] or 1, float((asked["length"] or "3s").removesuffix("s"))
    offline = asked["scenario"] == "offline"
    seconds = float(samples[-1] if offline else samples.sum()) / 1e3
    scenario = {
        "name": asked["scenario"],
        "harness": "edgekit",
        "duration_s": 10.0,
        "min_queries": 1,
        "items_per_call": batch,
        "items_per_query": 8,
        "num_workers": 1,
        "qps": 1.0,
        "seed": 0,
        "median_width": None,
        "num_queries": 1 if offline else len(samples),
        "num_calls": len(samples),
        "seconds": seconds,
        "bound": None,
        "loadgen": None,
    } | changes.pop("load", {})
    distribution = None if offline else describe(samples)
    throughput = len(samples) * batch / seconds
    made = {
        "asked": asked,
        "state": "measured",
        "reason": None,
        "hint": None,
        "date": "2026-01-02T03:04:05+00:00",
        "load_before": [0.1, 0.1, 0.1],
        "load_after": [0.9, 0.5, 0.3],
        "session": session,
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": [batch, round(100 * audio_s), 80], "values": "normal, seed 0"}
        ],
        "items_per_call": batch,
        "audio_s": audio_s,
        "warm_up": {
            "steady": True,
            "rule": "a rule",
            "num_calls": 10,
            "seconds": 0.5,
            "first_ms": 20.0,
            "window_medians_ms": [10.0, 10.0],
        },
        "timing_overhead_us": 0.2,
        "scenario": scenario,
        "latency": None if distribution is None else distribution.to_json(),
        "throughput_per_s": throughput,
        "rtf": 1 / (throughput * audio_s),
        "memory": {"before_mib": 40.0, "loaded_mib": 80.0, "steady_mib": 90.0, "peak_mib": 100.0}
        | {"measured": "after the scenario", "gpu_mib": None},
        "layers": None,
        "warnings": [],
        "not_measured": {
            "energy": "no sensor of power",
            "layers": "not asked for (--layers)",
            "cold_start": "not asked for (--cold-starts)",
        },
        "samples_ms": [round(float(sample), 5) for sample in samples],
        "cold_start": None,
        "energy": None,
        "recording": recording(),
    }
    return {**made, **changes}


def refused(reason: str = "no such precision", **asked: Any) -> dict[str, Any]:
    """A point that could not be measured."""
    told = point(asked=asked)
    names = ("asked", "date", "load_before", "load_after")
    return {**{name: told[name] for name in names}, "state": "refused", "reason": reason, "hint": None}


def result(*points: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A result with these points; `machine`, `versions` and `model` are merged."""
    machine = {
        "cpu": "A CPU",
        "num_cpus": 4,
        "system": "Linux 6.1",
        "architecture": "x86_64",
        "jetson": None,
        "memory_mib": 8000,
        "gpus": [],
        "power_mode": None,
        "clocks": [],
    } | changes.pop("machine", {})
    versions = {"python": "3.11.0", "edgekit": "0.1.0", "numpy": "2.0.0"} | changes.pop("versions", {})
    return {
        "schema": 1,
        "kind": "edgekit-profile",
        "command": "edgekit profile models/small",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": machine,
        "versions": versions,
        "model": MODEL | changes.pop("model", {}),
        "settings": {},
        "points": list(points) or [point()],
        **changes,
    }


def write(path: Path, *points: dict[str, Any], **changes: Any) -> Path:
    """The same as a file."""
    path.write_text(json.dumps(result(*points, **changes)), encoding="utf-8")
    return path


def accuracy(path: Path, **changes: Any) -> Path:
    """What `edgekit benchmark asr --json` writes, as far as it is read."""
    made = {
        "benchmark": "asr",
        "command": "edgekit benchmark asr models/small recordings",
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {"cpu": "A CPU"},
        "versions": {"edgekit": "0.1.0"},
        "bundle": {"core_sha256": MODEL["sha256"]},
        "session": {"backend": "onnxruntime", "precision": "fp32", "device": "cpu"},
        "errors": {"wer": 0.1, "interval": [0.08, 0.12], "num_utterances": 100},
        "data": {"path": "recordings"},
        **changes,
    }
    path.write_text(json.dumps(made), encoding="utf-8")
    return path
