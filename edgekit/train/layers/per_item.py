"""Products and sums with weights of which each item of a batch may have its own: S, their first axis, is 1 or B.

torch.export would take the two sizes of such an axis for one. Where a graph with a dynamic batch is exported, these
are therefore operators of our own, whose ONNX form is the plain one: ONNX broadcasts when it runs. Elsewhere they are
torch's.

Shapes: B batch, S = 1 or B, T frames, C channels, k taps, P values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """`x [B, ..., D] @ weight [S, ..., D, U]`; what stands between their first and last two axes is alike."""
    out: Tensor = torch.ops.edgekit.per_item_matmul(x, weight) if _dynamic(x) else x @ weight
    return out


def add(x: Tensor, weight: Tensor) -> Tensor:
    """`x [B, ...] + weight [S, ...]`; the weight broadcasts to the axes of x."""
    out: Tensor = torch.ops.edgekit.per_item_add(x, weight) if _dynamic(x) else x + weight
    return out


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """`x [B, ...] * weight [S, ...]`; the weight broadcasts to the axes of x."""
    out: Tensor = torch.ops.edgekit.per_item_multiply(x, weight) if _dynamic(x) else x * weight
    return out


def parts(theta_SP: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """`[S, *shape]` for each shape, of values that lie one after the other."""
    sizes = [math.prod(shape) for shape in shapes]
    if _dynamic(theta_SP):
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return [torch.ops.edgekit.per_item_part(theta_SP, start, list(s)) for start, s in zip(starts, shapes)]
    # one operator: its gradient is one concatenation, and not a sum over as many whole thetas as there are parts
    return [part.reshape(-1, *shape) for part, shape in zip(torch.split(theta_SP, sizes, 1), shapes)]


def depthwise(padded_BCL: Tensor, weight_SCk: Tensor) -> Tensor:
    """A depthwise convolution `[B, C, L - k + 1]` with each item's own taps."""
    taps = weight_SCk.shape[-1]
    if not _dynamic(padded_BCL):
        # a batch of one, or one set of taps for all
        assert weight_SCk.shape[0] == 1
        return torch.nn.functional.conv1d(padded_BCL, weight_SCk[0][:, None], groups=weight_SCk.shape[1])
    size = padded_BCL.shape[2] - taps + 1
    index_Tk = torch.arange(size, device=padded_BCL.device)[:, None] + torch.arange(taps, device=padded_BCL.device)
    # whole frames are copied: in all layers of a DisConformer T 0.5 ms of 89 at 10 s (ONNX Runtime, one core of an AMD
    # EPYC, 2026-11-23); value by value along the last axis 12 ms
    frames_BNC = padded_BCL.transpose(1, 2).index_select(1, index_Tk.flatten())
    frames_BTkC = frames_BNC.view(padded_BCL.shape[0], size, taps, padded_BCL.shape[1])
    return multiply(frames_BTkC, weight_SCk.transpose(1, 2)[:, None]).sum(2).transpose(1, 2)


def _dynamic(x: Tensor) -> bool:
    return isinstance(x.shape[0], torch.SymInt)


@torch.library.custom_op("edgekit::per_item_matmul", mutates_args=())
def _matmul(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight


@_matmul.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[-1]))


@torch.library.custom_op("edgekit::per_item_add", mutates_args=())
def _add(x: Tensor, weight: Tensor) -> Tensor:
    return x + weight


@torch.library.custom_op("edgekit::per_item_multiply", mutates_args=())
def _multiply(x: Tensor, weight: Tensor) -> Tensor:
    return x * weight


@_add.register_fake
@_multiply.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("edgekit::per_item_part", mutates_args=())
def _part_operator(theta_SP: Tensor, start: int, shape: Sequence[int]) -> Tensor:
    return theta_SP[:, start : start + math.prod(shape)].reshape(-1, *shape).clone()


@_part_operator.register_fake
def _(theta_SP: Tensor, start: int, shape: Sequence[int]) -> Tensor:
    return theta_SP.new_empty((theta_SP.shape[0], *shape))
