"""Rails of boards with INA power monitors: Jetson's INA3221 and INA238, through hwmon or the older L4T's iio."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgekit.devices.sensors.sensor import Power, distinct, numbered, read_number, text_or

_NOT_CONNECTED = "NC"
_INA3221_CHANNELS = 3


def find_rails(root: Path) -> list[Power]:
    """Every channel that carries something, below `root`.

    hwmon (L4T 34.1 and later, mainline Linux): `in*_input` in mV times `curr*_input` in mA, or `power*_input` in
    microwatts where the driver has it (INA238), named by `in*_label` or `label`. Sources: kernel documentation
    hwmon/ina3221 and hwmon/ina238. iio (L4T 32): `in_power*_input` in mW, named by `rail_name_*`.
    """
    rails: list[Power] = []
    for chip in numbered((root / "sys/class/hwmon").glob("hwmon*")):
        kind = text_or(chip / "name", "")
        if kind.startswith("ina"):
            rails += _hwmon(chip, kind)
    for chip in numbered((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        rails += _iio(chip)
    return distinct(rails)


def _hwmon(chip: Path, kind: str) -> list[Power]:
    files = {file.name for file in chip.glob("*_input")}
    numbers = {int(found[1]) for name in files if (found := re.fullmatch(r"(?:curr|power)(\d+)_input", name))}
    rails = []
    for number in sorted(numbers):
        if kind == "ina3221" and number > _INA3221_CHANNELS:  # curr4 is the sum of the channels, in4 a shunt's voltage
            continue
        label = text_or(chip / f"in{number}_label", text_or(chip / "label", f"{kind} {chip.name} channel {number}"))
        if label == _NOT_CONNECTED:
            continue
        power, volt, current = (chip / f"{what}{number}_input" for what in ("power", "in", "curr"))
        if power.name in files:
            rails.append(Power(label, str(power), _product(power, scale=1e-3)))
        elif volt.name in files:
            rails.append(Power(label, f"{volt}, {current.name}", _product(volt, current, scale=1e-3)))
    return rails


def _iio(chip: Path) -> list[Power]:
    rails = []
    for named in numbered(chip.glob("rail_name_*")):
        number = named.name.rpartition("_")[2]
        label = text_or(named, f"ina3221x {chip.name} channel {number}")
        power, volt, current = (chip / f"in_{what}{number}_input" for what in ("power", "voltage", "current"))
        if label == _NOT_CONNECTED:
            continue
        if power.exists():
            rails.append(Power(label, str(power), _product(power, scale=1.0)))
        else:
            rails.append(Power(label, f"{volt}, {current.name}", _product(volt, current, scale=1e-3)))
    return rails


def _product(*files: Path, scale: float) -> Callable[[], float]:
    def read() -> float:
        value = scale
        for file in files:
            value *= read_number(file)
        return value

    return read
