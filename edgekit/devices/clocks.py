"""Between which limits the clocks may move: the processor's (cpufreq), and on a Jetson the GPU's (devfreq)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.sensors.sensor import numbered, read_number, text_or

_JETSON_GPU = re.compile(r"\d+\.(gpu|ga10b|gv11b|gp10b|gm20b)|gpu-gpc-\d+")
"""17000000.ga10b (L4T 35), 17000000.gpu (36), gpu-gpc-0 (38): NVIDIA's nvpmodel_p3767_*.conf name the first two."""


@dataclass(frozen=True)
class Clock:
    """The limits of a clock.

    Attributes:
        name: "cpu 0-3", "gpu (17000000.gpu)"; processors that share a clock are one.
        kind: "cpu" or "gpu".
        governor: what chooses the frequency: "schedutil", "performance", "nvhost_podgov"; None: not told.
        min_mhz, max_mhz: the limits now, which a power mode, jetson_clocks or the user has set.
        highest_mhz: the hardware's; None: not told.
    """

    name: str
    kind: str
    governor: str | None
    min_mhz: float
    max_mhz: float
    highest_mhz: float | None

    @property
    def locked(self) -> bool:
        """It does not follow the load: its limits are one, as `jetson_clocks` sets them, or the governor holds it."""
        return self.min_mhz == self.max_mhz or self.governor == "performance"


def read_clocks(root: Path = Path("/")) -> list[Clock]:
    """Every clock that tells its limits, below `root`; none in most virtual machines.

    Raises nothing: a clock that cannot be read is left out.
    """
    found = []
    for policy in numbered((root / "sys/devices/system/cpu/cpufreq").glob("policy[0-9]*")):
        processors = _ranges(text_or(policy / "related_cpus", policy.name[len("policy") :]))
        found.append(_clock(f"cpu {processors}", "cpu", policy, "scaling_{}_freq", 1e-3, "scaling_governor"))
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        if _JETSON_GPU.fullmatch(device.name):
            found.append(_clock(f"gpu ({device.name})", "gpu", device, "{}_freq", 1e-6, "governor"))
    return [clock for clock in found if clock is not None]


def _clock(name: str, kind: str, folder: Path, limit: str, scale: float, governor: str) -> Clock | None:
    try:
        low, high = (read_number(folder / limit.format(end)) * scale for end in ("min", "max"))
    except (OSError, ValueError):
        return None
    return Clock(name, kind, text_or(folder / governor, "") or None, low, high, _highest_mhz(folder, scale))


def _highest_mhz(folder: Path, scale: float) -> float | None:
    try:
        return read_number(folder / "cpuinfo_max_freq") * scale
    except (OSError, ValueError):
        steps = [int(step) for step in text_or(folder / "available_frequencies", "").split() if step.isdigit()]
        return max(steps) * scale if steps else None


def _ranges(processors: str) -> str:
    """ "0 1 2 3 6" as "0-3,6"."""
    ranges: list[list[int]] = []
    for number in sorted(int(word) for word in processors.split() if word.isdigit()):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
