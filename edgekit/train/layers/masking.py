"""Lengths to masks. A mask is true where an item's own data stand."""

from __future__ import annotations

import torch
from torch import Tensor


def valid(lengths_B: Tensor, size: int) -> Tensor:
    """`[B, size]`, true before each item's length."""
    return torch.arange(size, device=lengths_B.device)[None, :] < lengths_B[:, None]


def attention_bias(valid_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """`[B, 1, 1, T]` to add to attention scores: 0 on valid keys, -1e4 on padding.

    Finite, so that it also holds in fp16; exp(-1e4) is exactly 0 in every precision.
    """
    return (~valid_BT)[:, None, None, :].to(dtype) * -1e4
