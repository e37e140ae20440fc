"""`edgekit list`: the families and their variants."""

from __future__ import annotations

import typer

from edgekit.cli.options import Json
from edgekit.cli.output import log, print_json, table


def list_families(json: Json = False) -> None:
    """Show the model families and their variants."""
    from edgekit.train.family import families

    known = families()
    for name, reason in known.broken.items():
        log(f"warning: the family {name} cannot be used: {reason}")
    rows = [
        {
            "family": family.name,
            "variant": name,
            "default": index == 0,
            "parameters": config.num_parameters(),
            "heads": list(family.heads),
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
        [family.name, f"{name}{' *' if index == 0 else ''}", f"{config.num_parameters():,}", ", ".join(family.heads)]
        for family in known.values()
        for index, (name, config) in enumerate(family.variants.items())
    ]
    table(["family", "variant (* default)", "parameters", "heads"], lines, right=(2,))
