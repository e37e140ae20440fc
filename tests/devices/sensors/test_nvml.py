"""NVIDIA's GPUs: what needs none, against NVIDIA's own module where it is installed; and a GPU where there is one."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit.devices.sensors import find_sensors
from edgekit.devices.sensors.nvml import SLOWDOWNS, as_os_error, find_gpus
from edgekit.devices.sensors.sensor import GONE, Energy, Power, Throttling, Unreadable
from edgekit.devices.sensors.total import total_of_devices

pytestmark = pytest.mark.device_side


@pytest.fixture
def pynvml() -> Any:
    return pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed: pip install 'edgekit[nvidia]'")


@pytest.fixture
def gpu(pynvml: Any) -> Any:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        pytest.skip(f"no NVIDIA GPU here: {error}")
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def fixed(value: float) -> Any:
    return lambda: value


def test_slowdowns() -> None:
    found = Throttling("gpu 0", "NVML", fixed(0), flags=SLOWDOWNS)
    assert found.reasons(None, 0x1 | 0x2 | 0x100) == (), "idle, clocks set by the user, and for the display"
    assert found.reasons(None, 0x4 | 0x40) == ("gpu 0: power cap", "gpu 0: hardware thermal slowdown")


def test_a_gpu_that_is_lost_is_gone() -> None:
    assert as_os_error(15, "GPU is lost").errno in GONE
    assert as_os_error(3, "Not Supported").errno == errno.EOPNOTSUPP
    assert isinstance(as_os_error(4, "Insufficient Permissions"), PermissionError)
    assert as_os_error(999, "Unknown Error").errno == errno.EIO


def test_nothing_is_asked_about_another_root(tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("NVRM version: ...\n")
    assert find_gpus(tmp_path) == ([], [])


def power(name: str) -> Power:
    return Power(name, "NVML", fixed(1))


def energy(name: str) -> Energy:
    return Energy(name, "NVML", fixed(1))


def test_processor_and_gpu_are_one_total() -> None:
    total = total_of_devices([energy("package-0"), energy("package-0 core")], [power("gpu 0"), energy("gpu 0")], [])
    assert total is not None
    assert (total.name, total.parts) == ("RAPL package-0 + gpu 0 (NVML energy counter)", ("package-0", "gpu 0"))
    assert total.left_out == ()


def test_a_gpu_alone_says_what_is_missing() -> None:
    total = total_of_devices([], [power("gpu 0")], [])
    assert total is not None
    assert (total.name, total.left_out) == ("gpu 0 (NVML power)", ("the processor: no RAPL in /sys/class/powercap",))
    refused = Unreadable("package-0", "energy", "energy_uj", "Permission denied", "sudo chmod")
    total = total_of_devices([], [energy("gpu 0")], [refused])
    assert total is not None
    assert total.left_out == ("package-0 cannot be read: Permission denied (energy_uj); to mend it: sudo chmod",)


def test_a_processor_alone_says_that_a_gpu_is_missing() -> None:
    missing = Unreadable("gpu", "power", "NVML", "expected the package nvidia-ml-py", "pip install")
    total = total_of_devices([energy("package-0")], [], [missing])
    assert total is not None
    assert (total.name, len(total.left_out)) == ("RAPL package-0", 1)


def test_the_bits_are_nvidias(pynvml: Any) -> None:
    assert set(SLOWDOWNS) == {
        pynvml.nvmlClocksThrottleReasonSwPowerCap,
        pynvml.nvmlClocksThrottleReasonHwSlowdown,
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown,
        pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    }
    codes = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION)
    assert codes == (15, 3, 4)


def test_without_a_driver_nothing_is_found(pynvml: Any) -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        found, unreadable = find_gpus(Path("/"))
        assert found == []
        assert bool(unreadable) == Path("/proc/driver/nvidia/version").exists()
    else:
        pytest.skip("there is a driver here")


def test_a_real_gpu(pynvml: Any, gpu: Any) -> None:
    sensors = find_sensors()
    told = {one.name: one.read() for one in sensors.temperature}
    assert told["gpu 0"] == pytest.approx(pynvml.nvmlDeviceGetTemperature(gpu, 0), abs=5)
    counters = {one.name: one for one in sensors.energy}
    if "gpu 0" not in counters:
        pytest.skip("this GPU has no energy counter")
    first_j = counters["gpu 0"].read()
    time.sleep(0.3)
    assert 0.1 < counters["gpu 0"].read() - first_j < 500
    assert sensors.total is not None
    assert "gpu 0" in sensors.total.parts
