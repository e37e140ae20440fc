"""Which precisions each backend computes in on this machine, and what is missing for the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgekit.core.errors import BackendError
from edgekit.runtime import cuda
from edgekit.runtime.backends.base import Probe
from edgekit.runtime.session import BACKENDS, backend_module

PRECISIONS = ("fp32", "fp16", "bf16")
_BF16_FROM = (8, 0)
"""Compute capability from which GPUs compute in bf16 (nvidia.github.io/TransformerEngine/support_matrix.html)."""


@dataclass(frozen=True)
class Ability:
    """What a backend makes of one precision on one device.

    Attributes:
        format: the artifacts that are meant ("trt"); a backend may have a library per format.
        device: "cpu", "cuda"; None: there is none that it could use.
        computed_in: where that is another precision.
        missing, remedy: what is absent, and the command or step that mends it, where it is not usable.
    """

    backend: str
    format: str
    device: str | None
    precision: str
    usable: bool
    computed_in: str | None = None
    missing: str | None = None
    remedy: str | None = None


def probe_precisions() -> list[Ability]:
    """Every backend, format, device and precision of this machine. Opens no session."""
    found: list[Ability] = []
    for backend in BACKENDS:
        module = backend_module(backend)
        for format in module.FORMATS:
            probe: Probe = module.probe(format)
            if not probe.usable:
                found += (
                    Ability(backend, format, None, precision, False, None, probe.missing, probe.remedy)
                    for precision in PRECISIONS
                )
                continue
            for device in probe.devices:
                found += _RULES[backend](backend, format, device)
    return found


def _onnxruntime(backend: str, format: str, device: str) -> Iterable[Ability]:
    if device == "cuda":
        return _on_gpu(backend, format, device)
    # see OnnxRuntimeSession: it has few fp16 kernels for the CPU, and none for bf16
    return [
        Ability(backend, format, device, "fp32", True),
        Ability(backend, format, device, "fp16", True, computed_in="fp32"),
        Ability(
            backend,
            format,
            device,
            "bf16",
            False,
            None,
            "kernels for bf16, which ONNX Runtime has for no CPU",
            "edgekit build BUNDLE --openvino, and --backend openvino --precision bf16 when it runs",
        ),
    ]


def _openvino(backend: str, format: str, device: str) -> Iterable[Ability]:
    here = backend_module(backend).precisions(device)
    for precision in PRECISIONS:
        if precision in here:
            yield Ability(backend, format, device, precision, True)
        else:
            absent = f"{precision} arithmetic in this {device}; it computes in {', '.join(here)}"
            yield Ability(backend, format, device, precision, False, None, absent, "--precision fp32")


def _on_gpu(backend: str, format: str, device: str) -> Iterable[Ability]:
    try:
        gpus = cuda.devices()
    except BackendError as error:
        return [Ability(backend, format, device, each, False, None, error.message, error.hint) for each in PRECISIONS]
    if not gpus:
        why = "an NVIDIA GPU and its driver"
        return [Ability(backend, format, device, each, False, None, why, "edgekit devices") for each in PRECISIONS]
    newest = max(tuple(int(part) for part in gpu.compute_capability.split(".")) for gpu in gpus)
    abilities = [Ability(backend, format, device, precision, True) for precision in ("fp32", "fp16")]
    if newest >= _BF16_FROM:
        return [*abilities, Ability(backend, format, device, "bf16", True)]
    need = ".".join(map(str, _BF16_FROM))
    why = f"a GPU of compute capability {need} or newer; this is {'.'.join(map(str, newest))}"
    return [*abilities, Ability(backend, format, device, "bf16", False, None, why, "--precision fp16")]


_RULES: dict[str, Callable[[str, str, str], Iterable[Ability]]] = {
    "tensorrt": _on_gpu,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
