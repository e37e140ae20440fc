"""NVIDIA's GPUs: whether one is there, and what NVML tells, against what CUDA tells of the same machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.nvidia import INSTALL_DRIVER, INSTALL_PACKAGE, Gpus, has_nvidia_gpu, probe_gpus
from edgekit.runtime import cuda

pytestmark = pytest.mark.device_side


def device(root: Path, name: str, vendor: str, kind: str) -> None:
    folder = root / "sys/bus/pci/devices" / name
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")


def test_a_gpu_on_the_bus(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:02.0", "0x8086", "0x030000")  # Intel's
    device(tmp_path, "0000:01:00.1", "0x10de", "0x040300")  # the sound of a GPU that is passed on to another machine
    assert not has_nvidia_gpu(tmp_path)
    assert probe_gpus(tmp_path) == Gpus(missing="an NVIDIA GPU")
    device(tmp_path, "0000:c1:00.0", "0x10de", "0x030200")  # a data centre's: 3D controller
    assert has_nvidia_gpu(tmp_path)


@pytest.mark.parametrize("file", ["proc/driver/nvidia/version", "usr/lib/wsl/lib/libcuda.so.1"])
def test_a_gpu_that_is_on_no_bus(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("")
    assert has_nvidia_gpu(tmp_path)


def test_a_jetsons_gpu(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    assert has_nvidia_gpu(tmp_path)


def test_this_machine() -> None:
    found = probe_gpus()
    if not has_nvidia_gpu():
        assert found == Gpus(missing="an NVIDIA GPU")
        assert cuda.devices() == ()
    elif found.missing is not None:
        assert found.gpus == ()
        assert found.remedy in (INSTALL_PACKAGE, INSTALL_DRIVER, "nvidia-smi")
    else:
        told = {(gpu.name, gpu.compute_capability) for gpu in found.gpus}
        # CUDA_VISIBLE_DEVICES hides GPUs from CUDA only
        assert {(gpu.name, gpu.compute_capability) for gpu in cuda.devices()} <= told
        assert found.cuda == cuda.driver_version()
        assert found.driver
