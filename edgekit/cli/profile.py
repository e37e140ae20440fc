"""`edgekit profile`: latency, throughput, memory, energy and layers of a bundle, or of any model in a common format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.options import AllowFallback, Device, Json
from edgekit.cli.output import log, print_json


def profile(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="A bundle's folder, or a file: .onnx, .xml, .engine, .plan, .trt; default: the built-in model.",
        ),
    ] = None,
    scenario: Annotated[
        str, typer.Option(help="single-stream, multi-stream, offline, server (of MLPerf Inference), several, or all.")
    ] = "single-stream",
    qps: Annotated[float | None, typer.Option(help="Queries per second of the server scenario.")] = None,
    latency_bound: Annotated[
        float | None, typer.Option(metavar="MS", help="What 99 % of the server's latencies must keep.")
    ] = None,
    streams: Annotated[int, typer.Option(min=1, help="Items of a query of the multi-stream scenario.")] = 8,
    duration: Annotated[float, typer.Option(metavar="S", help="Seconds of each point, at most with --sweep.")] = 10.0,
    backend: Annotated[
        str | None, typer.Option(help="onnxruntime, openvino or tensorrt; default: the first that is usable here.")
    ] = None,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or bf16; of a file only OpenVINO takes it, as a hint.")
    ] = None,
    threads: Annotated[str | None, typer.Option(metavar="N", help="Threads for execution on the CPU.")] = None,
    batch: Annotated[str | None, typer.Option(metavar="N", help="Items of each call.")] = None,
    length: Annotated[
        str | None, typer.Option(metavar="N", help="Steps of the time axis, or seconds of sound as 3s.")
    ] = None,
    allow_fallback: AllowFallback = False,
    graph: Annotated[str, typer.Option(help="Which graph of a bundle.")] = "infer",
    task: Annotated[
        bool, typer.Option("--task", help="A bundle from waveform or picture to answer, not its graph alone.")
    ] = False,
    dim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SIZE", help="The size of a dynamic axis; may be repeated.")
    ] = None,
    input: Annotated[
        list[str] | None, typer.Option(metavar="NAME=1x80x300", help="The shape of an input; may be repeated.")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option(metavar="NAME=V", help="Fill an input with V; may be repeated.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="An .npz with real inputs by name.")] = None,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Lists (1,8) for --batch, --length, --threads, --precision, --backend: all combinations. A point ends "
            "when its median is known to 2 % (--set median_width=0.02), after 2 s or more, or after --duration.",
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the points that --out does not hold yet.")
    ] = False,
    cold_starts: Annotated[
        int | None, typer.Option(min=0, help="Fresh processes to measure the start in; default: 5, none with --sweep.")
    ] = None,
    layers: Annotated[
        bool | None, typer.Option("--layers/--no-layers", help="Time by operator; default: yes, no with --sweep.")
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Other settings: harness=loadgen or edgekit, workers=1 (threads that call), min_queries=1, "
            "median_width (ends a point early), bound_percentile=99, warm_up_limit_s=10, idle_s=3 (power before "
            "the run), seed=0.",
        ),
    ] = None,
    json: Json = False,
    out: Annotated[Path | None, typer.Option(help="Write the result to this JSON file, after each point.")] = None,
) -> None:
    """Measure latency, throughput, memory, energy, cold start and layers of a model.

    The sizes of dynamic axes are known of a bundle, by its signature; those of any other file --dim or --input give.
    """
    import shlex
    import sys

    from edgekit.cli.profile_tables import print_result
    from edgekit.core.errors import EdgekitError, UsageError
    from edgekit.core.settings import apply_settings
    from edgekit.runtime.builtin import builtin_bundle
    from edgekit.runtime.profile.point import Point
    from edgekit.runtime.profile.sweep import combinations
    from edgekit.runtime.profile.sweep import profile as measure

    if resume and out is None:
        raise UsageError("expected --out with --resume, received none", hint="--out FILE.json, the one that was begun")
    if out is not None and out.is_dir():
        raise UsageError(f"expected a file for --out, received the folder {out}")
    lists: dict[str, list[Any]] = {
        "backend": _texts(backend),
        "precision": _texts(precision),
        "threads": _numbers(threads, "--threads"),
        "batch": _numbers(batch, "--batch"),
        "length": _texts(length),
    }
    several = [name for name, values in lists.items() if len(values) > 1]
    if several and not sweep:
        raise UsageError(f"expected one value for --{several[0]}, received several", hint="add --sweep")
    point = Point(
        model=str(model or builtin_bundle()),
        graph=graph,
        task=task,
        device=device,
        allow_fallback=allow_fallback,
        dims=tuple(dim or ()),
        shapes=tuple(input or ()),
        values=tuple(value or ()),
        data=None if data is None else str(data),
        duration_s=duration,
        streams=streams,
        qps=qps,
        bound_ms=latency_bound,
        median_width=0.02 if sweep else None,
        cold_starts=(0 if sweep else 5) if cold_starts is None else cold_starts,
        layers=not sweep if layers is None else layers,
    )
    points = combinations(apply_settings(point, set or ()), scenario=_scenarios(scenario), **lists)
    for each in points:
        each.load(1)  # what does not fit is said before the work
    with _reporting() as report:
        result = measure(points, command=shlex.join(["edgekit", *sys.argv[1:]]), out=out, resume=resume, report=report)
    if out is not None:
        log(f"written to {out}")
    measured = [each for each in result["points"] if each["state"] == "measured"]
    if not measured:
        first = result["points"][0]
        raise EdgekitError(first["reason"], hint=first["hint"])
    if json:
        print_json(result)
    else:
        print_result(result)


def _texts(text: str | None) -> list[str]:
    from edgekit.core.errors import UsageError

    if text is None:
        return []
    parts = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if "" in parts:
        raise UsageError(f"expected a value, or several as 1,8; received {text!r}")
    return parts


def _numbers(text: str | None, option: str) -> list[int]:
    from edgekit.core.errors import UsageError

    parts = _texts(text)
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"expected whole numbers of 1 or more for {option}, received {text!r}")
    return [int(part) for part in parts]


def _scenarios(text: str) -> list[str]:
    from edgekit.core.errors import unknown
    from edgekit.devices.scenarios import SCENARIOS

    names = list(SCENARIOS) if text == "all" else _texts(text)
    for name in names:
        if name not in SCENARIOS:
            raise unknown("scenario", name, (*SCENARIOS, "all"))
    return names


@contextmanager
def _reporting() -> Iterator[Callable[[int, int, str], None]]:
    """Gives `report(index, total, step)`: a bar on standard error, where that is a terminal, else a line each."""
    import time

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        begun = time.perf_counter()
        yield lambda index, total, step: log(f"[{time.perf_counter() - begun:5.1f} s] {index} of {total}: {step}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # drawn seldom: what draws takes a processor from what is measured
    with Progress(*columns, console=console, transient=True, refresh_per_second=1) as bar:
        task = bar.add_task("beginning", total=None)
        yield lambda index, total, step: bar.update(
            task, description=f"{index} of {total}: {step}", total=total, completed=index - 1
        )
