"""Backbones of the package timm, wherever it can be imported. It needs torchvision, which edgekit never does."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgekit.core.errors import SettingsError, UnavailableError
from edgekit.train.layers.backbones.backbone import Backbone


class TimmBackbone(Backbone):
    """A model of timm as its feature maps, "stage1" ...; of its blocks nothing is known.

    Args:
        name: as `timm.list_models` tells it.
        pretrained: whether its weights are fetched.

    Raises:
        UnavailableError: timm, or the torchvision that it needs, cannot be imported.
        SettingsError: it has no such model, or none that gives maps.
    """

    def __init__(self, name: str, *, pretrained: bool = False) -> None:
        super().__init__()
        try:
            import timm
        except (ImportError, RuntimeError) as error:  # torchvision's operators may not fit this torch
            raise UnavailableError(
                f"expected the package timm for the backbone timm:{name}, it cannot be imported: {error}",
                hint="pip install timm, and the torchvision of the index from which torch is",
            ) from error
        try:
            self.model: nn.Module = timm.create_model(name, features_only=True, pretrained=pretrained)
        except (RuntimeError, ValueError, AttributeError, TypeError) as error:
            raise SettingsError(
                f"expected a model of timm that gives feature maps, received {name}: {error}"
            ) from error
        info: Any = self.model.feature_info
        names = [f"stage{index + 1}" for index in range(len(info.channels()))]
        self._names = tuple(names)
        self.channels = dict(zip(names, info.channels()))
        self.strides = dict(zip(names, info.reduction()))
        self.last = names[-1]

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._names, self.model(pixels_BCHW)))
