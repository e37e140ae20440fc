"""Energy of a point, from a recording whose power is known."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from edgekit.devices.recording import Recording, Sample
from edgekit.devices.sensors.find import find_sensors
from edgekit.runtime.profile.energy import energy_of, idle_power_mw

pytestmark = pytest.mark.device_side

MARKS = {"start_s": 11.0, "stop_s": 13.0, "num_items": 4}


def recording(power_mw: float | None) -> Recording:
    told = {} if power_mw is None else {"VDD_IN": power_mw}
    samples = tuple(Sample(10 + index / 10, told, {}, {}, None) for index in range(41))
    if power_mw is None:
        return Recording(samples, None, {"power": "no sensor"}, ())
    return Recording(samples, "VDD_IN", {}, (), ("VDD_IN",))


def test_joules_are_told_per_item_and_per_second_of_sound() -> None:
    told, why = energy_of(recording(8000), 2000, MARKS, audio_s=0.5)
    assert why is None
    assert told is not None
    assert told["measured_by"] == "VDD_IN"
    assert (told["idle_power_mw"], told["mean_power_mw"]) == (2000, pytest.approx(8000))
    # 8 W over 2 s; 6 W of them above idle; 4 items of half a second
    assert (told["energy_j"], told["above_idle_j"]) == (pytest.approx(16), pytest.approx(12))
    assert told["per_item"] == {"energy_j": pytest.approx(4), "above_idle_j": pytest.approx(3)}
    assert told["per_audio_s"] == {"energy_j": pytest.approx(8), "above_idle_j": pytest.approx(6)}


def test_energy_keeps_to_the_published_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[3] / "docs" / "profile.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/energy", "$defs": schema["$defs"]})
    for idle_mw, audio_s in ((2000, 0.5), (None, None)):
        validator.validate(energy_of(recording(8000), idle_mw, MARKS, audio_s)[0])


def test_what_is_not_measured_is_null_and_has_a_reason() -> None:
    assert energy_of(recording(None), None, MARKS, 1.0) == (None, "no sensor")
    told, _ = energy_of(recording(8000), None, MARKS, None)
    assert told is not None
    assert (told["idle_power_mw"], told["above_idle_j"], told["per_audio_s"]) == (None, None, None)
    assert told["per_item"] == {"energy_j": pytest.approx(4), "above_idle_j": None}


@pytest.mark.skipif(find_sensors().total is not None, reason="this machine measures its power")
def test_nothing_is_waited_for_where_no_power_is_told() -> None:
    before = time.perf_counter()
    assert idle_power_mw(30) is None
    assert time.perf_counter() - before < 5
