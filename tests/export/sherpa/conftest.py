"""A bundle that babbles: it hears something of each label in any speech, whole or by chunks, and needs no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgekit.core.bundle import Artifact, Bundle, Graph, Manifest, open_bundle
from edgekit.core.bundle_writer import BundleWriter, writing
from edgekit.core.reference import Reference
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.export.sherpa.symbols import FBANK, FRAME_S
from edgekit.runtime.chunks import InChunks
from edgekit.runtime.features.fbank import Fbank
from edgekit.runtime.samples import sample_clips

WINDOW, STRIDE = 7, 4
LABELS: dict[str, tuple[tuple[str, ...], str]] = {
    "letters": (("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"), "|"),
    "pieces": (("▁THE", "S", "▁", "<unk>", "▁A", "ING", "É", "▁É", "5", "<pad>"), "▁"),
    "spaced": ((*"abcdef", " ", "<blank>"), " "),
}
LEFT, LAYERS, UNITS, TAPS, CHANNELS = 10, 3, 4, 5, 6
"""What the graph for streams remembers; attention reaches further back than a chunk of 8 frames."""

Make = Callable[..., Bundle]


@pytest.fixture
def babbling(tmp_path: Path) -> Make:
    """`babbling("pieces")` or `babbling(labels, delimiter)`; `streams` adds a graph with state, `changes` replace
    the manifest's fields."""

    def make(
        labels: str | Sequence[str] = "letters", delimiter: str = "|", *, streams: bool = False, **changes: Any
    ) -> Bundle:
        if isinstance(labels, str):
            labels, delimiter = LABELS[labels]
        return write_babbling(tmp_path / "bundle", labels, delimiter, streams, changes)

    return make


@pytest.fixture
def files_of() -> Callable[..., tuple[Path, Path]]:
    """`files_of(path, graph)`: the model and tokens.txt."""

    def find(path: Path, graph: str = "infer") -> tuple[Path, Path]:
        model, tokens = (path / file.name for file in open_bundle(path).artifact(graph, "sherpa", "fp32").files)
        return model, tokens

    return find


@pytest.fixture
def replace_file() -> Callable[..., None]:
    """`replace_file(path, index, content, graph)`: give the sherpa artifact another file, as if it were built so."""

    def change(path: Path, index: int, content: bytes, graph: str = "infer") -> None:
        bundle = open_bundle(path)
        artifact = bundle.artifact(graph, "sherpa", "fp32")
        with writing(path) as writer:
            stored = list(artifact.files)
            stored[index] = writer.add_bytes(content, f"{graph}-sherpa-fp32", Path(stored[index].name).suffix)
            changed = bundle.graph(graph).with_artifact(replace(artifact, files=tuple(stored)))
            writer.commit(replace(bundle.manifest, graphs={**bundle.manifest.graphs, graph: changed}))

    return change


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """The sample clips and longer ones made of them, 1.6 to 18 s."""
    waves = [soundfile.read(clip, dtype="float32")[0] for clip in sample_clips()]
    clips = list(sample_clips())
    for repeats in (1, 2):
        longer = tmp_path / f"joined-{repeats}.wav"
        soundfile.write(longer, np.tile(np.concatenate(waves), repeats)[: 18 * 16000], 16000, subtype="FLOAT")
        clips.append(longer)
    return clips


