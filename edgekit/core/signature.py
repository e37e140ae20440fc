"""What goes into a graph and what comes out: named tensors whose dynamic axes are declared once.

From a `Signature` come TensorRT's profiles, OpenVINO's bounded shapes, the run-time check of inputs, the
manifest's description and the conformance tests. Nothing here knows a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from edgekit.core.errors import SignatureError

Bucket = tuple[int, int, int]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DERIVED = re.compile(rf"\((?P<of>{_NAME.pattern}) - (?P<minus>-?\d+)\) // (?P<over>\d+) \+ (?P<plus>-?\d+)")
_DTYPES = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")


@dataclass(frozen=True)
class Dim:
    """A dynamic axis.

    Attributes:
        name: the axis' name in the graph ("batch", "time"), an ASCII identifier.
        buckets: ascending `(min, opt, max)` sizes; TensorRT gets one optimisation profile per bucket. They may
            overlap and may leave gaps; a size in a gap is refused.
        multiple_of: sizes must be a multiple of this.
    """

    name: str
    buckets: tuple[Bucket, ...]
    multiple_of: int = 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.multiple_of < 1:
            raise ValueError(f"a dynamic axis needs an ASCII identifier and multiple_of >= 1, got {self.name!r}")
        sizes = (self.multiple_of, *(size for bucket in self.buckets for size in bucket))
        if not all(isinstance(size, int) for size in sizes):
            raise ValueError(f"sizes of {self.name!r} are whole numbers, got {sizes}")
        for low, opt, high in self.buckets:
            if not 0 < low <= opt <= high:
                raise ValueError(f"a bucket of {self.name!r} needs 0 < min <= opt <= max, got {(low, opt, high)}")
        lows, _, highs = zip(*self.buckets) if self.buckets else ((), (), ())
        if not self.buckets or list(lows) != sorted(lows) or list(highs) != sorted(highs):
            raise ValueError(f"the buckets of {self.name!r} must be ascending and at least one")

    @property
    def min(self) -> int:
        return self.buckets[0][0]

    @property
    def max(self) -> int:
        return self.buckets[-1][2]

    def __str__(self) -> str:
        return self.name

    def check(self, size: int, where: str) -> None:
        """Raise `SignatureError` unless `size` is allowed on this axis."""
        if not any(low <= size <= high for low, _, high in self.buckets):
            gap = self.min <= size <= self.max
            allowed = " or ".join(f"{a}..{b}" for a, _, b in self.buckets) if gap else f"{self.min}..{self.max}"
            raise SignatureError(f"{where}: expected {self.name} in {allowed}, received {size}")
        if size % self.multiple_of:
            raise SignatureError(f"{where}: expected {self.name} as a multiple of {self.multiple_of}, received {size}")


@dataclass(frozen=True)
class Derived:
    """An output axis as an expression of an input axis: `(of - minus) // over + plus`, in whole numbers.

    A chain of strided convolutions without padding is always of this form.
    """

    of: str
    minus: int
    over: int
    plus: int

    def __post_init__(self) -> None:
        if self.over < 1:
            raise ValueError(f"a derived axis of {self.of!r} needs over >= 1, got {self.over}")

    def __str__(self) -> str:
        return f"({self.of} - {self.minus}) // {self.over} + {self.plus}"

    def of_size(self, size: Any) -> Any:
        """The size of this axis where the input axis has `size` (an int or an integer array)."""
        return (size - self.minus) // self.over + self.plus


Axis = Union[int, Dim, Derived]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: the tensor's name in the graph.
        dtype: NumPy's name of its element type ("float32", "int64").
        shape: per axis a fixed size, a `Dim`, or (outputs only) a `Derived` axis.
        lengths_of: set where this tensor `[batch]` holds, per item, how much of that axis is valid.
        weights: an input that holds what was learned and not what is asked: its first axis is 1, the same for all
            items, or the batch's size, each item its own.

    Raises:
        ValueError: no name, an unknown dtype, a size below 1, or weights whose first axis is not dynamic.
    """

    name: str
    dtype: str
    shape: tuple[Axis, ...]
    lengths_of: Dim | Derived | None = None
    weights: bool = False

    def __post_init__(self) -> None:
        # encode() raises a ValueError of its own for text that no graph can hold
        if not isinstance(self.name, str) or not self.name.encode():
            raise ValueError(f"a tensor needs a name, got {self.name!r}")
        if self.dtype not in _DTYPES:
            raise ValueError(f"{self.name}: a dtype is one of {', '.join(_DTYPES)}, got {self.dtype!r}")
        if any(isinstance(axis, int) and axis < 1 for axis in self.shape):
            raise ValueError(f"{self.name}: a fixed size is at least 1, got {list(self.shape)}")
        if self.weights and not (self.shape and isinstance(self.shape[0], Dim)):
            raise ValueError(f"{self.name}: weights count items on their first axis, got {list(self.shape)}")

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(axis) for axis in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """The named inputs and outputs of one graph.

    Attributes:
        state: what the graph remembers, as (input, output) names: an output is the next call's input, and zeros are
            the beginning. Empty: calls know nothing of one another.

    Raises:
        ValueError: a name is given twice, a dynamic axis is declared in two ways, an input axis is derived, an output
            or a length refers to an axis that no input has, or an input of the state is unlike its output.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for specs in (self.inputs, self.outputs):
            if len({spec.name for spec in specs}) != len(specs):
                raise ValueError(f"tensor names must differ, got {[spec.name for spec in specs]}")
        declared = self.dims
        for spec in (*self.inputs, *self.outputs):
            for axis in (*spec.shape, *(() if spec.lengths_of is None else (spec.lengths_of,))):
                if isinstance(axis, Dim) and declared.get(axis.name) != axis:
                    raise ValueError(f"{spec}: no input declares the axis {axis!r}")
                if isinstance(axis, Derived) and (axis.of not in declared or spec in self.inputs):
                    raise ValueError(f"{spec}: an output axis is derived from an input's, one of {sorted(declared)}")
        given, answered = ({spec.name: spec for spec in specs} for specs in (self.inputs, self.outputs))
        for before, after in self.state:
            if before not in given or after not in answered:
                raise ValueError(f"no input {before!r} and output {after!r} for the state that is declared")
            if (given[before].dtype, given[before].shape) != (answered[after].dtype, answered[after].shape):
                raise ValueError(f"a state must stay as it is, got {given[before]} and {answered[after]}")

    def without_state(self) -> Signature:
        """What is left for the caller where something else carries the state from call to call."""
        before, after = ({pair[index] for pair in self.state} for index in (0, 1))
        return Signature(
            tuple(spec for spec in self.inputs if spec.name not in before),
            tuple(spec for spec in self.outputs if spec.name not in after),
        )

    @property
    def dims(self) -> dict[str, Dim]:
        """The dynamic axes by name, in order of appearance."""
        return {axis.name: axis for spec in self.inputs for axis in spec.shape if isinstance(axis, Dim)}

    @property
    def batch(self) -> Dim | None:
        """The axis that counts items: the first axis of every input but weights, where all share it."""
        firsts = {spec.shape[0] if spec.shape else None for spec in self.inputs if not spec.weights}
        first = firsts.pop() if len(firsts) == 1 else None
        return first if isinstance(first, Dim) else None

    @property
    def weights(self) -> tuple[TensorSpec, ...]:
        """The inputs that hold what was learned."""
        return tuple(spec for spec in self.inputs if spec.weights)

    def profiles(self) -> list[dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]]:
        """Per bucket, per input name: its `(min, opt, max)` shapes.

        A dimension with fewer buckets than the longest repeats its last one.
        """
        count = max((len(dim.buckets) for dim in self.dims.values()), default=1)
        made = []
        for index in range(count):
            sizes = {name: dim.buckets[min(index, len(dim.buckets) - 1)] for name, dim in self.dims.items()}
            profile = {}
            for spec in self.inputs:
                low, opt, high = (
                    tuple(sizes[axis.name][k] if isinstance(axis, Dim) else _fixed(axis) for axis in spec.shape)
                    for k in range(3)
                )
                profile[spec.name] = (low, opt, high)
            made.append(profile)
        return made

    def check_inputs(self, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Hold arrays to the declared inputs; return the size of each dynamic axis.

        Raises:
            SignatureError: a name, dtype, rank, size or length does not fit; says what was expected first.
        """
        expected = [spec.name for spec in self.inputs]
        if sorted(inputs) != sorted(expected):
            raise SignatureError(f"expected inputs {expected}, received {sorted(inputs)}")
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            array = inputs[spec.name]
            if array.dtype != np.dtype(spec.dtype) or array.ndim != len(spec.shape):
                raise SignatureError(f"expected {spec}, received {array.dtype}{list(array.shape)}")
            for axis, size in zip(spec.shape, array.shape):
                if isinstance(axis, Dim):
                    axis.check(size, spec.name)
                    if sizes.setdefault(axis.name, size) != size:
                        both = f"{sizes[axis.name]} and {size}"
                        raise SignatureError(f"{spec.name}: expected one size of {axis.name}, received {both}")
                elif size != axis:
                    raise SignatureError(f"expected {spec}, received {array.dtype}{list(array.shape)}")
        for spec in self.weights:
            items, batch = inputs[spec.name].shape[0], None if self.batch is None else sizes[self.batch.name]
            if items not in (1, batch):
                raise SignatureError(f"{spec.name}: expected weights of 1 or {batch} items, received {items}")
        for spec in self.inputs:
            if isinstance(spec.lengths_of, Dim):
                low, high = spec.lengths_of.min, sizes[spec.lengths_of.name]
                lengths = inputs[spec.name]
                if lengths.size and not (low <= lengths.min() and lengths.max() <= high):
                    raise SignatureError(f"{spec.name}: expected lengths in {low}..{high}, received {lengths.tolist()}")
        return sizes

    def output_shape(self, spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of one output where the dynamic axes have `sizes`."""
        shape = []
        for axis in spec.shape:
            if isinstance(axis, Dim):
                shape.append(sizes[axis.name])
            elif isinstance(axis, Derived):
                shape.append(int(axis.of_size(sizes[axis.of])))
            else:
                shape.append(axis)
        return tuple(shape)

    def to_json(self) -> dict[str, Any]:
        return {
            "dims": {
                name: {"buckets": [list(b) for b in dim.buckets], "multiple_of": dim.multiple_of}
                for name, dim in self.dims.items()
            },
            "inputs": [_spec_to_json(spec) for spec in self.inputs],
            "outputs": [_spec_to_json(spec) for spec in self.outputs],
            **({"state": [list(pair) for pair in self.state]} if self.state else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        dims = {
            name: Dim(name, tuple((b[0], b[1], b[2]) for b in d["buckets"]), d["multiple_of"])
            for name, d in data["dims"].items()
        }
        return cls(
            inputs=tuple(_spec_from_json(spec, dims) for spec in data["inputs"]),
            outputs=tuple(_spec_from_json(spec, dims) for spec in data["outputs"]),
            state=tuple((before, after) for before, after in data.get("state", ())),
        )


def _fixed(axis: Axis) -> int:
    if not isinstance(axis, int):
        raise ValueError(f"an input axis is a fixed size or a Dim, not {axis}")
    return axis


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": [axis if isinstance(axis, int) else str(axis) for axis in spec.shape],
    }
    if spec.lengths_of is not None:
        data["lengths_of"] = str(spec.lengths_of)
    if spec.weights:
        data["weights"] = True
    return data


def _spec_from_json(data: Mapping[str, Any], dims: Mapping[str, Dim]) -> TensorSpec:
    lengths_of = data.get("lengths_of")
    axis = None if lengths_of is None else _axis(lengths_of, dims)
    if isinstance(axis, int):
        raise ValueError("lengths_of names an axis, not a size")
    shape = tuple(_axis(a, dims) for a in data["shape"])
    return TensorSpec(data["name"], data["dtype"], shape, axis, bool(data.get("weights", False)))


def _axis(text: int | str, dims: Mapping[str, Dim]) -> Axis:
    if isinstance(text, int):
        return text
    if text in dims:
        return dims[text]
    match = _DERIVED.fullmatch(text)
    if match is None or match["of"] not in dims:
        raise ValueError(f"unknown axis {text!r}; the dynamic axes are {sorted(dims)}")
    return Derived(match["of"], int(match["minus"]), int(match["over"]), int(match["plus"]))
