"""Sizes of LIO's classifiers, and of the grids on which its heads look at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.core.signature import Signature, TensorSpec
from edgekit.train.layers.classifier.config import BATCH, ClassifierConfig


@dataclass(frozen=True)
class Config(ClassifierConfig):
    """A classifier, and where heads are while it learns.

    Attributes:
        stages: the backbone's maps that have heads.
        pool: cells of a map whose mean is one cell of the heads' grid, in each direction.
        explain: export the heads of the last stage, too, as a graph of its own; what answers is the same without.
    """

    stages: tuple[str, ...] = ("stage4",)
    pool: int = 2
    explain: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages or len(set(self.stages)) != len(self.stages):
            raise ValueError(f"stages are different names of maps, at least one, got {self.stages}")
        if self.pool < 1:
            raise ValueError(f"pool must be at least 1, got {self.pool}")

    def graphs(self, head: str) -> dict[str, Signature]:
        found = super().graphs(head)
        if not self.explain:
            return found
        grid = self.grid(self.stages[-1])
        answers = tuple(TensorSpec(name, "float32", (BATCH, *grid)) for name in EXPLAINED)
        return {**found, "explain": Signature(found["infer"].inputs, answers)}

    def grid(self, stage: str) -> tuple[int, int]:
        """Rows and columns of a stage's heads; torch is asked."""
        rows, columns = _cells(self.backbone, self.size, stage)
        return rows // self.pool, columns // self.pool


EXPLAINED = ("extent", "distance", "angle")
"""Of each cell: how much it is of the object, and where it lies from the cell that is most of it."""


def _cells(backbone: str, size: tuple[int, int], stage: str) -> tuple[int, int]:
    import torch

    from edgekit.train.families.lio.heads import require_stages
    from edgekit.train.layers.backbones.opening import open_backbone

    with torch.device("meta"), torch.no_grad():
        opened: Any = open_backbone(backbone, size=size).eval()
        require_stages(opened, (stage,))
        rows, columns = opened(torch.zeros(1, 3, *size))[stage].shape[2:]
    return rows, columns


# EfficientNet-lite's: (value - 127) / 128
_LITE: dict[str, Any] = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}

VARIANTS = {
    "resnet-50": Config("resnet-50", height=448, width=448, resize="shortest-edge", resize_to=512),
    "resnet-50-224": Config("resnet-50", pool=1),
    "convnext-tiny": Config("convnext-tiny", resample="bicubic", pool=1),
    "regnet-y-400mf": Config("regnet-y-400mf", pool=1),
    "efficientnet-lite0": Config("efficientnet-lite0", resample="bicubic", pool=1, **_LITE),
    "tiny": Config(
        "tiny", num_classes=10, height=32, width=32, resize="exact", resize_to=None, stages=("stage3",), pool=1
    ),
}
