"""The gradient of a graph's answer by theta, as ONNX: what a device needs to learn a user's weights without torch.

torch traces the answer and its vector-Jacobian product as one graph, through an interface of its own that is not
public: `TORCH` names the versions it was tried with. `cut.py` makes two graphs of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript.optimizer import _constant_folding as folding
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.export.exported_program import _decompose_exported_program
from torch.export.graph_signature import ExportGraphSignature, OutputKind, OutputSpec

from edgekit.core.errors import ExportError
from edgekit.core.signature import Dim, Signature, TensorSpec
from edgekit.core.theta import INPUT
from edgekit.export.onnx import OPSET, example_inputs, quiet

TORCH = ("2.13",)
"""Versions of torch whose interface was tried."""

COTANGENT, GRADIENT = "d_answer", "d_theta"
"""The graph's added input, as long as its first output, and its added output `[1, P]`."""

_aten = torch.ops.aten


def export_gradient(module: nn.Module, signature: Signature, path: Path) -> None:
    """Write one ONNX file: a graph's outputs for one item, and the gradient by theta of their product with a cotangent.

    Args:
        module: takes the signature's inputs in order; the last is theta.
        signature: of one output with frames and one of its lengths; the batch is fixed to 1.

    Raises:
        ExportError: another torch, or an operator whose gradient has no ONNX form: names it.
    """
    require_torch()
    with quiet():
        program = _as_outputs(_joint(module, signature))
    lacking = sorted(
        {str(node.target) for node in program.graph.nodes if node.op == "call_function" and _has_no_form(node.target)}
    )
    if lacking:
        raise ExportError(f"the gradient of {type(module).__name__} needs {', '.join(lacking)}, which ONNX lacks")
    with quiet():
        try:
            # not optimised: see `_fold`
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=OPSET,
                input_names=[*(spec.name for spec in signature.inputs), COTANGENT],
                output_names=[*(spec.name for spec in signature.outputs), GRADIENT],
                optimize=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(
                f"torch cannot export the gradient of {type(module).__name__}: {error.__cause__ or error}"
            ) from error
    assert exported is not None
    _fold(exported.model)
    onnx.save(exported.model_proto, path)


def require_torch() -> None:
    """Raise ExportError unless torch is one whose interface was tried."""
    version = torch.__version__
    if ".".join(version.split(".")[:2]) not in TORCH:
        raise ExportError(
            f"expected torch {' or '.join(TORCH)} to export gradients, through an interface that changes; "
            f"received {version}",
            hint=f'pip install "torch=={TORCH[-1]}.*"',
        )