@pytest.fixture
def run_edgekit() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_edgekit("inspect", path)`, in a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgekit", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def write_babbling(
    path: Path, labels: Sequence[str], delimiter: str, streams: bool, changes: Mapping[str, Any]
) -> Bundle:
    blank = next(i for i, label in enumerate(labels) if label in ("<pad>", "<blank>"))
    net = Babble(len(labels), blank)
    series = [Fbank(FBANK)(soundfile.read(clip, dtype="float32")[0]) for clip in sample_clips()]
    items = tuple({"x": x[None], "x_lens": np.array([len(x)])} for x in series)
    with writing(path) as writer:
        graphs, assets = {}, {"tokens": writer.add_bytes("\n".join(labels).encode() + b"\n", "tokens", ".txt")}
        for name, session in (("infer", net), ("stream", StreamingBabble(net))) if streams else (("infer", net),):
            whole = InChunks(session) if session.signature.state else session
            reference = Reference("synthesised", items, tuple(whole.run(item) for item in items))
            graphs[name] = graph_of(writer, name, session.signature, session.to_onnx())
            assets[f"reference-{name}"] = writer.add_bytes(reference.to_bytes(), f"reference-{name}", ".npz")
        fields: dict[str, Any] = {
            "family": "babbling",
            "variant": "tiny",
            "task": "speech-recognition",
            "config": {},
            "features": {"kind": "kaldi-fbank", **asdict(FBANK), "min_samples": 1040},
            "output": {"kind": "ctc", "blank": blank, "delimiter": delimiter, "frame_s": FRAME_S},
            "provenance": {"weights": {"source": "checkpoint", "name": "noise"}},
            "graphs": graphs,
            "assets": assets,
        }
        return writer.commit(Manifest(**{**fields, **changes}))


def graph_of(writer: BundleWriter, name: str, signature: Signature, onnx: bytes) -> Graph:
    file = writer.add_bytes(onnx, f"{name}-onnx-fp32", ".onnx")
    return Graph(signature, (Artifact("onnx", "fp32", (file,), reason="not executed"),))


class Babble:
    """One convolution of seven log-mel frames, by noise; in silence, where all else is even, the blank is best."""

    def __init__(self, num_labels: int, blank: int) -> None:
        rng = np.random.default_rng(0)
        kernel = rng.normal(0, 0.2, (num_labels, 80, WINDOW)).astype(np.float32)
        self.kernel = kernel - kernel.mean((1, 2), keepdims=True)
        self.flat = self.kernel.reshape(num_labels, -1).T.astype(np.float64)
        self.bias = np.where(np.arange(num_labels) == blank, 1, 0).astype(np.float32)
        time, batch = Dim("time", ((WINDOW, 100, 3000),)), Dim("batch", ((1, 1, 16),))
        self.signature = self.signature_of(batch, time, num_labels)

    @staticmethod
    def signature_of(batch: Dim, time: Dim, num_labels: int) -> Signature:
        frames = Derived("time", minus=WINDOW, over=STRIDE, plus=1)
        return Signature(
            (TensorSpec("x", "float32", (batch, time, 80)), TensorSpec("x_lens", "int64", (batch,), lengths_of=time)),
            (
                TensorSpec("log_probs", "float32", (batch, frames, num_labels)),
                TensorSpec("log_probs_lens", "int64", (batch,), lengths_of=frames),
            ),
        )

    def logits(self, x: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=1)[:, ::STRIDE]
        logits: np.ndarray = windows.astype(np.float64).reshape(*windows.shape[:2], -1) @ self.flat + self.bias
        return logits

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            "log_probs": log_softmax(self.logits(inputs["x"])),
            "log_probs_lens": (inputs["x_lens"] - WINDOW) // STRIDE + 1,
        }

    def nodes(self) -> tuple[list[Any], dict[str, np.ndarray]]:
        """Up to `logits` and `log_probs_lens`, and their constants."""
        from onnx import helper

        make = helper.make_node
        numbers = {name: np.array(number) for name, number in (("window", WINDOW), ("stride", STRIDE), ("one", 1))}
        nodes = [
            make("Transpose", ["x"], ["x_BMF"], perm=[0, 2, 1]),
            make("Conv", ["x_BMF", "kernel", "bias"], ["logits_BVT"], strides=[STRIDE]),
            make("Transpose", ["logits_BVT"], ["logits"], perm=[0, 2, 1]),
            make("Sub", ["x_lens", "window"], ["past"]),
            make("Div", ["past", "stride"], ["hops"]),
            make("Add", ["hops", "one"], ["log_probs_lens"]),
        ]
        return nodes, {"kernel": self.kernel, "bias": self.bias, **numbers}

    def to_onnx(self) -> bytes:
        from onnx import helper

        nodes, constants = self.nodes()
        nodes.append(helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1))
        return model_of(nodes, constants, self.signature)


class StreamingBabble:
    """The same, which adds to each frame what it remembers: every number of it in another way."""

    def __init__(self, net: Babble) -> None:
        rng, num_labels = np.random.default_rng(1), len(net.bias)
        kv, gated = 2 * LAYERS * UNITS, LAYERS * CHANNELS

        def noise(into: int, out: int, size: float) -> np.ndarray:
            return (size * rng.normal(size=(into, out)) / into**0.5).astype(np.float32)

        self.net = net
        self.weights = {
            "to_keys_values": noise(num_labels, kv, 1),
            "to_gated": noise(num_labels, gated, 1),
            "of_keys_values": noise(LEFT * kv, num_labels, 0.3),
            "of_gated": noise(TAPS * gated, num_labels, 0.3),
            "of_count": noise(1, num_labels, 0.02),
        }
        batch, time = Dim("batch", ((1, 1, 16),)), Dim("time", ((WINDOW, 35, 35), (36, 67, 131)))
        whole = Babble.signature_of(batch, time, num_labels)
        shapes = {"kv": (batch, LEFT, LAYERS, 2, UNITS), "conv": (batch, TAPS, LAYERS, CHANNELS)}
        memory = [TensorSpec(name, "float32", shape) for name, shape in shapes.items()]
        memory.append(TensorSpec("so_far", "int64", (batch,)))
        after = tuple(replace(spec, name=f"{spec.name}_after") for spec in memory)
        self.signature = Signature(
            (*whole.inputs, *memory),
            (*whole.outputs, *after),
            tuple((old.name, new.name) for old, new in zip(memory, after)),
        )

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        w, h, batch = self.weights, self.net.logits(inputs["x"]), len(inputs["x"])
        lengths = (inputs["x_lens"] - WINDOW) // STRIDE + 1
        told = inputs["kv"].reshape(batch, -1) @ w["of_keys_values"] + inputs["conv"].reshape(batch, -1) @ w["of_gated"]
        told = told + inputs["so_far"][:, None] * w["of_count"]
        new = {
            "kv": (h @ w["to_keys_values"]).reshape(batch, -1, *inputs["kv"].shape[2:]),
            "conv": (h @ w["to_gated"]).reshape(batch, -1, *inputs["conv"].shape[2:]),
        }
        kept = {name: np.concatenate((inputs[name], new[name].astype(np.float32)), 1) for name in new}
        return {
            "log_probs": log_softmax(h + told[:, None]),
            "log_probs_lens": lengths,
            "kv_after": kept["kv"][:, -LEFT:],
            "conv_after": kept["conv"][:, -TAPS:],
            "so_far_after": np.minimum(inputs["so_far"] + lengths, LEFT),
        }

    def to_onnx(self) -> bytes:
        from onnx import helper

        make = helper.make_node
        nodes, constants = self.net.nodes()
        constants |= self.weights
        ends = {"start_kv": -LEFT, "start_conv": -TAPS, "end": 2**31, "time": 1}
        constants |= {name: np.array([number]) for name, number in ends.items()}
        constants |= {
            "kv_shape": np.array([0, -1, LAYERS, 2, UNITS]),
            "conv_shape": np.array([0, -1, LAYERS, CHANNELS]),
            "left": np.array(LEFT),
        }
        for name, of, to in (("kv", "of_keys_values", "to_keys_values"), ("conv", "of_gated", "to_gated")):
            nodes += [
                make("Flatten", [name], [f"{name}_flat"]),
                make("MatMul", [f"{name}_flat", of], [f"{name}_told"]),
                make("MatMul", ["logits", to], [f"{name}_new_flat"]),
                make("Reshape", [f"{name}_new_flat", f"{name}_shape"], [f"{name}_new"]),
                make("Concat", [name, f"{name}_new"], [f"{name}_all"], axis=1),
                make("Slice", [f"{name}_all", f"start_{name}", "end", "time"], [f"{name}_after"]),
            ]
        nodes += [
            make("Cast", ["so_far"], ["count"], to=1),
            make("Unsqueeze", ["count", "time"], ["count_B1"]),
            make("MatMul", ["count_B1", "of_count"], ["count_told"]),
            make("Sum", ["kv_told", "conv_told", "count_told"], ["told"]),
            make("Unsqueeze", ["told", "time"], ["told_B1V"]),
            make("Add", ["logits", "told_B1V"], ["with_memory"]),
            make("LogSoftmax", ["with_memory"], ["log_probs"], axis=-1),
            make("Add", ["so_far", "log_probs_lens"], ["so_far_more"]),
            make("Min", ["so_far_more", "left"], ["so_far_after"]),
        ]
        return model_of(nodes, constants, self.signature)


def model_of(nodes: Sequence[Any], constants: Mapping[str, np.ndarray], signature: Signature) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}

    def info(spec: TensorSpec) -> Any:
        axes = [f"{a.of}_out" if isinstance(a, Derived) else a.name if isinstance(a, Dim) else a for a in spec.shape]
        return helper.make_tensor_value_info(spec.name, types[spec.dtype], axes)

    graph = helper.make_graph(
        nodes,
        "babbling",
        [info(spec) for spec in signature.inputs],
        [info(spec) for spec in signature.outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    return model


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    log_probs: np.ndarray = (shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))).astype(np.float32)
    return log_probs
