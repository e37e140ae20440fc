"""What adapting costs: time, memory, energy."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.devices.sensors.rapl import find_packages
from edgekit.devices.sensors.sensor import Energy, spent_j
from edgekit.runtime.benchmark_asr import peak_memory_mib

_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Cost:
    """What one adaptation took, all learning rates that it tried together.

    Attributes:
        seconds: wall time.
        cpu_seconds: of all threads of this process.
        peak_memory_mib: the most resident memory of this process until the end; each task has a process of its own.
        joules: of the whole processors as their own counters tell (RAPL), other processes included; None where they
            cannot be read. It means something only where nothing else runs.
    """

    seconds: float
    cpu_seconds: float
    peak_memory_mib: float
    joules: float | None


@dataclass
class Meter:
    """Filled when its block has ended."""

    cost: Cost = field(init=False)


@contextmanager
def measured(powercap: Path = _POWERCAP) -> Iterator[Meter]:
    """Measure a block: `with measured() as meter: ...`, then `meter.cost`."""
    meter = Meter()
    processors = find_packages(powercap)
    before_j, cpu_s, start_s = _energy_j(processors), time.process_time(), time.perf_counter()
    yield meter
    seconds, cpu_seconds, after_j = time.perf_counter() - start_s, time.process_time() - cpu_s, _energy_j(processors)
    meter.cost = Cost(seconds, cpu_seconds, peak_memory_mib(), _joules(processors, before_j, after_j))


def _energy_j(processors: Sequence[Energy]) -> list[float] | None:
    """What each counter says; None where one may not be read, or there is none."""
    try:
        return [counter.read() for counter in processors] or None
    except (OSError, ValueError):
        return None


def _joules(processors: Sequence[Energy], before: list[float] | None, after: list[float] | None) -> float | None:
    """A counter that is smaller than before began anew, once: it does so after minutes under full load."""
    if before is None or after is None:
        return None
    try:
        return sum(spent_j(first, last, one.wraps_at_j) for one, first, last in zip(processors, before, after))
    except ValueError:
        return None
