"""What labels spell, and the texts that people write in their letters."""

from __future__ import annotations

import pytest

from edgekit.runtime.decode.spelling import Spelling

pytestmark = pytest.mark.device_side

LETTERS = ["<pad>", "<s>", "|", "A", "B", "'"]
PIECES = ["<blk>", "▁", "▁he", "ll", "o", "▁a"]


def test_what_each_label_adds() -> None:
    assert Spelling(LETTERS, 0, "|").pieces == (
        (False, ""),
        (False, ""),
        (True, ""),
        (False, "A"),
        (False, "B"),
        (False, "'"),
    )
    assert Spelling(PIECES, 0, "▁").pieces[1:4] == ((True, ""), (True, "he"), (False, "ll"))


def test_a_blank_spells_nothing_whatever_it_is_called() -> None:
    spelling = Spelling(["|", "A"], 0, "|")
    assert spelling.pieces == ((False, ""), (False, "A"))
    assert not spelling.has_words


@pytest.mark.parametrize(
    ("labels", "text", "expected"),
    [
        (LETTERS, "  a’b  ab ", "A'B AB"),
        (["_", "|", "a"], "A’B", "a’b"),
        (["_", "|", "a", "B"], "aB Ab", "aB Ab"),
        (["_", "|", "日"], "日 a", "日 a"),
        (["_", "|", "é"], "E\u0301", "é"),
        (["_", "|", "S"], "straße", "STRASSE"),
    ],
)
def test_a_text_as_labels_write_it(labels: list[str], text: str, expected: str) -> None:
    assert Spelling(labels, 0, "|").fold(text) == expected


@pytest.mark.parametrize(
    ("labels", "delimiter", "word", "expected"),
    [
        (LETTERS, "|", "A'B", True),
        (LETTERS, "|", "AC", False),
        (LETTERS, "|", "A|B", False),
        (PIECES, "▁", "hello", True),
        (PIECES, "▁", "llo", True),
        (PIECES, "▁", "allo", True),
        (PIECES, "▁", "oa", False),
        (PIECES, "▁", "hel", False),
        (["_", "▁he", "llo"], "▁", "llo", False),
        (["_", "日", "本"], "▁", "日本", True),
        (["_", "▁a", "a"], "▁", "a" * 500 + "b", False),
    ],
)
def test_what_can_be_spelled(labels: list[str], delimiter: str, word: str, expected: bool) -> None:
    assert Spelling(labels, 0, delimiter).can_spell(word) is expected
