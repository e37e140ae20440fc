"""The tables of `edgekit profile`: one point in full, or a row for each of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from edgekit.cli.output import log, table
from edgekit.runtime.profile.measured import Group, describe_bound, merged

_NUM_LAYERS = 10
_ASKED = {"scenario": "{}", "run on": "{}", "threads": "threads: {}", "batch": "batch {}", "length": "length {}"}
"""What may be the same for all points, and how that is said."""
Point = Mapping[str, Any]


def print_result(result: Mapping[str, Any]) -> None:
    """Print a result for a person; warnings go to standard error."""
    points = [point for point in result["points"] if point["state"] == "measured"]
    typer.echo(_model(result))
    typer.echo(_machine(result))
    if len(result["points"]) == 1:
        _print_one(points[0])
    else:
        _print_several(result["points"])
    for point in points:
        for warning in point["warnings"]:
            log(f"warning: {_asked(point) + ': ' if len(points) > 1 else ''}{warning}")


def _model(result: Mapping[str, Any]) -> str:
    model = result["model"]
    size = f"{model['num_bytes'] / 2**20:.1f} MiB"
    if model["kind"] != "bundle":
        return f"{model['path']}: {model['kind']}, {size}"
    weights = ", random weights" if model["weights"] == "random" else ""
    return (
        f"{model['path']}: {model['family']} {model['variant']}, graph {model['graph']}, {size} with all files{weights}"
    )


def _machine(result: Mapping[str, Any]) -> str:
    machine, point = result["machine"], result["points"][0]
    gpus = machine["gpus"] if isinstance(machine["gpus"], list) else []
    mode = [f"power mode {machine['power_mode']}"] if machine["power_mode"] else []
    name = ", ".join([machine["jetson"] or machine["cpu"], f"{machine['num_cpus']} processors", *gpus, *mode])
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    load = f"load {point['load_before'][0]}" if point["load_before"] else "load not told"
    return f"{name}; {versions}; {result['date'][:10]}, {load} before\n"


def _print_one(point: Point) -> None:
    session, scenario = point["session"], point["scenario"]
    for each in point["inputs"]:
        typer.echo(f"{each['name']}: {each['dtype']}{each['shape']}, {each['values']}")
    sound = "" if point["audio_s"] is None else f", {point['audio_s']:g} s of sound each"
    asked = (
        f"{scenario['num_queries']} queries in {scenario['seconds']:.1f} s, items per call: {point['items_per_call']}"
    )
    typer.echo(f"{scenario['name']} by {scenario['harness']}: {asked}{sound}")
    latency = point["latency"]
    if latency is not None:
        rows = [_percentile(each) for each in latency["percentiles"]]
        rows += [
            ["mean", _ms(latency["mean"]), ""],
            ["min to max", f"{_ms(latency['min'])} to {_ms(latency['max'])}", ""],
        ]
        jitter = latency["jitter"]
        rows += [["jitter", "" if jitter is None else _ms(jitter), "mean difference of successive latencies"]]
        table(["latency", "ms", "95 % interval"], rows, right=(1,))
    rows = [["throughput", f"{point['throughput_per_s']:.1f} items per s"]]
    if point["rtf"] is not None:
        rows.append(["real-time factor", f"{point['rtf']:.5f}"])
    if scenario["bound"] is not None:
        rows.append(["bound", describe_bound(**scenario["bound"])])
    threads = "default" if session["num_threads"] is None else session["num_threads"]
    rows += [
        ["run on", f"{_session(point)}, threads: {threads}"],
        ["warm-up", _warm_up(point["warm_up"])],
        ["harness adds", f"{point['timing_overhead_us']:.2f} us per call"],
        ["cold start", _cold_start(point)],
        ["memory", _memory(point)],
        ["energy", _energy(point)],
        ["load", f"{point['load_before']} before, {point['load_after']} after"],
    ]
    table(["figure", ""], rows)
    _print_layers(point)


def _print_several(points: list[Point]) -> None:
    """A row for each; what is the same for all stands above, so that the table stays narrow."""
    measured = [point for point in points if point["state"] == "measured"]
    rows = [_row(point) for point in measured]
    same = [name for name in _ASKED if len({row[name] for row in rows}) == 1]
    if same:
        typer.echo(", ".join(_ASKED[name].format(rows[0][name]) for name in same))
    names = [name for name in rows[0] if name not in same]
    right = [index for index, name in enumerate(names) if name not in ("scenario", "run on")]
    table(names, [[row[name] for name in names] for row in rows], right=right)
    for point in points:
        if point["state"] != "measured":
            typer.echo(f"{point['state']}: {_asked(point)}: {point['reason']}")
        elif point["scenario"]["bound"] is not None:
            typer.echo(f"{_asked(point)}: {describe_bound(**point['scenario']['bound'])}")


def _row(point: Point) -> dict[str, str]:
    asked, latency = point["asked"], point["latency"]
    told = {} if latency is None else {each["q"]: each for each in latency["percentiles"]}
    found = {q: each for q, each in told.items() if each["value"] is not None}
    interval = f" ({_ms(found[50.0]['low'])} to {_ms(found[50.0]['high'])})" if 50.0 in found else ""
    values = {q: _ms(found[q]["value"]) if q in found else "-" for q in (50.0, 90.0, 99.0)}
    return {
        "scenario": asked["scenario"],
        "run on": _session(point),
        "threads": str(asked["threads"] or "default"),
        "batch": str(point["items_per_call"]),
        "length": asked["length"] or ("-" if point["audio_s"] is None else f"{point['audio_s']:g}s"),
        "queries": str(point["scenario"]["num_queries"]),
        "p50 ms (95 %)": values[50.0] + interval,
        "p90": values[90.0],
        "p99": values[99.0],
        "items/s": f"{point['throughput_per_s']:.1f}",
        "RTF": "-" if point["rtf"] is None else f"{point['rtf']:.4f}",
        "peak MiB": f"{point['memory']['peak_mib']:.0f}",
    }


def _asked(point: Point) -> str:
    return ", ".join(f"{name} {value}" for name, value in point["asked"].items() if value is not None)


def _session(point: Point) -> str:
    session = point["session"]
    computed = "" if session["computed_in"] == session["precision"] else f" graph computed in {session['computed_in']}"
    return f"{session['backend']} {session['precision']}{computed} on {session['device']}"


def _percentile(each: Mapping[str, Any]) -> list[str]:
    name = f"p{each['q']:g}"
    if each["value"] is None:
        return [name, "-", each["reason"].replace(f" for {name}", "")]
    return [name, _ms(each["value"]), f"{_ms(each['low'])} to {_ms(each['high'])}"]


def _ms(value: float) -> str:
    """With three digits at least that mean something."""
    return f"{value:.{1 if value >= 100 else 2 if value >= 10 else 3}f}"


def _warm_up(warm: Mapping[str, Any]) -> str:
    state = "steady" if warm["steady"] else "NOT steady"
    return f"{warm['num_calls']} calls, {warm['seconds']:.1f} s, {state}; the first call {_ms(warm['first_ms'])} ms"


def _cold_start(point: Point) -> str:
    cold = point["cold_start"]
    if cold is None:
        return f"not measured: {point['not_measured']['cold_start']}"
    parts = {
        "interpreter": "interpreter_s",
        "import": "import_s",
        "load": "load_s",
        "first inference": "first_inference_s",
    }
    told = ", ".join(f"{name} {cold[key] * 1e3:.0f}" for name, key in parts.items())
    return f"{cold['total_s'] * 1e3:.0f} ms, median of {cold['num_processes']} processes ({told})"


def _memory(point: Point) -> str:
    memory = point["memory"]
    told = f"{memory['peak_mib']:.0f} MiB at most ({memory['measured']})"
    if memory["steady_mib"] is not None:
        told += f", {memory['steady_mib']:.0f} steady, {memory['before_mib']:.0f} before backend and model"
    return told + ("" if memory["gpu_mib"] is None else f"; GPU {memory['gpu_mib']:.0f} MiB")


def _energy(point: Point) -> str:
    energy = point["energy"]
    if energy is None:
        return f"not measured: {point['not_measured']['energy']}"
    per_item, per_second = energy["per_item"], energy["per_audio_s"]
    idle = per_item["above_idle_j"]
    above = "idle power not measured" if idle is None else f"{idle * 1e3:.2f} mJ above idle"
    sound = "" if per_second is None else f", {per_second['energy_j'] * 1e3:.2f} mJ per second of sound"
    return f"{per_item['energy_j'] * 1e3:.2f} mJ per item ({above}){sound}; by {energy['measured_by']}"


def _print_layers(point: Point) -> None:
    layers = point["layers"]
    if layers is None:
        typer.echo(f"layers not measured: {point['not_measured']['layers']}")
        return
    share = f"nodes {_ms(layers['sum_ms'])} ms of {_ms(layers['run_ms'])} ms"
    typer.echo(f"layers by {layers['source']}, {layers['num_runs']} runs of a pass of its own: {share}")
    table(
        ["operator", "ms", "share", "nodes"], _groups([Group(**group) for group in layers["by_type"]]), right=(1, 2, 3)
    )
    if layers["by_module"] is not None:
        modules = merged([Group(**group) for group in layers["by_module"]])
        table(["module", "ms", "share", "nodes"], _groups(modules), right=(1, 2, 3))


def _groups(groups: Sequence[Group]) -> list[list[str]]:
    rows = [
        [group.name, _ms(group.ms), f"{100 * group.share:.1f} %", str(group.num_nodes)]
        for group in groups[:_NUM_LAYERS]
    ]
    others = groups[_NUM_LAYERS:]
    if others:
        share = 100 * sum(group.share for group in others)
        num_nodes = sum(group.num_nodes for group in others)
        rows.append([f"{len(others)} more", _ms(sum(group.ms for group in others)), f"{share:.1f} %", str(num_nodes)])
    return rows
