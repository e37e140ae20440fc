"""Recordings with their texts and speakers, found in the layouts that public speech corpora come in.

Not by lhotse: the LibriSpeech recipe of its version 1.33 takes `<id>.flac` alone, and its readers are not the device's.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from edgekit.core.errors import DataError
from edgekit.core.files import write_atomic
from edgekit.runtime.features.audio import MAX_RATE, MIN_RATE
from edgekit.runtime.layouts import AUDIO_SUFFIXES, MAX_DURATION_S, Row, Skipped, read_layout

# Opening a file waits for the disk, not for the processor.
_NUM_THREADS = 8


@dataclass(frozen=True)
class Utterance:
    """One recording.

    Attributes:
        id: its name in the corpus, unique there.
        audio: the file, not opened yet.
        duration_s: of the file, at its own sample rate.
        text: what is said, white space normalised; None: not known. Never empty.
        speaker: None: not known.
    """

    id: str
    audio: Path
    duration_s: float
    text: str | None
    speaker: str | None


@dataclass(frozen=True)
class Corpus:
    """Utterances by ascending id, and what was left out on the way."""

    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def duration_s(self) -> float:
        return math.fsum(utterance.duration_s for utterance in self.utterances)

    def with_text(self) -> Corpus:
        """Only the utterances whose text is known."""
        return replace(self, utterances=tuple(u for u in self.utterances if u.text is not None))

    def split(self, validation: Collection[str]) -> tuple[Corpus, Corpus]:
        """The utterances of all other speakers, and those of the speakers named by `validation`."""
        held_out = frozenset(validation)
        return (
            replace(self, utterances=tuple(u for u in self.utterances if u.speaker not in held_out)),
            Corpus(tuple(u for u in self.utterances if u.speaker in held_out)),
        )


def read_corpus(path: Path | str, *, report: Callable[[int, int], None] | None = None) -> Corpus:
    """Read what a corpus lists and how long its recordings are; the recordings themselves are not decoded.

    One of:

    - a `.jsonl` file, each line `{"audio": ..., "text": ..., "speaker": ..., "id": ..., "duration": ...}`; all but
      "audio" may be missing, other keys are ignored (so that corrected lines of `edgekit transcribe --jsonl` fit), and
      a relative "audio" is relative to the file. A recording whose line has its "duration" (s) is not opened;
    - LibriSpeech: a folder with `*.trans.txt` files beside recordings, at any depth;
    - LJSpeech: a folder with `metadata.csv` (the normalised text is taken where there is one) and `wavs/`;
    - Multilingual LibriSpeech: a language's folder or one of its parts, with `transcripts.txt` and `audio/`;
    - Common Voice: a folder with `clips/` and `validated.tsv` or else `train.tsv`, or the path of one such table;
    - any other folder: all its recordings, without texts; speakers only where files are named as LibriSpeech's.

    Args:
        path: the file or folder. Links to folders inside it are not followed.
        report: called with the number of recordings measured and their total.

    Raises:
        DataError: nothing at `path`, none of these layouts, a table without the columns it needs, or not one recording
            of use. A single bad line or recording is listed in `skipped` instead.
    """
    path, rows, skipped = Path(path), dict[str, Row](), list[Skipped]()
    try:
        for found in read_layout(path):
            if isinstance(found, Skipped):
                skipped.append(found)
            elif found.id in rows:
                skipped.append(Skipped(found.audio, f"expected an id of its own, received {found.id} a second time"))
            else:
                rows[found.id] = found
    except OSError as error:
        raise DataError(
            f"expected a corpus that can be read, received {error.filename or path}: {error.strerror}"
        ) from error
    utterances = []
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for done, measured in enumerate(pool.map(_measure, (rows[name] for name in sorted(rows))), 1):
            if isinstance(measured, Utterance):
                utterances.append(measured)
            else:
                skipped.append(measured)
            if report is not None:
                report(done, len(rows))
    if not utterances:
        first = f": {skipped[0].path}: {skipped[0].reason}" if skipped else ""
        raise DataError(
            f"expected recordings in {path}, received none of use ({len(skipped)} left out{first})",
            hint=f"give a folder that holds {', '.join(sorted(AUDIO_SUFFIXES))}, or a .jsonl file whose relative paths "
            "start at its own folder",
        )
    return Corpus(tuple(utterances), tuple(skipped))


def write_jsonl(path: Path | str, corpus: Corpus) -> None:
    """Write a corpus so that `read_corpus` reads it back without opening a recording.

    Paths below the file's folder are written relative to it, so that both can be moved together.

    Raises:
        EdgekitError: the file cannot be written.
    """
    path = Path(path)
    folder, lines = path.parent.absolute(), []
    for utterance in corpus.utterances:
        audio = utterance.audio.absolute()
        record = {
            "id": utterance.id,
            "audio": (audio.relative_to(folder) if audio.is_relative_to(folder) else audio).as_posix(),
            "duration": utterance.duration_s,
            "text": utterance.text,
            "speaker": utterance.speaker,
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    # a file's name need not be text; what stands for such a byte is JSON's own escape
    write_atomic(path, "".join(lines).encode(errors="backslashreplace"))


def split_speakers(corpus: Corpus, num_speakers: int, seed: int) -> tuple[Corpus, Corpus]:
    """Hold out whole speakers: (training, validation).

    At least one speaker stays for training, and so do utterances without a speaker. Where fewer than two speakers are
    known, 5 % of the utterances are held out instead, at least one: the validation then hears voices that were trained
    on, and flatters.

    Raises:
        DataError: a single utterance cannot be split.
        ValueError: no speaker is to be held out.
    """
    if num_speakers < 1:
        raise ValueError(f"expected num_speakers of 1 or more, received {num_speakers}")
    if len(corpus.utterances) < 2:
        raise DataError(
            "expected two utterances or more, to train and to validate on; received one", hint="add recordings"
        )
    rng = random.Random(seed)
    speakers = sorted({u.speaker for u in corpus.utterances if u.speaker is not None})
    if len(speakers) >= 2:
        return corpus.split(rng.sample(speakers, min(num_speakers, len(speakers) - 1)))
    held_out = set(rng.sample(range(len(corpus.utterances)), math.ceil(len(corpus.utterances) * 0.05)))
    return (
        replace(corpus, utterances=tuple(u for i, u in enumerate(corpus.utterances) if i not in held_out)),
        Corpus(tuple(u for i, u in enumerate(corpus.utterances) if i in held_out)),
    )


def subset(corpus: Corpus, hours: float, seed: int) -> Corpus:
    """A random part of at most so many hours, at least one utterance, spread evenly over speakers.

    Utterances are taken in an order that depends on the seed alone, one of each speaker in turn, so that a smaller
    subset is contained in a larger one of the same seed.

    Raises:
        ValueError: `hours` is not positive.
    """
    if not hours > 0:
        raise ValueError(f"expected a positive number of hours, received {hours}")
    of_speaker: dict[str, list[Utterance]] = {}
    for utterance in corpus.utterances:
        of_speaker.setdefault(utterance.speaker or "", []).append(utterance)
    ranked: list[tuple[int, float, Utterance]] = []
    for speaker, utterances in of_speaker.items():
        rng = random.Random(f"{seed}/{speaker}")
        ranked += [(turn, rng.random(), u) for turn, u in enumerate(rng.sample(utterances, len(utterances)))]
    chosen, left_s = list[Utterance](), hours * 3600
    for _, _, utterance in sorted(ranked, key=lambda entry: entry[:2]):
        left_s -= utterance.duration_s
        if left_s < 0 and chosen:
            break
        chosen.append(utterance)
    return replace(corpus, utterances=tuple(sorted(chosen, key=lambda utterance: utterance.id)))


def _measure(row: Row) -> Utterance | Skipped:
    try:
        if not row.audio.is_file():  # a pipe would be waited for
            return Skipped(row.audio, "expected a recording, received no file")
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return Skipped(row.audio, f"expected a recording that can be opened: {error.strerror}")
    # libsndfile takes it for samples whose rate somebody says
    if row.audio.suffix.lower() == ".raw":
        return Skipped(row.audio, "expected a recording with a header, received .raw")
    if row.duration_s is not None:
        return Utterance(row.id, row.audio, float(row.duration_s), row.text, row.speaker)
    try:
        info = soundfile.info(os.fsencode(row.audio))
    except soundfile.LibsndfileError as error:
        return Skipped(row.audio, f"expected a recording that can be opened: {error.error_string}")
    if not MIN_RATE <= info.samplerate <= MAX_RATE:
        return Skipped(row.audio, f"expected {MIN_RATE} to {MAX_RATE} Hz, received {info.samplerate}")
    duration_s = info.frames / info.samplerate
    if not 0 < duration_s <= MAX_DURATION_S:
        return Skipped(row.audio, f"expected sound, received {info.frames} frames")
    return Utterance(row.id, row.audio, duration_s, row.text, row.speaker)
