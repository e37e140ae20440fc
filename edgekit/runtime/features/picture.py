"""A picture from a file or from memory into RGB as a person sees it, or a reason why there is none."""

from __future__ import annotations

import importlib
import io
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Union

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import BackendError, PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = Union[str, "os.PathLike[str]", bytes, npt.NDArray[np.uint8], "Image"]
"""A file, an encoded picture's bytes, uint8 [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], or an image of Pillow's."""

MAX_PIXELS = 1 << 27
"""Of one picture: 134 million, 512 MiB while it is decoded, four times that where it is transparent. All but a few
sensors of cameras and phones have less."""

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2"),
)
"""How names of files that are read end, in lower case."""

PHONES_SUFFIXES = (".heic", ".heif", ".hif")
"""Likewise of photographs that Pillow does not read: in a folder they are refused aloud and not left out."""

# Pillow knows many more, most of them rarely seen and some that start other programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "MPO", "AVIF", "JPEG2000")
_PLUGINS = ("Jpeg", "Png", "WebP", "Gif", "Bmp", "Tiff", "Ppm", "Mpo", "Avif", "Jpeg2K")
_ORIENTATION = 0x0112
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# what Pillow's readers raise for bytes that are not what they should be
_BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_WARNINGS = threading.Lock()


def load_picture(picture: Picture) -> npt.NDArray[np.uint8]:
    """Read a picture: turned as its EXIF says, RGB, uint8 [h, w, 3].

    JPEG, PNG, WebP, GIF and TIFF (the first frame), BMP, PPM and PGM, AVIF and JPEG 2000 where Pillow has them. What is
    transparent is laid on white, as transformers does; 16 bits become their upper 8; colour profiles are not applied.
    One limit: a JPEG that is damaged in its middle is decoded to its end, with grey blocks.

    Raises:
        PictureError: missing, a folder, no picture, cut short, damaged, more than `MAX_PIXELS` (told by its header,
            before anything is decoded), 32 bits a channel, or an array of another shape or dtype.
        BackendError: Pillow is not installed.
    """
    return np.asarray(open_picture(picture))


def open_picture(picture: Picture) -> Image:
    """What `load_picture` reads, as an RGB image of Pillow's; raises as it does."""
    image_module, where = pillow(), called(picture)
    if isinstance(picture, np.ndarray):
        return _rgb(_of_array(picture), where)
    if isinstance(picture, image_module.Image):
        return _decoded(picture, where)
    if isinstance(picture, bytes):
        return _read(io.BytesIO(picture), where)
    if not isinstance(picture, (str, os.PathLike)):
        raise PictureError(f"expected a file's path, bytes, an array or an image of Pillow's, received {where}")
    with _opened(Path(picture)) as file:
        return _read(file, where)


def called(picture: object) -> str:
    """What an error calls a picture: its path, or what it is."""
    if isinstance(picture, (str, os.PathLike)):
        return str(Path(picture))
    if isinstance(picture, bytes):
        return f"{len(picture)} bytes in memory"
    if isinstance(picture, np.ndarray):
        return "the array"
    return "the image" if isinstance(picture, pillow().Image) else f"a {type(picture).__name__}"


def pillow() -> Any:
    """Pillow's module `Image`.

    Raises:
        BackendError: it is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise BackendError(
            "expected the package Pillow to read pictures, it is not installed", hint='pip install "edgekit[vision]"'
        ) from error
    return Image


@cache
def _formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that this Pillow reads."""
    for name in _PLUGINS:
        with suppress(ModuleNotFoundError):  # of an older Pillow
            importlib.import_module(f"PIL.{name}ImagePlugin")
    return tuple(name for name in _FORMATS if name in pillow().OPEN)


