"""Pictures of every kind, turned as cameras hold them, and files that are none."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.device_side
pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")

from PIL import Image  # noqa: E402

from edgekit.core.errors import BackendError, EdgekitError, PictureError  # noqa: E402
from edgekit.runtime.features import picture as module  # noqa: E402
from edgekit.runtime.features.picture import load_picture  # noqa: E402

LOSSLESS = ("PNG", "BMP", "TIFF", "PPM", "WEBP")


def pixels(height: int = 23, width: int = 31, channels: int = 3) -> np.ndarray:
    """Smooth, so that lossy formats stay near."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * 7) % 256, (y * 11) % 256, (x * 3 + y * 5) % 256, (x + y) * 4 % 256]
    return np.stack(planes[:channels], 2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header says whatever it is told to."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0), b"IDAT": zlib.compress(data)}
    parts = [struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in
             [*chunks.items(), (b"IEND", b"")]]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_file_bytes_and_an_array_are_one_picture(kind: str, tmp_path: Path) -> None:
    content = encoded(Image.fromarray(pixels()), kind, **({"lossless": True} if kind == "WEBP" else {}))
    (tmp_path / "a").write_bytes(content)
    for given in (tmp_path / "a", str(tmp_path / "a"), content, pixels(), Image.fromarray(pixels())):
        found = load_picture(given)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, pixels())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientations(kind: str, orientation: int) -> None:
    """The upright picture, and how a camera that is held otherwise stores it; 0 and 9 mean nothing."""
    upright = pixels(32, 48)
    stored = {
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }.get(orientation, upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    found = load_picture(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options))
    assert found.shape == upright.shape
    # a JPEG's steps of colour ring
    assert np.abs(found.astype(int) - upright).mean() <= (6 if kind == "JPEG" else 0)


def test_broken_exif_turns_nothing() -> None:
    content = encoded(Image.fromarray(pixels()), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(9))
    np.testing.assert_array_equal(load_picture(content), pixels())


def test_what_is_transparent_lies_on_white() -> None:
    above = pixels(channels=4)
    alpha = above[:, :, 3:] / 255
    expected = above[:, :, :3] * alpha + 255 * (1 - alpha)
    for given in (above, encoded(Image.fromarray(above), "PNG"), encoded(Image.fromarray(above), "TIFF")):
        assert np.abs(load_picture(given) - expected).max() <= 1
    grey = np.stack([above[:, :, 0], above[:, :, 3]], 2)
    found = load_picture(encoded(Image.fromarray(grey, "LA"), "PNG"))
    expected = grey[:, :, :1] * alpha + 255 * (1 - alpha)
    assert np.abs(found - expected).max() <= 1
    assert load_picture(np.zeros((2, 2, 4), np.uint8)).min() == 255


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_one_transparent_colour(mode: str) -> None:
    image = Image.fromarray(pixels()).convert(mode)
    plain = np.asarray(image.convert("RGB"))
    first = image.getpixel((0, 0))
    found = load_picture(encoded(image, "PNG", transparency=first))
    gone = (plain == plain[0, 0]).all(2) if mode != "P" else np.asarray(image) == first
    assert (found[gone] == 255).all()
    np.testing.assert_array_equal(found[~gone], plain[~gone])


