"""LIO's heads: the object's extent, and each cell's place as seen from the cell that is most of the object.

Shapes: B batch, C channels of a map, S = C // 2 channels of the structure, n x m cells of the grid, L = n m. Cells are
counted row by row; (x, y) is the reference cell R0 and (i, j) any cell, as the paper's equations name them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.core.errors import SettingsError
from edgekit.train.layers.backbones.backbone import Backbone


@dataclass(frozen=True)
class Seen:
    """What the heads of one stage find.

    Attributes:
        features_BCL: the map on the grid.
        extent_BL: M', how much a cell is of the object; no activation.
        reference_B: R0 = argmax M' (eq. 6), int64.
        distance_BL, angle_BL: Gamma' and theta', not negative.
        grid: n and m.
    """

    features_BCL: Tensor
    extent_BL: Tensor
    reference_B: Tensor
    distance_BL: Tensor
    angle_BL: Tensor
    grid: tuple[int, int]


class StageHeads(nn.Module):
    """Heads on one map `[B, C, h, w]`; with S = C // 2 they have (C + 1) + (C + 1) S + (4 S + 2) parameters.

    Args:
        pool: cells of the map, in each direction, whose mean is one cell of the grid.
    """

    def __init__(self, channels: int, pool: int) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"expected a map of 2 channels or more, got {channels}")
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()
        self.extent = nn.Conv2d(channels, 1, 1)
        self.structure = nn.Conv2d(channels, channels // 2, 1)
        self.polar = nn.Linear(2 * (channels // 2), 2)

    def forward(self, map_BChw: Tensor) -> Seen:
        pooled_BCnm: Tensor = self.pool(map_BChw)
        active_BCnm = pooled_BCnm.relu()
        extent_BL = self.extent(active_BCnm).flatten(1)
        reference_B = extent_BL.argmax(1)
        cells_BLS = self.structure(active_BCnm).relu().flatten(2).transpose(1, 2)
        at_BLS = cells_BLS.gather(1, reference_B[:, None, None].expand(-1, 1, cells_BLS.shape[2])).expand_as(cells_BLS)
        polar_BL2 = self.polar(torch.cat([at_BLS, cells_BLS], 2)).relu()
        grid = (pooled_BCnm.shape[2], pooled_BCnm.shape[3])
        return Seen(pooled_BCnm.flatten(2), extent_BL, reference_B, polar_BL2[:, :, 0], polar_BL2[:, :, 1], grid)


class Heads(nn.ModuleDict):
    """The heads of every stage, by the name of its map."""

    def __init__(self, backbone: Backbone, stages: Sequence[str], pool: int) -> None:
        require_stages(backbone, stages)
        super().__init__({stage: StageHeads(backbone.channels[stage], pool) for stage in stages})


class Explanation(nn.Module):
    """Pixels `[B, 3, H, W]` -> extent, distance and angle `[B, n, m]` of one stage, for a picture of them."""

    def __init__(self, backbone: Backbone, heads: Heads, stage: str) -> None:
        super().__init__()
        self.backbone, self.head, self.stage = backbone, heads[stage], stage

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen: Seen = self.head(self.backbone(pixels_BCHW)[self.stage])
        extent, distance, angle = (x.view(-1, *seen.grid) for x in (seen.extent_BL, seen.distance_BL, seen.angle_BL))
        return extent, distance, angle


def polar_labels(reference_B: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Gamma and theta of every cell, both `[B, L]` (eq. 5), as seen from the reference cells.

    Gamma = sqrt((x - i)^2 + (y - j)^2) / (sqrt(2) n) with n the grid's longer side, in 0..1; theta =
    (atan2(y - j, x - i) + pi) / (2 pi), in 0..1. At the reference cell itself theta is not defined, and 0.5 here.
    """
    rows, columns = grid
    cells_L = torch.arange(rows * columns, device=reference_B.device)
    dx_BL = (reference_B[:, None] // columns - cells_L // columns).float()
    dy_BL = (reference_B[:, None] % columns - cells_L % columns).float()
    distance_BL = (dx_BL.square() + dy_BL.square()).sqrt() / (math.sqrt(2) * max(grid))
    angle_BL = (torch.atan2(dy_BL, dx_BL) + math.pi) / (2 * math.pi)
    return distance_BL, angle_BL


def require_stages(backbone: Backbone, stages: Sequence[str]) -> None:
    """Raise `SettingsError` unless the backbone has such maps, of more than one cell."""
    unknown = [stage for stage in stages if stage not in backbone.strides]
    if unknown:
        raise SettingsError(
            f"expected maps among {', '.join(backbone.strides)} for heads, received {', '.join(unknown)}",
            hint=f"--set model.stages={list(backbone.strides)[-1]}",
        )