def _read(file: IO[bytes], where: str) -> Image:
    image_module = pillow()
    try:
        with _quiet():
            image = image_module.open(file, formats=_formats())
    except image_module.DecompressionBombError as error:
        # without the limit that Pillow names, which is not ours
        raise _too_large(where, str(error).partition(" exceeds")[0]) from error
    except _BROKEN as error:
        if _unidentified(error) and _from_a_phone(file):
            raise PictureError(
                f"expected a picture (JPEG, PNG, WebP, GIF, BMP, TIFF), received {where}: HEIC",
                hint="save it as JPEG (heif-convert does); phones can be set to make JPEGs",
            ) from error
        known = "no picture that Pillow knows" if _unidentified(error) else _words(error)
        raise PictureError(
            f"expected a picture (JPEG, PNG, WebP, GIF, BMP, TIFF), received {where}: {known}",
            hint="look at it; if it shows, save it as PNG",
        ) from error
    return _decoded(image, where)


def _decoded(image: Image, where: str) -> Image:
    """An image of Pillow's, decoded, turned and RGB."""
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(where, f"{image.width} x {image.height}")
    if min(image.size) < 1:
        raise PictureError(f"expected a picture, received {where} of {image.width} x {image.height} pixels")
    kind = image.format
    try:
        # a TIFF's reader warns of fields it cannot read when it is done
        with _quiet() if kind == "TIFF" else nullcontext():
            image.load()
        with _quiet():
            turn = _turn(image)
        image = _rgb(image, where, kind)
        return image if turn is None else image.transpose(pillow().Transpose[turn])
    except _BROKEN as error:
        raise PictureError(
            f"expected a picture that can be decoded to its end, received {where}: {_words(error)}",
            hint="fetch or copy it again; if it shows, save it as PNG",
        ) from error


def _turn(image: Image) -> str | None:
    """By which an image is turned upright. A TIFF's reader has done so already, and then says nothing of it here."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN:  # it shows all the same, and nobody knows which way
        return None


def _rgb(image: Image, where: str, kind: str | None = None) -> Image:
    """An image in RGB; transparent parts on white."""
    image_module = pillow()
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    # 16 bits of grey; as 32 where older readers have no other mode
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        upper = (np.asarray(image) >> 8).astype(np.uint8)
        return image_module.fromarray(upper).convert("RGB")  # type: ignore[no-any-return]
    if image.mode in ("I", "F"):
        raise PictureError(
            f"expected 8 or 16 bits a channel, received 32 (mode {image.mode}) in {where}",
            hint="nobody knows which value is white: save it as 8-bit PNG",
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    above = image.convert("LA") if image.mode == "La" else image
    above = above if above.mode == "RGBA" else above.convert("RGBA")
    white = image_module.new("RGBA", above.size, (255, 255, 255, 255))
    return image_module.alpha_composite(white, above).convert("RGB")  # type: ignore[no-any-return]


def _of_array(array: npt.NDArray[Any]) -> Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = "values of 0 to 255 as uint8"
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = "if it is [channels, h, w], as torch has it, pass array.transpose(1, 2, 0)"
        raise PictureError(
            f"expected a picture uint8[h, w, 3], received {array.dtype}{list(array.shape)}",
            hint=hint,
        )
    if not array.size or array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise PictureError(f"expected 1 to {MAX_PIXELS:,} pixels, received an array {list(array.shape)}")
    image: Image = pillow().fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)
    return image


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # one that is closed to this user is told as such
            raise PictureError(f"expected a picture, received a folder: {path}", hint="name the files inside it")
        if not stat.S_ISREG(status.st_mode):
            raise PictureError(
                f"expected a picture, received a pipe or device: {path}", hint="write it to a file first"
            )
        file = path.open("rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PictureError(
            f"expected a picture that can be read, received {path}: {reason}", hint="look at its path and permissions"
        ) from error
    with file:
        if status.st_size == 0:
            raise PictureError(f"expected a picture, received an empty file: {path}", hint="fetch it again")
        yield file


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings: of what matters we raise. One thread at a time, since filters are the process's."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _too_large(where: str, received: str) -> PictureError:
    return PictureError(
        f"expected at most {MAX_PIXELS:,} pixels, received {where}: {received}", hint="make it smaller first"
    )


def _unidentified(error: BaseException) -> bool:
    return type(error).__name__ == "UnidentifiedImageError"


def _from_a_phone(file: IO[bytes]) -> bool:
    """Whether it is HEIC, as its first box says."""
    file.seek(0)
    head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def _words(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return " ".join(text.split())[:200]
