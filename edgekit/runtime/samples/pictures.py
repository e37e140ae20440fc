"""Four drawn pictures for trying, calibrating and checking a bundle: nobody's photographs, the same everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIZES = ((375, 500), (500, 375), (256, 256), (240, 427))
"""Height and width of each."""

_STEP = 8


def sample_pictures() -> list[npt.NDArray[np.uint8]]:
    """The pictures, uint8 [h, w, 3]: each a gradient, a lattice, discs and grain, of colours of its own."""
    return [_drawn(index, height, width) for index, (height, width) in enumerate(SIZES)]


def _drawn(seed: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """In whole numbers, as sines and cosines need not be the same everywhere."""
    # integers() of a Generator may change between versions of NumPy; what RandomState draws does not
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width]
    ends = random.randint(0, 256, (3, 3))
    picture = (ends[0] * (height - 1 - y)[..., None] + ends[1] * y[..., None]) // (height - 1)
    picture = (picture * (width - 1 - x)[..., None] + ends[2] * x[..., None]) // (width - 1)
    period = 12 + 10 * seed
    lattice = ((x * (2 + seed) + y * 3) // period + (y - x) // period) % 2 == 0
    picture[lattice] = picture[lattice] * 3 // 4
    for _ in range(9):
        centre_y, centre_x, radius = (
            random.randint(0, height),
            random.randint(0, width),
            random.randint(12, height // 4),
        )
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < radius**2
        picture[inside] = (picture[inside] + 3 * random.randint(0, 256, 3)) // 4
    # coarse, and so one that survives the resize
    grain = random.randint(-24, 25, (height // _STEP + 1, width // _STEP + 1, 3))
    picture = picture + grain.repeat(_STEP, 0).repeat(_STEP, 1)[:height, :width]
    drawn: npt.NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return drawn
