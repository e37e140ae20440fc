"""LIO: classes, and beside them the object's extent and structure on maps of the same backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekit.runtime.features.image import ImageConfig
from edgekit.train.data.picture_loading import PictureBatch
from edgekit.train.families.lio.heads import Explanation, Heads, Seen
from edgekit.train.families.lio.losses import extent_loss, structure_losses
from edgekit.train.families.lio.pictures import FOLDER, Examples
from edgekit.train.layers.classifier.model import PictureClassifier
from edgekit.train.techniques.classification import Classification, ClassificationSettings


@dataclass(frozen=True)
class LioSettings:
    """LIO's losses.

    Attributes:
        positives: P, other pictures of its class beside each.
        extent_weight: alpha, of L_oel; 0: off.
        structure_weight: beta, of L_scl; 0: off.
        unit_features: divide a picture's features by their root mean square before eq. 2, so that its M does not grow
            with their square. Without it training from nothing, or at a high rate, may run away (see the card).
        pictures: of so many held-back pictures, each of another class, what the heads of the last stage see is drawn
            beside each checkpoint.
    """

    positives: int = 3
    extent_weight: float = 0.1
    structure_weight: float = 0.1
    unit_features: bool = False
    pictures: int = 4

    def __post_init__(self) -> None:
        if self.positives < 1:
            raise ValueError(f"positives must be at least 1, got {self.positives}")
        if min(self.extent_weight, self.structure_weight, self.pictures) < 0:
            raise ValueError("extent_weight, structure_weight and pictures must not be negative")


class Lio(Classification):
    """A classifier that learns with its heads: L = L_cls + sum of alpha L_oel + beta (L_dis + L_ang) over stages (eq.
    10).

    Args:
        image: how pictures become pixels.
        save: writes the checkpoint.
    """

    def __init__(
        self,
        module: PictureClassifier,
        heads: Heads,
        settings: ClassificationSettings,
        lio: LioSettings,
        image: ImageConfig,
        save: Callable[[Path], None],
    ) -> None:
        super().__init__(module, settings, save)
        self.heads, self.lio = heads, lio
        self._examples = Examples(Explanation(module.backbone, heads, list(heads)[-1]), image, lio.pictures)

    def inputs(self, batch: PictureBatch, step: int) -> dict[str, Any]:
        return {**super().inputs(batch, step), "members": batch.members}

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        maps = self.module.backbone(inputs["pixels"])
        values = self.class_losses(self.module.answers(maps)[1].float(), inputs["targets"])
        parts: dict[str, list[Tensor]] = {"extent": [], "distance": [], "angle": []}
        for stage, heads in self.heads.items():
            seen: Seen = heads(maps[stage])
            extent_BL = seen.extent_BL.float()
            unit = self.lio.unit_features
            parts["extent"].append(extent_loss(extent_BL, seen.features_BCL, inputs["members"], unit=unit))
            distance, angle = structure_losses(
                seen.distance_BL.float(), seen.angle_BL.float(), extent_BL, seen.reference_B, seen.grid
            )
            parts["distance"].append(distance)
            parts["angle"].append(angle)
        sums = {name: torch.stack(each).sum() for name, each in parts.items()}
        beside = self.lio.extent_weight * sums["extent"]
        beside = beside + self.lio.structure_weight * (sums["distance"] + sums["angle"])
        return {**values, "loss": values["loss"] + beside, "classes": values["loss"], **sums}

    def validate(self, batches: Iterable[PictureBatch]) -> dict[str, float]:
        return super().validate(self._examples.of(batches))

    def save(self, folder: Path) -> None:
        super().save(folder)
        self._examples.write(folder / FOLDER)
