"""Add a format to a bundle from its fp32 ONNX, on the machine that will run it. Torch-free."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from edgekit.core.bundle import Artifact, Bundle, Graph, StoredFile, build_command, open_bundle
from edgekit.core.bundle_writer import BundleWriter, writing
from edgekit.core.errors import BackendError, BundleError, UsageError, unknown
from edgekit.core.files import explained
from edgekit.export.verify import check_artifact, load_reference

FORMATS = ("onnx", "openvino", "trt", "trt-rtx", "sherpa")
PRECISIONS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Request:
    """One thing to build."""

    format: str
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format", self.format, FORMATS)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.format == "sherpa" and self.precision != "fp32":
            raise UsageError(f"expected sherpa fp32, received {self.precision}", hint="leave out --precision")

    def __str__(self) -> str:
        return f"{self.format} {self.precision}"

    def command(self, path: Path) -> str:
        """The command that builds this."""
        return build_command(path, self.format, self.precision)


def build(
    path: Path | str,
    request: Request,
    *,
    target: str | None = None,
    workspace_mib: int | None = None,
    log: Callable[[str], None] | None = None,
) -> list[Artifact]:
    """Build one format and precision of every graph of a bundle, check it where it can run, and commit it.

    Args:
        target: the device that it is for, recorded in the bundle's provenance.
        workspace_mib: see `tensorrt.build_engine`.
        log: told of a builder's warnings, and of a graph that sherpa-onnx has no use for.

    Returns:
        The new artifacts, one per graph.

    Raises:
        BackendError: what builds the format is not on this machine.
        ExportError: the graph cannot be built.
        VerificationError: it was built and answers wrongly; the bundle is left as it was.
    """
    bundle = open_bundle(path)
    made = []
    with writing(path) as writer:
        bundle = open_bundle(path)  # as it is now that nobody else writes
        manifest = bundle.manifest
        if target is not None:
            known = manifest.provenance.get("targets", [])
            provenance = {**manifest.provenance, "targets": [*known, *({target} - set(known))]}
            manifest = replace(manifest, provenance=provenance)
        for name, graph in manifest.graphs.items():
            if request.format == "sherpa" and (why := _left_out(bundle, name)) is not None:
                if log is not None:
                    log(why)
                continue
            artifact = build_artifact(bundle, writer, name, graph, request, log, workspace_mib=workspace_mib)
            artifact = check_artifact(bundle, name, artifact, load_reference(bundle, name))
            manifest = replace(manifest, graphs={**manifest.graphs, name: graph.with_artifact(artifact)})
            made.append(artifact)
        writer.commit(manifest)
    return made


def build_artifact(
    bundle: Bundle,
    writer: BundleWriter,
    name: str,
    graph: Graph,
    request: Request,
    log: Callable[[str], None] | None = None,
    *,
    workspace_mib: int | None = None,
) -> Artifact:
    """Build one format of one graph into the bundle's folder, unchecked and not yet committed."""
    source = bundle.checked(graph.artifacts[0].files[0])
    details: dict[str, Any] = {}
    engine: dict[str, Any] | None = None
    if request == Request("onnx", "fp32"):
        raise UsageError(
            "the fp32 ONNX is what all else is built from; it is made by edgekit export",
            hint=f"edgekit export {bundle.manifest.family} --out {bundle.path}",
        )
    if request.format == "openvino" and request.precision != "fp32":
        raise UsageError(
            f"expected openvino fp32, received {request.precision}",
            hint=f"OpenVINO computes in {request.precision} from its fp32 model: --precision when it runs",
        )
    with writer.staging() as folder:
        onnx_path = in_precision(source, request.precision, folder / "model.onnx")
        paths: tuple[Path, ...] = (onnx_path,)
        if request.format == "openvino":
            from edgekit.export.openvino import convert

            paths, details = convert(onnx_path, graph.signature, folder)
        elif request.format == "sherpa":
            from edgekit.export.sherpa.files import convert as convert_for_sherpa

            paths, details = convert_for_sherpa(onnx_path, bundle, graph, folder)
        elif request.format != "onnx":
            from edgekit.export.tensorrt import build_engine, engine_key

            paths = (folder / "model.engine",)
            details = build_engine(
                onnx_path,
                graph.signature,
                format=request.format,
                out=paths[0],
                precision=request.precision,
                workspace_mib=workspace_mib,
                # TensorRT-RTX keeps none
                timing_cache=user_cache_path("edgekit") / "trt.timing" if request.format == "trt" else None,
                log=log,
            )
            engine = engine_key(request.format, graph.artifacts[0].files[0].sha256)
        stem = f"{name}-{request.format}-{request.precision}"
        files: tuple[StoredFile, ...] = tuple(writer.add(path, stem) for path in paths)
    return Artifact(
        request.format, request.precision, files, reason="not executed: just built", engine=engine, details=details
    )


def _left_out(bundle: Bundle, graph: str) -> str | None:
    from edgekit.export.sherpa.files import left_out

    return left_out(bundle, graph)


def in_precision(source: Path, precision: str, target: Path) -> Path:
    """Write a bundle's fp32 ONNX in standard operators alone, computing in `precision`; return `target`.

    Raises:
        BackendError: the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise BackendError(
            f"expected the package onnx, it cannot be imported ({error})", hint='pip install "edgekit[jetson]"'
        ) from error
    from edgekit.export.attention import plain
    from edgekit.export.precision import cast_graph

    model = plain(onnx.load(source))
    if precision != "fp32":
        model = cast_graph(model, precision)
    with explained(target):
        onnx.save(model, target)
    return target


def check_free_space(path: Path, num_bytes: int) -> None:
    """Raise early where the disk cannot hold what is about to be written."""
    parent = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    if free < num_bytes:
        raise BundleError(
            f"expected {num_bytes / 2**20:.0f} MiB free at {parent}, there are {free / 2**20:.0f}",
            hint="free some space or choose another --out",
        )
