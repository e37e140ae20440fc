"""NVIDIA's GPUs and their driver, through NVML (PyPI: nvidia-ml-py), and what is missing where it tells nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.devices.jetson import read_module
from edgekit.devices.sensors.sensor import text_or

INSTALL_PACKAGE = 'pip install "edgekit[nvidia]"'
INSTALL_DRIVER = "sudo ubuntu-drivers install (Ubuntu; elsewhere: https://www.nvidia.com/drivers), then restart"
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_DRIVER_FILES = ("proc/driver/nvidia/version", "usr/lib/wsl/lib/libcuda.so.1")


@dataclass(frozen=True)
class Gpu:
    """One GPU; None is what NVML does not tell of it.

    Attributes:
        compute_capability: "8.7".
        memory_mib: its own memory; None where it shares the processor's, as on a Jetson.
    """

    index: int
    name: str
    compute_capability: str | None
    memory_mib: int | None


@dataclass(frozen=True)
class Gpus:
    """The GPUs and the driver.

    Attributes:
        driver: "580.95.05".
        cuda: the newest CUDA that the driver supports, "13.0".
        missing: what keeps NVML from telling; None: it told.
        remedy: the command or step that mends it; None: there is nothing to mend.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    missing: str | None = None
    remedy: str | None = None


def has_nvidia_gpu(root: Path = Path("/")) -> bool:
    """Whether an NVIDIA GPU is on the PCI bus, or its driver is here, or this is a Jetson."""
    if any((root / file).exists() for file in _DRIVER_FILES):
        return True
    for device in (root / "sys/bus/pci/devices").glob("*"):
        if text_or(device / "vendor", "") == _NVIDIA and text_or(device / "class", "").startswith(_DISPLAY):
            return True
    return read_module(root) is not None


def probe_gpus(root: Path = Path("/")) -> Gpus:
    """Ask NVML for the running system; below another `root` only tell whether a GPU is there."""
    if not has_nvidia_gpu(root):
        return Gpus(missing="an NVIDIA GPU")
    if root != Path("/"):
        return Gpus(missing="the running system, of which alone NVML tells")
    try:
        nvml = import_module("pynvml")
    except ImportError as error:
        return Gpus(missing=f"the package nvidia-ml-py ({error})", remedy=INSTALL_PACKAGE)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Gpus(missing=f"NVIDIA's driver ({error})", remedy=INSTALL_DRIVER)
    try:
        return _read(nvml)
    finally:
        nvml.nvmlShutdown()


def _read(nvml: Any) -> Gpus:
    def told(function: Callable[..., Any], *arguments: Any) -> Any:
        """None for what this GPU or driver does not tell: a Jetson's answers most with Not Supported."""
        try:
            return function(*arguments)
        except nvml.NVMLError:
            return None

    gpus = []
    for index in range(told(nvml.nvmlDeviceGetCount) or 0):
        handle = told(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            continue
        name = _text(told(nvml.nvmlDeviceGetName, handle)) or f"GPU {index}"
        capability = told(nvml.nvmlDeviceGetCudaComputeCapability, handle)
        memory = told(nvml.nvmlDeviceGetMemoryInfo, handle)
        gpus.append(
            Gpu(
                index,
                name,
                None if capability is None else f"{capability[0]}.{capability[1]}",
                None if memory is None else int(memory.total) >> 20,
            )
        )
    driver, cuda = told(nvml.nvmlSystemGetDriverVersion), told(nvml.nvmlSystemGetCudaDriverVersion_v2)
    return Gpus(
        tuple(gpus),
        _text(driver),
        None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        None if gpus else "a GPU that NVML tells of",
        None if gpus else "nvidia-smi",
    )


def _text(value: Any) -> str | None:
    """NVML's packages before 11.5 give bytes."""
    return value.decode() if isinstance(value, bytes) else value
