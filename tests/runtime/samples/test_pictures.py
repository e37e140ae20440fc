"""The drawn pictures: the same bytes everywhere, and each unlike the others."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgekit.runtime.samples.pictures import SIZES, sample_pictures

pytestmark = pytest.mark.device_side


def test_they_are_the_same_on_every_machine() -> None:
    pictures = sample_pictures()
    assert [picture.shape for picture in pictures] == [(height, width, 3) for height, width in SIZES]
    digest = hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()
    assert digest[:16] == "fd6c67e0c761d267"


def test_they_differ_in_colour_and_are_neither_flat_nor_clipped() -> None:
    pictures = sample_pictures()
    colours = np.array([picture.mean((0, 1)) for picture in pictures])
    for index, colour in enumerate(colours):
        assert np.abs(np.delete(colours, index, 0) - colour).max(1).min() > 15
    for picture in pictures:
        assert picture.dtype == np.uint8
        assert picture.std() > 20
        assert np.isin(picture, (0, 255)).mean() < 0.15
