"""What the power of the whole is measured by: the input, or the parts that have nothing in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.devices.sensors.rapl import is_whole
from edgekit.devices.sensors.sensor import Energy, Power, Unreadable

INPUTS = ("VIN", "VDD_IN", "POM_5V_IN", "5V_IN")
"""Rails that feed all others. VIN (INA238) is a Thor with its carrier board, the others are a module."""

PARALLEL_INPUTS = (("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"))
"""Modules without such a rail, AGX Orin and AGX Xavier: side by side, these are all that enters the module.

AGX Orin: SYS_VIN_HV feeds the first two, SYS_VIN_MV the third, and that feeds VDDQ_VDD2_1V8AO, so that this one is left
out (NVIDIA's developer forum, 223111). AGX Xavier: figure 5-14 of the Product Design Guide DG-09840. The carrier board
is in neither.
"""


@dataclass(frozen=True)
class Total:
    """What the power of the whole is.

    Attributes:
        name: for people.
        parts: the sensors whose sum it is: of each its counter where it has one, else its power.
        left_out: what draws power and is not in it, one sentence each.
    """

    name: str
    parts: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def total_of_rails(rails: Sequence[Power]) -> Total | None:
    """The input of a board with rails. None: not known; rails that feed each other have no sum."""
    names = [rail.name for rail in rails]
    for parts in ((name,) for name in INPUTS):
        if parts[0] in names:
            return Total(parts[0], parts)
    for several in PARALLEL_INPUTS:
        if set(several) <= set(names):
            return Total(" + ".join(several), several)
    return None


def total_of_devices(
    rapl: Sequence[Energy], gpus: Sequence[Power | Energy], unreadable: Sequence[Unreadable]
) -> Total | None:
    """Processors with their memory, and GPUs. None: neither tells.

    Args:
        rapl: the processors' counters that can be read.
        gpus: the GPUs' powers and counters that can be read.
        unreadable: what cannot; of the processors either all that matters is readable, or they are left out.
    """
    silent = [one for one in unreadable if one.kind == "energy" and is_whole(one.name)]
    processors = [] if silent else [counter.name for counter in rapl if is_whole(counter.name)]
    counted = {sensor.name for sensor in gpus if isinstance(sensor, Energy)}
    cards = list(dict.fromkeys(sensor.name for sensor in gpus))
    named = [f"RAPL {' + '.join(processors)}"] if processors else []
    named += [f"{name} (NVML {'energy counter' if name in counted else 'power'})" for name in cards]
    if not named:
        return None
    silent += [one for one in unreadable if one.kind == "power" and one.name not in cards]
    left_out = [str(one) for one in silent]
    if not processors and not silent:
        left_out = ["the processor: no RAPL in /sys/class/powercap"]
    return Total(" + ".join(named), (*processors, *cards), tuple(left_out))
