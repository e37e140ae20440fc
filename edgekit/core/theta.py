"""Theta, the weights that are one user's: one vector of float32, and which values in it are which parameter's.

Zeros are the core alone. Parameters lie one after the other, sorted by name, each in C order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.core.errors import SignatureError

INPUT = "theta"
"""The graph's input `[S, P]`: S is 1, the same for all items, or the batch's size."""


@dataclass(frozen=True)
class ThetaLayout:
    """Which values of theta are which parameter's.

    Attributes:
        shapes: each parameter's name and shape, sorted by name.

    Raises:
        ValueError: names that are not sorted or not different, or a shape without values.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.shapes]
        if not names or names != sorted(set(names)):
            raise ValueError(f"expected different parameters, sorted by name, received {names[:5]}")
        for name, shape in self.shapes:
            if not all(isinstance(size, int) and size > 0 for size in shape):
                raise ValueError(f"expected sizes from 1 on, {name} has {shape}")

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, tuple[int, ...]]]) -> ThetaLayout:
        """Of parameters in any order."""
        return cls(tuple(sorted((name, tuple(shape)) for name, shape in parameters)))

    @property
    def size(self) -> int:
        """P, the number of values."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    @property
    def offsets(self) -> dict[str, int]:
        """Where each parameter begins."""
        found, offset = {}, 0
        for name, shape in self.shapes:
            found[name] = offset
            offset += math.prod(shape)
        return found

    @property
    def hash(self) -> str:
        """SHA-256 of the JSON list of (name, shape, offset): equal layouts have equal hashes."""
        listed = [[name, list(shape), self.offsets[name]] for name, shape in self.shapes]
        return hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()

    def pack(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Parameters by name as one vector, float32 `[P]`.

        Raises:
            SignatureError: a parameter is missing, unknown, or of another shape.
        """
        expected = dict(self.shapes)
        received = {name: tuple(value.shape) for name, value in values.items()}
        if expected != received:
            wrong = next(name for name in sorted(expected | received) if expected.get(name) != received.get(name))
            raise SignatureError(f"expected {wrong} of {expected.get(wrong)}, received {received.get(wrong)}")
        return np.concatenate([np.asarray(values[name], np.float32).ravel() for name, _ in self.shapes])

    def unpack(self, theta_P: np.ndarray) -> dict[str, np.ndarray]:
        """Each parameter's values, as views.

        Raises:
            SignatureError: it is not `[P]`.
        """
        if theta_P.shape != (self.size,):
            raise SignatureError(f"expected {self.size} values of theta, received {list(theta_P.shape)}")
        offsets = self.offsets
        return {
            name: theta_P[offsets[name] : offsets[name] + math.prod(shape)].reshape(shape)
            for name, shape in self.shapes
        }

    def to_json(self) -> list[Any]:
        return [[name, list(shape)] for name, shape in self.shapes]

    @classmethod
    def from_json(cls, data: Iterable[Any]) -> ThetaLayout:
        return cls(tuple((str(name), tuple(shape)) for name, shape in data))
