"""Words to SubRip: what every player reads, cut where the usual limits say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.runtime.decode.ctc import Word
from edgekit.runtime.subtitles import MAX_CHARACTERS, MAX_DURATION_S, MAX_PAUSE_S, to_srt

pytestmark = pytest.mark.device_side

BLOCK = re.compile(r"(\d+)\n(\d\d):(\d\d):(\d\d),(\d\d\d) --> (\d\d):(\d\d):(\d\d),(\d\d\d)\n(.+)\n")


def word(text: str, start_s: float, end_s: float) -> Word:
    return Word(text, start_s, end_s, 1.0)


def even(*texts: str) -> list[Word]:
    """Words of 0.1 s without pauses."""
    return [word(text, 0.1 * index, 0.1 * index + 0.1) for index, text in enumerate(texts)]


def lines(words: list[Word]) -> list[str]:
    """The text of each subtitle."""
    return [block.splitlines()[2] for block in to_srt(words).split("\n\n") if block]


def milliseconds(hours: str, minutes: str, seconds: str, rest: str) -> int:
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(rest)


def test_two_subtitles_as_players_expect_them() -> None:
    words = [word("HELLO", 0.5, 0.92), word("THERE", 1, 1.4), word("AGAIN", 3661.5, 3662.0625)]
    assert to_srt(words) == (
        "1\n00:00:00,500 --> 00:00:01,400\nHELLO THERE\n\n2\n01:01:01,500 --> 01:01:02,062\nAGAIN\n"
    )


def test_no_words_are_no_subtitles() -> None:
    assert to_srt([]) == ""


def test_words_may_come_one_by_one() -> None:
    words = even("A", "B")
    assert to_srt(iter(words)) == to_srt(words)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "00:00:00,000"),
        (0.9996, "00:00:01,000"),
        (59.9999, "00:01:00,000"),
        (3599.9999, "01:00:00,000"),
        (0.0004, "00:00:00,000"),
        (360000.25, "100:00:00,250"),
    ],
)
def test_times_carry_over(seconds: float, text: str) -> None:
    assert to_srt([word("A", 0, seconds)]).splitlines()[1] == f"00:00:00,000 --> {text}"


def test_a_line_is_full_at_42_characters() -> None:
    full = "x" * (MAX_CHARACTERS - 5)
    assert lines(even("abcd", full)) == [f"abcd {full}"]
    assert lines(even("abcde", full)) == ["abcde", full]
    assert lines(even("ab", "c", full, "d")) == [f"ab c {full}", "d"]


def test_a_word_that_is_longer_than_a_line_stands_alone() -> None:
    long = "x" * 60
    assert lines(even("a", long, "b")) == ["a", long, "b"]


def test_a_subtitle_lasts_six_seconds_at_most() -> None:
    first, at_last, after = word("A", 1, 3), word("B", 3, 1 + MAX_DURATION_S), word("C", 3, 1.1 + MAX_DURATION_S)
    assert lines([first, at_last]) == ["A B"]
    assert lines([first, after]) == ["A", "C"]


def test_a_pause_begins_a_new_subtitle() -> None:
    first = word("A", 0, 1)
    assert lines([first, word("B", 1 + MAX_PAUSE_S, 2)]) == ["A B"]
    assert lines([first, word("B", 1.01 + MAX_PAUSE_S, 2)]) == ["A", "B"]


@given(
    st.lists(
        st.tuples(st.text("ABC'é▁字", min_size=1, max_size=30), st.integers(0, 20_000), st.integers(200, 10_000)),
        max_size=40,
    )
)
def test_every_word_stands_once_in_order_within_the_limits(spoken: list[tuple[str, int, int]]) -> None:
    words, now = [], 0.0
    for text, pause, length in spoken:  # in tenths of milliseconds, so that times have to be rounded
        words.append(word(text, now + pause / 1e4, now + (pause + length) / 1e4))
        now = words[-1].end_s
    srt = to_srt(words)
    blocks = BLOCK.findall(srt)
    assert "\n".join(match[0] for match in BLOCK.finditer(srt)) == srt
    assert [int(block[0]) for block in blocks] == list(range(1, len(blocks) + 1))
    assert " ".join(block[-1] for block in blocks).split() == [word.text for word in words]
    before_ms = 0
    for block in blocks:
        start_ms, end_ms = milliseconds(*block[1:5]), milliseconds(*block[5:9])
        assert before_ms <= start_ms <= end_ms
        if " " in block[-1]:
            assert len(block[-1]) <= MAX_CHARACTERS
            assert end_ms - start_ms <= MAX_DURATION_S * 1000 + 1
        before_ms = end_ms
