"""What learning a speaker gives, shown on recordings that neither were learned nor told when to stop."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.core.errors import DataError
from edgekit.runtime.adapt.adaptation import Outcome, adapt_speaker
from edgekit.runtime.adapt.examples import read_data
from edgekit.runtime.adapt.held_back import word_errors
from edgekit.runtime.adapt.learner import Progress
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.corpus import Corpus, Utterance, write_jsonl
from edgekit.runtime.tasks import load
from edgekit.runtime.tasks.speech_recognition import SpeechRecognition
from edgekit.runtime.word_errors import normalise

SHOWN_SHARE, SHOWN_S = 0.25, 60.0
"""Of the recordings, and at most: what is only shown."""

_LEAST = 6
"""Recordings: four to learn from, one to know when to stop, one to show."""


@dataclass(frozen=True)
class Heard:
    """One recording that was only shown.

    Attributes:
        text: what was said; None: not known.
        before, after: what the core alone wrote, and the core with what was learned.
    """

    audio: Path
    duration_s: float
    text: str | None
    before: str
    after: str


@dataclass(frozen=True)
class Demonstration:
    """What was learned, what it changed, and what it took.

    Attributes:
        wer_before, wer_after: fractions; None where nobody says what was said.
        seconds: wall time, reading, learning and both answers.
    """

    outcome: Outcome
    heard: tuple[Heard, ...]
    wer_before: float | None
    wer_after: float | None
    seconds: float


def demonstrate(
    bundle: Path,
    speaker: str,
    data: Sequence[Path | str],
    *,
    settings: AdaptSettings | None = None,
    store: Path | None = None,
    budget_s: float | None = None,
    num_threads: int | None = None,
    allow_random_weights: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda text: None,
) -> Demonstration:
    """Learn a speaker from three quarters of the recordings; answer the last quarter before and after.

    The speaker stays in the store if the learning was worth it, as with `adapt_speaker`, whose arguments these are.

    Raises:
        DataError: fewer than six recordings.
        EdgekitError: as `adapt_speaker`.
    """
    begun = time.monotonic()
    settings = settings or AdaptSettings()
    recorded, _ = read_data(data)
    utterances = [each.utterance for each in recorded if each.utterance.duration_s <= settings.longest_s]
    if len(utterances) < _LEAST:
        raise DataError(
            f"expected {_LEAST} recordings of at most {settings.longest_s:g} s to show something, "
            f"received {len(utterances)}",
            hint="edgekit demo personalise --mic reads you what to say",
        )
    learned, shown = _divided(utterances, settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "learned.jsonl"
        write_jsonl(file, Corpus(tuple(learned)))
        outcome = adapt_speaker(
            bundle,
            speaker,
            [file],
            settings=settings,
            store=store,
            budget_s=budget_s,
            num_threads=num_threads,
            resume="never",
            allow_random_weights=allow_random_weights,
            report=report,
            say=say,
        )
    recogniser = load(bundle, store=store, num_threads=num_threads)
    assert isinstance(recogniser, SpeechRecognition)
    heard = []
    for utterance in shown:
        before, after = (
            recogniser.transcribe(utterance.audio, speaker=who, allow_random_weights=allow_random_weights).text
            for who in (None, speaker if outcome.record is not None else None)
        )
        heard.append(Heard(utterance.audio, utterance.duration_s, utterance.text, before, after))
    wer_before, wer_after = (_wer(heard, which) for which in ("before", "after"))
    return Demonstration(outcome, tuple(heard), wer_before, wer_after, time.monotonic() - begun)


def _divided(utterances: Sequence[Utterance], seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """Those to learn, and those to show: a random part, in their own order."""
    order = random.Random(seed).sample(range(len(utterances)), len(utterances))
    chosen, seconds = set[int](), 0.0
    for index in order:
        seconds += utterances[index].duration_s
        if chosen and (seconds > SHOWN_S or len(chosen) >= SHOWN_SHARE * len(utterances)):
            break
        chosen.add(index)
    learned = [utterance for index, utterance in enumerate(utterances) if index not in chosen]
    return learned, [utterances[index] for index in sorted(chosen)]


def _wer(heard: Sequence[Heard], which: str) -> float | None:
    """Over all words together."""
    known = [(normalise(each.text).split(), normalise(getattr(each, which)).split()) for each in heard if each.text]
    words = sum(len(reference) for reference, _ in known)
    return sum(word_errors(reference, answer) for reference, answer in known) / words if words else None
