"""Limits of clocks, in trees as cpufreq and devfreq make them on a Jetson and on a PC."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.clocks import Clock, read_clocks

pytestmark = pytest.mark.device_side


def write(folder: Path, **files: str | int) -> None:
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def policy(root: Path, number: int, low: int, high: int, governor: str, cpus: str) -> None:
    write(
        root / f"sys/devices/system/cpu/cpufreq/policy{number}",
        related_cpus=cpus,
        scaling_governor=governor,
        scaling_min_freq=low,
        scaling_max_freq=high,
        cpuinfo_max_freq=1_984_000,
    )


def devfreq(root: Path, name: str, low: int, high: int) -> None:
    steps = "306000000 408000000 624750000 1020000000"
    write(root / f"sys/class/devfreq/{name}", governor="nvhost_podgov", min_freq=low, max_freq=high)
    (root / f"sys/class/devfreq/{name}/available_frequencies").write_text(steps)


def test_a_jetson_before_and_after_jetson_clocks(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    policy(before, 0, 729_600, 1_510_400, "schedutil", "0 1 2 3")
    policy(before, 4, 729_600, 1_510_400, "schedutil", "4 5")
    devfreq(before, "17000000.gpu", 306_000_000, 624_750_000)
    devfreq(before, "15340000.vic", 115_200_000, 729_600_000)  # the video compositor
    clocks = read_clocks(before)
    assert clocks == [
        Clock("cpu 0-3", "cpu", "schedutil", 729.6, 1510.4, 1984.0),
        Clock("cpu 4-5", "cpu", "schedutil", 729.6, 1510.4, 1984.0),
        Clock("gpu (17000000.gpu)", "gpu", "nvhost_podgov", 306.0, 624.75, 1020.0),
    ]
    assert not any(clock.locked for clock in clocks)
    policy(after, 0, 1_510_400, 1_510_400, "schedutil", "0 1 2 3")
    devfreq(after, "17000000.ga10b", 624_750_000, 624_750_000)
    assert [clock.locked for clock in read_clocks(after)] == [True, True]


def test_a_pc_whose_governor_is_performance(tmp_path: Path) -> None:
    policy(tmp_path, 10, 800_000, 5_000_000, "performance", "10")
    policy(tmp_path, 2, 800_000, 5_000_000, "powersave", "2 7")
    clocks = read_clocks(tmp_path)
    assert [(clock.name, clock.locked) for clock in clocks] == [("cpu 2,7", False), ("cpu 10", True)]


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    policy(tmp_path, 0, 800_000, 5_000_000, "powersave", "0")
    (tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq").write_text("<unsupported>\n")
    write(tmp_path / "sys/class/devfreq/57000000.gpu", governor="tegra_wmark")
    assert read_clocks(tmp_path) == []
    assert read_clocks(tmp_path / "nowhere") == []
