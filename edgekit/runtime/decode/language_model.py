"""The words of a prefix, scored by a word n-gram model as each is completed (shallow fusion)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, TypeVar

from edgekit.core.errors import DecodingError
from edgekit.runtime.decode.ngram import NgramModel
from edgekit.runtime.decode.spelling import Spelling

LM_WEIGHT = 0.5
WORD_BONUS = 1.5
UNKNOWN = -10.0
"""The defaults of pyctcdecode, natural logarithms. flashlight, and the papers that use it, multiply logarithms to base
10: their weight of 2 and word score of -1 are 0.87 and -1 here."""

_MAX_MEMORY = 1 << 16
_State = tuple[Any, str, bool]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class LanguageModelScorer:
    """A word n-gram model as a `Scorer`.

    A word adds `lm_weight` log p(word | words before) + `word_bonus` when it is complete: at the next delimiter or
    first piece of a word, and in the end, where the sentence's own end is scored too. What an unknown word costs beside
    that is charged as soon as no word begins so: else a prefix that runs all further words together, and so never pays,
    would drive those that have paid out of the beam.

    Args:
        model: what the labels spell is looked up as it is, then in lower case, upper case and with a capital.
        spelling: of the bundle.
        lm_weight: of the log-probabilities.
        word_bonus: added for each word, as a language model alone prefers few words.
        unknown: added for each word that the model lacks, beside the log-probability of its <unk>.
        expected: words that the model may lack without that: those of hotwords.

    Attributes:
        start: the state before the first symbol; states are (context, what is spelled of the next word, whether it has
            been charged as unknown).

    Raises:
        DecodingError: labels without a delimiter of words.
    """

    def __init__(
        self,
        model: NgramModel,
        spelling: Spelling,
        *,
        lm_weight: float = LM_WEIGHT,
        word_bonus: float = WORD_BONUS,
        unknown: float = UNKNOWN,
        expected: Iterable[str] = (),
    ) -> None:
        if not spelling.has_words:
            raise DecodingError(
                "expected labels with a delimiter of words for a language model, the bundle has none",
                hint="leave the language model out",
            )
        self._model = model
        self._pieces = spelling.pieces
        self._lm_weight = lm_weight
        self._word_bonus = word_bonus
        self._unknown = unknown
        self._expected = sorted(set(expected))
        self.start: _State = (model.start, "", False)
        self._scored: dict[tuple[Any, str], tuple[float, Any]] = {}
        self._begins: dict[str, bool] = {}

    def extend(self, state: _State, symbol: int) -> tuple[_State, float]:
        """As `Scorer.extend`."""
        context, word, is_charged = state
        ends, text = self._pieces[symbol]
        gain = 0.0
        if ends and word:
            gain, context = self._complete(state)
            word, is_charged = "", False
        word += text
        if text and not is_charged and not self._begins_a_word(word):
            gain, is_charged = gain + self._unknown, True
        return (context, word, is_charged), gain

    def end(self, state: _State) -> float:
        """As `Scorer.end`."""
        gain, context = self._complete(state) if state[1] else (0.0, state[0])
        if "</s>" in self._model:
            gain += self._lm_weight * self._model.score(context, "</s>")[0]
        return gain

    def _complete(self, state: _State) -> tuple[float, Any]:
        """What a word adds that ends here, and the context after it."""
        context, word, is_charged = state
        found = self._scored.get((context, word))
        if found is None:
            known = next((case for case in _cases(word) if case in self._model), None)
            log_prob, after = self._model.score(context, word if known is None else known)
            gain = self._lm_weight * log_prob + self._word_bonus
            if known is None and not is_charged and word not in self._expected:
                gain += self._unknown
            found = _remember(self._scored, (context, word), (gain, after))
        return found

    def _begins_a_word(self, text: str) -> bool:
        found = self._begins.get(text)
        if found is None:
            at = bisect_left(self._expected, text)
            is_expected = at < len(self._expected) and self._expected[at].startswith(text)
            found = is_expected or any(map(self._model.has_prefix, _cases(text)))
            _remember(self._begins, text, found)
        return found


def _cases(text: str) -> tuple[str, ...]:
    return text, text.lower(), text.upper(), text.capitalize()


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    if len(memory) >= _MAX_MEMORY:
        memory.clear()
    memory[key] = value
    return value
