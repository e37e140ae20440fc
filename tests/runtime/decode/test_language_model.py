"""Words scored as they are completed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import DecodingError
from edgekit.runtime.decode.beam import PrefixBeam
from edgekit.runtime.decode.ctc import words
from edgekit.runtime.decode.language_model import LanguageModelScorer
from edgekit.runtime.decode.ngram import NgramModel, read_arpa
from edgekit.runtime.decode.spelling import Spelling

pytestmark = pytest.mark.device_side

LETTERS = ["<pad>", "|", "A", "B", "C"]
PIECES = ["<blk>", "▁", "▁A", "B", "▁C"]
ARPA = """\\data\\
ngram 1=5
ngram 2=3
\\1-grams:
-1.5 <unk>
-99 <s> -0.3
-1.0 </s>
-0.9 AB -0.2
-1.1 C -0.1
\\2-grams:
-0.4 <s> AB
-0.2 AB C
-0.5 C </s>
\\end\\
"""


@pytest.fixture
def model(tmp_path: Path) -> NgramModel:
    (tmp_path / "lm.arpa").write_text(ARPA)
    return read_arpa(tmp_path / "lm.arpa")


def gains(scorer: LanguageModelScorer, symbols: list[int]) -> list[float]:
    """What each symbol adds, and the end."""
    state, found = scorer.start, []
    for symbol in symbols:
        state, gain = scorer.extend(state, symbol)
        found.append(gain)
    return [*found, scorer.end(state)]


def weighed(log10: float, num_words: int = 1, *, weight: float = 0.8, bonus: float = 0.3) -> float:
    return weight * math.log(10) * log10 + bonus * num_words


def test_a_word_counts_when_it_is_complete(model: NgramModel) -> None:
    scorer = LanguageModelScorer(model, Spelling(LETTERS, 0, "|"), lm_weight=0.8, word_bonus=0.3)
    # A B | | C and the end: C, then </s>
    assert gains(scorer, [2, 3, 1, 1, 4]) == pytest.approx([0, 0, weighed(-0.4), 0, 0, weighed(-0.2 - 0.5)], abs=1e-5)
    assert gains(scorer, [1, 2, 3, 1]) == pytest.approx([0, 0, 0, weighed(-0.4), weighed(-0.2 - 1.0, 0)], abs=1e-5)
    assert gains(scorer, []) == pytest.approx([weighed(-0.3 - 1.0, 0)], abs=1e-5)


def test_word_pieces(model: NgramModel) -> None:
    scorer = LanguageModelScorer(model, Spelling(PIECES, 0, "▁"), lm_weight=0.8, word_bonus=0.3)
    # ▁A B ▁C, and ▁ alone
    assert gains(scorer, [2, 3, 4]) == pytest.approx([0, 0, weighed(-0.4), weighed(-0.2 - 0.5)], abs=1e-5)
    assert gains(scorer, [1, 2, 3, 1])[3] == pytest.approx(weighed(-0.4), abs=1e-5)


def test_a_word_that_the_model_lacks(model: NgramModel) -> None:
    scorer = LanguageModelScorer(
        model, Spelling(LETTERS, 0, "|"), lm_weight=0.8, word_bonus=0.3, unknown=-7.0, expected=["BB"]
    )
    unknown = weighed(-0.3 - 1.5)
    assert gains(scorer, [3, 1])[1] == pytest.approx(unknown - 7.0, abs=1e-5)
    assert gains(scorer, [3, 3, 1])[2] == pytest.approx(unknown, abs=1e-5)
    # A and AB begin a word, ABC does not; A is none
    assert gains(scorer, [2, 3, 4, 2, 1])[:3] == [0, 0, -7.0]
    assert gains(scorer, [2, 3, 4, 2, 1])[3:5] == pytest.approx([0, unknown], abs=1e-5)
    assert gains(scorer, [2, 1])[1] == pytest.approx(unknown - 7.0, abs=1e-5)
    # with pieces too, where the next word begins at once with what begins no word
    by_piece = LanguageModelScorer(model, Spelling(["_", "▁", "▁C", "▁B"], 0, "▁"), lm_weight=0.8, word_bonus=0.3)
    assert gains(by_piece, [2, 3])[1] == pytest.approx(weighed(-0.3 - 1.1) - 10.0, abs=1e-5)


@pytest.mark.parametrize("word", ["ab", "AB", "Ab"])
def test_a_model_in_another_case(tmp_path: Path, word: str) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA.replace("AB", word))
    for labels in (LETTERS, ["<pad>", "|", "a", "b", "c"]):
        scorer = LanguageModelScorer(read_arpa(tmp_path / "lm.arpa"), Spelling(labels, 0, "|"), unknown=-7.0)
        assert gains(scorer, [2, 3, 1])[2] == pytest.approx(weighed(-0.4, weight=0.5, bonus=1.5), abs=1e-5)


def test_words_run_together_do_not_win_for_paying_once(model: NgramModel) -> None:
    # B, then four times AB; B is no word, and each delimiter is sure only as 20 to 1
    frames = [{3: 1.0}]
    for _ in range(4):
        frames += [{1: 20 / 21, 0: 1 / 21}, {2: 1.0}, {3: 1.0}]
    probabilities = np.full((len(frames), 5), 1e-6)
    for at, frame in enumerate(frames):
        for symbol, probability in frame.items():
            probabilities[at, symbol] = probability
    search = PrefixBeam(0, beam=4, scorer=LanguageModelScorer(model, Spelling(LETTERS, 0, "|")))
    search.advance(np.log(probabilities / probabilities.sum(axis=1, keepdims=True)))
    found = words(search.best()[0].tokens, LETTERS, delimiter="|", frame_s=0.02)
    assert [word.text for word in found] == ["B", "AB", "AB", "AB", "AB"]


def test_labels_without_words(model: NgramModel) -> None:
    with pytest.raises(DecodingError, match="delimiter of words"):
        LanguageModelScorer(model, Spelling(["_", "A"], 0, "▁"))


def test_a_model_turns_what_is_ambiguous(model: NgramModel) -> None:
    # A, then B or C with odds of 3 to 7: AB is a word, AC is none
    probabilities = np.full((3, 5), 1e-6)
    probabilities[0, 2] = probabilities[1, 0] = 1.0
    probabilities[2, 3], probabilities[2, 4] = 0.3, 0.7
    log_probs = np.log(probabilities / probabilities.sum(axis=1, keepdims=True))
    heard = {}
    for weight, bonus, unknown in ((0.0, 0.0, 0.0), (0.5, 1.5, -10.0)):
        scorer = LanguageModelScorer(
            model, Spelling(LETTERS, 0, "|"), lm_weight=weight, word_bonus=bonus, unknown=unknown
        )
        search = PrefixBeam(0, scorer=scorer)
        search.advance(log_probs)
        heard[weight] = words(search.best()[0].tokens, LETTERS, delimiter="|", frame_s=0.02)[0].text
    assert heard == {0.0: "AC", 0.5: "AB"}
