"""What commands print: tables, JSON, progress. Data go to standard output, the rest to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import typer


def print_json(data: Any) -> None:
    """JSON to standard output."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def log(text: str) -> None:
    """A line for a person, to standard error. That nobody reads it (`2>&1 | head`) stops no work."""
    try:
        typer.echo(text, err=True)
    except BrokenPipeError:
        discard(sys.stderr)


def shown(text: str, keep: str = "") -> str:
    """Without what would end a field or a line, or command a terminal; but for the letters of `keep`."""
    return "".join(letter if letter.isprintable() or letter in keep else ascii(letter)[1:-1] for letter in text)


def discard(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, nowhere: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = (), err: bool = False
) -> None:
    """A table of text; `right` are the columns set flush right (numbers)."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        made.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    file = sys.stderr if err else sys.stdout
    # a pipe has no width: do not fold there
    Console(file=file, width=None if file.isatty() else 200, highlight=False, markup=False).print(made)


@contextmanager
def progress() -> Iterator[Any]:
    """Gives `report(step)`: the current step with its time, on standard error."""
    import time

    start = time.perf_counter()

    def report(step: str) -> None:
        log(f"[{time.perf_counter() - start:5.1f} s] {step}")

    yield report


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, float], None]]:
    """Gives `report(done, total, share)`: a bar with the time left on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("loading", total=1.0)
        yield lambda done, total, share: bar.update(task, description=f"{done} of {total}", completed=share)
