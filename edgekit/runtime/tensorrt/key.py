"""An engine's key: what it depends on when it is built, and whether the machine that opens it has the same."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.runtime import cuda

_KEY_FIELDS = {
    "tensorrt": "TensorRT",
    "gpu": "GPU",
    "compute_capability": "compute capability",
    "os": "system",
    "machine": "processor",
}


def machine_key(format: str, module: Any, gpu: cuda.Device | None) -> dict[str, Any]:
    """What an engine that is built here and now depends on; None where it runs on any.

    An engine of TensorRT-RTX is portable over its target GPUs and over Linux and Windows, and compiles its kernels
    when it is loaded; one of TensorRT is for one model of GPU.
    """
    portable = format == "trt-rtx"
    names = vars(module.ComputeCapability) if portable else ()
    targets = [f"{match[1]}.{match[2]}" for name in names if (match := re.fullmatch(r"SM(\d+)(\d)", name))]
    return {
        "format": format,
        "tensorrt": str(module.__version__),
        "gpu": None if portable or gpu is None else gpu.name,
        "compute_capability": None if portable or gpu is None else gpu.compute_capability,
        # 7.5 has to be asked for when the engine is built, which we do not.
        "targets": sorted((target for target in targets if _number(target) >= (8, 0)), key=_number),
        "cuda_driver": cuda.driver_version(),
        "os": None if portable else platform.system(),
        "machine": platform.machine(),
    }


def differences(recorded: Mapping[str, Any], here: Mapping[str, Any], gpu: cuda.Device | None) -> list[str]:
    """In which ways an engine's key does not fit a machine; another CUDA driver does fit.

    Args:
        recorded: the key beside the engine.
        here: `machine_key` of this machine; without a GPU the GPU is not compared.
        gpu: this machine's.
    """
    found = []
    for key, name in _KEY_FIELDS.items():
        if key not in recorded:
            found.append(f"its {name} was not recorded")
        elif None not in (recorded[key], here[key]) and recorded[key] != here[key]:
            found.append(f"built for {name} {recorded[key]}, this is {here[key]}")
    if gpu is not None and not is_target(gpu.compute_capability, recorded.get("targets", ())):
        wanted = ", ".join(recorded["targets"])
        found.append(f"built for compute capability {wanted} or newer, this is {gpu.compute_capability}")
    now = recorded.get("bundle_onnx_sha256")
    if now is not None and now != recorded.get("onnx_sha256"):
        found.append("built from another ONNX than the bundle's")
    return found


def is_target(compute_capability: str, targets: Sequence[str]) -> bool:
    """Whether a GPU is one of the targets, or newer than all of them; no targets: any."""
    if not targets or compute_capability in targets:
        return True
    return _number(compute_capability) > max(_number(target) for target in targets)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
