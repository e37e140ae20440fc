"""Plain data from a file, field by field: what is not as expected is an error that says where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from edgekit.core.errors import EdgekitError

_MISSING = object()
_LARGEST = 1e15
"""What is larger, infinite or no number is none that was measured."""


class Fields:
    """An object of a JSON file.

    Args:
        data: what was parsed.
        file: which file, for errors.
        where: which part of it, as "points[3].session"; empty: the whole.
        schema: what says how it should be.
    """

    def __init__(self, data: object, file: str, where: str = "", *, schema: str) -> None:
        self._file, self.where, self._schema = file, where, schema
        if not isinstance(data, Mapping):
            raise self._wrong("", "an object", data)
        self.data: Mapping[str, Any] = data

    def text(self, name: str) -> str:
        value = self._get(name)
        return value if isinstance(value, str) else self._fail(name, "a text", value)

    def text_or_none(self, name: str) -> str | None:
        return None if self._get(name) is None else self.text(name)

    def number(self, name: str) -> float:
        value = self._get(name)
        return float(value) if _is_number(value) else self._fail(name, "a finite number", value)

    def number_or_none(self, name: str) -> float | None:
        return None if self._get(name) is None else self.number(name)

    def above_0_or_none(self, name: str) -> float | None:
        value = self.number_or_none(name)
        return value if value is None or value > 0 else self._fail(name, "a number above 0", value)

    def whole(self, name: str) -> int:
        value = self._get(name)
        return value if isinstance(value, int) and _is_number(value) else self._fail(name, "a whole number", value)

    def count(self, name: str) -> int:
        """Of what there is at least one."""
        value = self.whole(name)
        return value if value > 0 else self._fail(name, "a whole number of 1 or more", value)

    def whole_or_none(self, name: str) -> int | None:
        return None if self._get(name) is None else self.whole(name)

    def numbers(self, name: str) -> tuple[float, ...]:
        value = self._get(name)
        if not isinstance(value, list) or not all(map(_is_number, value)):
            self._fail(name, "a list of finite numbers", value)
        return tuple(map(float, value))

    def numbers_above_0(self, name: str) -> tuple[float, ...]:
        """At least one."""
        found = self.numbers(name)
        if not found or min(found) <= 0:
            self._fail(name, "numbers above 0", list(found))
        return found

    def columns(self, name: str) -> dict[str, tuple[float | None, ...]]:
        """Lists of numbers, or null, by name."""
        found = {}
        for key, column in self.part(name).data.items():
            if not isinstance(column, list) or not all(each is None or _is_number(each) for each in column):
                self._fail(f"{name}.{key}", "a list of finite numbers or null", column)
            found[key] = tuple(None if each is None else float(each) for each in column)
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._fail(name, "a list of texts", value)
        return tuple(value)

    def texts_by_name(self, name: str) -> dict[str, str]:
        value = self.part(name).data
        if not all(isinstance(each, str) for each in value.values()):
            self._fail(name, "texts by name", value)
        return dict(value)

    def part(self, name: str) -> Fields:
        return Fields(self._get(name), self._file, self._path(name), schema=self._schema)

    def part_or_none(self, name: str) -> Fields | None:
        return None if self._get(name) is None else self.part(name)

    def parts(self, name: str) -> Iterator[Fields]:
        value = self._get(name)
        if not isinstance(value, list):
            self._fail(name, "a list", value)
        for index, each in enumerate(value):
            yield Fields(each, self._file, f"{self._path(name)}[{index}]", schema=self._schema)

    def _get(self, name: str) -> Any:
        value = self.data.get(name, _MISSING)
        return self._fail(name, "a value", "nothing") if value is _MISSING else value

    def _path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where and name else self.where or name

    def _fail(self, name: str, expected: str, received: object) -> NoReturn:
        raise self._wrong(name, expected, received)

    def _wrong(self, name: str, expected: str, received: object) -> EdgekitError:
        shown = repr(received)
        shown = f"{shown[:60]}..." if len(shown) > 60 else shown
        return EdgekitError(
            f"expected {expected} at {self._path(name) or 'the top'} of {self._file}, received {shown}",
            hint=f"{self._schema} says what it holds",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST
