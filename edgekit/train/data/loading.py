"""Planned batches into tensors: recordings are read, cropped, augmented and padded, in worker processes.

What happens to an utterance depends on the seed, the epoch and its place in the corpus alone, neither on the worker
that reads it nor on what was read before: a run that was stopped goes on exactly.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgekit.core.errors import AudioError, DataError
from edgekit.runtime.corpus import Corpus, Utterance, read_corpus
from edgekit.runtime.features.audio import as_waveform, load_audio
from edgekit.train.data.augment import add_coloured_noise, add_noise, perturb_speed
from edgekit.train.data.batches import BatchPlan, PlannedBatch
from edgekit.train.data.settings import DataSettings

Float32 = npt.NDArray[np.float32]

# A recording may be longer than its line or header says by this share and this much, or its batch would outgrow memory.
_LONGER_SHARE, _LONGER_S = 0.05, 0.1
_log = logging.getLogger("edgekit.train")


@dataclass(frozen=True)
class Batch:
    """A micro-batch.

    Attributes:
        wave_BN: float32 in [-1, 1], zero after each item's length.
        lengths_B: int64, samples.
        texts: of each item; None: not known.
        ids: the utterances'.
        epoch: from 0.
        index: global number of the micro-batch.
        sample_rate: Hz.
        num_samples: the sum of `lengths_B`, where it is known without asking a GPU.
    """

    unit: ClassVar[str] = "audio_s"

    wave_BN: Tensor
    lengths_B: Tensor
    texts: tuple[str | None, ...]
    ids: tuple[str, ...]
    epoch: int
    index: int
    sample_rate: int = 16000
    num_samples: int | None = None

    def to(self, device: torch.device | str) -> Batch:
        return replace(self, wave_BN=self.wave_BN.to(device), lengths_B=self.lengths_B.to(device))

    @property
    def audio_s(self) -> float:
        """Seconds of sound, without padding."""
        num_samples = int(self.lengths_B.sum()) if self.num_samples is None else self.num_samples
        return num_samples / self.sample_rate

    @property
    def amount(self) -> float:
        return self.audio_s


def open_batches(
    corpus: Corpus,
    plan: BatchPlan,
    settings: DataSettings,
    *,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    accumulate: int = 1,
    augment: bool = True,
    sample_rate: int = 16000,
) -> Iterator[Batch]:
    """The micro-batches of one process from optimiser step `start` on, without end (`BatchPlan.for_rank`).

    A recording that cannot be read is told once, through the logger "edgekit.train", and the utterance nearest to it in
    length takes its place.

    Args:
        corpus: what `select` left.
        plan: over its utterances: `plan_batches(corpus, settings, augment=augment)`.
        augment: speed and noise; long recordings without a text are cropped at random in either case.

    Raises:
        DataError: on opening, the folder of noise holds none; later, no recording can be read.
        ValueError: `plan` is one of another corpus, or an argument is out of range.
    """
    if len(plan.durations_s) != len(corpus.utterances):
        raise ValueError(f"expected a plan over {len(corpus.utterances)} utterances, received {len(plan.durations_s)}")
    noises: tuple[Path, ...] = ()
    if augment and settings.noise and settings.noise_probability > 0:
        noises = tuple(noise.audio for noise in read_corpus(settings.noise).utterances)
    planned = plan.for_rank(start, rank, world, accumulate)
    reader = _Reader(corpus.utterances, sample_rate, settings, augment, noises)
    return _training(_open(reader, planned, settings.workers), len(corpus.utterances))


def validation_batches(
    corpus: Corpus, batch_s: float, *, max_s: float = math.inf, sample_rate: int = 16000, workers: int = 0
) -> Iterator[Batch]:
    """Every utterance once, as it is, longest first; what cannot be read is told and left out.

    Args:
        batch_s: the most seconds of a batch, padding included, unless one utterance is longer.
        max_s: of a longer recording without a text an excerpt is taken, always the same.
        workers: processes that read; 0: this one.

    Raises:
        DataError: no recording can be read.
    """
    durations_s = [u.duration_s if u.text is not None else min(u.duration_s, max_s) for u in corpus.utterances]
    order = sorted(range(len(durations_s)), key=lambda item: -durations_s[item])
    planned: list[PlannedBatch] = []
    while order:
        num_items = max(1, int(batch_s // durations_s[order[0]]))
        planned.append(PlannedBatch(len(planned), 0, tuple(order[:num_items])))
        del order[:num_items]
    reader = _Reader(corpus.utterances, sample_rate, max_s=max_s)
    return _validation(_open(reader, planned, workers), len(corpus.utterances))


@dataclass(frozen=True)
class _Loaded:
    """A batch, None where nothing of it can be read, and the recordings that could not, with the reason."""

    batch: Batch | None
    broken: tuple[tuple[str, str], ...]


class _Reader(Dataset[_Loaded]):
    """Planned batches to loaded ones. Without settings no recording is augmented and none takes another's place.

    Sent to each worker, which then keeps its own set of broken recordings.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        sample_rate: int,
        settings: DataSettings | None = None,
        augment: bool = False,
        noises: tuple[Path, ...] = (),
        max_s: float = math.inf,
    ) -> None:
        self._utterances, self._sample_rate = utterances, sample_rate
        self._max_s = max_s if settings is None else settings.max_s
        self._settings, self._augment, self._noises = settings, augment, noises
        self._by_length = sorted(range(len(utterances)), key=lambda item: -utterances[item].duration_s)
        self._broken: set[int] = set()

    def __getitem__(self, planned: PlannedBatch) -> _Loaded:
        broken: list[tuple[str, str]] = []
        loaded = [pair for item in planned.items if (pair := self._load(item, planned.epoch, broken)) is not None]
        if not loaded:
            return _Loaded(None, tuple(broken))
        lengths_B = torch.tensor([len(wave) for _, wave in loaded], dtype=torch.int64)
        wave_BN = torch.zeros(len(loaded), int(lengths_B.max()))
        for row_N, (_, wave) in zip(wave_BN, loaded):
            row_N[: len(wave)] = torch.from_numpy(wave)
        texts, ids = tuple(u.text for u, _ in loaded), tuple(u.id for u, _ in loaded)
        place = (planned.epoch, planned.index)
        batch = Batch(wave_BN, lengths_B, texts, ids, *place, self._sample_rate, int(lengths_B.sum()))
        return _Loaded(batch, tuple(broken))

    def _load(self, item: int, epoch: int, broken: list[tuple[str, str]]) -> tuple[Utterance, Float32] | None:
        for candidate in (item,) if self._settings is None else self._instead_of(item):
            utterance = self._utterances[candidate]
            try:
                return utterance, self._wave(candidate, epoch, broken)
            except AudioError as error:
                self._broken.add(candidate)
                broken.append((str(utterance.audio), error.message))
        return None

    def _instead_of(self, item: int) -> Iterator[int]:
        """The item, then shorter ones, then longer ones, so that a batch does not grow; without the broken ones."""
        if item not in self._broken:
            yield item
        if len(self._broken) < len(self._utterances):
            place = self._by_length.index(item)
            for other in (*self._by_length[place + 1 :], *self._by_length[:place][::-1]):
                if other not in self._broken:
                    yield other

    def _wave(self, item: int, epoch: int, broken: list[tuple[str, str]]) -> Float32:
        utterance, settings, sample_rate = self._utterances[item], self._settings, self._sample_rate
        cropped = utterance.text is None and utterance.duration_s > self._max_s
        if settings is None:
            if cropped:
                return _excerpt(utterance.audio, self._max_s, sample_rate, np.random.default_rng([2, item]))
            return load_audio(utterance.audio, sample_rate)
        # the 1 keeps these numbers apart from those of BatchPlan
        rng = np.random.default_rng([1, settings.seed, epoch, item])
        if cropped:
            wave = _excerpt(utterance.audio, self._max_s, sample_rate, rng)
        else:
            wave = load_audio(utterance.audio, sample_rate)
            if len(wave) > (utterance.duration_s * (1 + _LONGER_SHARE) + _LONGER_S) * sample_rate:
                raise AudioError(
                    f"expected {utterance.duration_s:.2f} s as listed, received {len(wave) / sample_rate:.2f} s in "
                    f"{utterance.audio}"
                )
        # a header may say far more than there is
        if len(wave) < settings.min_s / 2 * sample_rate:
            raise AudioError(
                f"expected {utterance.duration_s:.2f} s, received {len(wave)} samples in {utterance.audio}"
            )
        if self._augment:
            wave = perturb_speed(wave, settings.speed, rng)
            if rng.random() < settings.noise_probability:
                wave = self._with_noise(wave, rng.uniform(*settings.snr_db), rng, broken)
        return wave

    def _with_noise(
        self, wave: Float32, snr_db: float, rng: np.random.Generator, broken: list[tuple[str, str]]
    ) -> Float32:
        if not self._noises:
            return add_coloured_noise(wave, snr_db, rng)
        path = self._noises[rng.integers(len(self._noises))]
        try:
            return add_noise(wave, _excerpt(path, len(wave) / self._sample_rate, self._sample_rate, rng), snr_db)
        except AudioError as error:
            broken.append((str(path), error.message))
            return wave


