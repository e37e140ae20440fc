"""Log-mel frames to a quarter as many frames of the stream: two strided convolutions, nothing padded.

Shapes: B batch, F log-mel frames, M mel bins, T frames, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WINDOW, STRIDE = 7, 4
"""Log-mel frames that one frame reads, and from one frame to the next."""


def bins_left(num_bins: int) -> int:
    """Rows of frequency after both convolutions."""
    return ((num_bins - 1) // 2 - 1) // 2


class Subsampling(nn.Module):
    """`[B, F, M]` -> `[B, T, D]`, T = (F - 7) // 4 + 1; each bin is brought to the corpus' mean and deviation first."""

    def __init__(self, num_bins: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_M", torch.zeros(num_bins))
        self.register_buffer("scale_M", torch.ones(num_bins))
        self.first = nn.Conv2d(1, width, 3, stride=2)
        self.second = nn.Conv2d(width, width, 3, stride=2)
        self.out = nn.Linear(width * bins_left(num_bins), width)
        self.mean_M: Tensor
        self.scale_M: Tensor

    def set_statistics(self, frames_FM: Tensor) -> None:
        """Take each bin's mean and standard deviation from a corpus' frames."""
        self.mean_M.copy_(frames_FM.mean(0))
        self.scale_M.copy_(1 / frames_FM.std(0).clamp_min(1e-5))

    def forward(self, log_mel_BFM: Tensor) -> Tensor:
        h_B1FM = ((log_mel_BFM - self.mean_M) * self.scale_M)[:, None]
        h_BDTM = self.second(self.first(h_B1FM).relu()).relu()
        out: Tensor = self.out(h_BDTM.transpose(1, 2).flatten(2))
        return out
