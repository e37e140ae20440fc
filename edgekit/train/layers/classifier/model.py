"""A backbone, the mean of its last map, and a linear layer: the module that is deployed.

Shapes: B batch, H x W pixels, C channels of the embedding, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError
from edgekit.train.family import LoadedModel
from edgekit.train.layers.backbones.backbone import Backbone
from edgekit.train.layers.backbones.opening import open_backbone
from edgekit.train.layers.classifier.config import ClassifierConfig

OUTPUT = {"kind": "classes", "embedding": "embedding"}
"""The manifest's `output` of a model without classes."""


class PictureClassifier(nn.Module):
    """Pixels `[B, 3, H, W]` -> the embedding `[B, C]` and, where it has classes, logits `[B, K]`."""

    def __init__(self, backbone: Backbone, num_classes: int | None) -> None:
        super().__init__()
        self.backbone = backbone
        width = backbone.channels[backbone.last]
        self.head = None if num_classes is None else nn.Linear(width, num_classes)

    def answers(self, maps: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Embedding and logits of the backbone's maps."""
        embedding_BC = self.backbone.embed(maps)
        return (embedding_BC,) if self.head is None else (embedding_BC, self.head(embedding_BC))

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, ...]:
        return self.answers(self.backbone(pixels_BCHW))


def build(config: ClassifierConfig, head: str | None) -> PictureClassifier:
    """The module with random weights, without the blocks that the config leaves out."""
    backbone = open_backbone(config.backbone, size=config.size)
    backbone.remove_blocks(config.drop_blocks)
    return PictureClassifier(backbone, config.num_classes if head == "classes" else None)


def random_model(config: ClassifierConfig, head: str, seed: int) -> LoadedModel:
    """A classifier whose shapes and latency are real and whose answers are not."""
    torch.manual_seed(seed)
    names = tuple(str(index) for index in range(config.num_classes))
    return loaded(build(config, head), config, head, names, {"source": "random", "seed": seed})


def loaded(
    module: PictureClassifier,
    config: ClassifierConfig,
    head: str,
    tokens: tuple[str, ...],
    weights: dict[str, object],
) -> LoadedModel:
    """A classifier as exporters take it, in evaluation mode: batch norms keep to their running statistics."""
    output = {**OUTPUT, "logits": "logits"} if head == "classes" else dict(OUTPUT)
    if head == "classes" and len(tokens) != config.num_classes:
        raise CheckpointError(f"expected {config.num_classes} names of classes, received {len(tokens)}")
    return LoadedModel(
        module.eval(),
        config,
        head,
        config.features(),
        output,
        weights,
        tokens if head == "classes" else (),
    )
