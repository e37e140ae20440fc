"""LIO's losses: the extent that pictures of one class share, and the structure around the cell that is most of it.

Equation numbers are the paper's (arXiv 2003.14142), as an unofficial implementation tags them. Shapes: G groups of M =
P + 1 pictures of one class, B = G M, C channels, L cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.train.families.lio.heads import polar_labels

EPS = 1e-6


def shared_extent(one_BCL: Tensor, other_BCL: Tensor) -> Tensor:
    """phi `[B, L]` (eq. 2): for each cell of one picture, the product with the other's most similar cell, / C."""
    similar_BLL = one_BCL.transpose(1, 2) @ other_BCL
    return similar_BLL.amax(2) / one_BCL.shape[1]


@torch.no_grad()
def extent_targets(features_BCL: Tensor, members: int, *, unit: bool = False) -> Tensor:
    """M `[B, L]` (eq. 3): the mean of phi over the P others of the group, for each member in turn; without gradient.

    Args:
        features_BCL: group by group, the pictures of a group next to one another.
        members: P + 1.
        unit: divide each picture's features by their root mean square first (ours).
    """
    features_BCL = features_BCL.float()
    # a sum of thousands of products does not fit fp16, nor does bf16 tell its greatest from the next
    with torch.autocast(features_BCL.device.type, enabled=False):
        return _extent_targets(features_BCL, members, unit=unit)


def _extent_targets(features_BCL: Tensor, members: int, *, unit: bool) -> Tensor:
    if unit:
        features_BCL = features_BCL / (features_BCL.square().mean((1, 2), keepdim=True).sqrt() + EPS)
    features_GMCL = features_BCL.view(-1, members, *features_BCL.shape[1:])
    total_BL = torch.zeros(len(features_BCL), features_BCL.shape[2], device=features_BCL.device)
    for place in range(1, members):
        others_GMCL = features_GMCL.roll(place, 1)
        total_BL += shared_extent(features_GMCL.flatten(0, 1), others_GMCL.flatten(0, 1))
    return total_BL / (members - 1)


def extent_loss(extent_BL: Tensor, features_BCL: Tensor, members: int, *, unit: bool = False) -> Tensor:
    """L_oel (eq. 4): the mean of (M' - M)^2 over cells and pictures; M is a constant."""
    return (extent_BL - extent_targets(features_BCL, members, unit=unit)).square().mean()


def structure_losses(
    distance_BL: Tensor, angle_BL: Tensor, extent_BL: Tensor, reference_B: Tensor, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """L_dis and L_ang, each the mean over pictures (eq. 7 and 8; eq. 9 is their sum).

    Weights are m = max(M', 0), a constant. With d = theta' - theta, plus 1 where that is negative, and dbar its
    weighted mean, L_ang is the weighted deviation of d: it does not see one rotation of the whole. The reference cell,
    whose angle means nothing, has no part in it. 1e-6 stands inside the ratio and inside the root.
    """
    distance_label_BL, angle_label_BL = polar_labels(reference_B, grid)
    weights_BL = extent_BL.detach().clamp_min(0)
    l_dis = _rms(distance_BL - distance_label_BL, weights_BL)
    elsewhere_BL = weights_BL.scatter(1, reference_B[:, None], 0.0)
    d_BL = angle_BL - angle_label_BL
    d_BL = d_BL + (d_BL < 0).to(d_BL.dtype)
    mean_B1 = (elsewhere_BL * d_BL).sum(1, keepdim=True) / (elsewhere_BL.sum(1, keepdim=True) + EPS)
    return l_dis.mean(), _rms(d_BL - mean_B1, elsewhere_BL).mean()


def _rms(x_BL: Tensor, weights_BL: Tensor) -> Tensor:
    """The weighted root mean square of each row, `[B]`."""
    return ((weights_BL * x_BL.square()).sum(1) / (weights_BL.sum(1) + EPS) + EPS).sqrt()
