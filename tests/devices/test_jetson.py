"""Jetsons as their device trees, release files and nvpmodel describe them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.jetpack import L4t, parse_l4t
from edgekit.devices.jetson import parse_query, parse_status, probe_jetson, read_module
from edgekit.devices.probe import probe_machine

pytestmark = pytest.mark.device_side

MODEL = b"NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"
RELEASE = """# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18 22:54:44
# KERNEL_VARIANT: oot
TARGET_USERSPACE_LIB_DIR=nvidia
TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia
"""
# the lines that begin with # are comments, and the format's own description has such a line
MODES = """# < POWER_MODEL ID=id_num NAME=mode_name >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
< PM_CONFIG DEFAULT=1 >
"""


def write(root: Path, name: str, content: bytes | str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    write(tmp_path, "proc/device-tree/model", MODEL)
    write(tmp_path, "etc/nv_tegra_release", RELEASE)
    write(tmp_path, "etc/nvpmodel.conf", MODES)
    write(tmp_path, "var/lib/nvpmodel/status", "pmode:0002 fmode:fan_mode_quiet")
    write(tmp_path, "proc/meminfo", "MemTotal:        7802672 kB\nMemFree:         1000000 kB\n")
    return tmp_path


def test_an_orin(orin: Path) -> None:
    jetson = probe_jetson(orin)
    assert jetson is not None
    assert jetson.module == MODEL.decode().rstrip("\0")
    assert jetson.l4t == L4t("36.4.7", "6.2.1", "3.10")
    assert (jetson.power_mode, jetson.no_power_mode) == ("MAXN_SUPER", None)
    assert jetson.power_modes == {0: "15W", 1: "25W", 2: "MAXN_SUPER"}
    machine = probe_machine(orin)
    assert (machine.jetson, machine.memory_mib) == (jetson.module, 7802672 // 1024)


@pytest.mark.parametrize("model", [b"Raspberry Pi 5 Model B Rev 1.0\0", b"", None])
def test_other_boards(tmp_path: Path, model: bytes | None) -> None:
    if model is not None:
        write(tmp_path, "proc/device-tree/model", model)
    assert read_module(tmp_path) is None
    assert probe_jetson(tmp_path) is None


def test_what_is_missing_is_said(orin: Path) -> None:
    (orin / "etc/nv_tegra_release").unlink()
    (orin / "var/lib/nvpmodel/status").unlink()
    jetson = probe_jetson(orin)
    assert jetson is not None
    assert (jetson.l4t, jetson.power_mode) == (None, None)
    assert jetson.no_power_mode == "neither /var/lib/nvpmodel/status nor nvpmodel -q tells it"
    (orin / "etc/nvpmodel.conf").unlink()
    write(orin, "var/lib/nvpmodel/status", "pmode:0003\n")
    jetson = probe_jetson(orin)
    assert jetson is not None
    assert (jetson.power_mode, jetson.power_modes) == ("mode 3", {})


@pytest.mark.parametrize(
    ("line", "l4t"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref", L4t("35.4.1", "5.1.2", "3.8")),
        ("# R35 (release), REVISION: 1.0, GCID: 1, BOARD: t186ref", L4t("35.1.0", "5.0.2", "3.8")),
        ("# R38 (release), REVISION: 2.1, GCID: 1, BOARD: generic", L4t("38.2.1", "7.0", "3.12")),
        ("# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic", L4t("39.2.0", "7.2", "3.12")),
        ("# R36 (release), REVISION: 99.9, GCID: 1, BOARD: generic", L4t("36.99.9", None, "3.10")),
        ("# R99 (release), REVISION: 1.0, GCID: 1, BOARD: generic", L4t("99.1.0", None, None)),
        ("something else", None),
        ("", None),
    ],
)
def test_releases(line: str, l4t: L4t | None) -> None:
    assert parse_l4t(line) == l4t


def test_modes_as_nvpmodel_tells_them() -> None:
    assert parse_query("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n") == "MODE_15W_6CORE"
    assert parse_query("NVPM ERROR: Error opening /var/lib/nvpmodel/status\n") is None
    assert parse_status("fmode:quiet", {0: "MAXN"}) is None
