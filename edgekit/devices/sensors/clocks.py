"""Clocks: the processor's (cpufreq) and, on ARM boards, the GPU's (devfreq)."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.devices.sensors.sensor import Clock, distinct, numbered, read_number

_MOST_POLICIES = 16
_VIDEO_CODEC = "nvd"


def find_clocks(root: Path) -> list[Clock]:
    """One per group of processors that share a clock, 16 spread evenly where there are more, and the GPU's.

    On a Raspberry Pi `scaling_cur_freq` is what was asked for: its firmware throttles behind the kernel's back
    (raspberrypi/linux issue 2986), which `throttling` tells.
    """
    policies = numbered((root / "sys/devices/system/cpu/cpufreq").glob("policy[0-9]*"))
    # PCs have one for each processor, and older kernels wake a processor to read it
    step = -(-len(policies) // _MOST_POLICIES) or 1
    found = [_clock(f"cpu{policy.name[6:]}", policy / "scaling_cur_freq", 1e-3) for policy in policies[::step]]
    # 17000000.gpu, 17000000.ga10b, 17000000.gv11b, 57000000.gpu, gpu-gpc-0; fb000000.gpu on boards with Mali
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        if re.search(r"gpu|g[av]1\db|gp10b|gm20b", device.name) and _VIDEO_CODEC not in device.name:
            found.append(_clock(f"gpu ({device.name})", device / "cur_freq", 1e-6))
    return distinct(found)


def _clock(name: str, file: Path, scale: float) -> Clock:
    return Clock(name, str(file), lambda: read_number(file) * scale)
