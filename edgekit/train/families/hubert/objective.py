"""Masked prediction of cluster labels: how HuBERT learns (Hsu et al. 2021, arXiv 2106.07447, section II).

Shapes: B batch, N samples, T frames, D width, E code width, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.train.data.loading import Batch
from edgekit.train.layers.features import Waveform
from edgekit.train.layers.hubert.head import WithHead
from edgekit.train.layers.hubert.learning import HiddenSpans, scale_gradient
from edgekit.train.layers.hubert.teacher import Codes, Teacher
from edgekit.train.layers.masking import valid
from edgekit.train.layers.mfcc import Mfcc
from edgekit.train.objective import Objective
from edgekit.train.techniques.clusters import nearest

TEMPERATURE = 0.1
"""Of the cosines (fairseq's `logit_temp`)."""

_CODE_WIDTH = 256
_GRADIENT_SCALE = 0.1


@dataclass(frozen=True)
class PredictionLosses:
    """What is predicted, and how much it counts.

    Attributes:
        mask_probability, mask_length: the share of frames hidden, in spans of so many (overlaps reduce the share).
        unmasked_weight: of the frames that are not hidden (the paper's 1 - alpha; 0 there). With little sound and few
            updates it is what begins to teach.
        feature_penalty: of the convolutions' squared output, which keeps it small.
    """

    mask_probability: float = 0.8
    mask_length: int = 10
    unmasked_weight: float = 0.0
    feature_penalty: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.mask_probability < 1 and self.mask_length >= 1):
            raise ValueError(
                f"mask_probability must be in 0..1 and mask_length at least 1, got {self.mask_probability}, "
                f"{self.mask_length}"
            )
        if min(self.unmasked_weight, self.feature_penalty) < 0:
            raise ValueError("unmasked_weight and feature_penalty must not be negative")


class MfccFrames(nn.Module):
    """What the first iteration's labels are clustered from: MFCC with differences, every second frame."""

    def __init__(self) -> None:
        super().__init__()
        self.mfcc = Mfcc()

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, T, 39]`, 20 ms per frame as the encoder's, and the encoder's lengths."""
        x_BFC, frames_B = self.mfcc(wave_BN, lengths_B)
        return x_BFC[:, ::2], (frames_B + 1) // 2


class StateFrames(nn.Module):
    """What later iterations' labels are clustered from: a layer of the model before."""

    def __init__(self, teacher: Teacher, layer: int) -> None:
        super().__init__()
        self.teacher, self.layer = teacher, layer

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        states, frames_B = self.teacher.states(wave_BN, lengths_B, last=self.layer)
        return states[-1], frames_B


class MaskedPrediction(Objective):
    """Predict the cluster of hidden frames from the frames around them; cross-entropy over hidden frames alone.

    Args:
        module: an encoder without head.
        labelled: `wave, lengths` -> the frames whose nearest centroid is the label.
        centroids_KD: the clusters.
        save: writes the encoder's checkpoint; the code vectors come beside it.
    """

    def __init__(
        self,
        module: WithHead,
        width: int,
        normalise: bool,
        labelled: nn.Module,
        centroids_KD: Tensor,
        losses: PredictionLosses,
        save: Callable[[Path], None],
    ) -> None:
        super().__init__()
        self.hubert: Any = module.hubert
        self.spans = HiddenSpans(
            width, losses.mask_probability, losses.mask_length, min_spans=2
        )  # as fairseq: every item teaches something
        self.dropout = nn.Dropout(0.1)
        self.final_proj = nn.Linear(width, _CODE_WIDTH)
        self.label_embs = nn.Parameter(torch.rand(len(centroids_KD), _CODE_WIDTH))
        self.features = Waveform(normalise)
        self.losses = losses
        self._frozen = (labelled, centroids_KD)
        self._save = save
        scale_gradient(self.hubert.feature_extractor, _GRADIENT_SCALE)

    def inputs(self, batch: Batch, step: int) -> dict[str, Any]:
        labelled, centroids_KD = self._frozen
        frames_BTD, _ = labelled(batch.wave_BN, batch.lengths_B)
        x_BN, lengths_B = self.features(batch.wave_BN, batch.lengths_B)
        return {"x": x_BN, "x_lens": lengths_B, "labels": nearest(frames_BTD, centroids_KD)}

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        conv_BTC, frames_B = self.hubert.feature_extractor(inputs["x"], inputs["x_lens"])
        valid_BT = valid(frames_B, conv_BTC.shape[1])
        # keeps the convolutions' output small, as fairseq's `features_pen`
        penalty = conv_BTC.float().square().mean(-1)[valid_BT].mean()
        h_BTD = self.dropout(self.hubert.feature_projection(conv_BTC))
        h_BTD, hidden_BT = self.spans(h_BTD, frames_B)
        h_BTD = self.hubert.encoder(h_BTD, frames_B)
        log_probs_BTK = self.codes().log_posteriors(h_BTD.float(), TEMPERATURE)
        labels_BT = inputs["labels"][:, : hidden_BT.shape[1]]
        prediction = _cross_entropy(log_probs_BTK[hidden_BT], labels_BT[hidden_BT])
        loss = prediction + self.losses.feature_penalty * penalty
        if self.losses.unmasked_weight:
            seen_BT = valid_BT & ~hidden_BT
            loss = loss + self.losses.unmasked_weight * _cross_entropy(log_probs_BTK[seen_BT], labels_BT[seen_BT])
        right_n = (log_probs_BTK.argmax(-1) == labels_BT)[hidden_BT]
        return {
            "loss": loss,
            "prediction": prediction,
            "feature_penalty": penalty,
            "accuracy": right_n.sum() / max(1, len(right_n)),
        }

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """ "loss" (of the prediction, in nats) and "accuracy" on hidden frames, hidden alike every time."""
        torch.manual_seed(0)
        sums: dict[str, float] = {"prediction": 0.0, "accuracy": 0.0}
        count = 0
        for batch in batches:
            values = self(**self.inputs(batch, 0))
            count += len(batch.ids)
            for name in sums:
                sums[name] += float(values[name]) * len(batch.ids)
        return {"loss": sums["prediction"] / count, "accuracy": sums["accuracy"] / count}

    def codes(self) -> Codes:
        """Its own code vectors: later the soft labels of students."""
        assert self.final_proj.bias is not None
        return Codes(self.label_embs, self.final_proj.weight, self.final_proj.bias)

    def save(self, folder: Path) -> None:
        self._save(folder)
        self.codes().save(folder)


def _cross_entropy(log_probs_nK: Tensor, labels_n: Tensor) -> Tensor:
    """The mean over frames; 0 where there is none: recordings that are shorter than a span have no hidden ones."""
    return nn.functional.nll_loss(log_probs_nK, labels_n, reduction="sum") / max(1, len(labels_n))
