"""Temperatures, clocks, throttling, what is not measured, and the plain data for a report."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.devices.sensors import Sensors, describe_sensors, find_sensors
from edgekit.devices.sensors.sensor import Power, read_number, read_text, refusal

pytestmark = pytest.mark.device_side

Machine = Callable[..., Path]


def values(sensors: Sensors, kind: str) -> dict[str, float | None]:
    told = describe_sensors(sensors)["readable"]
    return {one["name"]: one["value"] for one in told if one["kind"] == kind}


def test_temperatures(machine: Machine) -> None:
    nano = find_sensors(machine("orin-nano"))
    assert values(nano, "temperature") == {
        "cpu-thermal": 48.187,
        "gpu-thermal": 47.5,
        "cv0-thermal": None,  # the part is off, now
        "tj-thermal": 48.25,
    }
    assert nano.unreadable == ()
    assert {zone.name: zone.hot_c for zone in nano.temperature} == {
        "cpu-thermal": 99,
        "gpu-thermal": None,
        "cv0-thermal": None,
        "tj-thermal": 99,
    }


def test_temperatures_of_pcs(machine: Machine, tmp_path: Path) -> None:
    pc = find_sensors(machine("pc"))
    again = f"acpitz ({tmp_path}/sys/class/thermal/thermal_zone1/temp)"
    assert values(pc, "temperature") == {"acpitz": 27.8, again: 29.8, "x86_pkg_temp": 51}
    assert {zone.name: zone.hot_c for zone in pc.temperature} == {"acpitz": 114, again: None, "x86_pkg_temp": None}


def test_amds_processor_has_no_zone(machine: Machine) -> None:
    assert values(find_sensors(machine("amd-pc")), "temperature") == {"k10temp Tctl": 40.375}


@pytest.mark.parametrize(
    ("name", "clock", "mhz"),
    [
        ("orin-nano", "gpu (17000000.gpu)", 624.75),
        ("orin-nano", "cpu0", 1510.4),
        ("orin-nano", "cpu4", 729.6),
        ("agx-orin", "gpu (17000000.ga10b)", 1300.5),
        ("xavier-nx", "gpu (17000000.gv11b)", 114.75),
        ("thor", "gpu (gpu-gpc-0)", 1575),
        ("raspberry-pi", "cpu0", 1500),
    ],
)
def test_clocks(machine: Machine, name: str, clock: str, mhz: float) -> None:
    found = values(find_sensors(machine(name)), "clock")
    assert found[clock] == pytest.approx(mhz)
    assert not [one for one in found if "vic" in one or "nvd" in one], "no other device's"


def test_of_many_clocks_some(machine: Machine) -> None:
    found = values(find_sensors(machine("pc")), "clock")
    assert list(found) == [f"cpu{number}" for number in range(0, 20, 2)]


def test_throttling(machine: Machine) -> None:
    nano = find_sensors(machine("orin-nano"))
    names = ["cpufreq-cpu0", "devfreq-17000000.gpu", "gpu-throttle-alert", "oc1", "oc2", "oc3"]
    assert [one.name for one in nano.throttling] == names, "neither the fan nor the surface"
    assert not any(one.reasons(None, one.read()) for one in nano.throttling)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("thor", ["gpu-throttle-alert"]),
        ("xavier-nx", ["thermal-cpufreq-0"]),
        # 0x50005: now and since the start; only what is now counts
        ("raspberry-pi", ["Raspberry Pi: under-voltage", "Raspberry Pi: throttled"]),
        ("pc", []),
    ],
)
def test_what_throttles(machine: Machine, name: str, reasons: list[str]) -> None:
    found = find_sensors(machine(name)).throttling
    assert [reason for one in found for reason in one.reasons(None, one.read())] == reasons


def test_counters_of_throttling(machine: Machine) -> None:
    """One per package, which covers its cores; where there is none, one per core."""
    found = find_sensors(machine("pc")).throttling
    assert [one.name for one in found] == [
        "Processor",
        "package 0 thermal throttling",
        "package 1 thermal throttling",
    ]
    counter = found[1]
    assert counter.reasons(None, 7) == ()
    assert counter.reasons(7, 7) == ()
    assert counter.reasons(7, 8) == ("package 0 thermal throttling",)


def test_cores_throttle_where_packages_do_not_tell(machine: Machine) -> None:
    none = {f"sys/devices/system/cpu/cpu{n}/thermal_throttle/package_throttle_count": None for n in range(4)}
    found = find_sensors(machine("pc", **none)).throttling
    assert [one.name for one in found][1:] == [f"core {number} thermal throttling" for number in range(4)]


def test_a_machine_with_nothing(machine: Machine) -> None:
    found = find_sensors(machine("nothing"))
    assert found.total is None
    assert set(found.not_measured) == {"power", "temperature", "clocks", "throttling"}
    assert all(why.startswith("no sensor: ") for why in found.not_measured.values())
    told = describe_sensors(found)
    assert (told["total"], told["readable"], told["unreadable"]) == (None, [], [])


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    assert find_sensors(tmp_path / "none").total is None


def test_plain_data(machine: Machine, tmp_path: Path) -> None:
    junk = {"sys/class/thermal/thermal_zone1/temp": "hot"}
    told = describe_sensors(find_sensors(machine("orin-nano", **junk)))
    assert told == json.loads(json.dumps(told))
    assert told["total"] == "VDD_IN"
    assert told["readable"][0] == {
        "name": "VDD_IN",
        "kind": "power",
        "value": pytest.approx(5515.072),
        "unit": "mW",
        "where": f"{tmp_path}/sys/class/hwmon/hwmon1/in1_input, curr1_input",
    }
    assert told["unreadable"][0] == {
        "name": "gpu-thermal",
        "kind": "temperature",
        "where": f"{tmp_path}/sys/class/thermal/thermal_zone1/temp",
        "reason": "expected a number; received 'hot'",
        "mend": None,
    }


@pytest.mark.parametrize(("text", "shown"), [("", "''"), ("x", "'x'"), ("1 2", "'1 2'"), ("9" * 5000, "'9999")])
def test_junk_is_not_a_number(tmp_path: Path, text: str, shown: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match="expected a number; received ") as caught:
        read_number(tmp_path / "file")
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 100


def test_bytes_that_are_no_text(machine: Machine) -> None:
    root = machine("orin-nano")
    (root / "sys/class/thermal/thermal_zone1/temp").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="ascii"):
        read_text(root / "sys/class/thermal/thermal_zone1/temp")
    assert "gpu-thermal" in [one.name for one in find_sensors(root).unreadable]


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENODATA, errno.ENOENT, errno.EACCES])
def test_only_a_sensor_that_tells_later_is_kept(code: int) -> None:
    def read() -> float:
        raise OSError(code, "why")

    why = refusal(Power("rail", "file", read, mend="command"))
    if code == errno.EAGAIN:
        assert why is None
    else:
        assert why is not None
        assert (why.reason, why.mend) == ("why", "command" if code == errno.EACCES else "")


def test_this_machine() -> None:
    """Whatever it tells can be read again, and what it does not has a reason."""
    found = find_sensors()
    for name in ("temperature", "clocks", "throttling"):
        assert bool(getattr(found, name)) != (name in found.not_measured)
    assert (found.total is None) == ("power" in found.not_measured)
    json.dumps(describe_sensors(found))
