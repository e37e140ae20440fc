"""What a speaker said, as examples to learn: corrected lines, a corpus with texts, or recordings alone."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from edgekit.core.bundle import Bundle
from edgekit.core.errors import AudioError, DataError
from edgekit.core.signature import Derived, Dim
from edgekit.runtime.adapt.ctc import frames_needed
from edgekit.runtime.adapt.labels import Labels
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.chunks import counted
from edgekit.runtime.corpus import Utterance, read_corpus
from edgekit.runtime.features import Features, open_features
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.layouts import AUDIO_SUFFIXES, Skipped

CORRECTED, TRANSCRIPTS, PSEUDO = "corrected", "transcripts", "pseudo"
"""Where a text comes from: a line of JSON, a corpus' table, or the model itself."""


@dataclass(frozen=True)
class Example:
    """One utterance to learn.

    Attributes:
        id: its recording, and where it was cut from that.
        duration_s: of its sound.
        text: as the labels write it.
        labels: its indices, without blanks; at least one.
        features: computes or remembers the graph's input, float32 [F, M].
    """

    id: str
    duration_s: float
    text: str
    labels: tuple[int, ...]
    features: Callable[[], np.ndarray]


@dataclass(frozen=True)
class AdaptationData:
    """Examples, and what is known of them.

    Attributes:
        training: those that are learned.
        held_back: those that are only looked at, in a random order.
        sources: where the texts come from, of `CORRECTED`, `TRANSCRIPTS` and `PSEUDO`.
        speakers: the names that the data hold.
        skipped: what was left out, and why.
    """

    training: tuple[Example, ...]
    held_back: tuple[Example, ...]
    sources: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """A recording, and where its text comes from; without one, the model is asked."""

    utterance: Utterance
    source: str


def read_data(paths: Sequence[Path | str]) -> tuple[list[Recorded], list[Skipped]]:
    """The recordings of several paths, each a recording or whatever `read_corpus` reads.

    Where no recording of a path has a text, all of them are `PSEUDO`; where some have, the others are left out, since
    that is what remains of lines that a person has emptied.

    Raises:
        DataError: a path cannot be read, or holds nothing of use.
    """
    found, skipped = dict[str, Recorded](), list[Skipped]()
    for path in map(Path, paths):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.is_dir():
            utterances: tuple[Utterance, ...] = (_lone(path),)
        else:
            corpus = read_corpus(path)
            utterances = corpus.utterances
            skipped += corpus.skipped
        known = [utterance for utterance in utterances if utterance.text is not None]
        source = PSEUDO if not known else CORRECTED if path.suffix == ".jsonl" else TRANSCRIPTS
        if known:
            skipped += [Skipped(u.audio, "no text, where others have one") for u in utterances if u.text is None]
        for utterance in known or utterances:
            # by whatever path: else it could be both learned and held back
            file = os.path.realpath(utterance.audio)
            if file in found:
                skipped.append(Skipped(utterance.audio, "named a second time"))
            else:
                found[file] = Recorded(utterance, source)
    return list(found.values()), skipped


class ExampleMaker:
    """Recordings with texts to examples of one bundle.

    Args:
        bundle: for speech recognition.
        longest_s: utterances beyond this are left out; what the bundle's graph takes counts, too.
        cache_mib: features are remembered up to this size, and of the other recordings computed each time. Of filter
            banks with 80 bins a minute is 1.8 MiB.
    """

    def __init__(self, bundle: Bundle, labels: Labels, longest_s: float, cache_mib: float) -> None:
        self.features: Features = open_features(bundle.manifest.features)
        signature = bundle.graph().signature
        _, _, self._steps = counted(signature.inputs, "an input")
        _, _, self._frames = counted(signature.outputs, "an output")
        self._labels, self._cache_left = labels, cache_mib * 2**20
        longest = self._steps.max * self.features.samples_per_step if isinstance(self._steps, Dim) else math.inf
        self.longest_s = min(longest_s, longest / self.features.sample_rate)

    def make(self, recorded: Recorded) -> Example:
        """The example of a recording with its text.

        Raises:
            AudioError: it cannot be read, or is shorter than a frame.
            DataError: it is too long or too short for its text, or the labels cannot spell that.
        """
        utterance = recorded.utterance
        # told before a recording of hours is decoded
        self._check_length(utterance.duration_s)
        return self.of_wave(utterance.id, utterance.audio, self.load(utterance.audio), utterance.text or "")

    def of_wave(self, id: str, audio: Path, wave: np.ndarray, text: str, start: int = 0) -> Example:
        """The example of `wave`, float32 [n], which is what `audio` holds from the sample `start` on."""
        text, labels = self._labels.encode(text)
        duration_s = len(wave) / self.features.sample_rate
        self._check_length(duration_s)
        made_FM = self.features(wave)
        num_frames = self._frames.of_size(len(made_FM)) if isinstance(self._frames, Derived) else len(made_FM)
        if num_frames < frames_needed(labels):
            raise DataError(
                f"expected at least {frames_needed(labels)} frames for its {len(labels)} labels, received {num_frames}"
            )
        if made_FM.nbytes <= self._cache_left:
            self._cache_left -= made_FM.nbytes
            return Example(id, duration_s, text, labels, lambda: made_FM)
        stop = start + len(wave)
        return Example(id, duration_s, text, labels, lambda: self.features(self.load(audio)[start:stop]))

    def load(self, audio: Path) -> np.ndarray:
        """A recording as the waveform [n] that the features take."""
        return load_audio(audio, self.features.sample_rate, min_samples=self.features.min_samples)

    def _check_length(self, duration_s: float) -> None:
        if duration_s > self.longest_s:
            raise DataError(f"expected at most {self.longest_s:g} s, received {duration_s:.1f} s")


def split(
    examples: Sequence[Example], settings: AdaptSettings, skipped: Sequence[Skipped] = ()
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Those to learn, and those that are held back, drawn by the settings' seed.

    Utterances are held back as long as they fit into the share and the seconds that the settings name; at least one is
    held back, and at least one is learned.

    Args:
        skipped: what was left out, for the error.

    Raises:
        DataError: fewer than two.
    """
    if len(examples) < 2:
        left_out = f" ({len(skipped)} left out: {skipped[0].path}: {skipped[0].reason})" if skipped else ""
        raise DataError(
            f"expected two utterances or more, to learn and to judge by; received {len(examples)} of use{left_out}",
            hint="add recordings of this speaker: a minute is a beginning, ten are better",
        )
    drawn = random.Random(settings.seed).sample(sorted(examples, key=lambda example: example.id), len(examples))
    most_s = min(settings.held_back * sum(example.duration_s for example in drawn), settings.held_back_s)
    ends_s = itertools.accumulate(example.duration_s for example in drawn)
    count = min(max(1, sum(end_s <= most_s for end_s in ends_s)), len(drawn) - 1)
    return tuple(drawn[count:]), tuple(drawn[:count])


def _lone(path: Path) -> Utterance:
    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, OSError, UnicodeError) as error:
        raise AudioError(f"expected a recording, received {path}: {error}", hint="look at its path") from error
    return Utterance(str(path), path, info.frames / max(1, info.samplerate), None, None)
