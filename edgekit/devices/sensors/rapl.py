"""RAPL: the energy counters of x86 processors (Intel, and AMD since Zen), through powercap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekit.devices.sensors.sensor import Energy, distinct, read_number, text_or

MEND = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
"""Until the next start. Since Linux 5.10 only root reads the counters, because of CVE-2020-8694."""


def find_rapl(powercap: Path) -> list[Energy]:
    """Every zone below /sys/class/powercap: "package-0", "package-0 dram", "package-0 core", "psys".

    AMD's processors are found under intel-rapl, too. A zone of a package is counted in it, except dram, which is not a
    part of the package; psys counts the packages again. Zones of intel-rapl-mmio are the same counters once more.
    """
    return distinct([_counter(zone) for zone in _zones(powercap)])


def find_packages(powercap: Path) -> list[Energy]:
    """The counters of whole processors alone; memory is not in them."""
    zones = [zone for zone in _zones(powercap) if zone.name.count(":") == 1]
    return distinct([_counter(zone) for zone in zones if text_or(zone / "name", "package").startswith("package")])


def is_whole(name: str) -> bool:
    """Whether a counter of that name is a whole processor, or memory, which is in no processor's counter."""
    return name.startswith("package") and (" " not in name or name.endswith(" dram"))


def _zones(powercap: Path) -> list[Path]:
    return sorted(powercap.glob("intel-rapl:*"))


def _counter(zone: Path) -> Energy:
    name = text_or(zone / "name", zone.name)
    if zone.name.count(":") > 1:  # intel-rapl:0:1 is a part of intel-rapl:0
        parent = zone.with_name(zone.name.rpartition(":")[0])
        name = f"{text_or(parent / 'name', parent.name)} {name}"
    return Energy(name, str(zone / "energy_uj"), _reader(zone / "energy_uj"), MEND, wraps_at_j=_range_j(zone))


def _range_j(zone: Path) -> float | None:
    try:
        return read_number(zone / "max_energy_range_uj") / 1e6
    except (OSError, ValueError):
        return None


def _reader(file: Path) -> Callable[[], float]:
    return lambda: read_number(file) / 1e6
