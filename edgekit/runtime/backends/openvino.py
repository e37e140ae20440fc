"""OpenVINO on Intel and ARM processors. Reduced precision is an execution hint here: what really ran is read back."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import BackendError, UnavailableError
from edgekit.core.signature import Signature
from edgekit.runtime.backends.base import Probe, SessionOptions, closed
from edgekit.runtime.padding import cut_back, pad_to_grid

NAME = "openvino"
FORMATS = ("openvino",)
HINTED_PRECISIONS = ("bf16", "fp16")
"""Precisions that it computes from the fp32 model, where the device can."""

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}


_one_core: Any | None = None
_making_it = threading.Lock()


def _core() -> Any:
    """The one core of this process, which is never given back.

    A core gives its thread a stack for signals (`sigaltstack`, OpenVINO 2026.4). Of two, the one that ends last leaves
    the thread the stack of the one that ended first, which is unmapped: the next signal, as Ctrl-C, kills the process.
    """
    global _one_core
    import openvino

    with _making_it:
        if _one_core is None:
            _one_core = openvino.Core()
    return _one_core


def probe(format: str | None = None) -> Probe:
    try:
        import openvino
    except ImportError as error:
        return Probe(
            NAME, usable=False, missing=f"the package openvino ({error})", remedy='pip install "edgekit[openvino]"'
        )
    devices = tuple(device.lower() for device in _core().available_devices)
    return Probe(NAME, usable=bool(devices), version=openvino.__version__.split("-")[0], devices=devices)


def precisions(device: str = "cpu") -> tuple[str, ...]:
    """The precisions that this device computes in, natively."""
    capabilities = _core().get_property(device.upper(), "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, capability in _CAPABILITIES.items() if capability in capabilities)


def open(files: Sequence[Path], signature: Signature, options: SessionOptions) -> OpenVinoSession:
    """Compile an IR for a device.

    Args:
        files: the .xml and its .bin.

    Raises:
        UnavailableError, BackendError: as `load`; also where it has other tensors than the signature.
    """
    compiled, device = load(files, options)
    for specs, ports in ((signature.inputs, compiled.inputs), (signature.outputs, compiled.outputs)):
        declared, found = {spec.name for spec in specs}, {name for port in ports for name in port.names}
        if not declared <= found:
            raise BackendError(f"expected {sorted(declared)} in {files[0].name}, as in the signature; received {found}")
    return OpenVinoSession(compiled, signature, device, options.precision)


def load(files: Sequence[Path], options: SessionOptions, *, node_times: bool = False) -> tuple[Any, str]:
    """The library's own compiled model, and the device that it is for.

    Args:
        files: an .xml and its .bin, or one .onnx.
        node_times: measure every node (`profiling_info` of a request).

    Raises:
        UnavailableError: no such device, or it does not compute in the precision asked for.
        BackendError: OpenVINO refuses the files.
    """
    core = _core()
    device = (options.device or "cpu").upper()
    if device not in core.available_devices:
        here = ", ".join(name.lower() for name in core.available_devices)
        if not options.allow_fallback or "CPU" not in core.available_devices:
            raise UnavailableError(f"expected an OpenVINO device {device.lower()!r}, this machine has {here}")
        device = "CPU"
    if options.precision not in _HINTS:
        raise UnavailableError(f"expected a precision among {', '.join(_HINTS)}, received {options.precision!r}")
    if len(files) != 2 and [file.suffix for file in files] != [".onnx"]:
        raise BackendError(f"expected a model of two files, .xml and .bin, received {[file.name for file in files]}")
    config = {
        # without this line a CPU with bf16 silently computes fp32 models in bf16
        "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
        "PERFORMANCE_HINT": "LATENCY",
    }
    if device == "CPU" and options.num_threads is not None:
        config["INFERENCE_NUM_THREADS"] = str(options.num_threads)
    if node_times:
        config["PERF_COUNT"] = "YES"
    try:
        compiled = core.compile_model(core.read_model(*files), device, config)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO cannot open {files[0]} on {device.lower()}: {error}") from error
    ran = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
    if ran != _HINTS[options.precision] or options.precision not in precisions(device):
        raise UnavailableError(
            f"expected {options.precision} on {device.lower()}, it computes in {', '.join(precisions(device))}",
            hint="--precision fp32",
        )
    return compiled, device.lower()


class OpenVinoSession:
    """See `Session`."""

    backend = NAME

    def __init__(self, compiled: Any, signature: Signature, device: str, precision: str) -> None:
        self._request: Any | None = compiled.create_infer_request()
        self._lock = threading.Lock()  # a request that runs refuses a second run
        self.signature = signature
        self.device = device
        self.precision = self.computed_in = precision
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            if self._request is None:
                raise closed()
            try:
                # it makes kernels for each new length and keeps them; on a grid memory stays flat, as
                # tests/conformance/test_memory.py holds it to, and few requests wait for kernels
                padded, sizes = pad_to_grid(self.signature, inputs)
                results = self._request.infer(padded, share_inputs=True)
            except RuntimeError as error:
                raise BackendError(f"OpenVINO cannot run the graph on {self.device}: {error}") from error
            return cut_back(self.signature, {name: results[name] for name in self._outputs}, sizes)

    def close(self) -> None:
        with self._lock:
            self._request = None
