"""`edgekit doctor`: what this machine is, which backends it can run, what mends those that it cannot, and advice."""

from __future__ import annotations

import typer

from edgekit.cli.options import Json
from edgekit.cli.output import print_json, table


def doctor(json: Json = False) -> None:
    """Show this machine, each backend's state, the command that mends what is missing, and advice."""
    from dataclasses import asdict

    from edgekit.core.errors import BackendError
    from edgekit.devices.advice import advise
    from edgekit.devices.probe import probe_machine
    from edgekit.export.tools import probe_tools
    from edgekit.runtime import cuda
    from edgekit.runtime.session import probe_all

    machine, backends, tools = probe_machine(), probe_all(), probe_tools()
    try:
        cuda_driver = cuda.driver_version()
    except BackendError:  # older than CUDA 11.4, which the backends tell
        cuda_driver = None
    advice = advise(python=machine.python, cuda_driver=cuda_driver)
    if json:
        print_json(
            {
                "machine": asdict(machine),
                "backends": [asdict(probe) for probe in backends],
                "tools": [asdict(probe) for probe in tools],
                "advice": [asdict(each) for each in advice],
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
    for each in advice:
        typer.echo(f"advice: {each.problem}")
        typer.echo(f"  mend: {each.command}")
