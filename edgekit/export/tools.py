"""What this machine can export and build with, without importing it. Torch-free."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata

from edgekit.core.errors import BackendError
from edgekit.runtime.backends.base import Probe

_EXPORT = ("torch", "onnx", "onnxscript", "safetensors", "huggingface_hub")
_BUILD = ("onnx",)


def probe_tools() -> list[Probe]:
    """Whether `edgekit export` and `edgekit build` have what they need."""
    return [
        _needs("edgekit export", _EXPORT, "export"),
        _needs("edgekit build", _BUILD, "jetson"),
        _needs("edgekit build --openvino", ("openvino", "onnx"), "openvino"),
        *_engine_builders(),
    ]


def _needs(name: str, packages: tuple[str, ...], extra: str) -> Probe:
    missing = []
    version = None
    for package in reversed(packages):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return Probe(name, usable=False, missing=", ".join(missing), remedy=f'pip install "edgekit[{extra}]"')
    return Probe(name, usable=True, version=f"{packages[0]} {version}")


def _engine_builders() -> list[Probe]:
    names = {format: f"edgekit build --{format}" for format in ("trt", "trt-rtx")}
    needed = _needs("", _BUILD, "jetson")
    if not needed.usable:
        return [replace(needed, name=name) for name in names.values()]
    from edgekit.export.tensorrt import find_builder

    probes = []
    for format, name in names.items():
        try:
            module = find_builder(format)
        except BackendError as error:
            missing = error.message.removeprefix("expected ")
            probes.append(Probe(name, usable=False, missing=missing, remedy=error.hint))
        else:
            probes.append(Probe(name, usable=True, version=module.__version__))
    return probes
