"""A Jetson: its module, Jetson Linux and JetPack, and its power mode."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.jetpack import L4t, parse_l4t
from edgekit.devices.sensors.sensor import text_or

_STATUS, _MODES, _RELEASE = "var/lib/nvpmodel/status", "etc/nvpmodel.conf", "etc/nv_tegra_release"
_QUERY_TIMEOUT_S = 5


@dataclass(frozen=True)
class Jetson:
    """A Jetson and its software.

    Attributes:
        module: the device tree's model.
        l4t: the release of Jetson Linux; None: /etc/nv_tegra_release is missing or says something else.
        power_mode: nvpmodel's present mode ("MAXN_SUPER"); None: see `no_power_mode`.
        power_modes: all modes of /etc/nvpmodel.conf, by their numbers.
        no_power_mode: why the mode is not known.
    """

    module: str
    l4t: L4t | None
    power_mode: str | None
    power_modes: dict[int, str]
    no_power_mode: str | None = None


def read_module(root: Path = Path("/")) -> str | None:
    """The device tree's model of NVIDIA's boards; None elsewhere."""
    try:
        model = (root / "proc/device-tree/model").read_bytes().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return None
    return model if "NVIDIA" in model or "Jetson" in model else None


def probe_jetson(root: Path = Path("/")) -> Jetson | None:
    """Read it below `root`; None: no Jetson. Where that is the running system, nvpmodel may be asked."""
    module = read_module(root)
    if module is None:
        return None
    try:
        l4t = parse_l4t((root / _RELEASE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        l4t = None
    modes = read_modes(root)
    mode = parse_status(text_or(root / _STATUS, ""), modes)
    if mode is None and root == Path("/"):
        mode = parse_query(_query())
    missing = None if mode else f"neither /{_STATUS} nor nvpmodel -q tells it"
    return Jetson(module, l4t, mode, modes, missing)


def read_modes(root: Path) -> dict[int, str]:
    """The modes that /etc/nvpmodel.conf defines: `< POWER_MODEL ID=2 NAME=MAXN_SUPER >`."""
    try:
        text = (root / _MODES).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found = re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", text, re.MULTILINE)
    return {int(number): name for number, name in found}


def parse_status(text: str, modes: dict[int, str]) -> str | None:
    """What nvpmodel writes when a mode is set: `pmode:0002 fmode:fan_mode_quiet`."""
    found = re.search(r"pmode:(\d+)", text)
    return None if found is None else modes.get(int(found[1]), f"mode {int(found[1])}")


def parse_query(text: str) -> str | None:
    """What `nvpmodel -q` prints: `NV Power Mode: MODE_15W_6CORE`, and its number on the next line."""
    found = re.search(r"NV Power Mode: (\S+)", text)
    return None if found is None else found[1]


def _query() -> str:
    program = shutil.which("nvpmodel", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        return ""
    try:
        ran = subprocess.run([program, "-q"], capture_output=True, text=True, timeout=_QUERY_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout if ran.returncode == 0 else ""
