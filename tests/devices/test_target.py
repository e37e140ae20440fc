"""Targets: every file can be read, says nothing without a source, and is found by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgekit.core.errors import SettingsError, UsageError
from edgekit.core.settings import load_settings
from edgekit.devices.cpu import INSTRUCTION_SETS
from edgekit.devices.jetpack import parse_l4t
from edgekit.devices.target import FOLDER, Target, find_target, targets
from edgekit.export.build import FORMATS, PRECISIONS

pytestmark = pytest.mark.device_side

SMALLEST = """title = "A board"
kind = "board"
formats = ["onnx"]
precisions = ["fp32"]

[[sources]]
facts = ["formats", "precisions"]
url = "https://example.org/board"
"""


def test_the_package_has_them() -> None:
    wanted = {
        *(f"jetson-orin-nano-{size}gb" for size in (4, 8)),
        *(f"jetson-orin-nx-{size}gb" for size in (8, 16)),
        *(f"jetson-agx-orin-{size}gb" for size in (32, 64)),
        "jetson-xavier-nx",
        "jetson-agx-thor",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "rk3588",
        "x86-avx2",
        "x86-avx512-vnni",
        "x86-amx",
        "h200",
    }
    assert wanted <= set(targets())
    assert set(targets()) == {file.stem for file in FOLDER.iterdir() if file.suffix == ".toml"}


@pytest.mark.parametrize("name", sorted(targets()))
def test_a_target(name: str) -> None:
    target = targets()[name]
    assert set(target.formats) <= set(FORMATS)
    assert set(target.precisions) <= set(PRECISIONS)
    assert target.precisions[0] == "fp32"
    assert "onnx" in target.formats
    assert set(target.instruction_sets) <= {ours for _, ours in INSTRUCTION_SETS}
    assert set(target.total_rails) <= set(target.rails)
    engines = {"trt", "trt-rtx"} & set(target.formats)
    assert not engines or target.compute_capability is not None
    assert (target.kind in ("jetson", "gpu")) == (target.compute_capability is not None)
    # NVIDIA's GPUs compute in bf16 from 8.0 on
    if target.compute_capability is not None:
        assert ("bf16" in target.precisions) == (float(target.compute_capability) >= 8.0)
    for source in target.sources:
        assert urlsplit(source.url).scheme == "https"
        assert urlsplit(source.url).netloc
    for mode in target.power_modes:
        # "25W", "MODE_15W_6CORE", "MAXN"
        assert mode.watts is None or f"{mode.watts:g}W" in mode.name
        assert (mode.watts is None) == mode.name.startswith("MAXN")
    for software in target.software:
        if software.l4t is not None:
            major, _, revision = software.l4t.partition(".")
            l4t = parse_l4t(f"# R{major} (release), REVISION: {revision}, GCID: 1")
            assert l4t is not None
            assert (l4t.jetpack, l4t.python) == (software.jetpack, software.python)


def test_the_nearest_name_is_offered() -> None:
    assert find_target("jetson-orin-nano-8gb").memory_gb == 8
    with pytest.raises(UsageError, match="received 'jetson-orin-nano-8g'") as caught:
        find_target("jetson-orin-nano-8g")
    assert caught.value.hint == "did you mean jetson-orin-nano-8gb?"


def test_memory_in_mib_is_never_more_than_there_is() -> None:
    # a vendor's GB may be 10^9 bytes
    assert replace(find_target("rtx-4090")).memory_mib == 24_000_000_000 // 2**20
    assert find_target("raspberry-pi-5").memory_mib is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("memory_gb = 8\n", "without one: memory_gb"),
        ("rails = ['VDD_IN']\ncompute_capability = '8.7'\n", "without one: compute_capability, rails"),
    ],
)
def test_a_fact_without_a_source_is_refused(tmp_path: Path, change: str, message: str) -> None:
    file = tmp_path / "board.toml"
    file.write_text(SMALLEST)
    assert load_settings(Target, file).title == "A board"
    file.write_text(change + SMALLEST)
    with pytest.raises(SettingsError, match=message):
        load_settings(Target, file)


def test_a_source_of_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_text(SMALLEST.replace('"precisions"]\nurl', '"precisions", "memory_gb"]\nurl'))
    with pytest.raises(SettingsError, match="without a fact: memory_gb"):
        load_settings(Target, file)
    file.write_text(SMALLEST.replace('"precisions"]\nurl', '"precisions", "colour"]\nurl'))
    with pytest.raises(SettingsError, match="facts that a target does not have: colour"):
        load_settings(Target, file)
