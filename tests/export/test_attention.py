"""Attention's forms in an ONNX file, each executed and held to torch's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import ExportError

onnx = pytest.importorskip("onnx", reason="writes graphs with the package onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="executes them")
torch = pytest.importorskip("torch", reason="is what they are held to")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from edgekit.export.attention import DOMAIN, add_functions, function_name, plain  # noqa: E402

Arrays = dict[str, np.ndarray]
Run = Callable[[onnx.ModelProto, Arrays], list[np.ndarray]]

SIZES = [(1, 8, 1, 5), (4, 16, 3, 7), (12, 64, 2, 33), (3, 24, 2, 1), (4, 16, 1, 1), (16, 80, 1, 12)]


def called(*sizes: tuple[int, int]) -> onnx.ModelProto:
    """A graph with a call per (number of heads, head size), as the exporter leaves it: no bodies yet."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("bias", float32, ["B", 1, 1, "T"])]
    outputs, nodes = [], []
    for index, (num_heads, head_dim) in enumerate(sizes):
        shape = ["B", "T", num_heads * head_dim]
        names = [f"{x}{index}" for x in "qkv"]
        inputs += [helper.make_tensor_value_info(name, float32, shape) for name in names]
        outputs.append(helper.make_tensor_value_info(f"out{index}", float32, shape))
        function = function_name(num_heads, head_dim)
        nodes.append(helper.make_node(function, [*names, "bias"], [f"out{index}"], domain=DOMAIN, name=f"call{index}"))
    graph = helper.make_graph(nodes, "attention", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def with_bodies(*sizes: tuple[int, int]) -> onnx.ModelProto:
    model = called(*sizes)
    add_functions(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def inputs_of(sizes: list[tuple[int, int]], num_items: int, num_frames: int, seed: int = 0) -> Arrays:
    """Queries and keys as far apart as a trained model's; the items have 1, 2, ... valid keys, the last one all."""
    random = np.random.default_rng(seed)
    bias = np.zeros((num_items, 1, 1, num_frames), np.float32)
    for item in range(num_items - 1):
        bias[item, ..., item + 1 :] = -1e4
    arrays = {"bias": bias}
    for index, (num_heads, head_dim) in enumerate(sizes):
        shape = (num_items, num_frames, num_heads * head_dim)
        arrays |= {f"{x}{index}": (2 * random.standard_normal(shape)).astype(np.float32) for x in "qkv"}
    return arrays


def torchs(arrays: Arrays, index: int, num_heads: int) -> np.ndarray:
    q, k, v = (torch.from_numpy(arrays[f"{x}{index}"]).unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in "qkv")
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=torch.from_numpy(arrays["bias"]))
    return out.transpose(1, 2).flatten(2).numpy()


def in_onnxruntime(model: onnx.ModelProto, arrays: Arrays) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, arrays)


def in_onnx(model: onnx.ModelProto, arrays: Arrays) -> list[np.ndarray]:
    """By ONNX's own evaluator, which knows no operator of com.microsoft."""
    return ReferenceEvaluator(model).run(None, arrays)


def in_openvino(model: onnx.ModelProto, arrays: Arrays) -> list[np.ndarray]:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    core = openvino.Core()
    fp32 = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", fp32)
    answers = compiled(arrays)
    return [answers[value.name] for value in model.graph.output]


FORMS = {
    "fused": (with_bodies, in_onnxruntime),
    "stand-in": (with_bodies, in_onnx),
    "plain": (lambda *sizes: plain(with_bodies(*sizes)), in_onnxruntime),
    "plain in OpenVINO": (lambda *sizes: plain(with_bodies(*sizes)), in_openvino),
}


