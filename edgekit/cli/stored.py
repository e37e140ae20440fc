"""What the commands for speakers and for classes share: when a version was made, and asking before all is erased."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgekit.cli.output import log

if TYPE_CHECKING:
    from edgekit.core.record import Record
    from edgekit.core.store import Kind, Store


def made_at(record: Record) -> str:
    """In UTC, to the minute; of an imported card it may be any text."""
    from datetime import datetime

    try:
        return f"{datetime.fromisoformat(record.card.created):%Y-%m-%d %H:%M}"
    except ValueError:
        return "-"


def erase_asking(store: Store, kind: Kind, name: str, root: Path | None, *, yes: bool) -> None:
    """Erase all of a name once a person, or `yes`, has said so, and tell which other bundles know one."""
    import sys

    from edgekit.core.errors import UsageError
    from edgekit.core.store import Store, cores

    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"expected a person to confirm that {name!r} is erased", hint="--yes")
        typer.confirm(f"Erase every version of {name!r}? It cannot be undone.", abort=True, err=True)
    store.forget(kind, name)
    log(f"{name} is erased")
    if others := [core for core in cores(root) if name in Store(core, root).names(kind)]:
        log(f"other bundles still know a {name!r}: {', '.join(f'{core[:16]}...' for core in others)}")
