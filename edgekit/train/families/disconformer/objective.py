"""NetAug for a Conformer: each batch is seen by the core alone and by the core with some augment nets.

The gradients of both reach the core, those of the second also the augment nets (Cai et al. 2021, arXiv 2110.08890;
arXiv 2212.01393). One mask of SpecAugment and one of chunks serve both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgekit.train.data.loading import Batch
from edgekit.train.families.disconformer.config import Config
from edgekit.train.families.disconformer.model import DisConformer
from edgekit.train.layers.chunks import ChunkSettings
from edgekit.train.techniques.ctc import Ctc, CtcSettings, spec_augment
from edgekit.train.tokens import Encode


@dataclass(frozen=True)
class NetAugSettings:
    """How augment nets learn beside the core.

    Attributes:
        weight: of the loss of the augmented pass; 0: the core learns alone, as a plain Conformer.
        at_once: augment nets that a batch sees together.
        draw: which: "random" ones of all, alike often, or all "in-turn".
        core_only_share: the last share of the steps, in which the core learns alone, 0..1.
    """

    weight: float = 1.0
    at_once: int = 1
    draw: Literal["random", "in-turn"] = "random"
    core_only_share: float = 0.0

    def __post_init__(self) -> None:
        if self.weight < 0 or self.at_once < 1:
            raise ValueError(f"weight must not be negative and at_once at least 1, got {self.weight}, {self.at_once}")
        if not 0 <= self.core_only_share <= 1:
            raise ValueError(f"core_only_share must be in 0..1, got {self.core_only_share}")

    def core_only_from(self, num_steps: int) -> int:
        """The step from which the core learns alone, of so many."""
        return round(num_steps * (1 - self.core_only_share))


class NetAug(Ctc):
    """CTC of the core, and of the core with augment nets.

    Args:
        features: `wave [B, N], lengths [B]` -> log-mel frames and lengths.
        save: writes the checkpoint.
        core_only_from: the step from which the core learns alone.
        spell: as in `Ctc`.
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
        *,
        core_only_from: float = math.inf,
        spell: Encode | None = None,
    ) -> None:
        assert module.head is not None
        augment = spec_augment(settings, lambda: module.encoder.subsampling.mean_M)
        super().__init__(module.encoder, module.head, features, tokens, save, settings, spell=spell, augment=augment)
        self.config, self.netaug, self.chunks = config, netaug, chunks
        self._core_only_from = core_only_from

    def inputs(self, batch: Batch, step: int) -> dict[str, Any]:
        given = super().inputs(batch, step)
        num_frames = int(self.config.frames.of_size(given["x"].shape[1]))
        active = self._active(batch.index, step)
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

    def _active(self, index: int, step: int) -> tuple[int, ...]:
        """The augment nets that a batch sees; different ones."""
        num_augments = self.config.num_augments
        alone = not self.netaug.weight or step >= self._core_only_from
        count = 0 if alone else min(self.netaug.at_once, num_augments)
        if self.netaug.draw == "in-turn":
            return tuple((index * count + place) % num_augments for place in range(count))
        return tuple(torch.randperm(num_augments)[:count].tolist())

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
