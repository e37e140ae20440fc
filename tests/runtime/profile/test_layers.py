"""Time by node, operator and module: what is read off ONNX Runtime's file, and of a real run of both libraries."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.core.errors import UnavailableError
from edgekit.runtime.profile.layers import layers_of_onnxruntime, module_of, time_layers
from edgekit.runtime.profile.model import open_subject

pytestmark = pytest.mark.device_side


def node(name: str, kind: str, ts: int, dur: int) -> dict[str, Any]:
    arguments = {"op_name": kind, "provider": "CPUExecutionProvider", "node_index": "1"}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "ph": "X", "args": arguments}


def run(ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "ph": "X", "args": {}}


def test_onnxruntimes_file_is_read_of_the_last_runs() -> None:
    events = [
        *(run(0, 9000), node("enc.0/MatMul_0", "MatMul", 10, 8000)),  # the first run, which does not count
        *(run(10_000, 100), node("enc.0/MatMul_0", "MatMul", 10_010, 40), node("enc.1/MatMul_0", "MatMul", 10_050, 20)),
        *(run(20_000, 300), node("enc.0/MatMul_0", "MatMul", 20_010, 60), node("enc.1/MatMul_0", "MatMul", 20_080, 40)),
        *(node("loop", "Loop", 20_120, 100), node("inner/Add_0", "Add", 20_130, 10)),
        node("after/Add_0", "Add", 20_220, 20),
    ]
    times = layers_of_onnxruntime(events, 2)
    assert (times.num_runs, times.run_ms) == (2, 0.2)
    assert {layer.name: layer.ms for layer in times.layers} == {
        "enc.0/MatMul_0": 0.05,
        "enc.1/MatMul_0": 0.03,
        "loop": 0.05,  # holds what is inside
        "after/Add_0": 0.01,
    }
    assert times.by_type() == [
        {"name": "MatMul", "ms": pytest.approx(0.08), "share": pytest.approx(0.08 / 0.14), "num_nodes": 2},
        {"name": "Loop", "ms": 0.05, "share": pytest.approx(0.05 / 0.14), "num_nodes": 1},
        {"name": "Add", "ms": 0.01, "share": pytest.approx(0.01 / 0.14), "num_nodes": 1},
    ]
    modules = times.by_module()
    assert modules is not None
    assert [(row["name"], row["num_nodes"]) for row in modules] == [
        ("(unknown)", 1),
        ("enc.0", 1),
        ("enc.1", 1),
        ("after", 1),
    ]


def test_a_search_of_onnxruntimes_own_holds_its_decoder() -> None:
    events = [run(0, 100), node("search", "BeamSearch", 1, 90), node("decoder/MatMul_0", "MatMul", 10, 40)]
    assert [layer.name for layer in layers_of_onnxruntime(events, 1).layers] == ["search"]


def test_without_names_there_are_no_modules() -> None:
    events = [run(0, 10), node("node_MatMul_3", "MatMul", 1, 8), node("a/Add_0", "Add", 9, 1)]
    assert layers_of_onnxruntime(events, 1).by_module() is None


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("encoder.blocks.0.attention/MatMul_3", "encoder.blocks.0.attention"),
        ("encoder.blocks.4/MatMul_13/MatmulTransposeFusion/", "encoder.blocks.4"),
        ("/encoder/blocks.0/fc/MatMul", "encoder.blocks.0.fc"),
        ("_empty_nn_module_stack_from_metadata_hook/Shape_0", None),
        ("node_MatMul_3", None),
        ("Multiply_5159", None),
        ("", None),
    ],
)
def test_modules_are_what_stands_before_the_operator(name: str, module: str | None) -> None:
    assert module_of(name) == module


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_real_run_is_told_by_operator(quick: Any, foreign: Any, backend: str) -> None:
    pytest.importorskip(backend)
    subject = open_subject(quick(foreign, backend=backend, values=("x_lens=16000",), shapes=("x=4x16000", "x_lens=4")))
    times = subject.layers()
    subject.close()
    assert times.num_runs >= 3
    assert times.sum_ms > 0
    assert {row["name"] for row in times.by_type()} & {"Conv", "Convolution"}
    assert times.by_module() is None  # its nodes are called by what they do alone
    assert all(layer.kernel and layer.ms >= 0 for layer in times.layers)


def test_an_export_of_ours_is_told_by_module(quick: Any) -> None:
    pytest.importorskip("onnxruntime")
    subject = open_subject(quick(length="40"))
    times = subject.layers()
    subject.close()
    modules = times.by_module()
    assert modules is not None
    assert {"encoder.blocks.0", "encoder.blocks.0.groups.0.attention"} <= {row["name"] for row in modules}
    assert sum(row["num_nodes"] for row in modules) == len(times.layers)
    assert sum(row["ms"] for row in modules) == pytest.approx(times.sum_ms)


def test_a_task_has_no_layers() -> None:
    with pytest.raises(UnavailableError, match="layers are measured of a graph"):
        time_layers(None)
