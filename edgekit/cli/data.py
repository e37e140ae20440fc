"""`edgekit data`: what benchmarks are run on, built from corpora that a person has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.options import Json
from edgekit.cli.output import log, print_json, table

if TYPE_CHECKING:
    from edgekit.runtime.libricontinual.manifest import LibriContinual

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@data.callback()
def _root() -> None:
    """Build the data of a benchmark."""


@data.command("libricontinual")
def libricontinual(
    corpora: Annotated[
        list[Path],
        typer.Argument(metavar="CORPUS...", help="MLS English, LibriSpeech, LJSpeech, or a .jsonl file with speakers."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to build.")] = Path("libricontinual"),
    speakers: Annotated[str, typer.Option(help='How many, or names as 61,121; "61," is one name.')] = "118",
    splits: Annotated[str, typer.Option(help="Sizes of the nested train lists.")] = "10m,30m,1h,2h,5h,10h",
    validation: Annotated[str, typer.Option(help="Size of each speaker's validation list.")] = "1h",
    test: Annotated[str, typer.Option(help="Size of each speaker's test list.")] = "1h",
    seed: Annotated[int, typer.Option(help="Of the choice of speakers and recordings.")] = 0,
    gender_balanced: Annotated[
        bool, typer.Option("--gender-balanced/--no-gender-balanced", help="As many women as men, where known.")
    ] = True,
    exclude_speakers: Annotated[
        str, typer.Option(metavar="FILE|NAMES", help="Speakers a model was trained on: SPEAKERS.TXT, or as 14,16.")
    ] = "",
    divide: Annotated[
        str, typer.Option(help="books: no book in train and test. halves: test is of the second half by id.")
    ] = "books",
    json: Json = False,
) -> None:
    """Build LibriContinual-like lists: per speaker nested train lists, validation and test, with a manifest."""
    from edgekit.core.errors import unknown
    from edgekit.runtime.libricontinual.build import build
    from edgekit.runtime.libricontinual.plan import Plan
    from edgekit.runtime.libricontinual.sizes import Sizes, parse_size, parse_splits
    from edgekit.runtime.libricontinual.speakers import parse_speakers, read_names

    if divide not in ("books", "halves"):
        raise unknown("way to divide", divide, ("books", "halves"))
    plan = Plan(
        sizes=Sizes(parse_splits(splits), parse_size(validation), parse_size(test)),
        speakers=parse_speakers(speakers),
        excluded=read_names(exclude_speakers) if exclude_speakers else frozenset(),
        seed=seed,
        balanced=gender_balanced,
        way="halves" if divide == "halves" else "books",
    )
    with _progress_bar() as report:
        built = build(corpora, out, plan, report=report)
    if json:
        print_json(built.data)
        return
    _print(built)


def _print(built: LibriContinual) -> None:
    """What was built, for a person."""
    first = next(iter(built.speakers.values()))
    rows = []
    for name, chosen in (
        *((f"train {size}", [s.splits[size] for s in built.speakers.values()]) for size in first.splits),
        ("validation", [s.validation for s in built.speakers.values()]),
        ("test", [s.test for s in built.speakers.values()]),
    ):
        seconds = sorted(each.seconds for each in chosen)
        spread = f"{seconds[0] / 60:.2f} to {seconds[-1] / 60:.2f}"
        rows.append((name, sum(each.num_recordings for each in chosen), f"{sum(seconds) / 3600:.2f}", spread))
    table(("list", "recordings", "hours", "minutes of a speaker"), rows, right=(1, 2, 3))
    told = built.data["speakers"].values()
    genders = Counter(speaker["gender"] or "of unknown gender" for speaker in told)
    typer.echo(f"speakers: {len(built.speakers)} ({', '.join(f'{genders[g]} {g}' for g in sorted(genders))})")
    apart = Counter(speaker["disjoint"] or "recording" for speaker in told)
    for unit, count in sorted(apart.items()):
        typer.echo(f"speakers whose train and test share no {unit}: {count}")
    typer.echo(f"{built.folder / 'manifest.json'}: sha256 {built.sha256}")
    if shared := apart["chapter"] + apart["recording"]:
        log(f"warning: one book may be in train and test, of so many speakers: {shared}; the manifest names them")


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Gives `report(done, total)`: a bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
