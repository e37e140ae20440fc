"""The three kinds of Conformer group with weights that are given at every call, the same for all items or each its own.

They answer as the groups of `groups.py` with the same weights and take their place. A parameter has that group's name
and shape, with the items' axis before it.

Shapes: B batch, S = 1 or B, T frames, K key frames, D width of the stream, U units, H heads, d width of a head,
C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from edgekit.train.layers import per_item
from edgekit.train.layers.conformer.positions import by_key

Weights = Mapping[str, Tensor]


def _linear(x_BTD: Tensor, weights: Weights, name: str) -> Tensor:
    out_BTU = per_item.matmul(x_BTD, weights[f"{name}.weight"].transpose(1, 2))
    bias_SU = weights.get(f"{name}.bias")
    return out_BTU if bias_SU is None else per_item.add(out_BTU, bias_SU[:, None])


class PersonalFeedForward:
    """As `FeedForwardGroup` without a bias of its output."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def __call__(self, x_BTD: Tensor) -> Tensor:
        return _linear(torch.nn.functional.silu(_linear(x_BTD, self.weights, "expand")), self.weights, "contract")


class PersonalAttention:
    """As `AttentionGroup` without a bias of its output."""

    def __init__(self, weights: Weights, head_width: int) -> None:
        self.weights, self.head_width = weights, head_width

    def __call__(self, x_BTD: Tensor, table_RD: Tensor, bias: Tensor) -> Tensor:
        keys_BTU, values_BTU = self.remember(x_BTD)
        return self.attend(x_BTD, keys_BTU, values_BTU, self.position(table_RD), bias)

    def position(self, table_RD: Tensor) -> Tensor:
        """`[S, R, U]`."""
        # one table for all: no item's axis to broadcast
        return table_RD @ self.weights["position.weight"].transpose(1, 2)

    def remember(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """What is attended to of these frames: keys and values `[B, T, U]`."""
        return _linear(x_BTD, self.weights, "key"), _linear(x_BTD, self.weights, "value")

    def attend(
        self, x_BTD: Tensor, keys_BKU: Tensor, values_BKU: Tensor, positions_SRU: Tensor, bias: Tensor
    ) -> Tensor:
        """As `AttentionGroup.attend`; positions have the items' axis."""
        batch, num_keys, d = x_BTD.shape[0], keys_BKU.shape[1], self.head_width
        q_BTHd = _linear(x_BTD, self.weights, "query").view(batch, x_BTD.shape[1], -1, d)
        k_BHdK = keys_BKU.reshape(batch, num_keys, -1, d).permute(0, 2, 3, 1)
        v_BHKd = values_BKU.reshape(batch, num_keys, -1, d).transpose(1, 2)
        p_SHdR = positions_SRU.reshape(positions_SRU.shape[0], positions_SRU.shape[1], -1, d).permute(0, 2, 3, 1)
        content, position = (self.weights[f"{name}_bias"][:, None] for name in ("content", "position"))
        by_content_BHTK = per_item.add(q_BTHd, content).transpose(1, 2) @ k_BHdK
        by_position_BHTR = per_item.matmul(per_item.add(q_BTHd, position).transpose(1, 2), p_SHdR)
        scores_BHTK = (by_content_BHTK + by_key(by_position_BHTR, num_keys)) * (1 / math.sqrt(d)) + bias
        mixed_BTHd = (scores_BHTK.softmax(-1) @ v_BHKd).transpose(1, 2)
        return _linear(mixed_BTHd.flatten(2), self.weights, "out")


class PersonalConvolution:
    """As `ConvolutionGroup` without a bias of its output."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.channels, self.kernel = weights["depthwise.weight"].shape[1], weights["depthwise.weight"].shape[3]

    def __call__(self, x_BTD: Tensor, valid_BT1: Tensor, before_BCP: Tensor) -> tuple[Tensor, Tensor]:
        gated_BTC = _linear(x_BTD, self.weights, "value") * torch.sigmoid(_linear(x_BTD, self.weights, "gate"))
        h_BCT = torch.where(valid_BT1, gated_BTC, 0.0).transpose(1, 2)
        padded_BCT = torch.cat((before_BCP, h_BCT), 2)
        mixed_BTC = per_item.depthwise(padded_BCT, self.weights["depthwise.weight"][:, :, 0]).transpose(1, 2)
        mixed_BTC = per_item.add(mixed_BTC, self.weights["depthwise.bias"][:, None])
        normed_BTC = torch.nn.functional.layer_norm(mixed_BTC, (self.channels,))
        normed_BTC = per_item.multiply(normed_BTC, self.weights["norm.weight"][:, None])
        normed_BTC = per_item.add(normed_BTC, self.weights["norm.bias"][:, None])
        return _linear(torch.nn.functional.silu(normed_BTC), self.weights, "out"), h_BCT
