"""Constants of an ONNX graph in fp16 or bf16: whether they fit, and their bytes, rounded to nearest, ties to even."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, TensorProto, numpy_helper

from edgekit.export.graph_types import LOW_TYPES

LARGEST = {"fp16": 65504.0, "bf16": 3.3895313892515355e38}
"""The largest finite value; bf16's is 2^127 * (2 - 2^-7), a little under fp32's."""


class Constants:
    """The float initialisers: whether one fits a low precision, and its bytes in it."""

    def __init__(self, graph: GraphProto, precision: str) -> None:
        inputs = {value.name for value in graph.input}
        self.tensors = {
            tensor.name: tensor
            for tensor in graph.initializer
            if tensor.data_type == TensorProto.FLOAT and tensor.name not in inputs
        }
        self.num_flushed = 0
        self._precision = precision
        self._fits: dict[str, bool] = {}

    def fits(self, name: str) -> bool:
        """Finite and in range; a single number (an epsilon, a scale) must not become zero either."""
        if name not in self._fits:
            values = np.abs(numpy_helper.to_array(self.tensors[name]))
            fits = bool(np.all(values <= LARGEST[self._precision]))
            if values.size == 1 and values.item() != 0.0:
                fits = fits and bool(_as_float(_rounded(values, self._precision)).item() != 0.0)
            self._fits[name] = fits
        return self._fits[name]

    def cast(self, name: str, new_name: str) -> TensorProto:
        values = numpy_helper.to_array(self.tensors[name])
        bits = _rounded(values, self._precision)
        self.num_flushed += int(np.count_nonzero(values) - np.count_nonzero(_as_float(bits)))
        return TensorProto(
            name=new_name, data_type=LOW_TYPES[self._precision], dims=values.shape, raw_data=bits.tobytes()
        )


def _rounded(values: np.ndarray, precision: str) -> np.ndarray:
    """Nearest, ties to even. bf16 as its 16 bits (uint16): NumPy has no such type."""
    if precision == "fp16":
        return values.astype("<f2")
    bits: np.ndarray = np.ascontiguousarray(values, "<f4").view("<u4")
    rounded: np.ndarray = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded


def _as_float(rounded: np.ndarray) -> np.ndarray:
    """fp16 stays as it is; bf16's 16 bits become the upper half of fp32's."""
    if rounded.dtype.kind == "f":
        return rounded
    wide: np.ndarray = (rounded.astype(np.uint32) << 16).view(np.float32)
    return wide
