"""Rails of every Jetson, by the layouts that are documented; which of them is the total."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.devices.sensors import find_sensors
from edgekit.devices.sensors.rails import find_rails

pytestmark = pytest.mark.device_side

Machine = Callable[..., Path]
HWMON = "sys/class/hwmon/hwmon"


def rails(root: Path) -> dict[str, float]:
    return {rail.name: rail.read() for rail in find_rails(root)}


@pytest.mark.parametrize(
    ("name", "expected_mw"),
    [
        ("orin-nano", {"VDD_IN": 5515.072, "VDD_CPU_GPU_CV": 805.12, "VDD_SOC": 1487.104}),
        ("orin-nx", {"VDD_IN": 9700, "VDD_CPU_GPU_CV": 1940, "VDD_SOC": 1552}),
        ("agx-orin", {"VDD_GPU_SOC": 3361.92, "VDD_CPU_CV": 480, "VIN_SYS_5V0": 4868.64, "VDDQ_VDD2_1V8AO": 397.44}),
        ("xavier-nx", {"VDD_IN": 4146, "VDD_CPU_GPU_CV": 362, "VDD_SOC": 1207}),
        ("agx-xavier", {"GPU": 190, "CPU": 570, "SOC": 760, "CV": 0, "VDDRQ": 95, "SYS5V": 1500}),
        ("thor", {"VDD_GPU": 99_682, "VDD_CPU_SOC_MSS": 6501, "VIN_SYS_5V0": 6500, "VIN": 150_000}),
        ("pc", {}),
    ],
)
def test_every_rail_in_mw(machine: Machine, name: str, expected_mw: dict[str, float]) -> None:
    assert rails(machine(name)) == pytest.approx(expected_mw)


@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("orin-nano", "VDD_IN", ("VDD_IN",)),
        ("orin-nx", "VDD_IN", ("VDD_IN",)),
        # VIN_SYS_5V0 feeds VDDQ_VDD2_1V8AO: that one would count twice
        (
            "agx-orin",
            "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0",
            ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        ),
        ("xavier-nx", "VDD_IN", ("VDD_IN",)),
        ("agx-xavier", "GPU + CPU + SOC + CV + VDDRQ + SYS5V", ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")),
        ("thor", "VIN", ("VIN",)),
    ],
)
def test_the_input_is_the_total(machine: Machine, name: str, total: str, parts: tuple[str, ...]) -> None:
    found = find_sensors(machine(name))
    assert found.total is not None
    assert (found.total.name, found.total.parts) == (total, parts)
    assert "power" not in found.not_measured


def test_an_ina238_named_by_the_device_tree(machine: Machine) -> None:
    """Mainline's driver has no in1_label, but hwmon's `label`; then, as of any chip, its own name."""
    root = machine("thor", **{f"{HWMON}5/in1_label": None, f"{HWMON}5/label": "VIN"})
    assert rails(root)["VIN"] == 150_000
    (root / f"{HWMON}5/label").unlink()
    assert rails(root)["ina238 hwmon5 channel 1"] == 150_000


def test_without_its_input_the_total_of_a_thor_is_not_measured(machine: Machine) -> None:
    found = find_sensors(machine("thor", **{f"{HWMON}5/name": None}))
    assert found.total is None
    assert len(found.power) == 3, "and its rails are"
    assert found.not_measured["power"] == (
        "expected a rail that feeds all others (VIN, VDD_IN, POM_5V_IN, 5V_IN); "
        "received VDD_GPU, VDD_CPU_SOC_MSS, VIN_SYS_5V0"
    )


def test_a_part_of_a_sum_that_cannot_be_read(machine: Machine) -> None:
    """A channel that is switched off answers ENODATA; here a text that is no number stands for it."""
    found = find_sensors(machine("agx-orin", **{f"{HWMON}3/curr2_input": "off"}))
    assert found.total is None
    assert "VDD_CPU_CV cannot be read: expected a number; received 'off' (" in found.not_measured["power"]
    assert [one.name for one in found.unreadable] == ["VDD_CPU_CV"]


def test_a_negative_current_is_what_the_sensor_says(machine: Machine) -> None:
    """A Thor whose GPU is off has shown -392 mW: the offset of its amplifier."""
    assert rails(machine("thor", **{f"{HWMON}4/curr1_input": "-20"}))["VDD_GPU"] == -394


def test_two_rails_of_one_name_are_told_apart(machine: Machine) -> None:
    root = machine("orin-nano", **{f"{HWMON}1/in3_label": "VDD_CPU_GPU_CV"})
    names = list(rails(root))
    assert names[:2] == ["VDD_IN", "VDD_CPU_GPU_CV"]
    assert names[2] == f"VDD_CPU_GPU_CV ({root / HWMON}1/in3_input, curr3_input)"
