"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): two pictures in one, and both their labels.

Shapes: B batch, H x W pixels, K classes. Random numbers are those of torch's global generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MixingSettings:
    """What is mixed.

    Attributes:
        mixup, cutmix: the parameter of the beta distribution from which a batch's share is drawn; 0: not used. Where
            both are, each batch has one of them, as likely.
        smoothing: of labels: so much of them is spread over all classes.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0 or not 0 <= self.smoothing < 1:
            raise ValueError("mixup and cutmix must not be negative and smoothing must be in 0..1")


def soft_labels(labels_B: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Float32 [B, K]: rows add up to 1."""
    targets_BK = torch.full((len(labels_B), num_classes), smoothing / num_classes, device=labels_B.device)
    return targets_BK.scatter_add_(1, labels_B[:, None], torch.full_like(targets_BK[:, :1], 1 - smoothing))


def mix(pixels_BCHW: Tensor, targets_BK: Tensor, settings: MixingSettings) -> tuple[Tensor, Tensor]:
    """Each picture with another of the batch; the batch as it is where nothing is to be mixed."""
    kinds = [name for name in ("mixup", "cutmix") if getattr(settings, name) > 0]
    if not kinds or len(pixels_BCHW) < 2:
        return pixels_BCHW, targets_BK
    kind = kinds[int(torch.randint(len(kinds), ()))]
    alpha = getattr(settings, kind)
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order_B = torch.randperm(len(pixels_BCHW)).to(pixels_BCHW.device)
    others_BCHW = pixels_BCHW[order_B]
    if kind == "mixup":
        pixels_BCHW = share * pixels_BCHW + (1 - share) * others_BCHW
    else:
        rows, columns, share = _box(pixels_BCHW.shape[2], pixels_BCHW.shape[3], share)
        pixels_BCHW = pixels_BCHW.clone()
        pixels_BCHW[:, :, rows, columns] = others_BCHW[:, :, rows, columns]
    return pixels_BCHW, share * targets_BK + (1 - share) * targets_BK[order_B]


def _box(height: int, width: int, share: float) -> tuple[slice, slice, float]:
    """Rows and columns of a part about 1 - share of the area large, and the share that is left outside, exactly."""
    h, w = round(height * math.sqrt(1 - share)), round(width * math.sqrt(1 - share))
    y, x = int(torch.randint(height, ())), int(torch.randint(width, ()))
    top, bottom = max(0, y - h // 2), min(height, y - h // 2 + h)
    left, right = max(0, x - w // 2), min(width, x - w // 2 + w)
    return slice(top, bottom), slice(left, right), 1 - (bottom - top) * (right - left) / (height * width)
