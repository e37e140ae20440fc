"""A plain classifier of pictures on any backbone."""

from __future__ import annotations

from edgekit.train.families.classifier.config import VARIANTS
from edgekit.train.family import Family
from edgekit.train.layers.classifier.config import HEADS

# so that made small all variants are one
_PIXELS = ("resample=bilinear", "mean=0.5,0.5,0.5", "std=0.5,0.5,0.5")

FAMILY = Family(
    name="classifier",
    summary="pictures: features and classes of a ResNet, ConvNeXt, RegNet, EfficientNet-lite or ViT",
    paper="none of its own: the backbones' papers, see the card",
    variants=VARIANTS,
    heads=HEADS,
    code="edgekit.train.families.classifier.model",
    deployable=("drop_blocks",),
    training="edgekit.train.families.classifier.recipe",
    small=("backbone=tiny", "num_classes=10", "height=32", "width=32", "resize=exact", "resize_to=none", *_PIXELS),
)
