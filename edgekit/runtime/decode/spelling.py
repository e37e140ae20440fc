"""What a bundle's labels spell: the text of each symbol, and whether they can spell a word that somebody wrote."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from edgekit.runtime.decode.ctc import spells

_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ＇", "'"))


class Spelling:
    """The labels of a bundle as text.

    Args:
        labels: the text of each symbol.
        blank: the blank's index; it spells nothing.
        delimiter: as in `decode.ctc.words`.

    Attributes:
        pieces: per symbol whether a word ends before it, and the text that it adds.
        has_words: whether any label ends a word; else all that is said is one word.
    """

    def __init__(self, labels: Sequence[str], blank: int, delimiter: str) -> None:
        self.pieces = tuple(
            (False, "") if index == blank else spells(label, delimiter) for index, label in enumerate(labels)
        )
        self.has_words = any(ends for ends, _ in self.pieces)
        self._first = {text for ends, text in self.pieces if ends or not self.has_words}
        self._later = {text for ends, text in self.pieces if not ends and text}
        self._longest = max((len(text) for _, text in self.pieces), default=0)
        letters = {letter for _, text in self.pieces for letter in text}
        self._has_apostrophe = "'" in letters
        has_upper, has_lower = (any(test(letter) for letter in letters) for test in (str.isupper, str.islower))
        self._one_case = None if has_upper == has_lower else str.upper if has_upper else str.lower

    def fold(self, text: str) -> str:
        """A text as these labels write it: Unicode's form C, one space between words, `'` for the apostrophes of print
        where there is one, and in their case where they have one case alone."""
        if self._has_apostrophe:
            text = text.translate(_APOSTROPHES)
        if self._one_case is not None:
            text = self._one_case(text)
        return " ".join(unicodedata.normalize("NFC", text).split())

    def can_spell(self, word: str) -> bool:
        """Whether labels, put together in any way, make this word, as `fold` gives it."""
        # the ends of what can be spelled so far; a word may begin with a label that adds no text
        ends = {len(first) for first in self._first if word.startswith(first)}
        for end in range(len(word)):
            if end in ends:
                stops = range(end + 1, min(end + self._longest, len(word)) + 1)
                ends.update(stop for stop in stops if word[end:stop] in self._later)
        return len(word) in ends
