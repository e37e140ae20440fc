"""Error rates against examples worked out by hand, a Levenshtein of our own, and bootstraps drawn in other ways."""

from __future__ import annotations

import itertools
import json
import math
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.errors import UnavailableError, UsageError
from edgekit.runtime.word_errors import Answer, WordErrors, aligned, count_word_errors, normalise

pytestmark = pytest.mark.device_side
pytest.importorskip("jiwer", reason="counts the errors: pip install jiwer")

WORDS = st.lists(st.sampled_from(["A", "B", "CD", "É", "中"]), max_size=7)


def count(*pairs: tuple[str, str], speakers: str = "", **options: object) -> WordErrors:
    """Errors of (reference, hypothesis) pairs; `speakers` has a letter for each, "-" for one without a name."""
    names = [None if name == "-" else name for name in speakers] or [None] * len(pairs)
    answers = [Answer(f"{index:05}", *pair, speaker=name) for index, (pair, name) in enumerate(zip(pairs, names))]
    return count_word_errors(answers, **options)  # type: ignore[arg-type]


def distance(left: list[str] | str, right: list[str] | str) -> int:
    """Levenshtein's distance, as its recurrence is written."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row = row, [i]
        for j, b in enumerate(right, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b)))
    return row[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("“It’s 5 o'clock,” he said.", "IT'S 5 O'CLOCK HE SAID"),
        ("  Mixed\tspace \n here ", "MIXED SPACE HERE"),
        ("well-known / unknown", "WELL KNOWN UNKNOWN"),
        ("dogs' days, 'tis said", "DOGS' DAYS 'TIS SAID"),
        ("isn`t isn´t isnʼt isn‘t isn＇t isn′t", "ISN'T ISN'T ISN'T ISN'T ISN'T ISN'T"),
        ("a ' b '' c", "A B C"),
        ("Straße, cafe\u0301 naïve", "STRASSE CAFÉ NAÏVE"),
        ("नमस्ते दुनिया!", "नमस्ते दुनिया"),
        ("你好,世界", "你好 世界"),
        ("love \u2764\ufe0f it", "LOVE IT"),
        ("\ufeffstart", "START"),
        ("…!?", ""),
        ("", ""),
    ],
)
def test_words_are_compared_without_case_and_punctuation(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text())
def test_what_is_normal_stays_so(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert normalise(unicodedata.normalize("NFD", text)) == once
    assert once == " ".join(once.split())
    assert all(c in " '" or unicodedata.category(c)[0] in "LMN" for c in once)


def test_an_example_counted_by_hand() -> None:
    found = count(("the cat sat", "The cat sat."), ("A B C D", "A X C"), ("HELLO", "HELLO THERE"))
    assert (found.substitutions, found.deletions, found.insertions, found.num_words) == (1, 1, 1, 8)
    assert found.wer == 3 / 8
    # B to X, the last space and D; a space and THERE
    assert (found.cer, found.num_characters) == ((3 + 6) / 23, 11 + 7 + 5)
    assert (found.num_utterances, found.num_speakers, found.speakers) == (3, 0, ())
    assert [(bad.id, bad.num_errors) for bad in found.worst] == [("00001", 2), ("00002", 1)]
    assert (found.worst[0].reference, found.worst[0].hypothesis) == ("A B C D", "A X C")


def test_words_as_they_stand() -> None:
    pair = ("The  cat,\tsat", "the cat sat")
    assert count(pair).wer == 0
    found = count(pair, normalised=False)
    assert (found.substitutions, found.num_words, found.normalised) == (2, 3, False)
    assert found.cer == 2 / 12


@settings(deadline=None)  # 2,000 draws take as long as a busy machine lets them
@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4).filter(lambda pairs: any(r for r, _ in pairs)))
def test_counts_are_those_of_levenshtein(pairs: list[tuple[list[str], list[str]]]) -> None:
    texts = [(" ".join(reference), " ".join(hypothesis)) for reference, hypothesis in pairs]
    found = count(*texts)
    num_errors = found.substitutions + found.deletions + found.insertions
    assert num_errors == sum(distance(*pair) for pair in pairs)
    assert found.num_words == sum(len(reference) for reference, _ in pairs)
    assert found.wer == num_errors / found.num_words
    assert found.num_words - found.deletions + found.insertions == sum(len(hypothesis) for _, hypothesis in pairs)
    characters = sum(len(reference) for reference, _ in texts)
    assert found.cer == pytest.approx(sum(distance(*pair) for pair in texts) / characters)


def test_an_empty_answer_misses_every_word() -> None:
    found = count(("A B C", ""))
    assert (found.deletions, found.wer, found.cer) == (3, 1.0, 1.0)


def test_words_where_nobody_spoke_are_insertions() -> None:
    found = count(("A B", "A B"), ("", "C D E"), ("...", ""))
    assert (found.insertions, found.num_words, found.wer) == (3, 2, 1.5)


@pytest.mark.parametrize("pairs", [(), (("", ""),), (("", "A"), ("?!", "B"))])
def test_without_a_word_in_the_references_there_is_no_rate(pairs: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(UsageError, match=f"at least one word, {len(pairs)} references hold none"):
        count(*pairs)


def test_the_interval_of_independent_words_is_that_of_their_binomial() -> None:
    random = np.random.default_rng(1)
    wrong = random.random((400, 10)) < 0.2
    found = count(*((" ".join("A" * 10), " ".join("B" if w else "A" for w in row)) for row in wrong))
    assert found.interval is not None
    half = 1.96 * math.sqrt(found.wer * (1 - found.wer) / wrong.size)
    assert found.interval == pytest.approx((found.wer - half, found.wer + half), abs=0.2 * half)
    assert (found.resampled, found.num_resamples) == ("utterances", 2000)


def test_the_interval_over_speakers_is_that_of_all_ways_to_draw_them() -> None:
    errors, words = (0, 1, 2, 5, 9), (10, 12, 10, 15, 10)
    pairs = [(" ".join("A" * n), " ".join("B" * e + "A" * (n - e))) for e, n in zip(errors, words)]
    found = count(*pairs, speakers="EDCBA")
    ways = np.array(list(itertools.product(range(5), repeat=5)))
    rates = np.array(errors)[ways].sum(1) / np.array(words)[ways].sum(1)
    assert found.interval == pytest.approx(np.percentile(rates, [2.5, 97.5]), abs=0.02)
    assert (found.resampled, found.num_speakers) == ("speakers", 5)


def test_recordings_of_one_speaker_are_no_independent_evidence() -> None:
    """Half of the speakers are never understood: 25 recordings of each tell no more of the others than one."""
    pairs = [("A B", "A B" if speaker in "abc" else "C D") for speaker in "abcdef" for _ in range(25)]
    over_speakers = count(*pairs, speakers="".join(s for s in "abcdef" for _ in range(25)))
    over_utterances = count(*pairs)
    assert over_speakers.interval is not None
    assert over_utterances.interval is not None
    wide, narrow = (np.diff(one.interval)[0] for one in (over_speakers, over_utterances))  # type: ignore[arg-type]
    assert 3 < wide / narrow < 7  # sqrt(25), in steps of a sixth
    assert over_speakers.wer == over_utterances.wer == 0.5


@pytest.mark.parametrize(
    ("speakers", "resampled", "num_speakers"),
    [("ABCDE", "speakers", 5), ("ABCDD", "utterances", 4), ("ABCDEF-", "utterances", 6), ("--", "utterances", 0)],
)
def test_what_is_drawn_depends_on_the_speakers(speakers: str, resampled: str, num_speakers: int) -> None:
    found = count(*[("A B", "A")] * len(speakers), speakers=speakers)
    assert (found.resampled, found.num_speakers) == (resampled, num_speakers)


def test_where_words_are_letters_both_intervals_are_the_same() -> None:
    found = count(*[("A", "A"), ("A", "B"), ("C", "C"), ("D", "X"), ("E", "E"), ("F", "F")], speakers="abcdef")
    assert found.interval == found.cer_interval is not None
    spaced = count(*[("A B", "A B"), ("A B", "A X"), ("C D", "C D")])
    assert spaced.interval is not None
    assert spaced.cer_interval == pytest.approx([2 / 3 * end for end in spaced.interval])  # the space is never wrong


def test_an_interval_is_the_same_again_and_for_any_order() -> None:
    random = np.random.default_rng(2)
    answers = [Answer(f"{i:03}", "A B C", "A B C"[: random.integers(6)], f"speaker {i % 9}") for i in range(60)]
    first = count_word_errors(answers)
    assert count_word_errors(answers) == first
    assert count_word_errors([answers[i] for i in random.permutation(60)]) == first
    other = count_word_errors(answers, seed=1)
    assert other.interval != first.interval
    assert other.interval == pytest.approx(first.interval, abs=0.03)
    assert first.interval is not None
    assert 0 < first.interval[0] < first.wer < first.interval[1] < 1


def test_the_ends_of_intervals() -> None:
    assert count(("A", "B")).interval is None
    assert count(("A", "A"), ("B", "B")).interval == (0, 0)
    # a draw of silence alone has no rate and is left out
    assert count(("A B", "A"), ("", "")).interval == (0.5, 0.5)


def test_the_share_of_each_speaker() -> None:
    found = count(("A B", "A"), ("A", "A"), ("C D", "D C"), ("", "X"), speakers="qpqr")
    assert [(s.speaker, s.num_utterances, s.num_words, s.num_errors, s.wer) for s in found.speakers] == [
        ("p", 1, 1, 0, 0.0),
        ("q", 2, 4, 3, 0.75),
        ("r", 1, 0, 1, None),
    ]
    # the last space and B of "A B"; C and D
    assert [(s.speaker, s.num_characters, s.num_character_errors, s.cer) for s in found.speakers] == [
        ("p", 1, 0, 0.0),
        ("q", 6, 4, 4 / 6),
        ("r", 0, 1, None),
    ]


def test_the_worst_come_first() -> None:
    found = count(("A B C D", "X Y C D"), ("A", "A"), ("A B", "X Y"), ("A B C", ""), num_worst=3)
    assert [(bad.id, bad.num_errors) for bad in found.worst] == [("00003", 3), ("00002", 2), ("00000", 2)]
    assert count(("A", "B"), num_worst=0).worst == ()


def test_as_plain_data() -> None:
    found = count(("A B", "A"), ("C", "C D"), speakers="xy").to_json()
    again = json.loads(json.dumps(found))
    assert again["wer"] == 2 / 3
    assert again["interval"] == list(found["interval"])
    assert again["speakers"][0]["speaker"] == "x"
    assert again["worst"][0] == {"id": "00001", "num_errors": 1, "reference": "C", "hypothesis": "C D"}


def test_aligned() -> None:
    assert aligned("THE CAT SAT", "A CAT SAT DOWN") == (
        "REF: THE CAT SAT ****\nHYP:   A CAT SAT DOWN\n       S            I"
    )
    assert aligned("", "A") == "REF: *\nHYP: A\n     I"
    assert aligned("A", "") == "REF: A\nHYP: *\n     D"
    long = " ".join(["WORD"] * 50)
    assert max(len(line) for line in aligned(long, long + " X", width=60).splitlines()) <= 60


def test_without_jiwer_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(UnavailableError, match="expected the package jiwer to count word errors") as raised:
        count(("A", "A"))
    assert raised.value.hint == 'pip install "edgekit[benchmark]"'
