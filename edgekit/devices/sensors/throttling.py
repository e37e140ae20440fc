"""What holds clocks down: cooling devices, counters of throttling and over-current, a Raspberry Pi's firmware."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgekit.devices.sensors.sensor import Throttling, distinct, numbered, read_number, text_or

_LIMITS_A_CLOCK = re.compile(r"(thermal-)?(cpufreq|devfreq)-.*|.*-throttle-alert")
_PROCESSOR = "Processor"

PI_FLAGS = {1: "under-voltage", 2: "clock capped", 4: "throttled", 8: "soft temperature limit"}
"""What holds now; the bits from 16 on say what has happened since the start and are left alone."""


def find_throttling(root: Path) -> list[Throttling]:
    """Everything below `root` that tells whether a clock is held down; fans are not among it.

    Sources: kernel documentation driver-api/thermal/sysfs-api (`cur_state`: 0 is no cooling); the Jetson Linux
    Developer Guide (`*-throttle-alert`, `oc*_event_cnt`: under-voltage and over-current); arch/x86 therm_throt
    (`*_throttle_count`); the Raspberry Pi kernel's drivers/firmware/raspberrypi.c (`get_throttled`: hexadecimal, up to
    2 s old).
    """
    return distinct([*_cooling(root), *_over_current(root), *_counters(root), *_raspberry_pi(root)])


def _cooling(root: Path) -> list[Throttling]:
    found, processors = [], 0
    for device in numbered((root / "sys/class/thermal").glob("cooling_device*")):
        name = text_or(device / "type", "")
        # ACPI has one of these for each processor, and limits all of them together
        processors += name == _PROCESSOR
        if _LIMITS_A_CLOCK.fullmatch(name) or (name == _PROCESSOR and processors == 1):
            found.append(Throttling(name, str(device / "cur_state"), _reader(device / "cur_state")))
    return found


def _over_current(root: Path) -> list[Throttling]:
    files = numbered((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))
    return [Throttling(file.name.partition("_")[0], str(file), _reader(file), counts=True) for file in files]


def _counters(root: Path) -> list[Throttling]:
    """A package's counter covers its cores; where the processor has none, every core's."""
    found: dict[str, Throttling] = {}
    for cpu in numbered((root / "sys/devices/system/cpu").glob("cpu[0-9]*")):
        for what, by in (("package", "physical_package_id"), ("core", "")):
            file = cpu / "thermal_throttle" / f"{what}_throttle_count"
            if file.exists():
                number = text_or(cpu / "topology" / by, "0") if by else cpu.name[3:]
                name = f"{what} {number} thermal throttling"
                found.setdefault(name, Throttling(name, str(file), _reader(file), counts=True))
                break
    return list(found.values())


def _raspberry_pi(root: Path) -> list[Throttling]:
    files = sorted((root / "sys/devices/platform").glob("soc*/soc*:firmware/get_throttled"))
    return [Throttling("Raspberry Pi", str(file), _reader(file, base=16), flags=PI_FLAGS) for file in files]


def _reader(file: Path, base: int = 10) -> Callable[[], float]:
    return lambda: read_number(file, base)
