"""The corpora that a benchmark is built from: their recordings by speaker, and a hash that tells two corpora apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.core.errors import DataError, StoreError
from edgekit.core.record import check_name
from edgekit.runtime.corpus import read_corpus
from edgekit.runtime.layouts import Skipped
from edgekit.runtime.libricontinual.books import Gender, Recording, read_tables, recording_of

Unit = Literal["book", "chapter"]


@dataclass(frozen=True)
class Source:
    """One corpus.

    Attributes:
        sha256: of what can be used, `list_sha256`; wherever the corpus lies, and in whatever order.
        seconds: of what can be used.
        books: what keeps train and test apart: books, chapters where no table tells the books of all recordings, or
            None, where not even chapters are known.
        num_unusable: recordings without words or without a speaker, beside those in `skipped`.
    """

    sha256: str
    num_recordings: int
    num_speakers: int
    seconds: float
    books: Unit | None
    num_unusable: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class Sources:
    """All corpora together.

    Attributes:
        speakers: their recordings by ascending id; by ascending name.
        genders: of the speakers whose gender a table tells.
        corpora: by ascending hash.
    """

    speakers: dict[str, tuple[Recording, ...]]
    genders: dict[str, Gender]
    corpora: tuple[Source, ...]


def read_sources(paths: Sequence[Path], *, report: Callable[[int, int], None] | None = None) -> Sources:
    """Read corpora that `read_corpus` reads.

    A reader of several corpora is one speaker, if they number them as LibriVox does.

    Args:
        report: called with the number of recordings measured and their total, for each corpus in turn.

    Raises:
        DataError: a corpus or a table cannot be read, none of its recordings has words and a speaker, a speaker's name
            cannot be that of a folder, or two recordings have one id or are one file.
    """
    of_speaker: dict[str, list[Recording]] = {}
    origins: dict[str, Path] = {}
    genders: dict[str, Gender] = {}
    corpora = []
    for path in paths:
        corpus, tables = read_corpus(path, report=report), read_tables(path)
        found = [recording_of(utterance, tables) for utterance in corpus.utterances]
        used = [recording for recording in found if recording is not None]
        if not used:
            raise DataError(
                f"expected recordings with words and speakers in {path}, received {len(found)} without",
                hint='give a LibriSpeech, MLS or LJSpeech folder, or JSON lines with "audio", "text" and "speaker"',
            )
        for recording in used:
            if (other := origins.setdefault(recording.id, path)) is not path:
                raise DataError(
                    f"expected each recording once, received {recording.id} from {other} and from {path}",
                    hint="give each corpus once, and no part of it beside the whole",
                )
            of_speaker.setdefault(recording.speaker, []).append(recording)
        genders.update({name: gender for name, gender in tables.genders.items() if name not in genders})
        corpora.append(_source(used, len(found) - len(used), corpus.skipped))
    _check_names(of_speaker)
    for recordings in of_speaker.values():
        _check_files(recordings)
    return Sources(
        {name: tuple(sorted(of_speaker[name], key=lambda r: r.id)) for name in sorted(of_speaker)},
        {name: genders[name] for name in sorted(of_speaker) if name in genders},
        tuple(sorted(corpora, key=lambda source: source.sha256)),
    )


def list_sha256(entries: Iterable[tuple[str, float, str | None]]) -> str:
    """Of recordings as (id, seconds, words), in any order: their sorted JSON lines, with whole milliseconds.

    The files are not in it: of FLAC and of Opus, here or elsewhere, a list is the same list.
    """
    lines = sorted(json.dumps([name, round(duration_s * 1000), text]) for name, duration_s, text in entries)
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _source(used: Sequence[Recording], num_unusable: int, skipped: tuple[Skipped, ...]) -> Source:
    books: Unit | None = None
    if all(recording.book is not None for recording in used):
        books = "book"
    elif all(recording.book is not None or recording.chapter is not None for recording in used):
        books = "chapter"
    return Source(
        sha256=list_sha256((r.id, r.utterance.duration_s, r.utterance.text) for r in used),
        num_recordings=len(used),
        num_speakers=len({recording.speaker for recording in used}),
        seconds=sum(recording.ms for recording in used) / 1000,
        books=books,
        num_unusable=num_unusable,
        skipped=skipped,
    )


def _check_files(recordings: Iterable[Recording]) -> None:
    """Raise DataError where one file is two recordings of a speaker, of which one could be learned and one tested."""
    found: dict[Path, str] = {}
    for recording in recordings:
        audio = recording.utterance.audio.absolute()  # not resolved, which asks the disk for each of millions
        if (other := found.setdefault(audio, recording.id)) != recording.id:
            raise DataError(
                f"expected each recording once, received {audio} as {other} and as {recording.id}",
                hint="give each corpus once, and no list of it beside it",
            )


def _check_names(names: Iterable[str]) -> None:
    """Raise DataError unless each can be a folder of its own, on every file system."""
    folded: dict[str, str] = {}
    for name in sorted(names):
        try:
            other = folded.setdefault(check_name(name).casefold(), name)
        except StoreError as error:
            raise DataError(f"a speaker's name becomes a folder: {error.message}", hint=error.hint) from error
        if other != name:
            raise DataError(
                f"expected speakers whose names differ in more than case, received {other!r} and {name!r}",
                hint="rename one of them",
            )
