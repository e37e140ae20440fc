"""`edgekit enroll`, `edgekit classify --enrolled` and `edgekit classes` as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")

from PIL import Image  # noqa: E402

Cli = Callable[..., Any]
COLOURS = {"orange": (240, 130, 20), "teal": (10, 130, 130), "violet": (140, 20, 200)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures for each class, and other pictures of each beside it."""
    random = np.random.default_rng(0)
    for part, num in (("train", 4), ("test", 2)):
        for name, colour in COLOURS.items():
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for index in range(num):
                level = np.clip(np.array(colour) + random.integers(-14, 15, 3), 0, 255)
                Image.fromarray(np.full((40, 50, 3), level, np.uint8)).save(folder / f"{index}.png")
    Image.fromarray(np.full((40, 50, 3), 255, np.uint8)).save(tmp_path / "white.png")
    return tmp_path


def lines(ran: Any) -> list[list[str]]:
    return [line.split("\t") for line in ran.out.splitlines()]


def classes_of(ran: Any) -> list[Any]:
    """All that `--json` says of each picture but how long it took: all digits of scores too."""
    return [{key: value for key, value in each.items() if key != "compute_s"} for each in pictures_of(ran)]


def pictures_of(ran: Any) -> list[dict[str, Any]]:
    pictures: list[dict[str, Any]] = json.loads(ran.out)["pictures"]
    return pictures


def test_enroll_and_classify(cli: Cli, colour_bundle: Path, photos: Path, root: Path) -> None:
    store = ("--store", root)
    ran = cli("enroll", colour_bundle, "--folder", photos / "train", *store)
    assert ran.code == 0
    assert [line.split()[:4] for line in ran.out.splitlines()[3:6]] == [
        [name, "1", "4", "csca"] for name in ("orange", "teal", "violet")
    ]
    assert "ms beside" in ran.err
    assert "of 12 pictures, each left out, 100% are recognised by the mean alone" in ran.err
    ran = cli("classify", colour_bundle, photos / "test", photos / "white.png", "--enrolled", "--top", 1, *store)
    assert (ran.code, ran.err) == (0, "")
    found = [(Path(path).parent.name if "white" not in path else "white", name) for path, name, _ in lines(ran)]
    assert found == [*((name, name) for name in COLOURS for _ in range(2)), ("white", "unknown")]


def test_the_answer_stands_first(cli: Cli, colour_bundle: Path, photos: Path, root: Path) -> None:
    cli("enroll", colour_bundle, "--folder", photos / "train", "--store", root)
    enrolled = ("--enrolled", "--store", root)
    ran = cli("classify", colour_bundle, photos / "white.png", *enrolled)
    assert lines(ran)[0][1] == "unknown"
    assert sorted(line[1] for line in lines(ran)) == ["orange", "teal", "unknown", "violet"]
    scores = [float(line[2]) for line in lines(ran)]
    assert scores == sorted(scores, reverse=True)
    (told,) = pictures_of(cli("classify", colour_bundle, photos / "white.png", *enrolled, "--json"))
    assert {each["name"] for each in told["classes"]} == {"orange", "teal", "violet"}


def test_one_class_after_another(cli: Cli, colour_bundle: Path, photos: Path, root: Path) -> None:
    store = ("--store", root)
    for name in ("orange", "teal"):
        assert cli("enroll", colour_bundle, "--class", name, photos / "train" / name, *store).code == 0
    before = classes_of(cli("classify", colour_bundle, photos / "test", "--enrolled", "--json", *store))
    ran = cli("enroll", colour_bundle, "--class", "violet", photos / "train" / "violet" / "0.png", *store, "--json")
    told = json.loads(ran.out)
    assert told["num_known_before"] == 2
    assert told["enrol_ms"] > 0
    assert [(each["class"], each["num_pictures"], each["method"]) for each in told["classes"]] == [
        ("violet", 1, "nearest prototype")
    ]
    assert cli("classes", "forget", colour_bundle, "violet", "--yes", *store).code == 0
    assert classes_of(cli("classify", colour_bundle, photos / "test", "--enrolled", "--json", *store)) == before


def test_a_class_alone_of_few_pictures_is_told_to_have_no_threshold(
    cli: Cli, colour_bundle: Path, photos: Path, root: Path
) -> None:
    teal = photos / "train" / "teal"
    ran = cli("enroll", colour_bundle, "--class", "teal", teal / "0.png", teal / "1.png", "--store", root)
    assert "warning: nothing will be unknown for teal" in ran.err
    ran = cli("enroll", colour_bundle, "--class", "teal", teal, "--store", root)
    assert "warning" not in ran.err


