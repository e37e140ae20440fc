"""Classifiers by name: backbones with the pixels that their public ImageNet weights take."""

from __future__ import annotations

from typing import Any

from edgekit.train.layers.classifier.config import ClassifierConfig

Config = ClassifierConfig

# EfficientNet-lite's: (value - 127) / 128
_LITE: dict[str, Any] = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}

VARIANTS = {
    "resnet-50": ClassifierConfig("resnet-50"),
    "resnet-18": ClassifierConfig("resnet-18"),
    "regnet-y-200mf": ClassifierConfig("regnet-y-200mf"),
    "regnet-y-400mf": ClassifierConfig("regnet-y-400mf"),
    "convnext-tiny": ClassifierConfig("convnext-tiny", resample="bicubic"),
    "convnextv2-atto": ClassifierConfig("convnextv2-atto", resample="bicubic"),
    "efficientnet-lite0": ClassifierConfig("efficientnet-lite0", resample="bicubic", **_LITE),
    "efficientnet-lite1": ClassifierConfig(
        "efficientnet-lite1", height=240, width=240, resize_to=274, resample="bicubic", **_LITE
    ),
    "efficientnet-lite2": ClassifierConfig(
        "efficientnet-lite2", height=260, width=260, resize_to=297, resample="bicubic", **_LITE
    ),
    "vit-tiny": ClassifierConfig("vit-tiny", resample="bicubic"),
    "vit-small": ClassifierConfig("vit-small", resample="bicubic"),
    "resnet-20": ClassifierConfig("resnet-20", num_classes=10, height=32, width=32, resize="exact", resize_to=None),
    "wrn-28-10": ClassifierConfig("wrn-28-10", num_classes=64, height=84, width=84, resize_to=96),
    "tiny": ClassifierConfig("tiny", num_classes=10, height=32, width=32, resize="exact", resize_to=None),
}
