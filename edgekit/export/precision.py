"""Precision in the graph: the fp32 ONNX of a bundle made into a strongly typed fp16 or bf16 one.

Matrix products and convolutions, and what merely follows them, become low precision. Normalisation, softmax,
reductions, powers, roots, exponentials and logarithms stay fp32, and so does what is computed from a statistic
until it is normalised or multiplied again (a layer normalisation that was written out stays fp32 as a whole).
Inputs and outputs of the graph keep their types; integers and booleans are not touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper

from edgekit.core.errors import ExportError, UsageError

_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
# The largest finite value; bf16's is 2^127 * (2 - 2^-7), a little under fp32's.
_MAX = {"fp16": 65504.0, "bf16": 3.3895313892515355e38}
_FLOATS: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
_BF16_OPSET = 22  # Conv, MaxPool and others accept bfloat16 from here on

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"})
# fmt: off
_MOVES = frozenset({
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad",
    "Reshape", "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
})
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
_TYPE_BLIND = frozenset({"Cast", "Shape", "Size"})


def cast_graph(model: ModelProto, precision: str) -> ModelProto:
    """The same computation with its matrix products in `precision`; `model` is not changed.

    Local functions are inlined. For bf16 the opset becomes 22 where an operator of the graph takes no bfloat16
    before. How many weights fell below the smallest subnormal and became zero is noted in the model's metadata.

    Args:
        model: opset 18 or later, its weights in memory.
        precision: "fp16" or "bf16".

    Raises:
        UsageError: another precision.
        ExportError: If, Loop or Scan; weights of a product out of range (named); a type that cannot be told.
    """
    if precision not in _TYPES:
        raise UsageError(f"expected precision fp16 or bf16, received {precision!r}")
    made = _copied(model)
    operators = {(node.domain, node.op_type) for node in made.graph.node}
    if any(not _accepts(op, _opset(made), precision) and _accepts(op, _BF16_OPSET, precision) for op in operators):
        _raise_opset(made, _BF16_OPSET)
    _lift_constants(made.graph)
    _name_nodes(made.graph)
    types = value_types(made)
    constants = _Constants(made.graph, precision)
    low = _plan(made.graph, types, constants, _opset(made), precision)
    _rewrite(made.graph, low, types, constants, precision)
    del made.graph.value_info[:]
    for key, value in (("edgekit.precision", precision), ("edgekit.num_flushed", str(constants.num_flushed))):
        made.metadata_props.add(key=key, value=value)
    value_types(made)  # every operator's types are held to its schema
    return made


def float_types(model: ModelProto) -> dict[str, tuple[str, ...]]:
    """Per operator type, in which float types it computes here: `{"MatMul": ("float16",), ...}`."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    types = value_types(model)
    found: dict[str, set[str]] = defaultdict(set)
    for node in model.graph.node:
        for name in node.output:
            if types.get(name) in _FLOATS:
                found[node.op_type].add(_FLOATS[types[name]])
    return {op: tuple(sorted(names)) for op, names in sorted(found.items())}


def value_types(model: ModelProto) -> dict[str, int]:
    """The element type (`TensorProto.FLOAT`, ...) of every tensor of the main graph, by name.

    Works without the weights' bytes, so beyond protobuf's 2 GB too.

    Raises:
        ExportError: the types contradict each other, or an output's type cannot be told.
    """
    bare = _without_weights(model)
    del bare.graph.value_info[:]
    try:
        bare = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ExportError(f"the types of the ONNX graph contradict each other: {error}") from error
    graph = bare.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type  # 0 for a sequence: touched by nobody
    for node in graph.node:
        for name in node.output:
            if name and name not in types:
                raise ExportError(
                    f"expected a known type for {name!r}, the output of {_called(node)}; its operator has no schema",
                    hint="export the model with standard ONNX operators",
                )
    return types


def _copied(model: ModelProto) -> ModelProto:
    """A copy without local functions, of a model that can be cast."""
    made = ModelProto()
    made.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    if _opset(made) < 18:
        raise ExportError(f"expected an ONNX graph of opset 18 or later, received opset {_opset(made)}")
    for tensor in made.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ExportError(
                f"expected the weights in memory, {tensor.name!r} is in another file",
                hint="read the model with onnx.load, which loads them",
            )
    for node in made.graph.node:
        if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute):
            raise ExportError(
                f"{_called(node)} holds a subgraph; a graph with If, Loop or Scan stays fp32",
                hint="export the model without data-dependent control flow, or stay with fp32",
            )
    return made


