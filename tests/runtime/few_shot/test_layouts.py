"""Sets as they are handed out, written small: which pictures are found, of which classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.core.errors import DataError, UsageError
from edgekit.runtime.few_shot.layouts import ClassPictures, read_class_pictures

pytestmark = pytest.mark.device_side


def touched(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def told(found: ClassPictures) -> list[tuple[str, str]]:
    return [(path.relative_to(found.root).as_posix(), label) for path, label in zip(found.paths, found.labels)]


def test_folders(tmp_path: Path) -> None:
    touched(tmp_path, "b/1.png", "a/deep/2.JPG", "a/1.png", "a/notes.txt", ".hidden/1.png")
    found = read_class_pictures(tmp_path)
    assert (found.layout, found.split) == ("folders", None)
    assert told(found) == [("a/1.png", "a"), ("a/deep/2.JPG", "a"), ("b/1.png", "b")]
    inside = tmp_path / "with"
    touched(inside, "images/c/1.png", "words.txt")
    assert told(read_class_pictures(inside)) == [("images/c/1.png", "c")]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("base", "val", "novel")])
def test_folders_of_parts(tmp_path: Path, names: tuple[str, str, str]) -> None:
    touched(tmp_path, *(f"{name}/c{index}/1.png" for index, name in enumerate(names)))
    for index, split in enumerate(("base", "validation", "novel")):
        found = read_class_pictures(tmp_path, split)
        assert told(found) == [(f"{names[index]}/c{index}/1.png", f"c{index}")]
        assert found.split == split
    (tmp_path / names[1]).rename(tmp_path / "other")
    with pytest.raises(DataError, match="expected a folder val or"):
        read_class_pictures(tmp_path, "validation")


@pytest.mark.parametrize("place", ["images/n0153282900000005.jpg", "images/n01532829/n0153282900000005.jpg"])
def test_mini_imagenet(tmp_path: Path, place: str) -> None:
    touched(tmp_path, place)
    for part in ("train", "val", "test"):
        (tmp_path / f"{part}.csv").write_text("filename,label\n")
    (tmp_path / "test.csv").write_text("filename,label\nn0153282900000005.jpg,n01532829\ngone.jpg,n01532829\n")
    found = read_class_pictures(tmp_path)
    assert (found.layout, found.split, found.num_missing) == ("csv", "novel", 1)
    assert told(found) == [(place, "n01532829")]
    with pytest.raises(DataError, match="expected pictures of base classes"):
        read_class_pictures(tmp_path, "base")


def test_mini_imagenet_on_files_of_imagenet(tmp_path: Path) -> None:
    """Of which the list gives the place among the class's, in the order of their numbers."""
    touched(tmp_path, *(f"images/n1/n1_{number}.JPEG" for number in (90, 7, 1000)))
    (tmp_path / "test.csv").write_text("filename,label\nn100000002.jpg,n1\nn100000003.jpg,n1\nn100000004.jpg,n1\n")
    found = read_class_pictures(tmp_path)
    assert told(found) == [("images/n1/n1_90.JPEG", "n1"), ("images/n1/n1_1000.JPEG", "n1")]
    assert found.num_missing == 1


def test_tiered_imagenet(tmp_path: Path) -> None:
    touched(tmp_path, "train/n1/a.JPEG", "train/n2/b.JPEG", "train/n3/c.JPEG")
    (tmp_path / "test.csv").write_text("n2,n9\nn1,n9\n\n")
    found = read_class_pictures(tmp_path)
    assert found.layout == "csv"
    assert told(found) == [("train/n2/b.JPEG", "n2"), ("train/n1/a.JPEG", "n1")]
    (tmp_path / "test.csv").write_text("n4,n9\n")
    with pytest.raises(DataError, match="expected a folder of the class 'n4'"):
        read_class_pictures(tmp_path)
    (tmp_path / "test.csv").write_text("n4\n")
    with pytest.raises(DataError, match="two columns"):
        read_class_pictures(tmp_path)


