"""Which nodes of an fp32 ONNX graph shall compute in fp16 or bf16; `precision.py` casts them.

Matrix products and convolutions, and what merely follows them, become low precision. Normalisation, softmax,
reductions, powers, roots, exponentials and logarithms stay fp32, and so does what is computed from a statistic
until it is normalised or multiplied again (a layer normalisation that was written out stays fp32 as a whole).
A product of a value with itself, such as a covariance, is a statistic as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache

import onnx
from onnx import GraphProto, TensorProto

from edgekit.core.errors import ExportError
from edgekit.export.graph_types import described
from edgekit.export.rounding import LARGEST, Constants

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"})
# fmt: off
_MOVES = frozenset({
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad",
    "Reshape", "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
})
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_FOLLOWERS = _MOVES | {
    "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Max",
    "MaxPool", "Min", "Mish", "Mul", "Neg", "PRelu", "Relu", "Selu", "Sigmoid", "Softsign", "Sub", "Sum", "Swish",
    "Tanh", "ThresholdedRelu", "Where",
}
# fmt: on
_STATISTICS = frozenset({"CumSum", "Exp", "Log", "Pow", "Reciprocal", "Sqrt"})  # and every Reduce*
# What feeds these is an angle, an index or a power spectrum, and its product stays fp32: fp16 holds whole numbers
# up to 2,048, bf16 up to 256, and the energies of a mel filterbank exceed fp16's range.
_EXACT = frozenset({"Ceil", "Cos", "Floor", "Log", "Mod", "Round", "Sin", "Tan"})


def low_precision_nodes(
    graph: GraphProto, types: dict[str, int], constants: Constants, opset: int, precision: str
) -> set[int]:
    """The nodes that compute in `precision`, by index; `types` are all tensors', by name.

    Raises:
        ExportError: a product's weights do not fit.
    """

    def floats(names: Iterable[str]) -> list[str]:
        return [name for name in names if types.get(name) == TensorProto.FLOAT]

    exact: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in _EXACT or (node.op_type in _FOLLOWERS and exact.intersection(node.output)):
            exact.update(floats(node.input))
    squares = _sums_of_squares(graph)
    low: set[int] = set()
    low_values: set[str] = set()
    sensitive: set[str] = set()  # statistics and what does not fit, and what was computed from them
    for index, node in enumerate(graph.node):
        inputs, outputs = floats(node.input), floats(node.output)
        fitting = all(constants.fits(name) for name in inputs if name in constants.tensors)
        accepted = outputs and accepts((node.domain, node.op_type), opset, precision)
        if node.op_type in _STATISTICS or node.op_type.startswith("Reduce") or squares.intersection(outputs):
            sensitive.update(outputs)
        if not accepted or exact.intersection(outputs) or squares.intersection(outputs):
            continue
        if node.op_type in _PRODUCTS:
            if not fitting:
                wrong = [name for name in inputs if name in constants.tensors and not constants.fits(name)]
                limit = f"{LARGEST[precision]:.6g}"
                raise ExportError(
                    f"expected {precision} weights within {limit}, {described(node)} has {wrong} outside",
                    hint="use bf16, whose range is fp32's, or stay with fp32",
                )
        elif not fitting or sensitive.intersection(inputs):
            sensitive.update(outputs)
            continue
        elif not low_values.intersection(inputs):
            continue
        low.add(index)
        low_values.update(outputs)
    consumers: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        for name in node.input:
            consumers[name].append(index)
    fixed = {value.name for value in graph.output} | sensitive | exact
    # What only moves data into low precision nodes moves half the bytes when it comes after the Cast.
    for index, node in reversed(list(enumerate(graph.node))):
        outputs = floats(node.output)
        moves = node.op_type in _MOVES and accepts((node.domain, node.op_type), opset, precision)
        if index in low or not moves or not outputs or fixed.intersection(outputs):
            continue
        users = [user for name in outputs for user in consumers[name]]
        if users and low.issuperset(users) and all(constants.fits(n) for n in node.input if n in constants.tensors):
            low.add(index)
    return low


def _sums_of_squares(graph: GraphProto) -> set[str]:
    """Products of a value with itself (x times x transposed) and what is made of them, up to a root or a softmax.

    The sum runs over as many values as there are frames: fp16 overflows in seconds of sound.
    """
    source: dict[str, str] = {}  # a value that is another's in a different shape, and that other
    squares: set[str] = set()
    for node in graph.node:
        if node.op_type in _VIEWS:
            source[node.output[0]] = source.get(node.input[0], node.input[0])
        product = node.op_type in _PRODUCTS
        factors = [source.get(name, name) for name in node.input[:2]]
        passed = product or node.op_type in _FOLLOWERS or node.op_type.startswith("Reduce")
        squared = product and len(factors) == 2 and factors[0] == factors[1]
        if squared or (passed and squares.intersection(node.input)):
            squares.update(node.output)
    return squares


@cache
def accepts(operator: tuple[str, str], opset: int, precision: str) -> bool:
    """Whether an operator is one that may be low precision, and its schema in `opset` takes the type."""
    domain, op_type = operator
    if domain not in ("", "ai.onnx") or op_type not in _PRODUCTS | _FOLLOWERS:
        return False
    if not onnx.defs.has(op_type, opset, ""):
        return False
    schema = onnx.defs.get_schema(op_type, opset, "")
    of = schema.inputs[1 if op_type == "Where" else 0].type_str
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}[precision] in allowed.get(of, ())
