"""Sizes of a classifier of pictures: a backbone, its pixels and its classes, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgekit.core.signature import Dim, Signature, TensorSpec
from edgekit.runtime.features.image import ImageConfig
from edgekit.train.layers.backbones.sizes import arguments_of, measured

HEADS = {"classes": "image-classification", "embedding": "image-classification"}
"""What such a family answers with: features and classes, or features alone, to which classes are enrolled later."""

BATCH = Dim("batch", ((1, 1, 16),))


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier.

    Attributes:
        backbone: a named size, "timm:NAME" or sizes as JSON (`layers/backbones/sizes.py`).
        num_classes: answers of the linear layer on the embedding.
        height, width, resize, resize_to, resample, mean, std: of a picture's pixels (`ImageConfig`).
        drop_blocks: residual blocks that are left out of the deployed network, from 0 in their order.
    """

    backbone: str = "resnet-50"
    num_classes: int = 1000
    height: int = 224
    width: int = 224
    resize: Literal["shortest-edge", "exact"] = "shortest-edge"
    resize_to: int | None = 256
    resample: Literal["bilinear", "bicubic", "lanczos", "nearest"] = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    drop_blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        arguments_of(self.backbone)
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {self.num_classes}")
        if min(self.drop_blocks, default=0) < 0 or len(set(self.drop_blocks)) != len(self.drop_blocks):
            raise ValueError(f"drop_blocks are different numbers from 0, got {self.drop_blocks}")
        _ = self.image  # raises where its fields do not fit together

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pixels."""
        return self.height, self.width

    @property
    def image(self) -> ImageConfig:
        """How a picture becomes pixels."""
        return ImageConfig(
            self.height, self.width, self.resize, self.resize_to, self.resample, mean=self.mean, std=self.std
        )

    def graphs(self, head: str) -> dict[str, Signature]:
        outputs = [TensorSpec("embedding", "float32", (BATCH, measured(self.backbone, self.size, self.drop_blocks)[1]))]
        if head == "classes":
            outputs.append(TensorSpec("logits", "float32", (BATCH, self.num_classes)))
        pixels = TensorSpec("pixels", "float32", (BATCH, 3, self.height, self.width))
        return {"infer": Signature((pixels,), tuple(outputs))}

    def features(self) -> dict[str, Any]:
        return self.image.describe()

    def num_parameters(self) -> int:
        return measured(self.backbone, self.size, self.drop_blocks)[0]
