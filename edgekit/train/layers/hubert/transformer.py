"""HuBERT's Transformer: a positional convolution and layers that attend to valid frames only.

Shapes: B batch, T frames, D width, H heads, d width of a head. Parameter names are `transformers`' own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from edgekit.train.layers.activations import activation
from edgekit.train.layers.attention import attend
from edgekit.train.layers.convolution import DeployedConv
from edgekit.train.layers.hubert.config import HubertConfig
from edgekit.train.layers.masking import attention_bias, valid


class PositionalConv(nn.Module):
    """Relative positions from one wide grouped convolution; its input must be zero on padding."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        width, kernel = config.hidden_size, config.num_conv_pos_embeddings
        conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=config.num_conv_pos_embedding_groups)
        self.batch_norm = nn.BatchNorm1d(width) if config.conv_pos_batch_norm else None
        self.conv: nn.Module = conv if config.conv_pos_batch_norm else parametrizations.weight_norm(conv, dim=2)
        self.act = activation(config.feat_extract_activation)
        self.drop_last = kernel % 2 == 0

    def forward(self, h_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        if self.batch_norm is not None and self.training:  # statistics are those of valid frames
            normed_nD = self.batch_norm(h_BTD[valid_BT])
            h_BTD = normed_nD.new_zeros(h_BTD.shape).masked_scatter(valid_BT[:, :, None], normed_nD)
        h_BDT = h_BTD.transpose(1, 2)
        if self.batch_norm is not None and not self.training:
            h_BDT = torch.where(valid_BT[:, None, :], self.batch_norm(h_BDT), 0.0)
        h_BDT = self.conv(h_BDT)
        if self.drop_last:
            h_BDT = h_BDT[:, :, :-1]
        out: Tensor = self.act(h_BDT.transpose(1, 2))
        return out

    def deploy(self) -> None:
        """Replace the weight norm by the weight it computes, and the convolution by its form for inference."""
        if parametrize.is_parametrized(self.conv, "weight"):
            parametrize.remove_parametrizations(self.conv, "weight")
        if isinstance(self.conv, nn.Conv1d):
            self.conv = DeployedConv(self.conv)


class Attention(nn.Module):
    """Multi-head self-attention with a key bias `[B, 1, 1, T]`."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, h_BTD: Tensor, bias_B11T: Tensor) -> Tensor:
        mixed_BTD = attend(
            self.q_proj(h_BTD),
            self.k_proj(h_BTD),
            self.v_proj(h_BTD),
            bias_B11T,
            self.num_heads,
            self.dropout if self.training else 0.0,
        )
        out: Tensor = self.out_proj(mixed_BTD)
        return out


class FeedForward(nn.Module):
    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.act = activation(config.hidden_act)
        self.dropout = nn.Dropout(config.activation_dropout)

    def forward(self, h_BTD: Tensor) -> Tensor:
        out: Tensor = self.output_dense(self.dropout(self.act(self.intermediate_dense(h_BTD))))
        return out


class TransformerLayer(nn.Module):
    """Post-norm (Base and the students) or pre-norm (`do_stable_layer_norm`: Large)."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.pre_norm = config.do_stable_layer_norm

    def forward(self, h_BTD: Tensor, bias_B11T: Tensor) -> Tensor:
        out: Tensor
        if self.pre_norm:
            h_BTD = h_BTD + self.dropout(self.attention(self.layer_norm(h_BTD), bias_B11T))
            out = h_BTD + self.dropout(self.feed_forward(self.final_layer_norm(h_BTD)))
            return out
        h_BTD = self.layer_norm(h_BTD + self.dropout(self.attention(h_BTD, bias_B11T)))
        out = self.final_layer_norm(h_BTD + self.dropout(self.feed_forward(h_BTD)))
        return out


class Transformer(nn.Module):
    """`[B, T, D]` and lengths -> the states of every layer; state 0 is the input of the first layer."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.pos_conv_embed = PositionalConv(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_hidden_layers))
        self.pre_norm = config.do_stable_layer_norm

    def states(self, h_BTD: Tensor, lengths_B: Tensor, last: int | None = None) -> list[Tensor]:
        """`num_hidden_layers + 1` tensors `[B, T, D]`; the last is the encoder's output.

        Args:
            last: stop after this state, which then is the last.
        """
        valid_BT = valid(lengths_B, h_BTD.shape[1])
        h_BTD = torch.where(valid_BT[:, :, None], h_BTD, 0.0)
        bias_B11T = attention_bias(valid_BT, h_BTD.dtype)
        h_BTD = h_BTD + self.pos_conv_embed(h_BTD, valid_BT)
        if not self.pre_norm:
            h_BTD = self.layer_norm(h_BTD)
        states = [self.dropout(h_BTD)]
        for layer in self.layers[:last]:
            states.append(layer(states[-1], bias_B11T))
        if self.pre_norm and len(states) > len(self.layers):
            states[-1] = self.layer_norm(states[-1])
        return states

    def forward(self, h_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        return self.states(h_BTD, lengths_B)[-1]
