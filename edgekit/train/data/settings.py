"""What is trained on and how it is read: settings, and what they leave of a corpus."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from edgekit.core.errors import DataError
from edgekit.runtime.corpus import Corpus
from edgekit.runtime.layouts import Skipped
from edgekit.train.data.batches import BatchPlan


def default_workers() -> int:
    """Processes that read: two, but one core is left for what learns."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2, cores - 1)


@dataclass(frozen=True)
class DataSettings:
    """What is trained on and how it is read.

    Attributes:
        train: path of a corpus (`read_corpus`).
        validation: path of another; empty: speakers of `train` are held out.
        validation_speakers: how many.
        hours: train on a random part of this size; none: on all.
        batch_s: seconds of a micro-batch, padding included.
        max_s: the longest utterance, seconds; longer ones are cropped at random, or left out if they have a text.
        min_s: the shortest, seconds; shorter ones are left out.
        workers: processes that read, per training process; 0: it reads itself, while nothing is computed.
        speed: factors of speed, one of which is drawn for each utterance.
        noise: a folder of noise recordings; empty: white, pink and brown noise is generated.
        noise_probability: the share of utterances that get noise.
        snr_db: least and greatest signal-to-noise ratio, dB; drawn between them.
        seed: of the order, the crops and the augmentation.
    """

    train: str = ""
    validation: str = ""
    validation_speakers: int = 2
    hours: float | None = None
    batch_s: float = 120.0
    max_s: float = 20.0
    min_s: float = 0.4
    workers: int = field(default_factory=default_workers)
    speed: tuple[float, ...] = (1.0,)
    noise: str = ""
    noise_probability: float = 0.0
    snr_db: tuple[float, float] = (5.0, 20.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.validation_speakers < 1:
            raise ValueError(f"expected validation_speakers of 1 or more, received {self.validation_speakers}")
        if self.hours is not None and not self.hours > 0:
            raise ValueError(f"expected positive hours, received {self.hours}")
        if not (self.batch_s > 0 and 0 < self.min_s < self.max_s):
            raise ValueError(
                f"expected batch_s > 0 and 0 < min_s < max_s, received {self.batch_s}, {self.min_s} and {self.max_s}"
            )
        if self.workers < 0 or self.seed < 0:
            raise ValueError(f"expected workers and seed of 0 or more, received {self.workers} and {self.seed}")
        if not self.speed or not all(0.5 <= factor <= 2 for factor in self.speed):
            raise ValueError(f"expected factors of speed in 0.5..2, received {self.speed}")
        if not 0 <= self.noise_probability <= 1:
            raise ValueError(f"expected noise_probability in 0..1, received {self.noise_probability}")
        if not -20 <= self.snr_db[0] <= self.snr_db[1] <= 100:
            raise ValueError(f"expected snr_db in -20..100, the least first, received {self.snr_db}")


def select(corpus: Corpus, settings: DataSettings) -> Corpus:
    """Leave out, and add to `skipped`, what is shorter than `min_s`, or longer than `max_s` and has a text.

    Raises:
        DataError: nothing is left.
    """
    kept, skipped = [], list(corpus.skipped)
    for utterance in corpus.utterances:
        if utterance.duration_s < settings.min_s:
            reason = f"shorter than min_s: {utterance.duration_s:.2f} s"
        elif utterance.duration_s > settings.max_s and utterance.text is not None:
            reason = f"longer than max_s, and its text cannot be cropped: {utterance.duration_s:.2f} s"
        else:
            kept.append(utterance)
            continue
        skipped.append(Skipped(utterance.audio, reason))
    if not kept:
        raise DataError(
            f"expected utterances of {settings.min_s:g} to {settings.max_s:g} s, received none among "
            f"{len(corpus.utterances)}",
            hint="change the limits: --set data.min_s=... --set data.max_s=...",
        )
    return Corpus(tuple(kept), tuple(skipped))


def plan_batches(corpus: Corpus, settings: DataSettings, *, augment: bool) -> BatchPlan:
    """The plan for `open_batches`: lengths after cropping, and at the slowest speed."""
    slowest = min(settings.speed) if augment else 1.0
    durations_s = [min(utterance.duration_s, settings.max_s) / slowest for utterance in corpus.utterances]
    return BatchPlan(durations_s, settings.batch_s, settings.seed)
