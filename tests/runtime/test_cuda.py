"""The CUDA driver API: what is told without a driver, and the real thing where there is one."""

from __future__ import annotations

import ast
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import BackendError
from edgekit.runtime import cuda

HAS_GPU = bool(cuda.devices())
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="no NVIDIA driver or GPU")
pytestmark = pytest.mark.device_side


@pytest.mark.skipif(cuda.driver_version() is not None, reason="an NVIDIA driver is installed")
def test_without_a_driver_nothing_is_found_and_nothing_raises() -> None:
    assert cuda.driver_version() is None
    assert cuda.devices() == ()


@pytest.mark.skipif(HAS_GPU, reason="a GPU is here")
def test_a_context_without_a_gpu_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(BackendError, match="expected GPU 0, CUDA sees 0 on this machine") as caught:
        cuda.Context()
    assert caught.value.hint is not None
    assert "driver" in caught.value.hint


def test_every_call_has_the_arguments_that_are_declared() -> None:
    """A wrong number, or an undeclared function, would cut 64-bit addresses to 32 bits."""
    source = Path(cuda.__file__).read_text(encoding="utf-8")
    called = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id == "_call" and isinstance(node.args[0], ast.Constant):
            name, count = node.args[0].value, len(node.args) - 1
        elif isinstance(node.func, ast.Attribute) and node.func.attr.startswith("cu"):
            name, count = node.func.attr, len(node.args)
        else:
            continue
        assert count == len(cuda._ARGUMENTS[name]), name
        called.add(name)
    assert called == set(cuda._ARGUMENTS)


@pytest.fixture
def context() -> Iterator[cuda.Context]:
    context = cuda.Context()
    yield context
    context.close()


@needs_gpu
def test_the_driver_and_its_devices_are_described() -> None:
    version = cuda.driver_version()
    assert version is not None
    assert re.fullmatch(r"\d+\.\d+", version)
    for index, device in enumerate(cuda.devices()):
        assert device.index == index
        assert device.name
        assert re.fullmatch(r"\d+\.\d", device.compute_capability)
        assert device.memory_mib > 500


@needs_gpu
def test_a_device_that_does_not_exist_is_told() -> None:
    with pytest.raises(BackendError, match="expected GPU 99"):
        cuda.Context(99)


@needs_gpu
def test_a_refused_call_is_an_error_in_the_drivers_words(context: cuda.Context) -> None:
    with pytest.raises(BackendError, match=r"CUDA cuMemAlloc_v2: out of memory \(error 2\)"):
        context.alloc(1 << 60)


def host_array(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_byte * (4 * size)).from_address(address)).view(np.float32)


@needs_gpu
def test_bytes_go_to_the_gpu_and_come_back(context: cuda.Context) -> None:
    size = 1000
    device, source, target, stream = (
        context.alloc(4 * size),
        context.alloc_pinned(4 * size),
        context.alloc_pinned(4 * size),
        context.stream(),
    )
    host_array(source, size)[:] = np.arange(size)
    host_array(target, size)[:] = -1
    context.copy_in(device, source, 4 * size, stream)
    context.copy_out(target, device, 4 * size, stream)
    context.synchronize(stream)
    assert np.array_equal(host_array(target, size), np.arange(size))
    context.free(device)
    context.free_pinned(source)
    context.free_pinned(target)
    context.destroy_stream(stream)


@needs_gpu
def test_a_captured_graph_runs_when_it_is_launched_and_not_before(context: cuda.Context) -> None:
    size = 64
    device, source, target, stream = (
        context.alloc(4 * size),
        context.alloc_pinned(4 * size),
        context.alloc_pinned(4 * size),
        context.stream(),
    )

    def round_trip() -> None:
        context.copy_in(device, source, 4 * size, stream)
        context.copy_out(target, device, 4 * size, stream)

    host_array(target, size)[:] = -1
    graph = context.capture(stream, round_trip)
    context.synchronize(stream)
    assert np.all(host_array(target, size) == -1)
    for value in (1, 2):
        host_array(source, size)[:] = value
        context.launch(graph, stream)
        context.synchronize(stream)
        assert np.all(host_array(target, size) == value)
    context.destroy_graph(graph)


@needs_gpu
def test_a_capture_that_fails_leaves_the_stream_usable(context: cuda.Context) -> None:
    stream = context.stream()

    def refuse() -> None:
        context.synchronize(stream)  # not permitted while capturing

    with pytest.raises(BackendError, match="cuStreamSynchronize"):
        context.capture(stream, refuse)
    context.synchronize(stream)
    context.destroy_stream(stream)
