"""A bundle's labels for learning: texts as their indices, and answers as texts. No package but NumPy."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError, DataError
from edgekit.runtime.decode.ctc import SPECIAL, WORD_PREFIX, greedy, words
from edgekit.runtime.decode.spelling import Spelling

# signs that are said, though Unicode holds them for punctuation
_SAID = frozenset("&%@#")


class Labels:
    """The labels of a CTC head.

    Args:
        labels: the text of each symbol.
        blank: the blank's index.
        delimiter: as in `decode.ctc.words`.
    """

    def __init__(self, labels: Sequence[str], blank: int, delimiter: str) -> None:
        self.labels, self.blank, self.delimiter = tuple(labels), blank, delimiter
        self._spelling = Spelling(labels, blank, delimiter)
        self._index = {
            label: index for index, label in enumerate(labels) if label not in SPECIAL and index != blank and label
        }
        self._letters = {letter for _, text in self._spelling.pieces for letter in text}

    def encode(self, text: str) -> tuple[str, tuple[int, ...]]:
        """A text as these labels write it, and as their indices, without blanks.

        Case and apostrophes become the labels' own; punctuation that they lack becomes a space between words. Words are
        spelled letter by letter, or by byte-pair merges where labels are word pieces: a piece that comes earlier among
        the labels was learned, and is put together, earlier. That is how sentencepiece spells with the same pieces.

        Raises:
            DataError: a letter, digit or sign that is said and that no label has, or no word at all.
        """
        spoken = "".join(self._heard(letter) for letter in self._spelling.fold(text)).split()
        if not spoken:
            raise DataError("expected a text of one word or more, received none")
        separator = self._index.get(self.delimiter) if self.delimiter != WORD_PREFIX else None
        ids: list[int] = []
        for word in spoken:
            pieces = self._merged(WORD_PREFIX + word) if self.delimiter == WORD_PREFIX else list(word)
            unknown = next((piece for piece in pieces if piece not in self._index), None)
            if unknown is not None:
                raise DataError(f"expected words that the labels can spell, received {word!r}: they lack {unknown!r}")
            if ids and separator is not None:
                ids.append(separator)
            ids += [self._index[piece] for piece in pieces]
        return " ".join(spoken), tuple(ids)

    def answer(self, log_probs_TV: np.ndarray) -> str:
        """What frames say, decoded greedily."""
        found = words(greedy(log_probs_TV, self.blank), self.labels, delimiter=self.delimiter, frame_s=1.0)
        return " ".join(word.text for word in found)

    def _heard(self, letter: str) -> str:
        if letter in self._letters:
            return letter
        kind = unicodedata.category(letter)
        if kind[0] in "LMN" or kind in ("Sc", "Sm", "So") or letter in _SAID:
            raise DataError(f"expected letters that the labels have, received {letter!r}")
        return "" if letter == "'" else " "

    def _merged(self, word: str) -> list[str]:
        pieces = list(word)
        while len(pieces) > 1:
            pairs = [left + right for left, right in pairwise(pieces)]
            place = min(range(len(pairs)), key=lambda at: self._index.get(pairs[at], len(self.labels)))
            if pairs[place] not in self._index:
                break
            pieces[place : place + 2] = [pairs[place]]
        return pieces


def read_labels(bundle: Bundle) -> Labels:
    """The labels of a speech recogniser's bundle.

    Raises:
        BundleError: it is for another task, or its labels cannot be read.
    """
    output = bundle.manifest.output
    if output.get("kind") != "ctc":
        raise BundleError(
            f"expected an output of kind 'ctc' to adapt, {bundle.path} has {output.get('kind')!r}",
            hint="a disconformer adapts: edgekit export disconformer",
        )
    asset = bundle.asset("tokens")
    try:
        labels = asset.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"expected labels in UTF-8, one a line, received {asset}: {error}") from error
    blank, delimiter = output.get("blank"), output.get("delimiter")
    if type(blank) is not int or not 0 <= blank < len(labels) or not isinstance(delimiter, str):
        raise BundleError(
            f"expected a blank among {len(labels)} labels and a delimiter, received {blank!r} and {delimiter!r}"
        )
    return Labels(labels, blank, delimiter)
