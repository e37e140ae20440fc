"""The element types of an ONNX graph's tensors, inferred without the weights' bytes: beyond protobuf's 2 GB too."""

from __future__ import annotations

from collections import defaultdict

import onnx
from onnx import ModelProto, NodeProto, TensorProto, inliner

from edgekit.core.errors import ExportError

LOW_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_FLOATS: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}


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

    Raises:
        ExportError: the types contradict each other, or an output's type cannot be told.
    """
    bare = without_weights(model)
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
                    f"expected a known type for {name!r}, the output of {described(node)}; its operator has no schema",
                    hint="export the model with standard ONNX operators",
                )
    return types


def without_weights(model: ModelProto) -> ModelProto:
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


def described(node: NodeProto) -> str:
    """How errors name a node."""
    return f"node {node.name!r} ({node.op_type})"
