"""Texts become labels and can be read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.train.tokens import LETTERS, encode


def decode(ids: list[int], tokens: tuple[str, ...], delimiter: str = "|") -> str:
    return "".join(tokens[index] for index in ids).replace(delimiter, " ")


@given(st.lists(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ'", min_size=1)).map(" ".join))
def test_what_the_letters_hold_comes_back(text: str) -> None:
    ids, num_unknown = encode(text, LETTERS)
    assert decode(ids, LETTERS) == text
    assert num_unknown == 0


@given(st.text())
def test_any_text(text: str) -> None:
    ids, num_unknown = encode(text, LETTERS)
    assert all(LETTERS[index] in "|'ABCDEFGHIJKLMNOPQRSTUVWXYZ" for index in ids)
    assert decode(ids, LETTERS).split() == decode(ids, LETTERS).strip().split(" ") or not ids
    # é may be one character or two, ß becomes two
    assert num_unknown <= 3 * len(text)


@pytest.mark.parametrize(
    ("text", "expected", "num_unknown"),
    [
        ("it’s  a\ttest\n", "IT'S A TEST", 0),
        ("a - b, c.", "A B C", 3),
        ("|a|b <s>", "AB S", 4),
        ("naïve", "NAVE", 1),
        ("nai\u0308ve", "NAVE", 1),
        ("straße", "STRASSE", 0),
        ("42", "", 2),
        ("", "", 0),
    ],
)
def test_letters(text: str, expected: str, num_unknown: int) -> None:
    ids, count = encode(text, LETTERS)
    assert (decode(ids, LETTERS), count) == (expected, num_unknown)


def test_other_sets() -> None:
    lower = ("-", " ", *"abcé")
    assert encode("Ab c—É", lower) == ([2, 3, 1, 4, 5], 1)
    both = ("<blank>", "▁", *"aA")
    assert encode("a A", both) == ([2, 1, 3], 0)
    assert encode("a-b", lower) == ([2, 3], 1), "the blank is no letter"
    assert encode("a b", ("<pad>", "a", "b")) == ([1, 2], 0), "no delimiter"
