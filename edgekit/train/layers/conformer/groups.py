"""The three kinds of Conformer module, each one group of hidden units: several groups add up to a wider module.

A group reads what the core's norm made of the stream and adds to the stream, so that any set of groups is an exact
network of its own. `merged` writes several groups as one, with the same answer and fewer operators.

Shapes: B batch, T frames, K key frames, D width of the stream, U units, H heads, d width of a head, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekit.train.layers.conformer.positions import by_key


class FeedForwardGroup(nn.Module):
    """`W2 swish(W1 x + b1) (+ b2)`; only the core's group has b2."""

    def __init__(self, width: int, units: int, *, bias: bool) -> None:
        super().__init__()
        self.expand = nn.Linear(width, units)
        self.contract = nn.Linear(units, width, bias=bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.contract(nn.functional.silu(self.expand(x_BTD)))
        return out

    @classmethod
    def merged(cls, groups: Sequence[FeedForwardGroup]) -> FeedForwardGroup:
        width, units = groups[0].expand.in_features, sum(group.expand.out_features for group in groups)
        one = cls(width, units, bias=True)
        _concatenate(one.expand, [group.expand for group in groups], rows=True)
        _concatenate(one.contract, [group.contract for group in groups], rows=False)
        return one


class AttentionGroup(nn.Module):
    """Some heads of self-attention with relative positions (Dai et al. 2019, section 3.3)."""

    def __init__(self, width: int, num_heads: int, head_width: int, *, bias: bool) -> None:
        super().__init__()
        units = num_heads * head_width
        self.num_heads, self.head_width = num_heads, head_width
        self.query, self.key, self.value = (nn.Linear(width, units) for _ in range(3))
        self.position = nn.Linear(width, units, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, head_width))
        self.position_bias = nn.Parameter(torch.zeros(num_heads, head_width))
        self.out = nn.Linear(units, width, bias=bias)

    def forward(self, x_BTD: Tensor, table_RD: Tensor, bias: Tensor) -> Tensor:
        """Every frame attends to all; `table_RD` is `positions.distance_table`, `bias` as in `attend`."""
        keys_BTU, values_BTU = self.remember(x_BTD)
        return self.attend(x_BTD, keys_BTU, values_BTU, self.position(table_RD), bias)

    def remember(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """What is attended to of these frames: keys and values `[B, T, U]`."""
        return self.key(x_BTD), self.value(x_BTD)

    def attend(self, x_BTD: Tensor, keys_BKU: Tensor, values_BKU: Tensor, positions_RU: Tensor, bias: Tensor) -> Tensor:
        """
        Args:
            x_BTD: queries, the last T of the K frames whose keys and values are given.
            positions_RU: `self.position` of `positions.distance_table`.
            bias: added to the scores; broadcasts to `[B, H, T, K]`.
        """
        batch, num_keys = x_BTD.shape[0], keys_BKU.shape[1]
        q_BTHd = self.query(x_BTD).view(batch, -1, self.num_heads, self.head_width)
        k_BHdK = keys_BKU.reshape(batch, -1, self.num_heads, self.head_width).permute(0, 2, 3, 1)
        v_BHKd = values_BKU.reshape(batch, -1, self.num_heads, self.head_width).transpose(1, 2)
        p_HdR = positions_RU.reshape(-1, self.num_heads, self.head_width).permute(1, 2, 0)
        by_content_BHTK = (q_BTHd + self.content_bias).transpose(1, 2) @ k_BHdK
        by_position_BHTK = by_key((q_BTHd + self.position_bias).transpose(1, 2) @ p_HdR, num_keys)
        scores_BHTK = (by_content_BHTK + by_position_BHTK) * (1 / math.sqrt(self.head_width)) + bias
        mixed_BTHd = (scores_BHTK.softmax(-1) @ v_BHKd).transpose(1, 2)
        out: Tensor = self.out(mixed_BTHd.flatten(2))
        return out

    @classmethod
    def merged(cls, groups: Sequence[AttentionGroup]) -> AttentionGroup:
        width, heads = groups[0].query.in_features, sum(group.num_heads for group in groups)
        one = cls(width, heads, groups[0].head_width, bias=True)
        for name in ("query", "key", "value", "position"):
            _concatenate(getattr(one, name), [getattr(group, name) for group in groups], rows=True)
        _concatenate(one.out, [group.out for group in groups], rows=False)
        with torch.no_grad():
            one.content_bias.copy_(torch.cat([group.content_bias for group in groups]))
            one.position_bias.copy_(torch.cat([group.position_bias for group in groups]))
        return one


class ConvolutionGroup(nn.Module):
    """Some channels of the convolution module: GLU, a causal depthwise convolution, their own LayerNorm, swish.

    The norm is the group's own, or the core's channels would answer otherwise beside an augment.
    """

    def __init__(self, width: int, channels: int, kernel: int, *, bias: bool) -> None:
        super().__init__()
        self.channels, self.kernel = channels, kernel
        self.value, self.gate = nn.Linear(width, channels), nn.Linear(width, channels)
        self.depthwise = nn.Conv1d(channels, channels, kernel, groups=channels)
        self.norm: nn.Module = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, width, bias=bias)

    def forward(self, x_BTD: Tensor, valid_BT1: Tensor, before_BCP: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            valid_BT1: true on valid frames; the others count as zero.
            before_BCP: the P = kernel - 1 frames before the first one; zeros at the beginning.

        Returns:
            `[B, T, D]`, and the gated frames `[B, C, T]` that stand before those that follow.
        """
        gated_BTC = self.value(x_BTD) * torch.sigmoid(self.gate(x_BTD))
        h_BCT = torch.where(valid_BT1, gated_BTC, 0.0).transpose(1, 2)
        # no padding by the operator: its gradient would fix the sizes of a graph
        padded_BCT = torch.cat((before_BCP, h_BCT), 2)
        h_BTC = nn.functional.silu(self.norm(self.depthwise(padded_BCT).transpose(1, 2)))
        return self.out(h_BTC), h_BCT

    @classmethod
    def merged(cls, groups: Sequence[ConvolutionGroup]) -> ConvolutionGroup:
        width, channels = groups[0].value.in_features, sum(group.channels for group in groups)
        one = cls(width, channels, groups[0].kernel, bias=True)
        for name in ("value", "gate"):
            _concatenate(getattr(one, name), [getattr(group, name) for group in groups], rows=True)
        _concatenate(one.out, [group.out for group in groups], rows=False)
        with torch.no_grad():
            one.depthwise.weight.copy_(torch.cat([group.depthwise.weight for group in groups]))
            assert one.depthwise.bias is not None
            one.depthwise.bias.copy_(torch.cat([b for group in groups if (b := group.depthwise.bias) is not None]))
        one.norm = NormPerGroup([group.norm for group in groups])
        return one


class NormPerGroup(nn.Module):
    """A LayerNorm for each run of channels."""

    def __init__(self, norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norms)
        self.sizes = [norm.normalized_shape[0] for norm in norms if isinstance(norm, nn.LayerNorm)]

    def forward(self, x_BTC: Tensor) -> Tensor:
        return torch.cat([norm(part) for norm, part in zip(self.norms, torch.split(x_BTC, self.sizes, -1))], -1)


def _concatenate(one: nn.Linear, parts: Sequence[nn.Linear], *, rows: bool) -> None:
    """Stack outputs (rows), or inputs: the sum of the parts' answers; its bias is that of the part that has one."""
    with torch.no_grad():
        weights: list[Tensor] = [part.weight for part in parts]
        one.weight.copy_(torch.cat(weights, 0 if rows else 1))
        if one.bias is not None:
            biases: list[Tensor] = [part.bias for part in parts if part.bias is not None]
            one.bias.copy_(torch.cat(biases) if rows else torch.stack(biases).sum(0))
