"""`edgekit doctor`: what this machine is, which backends it can run, and what mends those that it cannot."""

from __future__ import annotations

import typer

from edgekit.cli.options import Json
from edgekit.cli.output import print_json, table


def doctor(json: Json = False) -> None:
    """Show this machine, each backend's state, and the command that mends what is missing."""
    from dataclasses import asdict

    from edgekit.devices.probe import probe_machine
    from edgekit.export.tools import probe_tools
    from edgekit.runtime.session import probe_all

    machine, backends, tools = probe_machine(), probe_all(), probe_tools()
    if json:
        print_json(
            {
                "machine": asdict(machine),
                "backends": [asdict(probe) for probe in backends],
                "tools": [asdict(probe) for probe in tools],
            }
        )
        return
    sets = ", ".join(machine.instruction_sets) or "none of note"
    typer.echo(f"{machine.jetson or machine.cpu}: {machine.num_cpus} CPUs ({sets}), {machine.memory_mib} MiB")
    typer.echo(f"{machine.system}, {machine.architecture}, Python {machine.python}")
    header = ["", "state", "version", "devices"]
    for title, probes in (("backend", backends), ("export", tools)):
        rows = [[p.name, "usable" if p.usable else "missing", p.version or "", ", ".join(p.devices)] for p in probes]
        table([title, *header[1:]], rows)
    for probe in (*backends, *tools):
        if not probe.usable:
            typer.echo(f"{probe.name}: missing {probe.missing}")
            typer.echo(f"  mend: {probe.remedy}")
