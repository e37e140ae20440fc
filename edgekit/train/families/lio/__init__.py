"""Look-into-Object: a classifier that learns where an object is and how its parts lie, at no cost when deployed."""

from __future__ import annotations

from edgekit.train.families.lio.config import VARIANTS
from edgekit.train.family import Family
from edgekit.train.layers.classifier.config import HEADS

# so that made small all variants are one
_PIXELS = ("resize=exact", "resize_to=none", "resample=bilinear", "mean=0.5,0.5,0.5", "std=0.5,0.5,0.5")

FAMILY = Family(
    name="lio",
    summary="pictures: classes learned with the object's extent and structure (Look-into-Object)",
    paper="arXiv 2003.14142",
    variants=VARIANTS,
    heads=HEADS,
    code="edgekit.train.families.lio.model",
    deployable=("drop_blocks", "explain"),
    training="edgekit.train.families.lio.recipe",
    small=("backbone=tiny", "num_classes=10", "height=32", "width=32", "stages=stage3", "pool=1", *_PIXELS),
)
