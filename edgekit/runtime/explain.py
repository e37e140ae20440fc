"""What a classifier's heads see of a picture, drawn: the object's extent over it, and where its parts lie around it.

Of the graph `explain`: for each cell of a grid its extent, its distance from the cell that is most of the object (the
reference) and its angle there, as LIO (arXiv 2003.14142) defines them. NumPy and Pillow alone.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import BackendError, SignatureError
from edgekit.core.files import explained
from edgekit.runtime.features.picture import pillow

if TYPE_CHECKING:
    from PIL.Image import Image

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_SIDE, _GAP, _TEXT = 256, 12, 18
_INK = (32, 32, 32)
# dark to light, so that the order shows in print and to the colour-blind; five colours, mixed between
_HEAT = np.array([[13, 8, 60], [116, 22, 110], [205, 62, 78], [248, 148, 40], [250, 240, 140]], np.float32)
_OPACITY = 0.6
_SOFTWARE = "edgekit classify --explain"


@dataclass(frozen=True)
class Explanation:
    """What the heads see of one picture, on a grid of n x m cells; row i, column j.

    Attributes:
        extent: [n, m], how much a cell is of the object; any real number.
        distance: [n, m], from the reference, as a share of the grid's diagonal; not negative.
        angle: [n, m], direction from the reference as a share of a full turn; the heads learn it but for one rotation
            of the whole.

    Raises:
        SignatureError: grids of different shapes, or none.
        BackendError: values that are NaN or infinite.
    """

    extent: Float32
    distance: Float32
    angle: Float32

    def __post_init__(self) -> None:
        grids = (self.extent, self.distance, self.angle)
        if self.extent.ndim != 2 or not self.extent.size or len({grid.shape for grid in grids}) > 1:
            raise SignatureError(f"expected three grids [n, m], received {[list(grid.shape) for grid in grids]}")
        if not all(np.isfinite(grid).all() for grid in grids):
            raise BackendError("expected finite maps, received NaN or infinity", hint="--precision fp32")

    @property
    def reference(self) -> tuple[int, int]:
        """Row and column of the cell that is most of the object; of several the first."""
        row, column = divmod(int(self.extent.argmax()), self.extent.shape[1])
        return row, column


def geometry(reference: tuple[int, int], grid: tuple[int, int]) -> tuple[Float32, Float32]:
    """Distance and angle `[n, m]` of each cell as the grid itself has them (eq. 5): what the heads are to learn."""
    rows_nm, columns_nm = np.mgrid[: grid[0], : grid[1]].astype(np.float32)
    down, right = reference[0] - rows_nm, reference[1] - columns_nm
    distance = np.hypot(down, right) / np.float32(math.sqrt(2) * max(grid))
    angle = (np.arctan2(right, down) + np.float32(math.pi)) / np.float32(2 * math.pi)
    return distance.astype(np.float32), angle.astype(np.float32)


def rotation(explanation: Explanation) -> float:
    """The one rotation, a share of a full turn, by which the angles lie best on the geometry's.

    The mean direction of the differences, weighted by extent where that is above 0, without the reference, whose angle
    means nothing. 0 where there is nothing to weigh.
    """
    _, expected = geometry(explanation.reference, explanation.extent.shape)
    weights = np.maximum(explanation.extent, 0).astype(np.float64)
    weights[explanation.reference] = 0
    mean = (weights * np.exp(2j * np.pi * (explanation.angle - expected).astype(np.float64))).sum()
    return float(np.angle(mean) / (2 * np.pi) % 1)


def draw(picture: UInt8, explanation: Explanation, caption: str = "") -> Image:
    """One image of four panels: the picture, the extent over it, the polar map, and the geometry that it is to be.

    A white frame marks the reference. In the polar maps the colour is the angle, turned by `rotation`, and the
    brightness the distance, black at 0.

    Args:
        picture: as the model sees it, uint8 [h, w, 3] (`Pixels.resized`).
        caption: a line below; letters other than ASCII's are shown as `?`.

    Raises:
        BackendError: Pillow is not installed.
    """
    image_module = pillow()
    size = _size(picture.shape[0], picture.shape[1])
    base = image_module.fromarray(np.ascontiguousarray(picture)).resize(size, image_module.Resampling.BICUBIC)
    expected = geometry(explanation.reference, explanation.extent.shape)
    turn = rotation(explanation)
    low, high = float(explanation.extent.min()), float(explanation.extent.max())
    panels = {
        "picture": base,
        f"extent {low:.2g} to {high:.2g}": _heat(base, explanation.extent),
        f"polar map, turned {360 * turn:.0f} deg": _polar(explanation.distance, explanation.angle - turn, size),
        "polar map of the grid": _polar(*expected, size),
    }
    for panel in list(panels.values())[1:]:
        _mark(panel, explanation.reference, explanation.extent.shape)
    return _side_by_side(panels, size, caption)


def png(image: Image) -> bytes:
    """An image as the content of a PNG file, which says that it is a drawing of ours."""
    from PIL.PngImagePlugin import PngInfo

    file, said = io.BytesIO(), PngInfo()
    said.add_text("Software", _SOFTWARE)
    image.save(file, "PNG", pnginfo=said)
    return file.getvalue()


def is_drawing(path: Path) -> bool:
    """Whether a file is one that `png` made and so may be made anew, or there is none.

    Raises:
        EdgekitError: it cannot be read.
    """
    if not os.path.lexists(path):
        return True
    if not path.is_file():
        return False
    with explained(path), path.open("rb") as file:
        return f"tEXtSoftware\0{_SOFTWARE}".encode() in file.read(256)


def _size(height: int, width: int) -> tuple[int, int]:
    """Width and height of a panel: the longer side is `_SIDE`."""
    scale = _SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _heat(base: Image, extent_nm: Float32) -> Image:
    """The extent, from its least value to its greatest, smoothly over the picture."""
    image_module = pillow()
    low, high = float(extent_nm.min()), float(extent_nm.max())
    shares = (extent_nm - low) / max(high - low, 1e-12)
    smooth = image_module.fromarray(shares.astype(np.float32)).resize(base.size, image_module.Resampling.BILINEAR)
    at = np.clip(np.asarray(smooth), 0, 1) * (len(_HEAT) - 1)
    colours = np.stack([np.interp(at, np.arange(len(_HEAT)), channel) for channel in _HEAT.T], -1)
    grey = np.asarray(base.convert("L"), np.float32)[..., None]  # whose colours would be taken for the map's
    return image_module.fromarray((_OPACITY * colours + (1 - _OPACITY) * grey).astype(np.uint8))  # type: ignore[no-any-return]


def _polar(distance_nm: Float32, angle_nm: Float32, size: tuple[int, int]) -> Image:
    """Cells of one colour each. Distances above 1, which no grid has, are as bright as 1."""
    image_module = pillow()
    hues = np.stack([np.cos(2 * np.pi * (angle_nm - third / 3)) for third in range(3)], -1)
    values = (0.5 + 0.5 * hues) * np.clip(distance_nm, 0, 1)[..., None] ** 0.5
    cells = image_module.fromarray((255 * values).astype(np.uint8))
    return cells.resize(size, image_module.Resampling.NEAREST)  # type: ignore[no-any-return]


def _mark(panel: Image, reference: tuple[int, int], grid: tuple[int, int]) -> None:
    from PIL import ImageDraw

    (row, column), (rows, columns), (width, height) = reference, grid, panel.size
    left, top = column * width // columns, row * height // rows
    right = max(left + 1, (column + 1) * width // columns - 1)
    bottom = max(top + 1, (row + 1) * height // rows - 1)
    for inset, colour in ((0, (0, 0, 0)), (1, (255, 255, 255))):
        box = (left + inset, top + inset, max(left + inset, right - inset), max(top + inset, bottom - inset))
        ImageDraw.Draw(panel).rectangle(box, outline=colour)


def _side_by_side(panels: dict[str, Image], size: tuple[int, int], caption: str) -> Image:
    from PIL import ImageDraw, ImageFont

    step = _SIDE + _GAP
    whole = pillow().new("RGB", (_GAP + step * len(panels), size[1] + 2 * _TEXT + 2 * _GAP), (255, 255, 255))
    drawing, font = ImageDraw.Draw(whole), ImageFont.load_default()
    for index, (title, panel) in enumerate(panels.items()):
        left = _GAP + index * step
        drawing.text((left, _GAP // 2), title, fill=_INK, font=font)
        whole.paste(panel, (left, _GAP // 2 + _TEXT))
    # Pillow's own font may have Latin letters alone
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in caption)
    drawing.text((_GAP, _GAP + _TEXT + size[1]), plain[: (whole.width - 2 * _GAP) // 6], fill=_INK, font=font)
    return whole  # type: ignore[no-any-return]
