"""`edgekit export`: from a family to a checked bundle, with a short latency table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.formats import requests_of
from edgekit.cli.inspect import print_artifacts
from edgekit.cli.options import BuildPrecision, Formats, Json, OpenVino, TargetName, Trt, TrtRtx
from edgekit.cli.output import discard, log, print_json, progress, table

if TYPE_CHECKING:
    from edgekit.export.build import Request


_COLUMNS = {
    ("backend", "backend"): "{}",
    ("precision", "precision"): "{}",
    ("device", "device"): "{}",
    ("audio_s", "audio s"): "{:g}",
    ("batch", "batch"): "{}",
    ("num_samples", "runs"): "{}",
    ("p50_ms", "p50 ms"): "{:.1f}",
    ("max_ms", "max ms"): "{:.1f}",
    ("rtf", "RTF"): "{:.4f}",
}
"""Of the latency table: a row's field, its title and how it is written; recordings and pictures have some of them."""


def export(
    family: Annotated[str, typer.Argument(help="A family of `edgekit list`.")],
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            help="A checkpoint's folder, or a name on the Hugging Face hub; default: the built-in weights of "
            "`edgekit list`, or random ones."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle's folder; default ./FAMILY-VARIANT.")] = None,
    variant: Annotated[str | None, typer.Option(help="A variant of `edgekit list`.")] = None,
    head: Annotated[str | None, typer.Option(help="What the model answers with: ctc or embedding.")] = None,
    format: Formats = None,
    precision: BuildPrecision = None,
    target: TargetName = None,
    openvino: OpenVino = False,
    trt: Trt = False,
    trt_rtx: TrtRtx = False,
    audio: Annotated[
        list[Path] | None,
        typer.Option(help="Your recordings for the check, at most 8, kept in the bundle; default: the sample clips."),
    ] = None,
    picture: Annotated[
        list[Path] | None,
        typer.Option(help="Likewise pictures, for a family that takes them; default: drawn ones."),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            help="FIELD=VALUE: another size, for random weights; or, of any, active=0,2: what of a disconformer is "
            "deployed."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Random weights of this seed, also where there are built-in ones."),
    ] = None,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="With what a device needs to learn a speaker (takes minutes).")
    ] = False,
    gates: Annotated[
        str, typer.Option(metavar="fast|full", help="How far --adapt's gradients are held to torch.")
    ] = "fast",
    latency: Annotated[bool, typer.Option(help="Measure a short latency table at the end.")] = True,
    json: Json = False,
) -> None:
    """Export a model to a bundle: ONNX always, other formats as asked, each executed and checked where it can run."""
    from edgekit.core.errors import EdgekitError, unknown
    from edgekit.export.build import build
    from edgekit.export.export import ExportRequest
    from edgekit.export.export import export as export_bundle

    if gates not in ("fast", "full"):
        raise unknown("set of gates", gates, ("fast", "full"))
    requests = requests_of(format, precision, openvino=openvino, trt=trt, trt_rtx=trt_rtx, target=target)
    request = ExportRequest(
        family,
        checkpoint,
        variant,
        head,
        tuple(set or ()),
        tuple(audio or ()),
        tuple(picture or ()),
        seed,
        adapt=adapt,
        gates="full" if gates == "full" else "fast",
        target=target,
        builds=tuple(requests),
    )
    limit_mib, elsewhere = (None, {}) if target is None else _for_target(target, requests)
    failures: list[tuple[str, EdgekitError]] = []
    with progress() as report:
        bundle = export_bundle(request, out, report=report)
        for wanted in requests:
            if wanted in elsewhere:
                continue
            report(f"building {wanted}")
            try:
                build(bundle.path, wanted, target=target, workspace_mib=limit_mib, log=lambda text: log(f"  {text}"))
            except EdgekitError as error:
                failures.append((wanted.command(bundle.path), error))
        try:
            _finish(bundle.path, latency, json, report)
        except (BrokenPipeError, SystemExit):  # nobody reads the table, but what failed is still to be said
            if not failures:
                raise
            discard(sys.stdout)
    for wanted, reason in elsewhere.items():
        log(f"{wanted} was not built: {reason}")
        log(f"On the device, run: {wanted.command(bundle.path)} --target {target}")
    for command, failure in failures:
        log(f"error: {failure.message}")
        if failure.hint:
            log(f"hint:  {failure.hint}")
        log(f"The bundle {bundle.path} holds what was made; on the device, run: {command}")
    if failures:
        raise typer.Exit(1)


def _for_target(target: str, requests: list[Request]) -> tuple[int | None, dict[Request, str]]:
    """The builder's limit of memory, and what only the target itself can build, with the reason."""
    from edgekit.export.target import not_here, workspace_mib

    reasons = {request: not_here(target, request) for request in requests}
    return workspace_mib(target), {request: reason for request, reason in reasons.items() if reason is not None}


def _finish(path: Path, latency: bool, json: bool, report: Callable[[str], None]) -> None:
    """Print what the bundle holds, and how long it takes here."""
    from edgekit.core.bundle import open_bundle
    from edgekit.runtime.latency import measure_bundle

    bundle = open_bundle(path)
    rows = []
    if latency:
        report("measuring latency")
        rows = measure_bundle(bundle)
    if json:
        print_json({"path": str(path), "manifest": bundle.manifest.to_json(), "latency": rows})
        return
    if bundle.manifest.weights == "random":
        log("warning: random weights: shapes, numerics and latency are real, answers are not")
    for graph in bundle.manifest.graphs.values():
        print_artifacts(graph.artifacts)
    if rows:
        columns = {column: form for column, form in _COLUMNS.items() if column[0] in rows[0]}
        cells = [[form.format(row[key]) for (key, _), form in columns.items()] for row in rows]
        table([title for _, title in columns], cells, right=tuple(range(3, len(columns))))
    typer.echo(f"{path} is ready: edgekit inspect {path}")
