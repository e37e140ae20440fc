"""ONNX Runtime on the CPU, CUDA or its TensorRT provider; never a silent fall-back to the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import BackendError
from edgekit.core.signature import Signature
from edgekit.runtime.backends.base import Probe, SessionOptions

NAME = "onnxruntime"
FORMATS = ("onnx",)
HINTED_PRECISIONS: tuple[str, ...] = ()

_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")


def probe() -> Probe:
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
    devices = tuple(device for device, providers in _PROVIDERS.items() if providers[0] in available)
    return Probe(NAME, usable=True, version=onnxruntime.__version__, devices=devices)


def open(files: Sequence[Path], signature: Signature, options: SessionOptions) -> OnnxRuntimeSession:
    """Load an ONNX file.

    Raises:
        BackendError: the device is absent, or the CPU was asked for bf16, for which it has no kernels.
    """
    import onnxruntime

    device = options.device or "cpu"
    if device not in _PROVIDERS:
        raise BackendError(f"expected a device of ONNX Runtime among {', '.join(_PROVIDERS)}, received {device!r}")
    if options.precision == "bf16" and device == "cpu":
        raise BackendError(
            "ONNX Runtime's CPU kernels do not run bf16 graphs", hint="--backend openvino --precision bf16"
        )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    # a plan per shape is remembered for ever: memory grows with audio of many lengths (onnxruntime #22297)
    settings.enable_mem_pattern = False
    if options.num_threads is not None:
        settings.intra_op_num_threads = options.num_threads
    providers = list(_PROVIDERS[device])
    if device not in probe().devices:
        if not options.allow_fallback:
            raise BackendError(
                f"expected ONNX Runtime to run on {device}, this installation has {', '.join(probe().devices)}",
                hint='pip uninstall -y onnxruntime && pip install "edgekit[onnx-gpu]", or --allow-fallback for the CPU',
            )
        device, providers = "cpu", list(_PROVIDERS["cpu"])
    if device != "cpu":
        if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
            onnxruntime.preload_dlls()
        if options.allow_fallback:
            providers.append("CPUExecutionProvider")
        else:
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(str(files[0]), settings, providers=providers)
    except _errors() as error:
        raise BackendError(
            f"ONNX Runtime cannot open {files[0]} on {device}: {error}", hint="edgekit doctor"
        ) from error
    used = session.get_providers()
    if used[0] != providers[0]:
        if not options.allow_fallback:
            raise BackendError(
                f"expected ONNX Runtime to run on {device}, it would run on {used[0]}",
                hint="edgekit doctor says what is missing; --allow-fallback runs on the CPU",
            )
        device = "cpu"
    return OnnxRuntimeSession(session, signature, device, options.precision)


class OnnxRuntimeSession:
    """See `Session`."""

    backend = NAME

    def __init__(self, session: Any, signature: Signature, device: str, precision: str) -> None:
        self._session = session
        self.signature = signature
        self.device = device
        self.precision = precision
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs))))

    def close(self) -> None:
        self._session = None


def _errors() -> tuple[type[Exception], ...]:
    """What opening a session may raise: ONNX Runtime's own exceptions share no base but `Exception`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (getattr(state, name) for name in dir(state))
    own = (kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception))
    return (RuntimeError, ValueError, *own)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
