"""From a torch module to fp32 ONNX with named inputs, outputs and dynamic axes: the artifact all others come from."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18
from onnxscript.values import Op, Opset

from edgekit.core.errors import ExportError
from edgekit.core.files import explained
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.export.attention import DOMAIN, add_functions, function_name
from edgekit.train.layers import attention as attention  # these register the operators
from edgekit.train.layers import per_item as per_item

OPSET = 18
_SCOPES = "pkg.torch.onnx.name_scopes"


def export_onnx(module: torch.nn.Module, signature: Signature, path: Path) -> dict[str, int]:
    """Write a module's graph as one self-contained file; return how often each operator occurs.

    Axes are dynamic as the signature says and carry its names; nodes are named by the module they come from.

    Raises:
        ExportError: torch cannot trace the module, or an axis that the signature calls dynamic became fixed.
    """
    examples = example_inputs(signature)
    shapes = {
        spec.name: {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(spec.shape) if isinstance(axis, Dim)}
        for spec in signature.inputs
    }
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                tuple(torch.from_numpy(examples[spec.name]) for spec in signature.inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=[spec.name for spec in signature.inputs],
                output_names=[spec.name for spec in signature.outputs],
                dynamic_shapes=tuple(shapes[spec.name] for spec in signature.inputs),
                custom_translation_table=_TRANSLATIONS,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"torch cannot export {type(module).__name__}: {error.__cause__ or error}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _name_axes(model, signature)
    _name_nodes(model)
    add_functions(model)
    onnx.checker.check_model(model, full_check=True)
    with explained(path):
        onnx.save(model, path)
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))


def example_inputs(signature: Signature) -> dict[str, np.ndarray]:
    """Two items of a length in the first bucket, the second one shorter; values are noise."""
    random = np.random.default_rng(0)
    sizes = {name: dim.buckets[0][1] for name, dim in signature.dims.items()}
    if signature.batch is not None:
        sizes[signature.batch.name] = 2
        # each item its own
        sizes |= {str(spec.shape[0]): 2 for spec in signature.weights}
    examples = {}
    for spec in signature.inputs:
        shape = signature.output_shape(spec, sizes)
        if isinstance(spec.lengths_of, Dim):
            full = sizes[spec.lengths_of.name]
            array = np.full(shape, full)
            array[1:] = max(spec.lengths_of.min, full * 3 // 4)
        else:
            array = random.standard_normal(shape)
        examples[spec.name] = array.astype(spec.dtype)
    return examples


def _attention(q: Any, k: Any, v: Any, bias: Any, num_heads: int) -> Any:
    """The ONNX form of `torch.ops.edgekit.attention`: a call of the function of its sizes."""
    name = function_name(num_heads, q.shape[-1] // num_heads)
    schema = onnx.defs.OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[onnx.defs.OpSchema.FormalParameter(x, "T") for x in ("q", "k", "v", "bias")],
        outputs=[onnx.defs.OpSchema.FormalParameter("out", "T")],
        type_constraints=[("T", ["tensor(float)"], "")],
    )
    return Op(Opset(DOMAIN, 1), name, schema)(q, k, v, bias)


def _matmul(x: Any, weight: Any) -> Any:
    return opset18.MatMul(x, weight)


def _add(x: Any, weight: Any) -> Any:
    return opset18.Add(x, weight)


def _multiply(x: Any, weight: Any) -> Any:
    return opset18.Mul(x, weight)


def _part(theta: Any, start: int, shape: Sequence[int]) -> Any:
    end = start + math.prod(shape)
    values = opset18.Slice(theta, _constant([start]), _constant([end]), _constant([1]))
    return opset18.Reshape(values, _constant([0, *shape]))  # 0: as many items as there are


def _constant(values: Sequence[int]) -> Any:
    return opset18.Constant(value=onnx.helper.make_tensor("", onnx.TensorProto.INT64, [len(values)], values))


_TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.edgekit.attention.default: _attention,
    torch.ops.edgekit.per_item_matmul.default: _matmul,
    torch.ops.edgekit.per_item_add.default: _add,
    torch.ops.edgekit.per_item_multiply.default: _multiply,
    torch.ops.edgekit.per_item_part.default: _part,
}


def _name_axes(model: onnx.ModelProto, signature: Signature) -> None:
    """Give axes the signature's names; drop inferred shapes, whose formulas ONNX Runtime's inference cannot read."""
    del model.graph.value_info[:]
    for values, specs in ((model.graph.input, signature.inputs), (model.graph.output, signature.outputs)):
        if [value.name for value in values] != [spec.name for spec in specs]:
            raise ExportError(f"expected {[s.name for s in specs]} in the graph, received {[v.name for v in values]}")
        for value, spec in zip(values, specs):
            _name_axes_of(value, spec)


def _name_axes_of(value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != len(spec.shape):
        raise ExportError(f"expected {spec}, the graph has {len(dims)} axes")
    for dim, axis in zip(dims, spec.shape):
        if isinstance(axis, int):
            if dim.HasField("dim_value") and dim.dim_value != axis:
                raise ExportError(f"expected {spec}, the graph has a fixed axis of {dim.dim_value}")
            dim.dim_value = axis
            continue
        if dim.HasField("dim_value"):
            raise ExportError(f"expected {spec}, the exporter fixed an axis to {dim.dim_value}")
        dim.dim_param = f"{axis.of}_out" if isinstance(axis, Derived) else axis.name


def _name_nodes(model: onnx.ModelProto) -> None:
    """`encoder.layers.0.attention/MatMul_3`: what a profiler or an engine builder shows then means something."""
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "[]")
        modules = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
        # the last scope is the operator's own name; the one before it the module's full path
        scope = modules[-2] if len(modules) > 1 else ""
        stem = f"{scope}/{node.op_type}"
        node.name = f"{stem}_{seen[stem]}"
        seen[stem] += 1
        del node.metadata_props[:]
        node.doc_string = ""
    for proto in (model, model.graph):
        del proto.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output]:
        del value.metadata_props[:]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter prints progress and warns of what is checked afterwards; errors are raised all the same."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels):
                logger.setLevel(level)
