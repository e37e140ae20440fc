"""How much memory this process holds, resident, and how much it has held at most."""

from __future__ import annotations

import os
import re
import resource
import sys
from importlib import import_module
from pathlib import Path


def peak_memory_mib() -> float:
    """The most memory that this process has held until now, resident, in MiB.

    Linux's VmHWM where it is told: `ru_maxrss` starts from what the process that started this one held.
    """
    told = _told("VmHWM")
    if told is not None:
        return told
    # KiB; bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def resident_memory_mib() -> float | None:
    """What this process holds now, resident, in MiB; None where the system does not tell (it is not Linux)."""
    return _told("VmRSS")


def _told(name: str) -> float | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE)
    return None if found is None else int(found[1]) / 2**10


def gpu_memory_mib() -> tuple[float | None, str | None]:
    """The memory that this process holds on NVIDIA's GPUs as NVML tells it, in MiB; or None, and why."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None, "expected the package nvidia-ml-py, it is not installed: pip install 'edgekit[nvidia]'"
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        processes = [each for handle in handles for each in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except nvml.NVMLError as error:
        return None, f"NVML: {error}"
    own = [each.usedGpuMemory for each in processes if each.pid == os.getpid()]
    if not own or None in own:
        return None, "NVML does not tell this process's memory, as in a container with process numbers of its own"
    return sum(own) / 2**20, None
