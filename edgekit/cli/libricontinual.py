"""`edgekit benchmark libricontinual`: how well arms learn a voice, what they forget by that, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.options import BundlePath, Json
from edgekit.cli.output import log, print_json, table

if TYPE_CHECKING:
    from edgekit.runtime.libricontinual.arms import Arm
    from edgekit.runtime.libricontinual.benchmark import Report, Run
    from edgekit.runtime.libricontinual.statistics import Estimate

_EVERY_S = 30.0
_ARMS = {
    "untuned": "edgekit.runtime.libricontinual.personal:Untuned",
    "disentangled": "edgekit.runtime.libricontinual.personal:Disentangled",
}
"""What makes an arm beside `none`, called with its name, the bundle, and `allow_random_weights`."""

_LEARNING = ("disentangled",)
"""Those of them that learn, and are also called with the rates to try."""

_OF_CHECKPOINTS = {
    "full": "edgekit.train.libricontinual.arms:Full",
    "lora": "edgekit.train.libricontinual.arms:Lora",
    "matched": "edgekit.train.libricontinual.arms:Matched",
}
"""What makes an arm that tunes a checkpoint in torch, called with its name, the bundle, the checkpoint or None, and
the rates to try."""


def libricontinual(
    bundle: BundlePath,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The folder of `edgekit data libricontinual`.")],
    arms: Annotated[
        str,
        typer.Option(
            help="What is compared, as a,b: none (the bundle as it is), untuned (a trained augment net as it is), "
            "disentangled (one that learns each speaker); with torch full (all weights of the core), lora (LoRA of as "
            "many values as an augment net), matched (as many of a random slice of the feed-forward units), each of "
            "the built-in weights, or full=CHECKPOINT and so on; any other NAME=BUNDLE is another bundle as it is."
        ),
    ] = "none",
    rates: Annotated[
        str,
        typer.Option(help="Learning rates that each arm tries; that with the lowest validation loss is kept."),
    ] = "1e-4,3e-4,1e-3",
    splits: Annotated[str | None, typer.Option(help="Sizes of train lists, as 10m,1h; default: all of DATA.")] = None,
    speakers: Annotated[str | None, typer.Option(help="How many, or names as 61,121; default: all of DATA.")] = None,
    general: Annotated[
        Path | None, typer.Option(metavar="LIST", help="Recordings with transcripts, to measure what is forgotten.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each arm adapts to each list.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Tasks side by side on this machine.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each task; default: the processors shared by the workers.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on a Ray cluster: auto, or HOST:PORT.")
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Measure again what --out holds of something else.")] = False,
    allow_random_weights: Annotated[
        bool, typer.Option("--allow-random-weights", help="Measure although the error rates mean nothing.")
    ] = False,
    out: Annotated[Path, typer.Option(help="For results; the same command goes on with them.")] = Path(
        "libricontinual-results"
    ),
    json: Json = False,
) -> None:
    """Adapt to speakers: error rate over minutes of speech, what is forgotten, what it costs; an HTML report."""
    import shlex
    import sys

    from edgekit.core.errors import EdgekitError
    from edgekit.runtime.libricontinual.benchmark import Options, run_benchmark
    from edgekit.runtime.libricontinual.report import check_drawing, write_report
    from edgekit.runtime.libricontinual.sizes import parse_splits
    from edgekit.runtime.libricontinual.speakers import parse_speakers

    check_drawing()  # what is missing is said before the work, not after it
    options = Options(
        splits=None if splits is None else parse_splits(splits),
        speakers=None if speakers is None else parse_speakers(speakers),
        general=general,
        seeds=tuple(range(seeds)),
        num_workers=workers,
        num_threads=threads,
        ray=ray,
        redo=redo,
    )
    tried = _rates(rates)
    chosen = [_arm(name.strip(), bundle, allow_random_weights, tried) for name in arms.split(",")]
    command = shlex.join(["edgekit", *sys.argv[1:]])
    again = f"what is done is kept; to go on, give the same command ({out})"
    try:
        with _progress() as report:
            run = run_benchmark(data, chosen, out, options, command=command, report=report)
    except KeyboardInterrupt:
        log(f"stopped; {again}")
        raise SystemExit(130) from None
    written = write_report(run, out)
    if json:
        print_json(run.to_json())
    else:
        _print_run(run)
        typer.echo(f"{written}")
    if run.failures:
        first = run.failures[0]
        told = f"{len(run.failures)} failed; the first: {first.message}"
        raise EdgekitError(f"expected {run.summary.num_tasks} tasks to be done, {told}", hint=first.hint or again)


def _rates(spelled: str) -> tuple[float, ...]:
    from edgekit.core.errors import UsageError

    try:
        found = tuple(float(rate) for rate in spelled.split(","))
    except ValueError as error:
        raise UsageError(f"expected learning rates as 1e-4,1e-3, received {spelled!r}") from error
    if not all(0 < rate <= 1 for rate in found):
        raise UsageError(f"expected learning rates above 0 and at most 1, received {spelled!r}")
    return found


def _arm(spelled: str, bundle: Path, allow_random_weights: bool, rates: tuple[float, ...]) -> Arm:
    """The arm of one item of `--arms`. What stands after `=` is a checkpoint for arms that tune one, else a bundle."""
    from edgekit.core.errors import unknown
    from edgekit.runtime.libricontinual.arms import AsItIs

    name, equals, other = spelled.partition("=")
    made: Arm
    if name in _OF_CHECKPOINTS:
        made = _imported(_OF_CHECKPOINTS[name])(name, bundle, checkpoint=other if equals else None, rates=rates)
    elif equals:
        made = AsItIs(name, Path(other), allow_random_weights=allow_random_weights)
    elif name == "none":
        made = AsItIs(name, bundle, allow_random_weights=allow_random_weights)
    elif name in _ARMS:
        more = {"rates": rates} if name in _LEARNING else {}
        made = _imported(_ARMS[name])(name, bundle, allow_random_weights=allow_random_weights, **more)
    else:
        raise unknown("name of an arm", name, ("none", *_ARMS, *_OF_CHECKPOINTS))
    return made


def _imported(place: str) -> Any:
    import importlib

    module, _, made_by = place.partition(":")
    return getattr(importlib.import_module(module), made_by)


def _print_run(run: Run) -> None:
    """The error rates for a person; the rest is in the report."""
    arms = run.summary.arms
    sizes = sorted({size for arm in arms for size in arm.splits})
    most = max((arm.start_wer.num_speakers for arm in arms if arm.start_wer is not None), default=0)
    rows = [
        [
            arm.name,
            f"{arm.tuned_parameters:,}",
            _rate(arm.start_wer),
            *(_rate(arm.splits[size].wer) if size in arm.splits else "-" for size in sizes),
        ]
        for arm in arms
    ]
    table(("WER, %", "tuned", "before", *map(str, sizes)), rows, right=range(1, 3 + len(sizes)))
    for arm in arms:
        for size, split in arm.splits.items():
            if split.wer.num_speakers != most:  # its rate is of others than those beside it
                told = f"{split.wer.num_speakers} of {most} speakers, who gain {_rate(split.gain)} points"
                typer.echo(f"{arm.name} {size}: {told}")
            if split.forgetting is not None:
                typer.echo(f"{arm.name} {size}: forgetting {_rate(split.forgetting)} points, gain {_rate(split.gain)}")
    for each in run.summary.differences:
        typer.echo(f"{each.split}, {each.a} - {each.b}: {_rate(each.wer)} points, {each.verdict}")


def _rate(found: Estimate | None) -> str:
    if found is None:
        return "-"
    if found.interval is None:
        return f"{100 * found.mean:.2f}"
    low, high = (100 * end for end in found.interval)
    return f"{100 * found.mean:.2f} ({low:.2f} to {high:.2f})"


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar on a terminal, a line every half minute elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console, told_s = Console(stderr=True), time.monotonic()

    def tell(done: int, total: int, task: str) -> None:
        nonlocal told_s
        bar.update(row, total=total, completed=done, description=task or "adapting")
        if not console.is_terminal and time.monotonic() - told_s > _EVERY_S:
            told_s = time.monotonic()
            log(f"{done} of {total} tasks, the last: {task}")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        row = bar.add_task("adapting", total=None)
        yield tell
