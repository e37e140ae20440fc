"""What this machine can export and build with, without importing it. Torch-free."""

from __future__ import annotations

from importlib import metadata

from edgekit.runtime.backends.base import Probe

_EXPORT = ("torch", "onnx", "onnxscript", "safetensors", "huggingface_hub")
_CAST = ("onnx",)


def probe_tools() -> list[Probe]:
    """Whether `edgekit export` and `edgekit build` have what they need."""
    return [
        _needs("edgekit export", _EXPORT, "export"),
        _needs("build fp16, bf16", _CAST, "jetson"),
        _needs("build openvino", ("openvino",), "openvino"),
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
    from edgekit.core.errors import BackendError
    from edgekit.export.tensorrt import find_builder

    probes = []
    for format in ("trt", "trt-rtx"):
        try:
            module = find_builder(format)
        except BackendError as error:
            probes.append(
                Probe(
                    f"build {format}", usable=False, missing=error.message.removeprefix("expected "), remedy=error.hint
                )
            )
        else:
            probes.append(Probe(f"build {format}", usable=True, version=module.__version__))
    return probes
