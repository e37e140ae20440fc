"""The device's features (`edgekit.runtime.features`), batched in torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.runtime.features.fbank import FbankConfig
from edgekit.train.layers.fbank import TorchFbank
from edgekit.train.layers.masking import valid


class Waveform(nn.Module):
    """Samples as they are, or each recording at zero mean and unit variance (`normalise`)."""

    def __init__(self, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        if not self.normalise:
            return wave_BN, lengths_B
        valid_BN = valid(lengths_B, wave_BN.shape[1])
        count_B1 = lengths_B[:, None].to(wave_BN.dtype)
        mean_B1 = torch.where(valid_BN, wave_BN, 0.0).sum(1, keepdim=True) / count_B1
        centred_BN = torch.where(valid_BN, wave_BN - mean_B1, 0.0)
        variance_B1 = centred_BN.square().sum(1, keepdim=True) / count_B1
        return centred_BN * torch.rsqrt(variance_B1 + 1e-7), lengths_B


def features_of(description: Mapping[str, Any]) -> nn.Module:
    """A module `wave [B, N], lengths [B]` -> the graph's `x` and `x_lens`, from a manifest's `features`."""
    settings = {name: value for name, value in description.items() if name not in ("kind", "min_samples")}
    if description["kind"] == "waveform":
        return Waveform(bool(settings["normalise"]))
    assert description["kind"] == "kaldi-fbank", description
    return TorchFbank(FbankConfig(**settings))
