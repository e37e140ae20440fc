"""Kaldi's MFCC with first and second differences, batched: what HuBERT's first targets are clustered from.

Shapes: B batch, N samples, F frames (one per 10 ms), M mel bins, C = 13 coefficients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgekit.runtime.features.fbank import FbankConfig
from edgekit.train.layers.fbank import TorchFbank

_NUM_CEPSTRA = 13
_LIFTER = 22.0
_DELTA_REACH = 2


class Mfcc(nn.Module):
    """`wave [B, N], lengths [B]` -> `[B, F, 39]` and frame lengths, as `torchaudio.compliance.kaldi.mfcc` and
    `compute_deltas` twice (fairseq's recipe): 23 mel bins, no energy, orthonormal DCT, lifter 22.
    """

    def __init__(self, sample_rate: int = 16_000) -> None:
        super().__init__()
        bins = 23
        self.fbank = TorchFbank(FbankConfig(sample_rate=sample_rate, num_mel_bins=bins))
        k, m = torch.arange(_NUM_CEPSTRA, dtype=torch.float64), torch.arange(bins, dtype=torch.float64)
        dct_CM = torch.cos(math.pi / bins * k[:, None] * (m[None, :] + 0.5)) * math.sqrt(2 / bins)
        dct_CM[0] /= math.sqrt(2)
        lifter_C = 1 + 0.5 * _LIFTER * torch.sin(math.pi * k / _LIFTER)
        self.register_buffer("dct_MC", (dct_CM * lifter_C[:, None]).T.float().contiguous(), persistent=False)
        self.dct_MC: Tensor

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        log_mel_BFM, frames_B = self.fbank(wave_BN, lengths_B)
        cepstra_BFC = log_mel_BFM @ self.dct_MC
        first_BFC = _differences(cepstra_BFC, frames_B)
        return torch.cat((cepstra_BFC, first_BFC, _differences(first_BFC, frames_B)), -1), frames_B


def _differences(x_BFC: Tensor, frames_B: Tensor) -> Tensor:
    """The slope of a line through five frames; an item's first and last frame are repeated beyond its ends."""
    index_F = torch.arange(x_BFC.shape[1], device=x_BFC.device)
    total_BFC = torch.zeros_like(x_BFC)
    for reach in range(1, _DELTA_REACH + 1):
        for sign in (-1, 1):
            at_BF = (index_F + sign * reach)[None, :].clamp_min(0).minimum(frames_B[:, None] - 1).clamp_min(0)
            total_BFC += sign * reach * x_BFC.gather(1, at_BF[:, :, None].expand_as(x_BFC))
    return total_BFC / (2 * sum(reach * reach for reach in range(1, _DELTA_REACH + 1)))
