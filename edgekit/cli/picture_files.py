"""The pictures that a person names: files, and folders that hold them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def picture_files(path: Path) -> list[Path]:
    """A file itself; of a folder the pictures in it and below, by their names' endings, in order.

    Hidden files and folders (thumbnails, a bin) are left out. What cannot be read is not: a folder that is closed to
    this user, or a photograph in HEIC. Whoever opens it is told why.

    Raises:
        PictureError: a folder without pictures.
    """
    from edgekit.core.errors import PictureError
    from edgekit.runtime.features.picture import PHONES_SUFFIXES, SUFFIXES

    # os.path and not Path, whose questions raise where a name is too long or a folder is closed to this user
    if not os.path.isdir(path):  # noqa: PTH112
        return [path]
    found: list[Path] = []
    closed: list[OSError] = []
    for folder, below, names in os.walk(path, onerror=closed.append):
        below[:] = [name for name in below if not name.startswith(".")]
        pictures = [name for name in names if name.lower().endswith((*SUFFIXES, *PHONES_SUFFIXES))]
        found += [Path(folder, name) for name in pictures if not name.startswith(".")]
    found += [Path(error.filename) for error in closed]
    if not found:
        raise PictureError(f"expected pictures in the folder {path}, there are none", hint=f"ls {path}")
    return sorted(found)


def different_files(paths: Iterable[Path]) -> list[Path]:
    """The files in their order, without those whose bytes are another's before them."""
    from edgekit.core.files import sha256_of

    found: dict[str, Path] = {}
    for path in paths:
        # what is no file, or cannot be read, is told when it is opened as a picture
        readable = os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113
        found.setdefault(sha256_of(path) if readable else str(path), path)
    return list(found.values())
