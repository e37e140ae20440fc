"""NetAug for a Conformer: each batch is seen by the core alone and by the core with some augment nets.

The gradients of both reach the core, those of the second also the augment nets (Cai et al. 2021, arXiv 2110.08890;
arXiv 2212.01393). One mask of SpecAugment and one of chunks serve both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.train.data.loading import Batch
from edgekit.train.families.disconformer.config import Config
from edgekit.train.families.disconformer.model import DisConformer
from edgekit.train.layers.chunks import ChunkSettings
from edgekit.train.techniques.ctc import Ctc, CtcSettings, spec_augment


@dataclass(frozen=True)
class NetAugSettings:
    """How augment nets learn beside the core.

    Attributes:
        weight: of the loss of the augmented pass; 0: the core learns alone, as a plain Conformer.
        at_once: augment nets drawn for each batch.
    """

    weight: float = 1.0
    at_once: int = 1

    def __post_init__(self) -> None:
        if self.weight < 0 or self.at_once < 1:
            raise ValueError(f"weight must not be negative and at_once at least 1, got {self.weight}, {self.at_once}")


class NetAug(Ctc):
    """CTC of the core, and of the core with augment nets.

    Args:
        features: `wave [B, N], lengths [B]` -> log-mel frames and lengths.
        save: writes the checkpoint.
    """

    def __init__(
        self,
        module: DisConformer,
        config: Config,
        features: nn.Module,
        tokens: Sequence[str],
        save: Callable[[Path], None],
        settings: CtcSettings,
        netaug: NetAugSettings,
        chunks: ChunkSettings,
    ) -> None:
        assert module.head is not None
        augment = spec_augment(settings, lambda: module.encoder.subsampling.mean_M)
        super().__init__(module.encoder, module.head, features, tokens, save, settings, augment=augment)
        self.config, self.netaug, self.chunks = config, netaug, chunks

    def inputs(self, batch: Batch, step: int) -> dict[str, Any]:
        given = super().inputs(batch, step)
        num_frames = int(self.config.frames.of_size(given["x"].shape[1]))
        count = min(self.netaug.at_once, self.config.num_augments) if self.netaug.weight else 0
        active = tuple(torch.randperm(self.config.num_augments)[:count].tolist())
        allowed = self.chunks.draw(num_frames, self.config.left_frames, batch.wave_BN.device)
        return {**given, "active": active, "allowed": allowed}

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        core = self._pass((), inputs)
        if not inputs["active"]:
            return {"loss": core, "core": core}
        augmented = self._pass(inputs["active"], inputs)
        return {"loss": core + self.netaug.weight * augmented, "core": core, "augmented": augmented}

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """The core's "loss", "wer" and "cer", and those of the core with the first augment net ("..._augmented")."""
        kept = list(batches)
        scores = super().validate(kept)
        if not self.netaug.weight or not self.config.num_augments:
            return scores
        core: Any = self.encoder
        self.encoder = _With(core, (0,))
        try:
            augmented = super().validate(kept)
        finally:
            self.encoder = core
        return {**scores, **{f"{name}_augmented": value for name, value in augmented.items()}}

    def _pass(self, active: tuple[int, ...], inputs: dict[str, Any]) -> Tensor:
        h_BTD, lengths_B = self.encoder(inputs["x"], inputs["x_lens"], active, inputs["allowed"])
        log_probs_BTV = self.head(h_BTD).float().log_softmax(-1)
        return self._loss(log_probs_BTV, lengths_B, inputs["targets"], inputs["target_lens"])


class _With(nn.Module):
    """The encoder with some augment nets."""

    def __init__(self, encoder: nn.Module, active: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder, self.active = encoder, active

    def forward(self, x_BFM: Tensor, lengths_B: Tensor) -> Any:
        return self.encoder(x_BFM, lengths_B, self.active)
