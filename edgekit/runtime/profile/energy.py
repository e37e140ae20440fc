"""What a point cost in energy, from a recording of the machine's sensors: per item, per second of sound, above idle."""

from __future__ import annotations

from typing import Any

from edgekit.devices.recording import Recording, measure_idle, net_energy_j
from edgekit.devices.sensors.find import find_sensors


def idle_power_mw(seconds: float) -> float | None:
    """The machine's mean power while this process sleeps; None, at once, where nothing measures it."""
    sensors = find_sensors()
    return None if sensors.total is None or seconds <= 0 else measure_idle(seconds, sensors)


def energy_of(
    recording: Recording, idle_mw: float | None, marks: dict[str, float], audio_s: float | None
) -> tuple[dict[str, Any] | None, str | None]:
    """Energy between two marks; or None, and why.

    Args:
        idle_mw: what the machine takes anyway; None: not measured.
        marks: `start_s`, `stop_s` by `time.perf_counter`, and `num_items`.
        audio_s: seconds of sound of each item.
    """
    start_s, stop_s, num_items = marks["start_s"], marks["stop_s"], marks["num_items"]
    energy_j = recording.energy_j(start_s, stop_s)
    if energy_j is None:
        why = "too few readings of the sensors in this time, or none that moved"
        return None, recording.not_measured.get("power", why)
    whole = {"energy_j": energy_j, "above_idle_j": net_energy_j(recording, start_s, stop_s, idle_mw)}

    def over(number: float) -> dict[str, float | None]:
        return {name: None if joules is None else joules / number for name, joules in whole.items()}

    return {
        "measured_by": recording.total,
        "idle_power_mw": idle_mw,
        "mean_power_mw": recording.mean_power_mw(start_s, stop_s),
        **whole,
        "per_item": over(num_items),
        "per_audio_s": None if audio_s is None else over(num_items * audio_s),
    }, None
