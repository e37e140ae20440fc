"""From a torch module to ONNX: names, axes and operators are what the signature and the module say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import ExportError
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec

torch = pytest.importorskip("torch", reason="exports modules of torch")
onnx = pytest.importorskip("onnx", reason="reads what was written")
onnxruntime = pytest.importorskip("onnxruntime", reason="executes it")

from torch import Tensor, nn  # noqa: E402

from edgekit.export.onnx import example_inputs, export_onnx  # noqa: E402
from edgekit.train.layers.attention import attend  # noqa: E402

BATCH, TIME = Dim("batch", ((1, 1, 8),)), Dim("time", ((4, 10, 16), (17, 20, 32)))
FRAMES = Derived("time", minus=4, over=2, plus=1)


def signature(*outputs: TensorSpec) -> Signature:
    inputs = (TensorSpec("x", "float32", (BATCH, TIME, 6)), TensorSpec("n", "int64", (BATCH,), lengths_of=TIME))
    return Signature(inputs, outputs)


SIGNATURE = signature(
    TensorSpec("frames", "float32", (BATCH, FRAMES, 8)), TensorSpec("m", "int64", (BATCH,), lengths_of=FRAMES)
)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 8)

    def forward(self, h: Tensor, bias: Tensor) -> Tensor:
        h = self.norm(h)
        return h + self.up(attend(h, h, h, bias, 2, 0.0))


class Encoder(nn.Module):
    """Two blocks of one class, so that what is named by class alone is named twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 8, 4, stride=2)
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        h = self.conv(x.transpose(1, 2)).transpose(1, 2)
        m = (n - 4) // 2 + 1
        bias = torch.where(torch.arange(h.shape[1])[None] < m[:, None], 0.0, -1e4)[:, None, None]
        for block in self.blocks:
            h = block(h, bias)
        return h, m


class Answering(nn.Module):
    """Answers with what a function makes of `x`, after a layer of weights."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.answer = answer

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        return self.answer(self.layer(x)), n


@pytest.fixture(scope="module")
def module() -> Encoder:
    torch.manual_seed(0)
    return Encoder().eval()


@pytest.fixture(scope="module")
def exported(module: Encoder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return path, export_onnx(module, SIGNATURE, path)


@pytest.fixture(scope="module")
def model(exported: tuple[Path, dict[str, int]]) -> onnx.ModelProto:
    return onnx.load(exported[0])


def test_inputs_outputs_and_axes_have_the_names_of_the_signature(model: onnx.ModelProto) -> None:
    def described(values: list[onnx.ValueInfoProto]) -> dict[str, list[object]]:
        return {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
        }

    assert described(model.graph.input) == {"x": ["batch", "time", 6], "n": ["batch"]}
    assert described(model.graph.output) == {"frames": ["batch", "time_out", 8], "m": ["batch"]}


def test_the_file_holds_no_inferred_shapes_and_nothing_of_this_machine(model: onnx.ModelProto) -> None:
    assert not model.graph.value_info
    assert not [*model.metadata_props, *model.graph.metadata_props]
    assert not [node.name for node in model.graph.node if node.metadata_props or node.doc_string]
    assert __file__.encode() not in model.SerializeToString()


def test_nodes_are_named_by_module_and_differ(model: onnx.ModelProto) -> None:
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"conv/Conv_0", "blocks.0.norm/LayerNormalization_0", "blocks.1.norm/LayerNormalization_0"} <= set(names)
    assert {"blocks.0/attention_2x4_0", "blocks.1/attention_2x4_0"} <= set(names)


def test_operators_are_whole_and_counted(model: onnx.ModelProto, exported: tuple[Path, dict[str, int]]) -> None:
    operators = [node.op_type for node in model.graph.node]
    assert exported[1] == {name: operators.count(name) for name in sorted(set(operators))}
    assert exported[1]["LayerNormalization"] == 2
    assert exported[1]["attention_2x4"] == 2
    assert not {"Pow", "ReduceMean", "Sqrt", "Softmax"} & set(operators)


@pytest.mark.parametrize(("num_items", "num_steps"), [(1, 4), (1, 32), (2, 17), (8, 5), (3, 16)])
def test_it_answers_as_the_module_at_every_size(
    module: Encoder, exported: tuple[Path, dict[str, int]], num_items: int, num_steps: int
) -> None:
    random = np.random.default_rng(num_steps)
    x = random.standard_normal((num_items, num_steps, 6)).astype(np.float32)
    n = random.integers(4, num_steps + 1, num_items)
    frames, m = onnxruntime.InferenceSession(exported[0]).run(None, {"x": x, "n": n})
    with torch.no_grad():
        expected, expected_m = module(torch.from_numpy(x), torch.from_numpy(n))
    np.testing.assert_allclose(frames, expected.numpy(), atol=1e-5, rtol=1e-4)
    assert m.tolist() == expected_m.tolist()
    assert frames.shape == SIGNATURE.output_shape(SIGNATURE.outputs[0], {"batch": num_items, "time": num_steps})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda h: h + torch.ones(10, 1),
            r"torch cannot export Answering: (.|\n)*static shape of 10 .*\['x'\].shape\[1\]",
        ),
        (lambda h: h.reshape(2, -1, 6), r"expected y: .*\[batch, .*, the exporter fixed an axis to 2"),
        (lambda h: h[..., :5], r"expected y: .*time, 6\], the graph has a fixed axis of 5"),
        (lambda h: h if float(h.sum()) > 0 else -h, "torch cannot export Answering: "),
    ],
    ids=["time", "batch", "width", "values decide"],
)
def test_a_module_that_does_not_fit_its_signature_is_refused(tmp_path: Path, answer: object, message: str) -> None:
    outputs = (TensorSpec("y", "float32", (BATCH, TIME, 6)), TensorSpec("n_out", "int64", (BATCH,)))
    with pytest.raises(ExportError, match=message) as caught:
        export_onnx(Answering(answer).eval(), signature(*outputs), tmp_path / "model.onnx")
    assert "\x1b" not in caught.value.message
    assert not (tmp_path / "model.onnx").exists()


def test_examples_fit_the_signature_and_hold_every_freedom_open() -> None:
    examples = example_inputs(SIGNATURE)
    assert SIGNATURE.check_inputs(examples) == {"batch": 2, "time": 10}
    assert examples["n"].tolist() == [10, 7]
    assert np.std(examples["x"]) > 0.5
    again = example_inputs(SIGNATURE)
    assert all(np.array_equal(examples[name], again[name]) for name in examples)


def test_examples_of_a_graph_without_batch_or_lengths() -> None:
    step = Dim("step", ((1, 3, 5),))
    free = Signature((TensorSpec("cache", "float32", (4, step)), TensorSpec("token", "int32", ())), ())
    examples = example_inputs(free)
    assert {name: (array.shape, array.dtype.name) for name, array in examples.items()} == {
        "cache": ((4, 3), "float32"),
        "token": ((), "int32"),
    }
    assert free.check_inputs(examples) == {"step": 3}
