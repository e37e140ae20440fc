"""`edgekit verify`: execute a bundle's artifacts here and hold them to the original model's answers."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.inspect import print_artifacts
from edgekit.cli.options import BundlePath, Json
from edgekit.cli.output import print_json


def verify(
    bundle: BundlePath,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: each backend's first.")] = None,
    json: Json = False,
) -> None:
    """Execute each artifact, alone and batched, and record in the manifest what came out."""
    from dataclasses import asdict

    from edgekit.export.verify import verify_bundle
    from edgekit.runtime.backends.base import SessionOptions

    checked = verify_bundle(bundle, options=SessionOptions(device=device))
    if json:
        print_json([{"graph": name, **asdict(artifact)} for name, artifact in checked])
    else:
        print_artifacts([artifact for _, artifact in checked])
