"""fp16 with its own rounding, by ONNX's reference evaluator: what no CPU engine here really does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper
from onnx.reference import ReferenceEvaluator

from edgekit.export.build import in_precision
from edgekit.export.export import ExportRequest, export
from edgekit.export.verify import TOLERANCES
from edgekit.train.family import families


@pytest.fixture(scope="module")
def waveform_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelProto]:
    """A small waveform model with a group norm, in fp32 and fp16."""
    folder: Path = tmp_path_factory.mktemp("fp16")
    bundle = export(ExportRequest("hubert", settings=families()["hubert"].small), folder / "bundle")
    source = bundle.checked(bundle.graph().artifacts[0].files[0])
    return {name: onnx.load(in_precision(source, name, folder / f"{name}.onnx")) for name in ("fp32", "fp16")}


def sound(seconds: int) -> dict[str, np.ndarray]:
    """Noise of unit variance, louder in low frequencies, as a normalised recording is."""
    random = np.random.default_rng(0)
    x = np.convolve(random.standard_normal(16000 * seconds), np.full(8, 8**-0.5), "same")
    return {"x": x[None].astype(np.float32), "x_lens": np.array([len(x)])}


def until(model: ModelProto, names: list[str]) -> ReferenceEvaluator:
    """The part of a graph that computes inner values, which become its outputs."""
    part = ModelProto()
    part.CopyFrom(model)
    last = max(index for index, node in enumerate(part.graph.node) if set(names).intersection(node.output))
    del part.graph.node[last + 1 :], part.graph.output[:]
    part.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return ReferenceEvaluator(part)


@pytest.mark.parametrize("seconds", [5, 10])
def test_a_group_norm_waveform_model_answers_as_in_fp32(waveform_models: dict[str, ModelProto], seconds: int) -> None:
    inputs = sound(seconds)
    expected, received = (
        ReferenceEvaluator(waveform_models[name]).run(None, inputs)[0].astype(np.float64) for name in ("fp32", "fp16")
    )
    signal = expected - expected.mean(1, keepdims=True)
    assert 0 < np.linalg.norm(received - expected) < TOLERANCES["fp16"].relative_rms / 3 * np.linalg.norm(signal)


@pytest.mark.parametrize("seconds", [5, 30])
def test_the_group_norm_sees_the_same_statistics(waveform_models: dict[str, ModelProto], seconds: int) -> None:
    nodes = list(waveform_models["fp32"].graph.node)
    root = next(index for index, node in enumerate(nodes) if node.op_type == "Sqrt")
    _, normed, *_ = (node.output[0] for node in nodes[root:] if node.op_type == "MatMul")  # the first is the offset
    names = [nodes[root].output[0], normed]
    (std, frames), (std16, frames16) = (
        until(waveform_models[name], names).run(None, sound(seconds)) for name in ("fp32", "fp16")
    )
    assert (frames.dtype, frames16.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(std16, std, rtol=2e-3)
    for array in (frames, frames16.astype(np.float32)):
        np.testing.assert_allclose(array.mean(-1), 0, atol=2e-2)
        np.testing.assert_allclose(array.std(-1), 1, atol=2e-2)
