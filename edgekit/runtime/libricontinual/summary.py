"""All results of a run as one set of figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.runtime.libricontinual.manifest import LibriContinual
from edgekit.runtime.libricontinual.results import Results
from edgekit.runtime.libricontinual.sizes import Size
from edgekit.runtime.libricontinual.statistics import Estimate, difference, estimate, verdict
from edgekit.runtime.libricontinual.tasks import Entry, Job, Task

Rates = dict[str, float]
"""A word error rate by speaker."""


@dataclass(frozen=True)
class SplitFigures:
    """One arm at one split, over the speakers that are done.

    Attributes:
        minutes: of speech to train on, mean over speakers.
        wer: on the speakers' tests, after adaptation.
        gain: their error rate before minus after; positive is better.
        general_wer: of the general list, after adaptation; None where none was given.
        forgetting: that minus the same before; positive is worse.
        seconds, cpu_seconds, peak_memory_mib, joules: median over speakers; None where nobody told.
        rates: `wer` by speaker, the mean over seeds.
    """

    minutes: float
    wer: Estimate
    gain: Estimate | None
    general_wer: Estimate | None
    forgetting: Estimate | None
    seconds: float | None
    cpu_seconds: float | None
    peak_memory_mib: float | None
    joules: float | None
    rates: Rates


@dataclass(frozen=True)
class ArmFigures:
    """One arm.

    Attributes:
        start_wer: on the speakers' tests before adaptation, which is all that an arm that tunes nothing has.
        start_general_wer: of the general list before adaptation, a fraction.
        start_rates: `start_wer` by speaker.
        splits: by size, ascending; those that are done for nobody are missing.
    """

    name: str
    tuned_parameters: int
    start_wer: Estimate | None
    start_general_wer: float | None
    start_rates: Rates
    splits: dict[Size, SplitFigures]


@dataclass(frozen=True)
class Difference:
    """Two arms at one split: the error rate of `a` minus that of `b`, over the speakers that have both."""

    split: Size
    a: str
    b: str
    wer: Estimate
    verdict: str


@dataclass(frozen=True)
class Summary:
    """What a run has shown.

    Attributes:
        num_done, num_tasks: tasks with a result, and all.
        num_skipped: recordings that no arm could use, counted once for each result.
        num_left_out: recordings of train and validation lists that were not learned, being too long; so, too.
    """

    arms: tuple[ArmFigures, ...]
    differences: tuple[Difference, ...]
    num_done: int
    num_tasks: int
    num_skipped: int
    num_left_out: int

    def to_json(self) -> dict[str, Any]:
        """Plain data; splits by their text."""
        return {
            "arms": {arm.name: _arm_to_json(arm) for arm in self.arms},
            "differences": [
                {"split": str(d.split), "a": d.a, "b": d.b, "wer": d.wer.to_json(), "verdict": d.verdict}
                for d in self.differences
            ],
            "num_done": self.num_done,
            "num_tasks": self.num_tasks,
            "num_skipped": self.num_skipped,
            "num_left_out": self.num_left_out,
        }


def summarise(
    results: Results,
    benchmark: LibriContinual,
    entries: Sequence[Entry],
    jobs: Sequence[Job],
    speakers: Sequence[str],
    splits: Sequence[Size],
    seeds: Sequence[int],
) -> Summary:
    """Read what is done and count.

    A speaker counts at a split when all seeds are done. A result of something else than its job says is none: it was to
    be measured again, and that has failed.
    """
    read = ((job, results.read(job.task)) for job in jobs)
    found = {job.task: result for job, result in read if result is not None and result["identity"] == job.identity}
    figures = tuple(_arm(entry, found, benchmark, speakers, splits, seeds) for entry in entries)
    return Summary(
        figures,
        tuple(_differences(figures, splits)),
        len(found),
        len(jobs),
        sum(part["num_skipped"] for result in found.values() for part in (result["test"], result["general"]) if part),
        sum(result["details"].get("num_left_out", 0) for result in found.values()),
    )


def _arm(
    entry: Entry,
    found: Mapping[Task, dict[str, Any]],
    benchmark: LibriContinual,
    speakers: Sequence[str],
    splits: Sequence[Size],
    seeds: Sequence[int],
) -> ArmFigures:
    arm, group = entry.arm, entry.group
    start = {name: found.get(Task(group, name, None, None)) for name in speakers}
    rates = {name: _rate(result["test"]) for name, result in start.items() if result}
    general = found.get(Task(group, None, None, None))
    before = None if general is None else _rate(general["general"])
    made: dict[Size, SplitFigures] = {}
    for size in splits if arm.tuned_parameters else ():
        wanted = {name: [Task(arm.name, name, str(size), seed) for seed in seeds] for name in speakers}
        done = {name: [found[t] for t in of] for name, of in wanted.items() if all(task in found for task in of)}
        if done:
            lists = [benchmark.speakers[name].splits[size] for name in done]
            made[size] = _split(done, rates, before, float(np.mean([part.seconds for part in lists])) / 60)
    return ArmFigures(arm.name, arm.tuned_parameters, estimate(rates), before, rates, made)


def _split(
    done: Mapping[str, list[dict[str, Any]]], before: Rates, general_before: float | None, minutes: float
) -> SplitFigures:
    rates = {name: float(np.mean([_rate(each["test"]) for each in results])) for name, results in done.items()}
    general = {
        name: float(np.mean([_rate(each["general"]) for each in results]))
        for name, results in done.items()
        if all(each["general"] for each in results)
    }
    wer = estimate(rates)
    assert wer is not None
    forgotten = {} if general_before is None else {name: rate - general_before for name, rate in general.items()}
    costs = {
        name: [each["cost"][name] for results in done.values() for each in results if each["cost"] is not None]
        for name in ("seconds", "cpu_seconds", "peak_memory_mib", "joules")
    }
    return SplitFigures(
        minutes=minutes,
        wer=wer,
        gain=difference(before, rates),
        general_wer=estimate(general),
        forgetting=estimate(forgotten),
        rates=rates,
        **{name: _median(values) for name, values in costs.items()},
    )


def _differences(arms: Sequence[ArmFigures], splits: Sequence[Size]) -> Iterator[Difference]:
    """Of all pairs at each split; an arm that tunes nothing is the same at every one."""
    for size in splits:
        for a, b in itertools.combinations(arms, 2):
            found = difference(_rates_at(a, size), _rates_at(b, size))
            # two arms that tune nothing differ by the same everywhere
            if found is not None and (a.tuned_parameters or b.tuned_parameters or size == splits[0]):
                yield Difference(size, a.name, b.name, found, verdict(a.name, b.name, found))


def _rates_at(arm: ArmFigures, size: Size) -> Rates:
    if not arm.tuned_parameters:
        return arm.start_rates
    return arm.splits[size].rates if size in arm.splits else {}


def _rate(counts: Mapping[str, int]) -> float:
    return counts["num_errors"] / counts["num_words"]


def _median(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return float(np.median(told)) if told else None


def _arm_to_json(arm: ArmFigures) -> dict[str, Any]:
    return {
        "tuned_parameters": arm.tuned_parameters,
        "start_wer": arm.start_wer and arm.start_wer.to_json(),
        "start_general_wer": arm.start_general_wer,
        "start_speakers": arm.start_rates,
        "splits": {
            str(size): {
                "minutes": split.minutes,
                **{
                    name: value and value.to_json()
                    for name in ("wer", "gain", "general_wer", "forgetting")
                    for value in (getattr(split, name),)
                },
                **{name: getattr(split, name) for name in ("seconds", "cpu_seconds", "peak_memory_mib", "joules")},
                "speakers": split.rates,
            }
            for size, split in arm.splits.items()
        },
    }