def _excerpt(path: Path, duration_s: float, sample_rate: int, rng: np.random.Generator) -> Float32:
    """A random part of a recording, read without the rest of it; all of it where it is shorter."""
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            num_frames = math.ceil(duration_s * file.samplerate)
            file.seek(int(rng.integers(max(0, file.frames - num_frames) + 1)))
            block = file.read(num_frames, dtype="float32", always_2d=True)
            wave = as_waveform(block, file.samplerate, sample_rate, where=str(path))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"expected a recording that can be read, received {path}: {error.error_string}") from error
    return wave[: math.ceil(duration_s * sample_rate)]


def _open(reader: _Reader, planned: Iterable[PlannedBatch], workers: int) -> DataLoader[_Loaded]:
    """Batches in their order; torch gives each worker one thread, and its global random numbers are left alone."""
    return DataLoader(
        reader,
        batch_size=None,
        sampler=planned,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
        prefetch_factor=2 if workers else None,
    )


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _told(loader: Iterable[_Loaded]) -> Iterator[Batch | None]:
    """Every loaded batch; what is broken is told, once, although several workers may come across it."""
    told: set[str] = set()
    for loaded in loader:
        for path, reason in loaded.broken:
            if path not in told:
                told.add(path)
                _log.warning("left out %s: %s", path, reason)
        yield loaded.batch


def _training(loader: Iterable[_Loaded], num_utterances: int) -> Iterator[Batch]:
    for batch in _told(loader):
        if batch is None:
            raise _all_broken(num_utterances)
        yield batch


def _validation(loader: Iterable[_Loaded], num_utterances: int) -> Iterator[Batch]:
    readable = False
    for batch in _told(loader):
        if batch is not None:
            readable = True
            yield batch
    if not readable:
        raise _all_broken(num_utterances)


def _all_broken(num_utterances: int) -> DataError:
    return DataError(
        f"expected recordings that can be read, received none among {num_utterances}",
        hint="see the warnings above: is the disk still there?",
    )
