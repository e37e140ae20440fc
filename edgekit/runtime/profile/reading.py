"""Reads a result of `edgekit profile` back, field by field: a file that was altered by hand is told where."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.devices.percentiles import Percentile
from edgekit.runtime.profile.fields import Fields
from edgekit.runtime.profile.measured import (
    Asked,
    Group,
    Layers,
    Measured,
    Missing,
    Origin,
    Result,
    Sensed,
    describe_bound,
)
from edgekit.runtime.profile.result import read_result

_SCHEMA = "docs/profile.schema.json"


def read_measured(path: Path) -> Result:
    """Read a result back.

    Raises:
        EdgekitError: no such file, another schema, or not as docs/profile.schema.json says; tells where.
    """
    result = Fields(read_result(path), str(path), schema=_SCHEMA)
    origin = _origin(result, str(path))
    points, missing = [], []
    for point in result.parts("points"):
        if point.text("state") == "measured":
            points.append(_point(point, origin))
        else:
            missing.append(Missing(_asked(point), point.text("state"), point.text("reason")))
    return Result(origin, tuple(points), tuple(missing))


def _origin(result: Fields, path: str) -> Origin:
    machine, model = result.part("machine"), result.part("model")
    jetson, gpus = machine.text_or_none("jetson"), machine.data.get("gpus")
    names = ", ".join(machine.texts("gpus")) if isinstance(gpus, list) else ""
    same = {name: machine.text(name) for name in ("cpu", "architecture")}
    same |= {"jetson": jetson or "none", "num_cpus": str(machine.whole("num_cpus")), "gpus": names or "none"}
    mode = machine.data.get("power_mode")
    same |= {"power mode": mode if isinstance(mode, str) else "none", "clocks": _clocks(machine)}
    told = [jetson or machine.text("cpu"), f"{machine.whole('num_cpus')} processors", *([names] if names else [])]
    told += [f"power mode {mode}"] if isinstance(mode, str) else []
    kind, where = model.text("kind"), model.text("path")
    name = f"{model.text('family')} {model.text('variant')}, {where}" if kind == "bundle" else where
    return Origin(
        path=path,
        command=result.text("command"),
        date=result.text("date"),
        device=", ".join(told),
        machine=same,
        num_cpus=machine.whole("num_cpus"),
        versions={"system": machine.text("system"), **result.texts_by_name("versions")},
        model=name,
        sha256=model.text("sha256"),
        graph=model.text("graph") if kind == "bundle" else None,
        random_weights=kind == "bundle" and model.text("weights") == "random",
    )


def _clocks(machine: Fields) -> str:
    """Between which limits the clocks may move, in words."""
    if machine.data.get("clocks") is None:
        return "not told"
    told = [
        f"{clock.text('name')} {clock.number('min_mhz'):g} to {clock.number('max_mhz'):g} MHz "
        f"by {clock.text_or_none('governor') or 'an unknown governor'}"
        for clock in machine.parts("clocks")
    ]
    return ", ".join(told) or "not told"


def _point(point: Fields, origin: Origin) -> Measured:
    session, scenario, memory = point.part("session"), point.part("scenario"), point.part("memory")
    energy, cold, layers = point.part_or_none("energy"), point.part_or_none("cold_start"), None
    if (timed := point.part_or_none("layers")) is not None:
        layers = _layers(timed)
    samples_ms = np.array(point.numbers_above_0("samples_ms"), np.float64)
    latency = point.part_or_none("latency")
    offline = latency is None
    threads = session.whole_or_none("num_threads")
    return Measured(
        origin=origin,
        asked=_asked(point),
        date=point.text("date"),
        load_before=_load(point, "load_before"),
        load_after=_load(point, "load_after"),
        run_on={
            "backend": session.text("backend"),
            "version": session.text_or_none("version") or "unknown",
            "precision": session.text("precision"),
            "computed in": session.text("computed_in"),
            "device": session.text("device"),
            "threads": "default" if threads is None else str(threads),
        },
        inputs=tuple(_input(each) for each in point.parts("inputs")),
        items_per_call=point.count("items_per_call"),
        audio_s=point.above_0_or_none("audio_s"),
        load=_asked_of_it(scenario),
        num_queries=scenario.whole("num_queries"),
        latencies_ms=None if offline else samples_ms,
        call_ms=np.diff(np.sort(samples_ms), prepend=0.0) if offline else samples_ms,
        percentiles={}
        if latency is None
        else {each.q: each for each in map(_percentile, latency.parts("percentiles"))},
        throughput_per_s=point.number("throughput_per_s"),
        rtf=point.number_or_none("rtf"),
        harness=scenario.text("harness"),
        bound=_bound(scenario),
        peak_mib=memory.number("peak_mib"),
        memory_read=memory.text("measured"),
        gpu_mib=memory.number_or_none("gpu_mib"),
        cold_starts_s=() if cold is None else cold.part("samples").numbers_above_0("total_s"),
        energy_j=None if energy is None else energy.part("per_item").number("energy_j"),
        energy_by=None if energy is None else energy.text("measured_by"),
        layers=layers,
        sensed=_sensed(point.part("recording")),
        warnings=point.texts("warnings"),
        not_measured=point.texts_by_name("not_measured"),
    )


def _asked(point: Fields) -> Asked:
    asked = point.part("asked")
    names = ("scenario", "backend", "precision", "threads", "batch", "length")
    return {
        name: asked.whole_or_none(name) if name in ("threads", "batch") else asked.text_or_none(name) for name in names
    }


def _asked_of_it(scenario: Fields) -> dict[str, str]:
    """Of a scenario the fields that mean something for it."""
    name = scenario.text("name")
    told = {"scenario": name}
    if name == "multi-stream":
        told["items per query"] = str(scenario.whole("items_per_query"))
    if name in ("offline", "server"):
        told["workers"] = str(scenario.whole("num_workers"))
    if name == "server":
        told["queries per second"] = f"{scenario.number('qps'):g}"
    return told


def _bound(scenario: Fields) -> str | None:
    if (bound := scenario.part_or_none("bound")) is None:
        return None
    numbers = (bound.number("bound_ms"), bound.number("percentile"))
    return describe_bound(*numbers, bound.text("verdict"), bound.number("share_within"))


def _load(point: Fields, name: str) -> tuple[float, ...] | None:
    return None if point.data.get(name) is None else point.numbers(name) or None


def _input(each: Fields) -> str:
    shape = "x".join(f"{size:g}" for size in each.numbers("shape"))
    return f"{each.text('name')} {each.text('dtype')} [{shape}], {each.text('values')}"


def _percentile(each: Fields) -> Percentile:
    value, low, high = (each.number_or_none(name) for name in ("value", "low", "high"))
    return Percentile(each.number("q"), value, low, high, each.text_or_none("reason"))


def _layers(timed: Fields) -> Layers:
    modules = None if timed.data.get("by_module") is None else tuple(map(_group, timed.parts("by_module")))
    return Layers(
        timed.text("source"),
        timed.whole("num_runs"),
        timed.number("run_ms"),
        timed.number("sum_ms"),
        tuple(map(_group, timed.parts("by_type"))),
        modules,
    )


def _group(group: Fields) -> Group:
    return Group(group.text("name"), group.number("ms"), group.number("share"), group.whole("num_nodes"))


def _sensed(recording: Fields) -> Sensed:
    throttled = recording.data.get("throttled", [])
    return Sensed(
        recording.text_or_none("total"),
        recording.texts_by_name("not_measured"),
        recording.numbers("t_s"),
        recording.columns("power_mw"),
        recording.columns("temperature_c"),
        recording.columns("clock_mhz"),
        tuple(each if isinstance(each, bool) else None for each in throttled) if isinstance(throttled, list) else (),
    )
