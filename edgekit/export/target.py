"""What a target is built: formats, precision and workspace, and a refusal of what cannot run there. Torch-free."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import BackendError, ExportError, UsageError
from edgekit.devices.target import Target, find_target
from edgekit.export.build import PRECISIONS, Request
from edgekit.runtime import cuda

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_ANYWHERE = ("onnx", "sherpa")
"""ONNX Runtime and sherpa-onnx have wheels for x86-64 and aarch64."""
_ENGINES = ("trt", "trt-rtx")
_OLDEST_TENSORRT = (10, 3)
_RTX = "7.5, 8.6, 8.9 and 12.0"


def requests_for(name: str, formats: Sequence[str], precision: str | None) -> list[Request]:
    """What is to be built for a target besides the fp32 ONNX.

    Args:
        name: of the target.
        formats: those that the user asks for; none: the one that the target runs best.
        precision: what the user asks for; None: fp16 for engines, fp32 for all else.

    Raises:
        UsageError: no such target, or it cannot run what is asked for; names both.
    """
    target = find_target(name)
    for format in formats:
        if format not in (*target.formats, *_ANYWHERE):
            raise UsageError(
                f"expected a format that {name} runs ({', '.join(target.formats)}), received {format}: "
                f"{_why_not(target, format)}",
                hint=f"leave it out; edgekit devices --target {name} says what it runs",
            )
    if precision is not None and precision in PRECISIONS and precision not in target.precisions:
        raise UsageError(
            f"expected a precision that {name} computes in ({', '.join(target.precisions)}), received {precision}"
            + (f": its compute capability is {target.compute_capability}" if target.compute_capability else ""),
            hint=f"leave out --precision, or --precision {target.precisions[-1]}",
        )
    wanted = []
    for format in formats or target.formats[:1]:
        chosen = precision or ("fp16" if format in _ENGINES and "fp16" in target.precisions else "fp32")
        wanted.append(Request(format, chosen))
    return wanted


def _why_not(target: Target, format: str) -> str:
    if format not in _ENGINES:
        return "it runs on processors; that of a card's host is a target of its own (x86-avx2, ...)"
    if target.compute_capability is None:
        return f"{target.title} has no NVIDIA GPU"
    versions = [software.tensorrt for software in target.software if software.tensorrt is not None]
    if format == "trt" and versions and all(_number(version) < _OLDEST_TENSORRT for version in versions):
        oldest = ".".join(map(str, _OLDEST_TENSORRT))
        return f"its newest TensorRT is {versions[0]}, edgekit builds with {oldest} or newer"
    return f"TensorRT-RTX runs on GPUs of compute capability {_RTX} in x86-64 machines, not on {target.title}"


def check_memory(name: str, num_bytes: int, requests: Sequence[Request]) -> None:
    """Refuse a model whose weights alone do not fit into the target's memory; what else it needs is not counted.

    Args:
        num_bytes: of its weights in fp32.
        requests: what is to run there. An engine of TensorRT is built on the target itself, from fp32.

    Raises:
        ExportError: it does not fit.
    """
    target = find_target(name)
    if target.memory_mib is None:
        return
    for request in requests or (Request("onnx"),):
        share = _BYTES["fp32" if request.format == "trt" else request.precision] / _BYTES["fp32"]
        needed_mib = num_bytes * share / 2**20
        if needed_mib > target.memory_mib:
            raise ExportError(
                f"expected weights of at most {target.memory_mib:,} MiB, the memory of {name}; received "
                f"{needed_mib:,.0f} MiB for {request}",
                hint="a smaller --variant, or another --target (edgekit devices --targets)",
            )


def workspace_mib(name: str) -> int | None:
    """How much memory layers of an engine may use while they run: half of a card's, a quarter where all share it.

    None where the memory is not known: the builder then takes what there is.
    """
    target = find_target(name)
    if target.memory_mib is None:
        return None
    return target.memory_mib // (4 if target.shared_memory else 2)


def not_here(name: str, request: Request) -> str | None:
    """Why something for a target cannot be built on this machine; None: it can be.

    An engine of TensorRT is for the GPU that it was built on; all other formats are made anywhere.
    """
    target = find_target(name)
    if request.format != "trt":
        return None
    gpus = cuda.devices()
    wanted = f"TensorRT builds on the GPU that the engine is for, of compute capability {target.compute_capability}"
    if not gpus:
        return f"{wanted}; this machine has none"
    if target.compute_capability not in [gpu.compute_capability for gpu in gpus]:
        return f"{wanted}; this machine has {gpus[0].name}, {gpus[0].compute_capability}"
    if target.kind == "jetson" and platform.machine() != "aarch64":
        return f"{wanted}, on aarch64; this machine is {platform.machine()}"
    return None


def hold_to_target(path: Path, name: str, requests: Sequence[Request]) -> int | None:
    """Check that what is asked for can be built here from a bundle for a target; return the builder's `workspace_mib`.

    Raises:
        BundleError: no bundle.
        ExportError: it does not fit into the target's memory.
        BackendError: only the target itself can build it, and this is another machine.
    """
    graphs = open_bundle(path).manifest.graphs.values()
    check_memory(name, max(graph.artifacts[0].files[0].num_bytes for graph in graphs), requests)
    for request in requests:
        reason = not_here(name, request)
        if reason is not None:
            raise BackendError(
                f"expected to build {request} for {name} on that device itself: {reason}",
                hint=f"there: {request.command(path)} --target {name}",
            )
    return workspace_mib(name)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
