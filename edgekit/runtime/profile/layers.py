"""How long each node of a graph takes, in a session and a pass of its own: measuring it makes every node slower."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import BackendError, UnavailableError
from edgekit.runtime.backends.base import Session, SessionOptions
from edgekit.runtime.session import CheckedSession

_MIN_RUNS, _MAX_RUNS, _BUDGET_S = 3, 20, 2.0
_MODULES_KNOWN = 0.5
_HOLDING = ("Loop", "If", "Scan", "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch")
"""Operators with a graph inside, ONNX's and ONNX Runtime's own."""


@dataclass(frozen=True)
class Layer:
    """One node of the graph as the library executes it.

    Attributes:
        type: the operator.
        module: the path of the module that it comes from; None where its name does not tell.
        kernel: what executed it, in the library's words.
        ms: of one run, the mean.
    """

    name: str
    type: str
    module: str | None
    kernel: str
    ms: float


@dataclass(frozen=True)
class LayerTimes:
    """Every node's time.

    Attributes:
        source: what measured it.
        run_ms: of one whole run in this pass, the mean, with what measuring costs.
    """

    source: str
    num_runs: int
    run_ms: float
    layers: tuple[Layer, ...]

    @property
    def sum_ms(self) -> float:
        return sum(layer.ms for layer in self.layers)

    def by_type(self) -> list[dict[str, Any]]:
        """`name`, `ms`, `share` of the sum, `num_nodes`, the longest first."""
        return self._grouped(lambda layer: layer.type)

    def by_module(self) -> list[dict[str, Any]] | None:
        """The same by module; None where the names of most of the time tell of none."""
        known = sum(layer.ms for layer in self.layers if layer.module is not None)
        if known < _MODULES_KNOWN * self.sum_ms or not self.layers:
            return None
        return self._grouped(lambda layer: layer.module or "(unknown)")

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "num_runs": self.num_runs,
            "run_ms": self.run_ms,
            "sum_ms": self.sum_ms,
            "by_type": self.by_type(),
            "by_module": self.by_module(),
            "nodes": [asdict(layer) for layer in self.layers],
        }

    def _grouped(self, key: Callable[[Layer], str]) -> list[dict[str, Any]]:
        found: dict[str, list[float]] = defaultdict(list)
        for layer in self.layers:
            found[key(layer)].append(layer.ms)
        total = self.sum_ms or 1.0
        rows = [
            {"name": name, "ms": sum(times), "share": sum(times) / total, "num_nodes": len(times)}
            for name, times in found.items()
        ]
        return sorted(rows, key=lambda row: (-row["ms"], row["name"]))


@dataclass(frozen=True)
class Timeable:
    """What it takes to open a graph once more."""

    files: Sequence[Path]
    session: Session | CheckedSession
    options: SessionOptions
    arrays: Mapping[str, np.ndarray]


def time_layers(what: Timeable | None) -> LayerTimes:
    """Measure every node.

    Raises:
        UnavailableError: the backend does not tell, or this is a whole task.
        BackendError: the backend fails.
    """
    if what is None:
        raise UnavailableError("layers are measured of a graph, and this is a task", hint="leave out --task")
    if what.session.backend == "openvino":
        return _by_openvino(what)
    if what.session.backend == "onnxruntime" and what.session.device == "cpu":
        return _by_onnxruntime(what)
    where = f"{what.session.backend} on {what.session.device}"
    raise UnavailableError(f"layers are measured on ONNX Runtime's and OpenVINO's CPU, not on {where}")


def _by_onnxruntime(what: Timeable) -> LayerTimes:
    from edgekit.runtime.backends import onnxruntime as backend

    with tempfile.TemporaryDirectory(prefix="edgekit-layers-") as folder:
        options = replace(what.options, device="cpu")
        session, _ = backend.load(what.files[0], options, node_times=Path(folder, "nodes"))
        try:
            num_runs, _ = _repeat(lambda: session.run(None, dict(what.arrays)))
            written = session.end_profiling()
        except backend.errors() as error:
            raise backend.refused("ONNX Runtime cannot run the graph", error) from error
        events = json.loads(Path(written).read_text(encoding="utf-8", errors="replace"))
    return layers_of_onnxruntime(events, num_runs)


def layers_of_onnxruntime(events: Sequence[Mapping[str, Any]], num_runs: int) -> LayerTimes:
    """What its profiling file holds of the last `num_runs` runs; times there are whole microseconds.

    A node with a graph inside, as a loop, holds the time of the nodes inside, which are named as well: those that began
    within it are left out.
    """
    runs = sorted((e for e in events if e.get("name") == "model_run"), key=lambda e: e["ts"])[-num_runs:]
    if not runs:
        raise BackendError("expected runs in ONNX Runtime's profiling file, received none")
    begun = runs[0]["ts"]
    times: dict[tuple[str, str, str], float] = defaultdict(float)
    end = -1.0
    nodes = (e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time") and e["ts"] >= begun)
    for event in sorted(nodes, key=lambda e: (e["ts"], -e["dur"])):
        if event["ts"] + event["dur"] <= end:
            continue
        arguments = event["args"]
        if arguments["op_name"] in _HOLDING:
            end = event["ts"] + event["dur"]
        name = event["name"].removesuffix("_kernel_time")
        times[name, arguments["op_name"], arguments.get("provider", "")] += event["dur"]
    layers = tuple(
        Layer(name, kind, module_of(name), kernel, total / 1e3 / len(runs))
        for (name, kind, kernel), total in times.items()
    )
    run_ms = sum(run["dur"] for run in runs) / 1e3 / len(runs)
    return LayerTimes("ONNX Runtime's profiling file", len(runs), run_ms, layers)


def _by_openvino(what: Timeable) -> LayerTimes:
    from edgekit.runtime.backends import openvino as backend
    from edgekit.runtime.padding import pad_to_grid

    compiled, _ = backend.load(what.files, replace(what.options, device=what.session.device), node_times=True)
    request = compiled.create_infer_request()
    arrays, _ = pad_to_grid(what.session.signature, what.arrays)
    times: dict[tuple[str, str, str], float] = defaultdict(float)

    def run() -> None:
        request.infer(arrays, share_inputs=True)

    def read() -> None:
        for node in request.profiling_info:
            if node.status == node.Status.EXECUTED:
                times[node.node_name, node.node_type, node.exec_type] += node.real_time.total_seconds() * 1e3

    try:
        num_runs, run_ms = _repeat(run, read)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO cannot run the graph: {error}") from error
    layers = tuple(
        Layer(name, kind, module_of(name), kernel, total / num_runs) for (name, kind, kernel), total in times.items()
    )
    return LayerTimes("OpenVINO's profiling_info", num_runs, run_ms, layers)


def _repeat(run: Callable[[], object], read: Callable[[], None] = lambda: None) -> tuple[int, float]:
    """Run for a while, after some runs that do not count: how many counted, and the mean time of one in ms."""
    for _ in range(_MIN_RUNS):
        run()
    num_runs, spent_s = 0, 0.0
    while num_runs < _MIN_RUNS or (num_runs < _MAX_RUNS and spent_s < _BUDGET_S):
        before = time.perf_counter()
        run()
        spent_s += time.perf_counter() - before
        num_runs += 1
        read()
    return num_runs, spent_s / num_runs * 1e3


def module_of(name: str) -> str | None:
    """The path of the module that a node's name begins with; None where it has no such beginning.

    edgekit's exports call a node `encoder.blocks.0.attention/MatMul_3`, torch's older exporter
    `/encoder/blocks.0/attention/MatMul_3`. What a library's fusions add comes after the operator.
    """
    parts = [part for part in name.split("/") if part]
    operator = next((place for place, part in enumerate(parts) if re.fullmatch(r"[A-Z]\w*", part)), len(parts) - 1)
    module = ".".join(parts[:operator])
    # what torch calls nodes that belong to no module
    return None if module.startswith("_empty_nn_module_stack") else module or None
