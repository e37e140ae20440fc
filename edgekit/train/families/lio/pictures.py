"""What LIO's heads see of some held-back pictures, drawn beside each checkpoint: `explained/*.png` in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from edgekit.core.files import write_atomic
from edgekit.runtime.explain import Explanation, draw, png
from edgekit.runtime.features.image import ImageConfig, Pixels
from edgekit.train.data.picture_loading import PictureBatch
from edgekit.train.families.lio import heads

FOLDER = "explained"


class Examples:
    """The first held-back picture of each of some classes, and what the heads see of it.

    Args:
        module: the backbone with the heads of one stage.
        most: so many pictures.
    """

    def __init__(self, module: heads.Explanation, image: ImageConfig, most: int) -> None:
        self._module, self._image, self._most = module, image, most
        self._seen: dict[int, tuple[str, Explanation | None]] = {}

    def of(self, batches: Iterable[PictureBatch]) -> Iterator[PictureBatch]:
        """The same batches, looked at while they pass; what an earlier pass showed is forgotten."""
        self._seen = {}
        for batch in batches:
            for place, label in enumerate(batch.labels_B.tolist()):
                if label not in self._seen and len(self._seen) < self._most:
                    maps = self._module(batch.pixels_BCHW[place : place + 1])
                    grids = [x[0].float().cpu().numpy() for x in maps]
                    sound = all(np.isfinite(grid).all() for grid in grids)
                    self._seen[label] = batch.ids[place], Explanation(*grids) if sound else None
            yield batch

    def write(self, folder: Path) -> None:
        """A file for each of them; of maps that are not finite none."""
        pixels = Pixels(self._image)
        for label, (path, explanation) in sorted(self._seen.items()):
            if explanation is not None:
                image = draw(pixels.resized(Path(path)), explanation, Path(path).name)
                write_atomic(folder / f"{label:04d}.png", png(image))
