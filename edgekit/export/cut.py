"""Cut a joint graph in two: one that answers and remembers, and one that makes the gradient of what it remembered.

A runtime asked for the answer alone would compute the whole joint graph (ONNX Runtime does not prune by what is
fetched), and OpenVINO 2026.4 computes it wrongly: a square constant that is multiplied both as it is and transposed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgekit.core.errors import ExportError

_LARGE = 1024
"""Bytes from which a float32 constant lies in the file of weights; sizes of shapes must stay in the graph."""

_PAGE = 4096

_CHEAP = frozenset(
    (
        "Add",
        "Cast",
        "Concat",
        "Cos",
        "Div",
        "Equal",
        "Exp",
        "Expand",
        "Floor",
        "Gather",
        "Identity",
        "Less",
        "Mul",
        "Neg",
        "Not",
        "Range",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Sin",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
        "Where",
    )
)
"""Operators that move or map values: computing them again costs less than the memory of their answers."""


@dataclass(frozen=True)
class Halves:
    """The two graphs. The second's inputs are outputs of the first, inputs of the first, and the cotangent."""

    forward: onnx.ModelProto
    backward: onnx.ModelProto
    saved: tuple[str, ...]


def cut(joint: onnx.ModelProto, gradient: str) -> Halves:
    """Cut between what the answers need and what only the gradient needs.

    Args:
        gradient: the output that the second graph gives; the first gives all others.

    Raises:
        ExportError: the answers depend on the cotangent.
    """
    graph = joint.graph
    answers = [value.name for value in graph.output if value.name != gradient]
    made_by = {name: node for node in graph.node for name in node.output}
    order = {name: index for index, node in enumerate(graph.node) for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    forward = _needed(answers, made_by)
    of_gradient = _needed([gradient], made_by) - forward
    only_backward = [node for node in graph.node if id(node) in of_gradient]
    saved = {
        name
        for node in only_backward
        for name in node.input
        if name in made_by and id(made_by[name]) in forward
    }  # fmt: skip
    given = constants | {value.name for value in graph.input}

    def follows(name: str, kept: set[str], known: dict[str, bool]) -> bool:
        """Whether cheap operators make it of inputs, constants and other saved values."""
        if not name or name in given or name in kept:
            return True
        if name not in known:
            node = made_by[name]
            known[name] = node.op_type in _CHEAP and all(follows(each, kept, known) for each in node.input)
        return known[name]

    for name in sorted(saved, key=lambda each: -order[each]):
        if follows(name, saved - {name}, {}):
            saved.discard(name)
    again = _needed([name for node in only_backward for name in node.input], made_by, until=saved)
    backward_ids = {id(node) for node in only_backward} | again
    kept = sorted(saved, key=lambda each: order[each])
    typed = _types(joint)
    between = [typed[name] for name in kept]
    inputs = {value.name: value for value in graph.input}
    outputs = {value.name: value for value in graph.output}
    first = [node for node in graph.node if id(node) in forward]
    second = [node for node in graph.node if id(node) in backward_ids]
    return Halves(
        _model(joint, first, inputs.values(), [*(outputs[name] for name in answers), *between], "forward"),
        _model(joint, second, [*inputs.values(), *between], [outputs[gradient]], "backward"),
        tuple(kept),
    )


def share_weights(models: Sequence[onnx.ModelProto], path: Path) -> list[onnx.ModelProto]:
    """The models with their large constants in one file, each of them once.

    Args:
        path: the file to write; the models refer to it by its name, see `refer_to`.
    """
    offsets: dict[bytes, int] = {}
    shared = []
    with path.open("wb") as file:
        for model in models:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            for tensor in copy.graph.initializer:
                array = numpy_helper.to_array(tensor)
                if array.nbytes < _LARGE or array.dtype != np.float32:
                    continue
                content = array.tobytes()
                if content not in offsets:
                    file.write(bytes(-file.tell() % _PAGE))
                    offsets[content] = file.tell()
                    file.write(content)
                name, dims = tensor.name, list(tensor.dims)
                tensor.Clear()
                tensor.name, tensor.data_type = name, onnx.TensorProto.FLOAT
                tensor.dims.extend(dims)
                tensor.data_location = onnx.TensorProto.EXTERNAL
                for key, value in (("location", path.name), ("offset", offsets[content]), ("length", len(content))):
                    entry = tensor.external_data.add()
                    entry.key, entry.value = key, str(value)
            shared.append(copy)
    return shared


def refer_to(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model, whose large constants lie in the file of this name."""
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    return model


def _needed(names: Iterable[str], made_by: dict[str, onnx.NodeProto], until: Iterable[str] = ()) -> set[int]:
    """The nodes that values are made by, their inputs' nodes and so on, back to values of `until`."""
    found, stack, stop = set(), list(names), set(until)
    while stack:
        name = stack.pop()
        node = made_by.get(name)
        if node is None or name in stop or id(node) in found:
            continue
        found.add(id(node))
        stack.extend(node.input)
    return found


def _types(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """Each value's type; shapes are left out, whose formulas ONNX Runtime cannot read."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in [*inferred.value_info, *inferred.input, *inferred.output]:
        kind = value.type.tensor_type
        shape = [None] * len(kind.shape.dim) if kind.HasField("shape") else None
        found[value.name] = onnx.helper.make_tensor_value_info(value.name, kind.elem_type, shape)
    return found


def _model(
    joint: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    name: str,
) -> onnx.ModelProto:
    used = {each for node in nodes for each in node.input}
    if name == "forward" and any(value.name in used for value in list(inputs)[-1:]):
        raise ExportError("expected answers that follow from the inputs, the cotangent is among them")
    graph = onnx.helper.make_graph(
        nodes,
        name,
        [value for value in inputs if value.name in used],
        outputs,
        [tensor for tensor in joint.graph.initializer if tensor.name in used],
    )
    for node in graph.node:
        del node.metadata_props[:]  # which name torch's operators, in more bytes than the graph itself
        node.doc_string = ""
    model = onnx.helper.make_model(graph, opset_imports=joint.opset_import, ir_version=joint.ir_version)
    onnx.checker.check_model(model)
    return model
