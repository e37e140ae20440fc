"""Relative positions of Transformer-XL (Dai et al. 2019, appendix B), for queries that end where the keys end.

Shapes: B batch, H heads, Q queries, K keys, R = Q + K distances, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def distance_table(num_queries: int, num_keys: int, width: int, like: Tensor) -> Tensor:
    """Sinusoids `[R, D]` of the distances K - 1, K - 2, ..., -Q from a query back to a key; the last is not used."""
    distance_R = torch.arange(num_queries + num_keys, device=like.device, dtype=torch.float32)
    distance_R = (num_keys - 1) - distance_R
    rate_E = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=torch.float32) * (-math.log(1e4) / width))
    angle_RE = distance_R[:, None] * rate_E[None, :]
    return torch.cat((angle_RE.sin(), angle_RE.cos()), 1).to(like.dtype)


def by_key(scores_BHQR: Tensor, num_keys: int) -> Tensor:
    """Scores per distance to scores per key, `[B, H, Q, K]`: row i begins Q - 1 - i columns later.

    In flattened rows of R that is a constant step of R - 1, so that slices and views do it.
    """
    batch, heads, queries, distances = scores_BHQR.shape
    flat = scores_BHQR.reshape(batch, heads, queries * distances)
    moved = flat[:, :, queries - 1 : queries - 1 + queries * (distances - 1)]
    return moved.view(batch, heads, queries, distances - 1)[:, :, :, :num_keys]
