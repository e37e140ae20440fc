"""Precision in the graph: the fp32 ONNX of a bundle made into a strongly typed fp16 or bf16 one.

Which nodes become low precision is decided in `mixed_precision.py`. Inputs and outputs of the graph keep their types;
integers and booleans are not touched.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper

from edgekit.core.errors import ExportError, UsageError
from edgekit.export.graph_types import LOW_TYPES, described, value_types, without_weights
from edgekit.export.mixed_precision import accepts, low_precision_nodes
from edgekit.export.rounding import Constants

_BF16_OPSET = 22  # Conv, MaxPool and others accept bfloat16 from here on
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
    if precision not in LOW_TYPES:
        raise UsageError(f"expected precision fp16 or bf16, received {precision!r}")
    made = _copied(model)
    operators = {(node.domain, node.op_type) for node in made.graph.node}
    if any(not accepts(op, _opset(made), precision) and accepts(op, _BF16_OPSET, precision) for op in operators):
        _raise_opset(made, _BF16_OPSET)
    _lift_constants(made.graph)
    _name_nodes(made.graph)
    types = value_types(made)
    constants = Constants(made.graph, precision)
    low = low_precision_nodes(made.graph, types, constants, _opset(made), precision)
    _rewrite(made.graph, low, types, constants, precision)
    del made.graph.value_info[:]
    for key, value in (("edgekit.precision", precision), ("edgekit.num_flushed", str(constants.num_flushed))):
        made.metadata_props.add(key=key, value=value)
    value_types(made)  # every operator's types are held to its schema
    return made


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
                f"{described(node)} holds a subgraph; a graph with If, Loop or Scan stays fp32",
                hint="export the model without data-dependent control flow, or stay with fp32",
            )
    return made


def _raise_opset(model: ModelProto, opset: int) -> None:
    """Bring the nodes to another opset; the weights do not pass through the converter."""
    try:
        converted = onnx.version_converter.convert_version(without_weights(model), opset)
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


def _rewrite(graph: GraphProto, low: set[int], types: dict[str, int], constants: Constants, precision: str) -> None:
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
                in_low[name] = cast(name, _unique(f"{name}_{precision}", taken), LOW_TYPES[precision])
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


def _unique(stem: str, taken: set[str]) -> str:
    name, count = stem, 1
    while name in taken:
        name, count = f"{stem}_{count}", count + 1
    taken.add(name)
    return name
