"""What this machine is: processor and its instruction sets, memory, Python, and on a Jetson its module."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.cpu import read_cpu
from edgekit.devices.jetson import read_module


@dataclass(frozen=True)
class Machine:
    """This machine.

    Attributes:
        cpu: the processor's name, as the system gives it.
        num_cpus: processors that this process may use.
        instruction_sets: those that matter for inference.
        memory_mib: memory that Linux manages, None where the system does not tell.
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


def probe_machine(root: Path = Path("/")) -> Machine:
    """Read it off the running system, its files below `root`."""
    cpu = read_cpu(root)
    # containers limit the processors of a process without hiding the others
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        python=platform.python_version(),
        cpu=cpu.name or platform.processor() or platform.machine(),
        num_cpus=usable,
        instruction_sets=cpu.instruction_sets,
        memory_mib=_memory_mib(root),
        jetson=read_module(root),
    )


def _memory_mib(root: Path) -> int | None:
    try:
        text = (root / "proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
            return None
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    total = next((line.split() for line in text.splitlines() if line.startswith("MemTotal:")), [])
    return int(total[1]) // 1024 if len(total) > 1 and total[1].isdigit() else None
