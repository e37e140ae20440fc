"""The layouts in which public speech corpora come, as rows: a recording's file, its text and its speaker."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edgekit.core.errors import DataError

AUDIO_SUFFIXES = frozenset((".wav", ".flac", ".opus", ".ogg", ".oga", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".w64"))
"""What counts as a recording where a folder is searched, in lower case; libsndfile reads all of them."""

# Longer than this is what a header says that does not know; about 11 days.
MAX_DURATION_S = 1e6
_LIBRISPEECH_ID = re.compile(r"(\d+)-\d+-\d+")
_MLS_ID = re.compile(r"(?P<speaker>\d+)_(?P<book>\d+)_\d+")
# as it is published, in either of its two forms
_MLS_SUFFIXES = (".flac", ".opus", ".wav")


@dataclass(frozen=True)
class Skipped:
    """A file, or a line of one, that was left out, and why."""

    path: Path
    reason: str


class Row(NamedTuple):
    """An utterance as a layout names it; its recording may be missing or broken."""

    id: str
    audio: Path
    text: str | None = None
    speaker: str | None = None
    duration_s: float | None = None


def read_layout(path: Path) -> Iterable[Row | Skipped]:
    """The rows of whatever layout `path` has (`corpus.read_corpus` names them).

    Raises:
        DataError: none of them.
    """
    if path.is_dir():
        if (path / "clips").is_dir():
            for table in (path / "validated.tsv", path / "train.tsv"):
                if table.is_file():
                    return _common_voice(table)
        if (path / "metadata.csv").is_file() and (path / "wavs").is_dir():
            return _ljspeech(path)
        if partitions := mls_partitions(path):
            return (row for partition in partitions for row in _mls(partition))
        tables = sorted(path.rglob("*.trans.txt"))
        return (row for table in tables for row in _librispeech(table)) if tables else _recordings(path)
    if path.suffix == ".jsonl" and path.is_file():
        return _json_lines(path)
    if path.suffix == ".tsv" and path.is_file():
        return _common_voice(path)
    raise DataError(
        f"expected a folder, a .jsonl file or a .tsv file, received {path}"
        + ("" if path.exists() else ", which does not exist"),
        hint="look at the path",
    )


def mls_partitions(path: Path) -> list[Path]:
    """The folders with `transcripts.txt` and `audio/`: `path` itself, or its train, dev and test; often none."""
    folders = (path, *(path / name for name in ("train", "dev", "test")))
    return [folder for folder in folders if (folder / "transcripts.txt").is_file() and (folder / "audio").is_dir()]


def _recordings(folder: Path) -> Iterator[Row]:
    for audio in sorted(folder.rglob("*")):
        if audio.suffix.lower() in AUDIO_SUFFIXES:
            yield Row(audio.relative_to(folder).as_posix(), audio, speaker=_librispeech_speaker(audio.stem))


def _librispeech(table: Path) -> Iterator[Row | Skipped]:
    recordings = _by_stem(table.parent)

    def parse(line: str) -> Row:
        name, _, text = line.partition(" ")
        return Row(name, _of(recordings, name), _text(text), _librispeech_speaker(name) or table.parents[1].name)

    return _parse_lines(table, parse)


def _ljspeech(folder: Path) -> Iterator[Row | Skipped]:
    recordings = _by_stem(folder / "wavs")

    def parse(line: str) -> Row:
        name, *texts = line.split("|")
        if not texts:
            raise ValueError(f"expected id|text|normalised text, received {line[:40]!r}")
        return Row(name, _of(recordings, name), _text(texts[-1]) or _text(texts[0]))

    return _parse_lines(folder / "metadata.csv", parse)


def _mls(partition: Path) -> Iterator[Row | Skipped]:
    """Multilingual LibriSpeech (OpenSLR 94): recordings are in `audio/<speaker>/<book>/`, books are LibriVox's."""
    durations_s = _mls_durations(partition / "segments.txt")

    def parse(line: str) -> Row:
        name, _, text = line.partition("\t")
        found = _MLS_ID.fullmatch(name)
        if found is None:
            raise ValueError(f"expected <speaker>_<book>_<segment>, a tab and the text, received {line[:40]!r}")
        stem = partition / "audio" / found["speaker"] / found["book"] / name
        for suffix in _MLS_SUFFIXES:
            if (audio := stem.with_suffix(suffix)).is_file():
                return Row(name, audio, _text(text), found["speaker"], durations_s.get(name))
        raise ValueError(f"expected a recording named {name[:40]!r}, received none")

    return _parse_lines(partition / "transcripts.txt", parse)


