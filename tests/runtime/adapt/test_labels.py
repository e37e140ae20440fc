"""Texts become labels as they did in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError, DataError
from edgekit.runtime.adapt.labels import Labels, read_labels

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("IT IS SO", "IT IS SO"),
        ("It's so  quiet", "IT'S SO QUIET"),
        ("It’s so, so quiet!", "IT'S SO SO QUIET"),
        ("well-known", "WELL KNOWN"),
        ("“Yes” – he said...", "YES HE SAID"),
        (" a ", "A"),
    ],
)
def test_letters(text: str, spelled: str) -> None:
    tokens = pytest.importorskip("edgekit.train.tokens")
    found, ids = Labels(LETTERS, 0, "|").encode(text)
    assert found == spelled
    assert (list(ids), 0) == tokens.encode(spelled, LETTERS)


@pytest.mark.parametrize(
    "text", ["ROOM 12", "CAFÉ", "Tom & Jerry", "50 %", "€", "日本", "A\u0301", "", " ", "...", "!?"]
)
def test_what_cannot_be_spelled(text: str) -> None:
    with pytest.raises(DataError, match="expected"):
        Labels(LETTERS, 0, "|").encode(text)


def test_the_case_and_signs_of_the_labels() -> None:
    lower = Labels(("<pad>", " ", *"abc.'"), 0, " ")
    assert lower.encode("AB c. a") == ("ab c. a", (2, 3, 1, 4, 5, 1, 2))
    no_apostrophe = Labels(("<pad>", "|", *"ABC"), 0, "|")
    assert no_apostrophe.encode("a'b") == ("AB", (2, 3))
    no_words = Labels(("<pad>", *"ABC"), 0, "|")
    assert no_words.encode("ab c") == ("AB C", (1, 2, 3))


def test_word_pieces_as_sentencepiece_spells_them() -> None:
    """The labels alone are enough, whatever is spelled."""
    pytest.importorskip("sentencepiece", reason="is the reference")
    word_pieces = pytest.importorskip("edgekit.train.word_pieces")
    rng = np.random.default_rng(0)
    syllables = ["TH", "E", "ING", "AN", "D", "ER", "O", "N", "RE", "'S", "ST", "A", "LY", "B", "OU", "T"]
    texts = [" ".join("".join(rng.choice(syllables, rng.integers(1, 5))) for _ in range(12)) for _ in range(400)]
    pieces = word_pieces.learn(texts[:300], 120)
    labels = Labels(pieces.tokens, 0, "▁")
    for text in texts:
        found, ids = labels.encode(text)
        assert found == text
        assert (list(ids), 0) == pieces.encode(text)
    with pytest.raises(DataError, match="'Z'"):
        labels.encode("THEZ")


def test_answers_are_texts() -> None:
    labels = Labels(("<pad>", "|", *"AB"), 0, "|")
    best = [0, 2, 2, 0, 2, 3, 1, 1, 3, 0]
    assert labels.answer(np.log(np.eye(4)[best] * 0.9 + 0.025)) == "AAB B"


def test_a_bundle(opened: Bundle) -> None:
    labels = read_labels(opened)
    assert labels.encode("ab c") == ("AB C", (2, 3, 1, 4))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"kind": "embedding"}, "of kind 'ctc'"),
        ({"kind": "ctc", "blank": 6, "delimiter": "|"}, "expected a blank among 6 labels"),
        ({"kind": "ctc", "blank": 0}, "and a delimiter"),
    ],
)
def test_a_bundle_that_does_not_fit(toy_with: Callable[..., Bundle], output: dict[str, object], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_labels(toy_with(output=output))
