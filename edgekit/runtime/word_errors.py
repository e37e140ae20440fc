"""Word and character error rates of a recogniser, with a 95 % interval: jiwer counts, a bootstrap tells the spread.

The interval is the percentile bootstrap of Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR
performance evaluation" (section 3). What is drawn again are whole speakers, since a speaker's recordings are not
independent of each other; only where there are fewer than `MIN_SPEAKERS` of them, recordings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from edgekit.core.errors import UnavailableError, UsageError

MIN_SPEAKERS = 5
"""Of fewer speakers the interval says nothing of other speakers, so that recordings are drawn instead."""

NUM_RESAMPLES = 2000

_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ＇′´`", "'"))


@dataclass(frozen=True)
class Answer:
    """One recording.

    Attributes:
        id: its name.
        reference: what was said. Empty where nobody spoke: every word of the hypothesis is an insertion then.
        hypothesis: what was recognised.
        speaker: None where nobody says.
    """

    id: str
    reference: str
    hypothesis: str
    speaker: str | None = None


@dataclass(frozen=True)
class SpeakerErrors:
    """One speaker's share; `wer` and `cer` are None where the references hold no word."""

    speaker: str
    num_utterances: int
    num_words: int
    num_errors: int
    wer: float | None
    num_characters: int
    num_character_errors: int
    cer: float | None


