"""Advice: given where something is to be mended, with a command, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.advice import Advice, advise, advise_clocks, advise_cooling, advise_jetpack, advise_packages
from edgekit.devices.clocks import Clock
from edgekit.devices.jetpack import L4t, parse_l4t
from edgekit.devices.jetson import Jetson
from edgekit.devices.sensors.thermal import find_temperatures

pytestmark = pytest.mark.device_side


def jetson(l4t: L4t | None) -> Jetson:
    return Jetson("NVIDIA Jetson Orin NX", l4t, "25W", {0: "MAXN", 3: "25W"})


def only(advice: list[Advice]) -> Advice:
    (one,) = advice
    return one


@pytest.mark.parametrize(("has_gpu", "kept"), [(True, "onnxruntime-gpu"), (False, "onnxruntime")])
def test_two_onnx_runtimes(has_gpu: bool, kept: str) -> None:
    packages = {"onnxruntime": "1.22", "onnxruntime-gpu": "1.22"}
    advice = only(advise_packages(packages, None, has_gpu=has_gpu))
    assert "overwrite each other's files" in advice.problem
    assert advice.command == f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {kept}"
    assert advise_packages({"onnxruntime-gpu": "1.22", "numpy": "2"}, None, has_gpu=has_gpu) == []


def test_tensorrt_and_the_driver() -> None:
    packages = {"tensorrt-cu13": "11.0", "tensorrt-cu13-libs": "11.0", "tensorrt_cu13_bindings": "11.0"}
    lone = only(advise_packages(packages, None, has_gpu=True))
    assert lone.problem == "TensorRT for CUDA 13 is installed, and there is no NVIDIA driver"
    old = only(advise_packages(packages, "12.6", has_gpu=True))
    assert old.problem == "TensorRT for CUDA 13 is installed, the driver supports CUDA up to 12.6"
    assert old.command.startswith(
        "pip uninstall -y tensorrt-cu13 tensorrt-cu13-libs tensorrt_cu13_bindings && pip install tensorrt-cu12; "
    )
    assert advise_packages(packages, "13.0", has_gpu=True) == []
    # builds engines without a driver, and JetPack's own is installed by apt under no such name
    for name in ("tensorrt-rtx-cu13-libs", "tensorrt_rtx_cu13_libs", "tensorrt"):
        assert advise_packages({name: "1.7"}, None, has_gpu=False) == []


def test_jetpacks_python() -> None:
    five = parse_l4t("# R35 (release), REVISION: 4.1, GCID: 1")
    six = parse_l4t("# R36 (release), REVISION: 4.3, GCID: 1")
    too_old = only(advise_jetpack(jetson(five), "3.11.7"))
    assert too_old.problem.startswith("JetPack 5.1.2 has Python 3.8 and a TensorRT for it; edgekit needs Python 3.10")
    other = only(advise_jetpack(jetson(six), "3.12.3"))
    assert other.problem == "JetPack 6.2 has its TensorRT for Python 3.10; this is 3.12, which does not find it"
    assert other.command.startswith("python3.10 -m venv --system-site-packages ")
    assert advise_jetpack(jetson(six), "3.10.12") == []
    assert advise_jetpack(jetson(None), "3.12.3") == []
    assert advise_jetpack(None, "3.12.3") == []


def test_clocks() -> None:
    loose = Clock("cpu 0-3", "cpu", "schedutil", 729.6, 1510.4, None)
    gpu = Clock("gpu (17000000.gpu)", "gpu", "nvhost_podgov", 306.0, 624.75, None)
    locked = Clock("cpu 4", "cpu", "schedutil", 1510.4, 1510.4, None)
    advice = only(advise_clocks([loose, gpu, locked], jetson(None)))
    assert advice.problem.endswith("scatters: cpu 0-3 730 to 1510 MHz, gpu (17000000.gpu) 306 to 625 MHz")
    assert advice.command == "sudo jetson_clocks"
    assert "tee /sys/devices/system/cpu/cpufreq/policy*/scaling_governor" in only(advise_clocks([loose], None)).command
    assert only(advise_clocks([loose] * 6, None)).problem.endswith(" and 2 more")
    assert advise_clocks([locked], None) == []
    assert advise_clocks([], None) == []


def zone(root: Path, number: int, name: str, temperature: str, trips: dict[str, int]) -> None:
    folder = root / f"sys/class/thermal/thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{name}\n")
    (folder / "temp").write_text(f"{temperature}\n")
    for index, (kind, at) in enumerate(trips.items()):
        (folder / f"trip_point_{index}_type").write_text(f"{kind}\n")
        (folder / f"trip_point_{index}_temp").write_text(f"{at}\n")


def test_a_zone_near_its_passive_trip_point(tmp_path: Path) -> None:
    # the trip points of a Jetson Orin's zones in Linux' own device tree
    trips = {"critical": 104_500, "hot": 99_000, "passive": 95_000, "active": 80_000}
    zone(tmp_path, 0, "cpu-thermal", "89900", trips)
    zone(tmp_path, 1, "gpu-thermal", "90000", trips)
    zone(tmp_path, 2, "cv0-thermal", "", trips)  # powered down
    zone(tmp_path, 3, "board", "96000", {})
    advice = only(advise_cooling(find_temperatures(tmp_path), jetson(None)))
    assert advice.problem == "gpu-thermal is at 90.0 C, the kernel acts against it from 95.0 C on"
    assert "sudo nvpmodel -m" in advice.command
    assert "nvpmodel" not in only(advise_cooling(find_temperatures(tmp_path), None)).command


def test_all_of_a_machine_whose_files_lie_elsewhere(tmp_path: Path) -> None:
    packages = {each.problem for each in advise(python="3.12.0", cuda_driver=None, root=tmp_path)}
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Orin NX\0")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.4, GCID: 1\n")
    zone(tmp_path, 0, "tj-thermal", "97000", {"passive": 95_000})
    found = [each.problem for each in advise(python="3.12.0", cuda_driver=None, root=tmp_path)]
    assert [problem for problem in found if problem not in packages] == [
        "JetPack 6.2.1 has its TensorRT for Python 3.10; this is 3.12, which does not find it",
        "tj-thermal is at 97.0 C, the kernel acts against it from 95.0 C on",
    ]
