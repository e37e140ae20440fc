"""Running one optimisation profile of an engine: its execution context, its buffers and its CUDA graph."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.core.errors import BackendError
from edgekit.core.signature import Signature
from edgekit.runtime import cuda
from edgekit.runtime.tensorrt.library import listening, logged_errors
from edgekit.runtime.tensorrt.profiles import Shape

_CAPTURE_AT = 3  # runs with the same shapes before a CUDA graph is made of them


class ExecutionContext:
    """One optimisation profile: its execution context, its buffers, and a CUDA graph while the shapes repeat.

    A graph holds the shapes and addresses that it was captured with, and changing the context's shapes makes it
    invalid, so there is one at most. TensorRT-RTX, which swaps kernels while it runs, makes its own.
    """

    def __init__(
        self, module: Any, engine: Any, index: int, context: cuda.Context, stream: int, signature: Signature
    ) -> None:
        self._module, self._cuda, self._stream = module, context, stream
        self._dtypes = {spec.name: spec.dtype for spec in (*signature.inputs, *signature.outputs)}
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self._buffers = {name: _Buffer() for name in self._dtypes}
        self._shapes: dict[str, Shape] = {}
        self._num_runs = 0
        self._graph: int | None = None
        self.uncapturable: str | None = None
        self._own_graphs = not hasattr(module, "CudaGraphStrategy")
        if self._own_graphs:
            # By default every context would have the memory of the largest profile.
            self._config = module.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        else:
            self._config = engine.create_runtime_config()
            self._config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        with listening(module) as messages:
            self._context = engine.create_execution_context(self._config)
            if self._context is None or not self._context.set_optimization_profile_async(index, stream):
                raise BackendError(
                    f"TensorRT cannot make an execution context for profile {index}: {logged_errors(messages)}",
                    hint="free some GPU memory, or build the engine with smaller buckets",
                )
        context.synchronize(stream)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        shapes = {name: inputs[name].shape for name in self._inputs}
        if shapes != self._shapes:
            self._bind(shapes)
        for name in self._inputs:
            np.copyto(self._buffers[name].array, inputs[name])
        self._num_runs += 1
        if self._own_graphs and self._num_runs == _CAPTURE_AT and self.uncapturable is None:
            try:
                self._graph = self._cuda.capture(self._stream, self._enqueue)
            except BackendError as error:
                self.uncapturable = error.message
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.synchronize(self._stream)
        return {name: self._buffers[name].array.copy() for name in self._outputs}

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def close(self) -> None:
        self._drop_graph()
        self._context = None
        for buffer in self._buffers.values():
            self._release(buffer)

    def _enqueue(self) -> None:
        for name in self._inputs:
            buffer = self._buffers[name]
            self._cuda.copy_in(buffer.device, buffer.pinned, buffer.array.nbytes, self._stream)
        with listening(self._module) as messages:
            if not self._context.execute_async_v3(self._stream):
                raise BackendError(f"TensorRT cannot run the engine: {logged_errors(messages)}")
        for name in self._outputs:
            buffer = self._buffers[name]
            self._cuda.copy_out(buffer.pinned, buffer.device, buffer.array.nbytes, self._stream)

    def _bind(self, shapes: dict[str, Shape]) -> None:
        """Tell the context new shapes and give every tensor memory that holds them."""
        self._drop_graph()
        self._shapes, self._num_runs = {}, 0
        with listening(self._module) as messages:
            try:
                accepted = all(self._context.set_input_shape(name, shape) for name, shape in shapes.items())
                accepted = accepted and not self._context.infer_shapes()
            except RuntimeError as error:
                raise BackendError(f"TensorRT refuses the shapes {shapes}: {error}") from error
        if not accepted:
            raise BackendError(f"TensorRT refuses the shapes {shapes}: {logged_errors(messages)}")
        for name, dtype in self._dtypes.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if min(shape, default=1) < 0:
                raise BackendError(f"expected output sizes that follow from the inputs', {name} has {list(shape)}")
            self._reserve(self._buffers[name], np.dtype(dtype), shape)
            if not self._context.set_tensor_address(name, self._buffers[name].device):
                raise BackendError(f"TensorRT refuses the memory of {name}")
        self._shapes = shapes

    def _reserve(self, buffer: _Buffer, dtype: np.dtype[Any], shape: Shape) -> None:
        size = math.prod(shape)
        needed = capacity(buffer.num_bytes, max(size * dtype.itemsize, 1))
        if needed != buffer.num_bytes:
            self._release(buffer)
            buffer.device = self._cuda.alloc(needed)
            buffer.pinned = self._cuda.alloc_pinned(needed)
            buffer.num_bytes = needed
        memory = (ctypes.c_byte * buffer.num_bytes).from_address(buffer.pinned)
        buffer.array = np.ctypeslib.as_array(memory)[: size * dtype.itemsize].view(dtype).reshape(shape)

    def _release(self, buffer: _Buffer) -> None:
        device, pinned = buffer.device, buffer.pinned
        buffer.device = buffer.pinned = buffer.num_bytes = 0
        buffer.array = np.empty(0)
        if device:
            self._cuda.free(device)
        if pinned:
            self._cuda.free_pinned(pinned)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
            self._graph = None


@dataclass
class _Buffer:
    """One tensor's memory: on the GPU, and page-locked on the host with an array over it."""

    device: int = 0
    pinned: int = 0
    num_bytes: int = 0
    array: np.ndarray = field(default_factory=lambda: np.empty(0))


def capacity(current: int, needed: int) -> int:
    """The size in bytes of a buffer that has `current` and must hold `needed`: the next power of two, at least 256."""
    return current if needed <= current else max(256, 1 << (needed - 1).bit_length())
