"""Which frame may attend to which, so that an offline pass answers as a stream of chunks would.

Dynamic chunks: the size is drawn anew for each batch (WeNet's U2, Zhang et al. 2020, arXiv 2012.05481, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChunkSettings:
    """How a model learns to stream.

    Attributes:
        share: the share of batches that are seen in chunks, 0..1; 0: the model is for whole recordings only.
        smallest, largest: frames of a chunk, drawn between them.
    """

    share: float = 0.5
    smallest: int = 4
    largest: int = 32

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 1 <= self.smallest <= self.largest):
            raise ValueError(f"share must be in 0..1 and 1 <= smallest <= largest, got {self}")

    def draw(self, num_frames: int, left_frames: int, device: torch.device) -> Tensor | None:
        """A mask `[T, T]` for one batch, from torch's generator; None: every frame sees all."""
        seen, size = torch.rand(()), torch.randint(self.smallest, self.largest + 1, ())
        return chunk_mask(num_frames, int(size), left_frames, device) if float(seen) < self.share else None


def chunk_mask(num_frames: int, chunk: int, left_frames: int, device: torch.device | None = None) -> Tensor:
    """bool `[T, T]`: query i may see key j, whose chunk is not later and which is at most `left_frames` before i's."""
    frame_T = torch.arange(num_frames, device=device)
    begin_T1 = (frame_T // chunk * chunk)[:, None]
    return (frame_T[None, :] < begin_T1 + chunk) & (frame_T[None, :] >= begin_T1 - left_frames)
