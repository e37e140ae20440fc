"""Pictures to learn from and pictures to validate on, opened from settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.errors import DataError
from edgekit.runtime.features.image import ImageConfig
from edgekit.train.data.picture_loading import PictureBatch, open_picture_batches, validation_pictures
from edgekit.train.data.picture_settings import PictureDataSettings
from edgekit.train.data.pictures import PictureSet, has_split, read_pictures, write_lines

if TYPE_CHECKING:
    from edgekit.train.recipe import Workplace

_MOST_TOLD = 5
# numbers of their own, apart from those of batches
_HELD_OUT, _FEWER = 4, 5


@dataclass(frozen=True)
class PictureData:
    """What a loop is fed with.

    Attributes:
        image: how pictures become pixels.
        positives: others of the same class beside each picture that is learned from.
    """

    train: PictureSet
    held_back: PictureSet
    image: ImageConfig
    settings: PictureDataSettings
    positives: int = 0
    # broken pictures, of which each is told once, however often the set is gone through
    _told: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    def batches(self, start: int, rank: int, world: int, accumulate: int) -> Iterator[PictureBatch]:
        """Augmented, without end, from the first batch of optimiser step `start`."""
        return open_picture_batches(
            self.train,
            self.image,
            self.settings,
            positives=self.positives,
            start=start,
            rank=rank,
            world=world,
            accumulate=accumulate,
            told=self._told,
        )

    def validation(self) -> Iterator[PictureBatch]:
        """What is held back, as a device sees it."""
        settings = self.settings
        return validation_pictures(
            self.held_back, self.image, settings.batch_size, workers=settings.workers, told=self._told
        )


def open_pictures(
    settings: PictureDataSettings, image: ImageConfig, place: Workplace, *, positives: int = 0
) -> PictureData:
    """Read the sets, or what a run that goes on has kept of them in its folder.

    Raises:
        DataError: nothing of use, one class, or other classes to validate on than to learn.
    """
    kept = {name: place.run.path / f"data-{name}.jsonl" for name in ("train", "validation")}

    def keep() -> None:
        if all(path.is_file() for path in kept.values()):
            return
        parts = has_split(settings.train, "train") or has_split(settings.train, "test")
        train = _told(read_pictures(settings.train, "train" if parts else None), place)
        if len(train.classes) < 2:
            raise DataError(f"expected pictures of two classes or more in {settings.train}, received one")
        if settings.validation:
            named = has_split(settings.validation, "test")
            held_back = _told(read_pictures(settings.validation, "test" if named else None), place)
        elif has_split(settings.train, "test"):
            held_back = _told(read_pictures(settings.train, "test"), place)
        else:
            train, held_back = hold_out(train, settings.validation_share, settings.seed)
        if held_back.classes != train.classes:
            held_back = renumbered(held_back, train.classes)
        if settings.per_class is not None:
            train = fewer(train, settings.per_class, settings.seed)
        write_lines(kept["train"], train)
        write_lines(kept["validation"], held_back)

    place.first(keep)
    train, held_back = (_told(read_pictures(path), place) for path in kept.values())
    place.report.say(
        f"{len(train.items)} pictures of {len(train.classes)} classes to learn from, {len(held_back.items)} held back"
    )
    return PictureData(train, held_back, image, settings, positives)


def hold_out(pictures: PictureSet, share: float, seed: int) -> tuple[PictureSet, PictureSet]:
    """Some pictures of each class apart, drawn at random: at least one of each, and at least one stays.

    Raises:
        DataError: no class has two pictures.
    """
    rng = np.random.default_rng([_HELD_OUT, seed])
    apart: set[int] = set()
    for places in pictures.of_class():
        count = min(max(1, round(len(places) * share)), len(places) - 1)
        if count > 0:
            apart.update(rng.choice(places, count, replace=False).tolist())
    if not apart:
        raise DataError("expected two pictures or more of a class, to hold one out", hint="--set data.validation=DIR")
    return _those(pictures, set(range(len(pictures.items))) - apart), _those(pictures, apart)


def fewer(pictures: PictureSet, per_class: int, seed: int) -> PictureSet:
    """At most so many pictures of each class, drawn at random: a larger number has those of a smaller one, too."""
    rng = np.random.default_rng([_FEWER, seed])
    return _those(
        pictures, {place for places in pictures.of_class() for place in rng.permutation(places)[:per_class].tolist()}
    )


def renumbered(pictures: PictureSet, classes: tuple[str, ...]) -> PictureSet:
    """The same with the numbers of other names.

    Raises:
        DataError: it has a class that these lack.
    """
    number = {name: index for index, name in enumerate(classes)}
    lacking = sorted({pictures.classes[item.label] for item in pictures.items} - set(number))
    if lacking:
        raise DataError(f"expected pictures of the classes that are learned to validate on, received {lacking[0]!r}")
    items = tuple(replace(item, label=number[pictures.classes[item.label]]) for item in pictures.items)
    return replace(pictures, classes=classes, items=items)


def _those(pictures: PictureSet, places: set[int]) -> PictureSet:
    return PictureSet(pictures.classes, tuple(pictures.items[place] for place in sorted(places)))


def _told(pictures: PictureSet, place: Workplace) -> PictureSet:
    for skipped in pictures.skipped[:_MOST_TOLD]:
        place.report.say(f"left out {skipped.path}: {skipped.reason}")
    if len(pictures.skipped) > _MOST_TOLD:
        place.report.say(f"left out {len(pictures.skipped) - _MOST_TOLD} more")
    return pictures
