"""Pictures into a model's pixels: EXIF orientation, RGB, resize, centre crop, normalise, with NumPy and Pillow.

Equal to the pixel with the image processors of transformers that use Pillow. Decoding is `picture.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import BundleError, PictureError, SettingsError
from edgekit.core.settings import settings_from_dict
from edgekit.runtime.features.picture import MAX_PIXELS, Picture, called, load_picture, open_picture, pillow

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageConfig", "Picture", "Pixels", "load_picture", "open_pixels"]

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

KIND = "image"
MAX_SIDE = 8192
"""The largest height, width and `resize_to` that a manifest may ask for."""


@dataclass(frozen=True)
class ImageConfig:
    """How a picture becomes pixels: the manifest's `features` of kind "image".

    Attributes:
        height, width: of the result.
        resize: "shortest-edge" keeps the proportions and crops the centre; what is smaller than the crop gets a black
            border. "exact" resizes to height x width, whatever the proportions.
        resize_to: the shortest edge before the crop; None with "exact".
        resample: the filter, Pillow's of that name, which averages over all it reduces.
        mean, std: of each channel, red first, of values in 0..1.

    Raises:
        ValueError: a size outside 1..8192, no `resize_to` for the shortest edge or one for "exact", or a mean or
            deviation that normalises nothing.
    """

    height: int = 224
    width: int = 224
    resize: Literal["shortest-edge", "exact"] = "shortest-edge"
    resize_to: int | None = None
    resample: Literal["bilinear", "bicubic", "lanczos", "nearest"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if (self.resize_to is None) != (self.resize == "exact"):
            raise ValueError(f"resize_to is the shortest edge's size, got {self.resize_to} with resize {self.resize!r}")
        for name in ("height", "width", "resize_to"):
            size = getattr(self, name)
            if size is not None and not 1 <= size <= MAX_SIDE:
                raise ValueError(f"{name} is from 1 to {MAX_SIDE}, got {size}")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean and std are finite and std above 0, got {self.mean} and {self.std}")

    def describe(self) -> dict[str, Any]:
        """The manifest's `features`."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        return {"kind": KIND, **{name: value for name, value in data.items() if value is not None}}


class Pixels:
    """Pictures of any size into one size, normalised.

    Raises:
        BackendError: Pillow is not installed.
    """

    def __init__(self, config: ImageConfig) -> None:
        self.config = config
        self._filter = pillow().Resampling[config.resample.upper()]
        # A channel has 256 values: looking them up is exact and quicker than computing them. In the order and types of
        # transformers' rescale and normalize.
        scaled = (np.arange(256) * (1 / 255)).astype(np.float32)
        mean_C1, std_C1 = (np.array(values, np.float32)[:, None] for values in (config.mean, config.std))
        self._values_C256: Float32 = (scaled - mean_C1) / std_C1

    def __call__(self, picture: Picture) -> Float32:
        """The pixels of one picture, float32 [3, H, W].

        Args:
            picture: uint8 [h, w, 3], or whatever else `load_picture` takes.

        Raises:
            PictureError: it cannot be read, or is too elongated to be resized by its shortest edge.
        """
        cropped_HWC = self.resized(picture)
        pixels_CHW = np.empty((3, *cropped_HWC.shape[:2]), np.float32)
        for channel, values in enumerate(self._values_C256):
            np.take(values, cropped_HWC[:, :, channel], out=pixels_CHW[channel], mode="clip")
        return pixels_CHW

    def resized(self, picture: Picture) -> UInt8:
        """The same before normalisation: uint8 [H, W, 3]; raises as the call."""
        config, image = self.config, open_picture(picture)
        if config.resize_to is None:
            return np.asarray(image.resize((config.width, config.height), self._filter))
        resized = image.resize(self._size(image, config.resize_to, picture), self._filter)
        left, top = (resized.width - config.width) // 2, (resized.height - config.height) // 2
        # what lies outside is black
        return np.asarray(resized.crop((left, top, left + config.width, top + config.height)))

    def _size(self, image: Image, shortest: int, picture: Picture) -> tuple[int, int]:
        """Width and height after the resize, as transformers' `get_resize_output_image_size` rounds them."""
        short, long = sorted(image.size)
        longest = int(shortest * long / short)
        if shortest * longest > MAX_PIXELS:
            raise PictureError(
                f"expected a picture of at most {MAX_PIXELS // shortest**2} times its shortest edge, received "
                f"{called(picture)}: {image.width} x {image.height}",
                hint="crop it, or leave it out",
            )
        return (shortest, longest) if image.width <= image.height else (longest, shortest)


def open_pixels(description: Mapping[str, Any]) -> Pixels:
    """What a manifest describes.

    Args:
        description: `{"kind": "image", ...}` with fields of `ImageConfig`.

    Raises:
        BundleError: another kind, an unknown field, or a value that does not fit.
        BackendError: Pillow is not installed.
    """
    settings = dict(description)
    kind = settings.pop("kind", None)
    if kind != KIND:
        raise BundleError(
            f"expected features of kind {KIND!r}, received {kind!r}",
            hint="the bundle may be from a newer edgekit: pip install --upgrade edgekit",
        )
    # defaults are for who writes a config: in a manifest they would hide that something is missing
    needed = {field.name for field in fields(ImageConfig)} - {"resize_to"}
    if missing := sorted(needed - settings.keys()):
        raise BundleError(f"expected {KIND} features with {', '.join(missing)}, received none")
    try:
        return Pixels(settings_from_dict(ImageConfig, settings))
    except SettingsError as error:
        raise BundleError(
            f"expected {KIND} features that fit together, received {settings}: {error.message}"
        ) from error
