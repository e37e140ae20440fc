"""How far the learning of a speaker is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgekit.cli.output import log

if TYPE_CHECKING:
    from edgekit.runtime.adapt.learner import Progress


@contextmanager
def learning() -> Iterator[tuple[Callable[[Progress], None], Callable[[str], None]]]:
    """Gives `report` and `say`: a bar on a terminal, a line now and then elsewhere; on standard error."""
    if not sys.stderr.isatty():
        yield _Lines().report, log
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, numbers="")

        def report(progress: Progress) -> None:
            total = progress.num_steps or None
            bar.update(
                task, description=progress.stage, completed=progress.step, total=total, numbers=_numbers(progress)
            )

        yield report, lambda text: bar.console.print(text, highlight=False, markup=False)


class _Lines:
    """A line every half minute."""

    _EVERY_S = 30.0

    def __init__(self) -> None:
        self._told = time.monotonic()

    def report(self, progress: Progress) -> None:
        if time.monotonic() - self._told >= self._EVERY_S:
            self._told = time.monotonic()
            told = [f"{progress.stage}: {progress.step} of {progress.num_steps}", _numbers(progress)]
            log(", ".join(part for part in told if part))


def _numbers(progress: Progress) -> str:
    parts = []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.held_back is not None:
        parts.append(f"held back {progress.held_back.loss:.3f}, WER {100 * progress.held_back.wer:.1f} %")
    if progress.left_s is not None:
        minutes, seconds = divmod(round(progress.left_s), 60)
        parts.append(f"{minutes}:{seconds:02} left")
    return ", ".join(parts)