def test_cifar_fs(tmp_path: Path) -> None:
    touched(tmp_path, "data/apple/1.png", "data/bear/1.png", "data/cloud/1.png")
    folder = tmp_path / "splits" / "bertinetto"
    folder.mkdir(parents=True)
    for part, name in (("train", "apple"), ("val", "bear"), ("test", "cloud")):
        (folder / f"{part}.txt").write_text(f"{name}\n")
    found = read_class_pictures(tmp_path)
    assert (found.layout, told(found)) == ("lists", [("data/cloud/1.png", "cloud")])
    assert told(read_class_pictures(tmp_path, "base")) == [("data/apple/1.png", "apple")]


def cub(root: Path, num_classes: int = 8) -> None:
    names = [f"{number:03}.Bird{number}" for number in range(1, num_classes + 1)]
    touched(root, *(f"images/{name}/{name}_1.jpg" for name in names))
    lines = {
        "images": (f"{number} {name}/{name}_1.jpg" for number, name in enumerate(names, 1)),
        "image_class_labels": (f"{number} {number}" for number in range(1, num_classes + 1)),
        "classes": (f"{number} {name}" for number, name in enumerate(names, 1)),
        "train_test_split": (f"{number} 1" for number in range(1, num_classes + 1)),
    }
    for name, each in lines.items():
        (root / f"{name}.txt").write_text("\n".join(each) + "\n")


def test_cub(tmp_path: Path) -> None:
    cub(tmp_path)
    parts = {split: set(read_class_pictures(tmp_path, split).labels) for split in ("base", "validation", "novel")}
    assert parts["base"] == {"001.Bird1", "003.Bird3", "005.Bird5", "007.Bird7"}
    assert parts["validation"] == {"002.Bird2", "006.Bird6"}
    assert parts["novel"] == {"004.Bird4", "008.Bird8"}
    assert read_class_pictures(tmp_path).layout == "cub"
    (tmp_path / "image_class_labels.txt").write_text("1 99\n")
    with pytest.raises(DataError, match="its class 99"):
        read_class_pictures(tmp_path)
    (tmp_path / "image_class_labels.txt").write_text("one bird\n")
    with pytest.raises(DataError, match="a number and a value"):
        read_class_pictures(tmp_path)


def test_lists_of_files_as_json(tmp_path: Path) -> None:
    """Which name pictures by where they lay on the machine that wrote them."""
    cub(tmp_path)
    names = [f"/elsewhere/CUB/images/{name}/{name}_1.jpg" for name in ("003.Bird3", "005.Bird5")]
    listed = {"label_names": ["x"], "image_names": names, "image_labels": [2, 4]}
    (tmp_path / "novel.json").write_text(json.dumps(listed))
    found = read_class_pictures(tmp_path)
    assert (found.layout, found.labels) == ("json", ("2", "4"))
    assert [path.name for path in found.paths] == ["003.Bird3_1.jpg", "005.Bird5_1.jpg"]
    assert len(read_class_pictures(tmp_path, layout="cub").paths) == 2
    (tmp_path / "novel.json").write_text(json.dumps({**listed, "image_labels": [2]}))
    with pytest.raises(DataError, match="of one length"):
        read_class_pictures(tmp_path)


def test_at_most_so_many_of_each(tmp_path: Path) -> None:
    touched(tmp_path, *(f"a/{index:02}.png" for index in range(10)), "b/1.png")
    assert told(read_class_pictures(tmp_path).first(2)) == [("a/00.png", "a"), ("a/05.png", "a"), ("b/1.png", "b")]


def test_wrong_turns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is none at"):
        read_class_pictures(tmp_path / "gone")
    with pytest.raises(DataError, match="received none"):
        read_class_pictures(tmp_path)
    with pytest.raises(UsageError, match="a layout among"):
        read_class_pictures(tmp_path, layout="pickle")
    with pytest.raises(UsageError, match="a split among"):
        read_class_pictures(tmp_path, "all")
    with pytest.raises(DataError, match="the layout csv"):
        read_class_pictures(tmp_path, layout="csv")
