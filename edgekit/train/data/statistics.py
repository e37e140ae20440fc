"""What a corpus' features look like, for norms whose statistics are fixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.train.data.sets import SpeechData

_FRAMES_PER_HOUR = 360_000


def corpus_frames(data: SpeechData, features: nn.Module, hours: float = 0.5) -> Tensor:
    """Valid frames `[n, M]` of so many hours, drawn at random.

    Args:
        features: `wave [B, N], lengths [B]` -> `[B, F, M]`, a frame per 10 ms, and lengths.
    """
    seen, count = [], 0
    for batch in data.once():
        x_BFM, frames_B = features(batch.wave_BN, batch.lengths_B)
        seen += [x_FM[:size] for x_FM, size in zip(x_BFM, frames_B.tolist())]
        count += int(frames_B.sum())
        if count >= hours * _FRAMES_PER_HOUR:
            break
    return torch.cat(seen)
