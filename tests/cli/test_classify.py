"""`edgekit classify`, run for real."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.bundle import Bundle

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")

from PIL import Image  # noqa: E402

Cli = Callable[..., Any]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures, some deeper, with files of other kinds between."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, place in {"red": "a.png", "green": "B.JPG", "blue": "more/c.webp", "white": "more/d.bmp"}.items():
        image = Image.fromarray(np.full((40, 50, 3), COLOURS[name], np.uint8))
        image.save(folder / place)
    (folder / "notes.txt").write_text("none of them")
    (folder / "._a.png").write_bytes(b"left by another system")
    return folder


def test_a_line_for_each_class(cli: Cli, colour_bundle: Path, photos: Path) -> None:
    ran = cli("classify", colour_bundle, photos / "a.png", "--top", 2)
    assert ran.code == 0
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert [line[:2] for line in lines] == [[str(photos / "a.png"), "red"], [str(photos / "a.png"), "white"]]
    assert [float(line[2]) for line in lines] == pytest.approx([1, np.exp(-10)], abs=1e-3)


@pytest.mark.parametrize("options", ["", "--batch 1", "--batch 3", "--batch 100", "--backend onnxruntime --threads 1"])
def test_a_folder_is_all_pictures_in_it(cli: Cli, colour_bundle: Path, photos: Path, options: str) -> None:
    ran = cli("classify", colour_bundle, photos, "--top", 1, *options.split())
    assert (ran.code, ran.err) == (0, "")
    names = ["B.JPG", "a.png", "more/c.webp", "more/d.bmp"]
    rows = [line.split("\t")[:2] for line in ran.out.splitlines()]
    assert rows == [[str(photos / name), colour] for name, colour in zip(names, ("green", "red", "blue", "white"))]


def test_json(cli: Cli, colour_bundle: Path, photos: Path) -> None:
    ran = cli("classify", colour_bundle, photos / "a.png", photos / "more", "--json", "--backend", "onnxruntime")
    assert (ran.code, ran.err) == (0, "")
    told = json.loads(ran.out)
    assert told["session"] == "onnxruntime fp32 on cpu"
    assert [Path(each["picture"]).name for each in told["pictures"]] == ["a.png", "c.webp", "d.bmp"]
    for each in told["pictures"]:
        assert len(each["classes"]) == 4
        assert sum(one["probability"] for one in each["classes"]) == pytest.approx(1)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_broken_one_stops_no_other(cli: Cli, colour_bundle: Path, photos: Path, batch: int) -> None:
    (photos / "Z.png").write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "more" / "b.jpg").write_text("no picture")
    ran = cli("classify", colour_bundle, photos, photos / "gone.png", "--top", 1, "--batch", batch)
    assert ran.code == 1
    assert [line.split("\t")[1] for line in ran.out.splitlines()] == ["green", "red", "blue", "white"]
    errors = ran.err.splitlines()
    assert all(line.startswith("error: expected a picture") for line in errors)
    assert [name in line for name, line in zip(("Z.png", "b.jpg", "gone.png"), errors, strict=True)] == [True] * 3
    as_json = cli("classify", colour_bundle, photos, "--json")
    assert as_json.code == 1
    assert len(json.loads(as_json.out)["pictures"]) == 4


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", None])
def test_a_broken_one_alone_has_a_hint(cli: Cli, colour_bundle: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    ran = cli("classify", colour_bundle, tmp_path / "a.png")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: expected a picture")
    assert "\nhint:  " in ran.err
    assert "Traceback" not in ran.err


def test_wrong_turns(cli: Cli, colour_bundle: Path, toy_bundle: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for arguments, code, message in (
        ((colour_bundle,), 2, "PICTURE"),
        ((colour_bundle, tmp_path / "nothing"), 1, "expected pictures in the folder"),
        ((photos / "a.png", photos / "B.JPG"), 1, "expected a bundle at"),
        ((toy_bundle, photos), 2, "expected a bundle for image-classification"),
        ((colour_bundle, photos, "--top", 0), 2, "--top"),
        ((colour_bundle, photos, "--backend", "none"), 2, "expected a backend among"),
        ((colour_bundle, photos, "--precision", "fp16"), 1, "fp16"),
    ):
        ran = cli("classify", *arguments)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert message in ran.err
    ran = cli("transcribe", colour_bundle, photos / "a.png")
    assert ran.code == 2
    assert "expected a bundle for speech-recognition" in ran.err


def test_hostile_names_command_no_terminal(cli: Cli, write_colours: Callable[..., Bundle], tmp_path: Path) -> None:
    names = "\x1b[2Jred\ngreen\tgreen\nblue\u202e\nwhite\r"
    bundle = write_colours(names=names.encode() + b"\n", built=False)
    path = tmp_path / "a\nb\x1b[31m.png"
    Image.fromarray(np.full((4, 4, 3), COLOURS["red"], np.uint8)).save(path)
    ran = cli("classify", bundle.path, path)
    assert ran.code == 0
    shown = str(path).replace("\n", r"\n").replace("\x1b", r"\x1b")
    assert {line.split("\t")[0] for line in ran.out.splitlines()} == {shown}
    told = {line.split("\t")[1] for line in ran.out.splitlines()}
    assert told == {r"\x1b[2Jred", r"green\tgreen", r"blue\u202e", r"white\r"}
    as_json = json.loads(cli("classify", bundle.path, path, "--json").out)["pictures"][0]
    assert as_json["picture"] == str(path)
    assert {each["name"] for each in as_json["classes"]} == set(names.split("\n"))


def test_random_weights_answer_only_when_asked(cli: Cli, write_colours: Callable[..., Bundle], photos: Path) -> None:
    bundle = write_colours(provenance={"weights": {"source": "random", "seed": 0}}, built=False)
    ran = cli("classify", bundle.path, photos)
    assert (ran.code, ran.out) == (1, "")
    assert "--allow-random-weights" in ran.err
    assert cli("classify", bundle.path, photos, "--allow-random-weights").code == 0


def test_enrolled_classes(cli: Cli, write_colours: Callable[..., Bundle], photos: Path, tmp_path: Path) -> None:
    import edgekit

    bundle = write_colours(built=False).path
    options = ("--store", tmp_path / "store", "--top", 2)
    ran = cli("classify", bundle, photos / "a.png", "--enrolled", *options)
    assert (ran.code, ran.out) == (1, "")
    assert f"edgekit enroll {bundle} --class NAME PICTURES" in ran.err
    known = edgekit.load(bundle, store=tmp_path / "store")
    near = np.random.default_rng(0).integers(-9, 10, (2, 3, 1, 1, 3))
    shades = {
        name: [np.clip(np.full((9, 9, 3), COLOURS[name]) + each, 0, 255).astype(np.uint8) for each in group]
        for name, group in zip(("red", "blue"), near)
    }
    known.enrolled.enrol({f"my-{name}": known.embed(given) for name, given in shades.items()})
    ran = cli("classify", bundle, photos, "--enrolled", *options)
    assert (ran.code, ran.err) == (0, "")
    first = {line.split("\t")[0]: line.split("\t")[1] for line in reversed(ran.out.splitlines())}
    answers = ("unknown", "my-red", "my-blue", "unknown")  # green and white are nobody's
    assert list(first.values())[::-1] == list(answers)
    told = json.loads(cli("classify", bundle, photos, "--enrolled", "--json", *options).out)["pictures"]
    assert [each["name"] for each in told] == [None, "my-red", "my-blue", None]
    assert all(each["enrolled"] and -1 <= each["classes"][0]["score"] <= 1 for each in told)
    for own in ((), ("--own",)):  # without being asked, the bundle's own
        assert cli("classify", bundle, photos / "a.png", *own, *options).out.split("\t")[1] == "red"


def test_pictures_of_what_the_model_sees(cli: Cli, write_colours: Callable[..., Bundle], photos: Path) -> None:
    bundle, out = write_colours(built=False, explains=True).path, photos / "seen"
    (photos / "a.jpg").write_bytes((photos / "B.JPG").read_bytes())
    (photos / "more" / "b.jpg").write_text("no picture")
    ran = cli("classify", bundle, photos, "--explain", out, "--top", 1)
    assert ran.code == 1  # of the one that is none
    assert "b.jpg" in ran.err
    assert f"drawn in {out}: 5" in ran.err
    assert sorted(path.name for path in out.iterdir()) == ["B.png", "a-2.png", "a.png", "c.png", "d.png"]
    for path in out.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width > 1000
    # never over a picture that it is asked about
    before = (photos / "a.png").read_bytes()
    as_json = json.loads(cli("classify", bundle, photos / "a.png", "--explain", photos, "--json").out)["pictures"][0]
    assert (photos / "a.png").read_bytes() == before
    assert as_json["explanation"] == str(photos / "a-2.png")
    assert (photos / "a-2.png").stat().st_size > 1000


def test_what_cannot_be_explained(cli: Cli, colour_bundle: Path, photos: Path, tmp_path: Path) -> None:
    ran = cli("classify", colour_bundle, photos, "--explain", tmp_path / "seen")
    assert (ran.code, ran.out) == (1, "")
    assert "expected a graph 'explain'" in ran.err
    assert "--set explain=true" in ran.err
    assert not (tmp_path / "seen").exists()


def test_a_folder_that_cannot_be_made(cli: Cli, write_colours: Callable[..., Bundle], photos: Path) -> None:
    bundle = write_colours(built=False, explains=True).path
    ran = cli("classify", bundle, photos / "a.png", "--explain", photos / "a.png" / "seen")
    assert (ran.code, ran.out) == (1, "")
    assert "cannot write" in ran.err


def test_what_a_folder_holds_and_cannot_be_read_is_told(cli: Cli, colour_bundle: Path, photos: Path) -> None:
    hidden = photos / ".thumbnails"
    hidden.mkdir()
    (hidden / "a.png").write_bytes((photos / "a.png").read_bytes())
    (photos / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    shut = photos / "shut"
    shut.mkdir(mode=0)
    try:
        closed = not os.access(shut, os.R_OK)  # to root no folder is
        ran = cli("classify", colour_bundle, photos, "--top", 1)
    finally:
        shut.chmod(0o700)
    assert ran.code == 1
    assert len(ran.out.splitlines()) == 4
    assert "phone.HEIC: HEIC" in ran.err
    assert ("shut: Permission denied" in ran.err) == closed
    assert "thumbnails" not in ran.err + ran.out


def test_too_elongated_ones_are_named(cli: Cli, colour_bundle: Path, photos: Path) -> None:
    Image.new("RGB", (1, 110_000)).save(photos / "long.png")
    ran = cli("classify", colour_bundle, photos, "--top", 1)
    assert (ran.code, len(ran.out.splitlines())) == (1, 4)
    assert "times its shortest edge" in ran.err
    assert "long.png: 1 x 110000" in ran.err


def test_errors_command_no_terminal(cli: Cli, colour_bundle: Path, tmp_path: Path) -> None:
    ran = cli("classify", colour_bundle, tmp_path / "a\x1b[31m.png")
    assert ran.code == 1
    assert "\x1b" not in ran.err
    assert r"a\x1b[31m.png: No such file" in ran.err


def test_drawings_replace_drawings_alone(cli: Cli, write_colours: Callable[..., Bundle], photos: Path) -> None:
    bundle, out = write_colours(built=False, explains=True).path, photos / "seen"
    out.mkdir()
    mine = (photos / "a.png").read_bytes()
    (out / "B.png").write_bytes(mine)
    for _ in range(2):  # the second time over what the first has drawn
        assert cli("classify", bundle, photos / "B.JPG", photos / "a.png", "--explain", out).code == 0
        assert sorted(path.name for path in out.iterdir()) == ["B-2.png", "B.png", "a.png"]
    assert (out / "B.png").read_bytes() == mine
