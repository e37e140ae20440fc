"""Temperatures: the kernel's thermal zones, and the processor's own sensor on AMD's PCs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from edgekit.devices.sensors.sensor import Temperature, distinct, numbered, read_number, text_or

_OFF_C = -100.0
_BELOW_CRITICAL_C = 5.0


def find_temperatures(root: Path) -> list[Temperature]:
    """Every zone of /sys/class/thermal, and of AMD's PCs, which have no zone for the processor, k10temp's."""
    found = []
    for zone in numbered((root / "sys/class/thermal").glob("thermal_zone*")):
        name = text_or(zone / "type", zone.name)
        found.append(Temperature(name, str(zone / "temp"), _reader(zone / "temp"), hot_c=_hot_c(zone)))
    for chip in numbered((root / "sys/class/hwmon").glob("hwmon*")):
        if text_or(chip / "name", "") == "k10temp":
            file = chip / "temp1_input"
            found.append(Temperature(f"k10temp {text_or(chip / 'temp1_label', 'temp1')}", str(file), _reader(file)))
    return distinct(found)


def _reader(file: Path) -> Callable[[], float]:
    def read() -> float:
        value_c = read_number(file) / 1e3
        if value_c < _OFF_C:  # Jetson's zones tell -256 of a part that is off, the kernel -274 of what it cannot know
            # a GPU wakes up in the run (jetson_stats issue 350); newer kernels answer so themselves
            raise OSError(errno.EAGAIN, "the part is off")
        return value_c

    return read


def _hot_c(zone: Path) -> float | None:
    """Where the kernel begins to slow down ("passive", "hot"), or shortly before it switches off ("critical")."""
    limits = []
    for file in zone.glob("trip_point_*_type"):
        kind = text_or(file, "")
        try:
            limit_c = read_number(file.with_name(file.name.replace("_type", "_temp"))) / 1e3
        except (OSError, ValueError):
            continue
        if limit_c > 0 and kind in ("passive", "hot"):  # trip points that nobody has set are zero or less
            limits.append(limit_c)
        elif limit_c > _BELOW_CRITICAL_C and kind == "critical":
            limits.append(limit_c - _BELOW_CRITICAL_C)
    return min(limits, default=None)
