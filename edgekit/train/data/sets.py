"""A corpus to learn from and one to validate on, opened from settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from edgekit.core.errors import DataError
from edgekit.runtime.corpus import Corpus, read_corpus, split_speakers, subset, write_jsonl
from edgekit.train.data.batches import padding_share
from edgekit.train.data.loading import Batch, open_batches, validation_batches
from edgekit.train.data.settings import DataSettings, plan_batches, select

if TYPE_CHECKING:
    from edgekit.train.recipe import Workplace

_MOST_TOLD = 5
# what is held back is heard whole where that fits into memory
_LONGEST_HELD_BACK_S = 35.0


@dataclass(frozen=True)
class SpeechData:
    """What a loop is fed with."""

    train: Corpus
    held_back: Corpus
    settings: DataSettings

    def batches(self, start: int, rank: int, world: int, accumulate: int) -> Iterator[Batch]:
        """Augmented, without end, from the first batch of optimiser step `start`."""
        plan = plan_batches(self.train, self.settings, augment=True)
        return open_batches(self.train, plan, self.settings, start=start, rank=rank, world=world, accumulate=accumulate)

    def validation(self) -> Iterator[Batch]:
        """What is held back, as it is; of long recordings without a text an excerpt."""
        return validation_batches(self.held_back, self.settings.batch_s, max_s=_longest_held_back_s(self.settings))

    def once(self) -> Iterator[Batch]:
        """All there is to learn from, once, not augmented, in a random order."""
        plan = plan_batches(self.train, self.settings, augment=False)
        return islice(open_batches(self.train, plan, self.settings, augment=False), plan.num_batches)


def open_data(settings: DataSettings, place: Workplace, *, texts: bool) -> SpeechData:
    """Read the corpora, or what a run that goes on has kept of them in its folder.

    Args:
        texts: only recordings with a text are of use.

    Raises:
        DataError: nothing of use.
    """
    kept = {name: place.run.path / f"data-{name}.jsonl" for name in ("train", "validation")}

    def keep() -> None:
        if all(path.is_file() for path in kept.values()):
            return
        train = _read(settings.train, place, texts)
        train = select(train, settings)
        if settings.validation:
            whole = replace(settings, max_s=_longest_held_back_s(settings))
            held_back = select(_read(settings.validation, place, texts), whole)
        else:
            train, held_back = split_speakers(train, settings.validation_speakers, settings.seed)
        if settings.hours is not None:
            train = subset(train, settings.hours, settings.seed)
        write_jsonl(kept["train"], train)
        write_jsonl(kept["validation"], held_back)

    place.first(keep)
    train, held_back = (_told(read_corpus(path), place) for path in kept.values())
    speakers = len({utterance.speaker for utterance in train.utterances})
    padding = padding_share(plan_batches(train, settings, augment=True))
    place.report.say(
        f"{train.duration_s / 3600:.2f} h in {len(train.utterances)} recordings of {speakers} speakers to learn from, "
        f"{padding:.1%} of the batches padding, {held_back.duration_s / 3600:.2f} h held back"
    )
    return SpeechData(train, held_back, settings)


def _longest_held_back_s(settings: DataSettings) -> float:
    return max(settings.max_s, _LONGEST_HELD_BACK_S)


def _read(source: str, place: Workplace, texts: bool) -> Corpus:
    corpus = _told(read_corpus(source), place)
    if not texts:  # and a recording may be cropped
        return replace(corpus, utterances=tuple(replace(u, text=None) for u in corpus.utterances))
    spoken = corpus.with_text()
    if not spoken.utterances:
        raise DataError(
            f"expected recordings with texts in {source}, received {len(corpus.utterances)} without",
            hint='a .jsonl file can bring them: {"audio": ..., "text": ...}',
        )
    return spoken


def _told(corpus: Corpus, place: Workplace) -> Corpus:
    for skipped in corpus.skipped[:_MOST_TOLD]:
        place.report.say(f"left out {skipped.path}: {skipped.reason}")
    if len(corpus.skipped) > _MOST_TOLD:
        place.report.say(f"left out {len(corpus.skipped) - _MOST_TOLD} more")
    return corpus
