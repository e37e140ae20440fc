"""`edgekit benchmark libricontinual`: arms adapt to speakers, what is done stays done, and figures come of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.core.errors import DataError, EdgekitError, StoreError, UsageError, unknown
from edgekit.core.files import locked
from edgekit.core.record import check_name
from edgekit.devices.probe import probe_machine
from edgekit.runtime.corpus import read_corpus
from edgekit.runtime.libricontinual.arms import Arm
from edgekit.runtime.libricontinual.cluster import load_ray, run_on_cluster
from edgekit.runtime.libricontinual.manifest import LibriContinual, read_benchmark
from edgekit.runtime.libricontinual.processes import Finished, run_in_processes
from edgekit.runtime.libricontinual.results import Results
from edgekit.runtime.libricontinual.sizes import Size
from edgekit.runtime.libricontinual.sources import list_sha256
from edgekit.runtime.libricontinual.speakers import Wanted
from edgekit.runtime.libricontinual.summary import Summary, summarise
from edgekit.runtime.libricontinual.tasks import Entry, Failure, General, Job, job_of, tasks_of
from edgekit.runtime.word_errors import load_jiwer

TASKS = "tasks"

Report = Callable[[int, int, str], None]
"""Called at the start and when a task has ended: how many are done, of how many, and which."""


@dataclass(frozen=True)
class Options:
    """How a run is done.

    Attributes:
        splits: None: all of the benchmark.
        speakers: so many, the first by name, or which; None: all.
        general: what `read_corpus` reads, for what is forgotten; None: not measured.
        seeds: of the arms; an arm is run with each.
        num_workers: processes side by side on this machine.
        num_threads: of each task; None: the processors of this machine shared by its workers, one in a cluster.
        ray: address of a Ray cluster; None: this machine alone.
        redo: measure again what is there of another bundle, other data or another version.
    """

    splits: tuple[Size, ...] | None = None
    speakers: Wanted | None = None
    general: Path | None = None
    seeds: tuple[int, ...] = (0,)
    num_workers: int = 1
    num_threads: int | None = None
    ray: str | None = None
    redo: bool = False


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Attributes:
        context: what the figures belong to: `command`, `date` (UTC), `machine`, `load_before`, `versions`, `data`,
            `general`, `run`, `starts`.
        failures: tasks that could not be done; the same command tries them again.
    """

    context: dict[str, Any]
    summary: Summary
    failures: tuple[Failure, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        told = [asdict(failure) for failure in self.failures]
        return {"benchmark": "libricontinual", **self.context, **self.summary.to_json(), "failures": told}


def run_benchmark(
    data: Path | str,
    arms: Sequence[Arm],
    out: Path,
    options: Options | None = None,
    *,
    command: str = "",
    report: Report = lambda done, total, task: None,
) -> Run:
    """Measure what is not there yet, and sum all up.

    Args:
        data: the folder that `edgekit data libricontinual` built.
        arms: with names that differ.
        out: for results; `tasks` in it has one file for each task. What it holds already is kept.
        command: what made the figures, for their record.

    Raises:
        DataError: no such data, or recordings that are missing.
        UsageError: unknown speakers or splits, arms of one name, or results of something else in `out`.
        UnavailableError: jiwer or Ray is not installed, or no cluster is there.
        EdgekitError: not one task could be done, or `out` cannot be written.
    """
    options = options or Options()
    load_before = [round(average, 2) for average in os.getloadavg()]
    load_jiwer()  # what is missing is said before the work, not after it
    if options.ray is not None:
        load_ray()
    _check_arms(arms)
    benchmark = read_benchmark(data)
    speakers, splits = _speakers(benchmark, options.speakers), _splits(benchmark, options.splits)
    general = None if options.general is None else _general(options.general)
    entries = [Entry.of(arm) for arm in arms]
    tasks = tasks_of(entries, speakers, splits, options.seeds, general=general is not None)
    jobs = [job_of(task, entry, benchmark, general) for task, entry in tasks.items()]
    results = Results(out / TASKS)
    num_threads = options.num_threads or (1 if options.ray else max(1, probe_machine().num_cpus // options.num_workers))
    with locked(out / ".lock", timeout_s=5):
        left = results.missing(jobs, redo=options.redo)
        with closing(_finished(left, options, num_threads)) as finished:
            failures = _run(len(jobs) - len(left), len(jobs), finished, results, report)
    summary = summarise(results, benchmark, entries, jobs, speakers, splits, options.seeds)
    machine = probe_machine()
    context = {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {**asdict(machine), "system": machine.system.split("-")[0]},
        "load_before": load_before,
        "versions": {"edgekit": edgekit.__version__, "numpy": np.__version__, "jiwer": metadata.version("jiwer")},
        "data": {
            "path": str(data),
            "name": benchmark.data["name"],
            "sha256": benchmark.sha256,
            "speakers": list(speakers),
            "splits": [str(size) for size in splits],
        },
        "general": general and _described(general, options),
        "run": {
            "seeds": list(options.seeds),
            "num_workers": None if options.ray else options.num_workers,
            "num_threads": num_threads,
            "ray": options.ray is not None,
        },
        "starts": {entry.arm.name: entry.start for entry in entries},
        "settings": {arm.name: arm.settings for arm in arms},
    }
    return Run(context, summary, failures)


def _finished(jobs: Sequence[Job], options: Options, num_threads: int) -> Generator[Finished, None, None]:
    if jobs and options.ray is not None:
        yield from run_on_cluster(jobs, address=options.ray, num_threads=num_threads)
    elif jobs:
        yield from run_in_processes(jobs, num_workers=options.num_workers, num_threads=num_threads)


def _run(
    num_done: int, num_tasks: int, finished: Iterable[Finished], results: Results, report: Report
) -> tuple[Failure, ...]:
    """Keep each result as it comes. Where the first to end has failed and none is done, all would: nothing more is."""
    failures: list[Failure] = []
    report(num_done, num_tasks, "")
    for job, found in finished:
        if isinstance(found, Failure):
            failures.append(found)
            if not num_done:
                raise EdgekitError(found.message, hint=found.hint)
        else:
            results.write(job.task, found)
            num_done += 1
        report(num_done, num_tasks, str(job.task))
    return tuple(failures)


def _check_arms(arms: Sequence[Arm]) -> None:
    if not arms:
        raise UsageError("expected an arm, received none", hint="none is the bundle as it is: --arms none")
    names = [arm.name for arm in arms]
    if len({name.casefold() for name in names}) < len(names):
        raise UsageError(f"expected arms with names that differ, received {', '.join(names)}")
    for name in names:
        try:
            check_name(name)
        except StoreError as error:
            raise UsageError(f"an arm's name becomes a folder: {error.message}", hint=error.hint) from error


def _speakers(benchmark: LibriContinual, wanted: Wanted | None) -> list[str]:
    held = list(benchmark.speakers)
    if isinstance(wanted, int):
        if wanted > len(held):
            raise UsageError(f"expected {len(held)} speakers or fewer in {benchmark.folder}, received {wanted}")
        return held[:wanted]
    for name in wanted or ():
        if name not in held:
            raise unknown("speaker", name, held)
    return sorted(wanted or held)


def _splits(benchmark: LibriContinual, wanted: Sequence[Size] | None) -> list[Size]:
    """Those that all speakers have."""
    held = sorted(set.intersection(*(set(lists.splits) for lists in benchmark.speakers.values())))
    for size in wanted or ():
        if size not in held:
            raise unknown("split", str(size), map(str, held))
    return sorted(wanted or held)


def _general(path: Path) -> General:
    corpus = read_corpus(path).with_text()
    if not corpus.utterances:
        raise DataError(f"expected recordings with words in {path}, received none", hint="give another --general")
    return General(corpus, list_sha256((u.id, u.duration_s, u.text) for u in corpus.utterances))


def _described(general: General, options: Options) -> dict[str, Any]:
    seconds = round(general.corpus.duration_s, 1)
    num_recordings = len(general.corpus.utterances)
    return {
        "path": str(options.general),
        "sha256": general.sha256,
        "num_recordings": num_recordings,
        "num_skipped": len(general.corpus.skipped),
        "seconds": seconds,
    }
