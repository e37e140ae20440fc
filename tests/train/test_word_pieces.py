"""Word pieces: as many as asked for, the same every time, and texts that come back from them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import CheckpointError, DataError, SettingsError, UnavailableError
from edgekit.runtime.decode.ctc import Token, words
from edgekit.train.tokens import ctc_output
from edgekit.train.word_pieces import FILE, WordPieces, learn, read_word_pieces

pytest.importorskip("sentencepiece", reason="learns the pieces: pip install edgekit[train]")

TEXTS = ("the cat sat on the mat", "it’s that hat, isn't it?", None, "the other cat's other hat", "")
LETTERS = "ACEHIMNORST'"


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    return learn(TEXTS, 24)


def spelled(ids: list[int], pieces: WordPieces) -> str:
    """As the runtime reads labels."""
    output = ctc_output(pieces.tokens, 0.04)
    assert (output["blank"], output["delimiter"]) == (0, "▁")
    read = words(
        [Token(index, at, at + 1, 0.0) for at, index in enumerate(ids)], pieces.tokens, delimiter="▁", frame_s=1
    )
    return " ".join(word.text for word in read)


def test_as_many_as_labels_beside_the_blank(pieces: WordPieces) -> None:
    for num_labels in (14, 20, 24):
        found = learn(TEXTS, num_labels).tokens
        assert len(found) == len(set(found)) == num_labels
        assert found[0] == "<pad>"
        assert {"▁", *LETTERS} <= set(found[1:])
        assert set("".join(found[1:])) == {"▁", *LETTERS}


def test_the_same_texts_give_the_same(pieces: WordPieces) -> None:
    assert learn(list(TEXTS), 24).model == pieces.model


@given(st.lists(st.text(LETTERS, min_size=1)).map(" ".join))
def test_what_the_letters_hold_comes_back(pieces: WordPieces, text: str) -> None:
    ids, num_unknown = pieces.encode(text)
    assert spelled(ids, pieces) == text
    assert num_unknown == 0
    assert 0 not in ids


@given(st.text())
def test_any_text(pieces: WordPieces, text: str) -> None:
    ids, num_unknown = pieces.encode(text)
    assert all(0 < index < len(pieces.tokens) for index in ids)
    assert set(spelled(ids, pieces)) <= {" ", *LETTERS}
    assert num_unknown <= 3 * len(text)  # ŉ becomes two letters


@pytest.mark.parametrize(
    ("text", "expected", "num_unknown"),
    [
        ("The  cat\tsat\n", "THE CAT SAT", 0),
        ("it’s 42, is it?", "IT'S IS IT", 4),
        ("a zoo", "A OO", 1),
        ("▁the <unk> <pad>", "THE N A", 9),
        ("", "", 0),
        ("42", "", 2),
    ],
)
def test_texts_are_folded(pieces: WordPieces, text: str, expected: str, num_unknown: int) -> None:
    ids, count = pieces.encode(text)
    assert (spelled(ids, pieces), count) == (expected, num_unknown)


def test_a_frequent_word_is_one_piece() -> None:
    pieces = learn(["THE CAT"] * 5 + ["HE ATE"], 14)
    assert len(pieces.encode("the the")[0]) == 2


def test_too_few_words_for_so_many_pieces_are_told_what_can_be_had() -> None:
    with pytest.raises(
        SettingsError, match="expected texts that make 499 word pieces, received 12 different"
    ) as caught:
        learn(TEXTS, 500)
    most = int(str(caught.value.hint).split("model.vocab_size=")[1].split(",")[0])
    assert len(learn(TEXTS, most).tokens) == most
    with pytest.raises(SettingsError):
        learn(TEXTS, most + 1)


def test_more_letters_than_labels_are_told() -> None:
    with pytest.raises(SettingsError, match=r"expected room for 12 different letters, .* received 5 labels") as caught:
        learn(TEXTS, 5)
    assert caught.value.hint == "--set model.vocab_size=14, or more"
    assert len(learn(TEXTS, 14).tokens) == 14


@pytest.mark.parametrize("texts", [(), ("", None), ("12 + 3", "?")])
def test_texts_without_words_are_told(texts: tuple[str | None, ...]) -> None:
    with pytest.raises(DataError, match="texts of words"):
        learn(texts, 24)


def test_they_are_kept_in_a_folder(pieces: WordPieces, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected word pieces at") as caught:
        read_word_pieces(tmp_path)
    assert "tokens=letters" in str(caught.value.hint)
    pieces.save(tmp_path)
    again = read_word_pieces(tmp_path)
    assert (again.tokens, again.model) == (pieces.tokens, pieces.model)
    assert again.encode("that hat") == pieces.encode("that hat")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x0a"])
def test_a_broken_file_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"word pieces that edgekit learned in .*bpe\.model"):
        read_word_pieces(tmp_path)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UnavailableError, match="the package sentencepiece for word pieces") as caught:
        learn(TEXTS, 24)
    assert caught.value.hint == 'pip install "edgekit[train]"'
