"""Planned batches of pictures into pixels, with others of the same class beside them where that is asked for.

What happens to a picture depends on the seed, the epoch and its place in the set alone, neither on the worker that
reads it nor on what was read before: a run that was stopped goes on exactly.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgekit.core.errors import DataError, PictureError
from edgekit.runtime.features.image import ImageConfig, Pixels
from edgekit.runtime.features.picture import open_picture, pillow
from edgekit.train.data.batches import BatchPlan, PlannedBatch
from edgekit.train.data.picture_augment import augment
from edgekit.train.data.picture_settings import PictureDataSettings
from edgekit.train.data.pictures import PictureSet

_log = logging.getLogger("edgekit.train")
# apart from the numbers of BatchPlan and of augmentation
_MEMBERS, _AUGMENT = 3, 1


@dataclass(frozen=True)
class PictureBatch:
    """A micro-batch of G groups of P + 1 pictures of one class each, group by group; P is 0 where none is asked for.

    Attributes:
        pixels_BCHW: float32, normalised; B = G (P + 1), the pictures of a group next to one another, its anchor first.
        labels_B: int64.
        ids: the pictures' paths.
        epoch: from 0.
        index: global number of the micro-batch.
        members: P + 1.
    """

    unit: ClassVar[str] = "pictures"

    pixels_BCHW: Tensor
    labels_B: Tensor
    ids: tuple[str, ...]
    epoch: int
    index: int
    members: int = 1

    @property
    def amount(self) -> float:
        return len(self.ids)

    def to(self, device: torch.device | str) -> PictureBatch:
        return replace(self, pixels_BCHW=self.pixels_BCHW.to(device), labels_B=self.labels_B.to(device))


def plan_pictures(pictures: PictureSet, settings: PictureDataSettings) -> BatchPlan:
    """All pictures once in every epoch; all of them count alike."""
    size = settings.batch_size
    return BatchPlan([1.0] * len(pictures.items), size, settings.seed, max_items=size)


def open_picture_batches(
    pictures: PictureSet,
    image: ImageConfig,
    settings: PictureDataSettings,
    *,
    positives: int = 0,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
    augmented: bool = True,
    told: set[str] | None = None,
) -> Iterator[PictureBatch]:
    """The micro-batches of one process from optimiser step `start` on, without end (`BatchPlan.for_rank`).

    A picture that cannot be read is told once, through the logger "edgekit.train", and the next one of its class takes
    its place; where a class has none, the next picture of all does, with others of its own class.

    Args:
        image: pixels as a device makes them.
        positives: P pictures of the same class beside each, drawn from the whole set, with replacement where the class
            has not so many others.
        augmented: as `settings.augment` says; otherwise as for evaluation.
        told: paths of broken pictures that are known already; others are added.
    """
    planned = plan_pictures(pictures, settings).for_rank(start, rank, world, accumulate)
    reader = _Reader(pictures, image, settings if augmented else None, positives=positives, seed=settings.seed)
    for batch in _told(_open(reader, planned, settings.workers), set() if told is None else told):
        if batch is None:
            raise _all_broken(pictures)
        yield batch


def validation_pictures(
    pictures: PictureSet, image: ImageConfig, batch_size: int, *, workers: int = 0, told: set[str] | None = None
) -> Iterator[PictureBatch]:
    """Every picture once, as a device sees it; what cannot be read is told and left out.

    Args:
        told: paths of broken pictures that are known already; others are added.

    Raises:
        DataError: no picture can be read.
    """
    places = range(len(pictures.items))
    planned = [
        PlannedBatch(number, 0, tuple(places[first : first + batch_size]))
        for number, first in enumerate(range(0, len(places), batch_size))
    ]
    readable = False
    reader = _Reader(pictures, image, instead=False)
    for batch in _told(_open(reader, planned, workers), set() if told is None else told):
        if batch is not None:
            readable = True
            yield batch
    if not readable:
        raise _all_broken(pictures)


@dataclass(frozen=True)
class _Loaded:
    """A batch, None where nothing of it can be read, and the pictures that could not, with the reason."""

    batch: PictureBatch | None
    broken: tuple[tuple[str, str], ...]


class _Reader(Dataset[_Loaded]):
    """Planned batches to loaded ones. Sent to each worker, which then keeps its own set of broken pictures.

    Args:
        settings: of augmentation; None: as for evaluation.
        instead: whether others take the place of broken pictures.
    """

    def __init__(
        self,
        pictures: PictureSet,
        image: ImageConfig,
        settings: PictureDataSettings | None = None,
        *,
        positives: int = 0,
        seed: int = 0,
        instead: bool = True,
    ) -> None:
        self._items, self._of_class = pictures.items, pictures.of_class()
        self._image, self._settings = image, settings
        self._positives, self._seed, self._instead = positives, seed, instead
        self._pixels = Pixels(image)
        # what is augmented has its size already
        self._sized = Pixels(replace(image, resize="exact", resize_to=None))
        self._filter = int(pillow().Resampling[image.resample.upper()])
        self._broken: set[int] = set()

    def __getitem__(self, planned: PlannedBatch) -> _Loaded:
        broken: list[tuple[str, str]] = []
        loaded = [pair for item in planned.items for pair in self._group(item, planned.epoch, broken)]
        if not loaded:
            return _Loaded(None, tuple(broken))
        batch = PictureBatch(
            torch.stack([pixels for _, pixels in loaded]),
            torch.tensor([self._items[place].label for place, _ in loaded]),
            tuple(str(self._items[place].path) for place, _ in loaded),
            planned.epoch,
            planned.index,
            self._positives + 1,
        )
        return _Loaded(batch, tuple(broken))

    def _group(self, item: int, epoch: int, broken: list[tuple[str, str]]) -> list[tuple[int, Tensor]]:
        """A picture and P others of its class; of the next picture where none of its class can be read."""
        for anchor in chain(range(item, len(self._items)), range(item)) if self._instead else (item,):
            members = enumerate(self._members(anchor, epoch))
            group = [self._load(place, (epoch, anchor, member), broken) for member, place in members]
            whole = [pair for pair in group if pair is not None]
            if len(whole) == len(group):
                return whole
        return []

    def _members(self, item: int, epoch: int) -> list[int]:
        """The picture and P others of its class; others than itself where there are any."""
        if not self._positives:
            return [item]
        rng = np.random.default_rng([_MEMBERS, self._seed, epoch, item])
        others = [place for place in self._of_class[self._items[item].label] if place != item] or [item]
        return [item, *rng.choice(others, self._positives, replace=len(others) < self._positives).tolist()]

    def _load(self, item: int, drawn: tuple[int, int, int], broken: list[tuple[str, str]]) -> tuple[int, Tensor] | None:
        for place in self._instead_of(item) if self._instead else (item,):
            path = self._items[place].path
            try:
                return place, self._read(place, drawn)
            except PictureError as error:
                self._broken.add(place)
                broken.append((str(path), error.message))
        return None

    def _instead_of(self, item: int) -> Iterator[int]:
        """The item, then others of its class; of none other, or a group would not be of one class.

        Where a class has no picture that can be read, there is none.
        """
        same = self._of_class[self._items[item].label]
        start = same.index(item)
        yield from (place for place in (*same[start:], *same[:start]) if place not in self._broken)

    def _read(self, place: int, drawn: tuple[int, int, int]) -> Tensor:
        path, settings = self._items[place].path, self._settings
        if settings is None:
            return torch.from_numpy(self._pixels(path))
        rng = np.random.default_rng([_AUGMENT, settings.seed, *drawn])
        picture = open_picture(path)
        if settings.augment.crop == "none":
            picture = pillow().fromarray(self._pixels.resized(picture))
        image = augment(
            picture,
            settings.augment,
            size=(self._image.height, self._image.width),
            resize_to=self._image.resize_to,
            resample=self._filter,
            rng=rng,
        )
        return torch.from_numpy(self._sized(image))


def _open(reader: _Reader, planned: Iterable[PlannedBatch], workers: int) -> DataLoader[_Loaded]:
    """Batches in their order; torch gives each worker one thread, and its global random numbers are left alone."""
    return DataLoader(
        reader,
        batch_size=None,
        sampler=planned,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
        prefetch_factor=2 if workers else None,
    )


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _told(loader: Iterable[_Loaded], told: set[str]) -> Iterator[PictureBatch | None]:
    """Every loaded batch; what is broken is told, once, although several workers may come across it."""
    for loaded in loader:
        for path, reason in loaded.broken:
            if path not in told:
                told.add(path)
                _log.warning("left out %s: %s", path, reason)
        yield loaded.batch


def _all_broken(pictures: PictureSet) -> DataError:
    return DataError(
        f"expected pictures that can be read, received none among {len(pictures.items)}",
        hint="see the warnings above: is the disk still there?",
    )
