"""`manifest.json` of a benchmark: what it was made from and what its lists hold, by hashes; and the lists, read back.

Nothing in it tells where anything lies, so that two people with the same corpora, sizes and seed have the same file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core.errors import DataError, EdgekitError
from edgekit.core.record import check_name
from edgekit.runtime.corpus import Corpus, read_corpus
from edgekit.runtime.libricontinual.sizes import Size, parse_size
from edgekit.runtime.libricontinual.sources import list_sha256

SCHEMA = 1
NAME = "LibriContinual-like"
MANIFEST = "manifest.json"
TRAIN = "train"
"""How the files of train lists begin."""


@dataclass(frozen=True)
class List:
    """One list as the manifest tells it.

    Attributes:
        file: below the benchmark's folder, with `/`.
        sha256: `sources.list_sha256` of its recordings, wherever they lie.
    """

    file: str
    num_recordings: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class SpeakerLists:
    """One speaker's lists.

    Attributes:
        gender: "F", "M", or None where no table tells.
        splits: train lists by size, ascending; nested.
    """

    speaker: str
    gender: str | None
    splits: Mapping[Size, List]
    validation: List
    test: List


@dataclass(frozen=True)
class LibriContinual:
    """A benchmark that was built.

    Attributes:
        folder: where it lies.
        data: the whole manifest, as JSON holds it.
        sha256: of all lists; the same for two people with the same benchmark.
        speakers: by name.
    """

    folder: Path
    data: dict[str, Any]
    sha256: str
    speakers: Mapping[str, SpeakerLists]

    def read(self, chosen: List) -> Corpus:
        """The recordings of a list; raises as `read_list`."""
        return read_list(self.folder, chosen)


def read_list(folder: Path, chosen: List) -> Corpus:
    """The recordings of a list of the benchmark in `folder`.

    Raises:
        DataError: the file is missing or was altered, or a recording is missing.
    """
    path = folder / chosen.file
    corpus = read_corpus(path)
    if corpus.skipped:
        raise DataError(
            f"expected all recordings of {path}, received {len(corpus.skipped)} that cannot be used; the first: "
            f"{corpus.skipped[0].path}: {corpus.skipped[0].reason}",
            hint="mount the corpora where they were, or build the benchmark again: edgekit data libricontinual",
        )
    if list_sha256((u.id, u.duration_s, u.text) for u in corpus.utterances) != chosen.sha256:
        raise DataError(
            f"expected {path} as it was built, it was altered", hint="build it again: edgekit data libricontinual"
        )
    return corpus


def lists_sha256(speakers: Mapping[str, Mapping[str, Any]]) -> str:
    """Of the manifest's speakers: the hashes of all their lists."""
    entries = (entry for speaker in speakers.values() for entry in _entries(speaker))
    lines = sorted(f"{entry['file']} {entry['sha256']}\n" for entry in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def to_bytes(data: Mapping[str, Any]) -> bytes:
    """A manifest as it is written."""
    return (json.dumps(data, indent=1, ensure_ascii=True) + "\n").encode()


def read_benchmark(folder: Path | str) -> LibriContinual:
    """Open a benchmark; its lists are read when they are needed.

    Raises:
        DataError: no benchmark, one that was altered, or one of a newer edgekit.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    again = "build it: edgekit data libricontinual CORPUS --out DIR"
    try:
        data = json.loads(path.read_bytes())
        if data["name"] != NAME:
            raise ValueError(f"its name is {str(data['name'])[:40]!r}")
        if data["schema"] > SCHEMA:
            raise DataError(
                f"expected a benchmark of schema {SCHEMA}, {path} is of {data['schema']}",
                hint="pip install --upgrade edgekit",
            )
        speakers = {name: _speaker(name, entry) for name, entry in data["speakers"].items()}
        sha256 = data["sha256"]
        if not speakers:
            raise ValueError("it has no speakers")
        if sha256 != lists_sha256(data["speakers"]):
            raise ValueError("its hash is not that of its lists")
    except OSError as error:
        raise DataError(f"expected {MANIFEST} in {folder}, received none: {error.strerror}", hint=again) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"expected the manifest of a benchmark, received {path}: {error}", hint=again) from error
    return LibriContinual(folder, data, sha256, speakers)


def _entries(speaker: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*speaker["splits"].values(), speaker["validation"], speaker["test"]]


def _speaker(name: str, data: Mapping[str, Any]) -> SpeakerLists:
    try:
        splits = {parse_size(size): _list(check_name(name), entry) for size, entry in data["splits"].items()}
        if not splits:
            raise ValueError(f"speaker {name} has no train list")
        return SpeakerLists(
            name,
            data["gender"],
            dict(sorted(splits.items())),
            _list(name, data["validation"]),
            _list(name, data["test"]),
        )
    except EdgekitError as error:
        raise ValueError(error.message) from error


def _list(speaker: str, data: Mapping[str, Any]) -> List:
    folder, _, file = str(data["file"]).partition("/")
    if folder != speaker:
        raise ValueError(f"expected a list in the folder {speaker}, received {data['file']!r}")
    return List(
        f"{speaker}/{check_name(file)}", int(data["num_recordings"]), float(data["seconds"]), str(data["sha256"])
    )
