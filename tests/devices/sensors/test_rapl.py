"""RAPL's counters: which there are, what belongs to the total, who may read them, and where they begin anew."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekit.devices.sensors import find_sensors
from edgekit.devices.sensors.rapl import find_packages, find_rapl
from edgekit.devices.sensors.sensor import spent_j

pytestmark = pytest.mark.device_side

Machine = Callable[..., Path]
POWERCAP = "sys/class/powercap"
NOBODY = 65534


def test_every_counter_in_joules(machine: Machine) -> None:
    found = find_rapl(machine("pc") / POWERCAP)
    assert {counter.name: counter.read() for counter in found} == {
        "package-0": 100,
        "package-0 core": 60,
        "package-0 uncore": 1,
        "package-0 dram": 20,
        "psys": 400,
    }
    assert {counter.name: counter.wraps_at_j for counter in found}["package-0 dram"] == 65_712.999613


def test_the_total_counts_nothing_twice(machine: Machine) -> None:
    found = find_sensors(machine("pc"))
    assert found.total is not None
    assert found.total.name == "RAPL package-0 + package-0 dram"
    assert found.total.parts == ("package-0", "package-0 dram")
    assert found.total.left_out == ()


def test_whole_processors_alone(machine: Machine) -> None:
    """psys, at the top like a package, would count it twice."""
    assert [counter.name for counter in find_packages(machine("pc") / POWERCAP)] == ["package-0"]


def test_amd(machine: Machine) -> None:
    found = find_sensors(machine("amd-pc"))
    assert found.total is not None
    assert found.total.parts == ("package-0",)
    assert [counter.name for counter in found.energy] == ["package-0", "package-0 core"]


@pytest.mark.parametrize(
    ("before_j", "after_j", "wraps_at_j", "expected_j"),
    [(5, 7.5, 262.1, 2.5), (5, 5, 262.1, 0), (262, 0.4, 262.1, 0.5), (5, 7.5, None, 2.5)],
)
def test_what_was_spent(before_j: float, after_j: float, wraps_at_j: float | None, expected_j: float) -> None:
    assert spent_j(before_j, after_j, wraps_at_j) == pytest.approx(expected_j)


def test_a_counter_that_begins_anew_nobody_knows_where() -> None:
    with pytest.raises(ValueError, match=r"the counter began anew: 5.000 J, then 4.000 J"):
        spent_j(5, 4, None)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def as_user() -> Iterator[Callable[[], None]]:
    """Stop being root, to whom nothing is refused, until the test ends."""
    root = os.geteuid() == 0
    yield lambda: os.seteuid(NOBODY) if root else None
    if root:
        os.seteuid(0)


def test_counters_that_only_root_may_read(machine: Machine, open_folder: Path, as_user: Callable[[], None]) -> None:
    root = open_folder / "root"
    shutil.copytree(machine("pc"), root)  # links become folders
    root.chmod(0o755)
    for file in root.rglob("energy_uj"):
        file.chmod(0o400 if os.geteuid() == 0 else 0)
    as_user()
    found = find_sensors(root)
    assert found.total is None
    assert found.energy == ()
    assert found.not_measured["power"] == (
        f"package-0 cannot be read: Permission denied ({root}/sys/class/powercap/intel-rapl:0/energy_uj); "
        "to mend it: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
    )
    assert len(found.unreadable) == 5
    assert found.temperature, "the rest is read"


def test_half_of_the_processors_is_not_the_total(machine: Machine) -> None:
    second = f"{POWERCAP}/intel-rapl:2"
    root = machine("pc", **{f"{second}/name": "package-1", f"{second}/energy_uj": "junk"})
    found = find_sensors(root)
    assert found.total is None
    assert found.not_measured["power"].startswith("package-1 cannot be read: expected a number; received 'junk'")
