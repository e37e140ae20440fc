"""Scaled dot-product attention over heads, as one operator where a graph is exported.

Shapes: B batch, T frames, D width, H heads, d = D / H.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attend(q_BTD: Tensor, k_BTD: Tensor, v_BTD: Tensor, bias_B11T: Tensor, num_heads: int, dropout: float) -> Tensor:
    """softmax(q k' / sqrt(d) + bias) v for each head -> `[B, T, D]`.

    While a graph is exported this is the operator `edgekit::attention`, so that an exporter can choose its form.
    """
    # torch 2.6 lacks is_exporting; is_compiling, too, is true while a graph is exported
    if getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)():
        out: Tensor = torch.ops.edgekit.attention(q_BTD, k_BTD, v_BTD, bias_B11T, num_heads)
        return out
    return _attention(q_BTD, k_BTD, v_BTD, bias_B11T, num_heads, dropout)


def _attention(
    q_BTD: Tensor, k_BTD: Tensor, v_BTD: Tensor, bias_B11T: Tensor, num_heads: int, dropout: float = 0.0
) -> Tensor:
    q_BHTd, k_BHTd, v_BHTd = (x.view(*x.shape[:2], num_heads, -1).transpose(1, 2) for x in (q_BTD, k_BTD, v_BTD))
    mixed_BHTd = torch.nn.functional.scaled_dot_product_attention(
        q_BHTd, k_BHTd, v_BHTd, attn_mask=bias_B11T, dropout_p=dropout
    )
    return mixed_BHTd.transpose(1, 2).flatten(2)


@torch.library.custom_op("edgekit::attention", mutates_args=())
def _operator(q_BTD: Tensor, k_BTD: Tensor, v_BTD: Tensor, bias_B11T: Tensor, num_heads: int) -> Tensor:
    return _attention(q_BTD, k_BTD, v_BTD, bias_B11T, num_heads).contiguous()


@_operator.register_fake
def _(q_BTD: Tensor, k_BTD: Tensor, v_BTD: Tensor, bias_B11T: Tensor, num_heads: int) -> Tensor:
    return torch.empty_like(v_BTD)