class _Product(nn.Module):
    """The answer's product with the cotangent, whose gradient is the vector-Jacobian product; and the answer."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, x_lens: Tensor, theta: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
        answer, lengths = self.module(x, x_lens, theta)
        return (answer * cotangent).sum(), answer.detach(), lengths


def _joint(module: nn.Module, signature: Signature) -> Any:
    """The traced answer and gradient, in operators that ONNX has, with the time axis dynamic."""
    answer = signature.outputs[0]
    inputs = {name: torch.from_numpy(array[:1]) for name, array in example_inputs(signature).items()}
    if [spec.name for spec in signature.inputs][-1] != INPUT or len(inputs) != 3:
        raise ExportError(
            f"expected inputs x, lengths and {INPUT}, received {[str(spec) for spec in signature.inputs]}"
        )
    shapes = [_dynamic(spec) for spec in signature.inputs]
    size = {axis.name: inputs[spec.name].shape[i] for spec in signature.inputs for i, axis in enumerate(spec.shape)
            if isinstance(axis, Dim)}  # fmt: skip
    cotangent = torch.randn(signature.output_shape(answer, size))
    inputs[INPUT].requires_grad_(True)
    frozen = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        program = torch.export.export(
            _Product(module).eval(),
            (*inputs.values(), cotangent),
            dynamic_shapes=(*shapes, _dynamic(answer)),
            strict=False,
        )
        joint = _decompose_exported_program(
            program,
            cia_to_decomp={},
            python_decomp_table={**core_aten_decompositions(), **_DECOMPOSITIONS},
            joint_loss_index=0,
            decompose_custom_triton_ops=False,
        )
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"torch cannot trace the gradient of {type(module).__name__}: {reason}",
            hint="zeros by concatenation and not by a pad, where theta's gradient passes",
        ) from error
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    _require_dynamic(joint, signature)
    return joint


def _dynamic(spec: TensorSpec) -> dict[int, Any]:
    """All axes that the signature does not fix but the first, which is one item."""
    return {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(spec.shape) if i and not isinstance(axis, int)}


def _require_dynamic(joint: Any, signature: Signature) -> None:
    """Raise ExportError for an axis that tracing the gradient fixed, which it does without a word."""
    inputs = [node for node in joint.graph.nodes if node.op == "placeholder"]
    user = inputs[-len(signature.inputs) - 1 :]
    for node, spec in zip(user, [*signature.inputs, signature.outputs[0]]):
        for axis in _dynamic(spec):
            if not isinstance(node.meta["val"].shape[axis], torch.SymInt):
                raise ExportError(f"expected {spec} in the gradient, tracing fixed axis {axis}")


def _as_outputs(joint: Any) -> Any:
    """The gradient as an ordinary output, which is all that the ONNX exporter takes; the product is dropped."""
    output = next(node for node in joint.graph.nodes if node.op == "output")
    pairs = zip(joint.graph_signature.output_specs, output.args[0])
    kept = [(spec, arg) for spec, arg in pairs if spec.kind != OutputKind.LOSS_OUTPUT]
    output.args = (tuple(arg for _, arg in kept),)
    joint.graph.eliminate_dead_code()
    joint.graph_module.recompile()
    outputs = [OutputSpec(OutputKind.USER_OUTPUT, spec.arg, None) for spec, _ in kept]
    return joint._update(joint.graph_module, ExportGraphSignature(joint.graph_signature.input_specs, outputs))


def _has_no_form(target: Any) -> bool:
    """Whether an operator is one that backward passes are made of and ONNX lacks."""
    return isinstance(target, torch._ops.OpOverload) and (
        target.namespace != "aten" or target._schema.name.endswith("_backward")
    ) and target not in (_aten._assert_tensor_metadata.default,)  # fmt: skip


def _convolution_backward(
    d_out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    mask: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of a depthwise convolution over time, without stride, dilation or padding."""
    depthwise = x.dim() == 3 and weight.shape[1] == 1 and groups == weight.shape[0] and not transposed
    if not depthwise or (list(stride), list(dilation), list(padding)) != ([1], [1], [0]):
        raise ExportError(
            f"expected only depthwise convolutions of stride 1 where theta's gradient passes, received one of "
            f"{list(weight.shape)}, stride {list(stride)}, padding {list(padding)}, {groups} groups",
            hint="tune what lies behind the strided front end",
        )
    taps, size = weight.shape[-1], d_out.shape[-1]
    d_x = d_weight = None
    if mask[0]:
        edge = d_out.new_zeros((d_out.shape[0], groups, taps - 1))
        # zeros by concatenation: a pad would fix the sizes of the graph
        padded = torch.cat([edge, d_out, edge], -1)
        d_x = torch.conv1d(padded, weight.flip(-1), groups=groups)
    if mask[1]:
        index = torch.arange(size)[:, None] + torch.arange(taps)[None]
        # whole frames are copied, and not value by value along the last axis
        frames_BNC = x.transpose(1, 2).index_select(1, index.reshape(-1))
        frames_BTkC = frames_BNC.reshape(x.shape[0], size, taps, groups)
        d_weight = (frames_BTkC * d_out.transpose(1, 2)[:, :, None]).sum((0, 1)).transpose(0, 1)[:, None]
    return d_x, d_weight, d_out.sum((0, 2)) if mask[2] else None


def _silu_backward(d_out: Tensor, x: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return d_out * (gate * (1 + x * (1 - gate)))


def _slice_backward(d_out: Tensor, sizes: list[int], dim: int, start: int, end: int, step: int) -> Tensor:
    """Zeros around it; torch's own form scatters, which took 35 of 75 ms of a DisConformer T's gradient at 7 s."""
    if step != 1 or start < 0:
        raise ExportError(f"expected slices from the front where theta's gradient passes, received {start}::{step}")

    def zeros(size: int) -> Tensor:
        return d_out.new_zeros([size if axis == dim % d_out.dim() else n for axis, n in enumerate(d_out.shape)])

    after = sizes[dim] - start - d_out.shape[dim]
    return torch.cat([*([] if start == 0 else [zeros(start)]), d_out, zeros(after)], dim)


def _empty_permuted(size: list[int], physical_layout: list[int], **options: Any) -> Tensor:
    return torch.full(size, 0.0, dtype=options.get("dtype"))


_DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    _aten.convolution_backward.default: _convolution_backward,
    _aten.silu_backward.default: _silu_backward,
    _aten.slice_backward.default: _slice_backward,
    _aten.empty_permuted.default: _empty_permuted,
}


def _fold(model: Any) -> None:
    """The exporter's own optimisation without its rewrite rules, which look at the whole graph at each of its nodes."""
    import onnx_ir as ir
    from onnx_ir.passes import common

    ir.passes.Sequential(
        common.InlinePass(),
        folding.FoldConstantsPass(
            shape_inference=True,
            input_size_limit=folding.DEFAULT_CONSTANT_FOLD_INPUT_SIZE_LIMIT,
            output_size_limit=folding.DEFAULT_CONSTANT_FOLD_OUTPUT_SIZE_LIMIT,
        ),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.IdentityEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)
