"""NVIDIA's discrete GPUs through NVML: power, energy, temperature, clock, throttling. PyPI: nvidia-ml-py."""

from __future__ import annotations

import errno
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.devices.sensors.sensor import Clock, Energy, Power, Sensor, Temperature, Throttling, Unreadable

MEND = "pip install 'edgekit[nvidia]'"

SLOWDOWNS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""The bits of nvmlClocksEventReasons that hold a clock down; idling, and clocks that a user has set, do not."""

_CODES = {1: errno.ENODEV, 3: errno.EOPNOTSUPP, 4: errno.EACCES, 15: errno.ENODEV}
"""NVML's uninitialised, not supported, no permission, GPU is lost."""


def find_gpus(root: Path) -> tuple[list[Sensor], list[Unreadable]]:
    """The sensors of every GPU that NVML tells of, and what keeps it from telling.

    The energy counter (Volta and later) is in mJ since the driver was loaded. `power` is a mean over the last second on
    Ampere (except GA100) and later, so that it lags; energy is therefore taken from the counter where there is one.
    Jetson's GPUs answer most of this with "Not Supported": their power is a rail. GPUs that CUDA_VISIBLE_DEVICES hides
    are found, too. NVML stays open until the process ends.
    """
    if root != Path("/"):  # the library tells of this machine only
        return [], []
    has_driver = (root / "proc/driver/nvidia/version").exists()
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return [], _missing("expected the package nvidia-ml-py, which is not installed", MEND) if has_driver else []
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        return [], _missing(str(error), "nvidia-smi") if has_driver else []
    return [sensor for index, handle in enumerate(handles) for sensor in _sensors(nvml, index, handle)], []


def _missing(reason: str, mend: str) -> list[Unreadable]:
    return [Unreadable("gpu", "power", "NVML", reason, mend)]


def _sensors(nvml: Any, index: int, handle: Any) -> list[Sensor]:
    name, where = f"gpu {index}", f"NVML: GPU {index}"
    # renamed by NVML 12.2; the old name is found in every driver
    reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None)
    reasons = reasons or nvml.nvmlDeviceGetCurrentClocksEventReasons

    def reader(call: Callable[..., Any], *arguments: int, scale: float = 1.0) -> Callable[[], float]:
        def read() -> float:
            try:
                return float(call(handle, *arguments)) * scale
            except nvml.NVMLError as error:
                raise as_os_error(error.value, str(error)) from error

        return read

    try:
        hot_c = reader(nvml.nvmlDeviceGetTemperatureThreshold, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)()
    except OSError:
        hot_c = None
    return [
        Power(name, where, reader(nvml.nvmlDeviceGetPowerUsage)),
        Energy(name, where, reader(nvml.nvmlDeviceGetTotalEnergyConsumption, scale=1e-3)),
        Temperature(name, where, reader(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU), hot_c=hot_c),
        Clock(name, where, reader(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)),
        Throttling(name, where, reader(reasons), flags=SLOWDOWNS),
    ]


def as_os_error(code: int, text: str) -> OSError:
    """NVML's error as the system's, so that a GPU that is lost is like a file that is gone."""
    return OSError(_CODES.get(code, errno.EIO), text)
