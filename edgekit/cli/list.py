"""`edgekit list`: the families and their variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from edgekit.cli.options import Json
from edgekit.cli.output import log, print_json, table

if TYPE_CHECKING:
    from edgekit.train.family import Family


def list_families(json: Json = False) -> None:
    """Show the model families and their variants."""
    from edgekit.train.family import families

    known = families()
    for name, reason in known.broken.items():
        log(f"warning: the family {name} cannot be used: {reason}")
    rows: list[dict[str, Any]] = [
        {
            "family": family.name,
            "variant": name,
            "default": index == 0,
            "parameters": config.num_parameters(),
            "heads": list(family.heads),
            "weights": _weights(family, name),
            "paper": family.paper,
            "summary": family.summary,
        }
        for family in known.values()
        for index, (name, config) in enumerate(family.variants.items())
    ]
    if json:
        print_json(rows)
        return
    for family in known.values():
        typer.echo(f"{family.name}: {family.summary} ({family.paper})")
    lines = [
        [
            row["family"],
            f"{row['variant']}{' *' if row['default'] else ''}",
            f"{row['parameters']:,}",
            ", ".join(row["heads"]),
            row["weights"],
        ]
        for row in rows
    ]
    table(["family", "variant (* default)", "parameters", "heads", "weights"], lines, right=(2,))


def _weights(family: Family, variant: str) -> str:
    """What an export without a checkpoint has."""
    return "built-in" if family.builtin is not None and family.builtin.variant == variant else "random"
