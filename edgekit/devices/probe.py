"""What this machine is: processor and its instruction sets, memory, Python, GPU driver."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_INSTRUCTION_SETS = (
    ("avx2", "AVX2"),
    ("avx512f", "AVX-512"),
    ("avx512_vnni", "VNNI"),
    ("avx512_bf16", "bf16"),
    ("amx_tile", "AMX"),
    ("asimd", "NEON"),
    ("asimddp", "NEON dot product"),
    ("bf16", "bf16"),
)


@dataclass(frozen=True)
class Machine:
    """This machine.

    Attributes:
        cpu: the processor's name, as the system gives it.
        num_cpus: processors that this process may use.
        instruction_sets: those that matter for inference.
        memory_mib: installed memory, None where the system does not tell.
        jetson: the module's name on a Jetson, else None.
    """

    system: str
    architecture: str
    python: str
    cpu: str
    num_cpus: int
    instruction_sets: tuple[str, ...]
    memory_mib: int | None
    jetson: str | None


def probe_machine() -> Machine:
    """Read it off the running system."""
    info = _cpu_info()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    # containers limit the processors of a process without hiding the others
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        num_cpus=usable,
        instruction_sets=tuple(dict.fromkeys(name for flag, name in _INSTRUCTION_SETS if flag in flags)),
        memory_mib=_memory_mib(),
        jetson=_jetson(),
    )


def _cpu_info() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo; empty where there is none."""
    try:
        block = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _memory_mib() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20


def _jetson() -> str | None:
    """The device tree's model of NVIDIA's boards."""
    try:
        model = Path("/proc/device-tree/model").read_text(encoding="utf-8").rstrip("\0\n")
    except (OSError, UnicodeDecodeError):
        return None
    return model if "NVIDIA" in model or "Jetson" in model else None
