"""Settings are frozen dataclasses: read from TOML, changed by `field=value`, every value held to its annotation.

Ranges belong to a dataclass' `__post_init__`: its ValueError becomes a `SettingsError`. It sees all changes at once,
so that two fields which must change together can. Of a union's types the first that fits is taken.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edgekit.core.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib
if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


class _Text(str):
    """A value as typed on the command line, still to be parsed."""


def apply_settings(config: Config, assignments: Sequence[str]) -> Config:
    """A copy of `config` with each `field=value` applied; of one field's, the last.

    A field of a nested dataclass is `outer.inner=value`. A tuple is `1,2,3` or JSON (`[[1,2],[3,4]]`); the bools are
    `true` and `false`; `none` is None where that is allowed.

    Raises:
        SettingsError: no such field, a value of another type, or a value outside its range.
    """
    changes: dict[str, Any] = {}
    seen: set[str] = set()
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not name:
            raise SettingsError(f"expected field=value, received {assignment!r}")
        if any(other.startswith(f"{name}.") or name.startswith(f"{other}.") for other in seen):
            raise SettingsError(f"expected {name} to be set as a whole or by its fields, received both")
        seen.add(name)
        *outer, last = name.split(".")
        inner = changes
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = _Text(text)
    return _made(type(config), config, changes, "")


def load_settings(config_class: type[Config], path: Path | str) -> Config:
    """Read a dataclass from a TOML file; a field that the file leaves out keeps its default.

    Raises:
        SettingsError: no such file, broken TOML (with its line), an unknown, missing, mistyped or refused value.
    """
    return _made(config_class, None, _parsed(path), f"{path}: ")


def merge_settings(config: Config, path: Path | str) -> Config:
    """A copy of `config` with what a TOML file says; raises as `load_settings`."""
    return _made(type(config), config, _parsed(path), f"{path}: ")


def _parsed(path: Path | str) -> dict[str, Any]:
    try:
        content = Path(path).read_bytes()
        return tomllib.loads(content.decode())
    except OSError as error:
        raise SettingsError(f"expected a TOML file at {path}, received: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"at line (\d+)", str(error))
        end = error.end if isinstance(error, UnicodeDecodeError) else len(content)
        line = found[1] if found else len(content[:end].splitlines())
        raise SettingsError(f"{path}, line {line}: expected TOML, received other text: {error}") from error


def settings_from_dict(config_class: type[Config], data: Mapping[str, Any]) -> Config:
    """The reverse of `settings_to_dict`; raises SettingsError for what does not fit."""
    return _made(config_class, None, data, "")


def settings_to_dict(config: DataclassInstance) -> dict[str, Any]:
    """What JSON can hold: tuples become lists, paths become text."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(config), default=os.fspath))
    return data


def settings_to_json(config: DataclassInstance) -> str:
    return json.dumps(settings_to_dict(config), indent=1, ensure_ascii=False) + "\n"


def _made(cls: type[Config], base: Config | None, changes: Mapping[str, Any], where: str) -> Config:
    hints, known, values = get_type_hints(cls), {field.name: field for field in fields(cls) if field.init}, {}
    at = f"{where[:-1]}: " if where.endswith(".") else where
    for name, value in changes.items():
        if name not in known:
            raise SettingsError(f"{at}expected one of {', '.join(known)}; received {name!r}", hint=_near(name, known))
        old = _default(known[name]) if base is None else getattr(base, name)
        values[name] = _converted(value, hints[name], f"{where}{name}", old)
    missing = [name for name, field in known.items() if name not in values and _default(field) is MISSING]
    if base is None and missing:
        raise SettingsError(f"{at}expected a value for {', '.join(missing)}; received none")
    try:
        return cls(**values) if base is None else replace(base, **values)
    except ValueError as error:
        raise SettingsError(f"{at}{error}") from error


def _near(name: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else None


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _converted(value: Any, kind: Any, where: str, old: Any = None) -> Any:
    try:
        return _fitted(value, kind, where, old)
    except (ValueError, OverflowError):
        hint = _near(str(value), map(str, get_args(kind))) if get_origin(kind) is Literal else None
        received = f"a table of {', '.join(value)}" if isinstance(value, dict) else repr(value)
        raise SettingsError(f"{where}: expected {_label(kind)}, received {received}", hint=hint) from None


def _fitted(value: Any, kind: Any, where: str, old: Any) -> Any:
    """`value` as a `kind`; ValueError if it is none, SettingsError if something inside it does not fit."""
    origin, options, typed = get_origin(kind), get_args(kind), not isinstance(value, _Text)
    if origin in (Union, types.UnionType):
        if type(None) in options and value == (None if typed else "none"):
            return None
        *others, last = (option for option in options if option is not type(None))
        for option in others:
            with suppress(ValueError, OverflowError, SettingsError):
                return _fitted(value, option, where, old)
        return _fitted(value, last, where, old)
    if origin is Literal:
        known = [(type(option), option) if typed else str(option) for option in options]
        return options[known.index((type(value), value) if typed else value)]
    if origin is tuple:
        if not typed:
            items = [_Text(item.strip()) for item in value.split(",")] if value else []
            value = json.loads(value) if value.startswith("[") else items
        if not isinstance(value, (list, tuple)) or not (options[-1] is Ellipsis or len(value) == len(options)):
            raise ValueError
        kinds = options[:1] * len(value) if options[-1] is Ellipsis else options
        return tuple(_converted(v, k, f"{where}[{i}]") for i, (v, k) in enumerate(zip(value, kinds)))
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError
        return _made(kind, old if isinstance(old, kind) else None, value, f"{where}.")
    if kind not in (bool, int, float, str, Path):
        raise TypeError(f"{where}: a setting cannot be a {_label(kind)}")
    if not typed and kind is bool:
        value = {"true": True, "false": False}.get(value.lower())
    elif not typed or (kind, type(value)) in ((float, int), (Path, str)):
        value = kind(value)
    # NaN is refused because a range written as comparisons lets it through.
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)) or value != value:
        raise ValueError
    return value


def _label(kind: Any) -> str:
    origin, options = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_label(option) for option in options)
    if origin is Literal:
        return " or ".join(repr(option) for option in options)
    if origin is tuple:
        return f"{'values' if options[-1] is Ellipsis else len(options)} of {_label(options[0])}"
    return "none" if kind is type(None) else getattr(kind, "__name__", str(kind))