@pytest.mark.parametrize(("num_heads", "head_dim", "num_items", "num_frames"), SIZES)
@pytest.mark.parametrize(("form", "run"), FORMS.values(), ids=FORMS)
def test_every_form_answers_as_torch(
    form: Callable[..., onnx.ModelProto], run: Run, num_heads: int, head_dim: int, num_items: int, num_frames: int
) -> None:
    arrays = inputs_of([(num_heads, head_dim)], num_items, num_frames)
    (received,) = run(form((num_heads, head_dim)), arrays)
    expected = torchs(arrays, 0, num_heads)
    np.testing.assert_allclose(received, expected, atol=2e-5, rtol=1e-4)
    if num_frames > 1 and num_items > 1:
        # item 0 has one valid key, so each of its frames is that key's value
        np.testing.assert_allclose(received[0], np.broadcast_to(arrays["v0"][0, :1], received[0].shape), atol=2e-5)


@pytest.mark.parametrize(("form", "run"), FORMS.values(), ids=FORMS)
def test_a_bias_of_any_size_is_added_to_the_scores(form: Callable[..., onnx.ModelProto], run: Run) -> None:
    arrays = inputs_of([(4, 16)], 2, 7)
    arrays["bias"] = np.random.default_rng(1).uniform(-4, 1, arrays["bias"].shape).astype(np.float32)
    (received,) = run(form((4, 16)), arrays)
    np.testing.assert_allclose(received, torchs(arrays, 0, 4), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("run", [in_onnxruntime, in_onnx])
def test_masked_keys_weigh_nothing(run: Run) -> None:
    arrays = inputs_of([(4, 16)], 3, 9)
    before = run(with_bodies((4, 16)), arrays)
    for name in ("k0", "v0"):
        for item in range(2):
            arrays[name][item, item + 1 :] = 50
    np.testing.assert_allclose(run(with_bodies((4, 16)), arrays)[0], before[0], atol=2e-5)


@pytest.mark.parametrize("run", [in_onnxruntime, in_onnx])
def test_heads_of_two_sizes_in_one_graph_are_scaled_each_by_its_own(run: Run) -> None:
    sizes = [(4, 16), (4, 32)]
    arrays = inputs_of(sizes, 2, 6)
    for index, received in enumerate(run(with_bodies(*sizes), arrays)):
        np.testing.assert_allclose(received, torchs(arrays, index, 4), atol=2e-5, rtol=1e-4)


def test_two_numbers_of_heads_are_refused() -> None:
    with pytest.raises(ExportError, match=r"expected one number of attention heads in a graph, received \[2, 4\]"):
        add_functions(called((4, 16), (2, 16)))


def test_a_graph_without_attention_gets_no_functions() -> None:
    model = called()
    add_functions(model)
    assert not model.functions
    assert plain(model) == model


def test_onnx_runtime_keeps_the_fused_operator(tmp_path: Path) -> None:
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    settings.log_severity_level = 3  # it warns that such a file fits this machine only
    content = with_bodies((4, 16), (4, 32)).SerializeToString()
    onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    found = Counter((node.domain, node.op_type) for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert found["com.microsoft", "MultiHeadAttention"] == 2
    assert not {"Softmax", "MatMul"} & {op_type for _, op_type in found}


def test_plain_is_a_flat_graph_of_standard_operators() -> None:
    model = with_bodies((4, 16), (4, 16), (4, 32))
    before = model.SerializeToString()
    flat = plain(model)
    onnx.checker.check_model(flat, full_check=True)
    assert not flat.functions
    assert [(entry.domain, entry.version) for entry in flat.opset_import] == [("", 18)]
    assert {node.domain for node in flat.graph.node} == {""}
    names = [node.name for node in flat.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert Counter(node.op_type for node in flat.graph.node)["Softmax"] == 3
    assert model.SerializeToString() == before


def test_plain_inlines_functions_of_others_too() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18, "theirs" : 1]>
        twice (float[N] x) => (float[N] y) { h = theirs.double(x)  y = theirs.double(h) }
        <domain: "theirs", opset_import: ["" : 18]>
        double (a) => (b) { b = Add(a, a) }
    """)
    flat = plain(model)
    assert not flat.functions
    assert [node.op_type for node in flat.graph.node] == ["Add", "Add"]
    assert len({node.name for node in flat.graph.node if node.name}) == 2
    assert in_onnxruntime(flat, {"x": np.float32([1, 2])})[0].tolist() == [4, 8]
