"""Corpora of silence whose readers, books and lengths are known, and arms whose errors are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from edgekit.runtime.libricontinual import benchmark
from edgekit.runtime.libricontinual.build import build
from edgekit.runtime.libricontinual.plan import Plan
from edgekit.runtime.libricontinual.sizes import Sizes, parse_size, parse_splits
from edgekit.runtime.libricontinual.tasks import Job, measure

Librispeech = Callable[..., Path]


def write_librispeech(
    base: Path,
    readers: Mapping[str, Mapping[str, int]],
    folder: str = "speech",
    *,
    genders: Mapping[str, str] | None = None,
    projects: Mapping[str, str] | None = None,
    suffix: str = "wav",
) -> Path:
    """Reader 7, chapter 22, five recordings of a second each: `{"7": {"22": 5}}`."""
    root = base / folder
    for reader, chapters in readers.items():
        for chapter, count in chapters.items():
            where = root / reader / chapter
            where.mkdir(parents=True)
            names = [f"{reader}-{chapter}-{index:04}" for index in range(count)]
            for name in names:
                soundfile.write(where / f"{name}.{suffix}", np.zeros(8000, np.int16), 8000)
            (where / f"{reader}-{chapter}.trans.txt").write_text("".join(f"{n} A B C D E F G H I J\n" for n in names))
    if genders is not None:
        rows = "".join(f"{name:5}| {gender} | train | 1.0 | Somebody\n" for name, gender in genders.items())
        (root / "SPEAKERS.TXT").write_text(f";ID |SEX| ...\n{rows}")
    if projects is not None:
        rows = "".join(f"{chapter} | 7 | 1.0 | train | {book} | 1 | A | B\n" for chapter, book in projects.items())
        (root / "CHAPTERS.TXT").write_text(f";ID |READER| ...\n{rows}")
    return root


@pytest.fixture
def librispeech(tmp_path: Path) -> Librispeech:
    return partial(write_librispeech, tmp_path)


SPEAKERS = ("1", "2", "3", "4", "5", "6")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of six speakers with splits of 2 and 4 s, 1 s of validation and 2 s of test, which tests may read."""
    base = tmp_path_factory.mktemp("libricontinual")
    corpus = write_librispeech(base, {name: {f"{name}1": 4, f"{name}2": 1, f"{name}3": 2} for name in SPEAKERS})
    sizes = Sizes(parse_splits("2s,4s"), parse_size("1s"), parse_size("2s"))
    return build([corpus], base / "built", Plan(sizes, len(SPEAKERS))).folder


@pytest.fixture(scope="session")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of other speakers."""
    return write_librispeech(tmp_path_factory.mktemp("general"), {"90": {"901": 2}, "91": {"911": 2}})


@pytest.fixture
def made_up_arms(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `made_up_arms`, found in other processes too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("made_up_arms")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tasks are done in this process; gives the names of those that were, in order."""
    done: list[str] = []

    def run(jobs: Sequence[Job], *, num_workers: int, num_threads: int) -> Iterator[tuple[Job, Any]]:
        for job in jobs:
            done.append(job.task.file)
            yield job, measure(job, num_threads)

    monkeypatch.setattr(benchmark, "run_in_processes", run)
    return done
