"""The file for streams: memory as a Zipformer's, chunks of one size, the same answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import ExportError
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.export.build import Request, build
from edgekit.export.sherpa.online import InWindows, online_of
from edgekit.export.sherpa.symbols import symbols_of
from edgekit.export.verify import load_reference

onnx = pytest.importorskip("onnx", reason="writes graphs with the package onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
device_side = pytest.mark.device_side

Make = Callable[..., Bundle]
Find = Callable[..., tuple[Path, Path]]
LEFT, LAYERS, UNITS, TAPS, CHANNELS = 10, 3, 4, 5, 6


@device_side
def test_the_file_has_a_zipformers_memory_and_says_so(babbling: Make, files_of: Find) -> None:
    path = babbling(streams=True).path
    _, artifact = build(path, Request("sherpa"))
    assert artifact.details == {"model_type": "zipformer2", "num_symbols": 29, "chunk_s": 0.32}
    model = onnx.load(files_of(path, "stream")[0])
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "model_type": "zipformer2",
        "version": "1",
        "model_author": "edgekit",
        "comment": "babbling tiny",
        "vocab_size": "29",
        "T": "35",
        "decode_chunk_len": "32",
        "encoder_dims": str(CHANNELS),
        "query_head_dims": str(UNITS),
        "value_head_dims": str(UNITS),
        "num_heads": "1",
        "num_encoder_layers": str(LAYERS),
        "cnn_module_kernels": str(2 * TAPS),
        "left_context_len": str(LEFT),
    }
    layer = {
        "cached_key": [LEFT, "batch", UNITS],
        "cached_nonlin_attn": [1, "batch", LEFT, 3 * CHANNELS // 4],
        "cached_val1": [LEFT, "batch", UNITS],
        "cached_val2": [LEFT, "batch", UNITS],
        "cached_conv1": ["batch", CHANNELS, TAPS],
        "cached_conv2": ["batch", CHANNELS, TAPS],
    }
    memory = {f"{name}_{i}": shape for i in range(LAYERS) for name, shape in layer.items()}
    memory["embed_states"] = ["batch", 128, 3, 19]
    counts = [("so_far", ["batch"]), ("so_far_after", ["batch"])]
    assert shapes(model.graph.input) == [("x", ["batch", 35, 80]), *memory.items(), counts[0]]
    after = [(f"new_{name}", shape) for name, shape in memory.items()]
    assert shapes(model.graph.output) == [("log_probs", ["batch", 8, 29]), *after, counts[1]]
    assert (model.ir_version, len(model.functions), [entry.domain for entry in model.opset_import]) == (8, 0, [""])


@device_side
def test_what_a_zipformer_alone_remembers_flows_through(babbling: Make, files_of: Find) -> None:
    path = babbling(streams=True).path
    build(path, Request("sherpa"))
    session = onnxruntime.InferenceSession(files_of(path, "stream")[0])
    rng = np.random.default_rng(0)
    feed: dict[str, np.ndarray] = {
        value.name: rng.normal(size=[2 if axis == "batch" else axis for axis in value.shape]).astype(np.float32)
        for value in session.get_inputs()[:-1]
    }
    feed["so_far"] = np.array([3, 0])
    answers = dict(zip([value.name for value in session.get_outputs()], session.run(None, feed)))
    for name in feed:
        if name.startswith(("cached_nonlin_attn", "cached_val2", "cached_conv2", "embed_states")):
            assert np.array_equal(answers[f"new_{name}"], feed[name])
    for i in range(LAYERS):  # a chunk of 8 frames replaces all but two of the oldest, and all of the convolution's
        for kind in ("key", "val1"):
            old, new = feed[f"cached_{kind}_{i}"], answers[f"new_cached_{kind}_{i}"]
            assert np.array_equal(new[:2], old[8:])
            assert not np.isin(new[2:], old).any()
    assert answers["so_far_after"].tolist() == [10, 8]


@device_side
def test_each_stream_of_a_batch_is_as_it_would_be_alone(babbling: Make, files_of: Find) -> None:
    path = babbling("pieces", streams=True).path
    build(path, Request("sherpa"))
    bundle = open_bundle(path)
    graph = bundle.graph("stream")
    online, symbols = online_of(graph.signature), symbols_of(bundle, graph)
    runs = InWindows(Runs(files_of(path, "stream")[0], online.signature(symbols)), online, symbols)
    reference = load_reference(bundle, "stream")
    xs = [item["x"][:, : online.heard(151)] for item in reference.inputs]
    assert xs[0].shape[1] == 35 + 3 * 32
    lengths = np.full(len(xs), xs[0].shape[1])
    together = runs.run({"x": np.concatenate(xs), "x_lens": lengths})["log_probs"]
    for x, found, answer in zip(xs, together, reference.outputs):
        alone = runs.run({"x": x, "x_lens": lengths[:1]})
        assert alone["log_probs_lens"].tolist() == [32]
        assert found == pytest.approx(alone["log_probs"][0], abs=1e-5)
        assert found == pytest.approx(symbols.fold(answer["log_probs"][0, :32]), abs=1e-3)


@device_side
def test_windows_are_decoded_when_a_step_more_is_there(babbling: Make) -> None:
    online = online_of(babbling(streams=True).graph("stream").signature)
    assert [online.heard(size) for size in (0, 34, 35, 36, 67, 68, 99, 100)] == [0, 0, 0, 35, 35, 67, 67, 99]
    assert online.silence == 67 * 160


@device_side
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("kv", (LEFT, LAYERS, 3, UNITS)),
        ("kv", (LEFT, LAYERS + 1, 2, UNITS)),
        ("kv", (LEFT, LAYERS, UNITS)),
        ("conv", (TAPS, LAYERS, 1)),
        ("conv", (TAPS, LAYERS * CHANNELS)),
    ],
)
def test_another_memory_is_refused(babbling: Make, name: str, shape: tuple[int, ...]) -> None:
    signature = babbling(streams=True).graph("stream").signature
    batch = signature.batch

    def other(spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=(batch, *shape)) if spec.name in (name, f"{name}_after") else spec

    changed = Signature(tuple(map(other, signature.inputs)), tuple(map(other, signature.outputs)), signature.state)
    with pytest.raises(ExportError, match="expected a graph that remembers") as caught:
        online_of(changed)
    assert f"{name}: float32[batch, {', '.join(map(str, shape))}]" in caught.value.message


@device_side
@pytest.mark.parametrize("over", [2, 4], ids=["other steps", "no frames"])
def test_chunks_that_sherpa_onnx_does_not_count_are_refused(babbling: Make, over: int) -> None:
    signature = babbling(streams=True).graph("stream").signature
    time = Dim("time", ((7, 35, 131),)) if over == 2 else Dim("time", ((7, 8, 131),))
    frames = Derived("time", minus=7 if over == 2 else 30, over=over, plus=1)

    def other(spec: TensorSpec) -> TensorSpec:
        axes: dict[type, Any] = {Dim: time, Derived: frames}
        shape = tuple(axes[type(a)] if isinstance(a, (Dim, Derived)) and str(a) != "batch" else a for a in spec.shape)
        lengths = None if spec.lengths_of is None else axes[type(spec.lengths_of)]
        return replace(spec, shape=shape, lengths_of=lengths)

    changed = Signature(tuple(map(other, signature.inputs)), tuple(map(other, signature.outputs)), signature.state)
    with pytest.raises(ExportError, match="a frame for each 4 steps" if over == 2 else "expected chunks of 7 to 131"):
        online_of(changed)


class Runs:
    """A file by ONNX Runtime."""

    def __init__(self, model: Path, signature: Signature) -> None:
        self._session, self.signature = onnxruntime.InferenceSession(model), signature

    def run(self, inputs: Any) -> dict[str, np.ndarray]:
        names = [spec.name for spec in self.signature.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs))))


def shapes(values: Any) -> list[tuple[str, list[int | str]]]:
    return [
        (value.name, [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim])
        for value in values
    ]
