"""`edgekit devices`: what this machine is, computes in and measures, and the targets that bundles can be made for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.options import Json
from edgekit.cli.output import print_json, table

if TYPE_CHECKING:
    from edgekit.devices.clocks import Clock
    from edgekit.devices.jetson import Jetson
    from edgekit.devices.nvidia import Gpus
    from edgekit.devices.target import Target
    from edgekit.runtime.precisions import Ability


def devices(
    targets: Annotated[bool, typer.Option("--targets", help="List the devices that `export --target` knows.")] = False,
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="Show one of them, with the source of every fact.")
    ] = None,
    json: Json = False,
) -> None:
    """Show this machine: processor, GPUs, clocks, sensors, and which precisions each backend runs; or the targets."""
    from edgekit.core.errors import UsageError

    if targets and target is not None:
        raise UsageError("expected one of --targets and --target, received both", hint="edgekit devices --targets")
    if targets:
        _list_targets(json)
    elif target is not None:
        _show_target(target, json)
    else:
        _show_machine(json)


def _show_machine(json: bool) -> None:
    from edgekit.devices.clocks import read_clocks
    from edgekit.devices.cpu import read_cpu
    from edgekit.devices.jetson import probe_jetson
    from edgekit.devices.nvidia import probe_gpus
    from edgekit.devices.probe import probe_machine
    from edgekit.devices.sensors import describe_sensors, find_sensors
    from edgekit.runtime.precisions import probe_precisions

    machine, cpu, gpus, jetson = probe_machine(), read_cpu(), probe_gpus(), probe_jetson()
    clocks, sensors, abilities = read_clocks(), describe_sensors(find_sensors()), probe_precisions()
    if json:
        print_json(
            {
                "machine": asdict(machine),
                "cpu": asdict(cpu),
                "nvidia": asdict(gpus),
                "jetson": None if jetson is None else asdict(jetson),
                "clocks": [{**asdict(clock), "locked": clock.locked} for clock in clocks],
                "sensors": sensors,
                "backends": [asdict(ability) for ability in abilities],
            }
        )
        return
    cores = "" if cpu.num_cores is None else f"{cpu.num_cores} cores, {cpu.num_threads} threads, "
    memory = "memory not told" if machine.memory_mib is None else f"{machine.memory_mib:,} MiB"
    typer.echo(f"{machine.cpu}: {cores}{machine.num_cpus} for this process, {memory}")
    typer.echo(f"  {', '.join(machine.instruction_sets) or 'no instruction sets of note'}")
    typer.echo(f"{machine.system}, {machine.architecture}, Python {machine.python}")
    _echo_jetson(jetson)
    _echo_gpus(gpus)
    _echo_clocks(clocks)
    _echo_sensors(sensors)
    _echo_abilities(abilities)


def _echo_jetson(jetson: Jetson | None) -> None:
    if jetson is None:
        return
    typer.echo(jetson.module)
    if jetson.l4t is None:
        typer.echo("  Jetson Linux: not told by /etc/nv_tegra_release")
    else:
        release = f"JetPack {jetson.l4t.jetpack}" if jetson.l4t.jetpack else "of a JetPack that is not known here"
        typer.echo(f"  Jetson Linux {jetson.l4t.version}, {release}")
    modes = ", ".join(f"{number}: {name}" for number, name in jetson.power_modes.items())
    mode = jetson.power_mode or f"not known: {jetson.no_power_mode}"
    typer.echo(f"  power mode {mode}" + (f" (nvpmodel -m {modes})" if modes else ""))


def _echo_gpus(gpus: Gpus) -> None:
    for gpu in gpus.gpus:
        memory = "memory shared or not told" if gpu.memory_mib is None else f"{gpu.memory_mib:,} MiB"
        typer.echo(f"{gpu.name}: compute capability {gpu.compute_capability or 'not told'}, {memory}")
    if gpus.driver is not None:
        typer.echo(f"  driver {gpus.driver}, CUDA up to {gpus.cuda or 'not told'}")
    if gpus.remedy is not None:
        typer.echo(f"NVIDIA GPUs: missing {gpus.missing}")
        typer.echo(f"  mend: {gpus.remedy}")
    elif not gpus.gpus:
        typer.echo("NVIDIA GPUs: none")


def _echo_clocks(clocks: list[Clock]) -> None:
    if not clocks:
        typer.echo("limits of the clocks: not told by this machine (no cpufreq)")
        return
    rows = [
        [
            clock.name,
            clock.governor or "",
            f"{clock.min_mhz:.0f}",
            f"{clock.max_mhz:.0f}",
            "" if clock.highest_mhz is None else f"{clock.highest_mhz:.0f}",
            "locked" if clock.locked else "follows the load",
        ]
        for clock in clocks
    ]
    # servers have a clock per processor, and all of them alike
    alike = {tuple(row[1:]) for row in rows}
    shown = [[f"{len(rows)} clocks", *alike.pop()]] if len(alike) == 1 and len(rows) > 1 else rows
    table(["clock", "governor", "MHz from", "to", "highest", ""], shown, right=(2, 3, 4))


def _echo_sensors(sensors: dict[str, Any]) -> None:
    """What `edgekit profile` can measure beside time."""
    if sensors["total"] is not None:
        typer.echo(f"power: measured by {sensors['total']}")
    for what, reason in sensors["not_measured"].items():
        typer.echo(f"{what}: not measured: {reason}")
    if sensors["readable"]:
        rows = [
            [one["name"], one["kind"], "" if one["value"] is None else f"{one['value']:g}", one["unit"]]
            for one in sensors["readable"]
        ]
        table(["sensor", "of", "now", ""], rows, right=(2,))
    for one in sensors["unreadable"]:
        typer.echo(f"{one['name']}: cannot be read: {one['reason']}")
        if one["mend"]:
            typer.echo(f"  mend: {one['mend']}")


def _echo_abilities(abilities: list[Ability]) -> None:
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    missing: dict[tuple[str, str, str], list[str]] = {}
    for ability in abilities:
        cells = rows.setdefault((ability.backend, ability.format, ability.device or ""), {})
        if ability.usable:
            cells[ability.precision] = f"in {ability.computed_in}" if ability.computed_in else "usable"
        else:
            cells[ability.precision] = "missing"
            what = (f"{ability.backend} {ability.format}", ability.missing or "", ability.remedy or "")
            missing.setdefault(what, []).append(ability.precision)
    precisions = list(dict.fromkeys(ability.precision for ability in abilities))
    table(
        ["backend", "format", "device", *precisions],
        [[*key, *(cells.get(precision, "") for precision in precisions)] for key, cells in rows.items()],
    )
    for (backend, absent, remedy), of in missing.items():
        typer.echo(f"{backend} {', '.join(of)}: missing {absent}")
        typer.echo(f"  mend: {remedy}")


def _list_targets(json: bool) -> None:
    from edgekit.devices.target import targets

    known = targets()
    if json:
        print_json([{"name": name, **asdict(target)} for name, target in known.items()])
        return
    rows = [
        [
            name,
            target.title,
            "" if target.memory_gb is None else f"{target.memory_gb:g}",
            target.compute_capability or "",
            ", ".join(target.precisions),
            ", ".join(target.formats),
        ]
        for name, target in known.items()
    ]
    table(["target", "device", "GB", "compute capability", "precisions", "formats, best first"], rows, right=(2,))


def _show_target(name: str, json: bool) -> None:
    from edgekit.devices.target import find_target

    target = find_target(name)
    if json:
        print_json({"name": name, **asdict(target)})
        return
    typer.echo(f"{name}: {target.title}")
    for fact, lines in _facts(target).items():
        for line in lines:
            typer.echo(f"{fact}: {line}")
        for source in target.sources:
            if fact in source.facts:
                typer.echo(f"    {source.url}")


def _facts(target: Target) -> dict[str, list[str]]:
    """What is known, by its field, in lines for a person."""
    modes = [mode.name if mode.watts is None else f"{mode.name} ({mode.watts:g} W)" for mode in target.power_modes]
    releases = [", ".join(f"{key} {value}" for key, value in asdict(each).items() if value) for each in target.software]
    said = {
        "memory_gb": [] if target.memory_gb is None else [f"{target.memory_gb:g}"],
        "compute_capability": [] if target.compute_capability is None else [target.compute_capability],
        "instruction_sets": [", ".join(target.instruction_sets)],
        "formats": [", ".join(target.formats)],
        "precisions": [", ".join(target.precisions)],
        "software": releases,
        "power_modes": [", ".join(modes)],
        "rails": [", ".join(target.rails)],
        "total_rails": [" + ".join(target.total_rails)],
    }
    return {fact: [line for line in lines if line] for fact, lines in said.items() if any(lines)}
