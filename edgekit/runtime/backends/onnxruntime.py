"""ONNX Runtime on the CPU or CUDA; never a silent fall-back to the CPU.

Its TensorRT provider is not offered: it would build an engine inside the first request of every shape. The backend
`tensorrt` runs engines that were built before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import BackendError, UnavailableError
from edgekit.core.signature import Signature
from edgekit.runtime.backends.base import Probe, SessionOptions, closed

NAME = "onnxruntime"
FORMATS = ("onnx",)
HINTED_PRECISIONS: tuple[str, ...] = ()

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")


def probe(format: str | None = None) -> Probe:
    """Which providers this installation was built with; a GPU's presence shows only when a session opens."""
    installed = [name for name in _PACKAGES if _version(name)]
    if len(installed) == 2:
        return Probe(
            NAME,
            usable=False,
            missing="onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
            remedy="pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        )
    try:
        import onnxruntime
    except ImportError as error:
        return Probe(
            NAME, usable=False, missing=f"the package onnxruntime ({error})", remedy='pip install "edgekit[onnx]"'
        )
    available = set(onnxruntime.get_available_providers())
    devices = tuple(device for device, provider in _PROVIDERS.items() if provider in available)
    return Probe(NAME, usable=True, version=onnxruntime.__version__, devices=devices)


def open(files: Sequence[Path], signature: Signature, options: SessionOptions) -> OnnxRuntimeSession:
    """Load an ONNX file; raises as `load`."""
    session, device = load(files[0], options)
    return OnnxRuntimeSession(session, signature, device, options.precision)


def load(path: Path, options: SessionOptions, *, node_times: Path | None = None) -> tuple[Any, str]:
    """The library's own session for an ONNX file, and the device where it really runs.

    Args:
        node_times: the beginning of a file's name, to which the time of every node is written (`end_profiling`).

    Raises:
        UnavailableError: the device is absent, or has no kernel for a type of the graph (no CPU has, for bf16).
        BackendError: ONNX Runtime refuses the file.
    """
    import onnxruntime

    device = options.device or "cpu"
    if device not in _PROVIDERS:
        raise UnavailableError(f"expected a device of ONNX Runtime among {', '.join(_PROVIDERS)}, received {device!r}")
    if options.precision == "bf16" and device == "cpu":
        raise UnavailableError(
            "ONNX Runtime's CPU kernels do not run bf16 graphs", hint="--backend openvino --precision bf16"
        )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    # a plan per shape is remembered for ever: memory grows with audio of many lengths (onnxruntime #22297)
    settings.enable_mem_pattern = False
    if options.num_threads is not None:
        settings.intra_op_num_threads = options.num_threads
    if node_times is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(node_times)
    if device not in probe().devices:
        if not options.allow_fallback:
            raise UnavailableError(
                f"expected ONNX Runtime to run on {device}, this installation has {', '.join(probe().devices)}",
                hint='pip uninstall -y onnxruntime && pip install "edgekit[onnx-gpu]", or --allow-fallback for the CPU',
            )
        device = "cpu"
    if device != "cpu" and hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        onnxruntime.preload_dlls()
    try:
        # On CUDA, ONNX Runtime computes shapes on the CPU by design: session.disable_cpu_ep_fallback would refuse that.
        session = onnxruntime.InferenceSession(str(path), settings, providers=[_PROVIDERS[device]])
    except errors() as error:
        raise refused(f"ONNX Runtime cannot open {path} on {device}", error) from error
    used = session.get_providers()[0]
    if used != _PROVIDERS[device] and not options.allow_fallback:
        raise UnavailableError(
            f"expected ONNX Runtime to run on {device}, it would run on {used}",
            hint="edgekit doctor says what is missing; --allow-fallback runs on the CPU",
        )
    device = "cpu" if used == _PROVIDERS["cpu"] else f"{device}:{session.get_provider_options()[used]['device_id']}"
    return session, device


class OnnxRuntimeSession:
    """See `Session`."""

    backend = NAME

    def __init__(self, session: Any, signature: Signature, device: str, precision: str) -> None:
        self._session: Any | None = session
        self.signature = signature
        self.device = device
        self.precision = precision
        # It has few fp16 kernels for the CPU (a few more on ARM) and casts to fp32 and back around all else.
        self.computed_in = "fp32" if device == "cpu" else precision
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        session = self._session  # which another thread may close meanwhile
        if session is None:
            raise closed()
        try:
            answers = session.run(self._outputs, dict(inputs))
        except errors() as error:
            raise refused(f"ONNX Runtime cannot run the graph on {self.device}", error) from error
        return dict(zip(self._outputs, answers, strict=True))

    def close(self) -> None:
        self._session = None


def errors() -> tuple[type[Exception], ...]:
    """What opening or running a session may raise: ONNX Runtime's own exceptions share no base but `Exception`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (getattr(state, name) for name in dir(state))
    own = (kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception))
    return (RuntimeError, ValueError, *own)


def refused(message: str, error: Exception) -> BackendError:
    """The error for what ONNX Runtime raised: a kernel that it lacks is no fault of the graph."""
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    if isinstance(error, NoKernel):
        return UnavailableError(f"{message}: {error}", hint="another --backend or --precision")
    return BackendError(f"{message}: {error}", hint="edgekit doctor")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
