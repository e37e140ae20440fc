"""`edgekit devices`, and `--target` of `export` and `build`, run for real."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.bundle import open_bundle
from edgekit.devices import sensors
from edgekit.devices.sensors.find import find_sensors
from edgekit.devices.target import targets
from edgekit.runtime import cuda

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Cli = Callable[..., Any]


def test_this_machine(cli: Cli) -> None:
    ran = cli("devices")
    assert (ran.code, ran.err) == (0, "")
    assert f"Python {platform.python_version()}" in ran.out
    as_json = cli("devices", "--json")
    assert (as_json.code, as_json.err) == (0, "")
    found = json.loads(as_json.out)
    assert list(found) == ["machine", "cpu", "nvidia", "jetson", "clocks", "sensors", "backends"]
    assert found["machine"]["cpu"] in ran.out
    assert len(os.sched_getaffinity(0)) == found["machine"]["num_cpus"]
    usable = {(each["backend"], each["device"], each["precision"]) for each in found["backends"] if each["usable"]}
    assert ("onnxruntime", "cpu", "fp32") in usable
    for each in found["backends"]:
        if not each["usable"]:
            assert f"missing {each['missing']}\n  mend: {each['remedy']}\n" in ran.out


def test_what_is_measured_and_what_is_not(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a RAPL counter and one that may not be read, whose files this test writes."""
    zones = tmp_path / "sys/class/powercap"
    for name, label in (("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1")):
        (zones / name).mkdir(parents=True)
        (zones / name / "name").write_text(f"{label}\n")
        (zones / name / "energy_uj").write_text("2500000\n")
        (zones / name / "max_energy_range_uj").write_text("262143328850\n")
    (zones / "intel-rapl:1" / "energy_uj").write_text("junk\n")
    monkeypatch.setattr(sensors, "find_sensors", lambda: find_sensors(tmp_path))
    ran = cli("devices")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"package-0 +energy +2\.5 +J", ran.out)
    assert "package-1: cannot be read: " in ran.out
    told = json.loads(cli("devices", "--json").out)["sensors"]
    assert told["total"] is None  # a package is missing
    for what, reason in told["not_measured"].items():
        assert f"{what}: not measured: {reason}\n" in ran.out
    assert "power" in told["not_measured"]

    (zones / "intel-rapl:1" / "energy_uj").write_text("1\n")
    assert "power: measured by " in cli("devices").out


def test_targets_are_listed(cli: Cli) -> None:
    ran = cli("devices", "--targets")
    assert (ran.code, ran.err) == (0, "")
    for name, target in targets().items():
        (line,) = (line for line in ran.out.splitlines() if line.split()[:1] == [name])
        assert target.title in line
        assert ", ".join(target.formats) in line
    rows = json.loads(cli("devices", "--targets", "--json").out)
    assert [row["name"] for row in rows] == sorted(targets())


def test_a_target_is_shown_with_the_source_of_every_fact(cli: Cli) -> None:
    ran = cli("devices", "--target", "jetson-orin-nano-8gb")
    assert (ran.code, ran.err) == (0, "")
    assert "memory_gb: 8\n    https://developer.nvidia.com/" in ran.out
    assert "power_modes: MAXN_SUPER, 25W (25 W), 15W (15 W), 7W (7 W)\n    https://" in ran.out
    target = targets()["jetson-orin-nano-8gb"]
    for source in target.sources:
        assert ran.out.count(f"    {source.url}\n") >= len(source.facts)
    said = json.loads(cli("devices", "--target", "jetson-orin-nano-8gb", "--json").out)
    assert said["compute_capability"] == target.compute_capability


def test_doctor_gives_advice(cli: Cli) -> None:
    ran = cli("doctor")
    found = json.loads(cli("doctor", "--json").out)
    assert (ran.code, ran.err) == (0, "")
    assert isinstance(found["advice"], list)
    for each in found["advice"]:
        # clocks and temperatures move between two runs, the commands do not
        assert f"  mend: {each['command']}\n" in ran.out


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("devices --target jetson-orin-nano-8g", "expected a target among a10,", "did you mean jetson-orin-nano-8gb?"),
        ("devices --targets --target l4", "expected one of --targets and --target", "edgekit devices --targets"),
        ("build TOY --target raspberry-pi-4 --trt", "raspberry-pi-4 runs (onnx, openvino), received trt", None),
        ("export disconformer --target raspberry-pi-5 --trt-rtx", "raspberry-pi-5 runs (onnx, openvino)", None),
        ("export disconformer --target jetson-xavier-nx --precision bf16", "(fp32, fp16), received bf16", None),
        ("export disconformer --target x86-amx --precision bf61", "expected a precision among fp32", None),
        ("build TOY --target x86-amx --format opnvino", "expected a format among onnx", "did you mean openvino?"),
    ],
)
def test_what_contradicts_is_wrong_usage(
    cli: Cli, toy_bundle: Path, arguments: str, message: str, hint: str | None
) -> None:
    ran = cli(*(str(toy_bundle) if word == "TOY" else word for word in arguments.split()))
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert hint is None or f"hint:  {hint}" in ran.err


def test_build_for_a_target(cli: Cli, toy_bundle: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")
    ran = cli("build", toy_bundle, "--target", "x86-amx", "--precision", "bf16", "--json")
    assert ran.code == 0
    assert [(made["format"], made["precision"]) for made in json.loads(ran.out)] == [("openvino", "fp32")]
    assert "pass --precision bf16 when it runs" in ran.err
    assert open_bundle(toy_bundle).manifest.provenance["targets"] == ["x86-amx"]
    nothing = cli("build", toy_bundle, "--target", "raspberry-pi-4")
    assert (nothing.code, nothing.out) == (0, "")
    assert "raspberry-pi-4 runs the fp32 ONNX, which every bundle has" in nothing.err


@pytest.mark.skipif("8.7" in {gpu.compute_capability for gpu in cuda.devices()}, reason="this is such a machine")
def test_an_engine_is_built_on_its_target_alone(cli: Cli, toy_bundle: Path) -> None:
    before = (toy_bundle / "manifest.json").read_bytes()
    ran = cli("build", toy_bundle, "--target", "jetson-orin-nano-8gb")
    assert (ran.code, ran.out) == (1, "")
    assert "expected to build trt fp16 for jetson-orin-nano-8gb on that device itself" in ran.err
    assert f"hint:  there: edgekit build {toy_bundle} --format trt --precision fp16 --target" in ran.err
    assert (toy_bundle / "manifest.json").read_bytes() == before
