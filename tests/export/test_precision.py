"""Casting graphs, executed: fp16 by ONNX Runtime, bf16 by ONNX's own reference evaluator."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit.core.errors import ExportError, UsageError
from edgekit.export.graph_types import float_types, value_types
from edgekit.export.precision import cast_graph

LOW = {"fp16": "float16", "bf16": "bfloat16"}
ENCODER = """
<ir_version: 10, opset_import: ["" : 18]>
encoder (float[batch, time, 16] feats, int64[batch] lengths)
    => (float[batch, frames, 10] log_probs, int64[batch] out_lengths)
<int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64[1] axis = {1}, int64 zero = {0}, int64 step = {1}>
{
    inner = Sub (lengths, three)
    halves = Div (inner, two)
    out_lengths = Add (halves, one)
    channels = Transpose <perm = [0, 2, 1]> (feats)
    conv = Conv <strides = [2], group = 4> (channels, w_conv, b_conv)
    frames_first = Transpose <perm = [0, 2, 1]> (conv)
    x = LayerNormalization <axis = -1, epsilon = 0.00001> (frames_first, scale, shift)
    shape = Shape (x)
    num_frames = Gather <axis = 0> (shape, step)
    positions = Range (zero, num_frames, step)
    lengths_column = Unsqueeze (out_lengths, axis)
    valid = Less (positions, lengths_column)
    valid_rows = Unsqueeze (valid, axis)
    attend = Constant <value_float = 0.0> ()
    ignore = Constant <value_float = -10000.0> ()
    mask = Where (valid_rows, attend, ignore)
    q = MatMul (x, w_q)
    k = MatMul (x, w_k)
    v = MatMul (x, w_v)
    k_turned = Transpose <perm = [0, 2, 1]> (k)
    scores = MatMul (q, k_turned)
    masked = Add (scores, mask)
    attention = Softmax <axis = -1> (masked)
    mixed = MatMul (attention, v)
    residual = Add (x, mixed)
    y = LayerNormalization <axis = -1, epsilon = 0.00001> (residual, scale, shift)
    up = MatMul (y, w_up)
    wide = Add (up, b_up)
    root = Constant <value_float = 1.4142135> ()
    scaled = Div (wide, root)
    erf = Erf (scaled)
    half = Constant <value_float = 0.5> ()
    whole = Constant <value_float = 1.0> ()
    shifted = Add (erf, whole)
    gated = Mul (wide, shifted)
    gelu = Mul (gated, half)
    logits = MatMul (gelu, w_out)
    log_probs = LogSoftmax <axis = -1> (logits)
}
"""


def parse(text: str, **weights: np.ndarray) -> ModelProto:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.checker.check_model(model, full_check=True)
    return onnx.shape_inference.infer_shapes(model)  # with the types of inner values, which casting makes wrong


def graph(body: str, inputs: str = "float[N, 8] x", output: str = "float[N, 8] y", **weights: np.ndarray) -> ModelProto:
    return parse(f'<ir_version: 10, opset_import: ["" : 18]> g ({inputs}) => ({output}) {{ {body} }}', **weights)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / np.sqrt(shape[0], dtype=np.float32)


def encoder() -> ModelProto:
    weights = {name: noise(32, 32, seed=seed) for seed, name in enumerate(("w_q", "w_k", "w_v"))}
    weights |= {"w_conv": noise(32, 4, 3), "b_conv": noise(32), "scale": 1 + noise(32), "shift": noise(32)}
    return parse(ENCODER, **weights, w_up=noise(32, 64), b_up=noise(64), w_out=noise(64, 10))


def run(model: ModelProto, inputs: dict[str, np.ndarray]) -> list[Any]:
    """By ONNX Runtime, or by the reference where the graph holds bfloat16, for which the CPU has no kernels."""
    if any("bfloat16" in types for types in float_types(model).values()):
        if onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16) == np.float32:
            pytest.skip(f"the reference evaluator of onnx {onnx.__version__} computes without bfloat16")
        return list(ReferenceEvaluator(model).run(None, inputs))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def cast_checked(model: ModelProto, precision: str) -> ModelProto:
    """Cast, and hold the result to what every cast graph promises."""
    before = model.SerializeToString(deterministic=True)
    made = cast_graph(model, precision)  # type: ignore[arg-type]
    assert model.SerializeToString(deterministic=True) == before, "the source was changed"
    onnx.checker.check_model(made, full_check=True)
    assert [(i.name, i.type) for i in made.graph.input] == [(i.name, i.type) for i in model.graph.input]
    assert [(o.name, o.type.tensor_type.elem_type) for o in made.graph.output] == [
        (o.name, o.type.tensor_type.elem_type) for o in model.graph.output
    ]
    values = [name for node in made.graph.node for name in node.output if name]
    values += [tensor.name for tensor in made.graph.initializer] + [value.name for value in made.graph.input]
    assert max(Counter(values).values()) == 1
    assert max(Counter(node.name for node in made.graph.node).values()) == 1
    constants = {tensor.name for tensor in made.graph.initializer}
    casts = [(node.input[0], node.attribute[0].i) for node in made.graph.node if node.op_type == "Cast"]
    assert not constants.intersection(source for source, _ in casts), "a weight is cast at run time"
    assert max(Counter(casts).values(), default=1) == 1, "a Cast is made twice"
    return made


@pytest.mark.parametrize(("precision", "atol"), [("fp16", 5e-3), ("bf16", 0.1)])
@pytest.mark.parametrize(("batch", "time"), [(1, 9), (2, 30), (3, 101)])
def test_transformer_answers_as_in_fp32(precision: str, atol: float, batch: int, time: int) -> None:
    model = encoder()
    lengths = np.linspace(time, 5, batch).astype(np.int64)
    inputs = {"feats": 3 * noise(batch, time, 16), "lengths": lengths}
    expected, expected_lengths = run(model, inputs)
    log_probs, out_lengths = run(cast_checked(model, precision), inputs)
    assert log_probs.dtype == np.float32
    assert np.abs(log_probs - expected).max() < atol
    assert np.abs(log_probs - expected).max() > 0, "nothing was cast"
    assert out_lengths.tolist() == expected_lengths.tolist() == ((lengths - 3) // 2 + 1).tolist()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_only_products_and_their_followers_are_low(precision: str) -> None:
    model = encoder()
    found = float_types(cast_checked(model, precision))
    low = (LOW[precision],)
    for op in ("MatMul", "Conv", "Erf", "Div", "Mul", "Add"):
        assert found[op] == low, op
    for op in ("LayerNormalization", "Softmax", "LogSoftmax", "Where"):
        assert found[op] == ("float32",), op
    assert {types for op, types in float_types(model).items()} == {("float32",)}


def test_integers_and_booleans_are_untouched() -> None:
    model = encoder()
    before = value_types(model)
    after = value_types(cast_checked(model, "fp16"))
    exact = {name: of for name, of in before.items() if of in (TensorProto.INT64, TensorProto.BOOL)}
    assert len(exact) > 10
    assert exact.items() <= after.items()


def test_weights_are_rounded_to_nearest_even() -> None:
    weights = noise(64, 64)
    weights[0] = (np.arange(64, dtype=np.uint32) * 0x10000 + 0x3F808000).view(np.float32)  # halfway between two bf16
    model = graph("y = MatMul (x, w)", "float[N, 64] x", "float[N, 64] y", w=weights)
    half = numpy_helper.to_array(next(t for t in cast_checked(model, "fp16").graph.initializer if t.name == "w"))
    assert half.dtype == np.float16
    assert np.array_equal(half, weights.astype(np.float16))
    ml_dtypes = pytest.importorskip("ml_dtypes")
    tensor = next(t for t in cast_checked(model, "bf16").graph.initializer if t.name == "w")
    assert tensor.data_type == TensorProto.BFLOAT16
    assert tensor.raw_data == weights.astype(ml_dtypes.bfloat16).tobytes()


def test_bf16_raises_the_opset_only_where_an_operator_needs_it() -> None:
    def opset(model: ModelProto) -> int:
        return next(entry.version for entry in model.opset_import if entry.domain == "")

    assert opset(cast_checked(encoder(), "bf16")) == 22  # Conv takes no bfloat16 before
    assert opset(cast_checked(encoder(), "fp16")) == 18
    assert opset(cast_checked(graph("y = MatMul (x, w)", w=noise(8, 8)), "bf16")) == 18


def test_a_weight_of_two_precisions_is_stored_in_both() -> None:
    model = graph(
        "a = MatMul (x, w) b = Add (a, s) n = LayerNormalization (b, s) y = Add (n, s)", w=noise(8, 8), s=noise(8)
    )
    made = cast_checked(model, "fp16")
    stored = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert stored == {"w": TensorProto.FLOAT16, "s": TensorProto.FLOAT, "s_fp16": TensorProto.FLOAT16}


def test_an_output_that_is_used_inside_keeps_its_name_and_type() -> None:
    model = graph("y = MatMul (x, w) z = Relu (y)", output="float[N, 8] y, float[N, 8] z", w=noise(8, 8))
    inputs = {"x": noise(2, 8)}
    for made, expected in zip(run(cast_checked(model, "fp16"), inputs), run(model, inputs)):
        assert made.dtype == np.float32
        assert np.allclose(made, expected, atol=2e-3)


def test_a_weight_beyond_fp16_is_named() -> None:
    weights = noise(8, 8)
    weights[3, 3] = 7e4
    model = graph("y = MatMul (x, w)", w=weights)
    with pytest.raises(ExportError, match=r"65504.*MatMul.*\['w'\]") as caught:
        cast_graph(model, "fp16")
    assert caught.value.hint is not None
    assert "bf16" in caught.value.hint
    cast_checked(model, "bf16")


def test_a_mask_beyond_fp16_stays_fp32_up_to_the_softmax() -> None:
    model = graph(
        "off = Constant <value_float = -1e9> () on = Constant <value_float = 0.0> ()"
        "mask = Where (keep, on, off) s = MatMul (x, w) m = Add (s, mask) y = Softmax (m)",
        "float[N, 8] x, bool[8] keep",
        w=noise(8, 8),
    )
    made = cast_checked(model, "fp16")
    assert float_types(made)["Add"] == ("float32",)
    assert float_types(made)["MatMul"] == ("float16",)
    inputs = {"x": noise(3, 8), "keep": np.zeros(8, np.bool_)}
    assert np.allclose(run(made, inputs)[0], 1 / 8)  # in fp16 the scores would all be -inf, and this NaN


def test_an_epsilon_that_would_vanish_stays_fp32() -> None:
    model = graph(
        "h = MatMul (x, w) a = Abs (h) tiny = Constant <value_float = 1e-12> () b = Add (a, tiny) y = Div (h, b)",
        w=noise(8, 8),
    )
    inputs = {"x": np.zeros((2, 8), np.float32)}
    assert np.array_equal(run(cast_checked(model, "fp16"), inputs)[0], np.zeros((2, 8)))


def test_vanished_weights_are_counted() -> None:
    weights = noise(8, 8)
    weights[0, :5] = 1e-9
    made = cast_checked(graph("y = MatMul (x, w)", w=weights), "fp16")
    assert {p.key: p.value for p in made.metadata_props} == {"edgekit.precision": "fp16", "edgekit.num_flushed": "5"}


def test_a_normalisation_written_out_stays_fp32() -> None:
    model = graph(
        "h = MatMul (x, w) mean = ReduceMean (h, last) d = Sub (h, mean) two = Constant <value_float = 2.0> ()"
        "sq = Pow (d, two) var = ReduceMean (sq, last) eps = Constant <value_float = 1e-5> () sum = Add (var, eps)"
        "std = Sqrt (sum) n = Div (d, std) y = MatMul (n, w)",
        w=noise(8, 8),
        last=np.array([-1]),
    )
    found = float_types(cast_checked(model, "fp16"))
    assert found["MatMul"] == ("float16",)
    for op in ("ReduceMean", "Sub", "Pow", "Add", "Sqrt", "Div"):
        assert found[op] == ("float32",), op


def test_a_covariance_and_the_variance_made_of_it_stay_fp32() -> None:
    model = graph(
        "h = MatMul (x, w) t = Transpose (h) cov = MatMul (t, h) some = Div (cov, n) part = MatMul (w, some)"
        "v = Mul (part, w) var = ReduceSum (v, last) std = Sqrt (var) scaled = Div (w, std) y = MatMul (h, scaled)",
        w=noise(8, 8),
        n=np.float32(1000),
        last=np.array([-1]),
    )
    made = cast_checked(model, "fp16")
    types = value_types(made)
    low = {node.output[0].removesuffix("_fp16") for node in made.graph.node if node.op_type == "MatMul"}
    low = {name for name in low if types.get(name) != TensorProto.FLOAT or name == "y"}
    assert low == {"h", "y"}
    inputs = {"x": 100 * noise(5000, 8)}
    assert np.allclose(run(made, inputs)[0], run(model, inputs)[0], rtol=1e-2, atol=1)


@pytest.mark.parametrize(
    "body",
    [
        "p = MatMul (x, w) y = Sin (p)",
        "p = MatMul (x, w) s = Add (p, w) t = Transpose (s) u = Transpose (t) y = Cos (u)",
        "p = MatMul (x, w) floor = Constant <value_float = 0.0001> () c = Max (p, floor) y = Log (c)",
    ],
    ids=["angle", "angle after moves", "log of a power spectrum"],
)
def test_a_product_that_must_be_exact_stays_fp32(body: str) -> None:
    made = cast_checked(graph(body, "float[8, 8] x", "float[8, 8] y", w=noise(8, 8)), "fp16")
    assert float_types(made)["MatMul"] == ("float32",)


def test_data_moves_in_low_precision_where_only_products_want_it() -> None:
    model = graph(
        "n = LayerNormalization (x, s) t = Transpose (n) y = MatMul (w, t)",
        "float[8, 8] x",
        "float[8, 8] y",
        w=noise(8, 8),
        s=noise(8),
    )
    assert float_types(cast_checked(model, "fp16"))["Transpose"] == ("float16",)
    both = graph(
        "n = LayerNormalization (x, s) t = Transpose (n) m = MatMul (w, t) y = Softmax (t)",
        "float[8, 8] x",
        "float[8, 8] y, float[8, 8] m",
        w=noise(8, 8),
        s=noise(8),
    )
    assert float_types(cast_checked(both, "fp16"))["Transpose"] == ("float32",)


def test_local_functions_are_inlined() -> None:
    model = parse(
        """
        <ir_version: 10, opset_import: ["" : 18, "local" : 1]>
        g (float[N, 8] x) => (float[N, 8] y)
        { h = MatMul (x, w)  g1 = local.Gate <alpha = 0.5> (h)  y = local.Twice (g1) }
        <domain: "local", opset_import: ["" : 18]>
        Gate <alpha> (a) => (b) { half = Constant <value_float: float = @alpha> ()  e = Erf (a)  b = Mul (half, e) }
        <domain: "local", opset_import: ["" : 18, "local" : 1]>
        Twice (a) => (b) { c = local.Gate <alpha = 2.0> (a)  b = Softmax (c) }
        """,
        w=noise(8, 8),
    )
    made = cast_checked(model, "fp16")
    assert not made.functions
    assert float_types(made)["Erf"] == ("float16",)
    inputs = {"x": noise(2, 8)}
    assert np.allclose(run(made, inputs)[0], run(model, inputs)[0], atol=2e-3)


def test_nodes_without_a_name_and_of_one_name_are_told_apart() -> None:
    model = graph("a = MatMul (x, w) b = MatMul (a, w) y = MatMul (b, w)", w=noise(8, 8))
    for node, name in zip(model.graph.node, ("twin", "twin", "")):
        node.name = name
    names = [node.name for node in cast_checked(model, "fp16").graph.node if node.op_type == "MatMul"]
    assert names[0] == "twin"
    assert "" not in names


def test_names_that_are_taken_are_avoided() -> None:
    model = graph("x_fp16 = Relu (x) h = MatMul (x, w) y = Add (h, x_fp16)", w=noise(8, 8))
    inputs = {"x": noise(2, 8)}
    assert np.allclose(run(cast_checked(model, "fp16"), inputs)[0], run(model, inputs)[0], atol=2e-3)


def test_control_flow_is_refused_by_name() -> None:
    model = graph(
        "y = If (go) <then_branch = t () => (float[N, 8] a) { a = Identity (x) },"
        " else_branch = e () => (float[N, 8] b) { b = Neg (x) }>",
        "float[N, 8] x, bool go",
    )
    model.graph.node[0].name = "choice"
    with pytest.raises(ExportError, match=r"'choice' \(If\) holds a subgraph"):
        cast_graph(model, "fp16")


def test_an_operator_without_a_schema_is_refused_by_name() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18, "other" : 1]>'
        "g (float[N, 8] x) => (float[N, 8] y) { a = other.Blur (x) y = Relu (a) }"
    )
    with pytest.raises(ExportError, match=r"'a', the output of .*\(Blur\)"):
        cast_graph(model, "fp16")


def test_what_cannot_be_cast_is_refused() -> None:
    model = graph("y = MatMul (x, w)", w=noise(8, 8))
    with pytest.raises(UsageError, match="fp16 or bf16, received 'int8'"):
        cast_graph(model, "int8")  # type: ignore[arg-type]
    model.opset_import[0].version = 17
    with pytest.raises(ExportError, match="opset 18 or later, received opset 17"):
        cast_graph(model, "fp16")
    model.opset_import[0].version = 18
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ExportError, match="'w' is in another file"):
        cast_graph(model, "fp16")


def test_contradicting_types_are_told() -> None:
    model = graph("y = MatMul (x, w)", w=noise(8, 8))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ExportError, match="contradict each other"):
        value_types(model)


@pytest.fixture(scope="module")
def exported() -> ModelProto:
    """Two post-LN layers with a masking bias, a grouped positional convolution and GELU, out of torch's exporter."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from torch import nn

    class Layer(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, size: int) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
            self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
            self.norms = nn.ModuleList([nn.LayerNorm(size) for _ in range(2)])

        def forward(self, x: Any, bias: Any) -> Any:
            batch, frames, size = x.shape
            q, k, v = (h.view(batch, frames, 4, size // 4).transpose(1, 2) for h in self.qkv(x).chunk(3, -1))
            weights = torch.softmax(q @ k.transpose(-1, -2) * (size // 4) ** -0.5 + bias, -1)
            x = self.norms[0](x + self.out((weights @ v).transpose(1, 2).reshape(batch, frames, size)))
            return self.norms[1](x + self.down(nn.functional.gelu(self.up(x))))

    class Encoder(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, size: int = 32) -> None:
            super().__init__()
            self.front, self.norm = nn.Conv1d(16, size, 3, stride=2), nn.GroupNorm(size, size)
            self.position = nn.Conv1d(size, size, 8, padding=4, groups=4)
            self.layers, self.head = nn.ModuleList([Layer(size) for _ in range(2)]), nn.Linear(size, 10)

        def forward(self, feats: Any, lengths: Any) -> Any:
            x = nn.functional.gelu(self.norm(self.front(feats.transpose(1, 2))))
            valid = torch.arange(x.shape[2])[None] < ((lengths - 3) // 2 + 1)[:, None]
            x = x * valid[:, None].to(x.dtype)
            x = (x + nn.functional.gelu(self.position(x)[:, :, :-1])).transpose(1, 2)
            bias = torch.where(valid[:, None, None, :], 0.0, -1e4)
            for layer in self.layers:
                x = layer(x, bias)
            return torch.log_softmax(self.head(x), -1)

    torch.manual_seed(0)
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        Encoder().eval(),
        (torch.randn(2, 50, 16), torch.tensor([50, 40])),
        dynamo=True,
        opset_version=18,
        input_names=["feats", "lengths"],
        output_names=["log_probs"],
        dynamic_shapes=({0: dynamic, 1: dynamic}, {0: dynamic}),
        verbose=False,
    )
    assert program is not None
    model: ModelProto = program.model_proto
    return model


@pytest.mark.parametrize(("precision", "atol"), [("fp16", 5e-3), ("bf16", 0.1)])
def test_torch_export_answers_as_in_fp32(exported: ModelProto, precision: str, atol: float) -> None:
    made = cast_checked(exported, precision)
    found = float_types(made)
    assert found["MatMul"] == found["Conv"] == (LOW[precision],)
    for op in ("LayerNormalization", "InstanceNormalization", "Softmax", "LogSoftmax"):
        assert found[op] == ("float32",), op
    for time in (12, 50, 131):
        inputs = {"feats": 3 * noise(2, time, 16), "lengths": np.array([time, time // 2])}
        error = np.abs(run(made, inputs)[0] - run(exported, inputs)[0]).max()
        assert 0 < error < atol, time
