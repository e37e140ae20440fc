"""What adapting costs: time, memory, energy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.runtime.benchmark_asr import peak_memory_mib

_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Cost:
    """What one adaptation took.

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
    before_uj, cpu_s, start_s = _energy_uj(powercap), time.process_time(), time.perf_counter()
    yield meter
    seconds, cpu_seconds, after_uj = time.perf_counter() - start_s, time.process_time() - cpu_s, _energy_uj(powercap)
    meter.cost = Cost(seconds, cpu_seconds, peak_memory_mib(), _joules(before_uj, after_uj))


def _energy_uj(powercap: Path) -> dict[str, tuple[int, int]] | None:
    """Counter and its range by processor; None where one is missing or may not be read."""
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") == 1:  # a zone within another is counted there
            try:
                told = tuple(int((zone / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
            except (OSError, ValueError):
                return None
            found[zone.name] = told[0], told[1]
    return found or None


def _joules(before: dict[str, tuple[int, int]] | None, after: dict[str, tuple[int, int]] | None) -> float | None:
    """A counter that is smaller than before began anew, once: it does so after minutes under full load."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    return sum((after[zone][0] - before[zone][0]) % after[zone][1] for zone in after) / 1e6
