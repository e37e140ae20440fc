"""Everything that can be read below a root, what cannot, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgekit.devices.sensors.clocks import find_clocks
from edgekit.devices.sensors.nvml import find_gpus
from edgekit.devices.sensors.rails import find_rails
from edgekit.devices.sensors.rapl import find_rapl
from edgekit.devices.sensors.sensor import Clock, Energy, Power, Sensor, Temperature, Throttling, Unreadable, refusal
from edgekit.devices.sensors.thermal import find_temperatures
from edgekit.devices.sensors.throttling import find_throttling
from edgekit.devices.sensors.total import INPUTS, Total, total_of_devices, total_of_rails

_ABSENT = {
    "power": "no sensor: no INA3221 or INA238 in /sys/class/hwmon, no RAPL in /sys/class/powercap, no GPU with NVML",
    "temperature": "no sensor: nothing in /sys/class/thermal, no k10temp in /sys/class/hwmon, no GPU with NVML",
    "clock": "no sensor: no cpufreq in /sys/devices/system/cpu, no GPU in /sys/class/devfreq, no GPU with NVML",
    "throttling": "no sensor: no cooling device of a clock, no thermal_throttle, no get_throttled, no GPU with NVML",
}

_Kind = TypeVar("_Kind", bound=Sensor)


@dataclass(frozen=True)
class Sensors:
    """What a machine tells of itself.

    Attributes:
        total: what the power of the whole is measured by; None: not measured, `not_measured["power"]` says why.
        not_measured: "power" (the total), "temperature", "clocks", "throttling" -> why.
        unreadable: sensors that are there and tell nothing.
    """

    power: tuple[Power, ...]
    energy: tuple[Energy, ...]
    temperature: tuple[Temperature, ...]
    clocks: tuple[Clock, ...]
    throttling: tuple[Throttling, ...]
    total: Total | None
    not_measured: Mapping[str, str]
    unreadable: tuple[Unreadable, ...]


def find_sensors(root: Path = Path("/")) -> Sensors:
    """Look for every sensor below `root`, and read each once. Starts no process and writes nothing."""
    gpus, unreadable = find_gpus(root)
    gpus = _readable(gpus, unreadable)
    rails = _readable(find_rails(root), unreadable)
    rapl = _readable(find_rapl(root / "sys/class/powercap"), unreadable)
    temperature = (*_readable(find_temperatures(root), unreadable), *_of(Temperature, gpus))
    clocks = (*_readable(find_clocks(root), unreadable), *_of(Clock, gpus))
    throttling = (*_readable(find_throttling(root), unreadable), *_of(Throttling, gpus))

    gpu_power, gpu_energy = _of(Power, gpus), _of(Energy, gpus)
    total = total_of_rails(rails)
    if not total and (rapl or not rails):  # on a board with rails a GPU is one of them
        total = total_of_devices(rapl, (*gpu_power, *gpu_energy), unreadable)
    not_measured = {} if total else {"power": _no_total(rails, unreadable)}
    for what, found, kind in (
        ("temperature", temperature, "temperature"),
        ("clocks", clocks, "clock"),
        ("throttling", throttling, "throttling"),
    ):
        if not found:
            not_measured[what] = _why(unreadable, kind)
    return Sensors(
        power=(*rails, *gpu_power),
        energy=(*rapl, *gpu_energy),
        temperature=temperature,
        clocks=clocks,
        throttling=throttling,
        total=total,
        not_measured=not_measured,
        unreadable=tuple(unreadable),
    )


def describe_sensors(sensors: Sensors) -> dict[str, Any]:
    """Plain data for a report; every sensor is read once more.

    Returns:
        `total` (its name, or None), `readable` (each: `name`, `kind`, `value`, which is None where it tells none just
        now, `unit`, `where`; energy is in J since the counter's start), `unreadable` (each: `name`, `kind`, `where`,
        `reason`, and `mend`, the command or None) and `not_measured` (what -> why).
    """
    readable: list[Sensor] = [*sensors.power, *sensors.energy, *sensors.temperature]
    readable += [*sensors.clocks, *sensors.throttling]
    return {
        "total": sensors.total.name if sensors.total else None,
        "readable": [
            {"name": one.name, "kind": one.kind, "value": _value(one), "unit": one.unit, "where": one.where}
            for one in readable
        ],
        "unreadable": [{**asdict(one), "mend": one.mend or None} for one in sensors.unreadable],
        "not_measured": dict(sensors.not_measured),
    }


def _readable(found: Sequence[_Kind], unreadable: list[Unreadable]) -> list[_Kind]:
    """Those that can be read; the others are added to `unreadable`."""
    refused = [refusal(sensor) for sensor in found]
    unreadable += [why for why in refused if why]
    return [sensor for sensor, why in zip(found, refused) if not why]


def _of(kind: type[_Kind], sensors: Iterable[Sensor]) -> tuple[_Kind, ...]:
    return tuple(sensor for sensor in sensors if isinstance(sensor, kind))


def _no_total(rails: Sequence[Power], unreadable: Sequence[Unreadable]) -> str:
    if not rails:
        return _why(unreadable, "power", "energy")
    names = ", ".join(rail.name for rail in rails)
    expected = f"expected a rail that feeds all others ({', '.join(INPUTS)}); received {names}"
    silent = [str(one) for one in unreadable if one.kind == "power"]
    return "; ".join((expected, *silent))


def _why(unreadable: Sequence[Unreadable], *kinds: str) -> str:
    """Of several sensors that cannot be read the first; one reason is mostly that of all."""
    return next((str(one) for one in unreadable if one.kind in kinds), _ABSENT[kinds[0]])


def _value(sensor: Sensor) -> float | None:
    try:
        return sensor.read()
    except (OSError, ValueError):
        return None
