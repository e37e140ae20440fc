"""`edgekit inspect`: what a bundle holds and how it was checked."""

from __future__ import annotations

import typer

from edgekit.cli.options import BundlePath, Json
from edgekit.cli.output import print_json, table


def inspect(bundle: BundlePath, json: Json = False) -> None:
    """Show what a bundle holds, where its weights come from, and how each artifact was checked."""
    from edgekit.core.bundle import open_bundle

    opened = open_bundle(bundle)
    manifest = opened.manifest
    if json:
        print_json(manifest.to_json())
        return
    weights = manifest.provenance["weights"]
    origin = {"random": "random (answers mean nothing)", "checkpoint": f"checkpoint {weights.get('name')}"}
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


def print_artifacts(artifacts: object) -> None:
    """The artifacts of one graph as a table."""
    from edgekit.core.bundle import Artifact

    rows = []
    for artifact in artifacts:  # type: ignore[attr-defined]
        assert isinstance(artifact, Artifact)
        rows.append([artifact.format, artifact.precision, f"{artifact.num_bytes / 2**20:.1f}", *_checked(artifact)])
    table(["format", "precision", "MiB", "state", "checked"], rows, right=(2,))


def _checked(artifact: object) -> tuple[str, str]:
    parity, reason = artifact.parity, artifact.reason  # type: ignore[attr-defined]
    if artifact.failed:  # type: ignore[attr-defined]
        return "FAILED", str(reason)
    if parity is None:
        return "not executed", str(reason).removeprefix("not executed: ")
    worst = max(parity["alone_max_abs"], parity.get("batched_max_abs", 0.0))
    cosine = min(parity["alone_cosine"], parity.get("batched_cosine", 1.0))
    inputs = f"{len(parity['lengths'])} {parity['inputs']} lengths"
    if parity["computed_in"] != artifact.precision:  # type: ignore[attr-defined]
        inputs += f", computed in {parity['computed_in']}"
    inputs += ", batched and alone" if "batched_max_abs" in parity else ""
    return "verified", f"max error {worst:.1e}, cosine {cosine:.6f}, {inputs}, {parity['backend']}"
