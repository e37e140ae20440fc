"""The files of a model: one alone, an OpenVINO model and its weights, an ONNX file and the weights beside it."""

from __future__ import annotations

import hashlib
import mmap
import re
from pathlib import Path, PurePath

from edgekit.core.errors import EdgekitError
from edgekit.core.files import sha256_of

_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])")
"""How a tensor's entry of ONNX's external_data begins, with the number of bytes of the file's name (onnx.proto)."""


def files_of(path: Path) -> list[Path]:
    """A model's file and those that it names and that are there, in the folder of the model or below it."""
    others = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    if path.suffix == ".onnx" and path.stat().st_size:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            names = {_name(content, found) for found in _LOCATION.finditer(content)}
        # a model is not to be trusted to name files elsewhere
        inside = (PurePath(name) for name in sorted(names) if "\0" not in name)
        others = [path.parent / name for name in inside if not name.is_absolute() and ".." not in name.parts]
    return [path, *(other for other in others if other.is_file())]


def describe_files(path: Path) -> dict[str, str | int]:
    """`sha256` and `num_bytes` of a model: of its file; of several the SHA-256 of theirs, and the sum.

    Raises:
        EdgekitError: one cannot be read.
    """
    try:
        files = files_of(path)
        sums = [sha256_of(file) for file in files]
        num_bytes = sum(file.stat().st_size for file in files)
    except OSError as error:
        raise EdgekitError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    whole = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    return {"sha256": whole, "num_bytes": num_bytes}


def _name(content: mmap.mmap, found: re.Match[bytes]) -> str:
    size = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(found[1]))  # a varint
    return content[found.end() : found.end() + size].decode(errors="replace")
