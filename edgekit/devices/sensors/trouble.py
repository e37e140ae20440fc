"""What may have spoilt a run: throttling, clocks that moved, sensors that failed, heat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.devices.sensors.sampling import Sample, Sampler

_MOVED = 0.05
_MOST_NAMES = 4


def find_trouble(samples: Sequence[Sample], sampler: Sampler) -> list[str]:
    """One sentence each, for people; times are in seconds since the first sample."""
    if not samples:
        return []
    start_s = samples[0].t_s
    return [
        *_throttling(samples, sampler, start_s),
        *_clocks(samples),
        *_failures(samples, sampler, start_s),
        *_heat(samples, sampler),
    ]


def _throttling(samples: Sequence[Sample], sampler: Sampler, start_s: float) -> list[str]:
    return [
        f"throttled: {what}, in {spell.num} of {len(samples)} samples, from {spell.first_s - start_s:.1f} s "
        f"to {spell.last_s - start_s:.1f} s"
        for what, spell in sampler.throttling.items()
    ]


def _clocks(samples: Sequence[Sample]) -> list[str]:
    moved = [
        f"{name} ({low:.0f} to {high:.0f} MHz)"
        for name, (low, high) in _ranges([sample.clock_mhz for sample in samples]).items()
        if high - low > _MOVED * high
    ]
    if not moved:
        return []
    more = f" and {len(moved) - _MOST_NAMES} more" if len(moved) > _MOST_NAMES else ""
    return [f"clocks changed by more than {_MOVED:.0%}: {', '.join(moved[:_MOST_NAMES])}{more}"]


def _failures(samples: Sequence[Sample], sampler: Sampler, start_s: float) -> list[str]:
    told = []
    for (kind, name), failure in sampler.failures.items():
        at = f"{max(failure.first_s - start_s, 0):.1f} s"
        if failure.gone:
            told.append(f"the {kind} sensor {name} disappeared at {at}: {failure.reason}")
        else:
            told.append(
                f"the {kind} sensor {name} could not be read in {failure.num} of {len(samples)} samples, "
                f"first at {at}: {failure.reason}"
            )
    return told


def _heat(samples: Sequence[Sample], sampler: Sampler) -> list[str]:
    ranges = _ranges([sample.temperature_c for sample in samples])
    return [
        f"hot: {zone.name} reached {ranges[zone.name][1]:.1f} C; the machine acts against it from {zone.hot_c:g} C on"
        for zone in sampler.sensors.temperature
        if zone.hot_c is not None and zone.name in ranges and ranges[zone.name][1] >= zone.hot_c
    ]


def _ranges(readings: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each name."""
    found: dict[str, tuple[float, float]] = {}
    for reading in readings:
        for name, value in reading.items():
            low, high = found.get(name, (value, value))
            found[name] = min(low, value), max(high, value)
    return found
