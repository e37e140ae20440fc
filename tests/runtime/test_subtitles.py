"""SubRip: numbering, times, and where a new subtitle begins."""

from __future__ import annotations

import pytest

from edgekit.runtime.decode.ctc import Word
from edgekit.runtime.subtitles import MAX_CHARACTERS, to_srt

pytestmark = pytest.mark.device_side


def said(*words: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start, end, 1.0) for text, start, end in words]


def test_times_and_numbers() -> None:
    words = said(("HELLO", 0.0, 0.5), ("WORLD", 0.6, 1.2345), ("LATER", 3661.5, 3662.0))
    assert to_srt(words) == (
        "1\n00:00:00,000 --> 00:00:01,234\nHELLO WORLD\n\n2\n01:01:01,500 --> 01:01:02,000\nLATER\n"
    )


def test_lines_are_neither_too_long_nor_too_slow() -> None:
    words = said(*((f"WORD{i}", i * 0.4, i * 0.4 + 0.3) for i in range(60)))
    blocks = [block.splitlines() for block in to_srt(words).split("\n\n")]
    assert " ".join(block[2] for block in blocks) == " ".join(word.text for word in words)
    assert all(len(block[2]) <= MAX_CHARACTERS for block in blocks)


def test_no_words_no_subtitles() -> None:
    assert to_srt([]) == ""
