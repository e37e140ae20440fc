"""Learning to write down speech with CTC (Graves et al. 2006): loss, and word errors on held-back recordings.

Shapes: B batch, T frames, V labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jiwer
import torch
from torch import Tensor, nn

from edgekit.core.errors import DataError
from edgekit.runtime.decode.ctc import greedy, words
from edgekit.train.data.loading import Batch
from edgekit.train.layers.spec_augment import SpecAugment
from edgekit.train.objective import Objective
from edgekit.train.tokens import Encode, ctc_output, encode

Augment = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class CtcSettings:
    """How a recogniser is made of an encoder.

    Attributes:
        freeze_steps: updates in which only the head learns.
        time_masks, time_width: SpecAugment's masks over time, and their most frames (10 ms each).
        freq_masks, freq_width: the same over mel bins.
        mask_probability, mask_length: the share of encoder frames hidden from the Transformer, in spans of so many, for
            encoders of waveforms (wav2vec 2.0's fine-tuning).
    """

    freeze_steps: int = 0
    time_masks: int = 2
    time_width: int = 40
    freq_masks: int = 2
    freq_width: int = 27
    mask_probability: float = 0.3
    mask_length: int = 10

    def __post_init__(self) -> None:
        counts = (self.freeze_steps, self.time_masks, self.time_width, self.freq_masks, self.freq_width)
        if min(counts) < 0:
            raise ValueError(f"steps, masks and widths must not be negative, got {counts}")
        if not (0 <= self.mask_probability < 1 and self.mask_length >= 1):
            raise ValueError("mask_probability must be in 0..1 and mask_length at least 1")


def unspelled(texts: Iterable[str | None], spell: Encode) -> str | None:
    """What a person should know of texts that some labels cannot spell; None where they spell all."""
    lost, total, spoiled = 0, 0, 0
    for text in texts:
        _, unknown = spell(text or "")
        lost, total, spoiled = lost + unknown, total + len(text or ""), spoiled + bool(unknown)
    if not lost:
        return None
    return f"{lost:,} of {total:,} characters, in {spoiled:,} texts, are not among the labels and are left out"


def spec_augment(settings: CtcSettings, mean: Callable[[], Tensor]) -> Augment:
    """Bands of time and frequency become the corpus' mean `[M]`, which a front end's norm turns to zero."""
    masks = SpecAugment(
        num_freq=settings.freq_masks,
        freq_width=settings.freq_width,
        num_time=settings.time_masks,
        time_width=settings.time_width,
    )

    def augment(x_BFM: Tensor, lengths_B: Tensor) -> Tensor:
        masked_BFM: Tensor = masks(x_BFM, lengths_B, mean())
        return masked_BFM

    return augment


class Ctc(Objective):
    """An encoder with a linear head over labels.

    Args:
        encoder: features and lengths -> `[B, T, D]` and lengths.
        head: `[B, T, D]` -> logits `[B, T, V]`.
        features: `wave [B, N], lengths [B]` -> the encoder's input.
        tokens: the V labels.
        save: writes the deployed module's checkpoint.
        spell: a text as indices of the labels; None: letter by letter.
        augment: changes a training batch's features.
    """

    monitor: ClassVar[str] = "wer"

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        features: nn.Module,
        tokens: Sequence[str],
        save: Callable[[Path], None],
        settings: CtcSettings,
        *,
        spell: Encode | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.features = encoder, head, features
        self.tokens = tuple(tokens)
        self._spell = spell or partial(encode, tokens=self.tokens)
        self._save, self._augment, self._settings = save, augment, settings
        self._blank = int(str(ctc_output(self.tokens, 0.0)["blank"]))
        self._delimiter = str(ctc_output(self.tokens, 0.0)["delimiter"])

    def inputs(self, batch: Batch, step: int) -> dict[str, Any]:
        x, x_lens_B = self.features(batch.wave_BN, batch.lengths_B)
        if self._augment is not None:
            x = self._augment(x, x_lens_B)
        targets, target_lens_B = self._targets(batch)
        frozen = step < self._settings.freeze_steps
        return {"x": x, "x_lens": x_lens_B, "targets": targets, "target_lens": target_lens_B, "frozen": frozen}

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not inputs["frozen"]):
            h_BTD, lengths_B = self.encoder(inputs["x"], inputs["x_lens"])
        log_probs_BTV = self.head(h_BTD).float().log_softmax(-1)
        return {"loss": self._loss(log_probs_BTV, lengths_B, inputs["targets"], inputs["target_lens"])}

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """ "loss" per recording, "wer" and "cer" of greedy decoding, as fractions."""
        losses: list[float] = []
        references: list[str] = []
        answers: list[str] = []
        num_items = 0
        for batch in batches:
            h_BTD, lengths_B = self.encoder(*self.features(batch.wave_BN, batch.lengths_B))
            log_probs_BTV = self.head(h_BTD).float().log_softmax(-1)
            loss = self._loss(log_probs_BTV, lengths_B, *self._targets(batch))
            losses.append(float(loss) * len(batch.ids))
            num_items += len(batch.ids)
            for log_probs_TV, length, text in zip(log_probs_BTV.cpu().numpy(), lengths_B.tolist(), batch.texts):
                ids, _ = self._spell(text or "")
                references.append(self._text_of_ids(ids))
                found = words(
                    greedy(log_probs_TV[:length], self._blank), self.tokens, delimiter=self._delimiter, frame_s=1.0
                )
                answers.append(" ".join(word.text for word in found))
        spoken = [(reference, answer) for reference, answer in zip(references, answers) if reference]
        if not spoken:
            raise DataError("expected held-back recordings with texts, received none", hint="--set data.validation=DIR")
        references, answers = [reference for reference, _ in spoken], [answer for _, answer in spoken]
        return {
            "loss": sum(losses) / num_items,
            "wer": float(jiwer.wer(references, answers)),
            "cer": float(jiwer.cer(references, answers)),
        }

    def save(self, folder: Path) -> None:
        self._save(folder)

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Labels of all items, joined, and how many each has."""
        ids = [self._spell(text or "")[0] for text in batch.texts]
        device = batch.lengths_B.device
        joined = torch.tensor([index for item in ids for index in item], dtype=torch.int64, device=device)
        return joined, torch.tensor([len(item) for item in ids], dtype=torch.int64, device=device)

    def _loss(self, log_probs_BTV: Tensor, lengths_B: Tensor, targets: Tensor, target_lens_B: Tensor) -> Tensor:
        """The mean over recordings of the negative log-likelihood per label."""
        losses_B = nn.functional.ctc_loss(
            log_probs_BTV.transpose(0, 1),
            targets,
            lengths_B,
            target_lens_B,
            blank=self._blank,
            reduction="none",
            zero_infinity=True,  # a text with more labels than frames teaches nothing
        )
        # of a text without any of our labels silence would be learned: it teaches nothing either
        return torch.where(target_lens_B > 0, losses_B / target_lens_B.clamp_min(1), 0.0).mean()

    def _text_of_ids(self, ids: Sequence[int]) -> str:
        text = "".join(self.tokens[index] for index in ids).replace(self._delimiter, " ")
        return " ".join(text.split())
