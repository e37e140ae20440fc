"""Sets of pictures in the layouts in which they are handed out, written here file by file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import DataError, UnavailableError
from edgekit.train.data.picture_sets import fewer, hold_out, renumbered
from edgekit.train.data.pictures import Item, PictureSet, _set, has_split, read_pictures, write_lines


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def told(found: PictureSet) -> list[tuple[str, str]]:
    return [(item.path.name, found.classes[item.label]) for item in found.items]


def test_a_folder_per_class(tmp_path: Path) -> None:
    touch(
        tmp_path / "b" / "1.JPEG", tmp_path / "b" / "in" / "2.png", tmp_path / "a" / "3.jpg", tmp_path / "a" / "no.txt"
    )
    (tmp_path / ".hidden").mkdir()
    found = read_pictures(tmp_path)
    assert found.classes == ("a", "b")
    assert told(found) == [("3.jpg", "a"), ("1.JPEG", "b"), ("2.png", "b")]
    assert [(each.path.name, each.reason) for each in found.skipped] == [
        ("no.txt", "its name does not end as a picture's")
    ]
    assert not has_split(tmp_path, "test")


def test_folders_of_parts(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "a" / "1.png", tmp_path / "val" / "a" / "2.png")
    assert told(read_pictures(tmp_path)) == [("1.png", "a")]
    assert told(read_pictures(tmp_path, "test")) == [("2.png", "a")]
    assert has_split(tmp_path, "test")
    touch(tmp_path / "alone" / "test" / "a" / "1.png")
    with pytest.raises(DataError, match="train or training"):
        read_pictures(tmp_path / "alone", "train")


def test_a_class_may_be_called_as_a_part_is(tmp_path: Path) -> None:
    """Trains are a class of CIFAR-100."""
    touch(tmp_path / "bus" / "1.png", tmp_path / "train" / "2.png")
    assert read_pictures(tmp_path).classes == ("bus", "train")
    assert not has_split(tmp_path, "train")
    # but a part beside others is one, although its pictures have no folders
    touch(tmp_path / "flat" / "train" / "a" / "1.png", tmp_path / "flat" / "val" / "2.png")
    assert has_split(tmp_path / "flat", "test")
    with pytest.raises(DataError, match="received none"):
        read_pictures(tmp_path / "flat", "test")


def test_miniatures_have_their_folders_below_images(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "n01" / "1.JPEG", tmp_path / "images" / "n02" / "2.JPEG", tmp_path / "words.txt")
    assert told(read_pictures(tmp_path)) == [("1.JPEG", "n01"), ("2.JPEG", "n02")]


def test_cub(tmp_path: Path) -> None:
    """Its classes.txt has names, images.txt paths below images, and class 2 comes before class 10."""
    names = {1: "001.Albatross", 2: "002.Auklet", 10: "010.Blackbird"}
    files = {1: "001.Albatross/a_0001.jpg", 2: "010.Blackbird/b_0002.jpg", 3: "002.Auklet/c_0003.jpg"}
    (tmp_path / "classes.txt").write_text("".join(f"{k} {v}\n" for k, v in names.items()))
    (tmp_path / "images.txt").write_text("".join(f"{k} {v}\n" for k, v in files.items()))
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 10\n3 2\n")
    (tmp_path / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n")
    touch(*(tmp_path / "images" / each for each in files.values()))
    found = read_pictures(tmp_path, "train")
    assert found.classes == tuple(names.values())
    assert told(found) == [("a_0001.jpg", "001.Albatross"), ("c_0003.jpg", "002.Auklet")]
    assert told(read_pictures(tmp_path, "test")) == [("b_0002.jpg", "010.Blackbird")]
    assert len(read_pictures(tmp_path).items) == 3
    (tmp_path / "train_test_split.txt").write_text("1 1\n2\n3 1\n")
    with pytest.raises(DataError, match="line 2"):
        read_pictures(tmp_path, "train")
    (tmp_path / "train_test_split.txt").write_text("1 1\n3 1\n")
    with pytest.raises(DataError, match=r"train_test_split\.txt .* '2' does not"):
        read_pictures(tmp_path, "train")


def annotations(rows: list[tuple[Any, ...]], names: tuple[str, ...]) -> dict[str, Any]:
    return {"annotations": np.array([rows], dtype=[(name, object) for name in names])}


def test_stanford_cars(tmp_path: Path) -> None:
    io = pytest.importorskip("scipy.io", reason="its tables are MATLAB's")
    kit = tmp_path / "devkit"
    kit.mkdir()
    names = np.empty((1, 2), object)
    names[0, :] = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]
    io.savemat(kit / "cars_meta.mat", {"class_names": names})
    box = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    labelled = annotations([(1, 2, 3, 4, 2, "00001.jpg"), (1, 2, 3, 4, 1, "00002.jpg")], (*box, "class", "fname"))
    io.savemat(kit / "cars_train_annos.mat", labelled)
    io.savemat(kit / "cars_test_annos.mat", annotations([(1, 2, 3, 4, "00001.jpg")] * 2, (*box, "fname")))
    io.savemat(tmp_path / "cars_test_annos_withlabels.mat", labelled)
    touch(*(tmp_path / part / name for part in ("cars_train", "cars_test") for name in ("00001.jpg", "00002.jpg")))
    for part in ("train", "test"):
        found = read_pictures(tmp_path, part)  # type: ignore[arg-type]
        assert found.classes == ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")
        assert told(found) == [("00001.jpg", "Acura RL Sedan 2012"), ("00002.jpg", "AM General Hummer SUV 2000")]
        assert {item.path.parent.name for item in found.items} == {f"cars_{part}"}
    (tmp_path / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(DataError, match="cars_test_annos_withlabels"):
        read_pictures(tmp_path, "test")
    (kit / "cars_meta.mat").write_bytes(b"no table")
    with pytest.raises(DataError, match="MATLAB"):
        read_pictures(tmp_path, "train")


def test_stanford_cars_need_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cars_train").mkdir()
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UnavailableError, match="scipy"):
        read_pictures(tmp_path, "train")


def test_fgvc_aircraft(tmp_path: Path) -> None:
    """Variants have spaces and strokes; training takes train and validation together."""
    data = tmp_path / "data"
    touch(*(data / "images" / f"{number}.jpg" for number in ("0034309", "1025794", "0999999")))
    (data / "variants.txt").write_text("707-320\nF/A-18\nEurofighter Typhoon\n")
    (data / "images_variant_trainval.txt").write_text("1025794 707-320\n0999999 Eurofighter Typhoon\n")
    (data / "images_variant_test.txt").write_text("0034309 F/A-18\n1111111 707-320\n")
    found = read_pictures(tmp_path, "train")
    assert found.classes == ("707-320", "F/A-18", "Eurofighter Typhoon")
    assert told(found) == [("1025794.jpg", "707-320"), ("0999999.jpg", "Eurofighter Typhoon")]
    tested = read_pictures(data, "test")
    assert told(tested) == [("0034309.jpg", "F/A-18")]
    assert [each.reason for each in tested.skipped] == ["there is no such file"]


def test_lists_keep_a_set_as_it_is(tmp_path: Path) -> None:
    touch(tmp_path / "p" / "1.png", tmp_path / "p" / "2.png")
    items = (Item(tmp_path / "p" / "1.png", 2), Item(tmp_path / "p" / "2.png", 0))
    kept = PictureSet(("z", "none has this", "a\u00e4"), items)
    write_lines(tmp_path / "set.jsonl", kept)
    assert read_pictures(tmp_path / "set.jsonl") == kept
    (tmp_path / "own.jsonl").write_text(
        '{"picture": "p/1.png", "class": "b"}\n\n{"picture": "p/2.png", "class": "a"}\n'
    )
    assert told(read_pictures(tmp_path / "own.jsonl")) == [("1.png", "b"), ("2.png", "a")]
    for text in ("{", '["a"]', '{"picture": "p/1.png"}'):
        (tmp_path / "bad.jsonl").write_text(text)
        with pytest.raises(DataError, match="line 1"):
            read_pictures(tmp_path / "bad.jsonl")


def test_lists_keep_links_and_names_of_any_kind(tmp_path: Path) -> None:
    """A cache's links point to files without an ending; names hold a line's end, or bytes that are no UTF-8."""
    folder = tmp_path / "p"
    touch(tmp_path / "blob", folder / "odd\u2028name\x85\n" / "1.png")
    link = folder / "a" / "2.png"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "blob")
    try:
        touch(folder / "a" / "caf\udce9.png")
    except (OSError, UnicodeError):  # of a file system that has no such names
        touch(folder / "a" / "3.png")
    found = read_pictures(folder)
    assert len(found.items) == 3
    write_lines(tmp_path / "set.jsonl", found)
    assert read_pictures(tmp_path / "set.jsonl") == found
    # as others write it
    text = '{"picture": "a/2.png", "class": "one\u2028two"}\n'
    (folder / "own.jsonl").write_text(text, encoding="utf-8")
    assert told(read_pictures(folder / "own.jsonl")) == [("2.png", "one\u2028two")]


def test_classes_whose_names_no_file_can_hold_are_told() -> None:
    with pytest.raises(DataError, match="UTF-8 can hold"):
        _set([(Path("a.png"), "caf\udce9")], None)


def test_nothing_of_use_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is none"):
        read_pictures(tmp_path / "nowhere")
    touch(tmp_path / "a" / "readme.txt")
    with pytest.raises(DataError, match=r"received none .*readme\.txt"):
        read_pictures(tmp_path)


def some(counts: tuple[int, ...]) -> PictureSet:
    items = [Item(Path(f"{label}-{n}.png"), label) for label, count in enumerate(counts) for n in range(count)]
    return PictureSet(tuple("abc"[: len(counts)]), tuple(items))


def test_some_of_each_class_are_held_out() -> None:
    pictures = some((10, 3, 1))
    train, apart = hold_out(pictures, 0.2, seed=1)
    assert [len(places) for places in apart.of_class()] == [2, 1, 0]
    assert sorted(train.items + apart.items, key=str) == sorted(pictures.items, key=str)
    assert hold_out(pictures, 0.2, seed=1) == (train, apart)
    assert hold_out(pictures, 0.2, seed=2) != (train, apart)
    with pytest.raises(DataError, match="two pictures"):
        hold_out(some((1, 1)), 0.5, seed=0)


def test_fewer_are_some_of_more() -> None:
    pictures = some((10, 3, 1))
    four, two = fewer(pictures, 4, 0), fewer(pictures, 2, 0)
    assert [len(places) for places in four.of_class()] == [4, 3, 1]
    assert set(two.items) < set(four.items)


def test_classes_are_matched_by_name() -> None:
    pictures = some((1, 0, 1))
    again = renumbered(pictures, ("c", "x", "a"))
    assert [item.label for item in again.items] == [2, 0]
    with pytest.raises(DataError, match="'c'"):
        renumbered(pictures, ("a", "b"))
