"""Words and phrases that a search should prefer: a biasing trie (Aho and Corasick 1975) with refunds.

As the context graphs of icefall and sherpa-onnx: every letter of a phrase adds a bonus while the phrase is being
spelled, so that it stays in the beam, and all of it is taken back when the match breaks. Unlike theirs, the trie is of
letters and not of tokens, so that word pieces match however a word is cut; where labels are letters, it is the same.
A phrase matches whole words only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.errors import DecodingError
from edgekit.runtime.decode.lines import read_lines
from edgekit.runtime.decode.spelling import Spelling

MAX_LETTERS = 200
"""Of one phrase."""

_LINE = re.compile(r"(?P<phrase>.*?)(?:\s:(?P<weight>\S*))?")


@dataclass(frozen=True)
class Hotword:
    """A phrase to prefer.

    Attributes:
        phrase: one word or several.
        weight: the bonus of each letter, a natural logarithm above 0; None: what is given for all.
    """

    phrase: str
    weight: float | None = None

    def __post_init__(self) -> None:
        letters = len("".join(self.phrase.split()))
        if not 0 < letters <= MAX_LETTERS:
            raise DecodingError(
                f"expected a hotword of 1 to {MAX_LETTERS} letters, received {letters}: {self.phrase[:40]!r}"
            )
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise DecodingError(f"expected a weight above 0 for {self.phrase!r}, received {self.weight}")


def read_hotwords(path: Path | str) -> tuple[Hotword, ...]:
    """Hotwords from a text file in UTF-8.

    One phrase per line, with a weight of its own if ` :2.5` follows; empty lines, and lines that begin with #, count
    nothing.

    Raises:
        DecodingError: it cannot be read, holds no phrase, or a line is no phrase with a weight.
    """
    path = Path(path)
    found = []
    for number, line in read_lines(path, "hotwords"):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise DecodingError(
                f"expected hotwords in UTF-8, line {number} of {path} is not", hint=f"iconv -t utf-8 {path}"
            ) from error
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        assert match is not None
        try:
            weight = None if match["weight"] is None else float(match["weight"])
            found.append(Hotword(" ".join(match["phrase"].split()), weight))
        except (ValueError, DecodingError) as error:
            raise DecodingError(
                f"expected a phrase of at most {MAX_LETTERS} letters, and ` :2.5` if it has a weight of its own; "
                f"received line {number} of {path}: {text[:60]!r}",
                hint="# at the beginning of a line makes it a comment",
            ) from error
    if not found:
        raise DecodingError(f"expected a phrase per line, there is none in {path}")
    return tuple(found)


class HotwordScorer:
    """Hotwords as a `Scorer`.

    What a text gains in the end is a sum over its words: where one or more hotwords begin at a word, and are there as
    whole words, the highest of their bonuses. A hotword's bonus is its number of letters times its weight.

    Args:
        hotwords: in any order.
        spelling: of the bundle.
        weight: of hotwords without one of their own.

    Attributes:
        start: the state before the first symbol; states are nodes of the trie.

    Raises:
        DecodingError: a phrase that the labels cannot spell; it is named.
    """

    def __init__(self, hotwords: Iterable[Hotword], spelling: Spelling, weight: float) -> None:
        self._pieces = spelling.pieces
        # where words have ends, a match begins behind one and counts with the next
        self._edge = " " if spelling.has_words else ""
        weights: dict[str, float] = {}
        for hotword in hotwords:
            text = self._edge + _spelled(hotword.phrase, spelling) + self._edge
            weights[text] = max(weights.get(text, 0.0), weight if hotword.weight is None else hotword.weight)
        # of each node, the root first: its children, the letter that leads to it, the node of its longest proper
        # suffix, what is taken back when a match breaks at it, and what is kept from there on
        self._children: list[dict[str, int]] = [{}]
        self._letter = [""]
        self._suffix, self._held, self._gain = [0], [0.0], [0.0]
        self._build(weights)
        self.start = self._children[0].get(self._edge, 0)
        self._steps: dict[tuple[int, int], tuple[int, float]] = {}

    def extend(self, state: int, symbol: int) -> tuple[int, float]:
        """As `Scorer.extend`."""
        step = self._steps.get((state, symbol))
        if step is None:
            ends, text = self._pieces[symbol]
            step = self._steps[state, symbol] = self._walk(state, self._edge + text if ends else text)
        return step

    def end(self, state: int) -> float:
        """As `Scorer.end`: the last word ends here, and what is not complete is taken back."""
        node, gain = self._walk(state, self._edge)
        return gain - self._held[node]

    def _walk(self, node: int, text: str) -> tuple[int, float]:
        """The node after more text, and what that adds."""
        before, kept = self._held[node], 0.0
        for letter in text:
            if letter == self._edge == self._letter[node]:
                continue  # one end of a word after the other
            while node and letter not in self._children[node]:
                node = self._suffix[node]
            node = self._children[node].get(letter, 0)
            kept += self._gain[node]
        return node, self._held[node] - before + kept

    def _build(self, weights: dict[str, float]) -> None:
        """The trie of these texts, and what its nodes are worth; breadth first, so that suffixes are ready."""
        num_letters, highest, complete = [0], [0.0], [0.0]
        for text, weight in weights.items():
            node = 0
            for letter in text:
                child = self._children[node].setdefault(letter, len(self._children))
                if child == len(self._children):
                    self._children.append({})
                    self._letter.append(letter)
                    num_letters.append(num_letters[node] + (letter != self._edge))
                    highest.append(0.0)
                    complete.append(0.0)
                node = child
                highest[node] = max(highest[node], weight)
            complete[node] = num_letters[node] * weight
        self._suffix = [0] * len(complete)
        self._held = [0.0] * len(complete)
        self._gain = [0.0] * len(complete)
        queue = [0]
        for node in queue:
            for letter, child in self._children[node].items():
                suffix = self._suffix[node]
                while suffix and letter not in self._children[suffix]:
                    suffix = self._suffix[suffix]
                self._suffix[child] = self._children[suffix].get(letter, 0) if node else 0
                # until here `complete` is the best that ends at this node; from here on, at it or before it
                gain = max(0.0, complete[child] - complete[node])
                complete[child] = max(complete[child], complete[node])
                self._gain[child] = gain + self._gain[self._suffix[child]]
                self._held[child] = max(0.0, num_letters[child] * highest[child] - complete[child])
                queue.append(child)


def _spelled(phrase: str, spelling: Spelling) -> str:
    """A phrase as the labels write it."""
    text = spelling.fold(phrase)
    words = text.split()
    bad = next((word for word in words if not spelling.can_spell(word)), None)
    if bad is not None or (len(words) > 1 and not spelling.has_words):
        raise DecodingError(
            f"expected hotwords that the bundle's labels can spell, received {phrase!r}"
            + ("" if bad is None else f": not {bad!r}"),
            hint="write numbers, signs and foreign letters as they are spoken",
        )
    return text
