"""Pad a request to one of few lengths and cut its answer back, for backends that prepare anew for each length.

Lengths are an input of every graph that has them and padding changes no answer, so this is free of error; it costs
computing up to one step of the grid more.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.core.signature import Dim, Signature

NUM_LENGTHS = 60
"""Lengths on the grid of an axis: half a second of sound apart where a graph takes up to 30 s."""


def pad_to_grid(signature: Signature, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The inputs with each counted axis padded by zeros, and the sizes of all dynamic axes before."""
    counted = {spec.lengths_of.name for spec in signature.inputs if isinstance(spec.lengths_of, Dim)}
    sizes: dict[str, int] = {}
    padded = {}
    for spec in signature.inputs:
        array = inputs[spec.name]
        widths = [(0, 0)] * array.ndim
        for index, (axis, size) in enumerate(zip(spec.shape, array.shape)):
            if isinstance(axis, Dim):
                sizes[axis.name] = size
                if axis.name in counted:
                    widths[index] = (0, grid_size(axis, size) - size)
        padded[spec.name] = np.pad(array, widths) if any(after for _, after in widths) else array
    return padded, sizes


def cut_back(
    signature: Signature, outputs: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """The outputs as they would be for axes of `sizes`."""
    return {
        spec.name: outputs[spec.name][tuple(slice(n) for n in signature.output_shape(spec, sizes))]
        for spec in signature.outputs
    }


def grid_size(dim: Dim, size: int) -> int:
    """The next size on the grid of `dim`, within the bucket that holds `size`."""
    step = -(-dim.max // (NUM_LENGTHS * dim.multiple_of)) * dim.multiple_of
    highest = next(high for low, _, high in dim.buckets if low <= size <= high)
    return min(-(-size // step) * step, highest // dim.multiple_of * dim.multiple_of)
