"""Reading all sensors again and again: one sample at a time, and what went wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.devices.sensors.find import Sensors
from edgekit.devices.sensors.sensor import GONE, LATER, Energy, Sensor, Temperature, spent_j

_SHORTEST_S = 0.02


@dataclass(frozen=True)
class Sample:
    """One reading of all sensors. What could not be read is missing.

    Attributes:
        t_s: `time.perf_counter()` in the middle of reading powers and counters, which are read first.
        power_mw: by rail or device; of a device with a counter alone the mean since the sample before.
        throttled: whether a clock is held down, or was since the sample before; None: the machine does not tell.
        energy_j: by counter, since the first sample.
    """

    t_s: float
    power_mw: Mapping[str, float]
    temperature_c: Mapping[str, float]
    clock_mhz: Mapping[str, float]
    throttled: bool | None
    energy_j: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Failure:
    """Readings of one sensor that failed.

    Attributes:
        first_s: when it first did, as `t_s`.
        gone: it is not read any more.
    """

    first_s: float
    reason: str
    num: int = 0
    gone: bool = False


@dataclass
class Spell:
    """When something throttled: in how many samples, the first and the last, as `t_s`."""

    first_s: float
    last_s: float
    num: int = 0


class Sampler:
    """Reads sensors; keeps what their counters said before.

    Attributes:
        failures: by kind and name of the sensor.
        throttling: by what throttled.
    """

    def __init__(self, sensors: Sensors) -> None:
        self.sensors = sensors
        self.failures: dict[tuple[str, str], Failure] = {}
        self.throttling: dict[str, Spell] = {}
        self._counted_j: dict[str, tuple[float, float]] = {}  # what a counter says, and how much since the first time
        self._power_since: dict[str, tuple[float, float]] = {}
        self._events: dict[str, float] = {}

    def sample(self) -> Sample:
        """Read every sensor that is not gone."""
        sensors, before_s = self.sensors, time.perf_counter()
        energy_j = {one.name: value for one in sensors.energy if (value := self._energy_j(one, before_s)) is not None}
        power_mw = self._all(sensors.power, before_s)
        t_s = (before_s + time.perf_counter()) / 2
        for name, value in energy_j.items():
            if (mean_mw := self._mean_mw(name, t_s, value)) is not None:
                power_mw.setdefault(name, mean_mw)
        return Sample(
            t_s=t_s,
            power_mw=power_mw,
            temperature_c=self._all(sensors.temperature, t_s),
            clock_mhz=self._all(sensors.clocks, t_s),
            throttled=self._throttled(t_s),
            energy_j=energy_j,
        )

    def _all(self, sensors: tuple[Sensor, ...], t_s: float) -> dict[str, float]:
        return {one.name: value for one in sensors if (value := self._read(one, t_s)) is not None}

    def _read(self, sensor: Sensor, t_s: float) -> float | None:
        failure = self.failures.get((sensor.kind, sensor.name))
        if failure and failure.gone:
            return None
        try:
            return sensor.read()
        except OSError as error:
            if error.errno in LATER and isinstance(sensor, Temperature):
                return None  # a part that is off is no failure
            self._failed(sensor, t_s, error.strerror or str(error), gone=error.errno in GONE)
        except ValueError as error:
            self._failed(sensor, t_s, str(error))
        return None

    def _failed(self, sensor: Sensor, t_s: float, reason: str, *, gone: bool = False) -> None:
        failure = self.failures.setdefault((sensor.kind, sensor.name), Failure(t_s, reason))
        failure.num += 1
        if gone:
            failure.first_s, failure.reason, failure.gone = t_s, reason, True

    def _energy_j(self, sensor: Energy, t_s: float) -> float | None:
        value = self._read(sensor, t_s)
        if value is None:
            return None
        before, since = self._counted_j.get(sensor.name, (value, 0.0))
        try:
            since += spent_j(before, value, sensor.wraps_at_j)
        except ValueError as error:  # what it counted before it began anew is lost
            self._failed(sensor, t_s, str(error), gone=True)
            return None
        self._counted_j[sensor.name] = value, since
        return since

    def _mean_mw(self, name: str, t_s: float, energy_j: float) -> float | None:
        """The counter's mean power since the last time; counters move in steps, so that a short while says nothing."""
        before_s, before_j = self._power_since.setdefault(name, (t_s, energy_j))
        if t_s - before_s < _SHORTEST_S:
            return None
        self._power_since[name] = t_s, energy_j
        return (energy_j - before_j) / (t_s - before_s) * 1e3

    def _throttled(self, t_s: float) -> bool | None:
        told = False
        reasons: list[str] = []
        for sensor in self.sensors.throttling:
            value = self._read(sensor, t_s)
            if value is None:
                continue
            before = self._events.get(sensor.name)
            told = told or before is not None or not sensor.counts
            reasons += sensor.reasons(before, value)
            self._events[sensor.name] = value
        for reason in reasons:
            spell = self.throttling.setdefault(reason, Spell(t_s, t_s))
            spell.last_s, spell.num = t_s, spell.num + 1
        return bool(reasons) if told else None
