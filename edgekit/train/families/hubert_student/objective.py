"""How a student learns from a frozen HuBERT: regression of its states, its soft labels, and its front end first.

Shapes: B batch, T frames, d student width, D teacher width, L target layers, K codes. Only valid frames count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgekit.core.errors import SettingsError
from edgekit.train.data.loading import Batch
from edgekit.train.layers.hubert.head import WithHead
from edgekit.train.layers.hubert.learning import scale_gradient
from edgekit.train.layers.hubert.teacher import Codes, Teacher
from edgekit.train.layers.masking import valid
from edgekit.train.objective import Objective


@dataclass(frozen=True)
class DistilLosses:
    """Which losses, and how much each counts. The model card says which values are the paper's.

    Attributes:
        regression: "layers": student layer i learns teacher layer i (scaled to its depth) through a Linear of its own;
            "prediction": the last state predicts several teacher layers through one shared head (DistilHuBERT);
            "none".
        targets: teacher layers of "prediction", from 1; (): a third of the depth, and the last.
        distance: "l1" or "l2".
        regression_weight, cosine_weight: of the distance, and of -log sigmoid(cosine).
        discriminative: the student's side of the soft labels. 1: Linear(d -> E), cosines with the teacher's codes;
            2: Linear(d -> K); 3: as 1, against the teacher's best label alone; 0: none.
        discriminative_weight: of the Kullback-Leibler divergence (type 3: cross-entropy).
        temperature: of the teacher's cosines, and of the student's in types 1 and 3.
        front_end_steps: updates in which a filter bank's front end alone learns the input of the teacher's first layer.
        front_end_weight: of that loss.
        copy: begin with the teacher's convolutions and layers where shapes agree.
    """

    regression: Literal["layers", "prediction", "none"] = "layers"
    targets: tuple[int, ...] = ()
    distance: Literal["l1", "l2"] = "l2"
    regression_weight: float = 1.0
    cosine_weight: float = 0.0
    discriminative: Literal[0, 1, 2, 3] = 2
    discriminative_weight: float = 1.0
    temperature: float = 0.1
    front_end_steps: int = 5_000
    front_end_weight: float = 1.0
    copy: bool = True

    def __post_init__(self) -> None:
        weights = (self.regression_weight, self.cosine_weight, self.discriminative_weight, self.front_end_weight)
        if min(weights) < 0 or self.front_end_steps < 0:
            raise ValueError(f"weights and front_end_steps must not be negative, got {weights}, {self.front_end_steps}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.regression == "none" and not self.discriminative:
            raise ValueError("regression and discriminative cannot both be off")

    def target_layers(self, student_layers: int, teacher_layers: int) -> tuple[int, ...]:
        """The teacher's layers that are learned, from 1.

        Raises:
            SettingsError: the teacher has no such layers.
        """
        if self.regression == "layers":
            return tuple(round((i + 1) * teacher_layers / student_layers) or 1 for i in range(student_layers))
        if not all(1 <= layer <= teacher_layers for layer in self.targets):
            raise SettingsError(f"losses.targets: expected layers in 1..{teacher_layers}, received {self.targets}")
        return self.targets or (max(1, round(teacher_layers / 3)), teacher_layers)


class PredictionHead(nn.Module):
    """`[B, T, d]` -> one `[B, T, D]` per target layer: Linear to L widths, GELU, a Linear for each (DistilHuBERT)."""

    def __init__(self, student: int, teacher: int, num_targets: int) -> None:
        super().__init__()
        self.shared = nn.Linear(student, student * num_targets)
        self.act = nn.GELU()
        self.heads = nn.ModuleList(nn.Linear(student, teacher) for _ in range(num_targets))

    def forward(self, states: Sequence[Tensor]) -> list[Tensor]:
        parts = self.act(self.shared(states[-1])).chunk(len(self.heads), -1)
        return [head(part) for head, part in zip(self.heads, parts)]


class LayerHeads(nn.Module):
    """A Linear `d -> D` for every layer of the student (FitHuBERT)."""

    def __init__(self, student: int, teacher: int, num_layers: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(student, teacher) for _ in range(num_layers))

    def forward(self, states: Sequence[Tensor]) -> list[Tensor]:
        return [head(state) for head, state in zip(self.heads, states[1:])]


class Distillation(Objective):
    """A student, the heads through which it is compared with its teacher, and the losses.

    Args:
        module: the student without head.
        features: `wave [B, N], lengths [B]` -> the student's input.
        codes: for the discriminative loss; None: it is off.
        front_end: whether the student has a filter bank's front end, which then learns first.
        save: writes the student's checkpoint.
    """

    def __init__(
        self,
        module: WithHead,
        features: nn.Module,
        teacher: Teacher,
        codes: Codes | None,
        losses: DistilLosses,
        *,
        width: int,
        num_layers: int,
        front_end: bool,
        save: Callable[[Path], None],
    ) -> None:
        super().__init__()
        self.student: Any = module.hubert
        self.features, self.losses = features, losses
        teacher_width, teacher_layers = teacher.config.hidden_size, teacher.config.num_hidden_layers
        self.targets = losses.target_layers(num_layers, teacher_layers)
        self.regression: nn.Module | None = None
        if losses.regression == "prediction":
            self.regression = PredictionHead(width, teacher_width, len(self.targets))
        elif losses.regression == "layers":
            self.regression = LayerHeads(width, teacher_width, num_layers)
        self.discriminative: nn.Module | None = None
        if codes is not None and losses.discriminative:
            num_codes, code_width = codes.codes_KE.shape
            self.discriminative = nn.Linear(width, num_codes if losses.discriminative == 2 else code_width)
        self.front_end_head = nn.Linear(width, teacher_width) if front_end and losses.front_end_steps else None
        self._frozen = (teacher, codes)
        self._save = save
        if not front_end:
            scale_gradient(self.student.feature_extractor, 0.1)

    def inputs(self, batch: Batch, step: int) -> dict[str, Any]:
        teacher, codes = self._frozen
        x, x_lens_B = self.features(batch.wave_BN, batch.lengths_B)
        only_front_end = self.front_end_head is not None and step < self.losses.front_end_steps
        states, _ = teacher.states(batch.wave_BN, batch.lengths_B, last=0 if only_front_end else None)
        given: dict[str, Any] = {"x": x, "x_lens": x_lens_B}
        if only_front_end:
            return {**given, "first_state": states[0]}
        given["states"] = [states[layer] for layer in self.targets]
        if self.discriminative is not None:
            assert codes is not None
            given["log_labels"] = codes.log_posteriors(states[-1], self.losses.temperature)
        return given

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        h_BTd, frames_B = self.student.features(inputs["x"], inputs["x_lens"])
        valid_BT = valid(frames_B, h_BTd.shape[1])
        if "first_state" in inputs:
            assert self.front_end_head is not None
            front = self._distance(self.front_end_head(h_BTd), inputs["first_state"], valid_BT)
            return {"loss": self.losses.front_end_weight * front, "front_end": front}
        states = self.student.encoder.states(h_BTd, frames_B)
        values: dict[str, Tensor] = {}
        if self.regression is not None:
            pairs = list(zip(self.regression(states), inputs["states"]))
            distances = [self._distance(predicted, target, valid_BT) for predicted, target in pairs]
            cosines = [_cosine_loss(predicted[valid_BT], target[valid_BT]) for predicted, target in pairs]
            values["regression"] = torch.stack(distances).mean()
            values["cosine"] = torch.stack(cosines).mean()
        if self.discriminative is not None:
            values["discriminative"] = self._labels_loss(
                self.discriminative(states[-1])[valid_BT].float(), inputs["log_labels"][valid_BT]
            )
        weights = {
            "regression": self.losses.regression_weight,
            "cosine": self.losses.cosine_weight,
            "discriminative": self.losses.discriminative_weight,
        }
        loss = torch.stack([weights[name] * value for name, value in values.items()]).sum()
        return {"loss": loss, **values}

    def validate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """The losses of the second stage, per recording; the loss of the first stage too where there is one."""
        sums: dict[str, float] = {}
        count = 0
        for batch in batches:
            values = self(**self.inputs(batch, self.losses.front_end_steps))
            if self.front_end_head is not None:
                values["front_end"] = self(**self.inputs(batch, 0))["front_end"]
            count += len(batch.ids)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch.ids)
        return {name: total / count for name, total in sums.items()}

    def save(self, folder: Path) -> None:
        self._save(folder)

    def _distance(self, predicted_BTD: Tensor, target_BTD: Tensor, valid_BT: Tensor) -> Tensor:
        difference = (predicted_BTD.float() - target_BTD)[valid_BT]
        return difference.abs().mean() if self.losses.distance == "l1" else difference.square().mean()

    def _labels_loss(self, out_nE: Tensor, log_labels_nK: Tensor) -> Tensor:
        """The divergence of the student's labels from the teacher's, per frame in nats."""
        codes = self._frozen[1]
        assert codes is not None
        kind = self.losses.discriminative
        log_probs_nK = (
            out_nE.log_softmax(-1) if kind == 2 else codes.log_posteriors_of_codes(out_nE, self.losses.temperature)
        )
        if kind == 3:
            return nn.functional.nll_loss(log_probs_nK, log_labels_nK.argmax(-1))
        return nn.functional.kl_div(log_probs_nK, log_labels_nK, log_target=True, reduction="batchmean")


def _cosine_loss(predicted_nD: Tensor, target_nD: Tensor) -> Tensor:
    """-log sigmoid(cosine), the mean over frames (DistilHuBERT, Chang et al. 2021, eq. 1)."""
    cosine_n = nn.functional.cosine_similarity(predicted_nD.float(), target_nD, dim=-1)
    return -nn.functional.logsigmoid(cosine_n).mean()
