"""Masked prediction of cluster labels: how HuBERT learns (Hsu et al. 2021, arXiv 2106.07447, section II).

Shapes: B batch, N samples, T frames, D width, E code width, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
_FEATURE_PENALTY = 10.0
_GRADIENT_SCALE = 0.1


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
        mask: tuple[float, int],
        save: Callable[[Path], None],
    ) -> None:
        super().__init__()
        self.hubert: Any = module.hubert
        self.spans = HiddenSpans(width, *mask, min_spans=2)  # as fairseq: every item teaches something
        self.dropout = nn.Dropout(0.1)
        self.final_proj = nn.Linear(width, _CODE_WIDTH)
        self.label_embs = nn.Parameter(torch.rand(len(centroids_KD), _CODE_WIDTH))
        self.features = Waveform(normalise)
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
        log_probs_nK = self.codes().log_posteriors(h_BTD[hidden_BT].float(), TEMPERATURE)
        labels_n = inputs["labels"][:, : hidden_BT.shape[1]][hidden_BT]
        prediction = nn.functional.nll_loss(log_probs_nK, labels_n)
        accuracy = (log_probs_nK.argmax(-1) == labels_n).float().mean()
        return {
            "loss": prediction + _FEATURE_PENALTY * penalty,
            "prediction": prediction,
            "feature_penalty": penalty,
            "accuracy": accuracy,
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
