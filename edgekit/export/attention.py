"""Attention in an ONNX file: one function call per layer, with a body for ONNX Runtime and a plain one. Torch-free.

A file holds each call as a function `edgekit::attention_<heads>x<head size>(q, k, v, bias)`, so what stands behind
it can be exchanged without touching the graph:

- as written, the body calls `com.microsoft::MultiHeadAttention`, whose CPU kernel never stores the T x T scores
  (flash attention), but only where it is given no mask. The mask is therefore folded into the product: a column of
  ones beside each query, the bias beside each key, q.k + 1.bias. Where that operator is unknown, a function of
  its name and standard operators stands in the same file and is used instead.
- `plain` exchanges the bodies for the textbook form and inlines all: what TensorRT and OpenVINO fuse by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from edgekit.core.errors import ExportError

DOMAIN = "edgekit"
_FUSED = "com.microsoft"
_NAME = re.compile(r"attention_(\d+)x(\d+)")
_EXTRA = 8
"""Columns added to each head of queries and keys: one is used; a multiple of 8 keeps rows aligned to 32 bytes."""


def function_name(num_heads: int, head_dim: int) -> str:
    return f"attention_{num_heads}x{head_dim}"


def add_functions(model: ModelProto) -> None:
    """Add the bodies of every attention function that the graph calls."""
    names = sorted({node.op_type for node in model.graph.node if node.domain == DOMAIN})
    if not names:
        return
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    present = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(helper.make_opsetid(d, 1) for d in (DOMAIN, _FUSED) if d not in present)
    heads = {_sizes(name)[0] for name in names}
    if len(heads) > 1:
        raise ExportError(f"expected one number of attention heads in a graph, received {sorted(heads)}")
    # what is called stands before its callers: onnx's own evaluator reads functions in one pass
    model.functions.append(_stand_in(heads.pop(), opset))
    model.functions.extend(_fused(name, opset) for name in names)


def plain(model: ModelProto) -> ModelProto:
    """The same graph in standard operators alone, attention written out, without functions."""
    if not model.functions:
        return model
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    kept = [function for function in model.functions if function.domain not in (DOMAIN, _FUSED)]
    bodies = [_plain(function.name, opset) for function in model.functions if function.domain == DOMAIN]
    exchanged = ModelProto()
    exchanged.CopyFrom(model)
    del exchanged.functions[:]
    exchanged.functions.extend([*kept, *bodies])
    inlined = inline_local_functions(exchanged)
    standard = [entry for entry in inlined.opset_import if entry.domain not in (DOMAIN, _FUSED)]
    del inlined.opset_import[:]
    inlined.opset_import.extend(standard)
    _name_inlined(inlined)
    return inlined


def _sizes(name: str) -> tuple[int, int]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"expected a name like attention_12x64, received {name!r}")
    return int(match[1]), int(match[2])


def _fused(name: str, opset: int) -> FunctionProto:
    num_heads, head_dim = _sizes(name)
    ones = np.zeros((1, 1, 1, _EXTRA), np.float32)
    ones[..., 0] = 1
    nodes = [
        _constant("heads", np.array([0, 0, num_heads, head_dim])),
        _constant("widened", np.array([0, 0, num_heads * (head_dim + _EXTRA)])),
        _constant("extra", np.array([num_heads, _EXTRA])),
        _constant("ones", ones),
        # the operator multiplies all of q.k by its scale
        _constant("unscale", np.float32(head_dim**0.5)),
        helper.make_node("Shape", ["q"], ["q_shape"], end=2),
        helper.make_node("Concat", ["q_shape", "extra"], ["extra_shape"], axis=0),
        helper.make_node("Expand", ["ones", "extra_shape"], ["q_extra"]),
        helper.make_node("Transpose", ["bias"], ["bias_BT11"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["bias_BT11", "unscale"], ["bias_scaled"]),
        helper.make_node("Mul", ["q_extra", "bias_scaled"], ["k_extra"]),
        helper.make_node("Reshape", ["q", "heads"], ["q_heads"]),
        helper.make_node("Reshape", ["k", "heads"], ["k_heads"]),
        helper.make_node("Concat", ["q_heads", "q_extra"], ["q_both"], axis=3),
        helper.make_node("Concat", ["k_heads", "k_extra"], ["k_both"], axis=3),
        helper.make_node("Reshape", ["q_both", "widened"], ["q_wide"]),
        helper.make_node("Reshape", ["k_both", "widened"], ["k_wide"]),
        helper.make_node(
            "MultiHeadAttention",
            ["q_wide", "k_wide", "v"],
            ["out"],
            domain=_FUSED,
            num_heads=num_heads,
            scale=head_dim**-0.5,
        ),
    ]
    return _function(DOMAIN, name, ["q", "k", "v", "bias"], nodes, opset, (_FUSED,))


def _plain(name: str, opset: int) -> FunctionProto:
    num_heads, head_dim = _sizes(name)
    nodes = [
        _constant("scale", np.float32(head_dim**-0.5)),
        helper.make_node("Mul", ["q", "scale"], ["q_scaled"]),
        *_written_out(num_heads, "q_scaled", "k", "v", "bias"),
    ]
    return _function(DOMAIN, name, ["q", "k", "v", "bias"], nodes, opset)


def _stand_in(num_heads: int, opset: int) -> FunctionProto:
    """`com.microsoft::MultiHeadAttention` as far as `_fused` uses it, for heads of any size."""
    factor = helper.make_node("Constant", [], ["factor"])
    factor.attribute.add(name="value_float", ref_attr_name="scale", type=AttributeProto.FLOAT)
    nodes = [
        factor,
        helper.make_node("Mul", ["q", "factor"], ["q_scaled"]),
        *_written_out(num_heads, "q_scaled", "k", "v", None),
    ]
    return _function(_FUSED, "MultiHeadAttention", ["q", "k", "v"], nodes, opset, attributes=("num_heads", "scale"))


def _written_out(num_heads: int, q: str, k: str, v: str, bias: str | None) -> list[NodeProto]:
    nodes = [
        _constant("split", np.array([0, 0, num_heads, -1])),
        _constant("joined", np.array([0, 0, -1])),
        *(helper.make_node("Reshape", [x, "split"], [f"{part}_BTHd"]) for part, x in zip("qkv", (q, k, v))),
        helper.make_node("Transpose", ["q_BTHd"], ["q_BHTd"], perm=[0, 2, 1, 3]),
        helper.make_node("Transpose", ["k_BTHd"], ["k_BHdT"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["v_BTHd"], ["v_BHTd"], perm=[0, 2, 1, 3]),
        helper.make_node("MatMul", ["q_BHTd", "k_BHdT"], ["scores"]),
    ]
    if bias is not None:
        nodes.append(helper.make_node("Add", ["scores", bias], ["biased"]))
    return [
        *nodes,
        helper.make_node("Softmax", ["scores" if bias is None else "biased"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v_BHTd"], ["mixed_BHTd"]),
        helper.make_node("Transpose", ["mixed_BHTd"], ["mixed_BTHd"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["mixed_BTHd", "joined"], ["out"]),
    ]


def _function(
    domain: str,
    name: str,
    inputs: Sequence[str],
    nodes: Sequence[NodeProto],
    opset: int,
    domains: Sequence[str] = (),
    attributes: Sequence[str] = (),
) -> FunctionProto:
    for index, node in enumerate(nodes):
        node.name = f"{node.op_type}_{index}"
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_function(domain, name, inputs, ["out"], nodes, opsets, attributes=list(attributes))


def _constant(name: str, value: np.ndarray | np.generic) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value), name))


def _name_inlined(model: onnx.ModelProto) -> None:
    """Inlining leaves the names of a body's nodes as they were: the same in every layer."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.output[0].rsplit('.', 1)[0]}/{node.op_type}_{index}"
        seen.add(node.name)
