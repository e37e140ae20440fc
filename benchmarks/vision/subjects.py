"""What is timed: from the bytes of a photograph to its five likeliest classes."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.models import Model, logits_of, preprocessing, torch_model

Float32 = npt.NDArray[np.float32]
TOP = 5


@dataclass(frozen=True)
class Subject:
    """One way to answer.

    Attributes:
        name: by whom, on what and in which precision, with spaces between.
        features: encoded bytes to pixels float32 [3, H, W]: decode, turn, resize, crop, normalise.
        logits: pixels to [K], untimed, to hold subjects to one another.
        answer: all of it, to the five likeliest classes' numbers or names; this is what is timed.
    """

    name: str
    features: Callable[[bytes], Float32]
    logits: Callable[[Float32], Float32]
    answer: Callable[[bytes], Any]

    def time(self, content: bytes) -> tuple[float, float]:
        """Wall and CPU milliseconds of one picture; CPU time is that of all threads of this process."""
        cpu_start, start = time.process_time_ns(), time.perf_counter_ns()
        self.answer(content)
        end, cpu_end = time.perf_counter_ns(), time.process_time_ns()
        return (end - start) / 1e6, (cpu_end - cpu_start) / 1e6


def of_bundle(model: Model, backend: str, precision: str, num_threads: int) -> Subject:
    """A bundle as users get it: `edgekit.load(bundle).classify(picture)`."""
    import edgekit

    task = edgekit.load(model.bundle, backend=backend, device="cpu", precision=precision, num_threads=num_threads)

    def answer(content: bytes) -> Any:
        return task.classify(content, top=TOP, allow_random_weights=True)

    def logits(pixels: Float32) -> Float32:
        found: Float32 = task.session.run({"pixels": pixels[None]})["logits"][0]
        return found

    return Subject(f"edgekit {backend} {precision}", task.pixels, logits, answer)


def of_torch(model: Model, num_threads: int, *, compiled: bool = False, channels_last: bool = False) -> Subject:
    """transformers' processor and the torch module of the same weights.

    Args:
        compiled: by `torch.compile`, with static shapes and frozen weights; else eager.
        channels_last: weights and pixels in that order in memory, which torch advises for convolutions.
    """
    import torch
    import torch._inductor.config

    torch.set_num_threads(num_threads)
    if model.checkpoint is None:
        module = torch_model(model.weights != "random").module
    else:
        from transformers import ResNetForImageClassification
        from transformers.utils import logging

        logging.disable_progress_bar()
        module = ResNetForImageClassification.from_pretrained(model.checkpoint).eval()
    order = torch.channels_last if channels_last else torch.contiguous_format
    called = module.to(memory_format=order)
    if compiled:
        torch._inductor.config.freezing = True
        called = torch.compile(called, dynamic=False)

    def logits(pixels: Float32) -> Float32:
        with torch.inference_mode():
            given = torch.from_numpy(pixels)[None].to(memory_format=order)
            found: Float32 = logits_of(called(given))[0].numpy()
        return found

    return _peer(f"torch {'compiled' if compiled else 'eager'} fp32", model, logits)


def of_peer_onnxruntime(
    model: Model, num_threads: int, *, memory_pattern: bool = True, spinning: bool = True
) -> Subject:
    """transformers' processor and the peer's file on ONNX Runtime with all graph optimisations."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.intra_op_num_threads = num_threads
    settings.enable_mem_pattern = memory_pattern
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    session = onnxruntime.InferenceSession(model.peer, settings, providers=["CPUExecutionProvider"])

    def logits(pixels: Float32) -> Float32:
        found: Float32 = session.run(["logits"], {model.peer_input: pixels[None]})[0][0]
        return found

    return _peer(f"{model.maker} onnxruntime fp32", model, logits)


def of_peer_openvino(model: Model, num_threads: int, precision: str = "fp32") -> Subject:
    """The same file as OpenVINO reads it, with its hint for latency."""
    import openvino

    config = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(num_threads),
    }
    core = openvino.Core()
    request: Any = core.compile_model(core.read_model(Path(model.peer)), "CPU", config).create_infer_request()

    def logits(pixels: Float32) -> Float32:
        found: Float32 = request.infer({model.peer_input: pixels[None]}, share_inputs=True)["logits"][0].copy()
        return found

    return _peer(f"{model.maker} openvino {precision}", model, logits)


def _peer(name: str, model: Model, logits: Callable[[Float32], Float32]) -> Subject:
    """As examples of transformers have it: Pillow opens, its processor makes pixels, softmax and the best five."""
    from PIL import Image, ImageOps
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    processor = BitImageProcessorPil(**preprocessing(model.bundle))

    def features(content: bytes) -> Float32:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
        found: Float32 = processor(image, return_tensors="np")["pixel_values"][0]
        return found

    def answer(content: bytes) -> Any:
        scores = logits(features(content)).astype(np.float64)
        powers = np.exp(scores - scores.max())
        best = np.argsort(-powers, kind="stable")[:TOP]
        return [(int(index), float(powers[index] / powers.sum())) for index in best]

    return Subject(name, features, logits, answer)
