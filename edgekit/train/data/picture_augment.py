"""Changes to a picture that leave alone what it shows: crop, flip, turn, colours. Pure functions of (image, rng).

Images are Pillow's, RGB. Mixup and CutMix, which change labels too, are in `techniques/mixing.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageEnhance

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True)
class AugmentSettings:
    """What is done to a training picture, in this order.

    Attributes:
        crop: "random-resized": a part of random area and proportions, made to fit (Szegedy et al. 2015; torchvision's
            ranges); "random": resized by the shortest edge as for evaluation, or to 8/7 of the size where that is
            "exact", and a random part taken; "padded": resized exactly, an eighth of black pixels at each side, and a
            random part taken (He et al. 2016, CIFAR); "none": as for evaluation.
        scale: least and greatest share of the area for "random-resized".
        flip: probability of a mirror image.
        rotate_degrees: turned by up to so much to either side, black around, before the crop.
        jitter: brightness, contrast and saturation are each multiplied by 1 - jitter to 1 + jitter.
    """

    crop: Literal["random-resized", "random", "padded", "none"] = "random-resized"
    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    rotate_degrees: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale is the least and the greatest share, in 0..1, got {self.scale}")
        if not (0 <= self.flip <= 1 and 0 <= self.jitter < 1 and 0 <= self.rotate_degrees <= 180):
            raise ValueError("flip and jitter are in 0..1 and rotate_degrees in 0..180")


def augment(
    image: Picture,
    settings: AugmentSettings,
    *,
    size: tuple[int, int],
    resize_to: int | None,
    resample: int,
    rng: np.random.Generator,
) -> Picture:
    """A picture of any size to one of `size` (height, width), changed as the settings say.

    Args:
        resize_to: the shortest edge for "random"; None: both sides are resized to 8/7 of `size`.
        resample: Pillow's number of the filter.
    """
    filter_ = Image.Resampling(resample)
    height, width = size
    if settings.crop == "random-resized":
        image = rotate(image, settings.rotate_degrees, rng)
        box = random_box(image.width, image.height, settings.scale, rng)
        image = image.resize((width, height), filter_, box=box)
    else:
        if settings.crop == "random":
            image = _resized(image, size, resize_to, filter_)
        elif settings.crop == "padded":
            image = _padded(image.resize((width, height), filter_), math.ceil(height / 8), math.ceil(width / 8))
        image = rotate(image, settings.rotate_degrees, rng)
        image = random_crop(image, size, rng)
    if rng.random() < settings.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return jitter(image, settings.jitter, rng)


def random_box(
    width: int, height: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a part whose share of the area is drawn from `scale` and whose proportions are
    drawn from 3/4 to 4/3, evenly in their logarithm. After ten that do not fit, the largest centred one of proportions
    in that range.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_crop(image: Picture, size: tuple[int, int], rng: np.random.Generator) -> Picture:
    """A part of `size` (height, width); what the picture lacks is black."""
    left, top = (
        int(rng.integers(have - want + 1)) if have >= want else -((want - have) // 2)
        for have, want in ((image.width, size[1]), (image.height, size[0]))
    )
    return image.crop((left, top, left + size[1], top + size[0]))


def rotate(image: Picture, degrees: float, rng: np.random.Generator) -> Picture:
    """Turned about its centre by -degrees to degrees, of the same size."""
    if not degrees:
        return image
    return image.rotate(rng.uniform(-degrees, degrees), Image.Resampling.BILINEAR)


def jitter(image: Picture, amount: float, rng: np.random.Generator) -> Picture:
    """Brightness, contrast and saturation, in a random order."""
    if not amount:
        return image
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for place in rng.permutation(len(kinds)):
        image = kinds[place](image).enhance(rng.uniform(1 - amount, 1 + amount))
    return image


def _resized(image: Picture, size: tuple[int, int], resize_to: int | None, filter_: Image.Resampling) -> Picture:
    if resize_to is None:
        return image.resize((math.ceil(size[1] * 8 / 7), math.ceil(size[0] * 8 / 7)), filter_)
    short, long = sorted(image.size)
    longest = int(resize_to * long / short)
    return image.resize((resize_to, longest) if image.width <= image.height else (longest, resize_to), filter_)


def _padded(image: Picture, rows: int, columns: int) -> Picture:
    return image.crop((-columns, -rows, image.width + columns, image.height + rows))
