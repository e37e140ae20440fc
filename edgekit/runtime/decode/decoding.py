"""What a person asks of a beam search - its width, hotwords, a language model - and the search made of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.core.errors import UsageError
from edgekit.runtime.decode.beam import BEAM, PrefixBeam, Scorer
from edgekit.runtime.decode.hotwords import Hotword, HotwordScorer, read_hotwords
from edgekit.runtime.decode.language_model import LM_WEIGHT, WORD_BONUS, LanguageModelScorer
from edgekit.runtime.decode.ngram import NgramModel, read_arpa
from edgekit.runtime.decode.spelling import Spelling

HOTWORDS_WEIGHT = 1.0


@dataclass(frozen=True)
class Decoding:
    """A beam search to ask for, in any bundle; files are read before, once.

    Attributes:
        beam: how many prefixes are kept.
        hotwords: see `read_hotwords`.
        hotwords_weight: the bonus of each letter of a hotword without a weight of its own, a natural logarithm.
        lm: see `read_arpa`.
        lm_weight: see `LanguageModelScorer`, as for `word_bonus`, which counts only with a model.
        word_bonus: added for each word.

    Raises:
        UsageError: a value outside its range.
    """

    beam: int = BEAM
    hotwords: tuple[Hotword, ...] = ()
    hotwords_weight: float = HOTWORDS_WEIGHT
    lm: NgramModel | None = None
    lm_weight: float = LM_WEIGHT
    word_bonus: float = WORD_BONUS

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise UsageError(f"expected a beam of at least 1, received {self.beam}")
        if not 0 < self.hotwords_weight < math.inf:
            raise UsageError(f"expected a weight of hotwords above 0, received {self.hotwords_weight}")
        if not 0 <= self.lm_weight < math.inf:
            raise UsageError(f"expected a weight of the language model of at least 0, received {self.lm_weight}")
        if not math.isfinite(self.word_bonus):
            raise UsageError(f"expected a finite bonus for words, received {self.word_bonus}")


def read_decoding(
    *,
    beam: int | None = None,
    hotwords: Path | str | None = None,
    hotwords_weight: float | None = None,
    lm: Path | str | None = None,
    lm_weight: float | None = None,
    word_bonus: float | None = None,
) -> Decoding | None:
    """What a command line asks for; None where it asks for nothing, which is greedy decoding.

    Args:
        beam: None: the default, if anything else is asked for.
        hotwords: a file for `read_hotwords`.
        hotwords_weight: None: the default.
        lm: a file for `read_arpa`.
        lm_weight: None: the default.
        word_bonus: None: the default.

    Raises:
        UsageError: a value outside its range, or a weight or bonus of what is not there.
        DecodingError: a file cannot be read.
    """
    numbers = (
        (hotwords_weight, "weight", hotwords, "hotwords"),
        (lm_weight, "weight", lm, "language model"),
        (word_bonus, "word bonus", lm, "language model"),
    )
    for number, what, of, name in numbers:
        if number is not None and of is None:
            raise UsageError(f"expected a {name} file with a {what} for it, received the {what} {number} alone")
    if beam is None and hotwords is None and lm is None:
        return None
    plain = Decoding(
        BEAM if beam is None else beam,
        hotwords_weight=HOTWORDS_WEIGHT if hotwords_weight is None else hotwords_weight,
        lm_weight=LM_WEIGHT if lm_weight is None else lm_weight,
        word_bonus=WORD_BONUS if word_bonus is None else word_bonus,
    )
    return replace(
        plain,
        hotwords=() if hotwords is None else read_hotwords(hotwords),
        lm=None if lm is None else read_arpa(lm),
    )


class Decoder:
    """A `Decoding` for one bundle's labels, from which any number of searches start.

    Args:
        decoding: what was asked for.
        labels: the text of each symbol.
        blank: the blank's index.
        delimiter: as in `decode.ctc.words`.

    Raises:
        DecodingError: hotwords that the labels cannot spell, or a language model for labels without words.
    """

    def __init__(self, decoding: Decoding, labels: Sequence[str], blank: int, delimiter: str) -> None:
        self.decoding = decoding
        self._blank = blank
        spelling = Spelling(labels, blank, delimiter)
        scorers: list[Scorer] = []
        if decoding.hotwords:
            scorers.append(HotwordScorer(decoding.hotwords, spelling, decoding.hotwords_weight))
        if decoding.lm is not None:
            expected = [word for hotword in decoding.hotwords for word in spelling.fold(hotword.phrase).split()]
            scorers.append(
                LanguageModelScorer(
                    decoding.lm,
                    spelling,
                    lm_weight=decoding.lm_weight,
                    word_bonus=decoding.word_bonus,
                    expected=expected,
                )
            )
        self._scorer = None if not scorers else scorers[0] if len(scorers) == 1 else _Sum(scorers)

    def start(self) -> PrefixBeam:
        """A search over one recording."""
        return PrefixBeam(self._blank, beam=self.decoding.beam, scorer=self._scorer)


class _Sum:
    """Several scorers as one."""

    def __init__(self, scorers: Sequence[Scorer]) -> None:
        self._scorers = scorers
        self.start = tuple(scorer.start for scorer in scorers)

    def extend(self, state: Any, symbol: int) -> tuple[Any, float]:
        steps = [scorer.extend(one, symbol) for scorer, one in zip(self._scorers, state)]
        return tuple(after for after, _ in steps), sum(gain for _, gain in steps)

    def end(self, state: Any) -> float:
        return sum(scorer.end(one) for scorer, one in zip(self._scorers, state))