def test_grey_bits_and_16_bits() -> None:
    grey = pixels()[:, :, 0]
    three = np.repeat(grey[:, :, None], 3, 2)
    for given in (grey, grey[:, :, None], encoded(Image.fromarray(grey), "PNG")):
        np.testing.assert_array_equal(load_picture(given), three)
    bits = Image.fromarray(grey > 99)
    np.testing.assert_array_equal(load_picture(encoded(bits, "PNG")), np.where(three > 99, 255, 0))
    deep = np.random.default_rng(0).integers(0, 1 << 16, (9, 14)).astype(np.uint16)
    upper = np.repeat((deep // 256)[:, :, None], 3, 2)
    pgm = b"P5 14 9 65535\n" + deep.astype(">u2").tobytes()
    for content in (encoded(Image.fromarray(deep), "PNG"), encoded(Image.fromarray(deep), "TIFF"), pgm):
        np.testing.assert_array_equal(load_picture(content), upper)


def test_cmyk() -> None:
    """Without profiles: red is what cyan and black leave of it."""
    cmyk = pixels(channels=4)
    left = 255 - cmyk.astype(int)
    expected = left[:, :, :3] * left[:, :, 3:] / 255
    found = load_picture(encoded(Image.fromarray(cmyk, "CMYK"), "TIFF"))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("kind", ["F", "I"])
def test_32_bits_are_refused(kind: str) -> None:
    with pytest.raises(PictureError, match=rf"expected 8 or 16 bits a channel, received 32 \(mode {kind}\)"):
        load_picture(encoded(Image.fromarray(pixels()).convert("L").convert(kind), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first(kind: str) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    frames = [Image.new("RGB", (40, 30), colour) for colour in colours]
    found = load_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert np.abs(found.astype(int) - colours[0]).max() <= 8


BROKEN = {
    "text": b"a picture of a cat\n" * 40,
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "one byte": b"\x89",
    "a signature": b"\x89PNG\r\n\x1a\n",
    "no pixels": png(5, 5),
    "width 0": png(0, 5, bytes(80)),
    "height 0": png(5, 0, bytes(80)),
    "a wide header": png(2**31 - 1, 1, bytes(80)),
    "a vast header": png(2**31 - 1, 2**31 - 1, bytes(80)),
    "a bomb": png(20_000, 20_000, bytes(80)),
    "a colour type of none": png(5, 5, bytes(80), colour=5),
    "a depth of none": png(5, 5, bytes(80), depth=3),
    "a jpeg's header": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(60),
    "a gif's header": b"GIF89a\xff\xff\xff\xff\x00\x00\x00" + bytes(60),
    "a bitmap's header": b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 2**31 - 1, -(2**31), 1, 24, 0) + bytes(20),
    "a tiff's header": b"II*\0\x08\0\0\0\xff\xff" + bytes(90),
    "a webp's header": b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(40),
    "a pgm of letters": b"P5 x y z\n",
    "a pgm of no size": b"P5 0 0 255\n",
    "a pgm of too many": b"P5 99999999 99999999 255\n",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_picture_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(BROKEN[what])
    for given in (BROKEN[what], tmp_path / "a.jpg"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nor is anything printed of it
            with pytest.raises(PictureError, match="expected") as caught:
                load_picture(given)
        assert caught.value.hint
        assert len(caught.value.message) < 600


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_was_cut_short_is_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(PictureError, match="expected"):
        load_picture(content[: int(share * len(content))])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_damaged_bytes_give_a_picture_or_a_reason(kind: str) -> None:
    random = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(pixels()), kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
    for _ in range(60):
        damaged = bytearray(content)
        for at in random.integers(0, min(len(content), 400), random.integers(1, 6)):
            damaged[at] = random.integers(256)
        try:
            found = load_picture(bytes(damaged))
        except EdgekitError:
            continue
        assert (found.dtype, found.ndim, found.shape[2]) == (np.uint8, 3, 3)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 700)
    content = encoded(Image.fromarray(pixels()), "PNG")
    # nothing of its data is there to be decoded
    header = content[: content.index(b"IDAT") + 4]
    with pytest.raises(PictureError, match=r"expected at most 700 pixels, received \d+ bytes in memory: 31 x 23"):
        load_picture(header)
    with pytest.raises(PictureError, match="expected 1 to 700 pixels"):
        load_picture(pixels())


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    for path, message in {
        tmp_path / "missing.png": "No such file",
        tmp_path: "received a folder",
        tmp_path / "empty.png": "received an empty file",
        tmp_path / "pipe.png": "received a pipe or device",
        Path("/dev/zero"): "received a pipe or device",
        tmp_path / ("a" * 300): "File name too long",
        "nul\0.png": "null",
    }.items():
        with pytest.raises(PictureError, match=message) as caught:
            load_picture(path)
        assert caught.value.hint
    with pytest.raises(PictureError, match="0 bytes in memory"):
        load_picture(b"")


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4, 3), np.uint8),
     np.zeros((4, 4, 3), np.uint16), np.zeros((1, 4, 4, 3), np.uint8)],
    ids=lambda array: f"{array.dtype}{array.shape}",
)  # fmt: skip
def test_arrays_that_are_none(array: np.ndarray) -> None:
    with pytest.raises(PictureError, match="expected"):
        load_picture(array)


def test_channels_first_are_told_what_to_do() -> None:
    with pytest.raises(PictureError, match=r"received uint8\[3, 40, 50\]") as caught:
        load_picture(np.zeros((3, 40, 50), np.uint8))
    assert "transpose" in str(caught.value.hint)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(BackendError, match="expected the package Pillow") as caught:
        load_picture(pixels())
    assert caught.value.hint == 'pip install "edgekit[vision]"'


def test_a_bomb_is_held_to_our_own_limit() -> None:
    with pytest.raises(PictureError, match=r"at most 134,217,728 pixels, received .* \(400000000 pixels\)$"):
        load_picture(BROKEN["a bomb"])


def test_a_photograph_in_heic_is_told_as_such() -> None:
    with pytest.raises(PictureError, match="60 bytes in memory: HEIC") as caught:
        load_picture(b"\0\0\0\x18ftypheic" + bytes(48))
    assert "JPEG" in str(caught.value.hint)


@pytest.mark.parametrize("given", [None, 3, ("a.png", "b.png"), bytearray(b"x")])
def test_what_is_no_kind_of_picture_is_refused(given: Any) -> None:
    with pytest.raises(PictureError, match=f"received a {type(given).__name__}"):
        load_picture(given)
