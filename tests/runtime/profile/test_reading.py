"""Results read back: what they hold, and what is wrong with those that hold something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.core.errors import EdgekitError
from edgekit.runtime.profile.compare import compare
from edgekit.runtime.profile.reading import read_measured
from edgekit.runtime.profile.report.page import to_html

pytestmark = pytest.mark.device_side
SCHEMA = Path(__file__).parents[3] / "docs" / "profile.schema.json"


@pytest.fixture
def whole(made: ModuleType) -> dict[str, Any]:
    """A result with a value wherever there may be one, of three queries."""
    sensors = made.recording(3, power_mw={"VDD_IN": [5.0, None, 6.0]}, throttled=[False, True, None])
    measured = made.point(
        made.latencies(3),
        layers=made.layers(),
        energy=made.energy(0.5),
        cold_start=made.cold_start(0.5, 0.6, 0.7),
        recording=sensors,
        warnings=["a warning"],
    )
    return dict(made.result(measured, made.refused(precision="int8"), machine={"gpus": ["A GPU"]}))


def test_what_tests_make_is_what_the_schema_describes(whole: dict[str, Any], made: ModuleType) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="holds results to their schema: pip install jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    offline = made.result(made.point(asked={"scenario": "offline", "batch": 8}))
    for each in (whole, made.result(), offline):
        jsonschema.Draft202012Validator(schema).validate(each)


def test_a_result_is_read_back(whole: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(whole))
    result = read_measured(path)
    (point,), (missing,) = result.points, result.missing
    assert result.origin.device == "A CPU, 4 processors, A GPU"
    assert point.latencies_ms is not None
    assert point.latencies_ms.tolist() == whole["points"][0]["samples_ms"]
    assert (point.length, point.items_per_call, point.energy_j, point.peak_mib) == ("3 s", 1, 0.5, 100.0)
    assert point.cold_starts_s == (0.5, 0.6, 0.7)
    assert point.sensed.power_mw == {"VDD_IN": (5.0, None, 6.0)}
    assert point.sensed.throttled == (False, True, None)
    assert point.layers is not None
    assert [group.name for group in point.layers.by_type] == ["MatMul", "Add"]
    assert (missing.state, missing.asked["precision"], missing.reason) == ("refused", "int8", "no such precision")


def test_offline_is_one_query_and_its_calls_are_from_answer_to_answer(made: ModuleType, tmp_path: Path) -> None:
    answered = made.point(made.latencies(5).cumsum(), asked={"scenario": "offline"})
    (point,) = read_measured(made.write(tmp_path / "a.json", answered)).points
    assert point.latencies_ms is None
    assert point.call_ms == pytest.approx(made.latencies(5), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a result of edgekit profile at "),
        ("{", "expected a result of edgekit profile at "),
        ("[]", "expected a result of edgekit profile at "),
        ('{"kind": "edgekit-profile", "schema": 2, "points": []}', "expected schema 1 at "),
        ('{"kind": "edgekit-profile", "schema": 1, "points": []}', "expected a value at machine of "),
        ('{"kind": "edgekit-profile", "schema": 1, "points": 7}', "expected a result of edgekit profile at "),
    ],
)
def test_what_is_no_result_is_said(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(EdgekitError) as caught:
        read_measured(path)
    assert caught.value.message.startswith(told)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("points", 0, "throughput_per_s"), "fast", "expected a finite number at points[0].throughput_per_s of "),
        (("points", 0, "samples_ms"), [1, float("nan")], "expected a list of finite numbers at points[0].samples_ms"),
        (("points", 0, "samples_ms"), [1.0, -1.0], "expected numbers above 0 at points[0].samples_ms of "),
        (("points", 0, "samples_ms"), [], "expected numbers above 0 at points[0].samples_ms of "),
        (("points", 0, "memory", "peak_mib"), 10**400, "expected a finite number at points[0].memory.peak_mib of "),
        (("points", 0, "items_per_call"), 1.5, "expected a whole number at points[0].items_per_call of "),
        (("points", 0, "items_per_call"), 0, "expected a whole number of 1 or more at points[0].items_per_call of "),
        (("points", 0, "audio_s"), 0, "expected a number above 0 at points[0].audio_s of "),
        (("points", 0, "session"), None, "expected an object at points[0].session of "),
        (("points", 1, "reason"), None, "expected a text at points[1].reason of "),
        (("points", 0, "recording", "power_mw", "VDD_IN"), ["x"], "expected a list of finite numbers or null at "),
    ],
)
def test_a_field_that_is_wrong_is_named(
    whole: dict[str, Any], place: tuple[str | int, ...], value: object, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(changed(whole, place, value)))
    with pytest.raises(EdgekitError) as caught:
        read_measured(path)
    assert caught.value.message.startswith(told)
    assert len(caught.value.message) < 300


def test_whatever_is_wrong_is_an_error_and_no_crash(whole: dict[str, Any], tmp_path: Path) -> None:
    path, refused, drawn = tmp_path / "a.json", 0, 0
    for place in places(whole):
        for value in (None, [], "x", 0, 9e14):
            path.write_text(json.dumps(changed(whole, place, value)))
            try:
                result = read_measured(path)
                to_html([result])
                compare(result, result)
            except EdgekitError:
                refused += 1
            else:
                drawn += 1
    assert refused > 200
    assert drawn > 100


def places(data: Any, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in plain data, of lists the first."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data[:1]) if isinstance(data, list) else ()
    for key, value in pairs:
        yield (*before, key)
        yield from places(value, (*before, key))


def changed(data: Any, place: tuple[str | int, ...], value: object) -> Any:
    """A copy with another value at one place."""
    copy = json.loads(json.dumps(data))
    within = copy
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    return copy
