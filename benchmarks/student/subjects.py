"""What is timed: from a waveform in memory to greedy CTC tokens, the same three steps for every model and backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.core.bundle import open_bundle
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.decode.ctc import greedy
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import normalise
from edgekit.runtime.session import open_session

Float32 = npt.NDArray[np.float32]

PEER_BLANK = 0
"""The label `<pad>`, CTC's blank in `transformers`."""


@dataclass(frozen=True)
class Answer:
    """Times of one recording, in milliseconds; `wall_ms` holds all three steps, of which two are told apart."""

    wall_ms: float
    cpu_ms: float
    features_ms: float
    decoding_ms: float
    num_tokens: int


@dataclass(frozen=True)
class Subject:
    """A model on a backend.

    Attributes:
        model: "optimum-base", "edgekit-base", "waveform" or "fbank".
        backend: "onnxruntime", "openvino" or "torch".
        features: a waveform [n] in [-1, 1] to the input of one item.
        infer: that input to scores [T, V] whose best are at most 0, as `greedy` wants them.
    """

    model: str
    backend: str
    precision: str
    features: Callable[[Float32], Float32]
    infer: Callable[[Float32], Float32]
    blank: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.backend} {self.precision}"

    def scores(self, wave: Float32) -> Float32:
        """`[T, V]` of a waveform, untimed."""
        return self.infer(self.features(wave))

    def answer(self, wave: Float32) -> Answer:
        """Recognise a waveform and take the times; CPU time is that of all threads of this process."""
        cpu_start = time.process_time_ns()
        start = time.perf_counter_ns()
        x = self.features(wave)
        computed = time.perf_counter_ns()
        scores = self.infer(x)
        inferred = time.perf_counter_ns()
        tokens = greedy(scores, self.blank)
        end = time.perf_counter_ns()
        cpu_end = time.process_time_ns()
        return Answer(
            wall_ms=(end - start) / 1e6,
            cpu_ms=(cpu_end - cpu_start) / 1e6,
            features_ms=(computed - start) / 1e6,
            decoding_ms=(end - inferred) / 1e6,
            num_tokens=len(tokens),
        )


def of_bundle(model: str, path: Path, backend: str, precision: str, num_threads: int) -> Subject:
    """A bundle as edgekit opens it, with the backend's settings that every user gets."""
    bundle = open_bundle(path)
    options = SessionOptions(device="cpu", precision=precision, num_threads=num_threads)
    session = open_session(bundle, backend=backend, options=options)

    def infer(x: Float32) -> Float32:
        outputs = session.run({"x": x[None], "x_lens": np.array([len(x)], np.int64)})
        scores: Float32 = outputs["log_probs"][0]
        return scores

    features = open_features(bundle.manifest.features)
    return Subject(model, backend, precision, features, infer, bundle.manifest.output["blank"])


def of_torch(model: str, family: str, checkpoint: Path | None, num_threads: int) -> Subject:
    """The family's torch module, run eagerly.

    Args:
        checkpoint: None: the default variant with random weights.
    """
    import torch

    from edgekit.train.family import find_family

    torch.set_num_threads(num_threads)
    found = find_family(family)
    if checkpoint is None:
        loaded = found.model.random_model(found.variant(None)[1], "ctc", 0)
    else:
        loaded = found.model.load_model(checkpoint, None, "ctc")[1]
    features = open_features(loaded.features)

    def infer(x: Float32) -> Float32:
        with torch.inference_mode():
            log_probs, _ = loaded.module(torch.from_numpy(x)[None], torch.tensor([len(x)]))
        scores: Float32 = log_probs[0].numpy()
        return scores

    return Subject(model, "torch", "fp32", features, infer, loaded.output["blank"])


def of_peer_onnxruntime(path: Path, num_threads: int, *, memory_pattern: bool = True, spinning: bool = True) -> Subject:
    """The peer's ONNX on ONNX Runtime with all graph optimisations, straight from its session."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.intra_op_num_threads = num_threads
    settings.enable_mem_pattern = memory_pattern
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def infer(x: Float32) -> Float32:
        return _best_at_zero(session.run(None, {"input_values": x[None]})[0][0])

    return Subject("optimum-base", "onnxruntime", "fp32", normalise, infer, PEER_BLANK)


def of_peer_openvino(path: Path, precision: str, num_threads: int) -> Subject:
    """The peer's ONNX as OpenVINO itself reads it, compiled as edgekit compiles its own."""
    import openvino

    config = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(num_threads),
    }
    core = openvino.Core()
    request: Any = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()

    def infer(x: Float32) -> Float32:
        logits: Float32 = request.infer({"input_values": x[None]}, share_inputs=True)["logits"][0]
        return _best_at_zero(logits)

    return Subject("optimum-base", "openvino", precision, normalise, infer, PEER_BLANK)


def _best_at_zero(logits: Float32) -> Float32:
    """The peer answers logits; the best symbol does not need their softmax, only `greedy` wants it at most 0."""
    scores: Float32 = logits - logits.max(axis=1, keepdims=True)
    return scores
