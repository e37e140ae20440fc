"""What a model is fed: sizes for its dynamic axes, and values of the right type, seeded or from a file."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgekit.core.errors import UsageError
from edgekit.core.signature import Dim, Signature
from edgekit.runtime.profile.given import InputSpec, Shape, read_data, read_shapes, read_sizes, read_values
from edgekit.runtime.profile.point import Point

_BATCH = re.compile(r"batch.*", re.IGNORECASE)
_BATCH_IF_FIRST = re.compile(r"n|b|bs", re.IGNORECASE)
_MASK = re.compile(r"mask", re.IGNORECASE)
_LENGTH = re.compile(r"length|(?:^|[^a-z])lens?(?:$|[^a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Fed:
    """What goes into each call.

    Attributes:
        arrays: by name.
        described: of each, `name`, `dtype`, `shape`, and `values` in words.
        items: that one call answers.
        sizes: of the named axes.
    """

    arrays: dict[str, np.ndarray]
    described: list[dict[str, Any]]
    items: int
    sizes: dict[str, int]


def specs_of(signature: Signature) -> list[InputSpec]:
    """The inputs of a bundle's graph."""
    states = {before for before, _ in signature.state}
    specs = []
    for spec in signature.inputs:
        role: Literal["data", "lengths", "weights", "state"] = "data"
        if spec.lengths_of is not None:
            role = "lengths"
        elif spec.weights or spec.name in states:
            role = "weights" if spec.weights else "state"
        shape = tuple(axis if isinstance(axis, int) else str(axis) for axis in spec.shape)
        specs.append(InputSpec(spec.name, spec.dtype, shape, role, None if role != "lengths" else str(spec.lengths_of)))
    return specs


def feed_bundle(signature: Signature, point: Point, steps: int | None) -> Fed:
    """What a bundle's graph is fed: the sizes that it holds for best, where the point names no others.

    Args:
        steps: of the time axis; None: what the signature holds for best.

    Raises:
        UsageError: a name that the graph does not have, a size that does not fit, or no axis for `batch` or `steps`.
        SignatureError: a size that the signature does not allow.
    """
    sizes = {name: dim.buckets[0][1] for name, dim in signature.dims.items()}
    if point.batch is not None:
        if signature.batch is None:
            raise UsageError("expected no --batch, this graph has no axis of items")
        sizes[signature.batch.name] = point.batch
    if steps is not None:
        sizes[time_axis(signature).name] = steps
    fed = _feed(specs_of(signature), sizes, point, signature.dims)
    if signature.batch is not None:
        _hold_to("--batch", point.batch, signature.batch.name, fed)
    if steps is not None:
        _hold_to("--length", steps, time_axis(signature).name, fed)
    items = 1 if signature.batch is None else fed.sizes[signature.batch.name]
    return Fed(fed.arrays, fed.described, items, fed.sizes)


def time_axis(signature: Signature) -> Dim:
    """The axis that `--length` sets: the one that is counted, or the only one besides the batch's.

    Raises:
        UsageError: there is no such one.
    """
    counted = [spec.lengths_of for spec in signature.inputs if isinstance(spec.lengths_of, Dim)]
    firsts = {spec.shape[0] for spec in signature.weights}
    others = [dim for dim in signature.dims.values() if dim != signature.batch and dim not in firsts]
    found = counted or others
    if len(found) != 1:
        named = ", ".join(dim.name for dim in others) or "none"
        raise UsageError(f"expected one axis for --length, this graph has {named}", hint="--dim NAME=SIZE")
    return found[0]


def feed_foreign(specs: Sequence[InputSpec], point: Point) -> Fed:
    """What another's model is fed. Axes called batch, or n where they stand first, are 1 where nothing else is said; no
    other size is guessed.

    Raises:
        UsageError: a size or a value is missing, or does not fit; says which flags give it.
    """
    named = {axis for spec in specs for axis in spec.shape if isinstance(axis, str)}
    firsts = {spec.shape[0] for spec in specs if spec.shape}
    batches = {axis for axis in named if _BATCH.fullmatch(axis) or (axis in firsts and _BATCH_IF_FIRST.fullmatch(axis))}
    sizes = dict.fromkeys(batches, 1 if point.batch is None else point.batch)
    if point.batch is not None and not batches:
        specs = [_with_batch(spec, point.batch) for spec in specs]
    if point.length is not None:
        # one besides the batch's
        others = sorted(named - batches)
        if len(others) != 1 or not point.length.isdecimal() or int(point.length) < 1:
            told = f"{', '.join(others) or 'no named axis'} besides the batch's"
            raise UsageError(
                f"expected --length as a number of steps of the one axis besides the batch's, received "
                f"{point.length!r}; this model has {told}",
                hint="--dim NAME=SIZE, or --input NAME=1x80x300",
            )
        sizes[others[0]] = int(point.length)
    fed = _feed(specs, sizes, point)
    for axis in sorted(batches):
        _hold_to("--batch", point.batch, axis, fed)
    if point.length is not None:
        _hold_to("--length", int(point.length), others[0], fed)
    counted = [fed.sizes[axis] for axis in sorted(batches)]
    return Fed(fed.arrays, fed.described, counted[0] if counted else point.batch or 1, fed.sizes)


def _hold_to(option: str, asked: int | None, axis: str, fed: Fed) -> None:
    """What is told of a size twice must be the same: results are told apart by one of both."""
    if asked is not None and fed.sizes[axis] != asked:
        raise UsageError(
            f"expected one size of {axis}, received {asked} by {option}, {fed.sizes[axis]} by --dim, --input or --data"
        )


