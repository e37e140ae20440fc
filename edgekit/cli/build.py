"""`edgekit build`: add a format to a bundle, on the machine that will run it, without torch."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.formats import requests_of
from edgekit.cli.inspect import print_artifacts
from edgekit.cli.options import BuildPrecision, BundlePath, Formats, Json, OpenVino, TargetName, Trt, TrtRtx
from edgekit.cli.output import log, print_json, progress


def build(
    bundle: BundlePath,
    format: Formats = None,
    precision: BuildPrecision = None,
    target: TargetName = None,
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

    requests = requests_of(format, precision, openvino=openvino, trt=trt, trt_rtx=trt_rtx, target=target)
    limit_mib = None
    if target is not None:
        from edgekit.export.target import hold_to_target

        limit_mib = hold_to_target(bundle, target, requests)
    if not requests and target is not None:
        log(f"{target} runs the fp32 ONNX, which every bundle has: nothing to build")
    elif not requests:
        raise UsageError(
            "expected what to build besides the fp32 ONNX, which every bundle has; received nothing",
            hint=f"edgekit build {bundle} --openvino",
        )
    made = []
    with progress() as report:
        for request in requests:
            report(f"building {request}")
            made += build_format(
                bundle,
                request,
                target=target,
                workspace_mib=limit_mib,
                log=None if quiet else lambda text: log(f"  {text}"),
            )
    if json:
        print_json([asdict(artifact) for artifact in made])
    elif made:
        print_artifacts(made)
