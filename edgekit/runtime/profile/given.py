"""A model's inputs, and what a person says of them: sizes of axes, shapes, values, or a file with real ones."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgekit.core.errors import UsageError, unknown

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        dtype: NumPy's name.
        shape: fixed sizes, names of dynamic axes, and None for a dynamic axis without a name.
        role: "lengths" counts the axis `counts`; "weights" and "state" are zeros where nobody has said otherwise.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    role: Literal["data", "lengths", "weights", "state"] = "data"
    counts: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join('?' if axis is None else str(axis) for axis in self.shape)}]"


def read_sizes(texts: Sequence[str], specs: Sequence[InputSpec]) -> dict[str, int]:
    """Of "NAME=SIZE", the sizes of dynamic axes by name.

    Raises:
        UsageError: another form, an axis that no input has, or a size below 1.
    """
    named = dict.fromkeys(axis for spec in specs for axis in spec.shape if isinstance(axis, str))
    return {
        name: _size(value, f"--dim {name}")
        for name, value in _pairs(texts, "--dim", list(named), "dynamic axis").items()
    }


def read_shapes(texts: Sequence[str], specs: Sequence[InputSpec]) -> dict[str, Shape]:
    """Of "NAME=1x80x300" or "NAME=scalar", the shapes of inputs by name; raises as `read_sizes`."""
    pairs = _pairs(texts, "--input", [spec.name for spec in specs], "name of an input")
    return {
        name: tuple(_size(size, f"--input {name}") for size in value.split("x")) if value != "scalar" else ()
        for name, value in pairs.items()
    }


def read_values(texts: Sequence[str], specs: Sequence[InputSpec]) -> dict[str, float]:
    """Of "NAME=V", what fills inputs, by name.

    Raises:
        UsageError: another form, an unknown input, or a value that its type does not have.
    """
    values: dict[str, float] = {}
    dtypes = {spec.name: np.dtype(spec.dtype) for spec in specs}
    for name, text in _pairs(texts, "--value", [spec.name for spec in specs], "name of an input").items():
        try:
            value = float(text)
            fits = dtypes[name].kind == "f" or float(np.array(int(value)).astype(dtypes[name])) == value
        except (ValueError, OverflowError):
            fits = False
        if not fits:
            raise UsageError(f"expected a value of {dtypes[name]} for --value {name}, received {text!r}")
        values[name] = value
    return values


def read_data(path: Path, specs: Sequence[InputSpec]) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name; their types are held to the model's, their shapes are not.

    Raises:
        UsageError: no such file, an unknown input, or another type.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"expected an .npz with arrays by the names of inputs at {path}, received: {error}") from error
    by_name = {spec.name: spec for spec in specs}
    for name, array in arrays.items():
        if name not in by_name:
            raise unknown("name of an input", name, by_name)
        if array.dtype != np.dtype(by_name[name].dtype):
            raise UsageError(f"expected {by_name[name]} in {path}, received {array.dtype}{list(array.shape)}")
    return arrays


def _pairs(texts: Sequence[str], option: str, names: Sequence[str], kind: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        # a tensor's name may hold "=", a value may not
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise UsageError(f"expected {option} NAME=..., received {text!r}")
        if name not in names:
            raise unknown(kind, name, names) if names else UsageError(f"expected no {option}, there is no {kind}")
        pairs[name] = value
    return pairs


def _size(text: str, option: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"expected sizes of 1 or more for {option}, as 1x80x300; received {text!r}")
    return int(text)
