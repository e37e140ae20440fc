"""One sensor of each kind: what it tells, where it is, and how it is read once."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeVar

GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})
"""After these a sensor is not read again: its file or its device is no longer there."""

LATER = frozenset({errno.EAGAIN, errno.EBUSY})
"""With these a sensor says that it has no value now: so does a Jetson's GPU zone while the GPU is powered down."""

_MOST_DIGITS = 24


@dataclass(frozen=True)
class Sensor:
    """What can be read at any time.

    Attributes:
        name: unique among those of its kind.
        where: its files, or the library's name for it.
        read: one reading in `unit`; raises OSError or ValueError where there is none.
        mend: the command after which it can be read, where a user is refused.
    """

    name: str
    where: str
    read: Callable[[], float]
    mend: str = ""

    kind: ClassVar[str]
    unit: ClassVar[str]


@dataclass(frozen=True)
class Power(Sensor):
    """A rail or a device whose power is told."""

    kind = "power"
    unit = "mW"


@dataclass(frozen=True)
class Energy(Sensor):
    """A counter of energy.

    Attributes:
        wraps_at_j: where it begins anew with zero; None: nowhere.
    """

    wraps_at_j: float | None = None

    kind = "energy"
    unit = "J"


@dataclass(frozen=True)
class Temperature(Sensor):
    """A temperature.

    Attributes:
        hot_c: from here on the machine acts against it; None: it does not tell.
    """

    hot_c: float | None = None

    kind = "temperature"
    unit = "C"


@dataclass(frozen=True)
class Clock(Sensor):
    """A clock's frequency."""

    kind = "clock"
    unit = "MHz"


@dataclass(frozen=True)
class Throttling(Sensor):
    """Something that is not zero while a clock is held down.

    Attributes:
        counts: it counts events since the machine was started, so that only an increase says anything.
        flags: what each bit stands for; without them every value but zero is throttling.
    """

    counts: bool = False
    flags: Mapping[int, str] = field(default_factory=dict)

    kind = "throttling"
    unit = ""

    def reasons(self, before: float | None, now: float) -> tuple[str, ...]:
        """What throttles at a reading of `now`, after one of `before` (None: the first); empty: nothing."""
        if self.counts:
            return (self.name,) if before is not None and now > before else ()
        if self.flags:
            return tuple(f"{self.name}: {text}" for bit, text in self.flags.items() if int(now) & bit)
        return (self.name,) if now > 0 else ()


@dataclass(frozen=True)
class Unreadable:
    """A sensor that is there and tells nothing, why, and the command that mends it ("": none is known)."""

    name: str
    kind: str
    where: str
    reason: str
    mend: str = ""

    def __str__(self) -> str:
        told = f"{self.name} cannot be read: {self.reason} ({self.where})"
        return f"{told}; to mend it: {self.mend}" if self.mend else told


def read_text(path: Path) -> str:
    """A small file of sysfs in one read. Raises OSError; ValueError where it is no text."""
    # not Path.read_text: where the kernel answers EAGAIN, Python's text files raise TypeError
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096).decode("ascii").strip("\0\n ")
    finally:
        os.close(descriptor)


def read_number(path: Path, base: int = 10) -> int:
    """A file that holds one whole number. Raises OSError, ValueError."""
    text = read_text(path)
    try:
        if len(text) <= _MOST_DIGITS:
            return int(text, base)
    except ValueError:
        pass
    raise ValueError(f"expected a number; received {text[:40]!r}")


def text_or(path: Path, otherwise: str) -> str:
    """A file's text, or `otherwise` where it cannot be read or is empty."""
    try:
        return read_text(path) or otherwise
    except (OSError, ValueError):
        return otherwise


def spent_j(before: float, after: float, wraps_at_j: float | None) -> float:
    """What a counter has counted between two readings, if it began anew once at most.

    Raises:
        ValueError: it began anew and nobody knows where.
    """
    if after >= before:
        return after - before
    if not wraps_at_j:
        raise ValueError(f"the counter began anew: {before:.3f} J, then {after:.3f} J")
    return (after - before) % wraps_at_j


def refusal(sensor: Sensor) -> Unreadable | None:
    """Why a sensor cannot be read; None: it can be, or says that it could be later."""
    try:
        sensor.read()
    except OSError as error:
        if error.errno in LATER:
            return None
        reason, mend = error.strerror or str(error), sensor.mend if error.errno in (errno.EACCES, errno.EPERM) else ""
    except ValueError as error:
        reason, mend = str(error), ""
    else:
        return None
    return Unreadable(sensor.name, sensor.kind, sensor.where, reason, mend)


_Kind = TypeVar("_Kind", bound=Sensor)


def distinct(sensors: Sequence[_Kind]) -> list[_Kind]:
    """The same sensors; of several with one name, those after the first have their place added to it."""
    found: dict[str, _Kind] = {}
    for sensor in sensors:
        name = sensor.name if sensor.name not in found else f"{sensor.name} ({sensor.where})"
        found[name] = sensor if name == sensor.name else replace(sensor, name=name)
    return list(found.values())


def numbered(paths: Iterable[Path]) -> list[Path]:
    """Paths in the order of the last number in their names: zone2 before zone10."""
    return sorted(paths, key=lambda path: (int((re.findall(r"\d+", path.name) or ["0"])[-1]), path.name))