def _raise_opset(model: ModelProto, opset: int) -> None:
    """Bring the nodes to another opset; the weights do not pass through the converter."""
    try:
        converted = onnx.version_converter.convert_version(_without_weights(model), opset)
    except (RuntimeError, onnx.version_converter.ConvertError, onnx.checker.ValidationError) as error:
        raise ExportError(f"the ONNX graph cannot be brought to opset {opset}, which bf16 needs: {error}") from error
    known = {tensor.name for tensor in model.graph.initializer}
    model.graph.initializer.extend(tensor for tensor in converted.graph.initializer if tensor.name not in known)
    for field in (model.graph.node, model.opset_import):
        del field[:]
    model.graph.node.extend(converted.graph.node)
    model.opset_import.extend(converted.opset_import)
    model.ir_version = max(model.ir_version, 10)


def _lift_constants(graph: GraphProto) -> None:
    """Turn float Constant nodes into initialisers, which are cast once and for all."""
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        tensor = _constant(node)
        if tensor is None or tensor.name in outputs:
            kept.append(node)
        else:
            graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _name_nodes(graph: GraphProto) -> None:
    """Give every node a name of its own: of two with one name, TensorRT lets only the first be looked up."""
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for node in graph.node:
        if not node.name or node.name in seen:
            node.name = _unique(node.name or f"node_{node.output[0]}", taken)
        seen.add(node.name)


def _constant(node: NodeProto) -> TensorProto | None:
    """The float tensor that a Constant node holds; None for any other node."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    attribute = node.attribute[0]
    if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
    elif attribute.name == "value_float":
        tensor = numpy_helper.from_array(np.array(attribute.f, np.float32))
    elif attribute.name == "value_floats":
        tensor = numpy_helper.from_array(np.array(attribute.floats, np.float32))
    else:
        return None
    tensor.name = node.output[0]
    return tensor


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy whose float initialisers of more than 256 bytes have a type and a shape but no bytes."""
    bare = ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        if tensor.data_type in _FLOATS and tensor.ByteSize() > 256:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        else:
            graph.initializer.append(tensor)
    return bare


@cache
def _accepts(operator: tuple[str, str], opset: int, precision: str) -> bool:
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


class _Constants:
    """The float initialisers: whether one fits a low precision, and its bytes in it."""

    def __init__(self, graph: GraphProto, precision: str) -> None:
        inputs = {value.name for value in graph.input}
        self.tensors = {
            tensor.name: tensor
            for tensor in graph.initializer
            if tensor.data_type == TensorProto.FLOAT and tensor.name not in inputs
        }
        self.num_flushed = 0
        self._precision = precision
        self._fits: dict[str, bool] = {}

    def fits(self, name: str) -> bool:
        """Finite and in range; a single number (an epsilon, a scale) must not become zero either."""
        if name not in self._fits:
            values = np.abs(numpy_helper.to_array(self.tensors[name]))
            fits = bool(np.all(values <= _MAX[self._precision]))
            if values.size == 1 and values.item() != 0.0:
                fits = fits and bool(_as_float(_rounded(values, self._precision)).item() != 0.0)
            self._fits[name] = fits
        return self._fits[name]

    def cast(self, name: str, new_name: str) -> TensorProto:
        values = numpy_helper.to_array(self.tensors[name])
        bits = _rounded(values, self._precision)
        self.num_flushed += int(np.count_nonzero(values) - np.count_nonzero(_as_float(bits)))
        return TensorProto(name=new_name, data_type=_TYPES[self._precision], dims=values.shape, raw_data=bits.tobytes())


def _rounded(values: np.ndarray, precision: str) -> np.ndarray:
    """Nearest, ties to even. bf16 as its 16 bits (uint16): NumPy has no such type."""
    if precision == "fp16":
        return values.astype("<f2")
    bits: np.ndarray = np.ascontiguousarray(values, "<f4").view("<u4")
    rounded: np.ndarray = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded


def _as_float(rounded: np.ndarray) -> np.ndarray:
    """fp16 stays as it is; bf16's 16 bits become the upper half of fp32's."""
    if rounded.dtype.kind == "f":
        return rounded
    wide: np.ndarray = (rounded.astype(np.uint32) << 16).view(np.float32)
    return wide