def _with_batch(spec: InputSpec, batch: int) -> InputSpec:
    """With the first axis, dynamic or not, as the batch."""
    if not spec.shape or spec.shape[0] == batch:
        return spec
    if isinstance(spec.shape[0], int):
        raise UsageError(f"expected --batch {spec.shape[0]}, the only one of {spec}; received {batch}")
    return InputSpec(spec.name, spec.dtype, (batch, *spec.shape[1:]))


def _feed(
    specs: Sequence[InputSpec], defaults: Mapping[str, int], point: Point, dims: Mapping[str, Dim] | None = None
) -> Fed:
    """`dims` are what a signature declares; None: there is none, and nobody says which input counts something."""
    given, values = read_shapes(point.shapes, specs), read_values(point.values, specs)
    data = {} if point.data is None else read_data(Path(point.data), specs)
    given |= {name: array.shape for name, array in data.items()}
    sizes = dict(defaults)
    for spec in specs:
        # an input that is given whole also tells the size of the axes that it shares with others
        for axis, size in zip(spec.shape, given.get(spec.name, ())):
            if isinstance(axis, str):
                sizes[axis] = size
    sizes |= read_sizes(point.dims, specs)
    shapes = {spec.name: _shape(spec, given.get(spec.name), sizes) for spec in specs}
    _check_complete(specs, shapes)
    for spec in specs:
        # before the arrays are made: a size that is far too large would take all memory
        for axis in spec.shape:
            if dims is not None and isinstance(axis, str):
                dims[axis].check(sizes[axis], spec.name)
    for spec in specs:
        whole = [size for size in shapes[spec.name] if size is not None]
        if 0 in whole:
            raise UsageError(f"expected sizes of 1 or more for {spec}, received {'x'.join(map(str, whole))}")
        if math.prod(whole) * np.dtype(spec.dtype).itemsize > sys.maxsize:
            raise MemoryError  # NumPy would say that it is no shape
    random = np.random.default_rng(point.seed)
    arrays, described = {}, []
    for spec in specs:
        shape = tuple(size for size in shapes[spec.name] if size is not None)
        if spec.name in data:
            array, words = data[spec.name], f"from {Path(point.data or '').name}"
        elif spec.name in values:
            array, words = np.full(shape, values[spec.name], spec.dtype), f"{values[spec.name]:g} everywhere"
        else:
            array, words = _made(spec, shape, sizes, random, point.seed, dims is None)
        arrays[spec.name] = array
        described.append({"name": spec.name, "dtype": spec.dtype, "shape": list(shape), "values": words})
    return Fed(arrays, described, 1, sizes)


def _made(
    spec: InputSpec, shape: Shape, sizes: Mapping[str, int], random: np.random.Generator, seed: int, foreign: bool
) -> tuple[np.ndarray, str]:
    """Values that are safe for any model, and how they were made."""
    dtype = np.dtype(spec.dtype)
    if spec.role == "lengths":
        return np.full(shape, sizes[spec.counts or ""], dtype), f"the size of {spec.counts}"
    if spec.role in ("weights", "state"):
        return np.zeros(shape, dtype), "zeros"
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype), f"normal, seed {seed}"
    if _MASK.search(spec.name):
        return np.ones(shape, dtype), "1 everywhere (nothing is masked)"
    if foreign and _LENGTH.search(spec.name):
        raise UsageError(
            f"expected a value for {spec}, which seems to count something; received none",
            hint=f"--value {spec.name}=300, or --data FILE.npz",
        )
    if dtype.itemsize == 1 and dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        return random.integers(low, high, shape, dtype, endpoint=True), f"{low} to {high}, seed {seed}"
    # no table of embeddings is smaller than two
    return random.integers(0, 2, shape).astype(dtype), f"0 or 1, seed {seed}"


def _shape(spec: InputSpec, given: Shape | None, sizes: Mapping[str, int]) -> tuple[int | None, ...]:
    """Sizes of all axes; None of those that nobody has told."""
    if given is None:
        return tuple(axis if isinstance(axis, int) else sizes.get(axis or "") for axis in spec.shape)
    # ONNX Runtime tells no axes of a scalar, nor of an input that may have any
    fits = not spec.shape or len(given) == len(spec.shape)
    fits = fits and all(
        size == axis or (isinstance(axis, str) and size == sizes[axis]) or axis is None
        for axis, size in zip(spec.shape, given)
    )
    if not fits:
        named = {axis: sizes[axis] for axis in spec.shape if isinstance(axis, str) and axis in sizes}
        told = f" with {named}" if named else ""
        raise UsageError(f"expected {spec}{told}, received {'x'.join(map(str, given)) or 'a scalar'}")
    return given


def _check_complete(specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int | None, ...]]) -> None:
    unknown_specs = [spec for spec in specs if None in shapes[spec.name]]
    if not unknown_specs:
        return
    axes = [
        axis for spec in unknown_specs for axis, size in zip(spec.shape, shapes[spec.name]) if size is None and axis
    ]
    flags = [f"--dim {axis}=SIZE" for axis in dict.fromkeys(axes)]
    nameless = [spec for spec in unknown_specs if None in spec.shape]
    flags += [
        f"--input {spec.name}={'x'.join('SIZE' if axis is None else str(axis) for axis in spec.shape)}"
        for spec in nameless
    ]
    wanted = "; ".join(map(str, unknown_specs))
    raise UsageError(f"expected a size for every dynamic axis of {wanted}; received none", hint=" ".join(flags))