def test_list_rollback_export_import(cli: Cli, colour_bundle: Path, photos: Path, root: Path, tmp_path: Path) -> None:
    store = ("--store", root)
    assert "no classes in" in cli("classes", "list", colour_bundle, *store).err
    cli("enroll", colour_bundle, "--folder", photos / "train", *store)
    cli("enroll", colour_bundle, "--class", "teal", photos / "train" / "violet", *store)
    rows = json.loads(cli("classes", "list", colour_bundle, "--json", *store).out)
    assert [(row["class"], row["version"], row["versions"]) for row in rows] == [
        ("orange", 1, [1]),
        ("teal", 2, [1, 2]),
        ("violet", 1, [1]),
    ]
    assert "csca" in cli("classes", "list", colour_bundle, *store).out
    assert cli("classes", "rollback", colour_bundle, "teal", *store).out == "teal (version 1)\n"
    file = tmp_path / "teal.class"
    assert cli("classes", "export", colour_bundle, "teal", file, *store).code == 0
    ran = cli("classes", "import", colour_bundle, file, "--name", "green", "--store", tmp_path / "other")
    assert ran.out == "green (version 1)\n"
    ran = cli("classes", "forget", colour_bundle, "teal", *store)
    assert (ran.code, "--yes" in ran.err) == (2, True)


def test_a_broken_picture_stops_no_other(cli: Cli, colour_bundle: Path, photos: Path, root: Path) -> None:
    cli("enroll", colour_bundle, "--folder", photos / "train", "--store", root)
    (photos / "test" / "teal" / "0.png").write_bytes(b"no picture")
    ran = cli("classify", colour_bundle, photos / "test", "--enrolled", "--top", 1, "--store", root)
    assert ran.code == 1
    assert [line[1] for line in lines(ran)] == ["orange", "orange", "teal", "violet", "violet"]
    assert ran.err.startswith("error: expected a picture")
    # enrolling one that cannot be read changes nothing
    (photos / "train" / "teal" / "0.png").write_bytes(b"no picture")
    ran = cli("enroll", colour_bundle, "--folder", photos / "train", "--store", root)
    assert (ran.code, ran.out) == (1, "")
    rows = json.loads(cli("classes", "list", colour_bundle, "--json", "--store", root).out)
    assert {row["version"] for row in rows} == {1}


def test_a_picture_that_is_there_twice_counts_once(cli: Cli, colour_bundle: Path, photos: Path, root: Path) -> None:
    teal = photos / "train" / "teal"
    (teal / "copy.png").write_bytes((teal / "1.png").read_bytes())
    ran = cli("enroll", colour_bundle, "--class", "teal", teal, teal / "0.png", "--store", root, "--json")
    assert "2 of 6 pictures are there twice" in ran.err
    assert json.loads(ran.out)["classes"][0]["num_pictures"] == 4


def test_more_pictures_than_are_enrolled_together(
    cli: Cli, colour_bundle: Path, photos: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.runtime.classes.enrolment.MOST_PICTURES", 11)
    ran = cli("enroll", colour_bundle, "--folder", photos / "train", "--store", root)
    assert (ran.code, "received 12" in ran.err, root.exists()) == (1, True, False)


def test_wrong_turns(cli: Cli, colour_bundle: Path, toy_bundle: Path, photos: Path, root: Path) -> None:
    (photos / "nothing" / "inside").mkdir(parents=True)
    teal = photos / "train" / "teal"
    for arguments, code, message in (
        (("enroll", colour_bundle, teal), 2, "expected a class and its pictures"),
        (("enroll", colour_bundle, "--class", "teal"), 2, "expected a class and its pictures"),
        (("enroll", colour_bundle, teal, "--folder", photos / "train"), 2, "expected a class and its pictures"),
        (("enroll", colour_bundle, "--class", "a/b", teal), 1, "expected a name"),
        (("enroll", colour_bundle, "--class", "unknown", teal), 1, "expected another name"),
        (("enroll", colour_bundle, "--class", "teal", photos / "gone.png"), 1, "expected a picture"),
        (("enroll", colour_bundle, "--folder", teal), 1, "a folder of pictures for each class"),
        (("enroll", colour_bundle, "--folder", photos / "nothing"), 1, "expected pictures in the folder"),
        (("enroll", toy_bundle, "--class", "teal", teal), 2, "expected a bundle for image-classification"),
        (("classify", colour_bundle, teal, "--enrolled"), 1, "edgekit enroll"),
        (("classes", "rollback", colour_bundle, "teal"), 1, "expected one of this core's 0 classes"),
    ):
        ran = cli(*arguments, "--store", root)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert message in ran.err
        assert "Traceback" not in ran.err
    assert not list(root.rglob("*.safetensors"))
