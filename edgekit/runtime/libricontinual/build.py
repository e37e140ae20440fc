"""Build a benchmark: read corpora, choose speakers, divide their recordings, and say what would fit if nothing does."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.core.errors import DataError, UsageError, unknown
from edgekit.runtime.libricontinual.books import Recording
from edgekit.runtime.libricontinual.divide import Division, divide
from edgekit.runtime.libricontinual.manifest import LibriContinual, read_benchmark
from edgekit.runtime.libricontinual.plan import Plan
from edgekit.runtime.libricontinual.sizes import Size, Sizes, parse_splits
from edgekit.runtime.libricontinual.sources import Sources, read_sources
from edgekit.runtime.libricontinual.speakers import choose
from edgekit.runtime.libricontinual.write import write

# what is proposed where a corpus holds too little; validation is a quarter of the longest, test the half
_LADDERS = (
    *("10m,30m,1h,2h,5h,10h", "10m,30m,1h,2h,5h", "10m,30m,1h,2h", "10m,30m,1h"),
    *("2m,5m,10m,30m", "2m,5m,10m,20m", "1m,2m,5m,10m", "30s,1m,2m,4m", "15s,30s,1m,2m", "10s,20s,40s"),
)
_MAX_HELD_OUT_S = 3600


def build(
    corpora: Sequence[Path],
    out: Path,
    plan: Plan,
    *,
    report: Callable[[int, int], None] | None = None,
) -> LibriContinual:
    """Build a benchmark in the folder `out`; the recordings stay where they are.

    The lists are JSON lines that `read_corpus` reads. The same corpora and plan make the same manifest anywhere.

    Args:
        corpora: what `read_corpus` reads.
        out: no folder yet, an empty one, or one that holds this very benchmark.
        report: called with the number of recordings measured and their total, for each corpus in turn.

    Raises:
        DataError: a corpus cannot be read or holds too little; the hint is a command that it holds enough for.
        UsageError: a speaker's name that no corpus has, or `out` holds something else.
        EdgekitError: `out` cannot be written.
    """
    if not corpora:
        raise UsageError("expected a corpus, received none", hint="edgekit data libricontinual LIBRISPEECH --out DIR")
    sources = read_sources(corpora, report=report)
    divisions = _chosen(sources, plan, corpora)
    write(out.resolve(), sources, plan, divisions)
    return read_benchmark(out)


def _chosen(sources: Sources, plan: Plan, corpora: Sequence[Path]) -> dict[str, Division]:
    """The divisions of the speakers that take part, by ascending name."""
    allowed = {name: found for name, found in sources.speakers.items() if name not in plan.excluded}
    if isinstance(plan.speakers, tuple):
        for name in plan.speakers:
            if name in plan.excluded:
                raise UsageError(f"expected speaker {name} to be wanted or excluded, received both")
            if name not in allowed:
                raise unknown("speaker", name, allowed)
        allowed = {name: allowed[name] for name in sorted(plan.speakers)}
    divisions = _divided(allowed, plan)
    try:
        names = _names(divisions, sources, plan)
    except DataError as error:
        if len(divisions) >= plan.num_speakers:
            raise  # enough speakers, but not of both genders
        held = sorted((_seconds(found) for found in allowed.values()), reverse=True)
        told = held and f"of {len(held)} speakers, the most: {_minutes(held[0])}, the least: {_minutes(held[-1])}"
        raise DataError(
            f"expected {_described(plan)} with {plan.sizes.total} each ({plan.sizes}), "
            f"received {len(divisions)} who hold that ({told or 'all are excluded'})",
            hint=_proposal(allowed, sources, plan, corpora),
        ) from error
    return {name: divisions[name] for name in names}


def _divided(speakers: Mapping[str, Sequence[Recording]], plan: Plan) -> dict[str, Division]:
    found = {name: divide(recordings, plan.sizes, plan.seed, plan.way) for name, recordings in speakers.items()}
    return {name: division for name, division in found.items() if division is not None}


def _names(divisions: Mapping[str, Division], sources: Sources, plan: Plan) -> list[str]:
    count = plan.num_speakers
    return choose(divisions, sources.genders, count, plan.seed, balanced=plan.balances(sources.genders))


def _described(plan: Plan) -> str:
    count = plan.num_speakers
    if isinstance(plan.speakers, tuple):
        return f"speaker{'s' * (count > 1)} {', '.join(plan.speakers)}"
    return f"{count} speaker{'s' * (count > 1)}"


def _proposal(
    speakers: Mapping[str, Sequence[Recording]], sources: Sources, plan: Plan, corpora: Sequence[Path]
) -> str:
    """The command that most of the speakers hold enough for, with the longest lists."""
    best: tuple[Plan, list[str]] | None = None
    for text in _LADDERS:
        splits = parse_splits(text)
        validation, test = (Size(min(_MAX_HELD_OUT_S, splits[-1].seconds // part)) for part in (4, 2))
        smaller = replace(plan, sizes=Sizes(splits, validation, test))
        names = sorted(_divided(speakers, smaller))
        if len(names) > (0 if best is None else len(best[1])):
            best = smaller, names
        if len(names) >= plan.num_speakers:
            break
    if best is None:
        return "give a corpus with more recordings of one speaker"
    proposed, names = best
    wanted = min(plan.num_speakers, len(names))
    command = ["edgekit", "data", "libricontinual", *map(str, corpora)]
    # a comma makes a number a name
    told = str(wanted) if isinstance(plan.speakers, int) else ",".join(names) + "," * (wanted == 1)
    sizes = proposed.sizes
    command += ["--speakers", told, "--splits", ",".join(map(str, sizes.splits))]
    command += ["--validation", str(sizes.validation), "--test", str(sizes.test)]
    if plan.way != "books":
        command += ["--divide", plan.way]
    if plan.excluded:
        command += ["--exclude-speakers", "..."]
    try:
        divisions = _divided({name: speakers[name] for name in names}, proposed)
        choose(divisions, sources.genders, wanted, plan.seed, balanced=plan.balances(sources.genders))
    except DataError:
        command.append("--no-gender-balanced")
    return shlex.join(command)


def _seconds(recordings: Sequence[Recording]) -> float:
    return sum(recording.ms for recording in recordings) / 1000


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
