"""Of whom a recording is and from which book and chapter, as its name tells and the tables that lie with a corpus.

Readers and projects are LibriVox's own numbers in LibriSpeech (`SPEAKERS.TXT`, and PROJ. of `CHAPTERS.TXT`) and in MLS
(`metainfo.txt`), so that one reader, or one book, of both corpora is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.core.errors import DataError
from edgekit.runtime.corpus import Utterance

Gender = Literal["F", "M"]
GENDERS: tuple[Gender, ...] = ("F", "M")

_LIBRISPEECH = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")
_MLS = re.compile(r"(?P<speaker>\d+)_(?P<book>\d+)_\d+")
_LJSPEECH = re.compile(r"(?P<chapter>LJ\d{3})-\d+")
_LJSPEECH_SPEAKER = "LJ"


@dataclass(frozen=True)
class Recording:
    """One recording whose words and speaker are known.

    Attributes:
        ms: its length, 1 at the least; whole, so that sums depend on no order.
        book: None: not known.
        chapter: of that book; None: not known.
    """

    utterance: Utterance
    speaker: str
    ms: int
    book: str | None
    chapter: str | None

    @property
    def id(self) -> str:
        return self.utterance.id


@dataclass(frozen=True)
class Tables:
    """What a corpus tells beside its recordings.

    Attributes:
        books: LibriVox's project by chapter, of LibriSpeech.
        genders: by speaker.
    """

    books: dict[str, str]
    genders: dict[str, Gender]


def read_tables(corpus: Path) -> Tables:
    """The tables in the corpus's folder or the one above it (of a subset), where there are any.

    Raises:
        DataError: a table that cannot be read, or without one row of use.
    """
    books: dict[str, str] = {}
    genders: dict[str, Gender] = {_LJSPEECH_SPEAKER: "F"}
    corpus = corpus.absolute()
    for folder in (corpus, corpus.parent):
        for cells in _rows(folder / "CHAPTERS.TXT", "chapter | reader | minutes | subset | project | ...", 5):
            if cells[0].isdecimal() and cells[4].isdecimal():
                books.setdefault(cells[0], cells[4])
        for name, form in (("SPEAKERS.TXT", "reader | F or M | ..."), ("metainfo.txt", "speaker | F or M | ...")):
            for cells in _rows(folder / name, form, 2):
                if cells[1] in ("F", "M"):
                    genders.setdefault(cells[0], "F" if cells[1] == "F" else "M")
    return Tables(books, genders)


def recording_of(utterance: Utterance, tables: Tables) -> Recording | None:
    """The recording with all that is known of it; None without words, or without a speaker."""
    speaker, book, chapter = utterance.speaker, None, None
    if found := _LIBRISPEECH.fullmatch(utterance.id):
        speaker, chapter = speaker or found["speaker"], found["chapter"]
        book = tables.books.get(chapter)
    elif found := _MLS.fullmatch(utterance.id):
        speaker, book = speaker or found["speaker"], found["book"]
    elif found := _LJSPEECH.fullmatch(utterance.id):
        speaker, chapter = speaker or _LJSPEECH_SPEAKER, found["chapter"]
    if speaker is None or utterance.text is None:
        return None
    return Recording(utterance, speaker, max(1, round(utterance.duration_s * 1000)), book, chapter)


def _rows(table: Path, form: str, num_cells: int) -> Iterator[list[str]]:
    """The cells of each row that has so many; lines after `;` and the header of MLS are none."""
    if not table.is_file():
        return
    try:
        lines = table.read_bytes().decode(errors="replace").split("\n")
    except OSError as error:
        raise DataError(f"expected a table that can be read, received {table}: {error.strerror}") from error
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(";")]
    used = [row for row in rows if len(row) >= num_cells and row[0].isdecimal()]
    if not used:
        raise DataError(
            f"expected rows of the form {form}, received none in {table}", hint="fetch the table again, or remove it"
        )
    yield from used
