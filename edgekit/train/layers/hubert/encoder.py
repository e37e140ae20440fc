"""HuBERT: waveform front end, projection, Transformer, in the parameter layout of `transformers.HubertModel`.

Shapes: B batch, N samples, T frames, C convolution channels, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgekit.train.layers.hubert.config import HubertConfig
from edgekit.train.layers.hubert.front_end import LayerNormConv, WaveformFrontEnd
from edgekit.train.layers.hubert.transformer import PositionalConv, Transformer


class FeatureProjection(nn.Module):
    """`[B, T, C]` -> `[B, T, D]`, after a LayerNorm where the configuration has one."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        width = config.conv_dim[-1]
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps) if config.feat_proj_layer_norm else None
        self.projection = nn.Linear(width, config.hidden_size)

    def forward(self, h_BTC: Tensor) -> Tensor:
        out: Tensor = self.projection(h_BTC if self.layer_norm is None else self.layer_norm(h_BTC))
        return out


class HubertEncoder(nn.Module):
    """Samples `[B, N]` and lengths `[B]` -> hidden states `[B, T, D]` and their lengths `[B]`.

    An item's valid frames do not depend on its padding or on its neighbours.
    """

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.feature_extractor = WaveformFrontEnd(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = Transformer(config)

    def features(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """What the Transformer reads, before its positional convolution: `[B, T, D]` and lengths."""
        frames_BTC, frame_lengths_B = self.feature_extractor(wave_BN, lengths_B)
        return self.feature_projection(frames_BTC), frame_lengths_B

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        h_BTD, frame_lengths_B = self.features(wave_BN, lengths_B)
        return self.encoder(h_BTD, frame_lengths_B), frame_lengths_B


def init_weights(module: nn.Module) -> None:
    """Fresh weights as HuBERT's: for `Module.apply`.

    Linear N(0, 0.02); convolutions He; the positional convolution N(0, 4 / (taps x channels)); the projection of the
    convolutions' output as torch makes a Linear.
    """
    if isinstance(module, FeatureProjection):  # visited after its own Linear
        module.projection.reset_parameters()
    if isinstance(module, PositionalConv):
        conv = module.conv
        assert isinstance(conv, nn.Conv1d), "weights are made before they are deployed"
        weight = torch.randn_like(conv.weight) * (2 * math.sqrt(1 / (conv.kernel_size[0] * conv.in_channels)))
        if parametrize.is_parametrized(conv, "weight"):
            conv.weight = weight  # the parametrisation splits it into direction and gain
        else:
            conv.weight.data.copy_(weight)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv1d) and not parametrize.is_parametrized(module):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def deploy(module: nn.Module) -> None:
    """For `Module.apply`: bring convolutions into their form for inference. The answers stay the same."""
    if isinstance(module, (PositionalConv, LayerNormConv)):
        module.deploy()
