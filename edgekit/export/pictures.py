"""The inputs of a reference over pictures: the user's own, or the drawn ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.core.errors import ExportError
from edgekit.core.signature import Signature
from edgekit.runtime.features.image import KIND, Picture, load_picture, open_pixels

MAX_PICTURES = 8
"""How many of the user's pictures a bundle keeps for its checks."""

MIN_PICTURES = 3
"""An answer is held to how it changes from picture to picture."""


def takes_pictures(features: Mapping[str, Any]) -> bool:
    """Whether a model's features are made of pictures."""
    return features.get("kind") == KIND


def picture_inputs(
    features: Mapping[str, Any], signature: Signature, pictures: Sequence[Picture]
) -> tuple[dict[str, np.ndarray], ...]:
    """A batch of one per picture. Where they are fewer than three, the first is added mirrored and upside down.

    Raises:
        PictureError: one cannot be read.
        ExportError: the graph takes anything else besides, or all pictures look the same to it.
        SignatureError: the graph takes pixels of another size than the features give.
    """
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise ExportError(f"expected a graph whose only input are pixels, received {names}")
    pixels, name = open_pixels(features), signature.inputs[0].name
    seen = [load_picture(picture) for picture in pictures]
    if len(seen) < MIN_PICTURES:
        seen += [np.flip(seen[0], axis) for axis in (1, 0)]
    items = tuple({name: pixels(picture)[None]} for picture in seen)
    for item in items:
        signature.check_inputs(item)
    if all(np.array_equal(item[name], items[0][name]) for item in items):
        raise ExportError(
            "expected pictures that differ, received such as look the same to the model", hint="give others: --picture"
        )
    return items
