"""Batches of pictures: the device's pixels, groups of one class, exact resumption, and broken files."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.core.errors import DataError
from edgekit.runtime.features.image import ImageConfig, open_pixels
from edgekit.train.data.picture_augment import AugmentSettings, augment, random_box
from edgekit.train.data.picture_loading import PictureBatch, open_picture_batches, validation_pictures
from edgekit.train.data.picture_settings import PictureDataSettings
from edgekit.train.data.pictures import Item, PictureSet, read_pictures

image_module = pytest.importorskip("PIL.Image", reason="needs Pillow")

IMAGE = ImageConfig(24, 24, resize_to=28, resample="bilinear")
EXACT = ImageConfig(24, 24, resize="exact", resize_to=None)
SETTINGS = PictureDataSettings(batch_size=5, workers=0)


def same(one: PictureBatch, other: PictureBatch) -> bool:
    return torch.equal(one.pixels_BCHW, other.pixels_BCHW) and one.ids == other.ids and one.index == other.index


@pytest.mark.parametrize("image", [IMAGE, EXACT])
def test_pixels_are_the_devices(image: ImageConfig, blots: Path) -> None:
    pictures = read_pictures(blots)
    pixels = open_pixels(image.describe())
    batches = list(validation_pictures(pictures, image, 5))
    assert [each for batch in batches for each in batch.ids] == [str(item.path) for item in pictures.items]
    assert torch.cat([batch.labels_B for batch in batches]).tolist() == [item.label for item in pictures.items]
    for batch in batches:
        for path, found in zip(batch.ids, batch.pixels_BCHW):
            np.testing.assert_array_equal(found.numpy(), pixels(Path(path)))
    # and those of training, where nothing is done to a picture
    plain = PictureDataSettings(batch_size=5, workers=0, augment=AugmentSettings(crop="none", flip=0.0))
    batch = next(open_picture_batches(pictures, image, plain))
    for path, found in zip(batch.ids, batch.pixels_BCHW):
        np.testing.assert_array_equal(found.numpy(), pixels(Path(path)))


def test_an_epoch_has_every_picture_once_and_a_run_goes_on_exactly(blots: Path) -> None:
    pictures = read_pictures(blots)
    batches = list(islice(open_picture_batches(pictures, IMAGE, SETTINGS), 12))
    first = [path for batch in batches if batch.epoch == 0 for path in batch.ids]
    assert sorted(first) == sorted(str(item.path) for item in pictures.items)
    again = list(islice(open_picture_batches(pictures, IMAGE, SETTINGS, start=7), 5))
    assert all(same(one, other) for one, other in zip(batches[7:], again, strict=True))
    reading = PictureDataSettings(batch_size=5, workers=1)
    apart = list(islice(open_picture_batches(pictures, IMAGE, reading, start=7), 5))
    assert all(same(one, other) for one, other in zip(again, apart, strict=True))
    second = {path: x for batch in batches if batch.epoch == 1 for path, x in zip(batch.ids, batch.pixels_BCHW)}
    before = {path: x for batch in batches if batch.epoch == 0 for path, x in zip(batch.ids, batch.pixels_BCHW)}
    assert any(not torch.equal(x, before[path]) for path, x in second.items())
    assert batches[0].amount == 5
    assert batches[0].unit == "pictures"


def test_positives_are_others_of_the_class_from_the_whole_set(blots: Path) -> None:
    whole = read_pictures(blots)
    keep = [item for item in whole.items if item.label or item.path.stem in ("00", "01")]
    pictures = PictureSet(whole.classes, (*keep, Item(whole.items[0].path, 0)))
    seen: dict[int, set[str]] = {}
    for batch in islice(open_picture_batches(pictures, IMAGE, SETTINGS, positives=3), 20):
        assert batch.members == 4
        labels, ids = batch.labels_B.view(-1, 4), np.array(batch.ids).reshape(-1, 4)
        assert (labels == labels[:, :1]).all()
        for label, group in zip(labels[:, 0].tolist(), ids):
            if label:  # of twelve, three others
                assert len(set(group)) == 4
            seen.setdefault(label, set()).update(group[1:])
    # from the whole set, not the batch; a class of three has fewer others than are asked for: drawn with replacement
    assert [len(seen[label]) for label in range(4)] == [2, 12, 12, 12]


def test_a_class_of_one_picture_is_its_own_positive(blots: Path) -> None:
    path = read_pictures(blots).items[0].path
    batch = next(open_picture_batches(PictureSet(("a",), (Item(path, 0),)), IMAGE, SETTINGS, positives=2))
    assert batch.ids == (str(path),) * 3


def test_broken_pictures_are_told_once_and_left_out(
    blots: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = read_pictures(blots)
    broken = tmp_path / "cut.png"
    broken.write_bytes(whole.items[0].path.read_bytes()[:200])
    alone = tmp_path / "alone.png"
    alone.write_bytes(b"nothing")
    pictures = PictureSet((*whole.classes, "broken"), (*whole.items, Item(broken, 1), Item(alone, 4)))
    with caplog.at_level(logging.WARNING, "edgekit.train"):
        batches = list(islice(open_picture_batches(pictures, IMAGE, SETTINGS, positives=2), 22))
    assert all(len(batch.ids) == 3 * 5 for batch in batches if batch.epoch == 0 and batch.index not in (9, 10))
    paths = {path for batch in batches for path in batch.ids}
    assert str(broken) not in paths
    assert str(alone) not in paths
    for batch in batches:
        assert (batch.labels_B.view(-1, 3) == batch.labels_B.view(-1, 3)[:, :1]).all()
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2
    assert {str(broken), str(alone)} == {text.split(": ")[0].removeprefix("left out ") for text in warned}
    caplog.clear()
    with caplog.at_level(logging.WARNING, "edgekit.train"):
        held = [path for batch in validation_pictures(pictures, IMAGE, 7) for path in batch.ids]
    assert held == [str(item.path) for item in whole.items]
    assert len(caplog.records) == 2
    caplog.clear()
    known: set[str] = set()
    with caplog.at_level(logging.WARNING, "edgekit.train"):
        for _ in range(2):  # as often as one validates
            list(validation_pictures(pictures, IMAGE, 7, told=known))
    assert len(caplog.records) == 2
    nothing = PictureSet(("a",), (Item(alone, 0),))
    for find in (
        lambda: next(open_picture_batches(nothing, IMAGE, SETTINGS)),
        lambda: list(validation_pictures(nothing, IMAGE, 4)),
    ):
        with pytest.raises(DataError, match="none among 1"):
            find()


@pytest.mark.parametrize("crop", ["random-resized", "random", "padded"])
@pytest.mark.parametrize("resize_to", [28, None])
def test_augmented_pictures_have_their_size_and_depend_on_the_seed_alone(crop: str, resize_to: int | None) -> None:
    rng = np.random.default_rng(0)
    picture = image_module.fromarray(rng.integers(0, 256, (31, 53, 3), np.uint8))
    settings = AugmentSettings(crop=crop, rotate_degrees=15.0, jitter=0.4)  # type: ignore[arg-type]

    def made(seed: int) -> np.ndarray:
        drawn = np.random.default_rng(seed)
        return np.asarray(augment(picture, settings, size=(20, 24), resize_to=resize_to, resample=2, rng=drawn))

    assert made(1).shape == (20, 24, 3)
    np.testing.assert_array_equal(made(1), made(1))
    assert (made(1) != made(2)).any()


def test_random_parts_have_their_share_of_the_area_and_proportions() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        left, top, right, bottom = random_box(90, 60, (0.2, 0.5), rng)
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 60
        w, h = right - left, bottom - top
        assert 0.17 < w * h / (90 * 60) < 0.55
        assert 0.7 < w / h < 1.42
    assert random_box(300, 10, (0.9, 1.0), rng) == (143, 0, 156, 10)
