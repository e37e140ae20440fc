"""The part of the CUDA driver API that running an engine needs, by ctypes on libcuda.so.1.

No package is needed: the library comes with the driver, on a Jetson too. Names and argument types follow cuda.h of
CUDA 12.6 and 13.5; the newest function used, cuGraphInstantiateWithFlags, came with CUDA 11.4.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgekit.core.errors import BackendError, UnavailableError

_NO_DEVICE, _STUB_LIBRARY = 100, 34
_CC_MAJOR, _CC_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_PORTABLE, _NON_BLOCKING, _CAPTURE_THREAD_LOCAL = 1, 1, 1
_MEND = "install NVIDIA's driver, and check that nvidia-smi (on a Jetson: tegrastats) sees the GPU"

# CUdeviceptr is an unsigned 64-bit number; contexts, streams and graphs are pointers.
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (c_void_p,),
    "cuGetErrorString": (c_int, c_void_p),
    "cuDeviceGetCount": (c_void_p,),
    "cuDeviceGet": (c_void_p, c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (c_void_p, c_int, c_int),
    "cuDeviceTotalMem_v2": (c_void_p, c_int),
    "cuDevicePrimaryCtxRetain": (c_void_p, c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (c_void_p, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (c_void_p, c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (c_void_p, c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, c_void_p),
    "cuGraphInstantiateWithFlags": (c_void_p, c_void_p, c_uint64),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
}


@dataclass(frozen=True)
class Device:
    """One GPU; `compute_capability` as "8.7"."""

    index: int
    name: str
    compute_capability: str
    memory_mib: int


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    for name, types in _ARGUMENTS.items():
        if not hasattr(library, name):
            raise UnavailableError(f"expected {name} in libcuda.so.1, this driver is older than CUDA 11.4", hint=_MEND)
        getattr(library, name).argtypes = types
    return library


def _call(name: str, *arguments: Any) -> None:
    """Call one function of the driver; any status but success is a `BackendError` with the driver's own words."""
    library = _library()
    if library is None:
        raise UnavailableError("expected an NVIDIA driver, libcuda.so.1 is not on this machine", hint=_MEND)
    status = getattr(library, name)(*arguments)
    if status:
        text = c_char_p()
        library.cuGetErrorString(status, byref(text))
        raise BackendError(f"CUDA {name}: {(text.value or b'unknown error').decode()} (error {status})")


def driver_version() -> str | None:
    """The newest CUDA version that the driver supports ("12.6"); None without a driver."""
    library, version = _library(), c_int()
    if library is None or library.cuDriverGetVersion(byref(version)) == _STUB_LIBRARY:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def devices() -> tuple[Device, ...]:
    """The GPUs that CUDA sees, in its order; empty without a driver or a GPU.

    Raises:
        BackendError: a driver is there and fails, e.g. its kernel module has another version.
    """
    library = _library()
    if library is None or library.cuInit(0) in (_NO_DEVICE, _STUB_LIBRARY):
        return ()
    _call("cuInit", 0)
    count = c_int()
    _call("cuDeviceGetCount", byref(count))
    return tuple(_device(index) for index in range(count.value))


def _device(index: int) -> Device:
    device, total, text = c_int(), c_size_t(), ctypes.create_string_buffer(256)
    major, minor = c_int(), c_int()
    _call("cuDeviceGet", byref(device), index)
    _call("cuDeviceGetName", text, len(text), device)
    _call("cuDeviceGetAttribute", byref(major), _CC_MAJOR, device)
    _call("cuDeviceGetAttribute", byref(minor), _CC_MINOR, device)
    _call("cuDeviceTotalMem_v2", byref(total), device)
    return Device(index, text.value.decode(), f"{major.value}.{minor.value}", total.value >> 20)


class Context:
    """The primary context of one GPU, which the CUDA runtime (so TensorRT) uses too.

    Addresses, streams and graphs are plain integers, as TensorRT takes them. A context is current per thread:
    call `use()` first wherever another thread may have come in.
    """

    def __init__(self, index: int = 0) -> None:
        found = devices()
        if index >= len(found):
            raise UnavailableError(f"expected GPU {index}, CUDA sees {len(found)} on this machine", hint=_MEND)
        self._device, self._handle = c_int(), c_void_p()
        _call("cuDeviceGet", byref(self._device), index)
        _call("cuDevicePrimaryCtxRetain", byref(self._handle), self._device)
        self.use()

    def use(self) -> None:
        _call("cuCtxSetCurrent", self._handle)

    def close(self) -> None:
        """Release the context; what was allocated in it must have been freed."""
        _call("cuDevicePrimaryCtxRelease_v2", self._device)

    def alloc(self, num_bytes: int) -> int:
        """Device memory."""
        address = c_uint64()
        _call("cuMemAlloc_v2", byref(address), num_bytes)
        return address.value

    def free(self, address: int) -> None:
        _call("cuMemFree_v2", address)

    def alloc_pinned(self, num_bytes: int) -> int:
        """Page-locked host memory, which asynchronous copies and graphs need."""
        address = c_void_p()
        _call("cuMemHostAlloc", byref(address), num_bytes, _PORTABLE)
        assert address.value is not None
        return address.value

    def free_pinned(self, address: int) -> None:
        _call("cuMemFreeHost", address)

    def stream(self) -> int:
        stream = c_void_p()
        _call("cuStreamCreate", byref(stream), _NON_BLOCKING)
        assert stream.value is not None
        return stream.value

    def destroy_stream(self, stream: int) -> None:
        _call("cuStreamDestroy_v2", stream)

    def synchronize(self, stream: int) -> None:
        """Wait for everything that was put on the stream."""
        _call("cuStreamSynchronize", stream)

    def copy_in(self, device: int, host: int, num_bytes: int, stream: int) -> None:
        _call("cuMemcpyHtoDAsync_v2", device, host, num_bytes, stream)

    def copy_out(self, host: int, device: int, num_bytes: int, stream: int) -> None:
        _call("cuMemcpyDtoHAsync_v2", host, device, num_bytes, stream)

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """What `work` puts on the stream, as a graph to `launch`; it is not run now.

        Raises:
            BackendError: something in `work` cannot be captured; the stream is usable again.
        """
        graph, executable = c_void_p(), c_void_p()
        _call("cuStreamBeginCapture_v2", stream, _CAPTURE_THREAD_LOCAL)
        try:
            work()
        except BaseException:
            library = _library()
            assert library is not None
            # The capture is invalid by now and says so; it must be ended all the same.
            library.cuStreamEndCapture(stream, byref(graph))
            if graph:
                library.cuGraphDestroy(graph)
            raise
        _call("cuStreamEndCapture", stream, byref(graph))
        try:
            _call("cuGraphInstantiateWithFlags", byref(executable), graph, 0)
        finally:
            _call("cuGraphDestroy", graph)
        assert executable.value is not None
        return executable.value

    def launch(self, graph: int, stream: int) -> None:
        _call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        _call("cuGraphExecDestroy", graph)
