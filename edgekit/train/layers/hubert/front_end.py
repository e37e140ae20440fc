"""HuBERT's waveform front end: strided convolutions whose group norm sees each item's own valid samples only.

Shapes: B batch, N samples, T frames of a layer, C channels, K taps of the first convolution.
Parameter names are those of `transformers.HubertModel`.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from edgekit.train.layers.activations import activation
from edgekit.train.layers.convolution import DeployedConv
from edgekit.train.layers.hubert.config import HubertConfig
from edgekit.train.layers.masking import valid


class MaskedGroupNormConv(nn.Module):
    """The first convolution with its group norm (one channel per group), statistics over valid frames only.

    The convolution is linear and reads K samples per frame, so a channel's mean and variance over time follow
    from the mean and the K x K covariance of those windows. Both norm and convolution then are ONE matrix
    product per item, instead of three passes over a tensor of 512 x 64,000 values for 20 s of sound. Windows are
    first turned into the cosine basis: speech is so correlated from sample to sample that the covariance of raw
    windows loses the variance of high-pass filters to cancellation in fp32. The statistics are fp32 under autocast too:
    bf16 loses the same variance in the cosine basis, and their sums over seconds overflow fp16.
    """

    def __init__(self, channels: int, kernel: int, stride: int, bias: bool, act: str) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, channels, kernel, stride=stride, bias=bias)
        self.layer_norm = nn.GroupNorm(channels, channels)
        self.act = activation(act)
        self.stride = stride
        self.register_buffer("cosine_KK", _cosine_basis(kernel), persistent=False)
        self.cosine_KK: Tensor

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> Tensor:
        """`[B, N]`, zero beyond the lengths, -> `[B, C, T]`."""
        # autocast is off where it is, and not spoken of in a graph that is exported
        kind = wave_BN.device.type
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            windows_BKT = nn.functional.conv1d(wave_BN[:, None, :], self.cosine_KK[:, None, :], stride=self.stride)
            num_frames_B = (lengths_B - self.conv.kernel_size[0]) // self.stride + 1
            valid_B1T = valid(num_frames_B, windows_BKT.shape[-1])[:, None, :]
            count_B11 = num_frames_B[:, None, None].to(windows_BKT.dtype)
            mean_BK1 = torch.where(valid_B1T, windows_BKT, 0.0).sum(-1, keepdim=True) / count_B11
            centred_BKT = torch.where(valid_B1T, windows_BKT - mean_BK1, 0.0)
            covariance_BKK = centred_BKT @ centred_BKT.transpose(1, 2) / count_B11
            weight_CK = self.conv.weight[:, 0, :] @ self.cosine_KK.T
            variance_BC = ((weight_CK @ covariance_BKK) * weight_CK).sum(-1)
            gain_BC = self.layer_norm.weight * torch.rsqrt(variance_BC + self.layer_norm.eps)
            scaled_BCK = weight_CK * gain_BC[:, :, None]
            # the convolution's own bias moves the mean alike and so cancels
            offset_BC1 = self.layer_norm.bias[:, None] - scaled_BCK @ mean_BK1
        ones_B1T = torch.ones_like(windows_BKT[:, :1])
        normed_BCT = torch.cat((scaled_BCK, offset_BC1), 2) @ torch.cat((windows_BKT, ones_B1T), 1)
        out: Tensor = self.act(normed_BCT)
        return out


class LayerNormConv(nn.Module):
    """A convolution, with or without a LayerNorm over channels; nothing in it mixes valid and padded frames."""

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int, bias: bool, act: str, norm: bool) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv1d(inputs, channels, kernel, stride=stride, bias=bias)
        self.layer_norm = nn.LayerNorm(channels) if norm else None
        self.act = activation(act)

    def forward(self, h_BCT: Tensor) -> Tensor:
        h_BCT = self.conv(h_BCT)
        if self.layer_norm is not None:
            h_BCT = self.layer_norm(h_BCT.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.act(h_BCT)
        return out

    def deploy(self) -> None:
        """Replace the convolution by its form for inference."""
        if isinstance(self.conv, nn.Conv1d):
            self.conv = DeployedConv(self.conv)


class WaveformFrontEnd(nn.Module):
    """Samples `[B, N]` and lengths `[B]` -> frames `[B, T, C]` and their lengths.

    A valid frame never reads a padded sample (no convolution here pads), so only the group norm needs the mask.
    """

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        act, by_layer = config.feat_extract_activation, config.feat_extract_norm == "layer"
        for index, (channels, kernel, stride) in enumerate(
            zip(config.conv_dim, config.conv_kernel, config.conv_stride)
        ):
            if index == 0 and not by_layer:
                layers.append(MaskedGroupNormConv(channels, kernel, stride, config.conv_bias, act))
            else:
                layers.append(LayerNormConv(inputs, channels, kernel, stride, config.conv_bias, act, by_layer))
            inputs = channels
        self.conv_layers = nn.ModuleList(layers)
        self.frames = config.frames

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.where(valid(lengths_B, wave_BN.shape[1]), wave_BN, 0.0)
        for index, layer in enumerate(self.conv_layers):
            if isinstance(layer, MaskedGroupNormConv):
                h = layer(h, lengths_B)
            else:
                h = layer(h[:, None, :] if index == 0 else h)
        return h.transpose(1, 2), self.frames.of_size(lengths_B)


def _cosine_basis(size: int) -> Tensor:
    """The orthonormal DCT-II matrix `[K, K]`, a basis vector per row."""
    n = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * n[:, None] * (n[None, :] + 0.5)) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis.float()
