"""Advice on a machine: what makes inference fail, slow or unsteady on it, and the command that mends each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgekit.devices.clocks import Clock, read_clocks
from edgekit.devices.jetson import Jetson, probe_jetson
from edgekit.devices.nvidia import INSTALL_DRIVER, has_nvidia_gpu
from edgekit.devices.sensors.sensor import Temperature
from edgekit.devices.sensors.thermal import find_temperatures

NEAR_C = 5.0
"""A zone so close to where the kernel begins to slow the clocks down (`Temperature.hot_c`) will throttle under load."""

_OLDEST_PYTHON = (3, 10)
_BOTH_ONNX = ("onnxruntime", "onnxruntime-gpu")
_TENSORRT = re.compile(r"tensorrt[-_]cu(\d+)(?:[-_]\w+)?")


@dataclass(frozen=True)
class Advice:
    """One thing to mend.

    Attributes:
        problem: what was found, and what comes of it.
        command: the next command or step.
    """

    problem: str
    command: str


def advise(*, python: str, cuda_driver: str | None, root: Path = Path("/")) -> list[Advice]:
    """All advice for this machine, its files below `root`.

    Args:
        python: the running Python ("3.10.12").
        cuda_driver: the newest CUDA that NVIDIA's driver supports ("12.6"); None: there is no driver.
    """
    packages = {}
    for found in metadata.distributions():
        name = found.metadata["Name"]
        if isinstance(name, str):  # what a broken installation leaves has none
            packages[name.lower()] = found.version
    jetson = probe_jetson(root)
    return [
        *advise_packages(packages, cuda_driver, has_gpu=has_nvidia_gpu(root)),
        *advise_jetpack(jetson, python),
        *advise_clocks(read_clocks(root), jetson),
        *advise_cooling(find_temperatures(root), jetson),
    ]


def advise_packages(packages: Mapping[str, str], cuda_driver: str | None, *, has_gpu: bool) -> list[Advice]:
    """On installed packages, `packages` by their names in lower case, that harm each other or lack their driver."""
    found = []
    if all(name in packages for name in _BOTH_ONNX):
        keep = "onnxruntime-gpu" if has_gpu else "onnxruntime"
        found.append(
            Advice(
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
                f"pip uninstall -y {' '.join(_BOTH_ONNX)} && pip install {keep}",
            )
        )
    majors = sorted({match[1] for name in packages if (match := _TENSORRT.fullmatch(name))}, key=int)
    if cuda_driver is None:
        # TensorRT-RTX is not meant: it builds engines without a driver
        lone = f"TensorRT for CUDA {', '.join(majors)} is installed, and there is no NVIDIA driver"
        return [*found, *([Advice(lone, INSTALL_DRIVER)] if majors else [])]
    newest = int(cuda_driver.split(".")[0])
    for major in majors:
        if int(major) > newest:
            theirs = " ".join(sorted(name for name in packages if _of_major(name, major)))
            swap = f"pip uninstall -y {theirs} && pip install tensorrt-cu{newest}"
            found.append(
                Advice(
                    f"TensorRT for CUDA {major} is installed, the driver supports CUDA up to {cuda_driver}",
                    f"{swap}; or a newer driver: {INSTALL_DRIVER}",
                )
            )
    return found


def _of_major(name: str, major: str) -> bool:
    match = _TENSORRT.fullmatch(name)
    return match is not None and match[1] == major


def advise_jetpack(jetson: Jetson | None, python: str) -> list[Advice]:
    """On JetPack's Python, for which its TensorRT module is: another Python does not find it."""
    if jetson is None or jetson.l4t is None or jetson.l4t.python is None:
        return []
    theirs, release = jetson.l4t.python, f"JetPack {jetson.l4t.jetpack or f'of L4T {jetson.l4t.version}'}"
    if tuple(int(part) for part in theirs.split(".")) < _OLDEST_PYTHON:
        oldest = ".".join(map(str, _OLDEST_PYTHON))
        return [
            Advice(
                f"{release} has Python {theirs} and a TensorRT for it; edgekit needs Python {oldest} or newer, so that "
                "engines cannot be built here",
                'flash JetPack 6.2 or newer where NVIDIA has it for this module; else: pip install "edgekit[onnx]"',
            )
        ]
    ours = ".".join(python.split(".")[:2])
    if ours == theirs:
        return []
    return [
        Advice(
            f"{release} has its TensorRT for Python {theirs}; this is {ours}, which does not find it",
            f"python{theirs} -m venv --system-site-packages VENV && VENV/bin/pip install 'edgekit[jetson]'",
        )
    ]


def advise_clocks(clocks: Sequence[Clock], jetson: Jetson | None) -> list[Advice]:
    """On clocks that follow the load: the first requests after a pause are slow, and measurements scatter."""
    loose = [clock for clock in clocks if not clock.locked]
    if not loose:
        return []
    names = ", ".join(f"{clock.name} {clock.min_mhz:.0f} to {clock.max_mhz:.0f} MHz" for clock in loose[:4])
    more = f" and {len(loose) - 4} more" if len(loose) > 4 else ""
    governor = "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
    return [
        Advice(
            f"clocks follow the load, so that latency scatters: {names}{more}",
            governor if jetson is None else "sudo jetson_clocks",
        )
    ]


def advise_cooling(zones: Sequence[Temperature], jetson: Jetson | None) -> list[Advice]:
    """On zones that are within `NEAR_C` of where the kernel begins to slow the clocks down."""
    found = []
    for zone in zones:
        if zone.hot_c is None:
            continue
        try:
            now_c = zone.read()
        except (OSError, ValueError):  # a part that is off has no temperature
            continue
        if now_c >= zone.hot_c - NEAR_C:
            found.append(f"{zone.name} is at {now_c:.1f} C, the kernel acts against it from {zone.hot_c:.1f} C on")
    modes = "" if jetson is None else ", or a lower power mode: sudo nvpmodel -m ID (edgekit devices lists them)"
    return [Advice("; ".join(found), f"cool it better{modes}")] if found else []