def _plan(graph: GraphProto, types: dict[str, int], constants: _Constants, opset: int, precision: str) -> set[int]:
    """Which nodes, by index, compute in low precision.

    Raises:
        ExportError: a product's weights do not fit.
    """

    def floats(names: Iterable[str]) -> list[str]:
        return [name for name in names if types.get(name) == TensorProto.FLOAT]

    exact: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in _EXACT or (node.op_type in _FOLLOWERS and exact.intersection(node.output)):
            exact.update(floats(node.input))
    low: set[int] = set()
    low_values: set[str] = set()
    sensitive: set[str] = set()  # statistics and what does not fit, and what was computed from them
    for index, node in enumerate(graph.node):
        inputs, outputs = floats(node.input), floats(node.output)
        fitting = all(constants.fits(name) for name in inputs if name in constants.tensors)
        accepted = outputs and _accepts((node.domain, node.op_type), opset, precision)
        if node.op_type in _STATISTICS or node.op_type.startswith("Reduce"):
            sensitive.update(outputs)
        if not accepted or exact.intersection(outputs):
            continue
        if node.op_type in _PRODUCTS:
            if not fitting:
                wrong = [name for name in inputs if name in constants.tensors and not constants.fits(name)]
                raise ExportError(
                    f"expected {precision} weights within {_MAX[precision]:.6g}, {_called(node)} has {wrong} outside",
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
        moves = node.op_type in _MOVES and _accepts((node.domain, node.op_type), opset, precision)
        if index in low or not moves or not outputs or fixed.intersection(outputs):
            continue
        users = [user for name in outputs for user in consumers[name]]
        if users and low.issuperset(users) and all(constants.fits(n) for n in node.input if n in constants.tensors):
            low.add(index)
    return low


def _rewrite(graph: GraphProto, low: set[int], types: dict[str, int], constants: _Constants, precision: str) -> None:
    """Give every node its inputs in the type it computes in; each Cast is made once and shared."""
    outputs = {value.name for value in graph.output}
    before = list(graph.node)
    taken = set(types) | {node.name for node in before}
    needed_full = outputs.union(*(node.input for index, node in enumerate(before) if index not in low))
    nodes: list[NodeProto] = []
    in_low: dict[str, str] = {}  # a float value, and the name under which it is had in low precision
    in_full: dict[str, str] = {}  # a value that is computed in low precision, and its name in fp32

    def cast(source: str, target: str, to: int) -> str:
        nodes.append(helper.make_node("Cast", [source], [target], name=_unique(f"Cast_{target}", taken), to=to))
        return target

    def low_name(name: str) -> str:
        if name not in in_low:
            if name in constants.tensors and name not in needed_full:
                in_low[name] = name
                constants.tensors[name].CopyFrom(constants.cast(name, name))
            elif name in constants.tensors:
                in_low[name] = _unique(f"{name}_{precision}", taken)
                graph.initializer.append(constants.cast(name, in_low[name]))
            else:
                in_low[name] = cast(name, _unique(f"{name}_{precision}", taken), _TYPES[precision])
        return in_low[name]

    def full_name(name: str) -> str:
        if name in in_low and name in made_low and name not in in_full:
            in_full[name] = cast(in_low[name], _unique(f"{name}_fp32", taken), TensorProto.FLOAT)
        return in_full.get(name, name)

    made_low = {name for index in low for name in before[index].output if types.get(name) == TensorProto.FLOAT}
    for index, node in enumerate(before):
        if node.op_type not in _TYPE_BLIND:
            for position, name in enumerate(node.input):
                if types.get(name) == TensorProto.FLOAT:
                    node.input[position] = low_name(name) if index in low else full_name(name)
        nodes.append(node)
        for position, name in enumerate(node.output):
            if index in low and name in made_low:
                in_low[name] = name
                if name in outputs:
                    in_low[name] = node.output[position] = _unique(f"{name}_{precision}", taken)
                    in_full[name] = cast(in_low[name], name, TensorProto.FLOAT)
    del graph.node[:]
    graph.node.extend(nodes)


def _opset(model: ModelProto) -> int:
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def _called(node: NodeProto) -> str:
    return f"node {node.name!r} ({node.op_type})"


def _unique(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        name, count = f"{stem}_{count}", count + 1
    taken.add(name)
    return name
