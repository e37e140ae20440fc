"""Lines of a text file, gzip too, that a wrong file cannot turn into gigabytes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from edgekit.core.errors import DecodingError

MAX_LINE = 1 << 16
"""Bytes in a line, at most."""


def read_lines(path: Path, what: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, from number 1, without what ends them; gzip is told by its first bytes.

    Args:
        path: the file.
        what: what it should hold, for errors: "a language model in ARPA format".

    Raises:
        DecodingError: no such file, not readable, damaged gzip, binary, or a line of more than `MAX_LINE` bytes.
    """
    number = 0
    try:
        if not path.is_file():
            raise DecodingError(f"expected {what}, no such file: {path}", hint="look at its path")
        with path.open("rb") as plain:
            is_gzip = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with gzip.open(plain) if is_gzip else plain as file:
                while line := file.readline(MAX_LINE + 1):
                    number += 1
                    if len(line) > MAX_LINE:
                        raise DecodingError(
                            f"expected {what} with lines of at most {MAX_LINE} bytes, "
                            f"line {number} of {path} is longer",
                            hint="look at what is in it",
                        )
                    if b"\0" in line:
                        raise DecodingError(
                            f"expected {what}, which is text; line {number} of {path} is binary",
                            hint="look at what is in it",
                        )
                    yield number, line.rstrip(b"\r\n")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DecodingError(
            f"expected {what} that can be read to its end, received {path}: {error}",
            hint="look at its permissions, or fetch it again",
        ) from error
