from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgekit.runtime.libricontinual.cost import measured


def zone(folder: Path, name: str, energy_uj: int | str, range_uj: int = 1_000_000) -> Path:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder / name / "energy_uj"


def test_time_and_memory(tmp_path: Path) -> None:
    with measured(tmp_path) as meter:
        time.sleep(0.05)
        sum(range(200_000))
    assert 0.05 <= meter.cost.seconds < 5
    assert 0 < meter.cost.cpu_seconds <= meter.cost.seconds
    assert meter.cost.peak_memory_mib > 10
    assert meter.cost.joules is None


def test_joules_of_all_processors(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", 500_000), zone(tmp_path, "intel-rapl:1", 900_000)
    zone(tmp_path, "intel-rapl:0:0", 7)
    with measured(tmp_path) as meter:
        first.write_text("700000")
        second.write_text("100000")  # began anew
    assert meter.cost.joules == pytest.approx(0.2 + 0.2)


@pytest.mark.parametrize("broken", ["", "x", "1 2"])
def test_counters_that_cannot_be_read(tmp_path: Path, broken: str) -> None:
    zone(tmp_path, "intel-rapl:0", 1)
    zone(tmp_path, "intel-rapl:1", broken)
    with measured(tmp_path) as meter:
        pass
    assert meter.cost.joules is None
