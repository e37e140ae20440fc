"""`edgekit build`: add a format to a bundle, on the machine that will run it, without torch."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.formats import requests_of
from edgekit.cli.inspect import print_artifacts
from edgekit.cli.options import BundlePath, Formats, Json, OpenVino, Precision, Trt, TrtRtx
from edgekit.cli.output import log, print_json, progress


def build(
    bundle: BundlePath,
    format: Formats = None,
    precision: Precision = "fp32",
    openvino: OpenVino = False,
    trt: Trt = False,
    trt_rtx: TrtRtx = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not pass on the builder's warnings.")] = False,
    json: Json = False,
) -> None:
    """Add formats to a bundle: built from its ONNX, checked where they can run, committed."""
    from dataclasses import asdict

    from edgekit.core.errors import UsageError
    from edgekit.export.build import build as build_format

    requests = requests_of(format, precision, openvino=openvino, trt=trt, trt_rtx=trt_rtx)
    if not requests:
        raise UsageError(
            "expected what to build besides the fp32 ONNX, which every bundle has; received nothing",
            hint=f"edgekit build {bundle} --openvino",
        )
    made = []
    with progress() as report:
        for request in requests:
            report(f"building {request}")
            made += build_format(bundle, request, log=None if quiet else lambda text: log(f"  {text}"))
    if json:
        print_json([asdict(artifact) for artifact in made])
    else:
        print_artifacts(made)
