"""Learning the classes of pictures: loss of soft labels, stochastic depth and cosub; top-1 on what is held back.

Shapes: B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from edgekit.core.errors import SettingsError
from edgekit.train.data.picture_loading import PictureBatch
from edgekit.train.layers.classifier.model import PictureClassifier
from edgekit.train.objective import Objective
from edgekit.train.techniques.cosub import CosubSettings, Kind, cosub_loss, label_loss, twice
from edgekit.train.techniques.drop_path import DropPathSettings, lay_on
from edgekit.train.techniques.mixing import MixingSettings, mix, soft_labels


@dataclass(frozen=True)
class ClassificationSettings:
    """How classes are learned.

    Attributes:
        loss: "ce", softmax and cross-entropy; "bce", a sigmoid for each class, whose labels are then 0 or 1 also after
            mixing (DeiT-III's way).
        head_rate: the learning rate of what begins at random (the linear layer), in multiples of the backbone's.
    """

    loss: Kind = "ce"
    head_rate: float = 1.0
    mixing: MixingSettings = field(default_factory=MixingSettings)
    drop_path: DropPathSettings = field(default_factory=DropPathSettings)
    cosub: CosubSettings = field(default_factory=CosubSettings)

    def __post_init__(self) -> None:
        if not self.head_rate > 0:
            raise ValueError(f"head_rate must be positive, got {self.head_rate}")
        if self.loss == "bce" and self.mixing.smoothing:
            raise ValueError("the labels of bce are 0 or 1: mixing.smoothing must be 0")
        if self.cosub.use and not self.drop_path.rate:
            raise ValueError("cosub needs drop_path.rate above 0: without it both submodels are the same")


class Classification(Objective):
    """A classifier that learns.

    Args:
        save: writes the checkpoint.
    """

    monitor: ClassVar[str] = "error"

    def __init__(
        self, module: PictureClassifier, settings: ClassificationSettings, save: Callable[[Path], None]
    ) -> None:
        super().__init__()
        if module.head is None:
            raise SettingsError("expected a classifier that has classes to learn, received one without")
        self.module, self.settings = module, settings
        self.num_classes = module.head.out_features
        self._save = save
        lay_on(module.backbone, settings.drop_path, views=settings.cosub.views)

    def rate_share(self, name: str) -> float:
        return 1.0 if name.startswith("module.backbone.") else self.settings.head_rate

    def inputs(self, batch: PictureBatch, step: int) -> dict[str, Any]:
        targets_BK = soft_labels(batch.labels_B, self.num_classes, self.settings.mixing.smoothing)
        pixels_BCHW, targets_BK = mix(batch.pixels_BCHW, targets_BK, self.settings.mixing)
        if self.settings.loss == "bce":
            targets_BK = (targets_BK > 0).float()
        return {"pixels": twice(pixels_BCHW) if self.settings.cosub.use else pixels_BCHW, "targets": targets_BK}

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        maps = self.module.backbone(inputs["pixels"])
        return self.class_losses(self.module.answers(maps)[1].float(), inputs["targets"])

    def class_losses(self, logits_BK: Tensor, targets_BK: Tensor) -> dict[str, Tensor]:
        """ "loss" and its parts; with cosub the logits are of the batch twice."""
        if self.settings.cosub.use:
            return cosub_loss(logits_BK, targets_BK, self.settings.loss, self.settings.cosub.label_share)
        return {"loss": label_loss(logits_BK, targets_BK, self.settings.loss)}

    def validate(self, batches: Iterable[PictureBatch]) -> dict[str, float]:
        """ "error", the share of pictures whose first class is another, "top1" = 1 - error, and "loss" as cross-entropy
        with the labels (of sigmoids for "bce"): means over the pictures, of the whole network."""
        wrong, loss, count = 0, 0.0, 0
        for batch in batches:
            logits_BK = self.module(batch.pixels_BCHW)[1].float()
            targets_BK = soft_labels(batch.labels_B, self.num_classes, 0.0)
            loss += float(label_loss(logits_BK, targets_BK, self.settings.loss)) * len(batch.ids)
            wrong += int((logits_BK.argmax(1) != batch.labels_B).sum())
            count += len(batch.ids)
        return {"error": wrong / count, "top1": 1 - wrong / count, "loss": loss / count}

    def save(self, folder: Path) -> None:
        self._save(folder)
