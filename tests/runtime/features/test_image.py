"""Pixels as a manifest describes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.device_side
pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")

from edgekit.core.errors import BundleError, PictureError  # noqa: E402
from edgekit.runtime.features.image import ImageConfig, Pixels, open_pixels  # noqa: E402

GOOD = ImageConfig(24, 32, resize_to=40).describe()


def test_a_picture_of_one_colour_is_normalised() -> None:
    config = ImageConfig(8, 6, resize_to=10, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2))
    found = Pixels(config)(np.full((20, 30, 3), (51, 102, 255), np.uint8))
    expected = (np.array([0.2, 0.4, 1]) - config.mean) / config.std
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], (3, 8, 6)), atol=1e-6)


def test_the_centre_is_kept() -> None:
    picture = np.zeros((30, 50, 3), np.uint8)
    picture[10:20, 20:30] = 255
    assert Pixels(ImageConfig(10, 10, resize_to=30, resample="nearest")).resized(picture).min() == 255


def test_what_is_smaller_than_the_crop_has_a_black_border() -> None:
    found = Pixels(ImageConfig(7, 12, resize_to=4)).resized(np.full((4, 5, 3), 255, np.uint8))
    white = np.zeros((7, 12), bool)
    white[2:6, 4:9] = True  # (7 - 4) / 2 and (12 - 5) / 2, rounded up
    np.testing.assert_array_equal(found.min(2), np.where(white, 255, 0))


def test_a_picture_that_would_grow_beyond_all_memory_is_refused() -> None:
    pixels = Pixels(ImageConfig(224, 224, resize_to=256))
    assert pixels(np.zeros((1, 200, 3), np.uint8)).shape == (3, 224, 224)
    with pytest.raises(PictureError, match="at most 2048 times its shortest edge, received the array: 2049 x 1"):
        pixels(np.zeros((1, 2049, 3), np.uint8))


def test_a_description_comes_back() -> None:
    for config in (ImageConfig(24, 32, resize_to=40), ImageConfig(9, 9, resize="exact", resample="nearest")):
        assert open_pixels(config.describe()).config == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "waveform"}, "expected features of kind 'image', received 'waveform'"),
        ({"kind": None}, "received None"),
        ({"sharpen": True}, "sharpen"),
        ({"height": 0}, "height is from 1 to 8192, got 0"),
        ({"height": 2.5}, "height: expected int, received 2.5"),
        ({"width": 10**9}, "width is from 1 to 8192"),
        ({"height": True}, "height: expected int"),
        ({"resize_to": None}, "resize_to is the shortest edge's size, got None"),
        ({"resize": "exact"}, "resize_to is the shortest edge's size, got 40 with resize 'exact'"),
        ({"resize": "stretch"}, "resize: expected 'shortest-edge' or 'exact', received 'stretch'"),
        ({"resample": "box"}, "resample: expected"),
        ({"mean": [0.5, 0.5]}, "mean: expected 3 of float"),
        ({"mean": 0.5}, "mean: expected 3 of float"),
        ({"mean": [0.5, 0.5, float("inf")]}, "mean and std are finite"),
        ({"std": [0.5, 0.5, 0]}, "std above 0"),
        ({"std": [0.5, 0.5, float("nan")]}, "std"),
        ({"std": ["a", 0, 0]}, "std"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        open_pixels({**GOOD, **changes})


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"resize_to", "kind"}))
def test_nothing_of_a_manifest_is_guessed(name: str) -> None:
    with pytest.raises(BundleError, match=f"expected image features with {name}, received none"):
        open_pixels({key: value for key, value in GOOD.items() if key != name})
