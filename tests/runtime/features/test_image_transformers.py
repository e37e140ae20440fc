"""Device preprocessing equals that of transformers' image processors that use Pillow, to the pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")
transformers = pytest.importorskip("transformers", reason="the reference")

from PIL import Image  # noqa: E402
from PIL.Image import Resampling  # noqa: E402
from transformers.image_transforms import convert_to_rgb  # noqa: E402
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil  # noqa: E402
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil  # noqa: E402
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil  # noqa: E402

from edgekit.runtime.features.image import ImageConfig, Pixels, load_picture  # noqa: E402

# height, width: odd, tiny, elongated, smaller than the crop, exactly it
SIZES = [(375, 500), (333, 224), (224, 224), (97, 89), (1, 1), (1, 12), (37, 2), (256, 225), (3, 101), (700, 40)]
FILTERS = ["bilinear", "bicubic", "lanczos", "nearest"]
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)


def held(config: ImageConfig, processor: Any, given: np.ndarray, **options: Any) -> None:
    """Before normalisation exactly, after it to 1e-6."""
    options |= {"image_mean": list(config.mean), "image_std": list(config.std)}
    channels_first = {"input_data_format": "channels_last", **options}
    raw = processor(given, do_rescale=False, do_normalize=False, **channels_first)["pixel_values"][0]
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(Pixels(config).resized(given), np.moveaxis(raw, 0, -1))
    expected = processor(given, **channels_first)["pixel_values"][0]
    found = Pixels(config)(given)
    assert (found.dtype, found.shape) == (np.float32, (3, config.height, config.width))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FILTERS)
def test_shortest_edge_and_centre_crop(size: tuple[int, int], name: Any) -> None:
    for shortest, height, width in ((256, 224, 224), (57, 48, 63), (40, 33, 32)):
        config = ImageConfig(height, width, resize_to=shortest, resample=name)
        sizes = {"size": {"shortest_edge": shortest}, "crop_size": {"height": height, "width": width}}
        held(config, BitImageProcessorPil(), picture(*size), resample=Resampling[name.upper()], **sizes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FILTERS)
def test_the_crop_of_convnext(size: tuple[int, int], name: Any) -> None:
    """crop_pct: the shortest edge is the crop's side divided by it, and from 384 on there is no crop."""
    for side, crop_pct in ((224, 0.875), (64, 0.9), (160, 0.95)):
        config = ImageConfig(side, side, resize_to=int(side / crop_pct), resample=name, **IMAGENET)
        options = {"size": {"shortest_edge": side}, "crop_pct": crop_pct, "resample": Resampling[name.upper()]}
        held(config, ConvNextImageProcessorPil(), picture(*size), **options)


def test_convnext_from_384_on() -> None:
    config = ImageConfig(384, 384, resize="exact")
    held(config, ConvNextImageProcessorPil(), picture(375, 500), size={"shortest_edge": 384})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FILTERS)
def test_exact(size: tuple[int, int], name: Any) -> None:
    for height, width in ((224, 224), (31, 66)):
        config = ImageConfig(height, width, resize="exact", resample=name, mean=(0.5,) * 3, std=(0.5,) * 3)
        options = {"size": {"height": height, "width": width}, "resample": Resampling[name.upper()]}
        held(config, ViTImageProcessorPil(), picture(*size), **options)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_rgb_of_every_mode(mode: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 41, 4), np.uint8))
    # a palette of colours that are half transparent, which convert() would make, transformers takes for opaque
    image = (image.convert("RGB") if mode == "P" else image).convert(mode)
    np.testing.assert_array_equal(load_picture(image), convert_to_rgb(image, return_numpy=True))


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.fromarray(picture(20, 30)).convert("P")
    image.info["transparency"] = int(np.asarray(image)[3, 4])
    np.testing.assert_array_equal(load_picture(image), convert_to_rgb(image, return_numpy=True))
    assert load_picture(image)[3, 4].tolist() == [255, 255, 255]