def _mls_durations(table: Path) -> dict[str, float]:
    """Seconds by name, so that ten million recordings need not be opened; empty without a table.

    Lines are name, address of the chapter, begin and end in it (s); one of another form tells nothing.
    """
    durations_s = {}
    for line in table.read_bytes().split(b"\n") if table.is_file() else ():
        try:
            name, _, begin, end = line.decode().split("\t")
            if 0 < (duration_s := float(end) - float(begin)) <= MAX_DURATION_S:
                durations_s[name] = round(duration_s, 3)
        except ValueError:
            continue
    return durations_s


def _common_voice(table: Path) -> Iterator[Row | Skipped]:
    with table.open("rb") as file:
        header = file.readline().removeprefix(codecs.BOM_UTF8).decode(errors="replace").rstrip("\r\n").split("\t")
    if not {"path", "sentence"} <= set(header):
        raise DataError(
            f"expected a table with the columns path and sentence, received {', '.join(header)[:200]} in {table}",
            hint="give a table of Common Voice, or write one JSON line per recording into a .jsonl file",
        )

    def parse(line: str) -> Row:
        cells = line.split("\t")
        if len(cells) != len(header):
            raise ValueError(f"expected {len(header)} columns, received {len(cells)}")
        row = dict(zip(header, cells))
        audio = table.parent / "clips" / row["path"]
        # the first releases leave the suffix out
        audio = audio if audio.suffix else audio.with_suffix(".mp3")
        return Row(audio.stem, audio, _text(row["sentence"]), row.get("client_id") or None)

    return _parse_lines(table, parse, first=2)


def _json_lines(path: Path) -> Iterator[Row | Skipped]:
    def parse(line: str) -> Row:
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"expected a JSON object, received: {error.msg}, at character {error.pos + 1}") from error
        if not isinstance(data, dict) or not isinstance(data.get("audio"), str) or not data["audio"]:
            raise ValueError(f'expected {{"audio": "...", ...}}, received {line[:40]!r}')
        for key in ("id", "text", "speaker"):
            if not isinstance(data.get(key, ""), (str, type(None))):
                raise ValueError(f'expected text or null for "{key}", received {str(data[key])[:40]!r}')
        duration_s = data.get("duration")
        if duration_s is not None and (
            not isinstance(duration_s, (int, float)) or not 0 < duration_s <= MAX_DURATION_S
        ):
            raise ValueError(f'expected positive seconds or null for "duration", received {str(duration_s)[:40]!r}')
        return Row(
            data.get("id") or data["audio"],
            path.parent / data["audio"],
            _text(data.get("text") or ""),
            data.get("speaker") or None,
            duration_s,
        )

    return _parse_lines(path, parse)


def _parse_lines(path: Path, parse: Callable[[str], Row], first: int = 1) -> Iterator[Row | Skipped]:
    """`parse` of each line that is not blank, from line `first`; its ValueErrors, and what is not UTF-8, as Skipped."""
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    for number, line in enumerate(content.split(b"\n"), 1):
        if number >= first and line.strip():
            try:
                yield parse(line.decode().rstrip("\r"))
            except (ValueError, RecursionError) as error:
                yield Skipped(path, f"line {number}: {error}")


def _by_stem(folder: Path) -> dict[str, Path]:
    audio = (path for path in folder.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES)
    return {path.stem: path for path in sorted(audio, reverse=True)}


def _of(recordings: dict[str, Path], name: str) -> Path:
    if name not in recordings:
        raise ValueError(f"expected a recording named {name[:40]!r}, received none")
    return recordings[name]


def _text(text: str) -> str | None:
    return " ".join(text.split()) or None


def _librispeech_speaker(name: str) -> str | None:
    found = _LIBRISPEECH_ID.fullmatch(name)
    return found[1] if found else None