@dataclass(frozen=True)
class BadAnswer:
    """An utterance with errors, its texts as they were compared."""

    id: str
    num_errors: int
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class WordErrors:
    """Error rates over a set of recordings. Rates are fractions of the reference's length, so they can exceed 1.

    Attributes:
        wer: (substitutions + deletions + insertions) / num_words.
        interval: the lower and upper end of the 95 % interval of `wer`; None where there is only one unit to draw.
        num_words: in the references.
        cer: character error rate. The space between two words is a character.
        cer_interval: as `interval`, of `cer`, over the same draws.
        num_characters: in the references.
        num_speakers: those with a name.
        resampled: what the interval drew: "speakers", or "utterances" where speakers are few or not all are named.
        num_resamples: how many times it drew.
        seed: of the draws.
        normalised: whether both sides went through `normalise`.
        speakers: by name.
        worst: most errors first, only those with errors.
    """

    wer: float
    interval: tuple[float, float] | None
    num_words: int
    substitutions: int
    deletions: int
    insertions: int
    cer: float
    cer_interval: tuple[float, float] | None
    num_characters: int
    num_utterances: int
    num_speakers: int
    resampled: Literal["speakers", "utterances"]
    num_resamples: int
    seed: int
    normalised: bool
    speakers: tuple[SpeakerErrors, ...]
    worst: tuple[BadAnswer, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, every field."""
        return asdict(self)


def normalise(text: str) -> str:
    """The words of a text as they are compared: `“It’s 5 o'clock,” he said` becomes `IT'S 5 O'CLOCK HE SAID`.

    Upper case; typographic apostrophes, primes, accents and backticks that stand for an apostrophe to `'`; everything
    but letters with their marks, digits and apostrophes to a space; words of apostrophes alone dropped; one space
    between words. Composed and decomposed letters are one (Unicode's form C). Numbers are not spelled out.
    """
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).upper().translate(_APOSTROPHES))
    kept = ""
    for character in composed:
        kind = unicodedata.category(character)[0]
        # a mark belongs to the letter before it; alone, as after an emoji, it is no word
        is_part = kind in "LN" or character == "'" or (kind == "M" and kept[-1:] not in ("", " ", "'"))
        kept += character if is_part else " "
    return " ".join(word for word in kept.split() if word.strip("'"))


def count_word_errors(
    answers: Sequence[Answer], *, normalised: bool = True, num_worst: int = 20, seed: int = 0
) -> WordErrors:
    """Compare what was recognised with what was said.

    Args:
        answers: in any order; it changes nothing.
        normalised: compare what `normalise` makes of both sides; else the words as they stand, split at white space.
        num_worst: how many of the worst utterances to keep.
        seed: of the interval's draws.

    Raises:
        UsageError: the references hold no word.
        UnavailableError: jiwer is not installed.
    """
    jiwer = load_jiwer()
    spell = normalise if normalised else _words_as_they_stand
    answers = sorted(answers, key=lambda answer: (answer.id, answer.reference, answer.hypothesis))
    pairs = [(spell(answer.reference), spell(answer.hypothesis)) for answer in answers]
    counted = [jiwer.process_words(*pair) for pair in pairs]
    # int64 [num_utterances, 3]: substitutions, deletions, insertions
    kinds = np.array([(c.substitutions, c.deletions, c.insertions) for c in counted], np.int64).reshape(-1, 3)
    words = np.array([len(reference.split()) for reference, _ in pairs], np.int64)
    if not words.sum():
        raise UsageError(f"expected references with at least one word, {len(answers)} references hold none")
    errors = kinds.sum(axis=1)
    spelled = [jiwer.process_characters(*pair) for pair in pairs]
    wrong = np.array([c.substitutions + c.deletions + c.insertions for c in spelled], np.int64)
    characters = np.array([len(reference) for reference, _ in pairs], np.int64)

    members: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer.speaker is not None:
            members.setdefault(answer.speaker, []).append(index)
    by_speaker = len(members) >= MIN_SPEAKERS and all(answer.speaker is not None for answer in answers)
    units = list(members.values()) if by_speaker else [[index] for index in range(len(answers))]

    def interval(counts: np.ndarray, lengths: np.ndarray) -> tuple[float, float] | None:
        return _interval(np.array([counts[u].sum() for u in units]), np.array([lengths[u].sum() for u in units]), seed)

    order = sorted(np.flatnonzero(errors).tolist(), key=lambda index: (-errors[index], words[index], answers[index].id))
    substitutions, deletions, insertions = kinds.sum(axis=0).tolist()
    return WordErrors(
        wer=int(errors.sum()) / int(words.sum()),
        interval=interval(errors, words),
        num_words=int(words.sum()),
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        cer=int(wrong.sum()) / int(characters.sum()),
        cer_interval=interval(wrong, characters),
        num_characters=int(characters.sum()),
        num_utterances=len(answers),
        num_speakers=len(members),
        resampled="speakers" if by_speaker else "utterances",
        num_resamples=NUM_RESAMPLES,
        seed=seed,
        normalised=normalised,
        speakers=tuple(
            _speaker(name, *(counts[members[name]] for counts in (errors, words, wrong, characters)))
            for name in sorted(members)
        ),
        worst=tuple(BadAnswer(answers[index].id, int(errors[index]), *pairs[index]) for index in order[:num_worst]),
    )


def aligned(reference: str, hypothesis: str, *, width: int = 100) -> str:
    """Lines `REF:` and `HYP:` with the errors below (S, D, I), wrapped at about `width` columns.

    Raises:
        UnavailableError: jiwer is not installed.
    """
    jiwer = load_jiwer()
    shown: str = jiwer.visualize_alignment(
        jiwer.process_words(reference, hypothesis), show_measures=False, skip_correct=False, line_width=width
    )
    # its first line numbers the sentences
    return "\n".join(line.rstrip() for line in shown.splitlines()[1:] if line.strip())


def load_jiwer() -> Any:
    """The module that aligns and counts.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import jiwer
    except ImportError as error:
        raise UnavailableError(
            f"expected the package jiwer to count word errors, it cannot be imported ({error})",
            hint='pip install "edgekit[benchmark]"',
        ) from error
    return jiwer


def _words_as_they_stand(text: str) -> str:
    return " ".join(text.split())


def _interval(errors: np.ndarray, lengths: np.ndarray, seed: int) -> tuple[float, float] | None:
    """The 2.5th and 97.5th percentile of the rate over units drawn with replacement; int64 [num_units] each."""
    if len(lengths) < 2:
        return None
    random = np.random.default_rng(seed)
    rates = []
    for _ in range(NUM_RESAMPLES):
        drawn = random.integers(len(lengths), size=len(lengths))
        if length := lengths[drawn].sum():  # nothing but silence has no rate
            rates.append(errors[drawn].sum() / length)
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def _speaker(
    name: str, errors: np.ndarray, words: np.ndarray, wrong: np.ndarray, characters: np.ndarray
) -> SpeakerErrors:
    """Counts of each utterance, int64 `[num_utterances]`: word errors, words, character errors, characters."""
    num_words, num_errors = int(words.sum()), int(errors.sum())
    num_characters, num_wrong = int(characters.sum()), int(wrong.sum())
    return SpeakerErrors(
        name,
        len(words),
        num_words,
        num_errors,
        num_errors / num_words if num_words else None,
        num_characters,
        num_wrong,
        num_wrong / num_characters if num_characters else None,
    )
