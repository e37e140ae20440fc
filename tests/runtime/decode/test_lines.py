"""Text files line by line, and files that are none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from edgekit.core.errors import DecodingError
from edgekit.runtime.decode.lines import MAX_LINE, read_lines

pytestmark = pytest.mark.device_side


@pytest.mark.parametrize("is_gzip", [False, True])
def test_lines_without_their_ends(tmp_path: Path, is_gzip: bool) -> None:
    content = b"a b\r\n\n\xff c \n" + b"x" * MAX_LINE
    (tmp_path / "file").write_bytes(gzip.compress(content) if is_gzip else content)
    expected = [(1, b"a b"), (2, b""), (3, b"\xff c "), (4, b"x" * MAX_LINE)]
    assert list(read_lines(tmp_path / "file", "text")) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n" + b"x" * (MAX_LINE + 1), "lines of at most 65536 bytes, line 2 of"),
        # far more than it takes on disk
        (gzip.compress(b"x" * (1 << 25), mtime=0), "lines of at most"),
        (b"a\nb\0\n", "which is text; line 2 of"),
        (gzip.compress(b"a\nb\n", mtime=0)[:-4], "read to its end"),
        (b"\x1f\x8bxyz", "read to its end"),
    ],
)
def test_what_is_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DecodingError, match=f"expected text.*{message}") as caught:
        list(read_lines(tmp_path / "file", "text"))
    assert str(tmp_path / "file") in caught.value.message


@pytest.mark.parametrize("name", ["none", ".", "a\0b"])
def test_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DecodingError, match="expected text"):
        list(read_lines(tmp_path / name, "text"))
