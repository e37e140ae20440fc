"""`edgekit inspect`: what a bundle holds and how it was checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from edgekit.cli.options import Json, OptionalBundlePath
from edgekit.cli.output import print_json, table

if TYPE_CHECKING:
    from edgekit.core.bundle import Adaptation, Artifact

_SHERPA = {
    "zipformer2_ctc": "sherpa-onnx-offline --zipformer-ctc-model",
    "zipformer2": "sherpa-onnx --zipformer2-ctc-model",
}
"""How sherpa-onnx is started, by the type of model."""


def inspect(bundle: OptionalBundlePath = None, json: Json = False) -> None:
    """Show what a bundle holds, where its weights come from, and how each artifact was checked."""
    from edgekit.core.bundle import open_bundle
    from edgekit.runtime.builtin import builtin_bundle

    opened = open_bundle(bundle or builtin_bundle())
    manifest = opened.manifest
    if json:
        print_json(manifest.to_json())
        return
    weights = manifest.provenance["weights"]
    origin = {
        "random": "random (answers mean nothing)",
        "checkpoint": f"checkpoint {weights.get('name')}",
        "built-in": f"built-in, {weights.get('licence')}",
    }
    typer.echo(f"{opened.path}: {manifest.family} {manifest.variant}, {manifest.task}")
    typer.echo(f"weights: {origin.get(manifest.weights, manifest.weights)}")
    for name, graph in manifest.graphs.items():
        typer.echo(f"\ngraph {name}")
        for spec in graph.signature.inputs:
            typer.echo(f"  in   {spec}")
        for spec in graph.signature.outputs:
            typer.echo(f"  out  {spec}")
        for dim in graph.signature.dims.values():
            typer.echo(f"  {dim.name}: {', '.join(f'{low}..{high}' for low, _, high in dim.buckets)}")
        print_artifacts(graph.artifacts)
    if manifest.adaptation is not None:
        typer.echo(f"\n{_adaptable(manifest.adaptation)}")


def _adaptable(adaptation: Adaptation) -> str:
    """What of it is one user's, and whether it can be learned here."""
    size = f"theta: {adaptation.layout.size:,} values, layout {adaptation.layout.hash[:16]}"
    if not adaptation.gradient:
        return f"{size}, without gradients: learned elsewhere, used here"
    gradients = f"{size}\ngradients: {sum(file.num_bytes for file in adaptation.gradient) / 2**20:.1f} MiB"
    try:
        error = f"max relative error {adaptation.checked['max_relative_error']:.1e} against float64"
        return f"{gradients}, {adaptation.checked['gates']} gates passed, {error}; learn with edgekit adapt"
    except (LookupError, TypeError, ValueError):
        return f"{gradients}, the record of their check cannot be read"


def print_artifacts(artifacts: Iterable[Artifact]) -> None:
    """The artifacts of one graph as a table; below each, the precisions that its backend computes from it by a hint."""
    rows, commands = [], []
    for artifact in artifacts:
        size = f"{artifact.num_bytes / 2**20:.1f}"
        rows.append([artifact.format, artifact.precision, size, *_checked(artifact)])
        rows += [[artifact.format, f"{name} hint", "", *_checked(hint)] for name, hint in artifact.hinted().items()]
        if artifact.format == "sherpa":
            option = _SHERPA.get(str(artifact.details.get("model_type")), _SHERPA["zipformer2_ctc"])
            commands.append(f"{option}={artifact.files[0].name} --tokens={artifact.files[-1].name} speech.wav")
    table(["format", "precision", "MiB", "state", "checked"], rows, right=(2,))
    for command in commands:
        typer.echo(command)


def _checked(artifact: Artifact) -> tuple[str, str]:
    if artifact.failed:
        return "FAILED", str(artifact.reason)
    if artifact.parity is None:
        return "not executed", str(artifact.reason).removeprefix("not executed: ")
    try:
        return "verified", _figures(artifact.parity, artifact.precision)
    except (LookupError, TypeError, ValueError, OverflowError):
        return "unknown", "the record of its check cannot be read: edgekit verify BUNDLE"


def _figures(parity: dict[str, Any], precision: str) -> str:
    """The worst figures of a check, and on what; raises for a record that is not `edgekit verify`'s."""
    worst = max(parity["alone_max_abs"], parity.get("batched_max_abs", 0.0))
    cosine = min(parity["alone_cosine"], parity.get("batched_cosine", 1.0))
    inputs = f"{len(parity['lengths'])} {parity['inputs']} lengths"
    if not parity["lengths"]:  # of what has none
        inputs = f"{parity['items']} {parity['inputs']} items"
    if parity["computed_in"] != precision:
        inputs += f", computed in {parity['computed_in']}"
    inputs += ", batched and alone" if "batched_max_abs" in parity else ""
    return f"max error {worst:.1e}, cosine {cosine:.6f}, {inputs}, {parity['backend']}"
