"""From what a person asks for to a search."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import DecodingError, UsageError
from edgekit.runtime.decode.beam import BEAM
from edgekit.runtime.decode.ctc import words
from edgekit.runtime.decode.decoding import HOTWORDS_WEIGHT, Decoder, Decoding, read_decoding
from edgekit.runtime.decode.hotwords import Hotword
from edgekit.runtime.decode.language_model import LM_WEIGHT
from edgekit.runtime.decode.ngram import read_arpa

pytestmark = pytest.mark.device_side

LABELS = ["<pad>", "|", "A", "B", "C"]
ARPA = "\\data\\\nngram 1=4\n\\1-grams:\n-2 <unk>\n-99 <s>\n-1 </s>\n-0.5 ab\n\\end\\\n"


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    (tmp_path / "lm.arpa").write_text(ARPA)
    return tmp_path / "lm.arpa"


@pytest.fixture
def hotwords(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("cb\nab c :2\n")
    return tmp_path / "words.txt"


def test_nothing_asked_for_is_greedy() -> None:
    assert read_decoding() is None


def test_what_is_asked_for(arpa: Path, hotwords: Path) -> None:
    assert read_decoding(beam=3) == Decoding(3)
    found = read_decoding(hotwords=hotwords)
    assert found == Decoding(BEAM, hotwords=(Hotword("cb"), Hotword("ab c", 2.0)), hotwords_weight=HOTWORDS_WEIGHT)
    found = read_decoding(beam=2, hotwords=hotwords, hotwords_weight=0.5, lm=arpa, lm_weight=0.2, word_bonus=-0.5)
    assert found is not None
    assert (found.beam, found.hotwords_weight, found.lm_weight, found.word_bonus) == (2, 0.5, 0.2, -0.5)
    assert found.lm is not None
    assert found.lm.order == 1
    assert (Decoding().lm_weight, Decoding().beam) == (LM_WEIGHT, BEAM)


@pytest.mark.parametrize("weight", ["hotwords_weight", "lm_weight", "word_bonus"])
def test_a_weight_of_nothing(weight: str) -> None:
    with pytest.raises(UsageError, match=r"(weight|word bonus) 2"):
        read_decoding(**{"beam": 4, weight: 2.0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("beam", 0),
        ("hotwords_weight", 0.0),
        ("hotwords_weight", math.nan),
        ("lm_weight", -0.1),
        ("lm_weight", math.inf),
        ("word_bonus", math.nan),
    ],
)
def test_values_out_of_range(field: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"received {value}"):
        Decoding(**{field: value})  # type: ignore[arg-type]


def test_a_wrong_weight_is_said_before_a_large_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        read_decoding(lm=tmp_path / "none.arpa", lm_weight=-1.0)
    with pytest.raises(DecodingError, match="no such file"):
        read_decoding(lm=tmp_path / "none.arpa")


def heard(**asked: Any) -> str:
    # B or C, then B; A is as likely as 1 in 20
    probabilities = np.full((3, 5), 1e-6)
    probabilities[0, 2:] = 0.05, 0.35, 0.6
    probabilities[1, 0] = probabilities[2, 3] = 1.0
    search = Decoder(Decoding(**asked), LABELS, 0, "|").start()
    search.advance(np.log(probabilities / probabilities.sum(axis=1, keepdims=True)))
    return " ".join(w.text for w in words(search.best()[0].tokens, LABELS, delimiter="|", frame_s=0.02))


def test_hotwords_and_a_model_together(arpa: Path) -> None:
    lm = read_arpa(arpa)
    assert heard() == "CB"
    assert heard(lm=lm) == "AB"
    assert heard(hotwords=(Hotword("BB"),)) == "BB"
    # a hotword is no unknown word, so that it need not outweigh that
    assert heard(lm=lm, hotwords=(Hotword("BB"),)) == "BB"


def test_hotwords_that_do_not_fit_the_labels() -> None:
    with pytest.raises(DecodingError, match="'DOG'"):
        Decoder(Decoding(hotwords=(Hotword("dog"),)), LABELS, 0, "|")


def test_searches_of_one_decoder_know_nothing_of_each_other() -> None:
    decoder = Decoder(Decoding(hotwords=(Hotword("AB"),)), LABELS, 0, "|")
    first, second = decoder.start(), decoder.start()
    first.advance(np.log(np.full((3, 5), 0.2)))
    assert second.best()[0].tokens == ()
