"""How much speech a split holds: "30s", "10m", "2h"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekit.core.errors import UsageError

_UNITS_S = {"h": 3600, "m": 60, "s": 1}
_MAX_S = 1000 * 3600


@dataclass(frozen=True, order=True)
class Size:
    """So much speech, at least a second."""

    seconds: int

    @property
    def ms(self) -> int:
        return self.seconds * 1000

    def __str__(self) -> str:
        """In the largest unit that needs no fraction: 90 s are "90s", 120 s are "2m"."""
        unit = next(unit for unit, unit_s in _UNITS_S.items() if self.seconds % unit_s == 0)
        return f"{self.seconds // _UNITS_S[unit]}{unit}"


@dataclass(frozen=True)
class Sizes:
    """What each speaker has.

    Attributes:
        splits: of the train lists, ascending; each list holds the ones before it.
        validation: for early stopping and for choices.
        test: for the word error rate.
    """

    splits: tuple[Size, ...]
    validation: Size
    test: Size

    @property
    def total(self) -> Size:
        """What a speaker must have recorded at the least."""
        return Size(self.splits[-1].seconds + self.validation.seconds + self.test.seconds)

    def __str__(self) -> str:
        return f"{self.splits[-1]} to train, {self.validation} to validate, {self.test} to test"


def parse_size(text: str) -> Size:
    """Read "30s", "10m" or "2h".

    Raises:
        UsageError: anything else, nothing at all, or more than 1000 h.
    """
    found = re.fullmatch(r"([0-9]{1,7})([smh])", text.strip())
    seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
    if not 0 < seconds <= _MAX_S:
        raise UsageError(
            f"expected a size from 1s to 1000h, as a whole number with s, m or h; received {text[:40]!r}",
            hint="30s, 10m and 2h are sizes",
        )
    return Size(seconds)


def parse_splits(text: str) -> tuple[Size, ...]:
    """Read "10m,30m,1h": sizes by commas, made ascending.

    Raises:
        UsageError: one of them is no size, or stands there twice.
    """
    splits = tuple(sorted(parse_size(part) for part in text.split(",")))
    if len(set(splits)) < len(splits):
        raise UsageError(f"expected sizes that differ, received {', '.join(map(str, splits))}")
    return splits


PAPER = Sizes(parse_splits("10m,30m,1h,2h,5h,10h"), parse_size("1h"), parse_size("1h"))
"""The abstract tells six splits from 10 min to 10 h; the sizes between, of validation and of test are inferred."""
