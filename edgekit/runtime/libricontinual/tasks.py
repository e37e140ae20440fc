"""The unit of work: one arm adapts to one speaker's train list and is scored. It is done again only as a whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import edgekit
from edgekit.core.errors import AudioError, EdgekitError, UsageError
from edgekit.runtime.corpus import Corpus
from edgekit.runtime.libricontinual.arms import Arm, Outcome, SpeakerData
from edgekit.runtime.libricontinual.manifest import LibriContinual, List, SpeakerLists, read_list
from edgekit.runtime.libricontinual.sizes import Size
from edgekit.runtime.word_errors import Answer, count_word_errors

SCHEMA = 1
GENERAL = "general"


@dataclass(frozen=True)
class Task:
    """What is measured once.

    Attributes:
        group: the arm's name, or `Entry.group` of the model before adaptation, which several arms may share.
        speaker: None: the general list, before adaptation.
        split: of the train list, as "10m"; None before adaptation.
    """

    group: str
    speaker: str | None
    split: str | None
    seed: int | None

    @property
    def file(self) -> str:
        """Below the folder of results."""
        if self.split is None:
            return f"{self.group}/{self.speaker or GENERAL}.json"
        return f"{self.group}/{self.speaker}/{self.split}-seed{self.seed}.json"

    def __str__(self) -> str:
        if self.split is None:
            return f"before adaptation, {self.speaker or 'general list'}"
        return f"{self.group}, {self.speaker}, {self.split}"


@dataclass(frozen=True)
class Entry:
    """An arm that takes part, with what was asked of it once.

    Attributes:
        group: where the scores of its model before adaptation are kept.
    """

    arm: Arm
    start: dict[str, Any]
    group: str

    @classmethod
    def of(cls, arm: Arm) -> Entry:
        start = json.loads(json.dumps(arm.start))
        digest = hashlib.sha256(json.dumps(start, sort_keys=True).encode()).hexdigest()
        return cls(arm, start, f"start-{digest[:16]}")


@dataclass(frozen=True)
class General:
    """Recordings of all kinds of speakers, which nobody adapts to.

    Attributes:
        sha256: `sources.list_sha256`.
    """

    corpus: Corpus
    sha256: str


@dataclass(frozen=True)
class Job:
    """A task with all it needs, on this machine or another.

    Attributes:
        identity: what the result depends on; a result of another identity is another result.
        folder: of the benchmark.
        lists: of the speaker; None for the general list alone.
        general: None: not measured.
    """

    task: Task
    identity: dict[str, Any]
    arm: Arm
    folder: Path
    lists: SpeakerLists | None
    general: General | None


@dataclass(frozen=True)
class Failure:
    """A task that could not be done, as a person is told."""

    message: str
    hint: str | None = None


def tasks_of(
    entries: Sequence[Entry], speakers: Sequence[str], splits: Sequence[Size], seeds: Sequence[int], *, general: bool
) -> dict[Task, Entry]:
    """All tasks, each once: every start before adaptation, then small splits first, so that a report comes early."""
    found: dict[Task, Entry] = {}
    for entry in entries:
        for speaker in (*([None] if general else []), *speakers):
            found.setdefault(Task(entry.group, speaker, None, None), entry)
    for size in splits:
        for seed in seeds:
            for speaker in speakers:
                for entry in entries:
                    if entry.arm.tuned_parameters:
                        found[Task(entry.arm.name, speaker, str(size), seed)] = entry
    return found


def job_of(task: Task, entry: Entry, benchmark: LibriContinual, general: General | None) -> Job:
    """What a task needs; its lists are read when it is done."""
    arm = entry.arm
    identity: dict[str, Any] = {"schema": SCHEMA, "edgekit": edgekit.__version__, "start": entry.start}
    lists = None if task.speaker is None else benchmark.speakers[task.speaker]
    if lists is not None:
        identity["test"] = lists.test.sha256
        if task.split is not None:
            identity |= {"train": _train(lists, task.split).sha256, "validation": lists.validation.sha256}
            # as it is read back
            identity["settings"] = json.loads(json.dumps(arm.settings))
            identity |= {"tuned_parameters": arm.tuned_parameters, "seed": task.seed}
    # before anything was adapted, the general list is scored once and not for each speaker
    if task.split is None and task.speaker is not None:
        general = None
    if general is not None:
        identity["general"] = general.sha256
    return Job(task, identity, arm, benchmark.folder.absolute(), lists, general)


def measure(job: Job, num_threads: int) -> dict[str, Any] | Failure:
    """Do a task in this process.

    Returns:
        The result as its file holds it: `identity`, `task`, `test` and `general` (`num_errors`, `num_words`,
        `num_recordings`, `num_skipped`, or None), `cost`, `details`, `num_threads`.
    """
    try:
        data = _data(job)
        test = None if job.lists is None else read_list(job.folder, job.lists.test)
        if data is not None and job.general is not None:
            _check_apart(data, job.general)
        outcome = job.arm.run(data, num_threads=num_threads)
        return {
            "identity": job.identity,
            "task": asdict(job.task),
            "test": None if test is None else _score(outcome, test),
            "general": None if job.general is None else _score(outcome, job.general.corpus),
            "cost": None if outcome.cost is None else asdict(outcome.cost),
            "details": outcome.details,
            "num_threads": num_threads,
        }
    except EdgekitError as error:
        return Failure(f"{job.task}: {error.message}", error.hint)
    except MemoryError:
        return Failure(f"{job.task}: out of memory", "give it more memory, or fewer --workers")


def _data(job: Job) -> SpeakerData | None:
    task, lists = job.task, job.lists
    if lists is None or task.split is None or task.seed is None:
        return None
    train, validation = (read_list(job.folder, part) for part in (_train(lists, task.split), lists.validation))
    return SpeakerData(lists.speaker, task.split, train, validation, task.seed)


def _check_apart(data: SpeakerData, general: General) -> None:
    """Raise UsageError where recordings of the general list are learned: what is forgotten would seem less."""
    learned = {os.path.realpath(each.audio) for part in (data.train, data.validation) for each in part.utterances}
    shared = sum(os.path.realpath(each.audio) in learned for each in general.corpus.utterances)
    if shared:
        raise UsageError(
            f"expected a general list of other recordings, {shared} of it are learned here",
            hint="give a --general of other speakers",
        )


def _train(lists: SpeakerLists, split: str) -> List:
    return next(part for size, part in lists.splits.items() if str(size) == split)


def _score(outcome: Outcome, corpus: Corpus) -> dict[str, int]:
    answers = list(_answers(outcome, corpus))
    if not any(answer.reference.split() for answer in answers):
        raise AudioError(f"expected a recording with words that can be used, received none of {len(corpus.utterances)}")
    errors = count_word_errors(answers, num_worst=0)
    return {
        "num_errors": errors.substitutions + errors.deletions + errors.insertions,
        "num_words": errors.num_words,
        "num_recordings": len(answers),
        "num_skipped": len(corpus.utterances) - len(answers),
    }


def _answers(outcome: Outcome, corpus: Corpus) -> Iterator[Answer]:
    for utterance in corpus.utterances:
        try:
            heard = outcome.transcribe(utterance.audio)
        except AudioError:
            continue  # counted as skipped
        yield Answer(utterance.id, utterance.text or "", heard, utterance.speaker)
