"""What hotwords add to a text, held to a count of their occurrences; and the files they come from."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DecodingError
from edgekit.runtime.decode.beam import PrefixBeam
from edgekit.runtime.decode.ctc import words
from edgekit.runtime.decode.hotwords import Hotword, HotwordScorer, read_hotwords
from edgekit.runtime.decode.spelling import Spelling

pytestmark = pytest.mark.device_side

LETTERS = ["<pad>", "<s>", "|", "A", "B", "C", "'"]
PIECES = ["<blk>", "▁", "▁A", "▁AB", "B", "A", "C", "▁C", "CA", "BA"]
BY_LETTER = Spelling(LETTERS, 0, "|")
BY_PIECE = Spelling(PIECES, 0, "▁")

texts = st.lists(st.text("ABC", min_size=1, max_size=4), max_size=6).map(" ".join)
phrases = st.lists(st.text("ABC", min_size=1, max_size=3), min_size=1, max_size=3).map(" ".join)
hotword_lists = st.lists(st.builds(Hotword, phrases, st.sampled_from([None, 0.5, 2.0])), max_size=6)


def letters(text: str) -> list[int]:
    return [LETTERS.index("|" if letter == " " else letter) for letter in text]


def cut(text: str, seed: int) -> list[int]:
    """A text in word pieces, cut at random."""
    draw = random.Random(seed)
    found: list[int] = []
    for word in text.split():
        rest = "▁" + word
        while rest:
            fitting = [piece for piece in PIECES[1:] if rest.startswith(piece)]
            found.append(PIECES.index(draw.choice(fitting)))
            rest = rest[len(PIECES[found[-1]]) :]
    return found


def gained(scorer: HotwordScorer, symbols: list[int]) -> tuple[float, float]:
    """What a text adds before its end, and with it."""
    state, total = scorer.start, 0.0
    for symbol in symbols:
        state, gain = scorer.extend(state, symbol)
        total += gain
    return total, total + scorer.end(state)


def expected_gain(hotwords: list[Hotword], text: str, weight: float) -> float:
    """At each word the dearest hotword that is there."""
    spoken = text.split()
    total = 0.0
    for at in range(len(spoken)):
        here = [
            len(hotword.phrase.replace(" ", "")) * (hotword.weight or weight)
            for hotword in hotwords
            if spoken[at : at + len(hotword.phrase.split())] == hotword.phrase.split()
        ]
        total += max(here, default=0.0)
    return total


@given(hotwords=hotword_lists, text=texts, seed=st.integers(0, 99))
def test_a_text_gains_its_hotwords(hotwords: list[Hotword], text: str, seed: int) -> None:
    expected = pytest.approx(expected_gain(hotwords, text, 1.5), abs=1e-9)
    by_letter = HotwordScorer(hotwords, BY_LETTER, 1.5)
    assert gained(by_letter, letters(text))[1] == expected
    assert gained(by_letter, letters(f" {text.replace(' ', '  ')} "))[1] == expected
    assert gained(HotwordScorer(hotwords, BY_PIECE, 1.5), cut(text, seed))[1] == expected


@given(hotwords=hotword_lists, text=texts)
def test_what_is_being_spelled_is_never_in_debt(hotwords: list[Hotword], text: str) -> None:
    scorer = HotwordScorer(hotwords, BY_LETTER, 1.0)
    for end in range(len(text) + 1):
        before, total = gained(scorer, letters(text[:end]))
        assert before >= -1e-9
        assert total >= -1e-9


@pytest.mark.parametrize(
    ("text", "before", "total"),
    [
        ("A", 1.0, 0.0),
        ("AB", 2.0, 2.0),
        ("AB ", 2.0, 2.0),
        ("ABA", 0.0, 0.0),
        ("CAB", 0.0, 0.0),
        ("AB C", 3.0, 2.0),
        ("AB CC", 4.0, 4.0),
        ("AB CCA", 2.0, 2.0),
        ("AB AB", 4.0, 4.0),
        ("A AB", 2.0, 2.0),
    ],
)
def test_a_bonus_is_taken_back_when_the_match_breaks(text: str, before: float, total: float) -> None:
    scorer = HotwordScorer([Hotword("AB"), Hotword("AB CC")], BY_LETTER, 1.0)
    assert gained(scorer, letters(text)) == (pytest.approx(before), pytest.approx(total))


def test_a_phrase_is_written_as_the_labels_are() -> None:
    scorer = HotwordScorer([Hotword("  a’b \t c")], BY_LETTER, 1.0)
    assert gained(scorer, letters("A'B C"))[1] == 4.0
    lower = Spelling(["_", "|", "é", "a"], 0, "|")
    assert gained(HotwordScorer([Hotword("E\u0301A")], lower, 1.0), [2, 3])[1] == 2.0
    both = Spelling(["_", "|", "A", "a"], 0, "|")
    assert gained(HotwordScorer([Hotword("Aa")], both, 1.0), [2, 3])[1] == 2.0
    assert gained(HotwordScorer([Hotword("Aa")], both, 1.0), [3, 3])[1] == 0.0


def test_special_symbols_neither_match_nor_break() -> None:
    scorer = HotwordScorer([Hotword("AB")], BY_LETTER, 1.0)
    assert gained(scorer, [3, 1, 4])[1] == 2.0


def test_labels_without_words_match_anywhere() -> None:
    spelling = Spelling(["_", "日", "本", "語"], 0, "▁")
    assert gained(HotwordScorer([Hotword("日本")], spelling, 1.0), [3, 1, 2, 3]) == (2.0, 2.0)
    with pytest.raises(DecodingError, match="日 本"):
        HotwordScorer([Hotword("日 本")], spelling, 1.0)


@pytest.mark.parametrize(
    ("spelling", "phrase", "bad"),
    [(BY_LETTER, "AB 2B", "2B"), (BY_LETTER, "A|B", "A|B"), (BY_PIECE, "AB D", "D"), (BY_PIECE, "ÄB", "ÄB")],
)
def test_a_phrase_that_cannot_be_spelled_is_named(spelling: Spelling, phrase: str, bad: str) -> None:
    with pytest.raises(DecodingError, match=re.escape(f"received {phrase!r}: not {bad!r}")) as caught:
        HotwordScorer([Hotword("AB"), Hotword(phrase)], spelling, 1.0)
    assert caught.value.hint is not None


# ---- in a search


def ambiguous(*chances: dict[int, float], num_symbols: int = len(LETTERS)) -> np.ndarray:
    """Frames [T, V] with these probabilities, a blank between each two; the rest is spread over all."""
    frames = [{0: 0.99}]
    for frame in chances:
        frames += [frame, {0: 0.99}]
    probabilities = np.full((len(frames), num_symbols), 1e-5)
    for at, frame in enumerate(frames):
        for symbol, probability in frame.items():
            probabilities[at, symbol] = probability
    return np.log(probabilities / probabilities.sum(axis=1, keepdims=True))


def heard(log_probs: np.ndarray, hotwords: list[Hotword], weight: float = 1.0) -> str:
    search = PrefixBeam(0, scorer=HotwordScorer(hotwords, BY_LETTER, weight))
    search.advance(log_probs)
    return " ".join(w.text for w in words(search.best()[0].tokens, LETTERS, delimiter="|", frame_s=0.02))


def test_a_hotword_turns_what_is_ambiguous() -> None:
    # "A" or "C", then "B", with odds of 4 to 1 for "CB"
    log_probs = ambiguous({3: 0.2, 5: 0.8}, {4: 0.99})
    assert heard(log_probs, []) == "CB"
    assert heard(log_probs, [Hotword("AB")]) == "AB"
    assert heard(log_probs, [Hotword("AB", 0.5)]) == "CB"
    assert heard(log_probs, [Hotword("AB")], weight=0.5) == "CB"
    # what is not complete, or only part of a word, is refunded
    assert heard(log_probs, [Hotword("ABB", 9.0)]) == "CB"
    assert heard(log_probs, [Hotword("A", 9.0)]) == "CB"
    assert heard(log_probs, [Hotword("AB CC", 9.0)]) == "CB"
    assert heard(ambiguous({3: 0.2, 5: 0.8}, {4: 0.99}, {2: 0.99}, {4: 0.99}), [Hotword("AB")]) == "AB B"


def test_a_phrase_turns_its_first_word() -> None:
    log_probs = ambiguous({3: 0.1, 5: 0.9}, {2: 0.99}, {4: 0.99}, {4: 0.99})
    assert heard(log_probs, []) == "C BB"
    assert heard(log_probs, [Hotword("A BB")]) == "A BB"


# ---- files


def test_a_file_of_hotwords(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeff# names\r\n\r\nanna  smith\r\n  zoë :2.5\r\nC# :0.5\na :b :1\n#x :1\n".encode())
    assert read_hotwords(path) == (
        Hotword("anna smith"),
        Hotword("zoë", 2.5),
        Hotword("C#", 0.5),
        Hotword("a :b", 1.0),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is none in"),
        (b"# nothing\n\n", "there is none in"),
        (b"anna\nzoe :much\n", "line 2 of"),
        (b"anna :-1\n", "line 1 of"),
        (b"anna :0\n", "line 1 of"),
        (b"anna :nan\n", "line 1 of"),
        (b"anna :inf\n", "line 1 of"),
        (b"anna :\n", "line 1 of"),
        (b":2\n", None),
        (b"x" * 201, "line 1 of"),
        (b"anna\n" + b"x" * 10_000_000, "lines of at most"),
        (b"anna\0\n", "line 1 of .* is binary"),
        (b"\xff\xfeanna", "UTF-8, line 1 of"),
        (b"zo\xeb\n", "UTF-8, line 1 of"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, message: str | None) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    if message is None:
        assert read_hotwords(path) == (Hotword(":2"),)
        return
    with pytest.raises(DecodingError, match=message) as caught:
        read_hotwords(path)
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 400


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(DecodingError, match="no such file"):
            read_hotwords(path)
