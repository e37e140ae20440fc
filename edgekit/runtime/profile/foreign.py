"""Models that edgekit did not make: an ONNX file, an OpenVINO model or a TensorRT engine, opened as they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.core.errors import BackendError, UnavailableError, UsageError, unknown
from edgekit.core.signature import Signature, TensorSpec
from edgekit.runtime.backends.base import Session, SessionOptions
from edgekit.runtime.profile.given import InputSpec
from edgekit.runtime.profile.inputs import Fed, feed_foreign, specs_of
from edgekit.runtime.profile.point import Point
from edgekit.runtime.session import probe_format

KINDS = {".onnx": "onnx", ".xml": "openvino", ".engine": "tensorrt", ".plan": "tensorrt", ".trt": "tensorrt"}
"""What a file is, by its suffix."""
BACKENDS = {"onnx": ("onnxruntime", "openvino"), "openvino": ("openvino",), "tensorrt": ("tensorrt",)}
"""What runs it, the default first."""
AS_BUILT = "as in the file"

_ORT_TYPES = {
    "bool": "bool",
    "double": "float64",
    "float": "float32",
    "float16": "float16",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8")},
}
_OPENVINO_TYPES = {
    "boolean": "bool",
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    "u8": "uint8",
}


@dataclass(frozen=True)
class Foreign:
    """An opened model and what it is fed."""

    session: Session
    fed: Fed


def backend_of(path: Path, backend: str | None) -> str:
    """The backend that runs a file.

    Raises:
        UsageError: it runs nothing of that suffix.
    """
    known = BACKENDS[KINDS[path.suffix]]
    if backend is None:
        return known[0]
    if backend not in known:
        raise UsageError(f"expected a backend that runs {path.suffix} among {', '.join(known)}; received {backend!r}")
    return backend


def open_foreign(path: Path, point: Point) -> Foreign:
    """Open a file by the suffix of its name, and make what it is fed.

    Raises:
        UnavailableError: the backend, device or precision is absent.
        BackendError: the backend refuses the file.
        UsageError: a size or value is missing, or does not fit.
    """
    name = backend_of(path, point.backend)
    precision = "fp32" if name == "openvino" and point.precision is None else point.precision
    if precision is not None and name != "openvino":
        raise UsageError(
            f"expected no --precision for {path.name} on {name}: it lies in the file; received {precision}",
            hint="--backend openvino --precision bf16 computes a float32 ONNX file in bf16",
        )
    options = SessionOptions(
        device=point.device,
        precision=precision or AS_BUILT,
        num_threads=point.threads,
        allow_fallback=point.allow_fallback,
    )
    if name != "tensorrt":
        probe = probe_format({"onnxruntime": "onnx"}.get(name, name))
        if not probe.usable:
            raise UnavailableError(f"{name} cannot run {path.name} here: missing {probe.missing}", hint=probe.remedy)
    opener: Callable[[Path, SessionOptions, Point], Foreign] = {
        "onnxruntime": _on_onnxruntime,
        "openvino": _on_openvino,
        "tensorrt": _on_tensorrt,
    }[name]
    return opener(path, options, point)


def openvino_files(path: Path) -> list[Path]:
    """The files of a model: an .onnx alone, or an .xml and its .bin."""
    return [path] if path.suffix == ".onnx" else [path, path.with_suffix(".bin")]


def _on_onnxruntime(path: Path, options: SessionOptions, point: Point) -> Foreign:
    from edgekit.runtime.backends import onnxruntime as backend

    session, device = backend.load(path, options)
    specs = []
    for value in session.get_inputs():
        found = re.fullmatch(r"tensor\((\w+)\)", value.type)
        shape = tuple(axis if axis else None for axis in value.shape)
        specs.append(InputSpec(value.name, _dtype(found and _ORT_TYPES.get(found[1]), value.name, value.type), shape))
    fed = feed_foreign(specs, point)
    signature = _signature(fed, [value.name for value in session.get_outputs()])
    opened = backend.OnnxRuntimeSession(session, signature, device, options.precision)
    # what an int8 or fp16 file is computed in, nobody tells
    opened.computed_in = AS_BUILT
    return Foreign(opened, fed)


def _on_openvino(path: Path, options: SessionOptions, point: Point) -> Foreign:
    from edgekit.runtime.backends import openvino as backend

    compiled, device = backend.load(openvino_files(path), options)
    named = _names_of_axes(path)
    specs = []
    for port in compiled.inputs:
        name, kind = _name(port), port.element_type.get_type_name()
        shape = tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
        if len(named.get(name, ())) == len(shape):
            # OpenVINO forgets what ONNX calls its axes
            shape = tuple(axis or other for axis, other in zip(shape, named[name]))
        specs.append(InputSpec(name, _dtype(_OPENVINO_TYPES.get(kind), name, kind), shape))
    fed = feed_foreign(specs, point)
    signature = _signature(fed, [_name(port) for port in compiled.outputs])
    return Foreign(backend.OpenVinoSession(compiled, signature, device, options.precision), fed)


def _on_tensorrt(path: Path, options: SessionOptions, point: Point) -> Foreign:
    from edgekit.runtime.backends import tensorrt as backend

    session = backend.open_alone(path, options)
    specs = specs_of(session.signature)
    # the size that each profile was tuned for, and not a guess of ours
    sizes = {name: dim.buckets[0][1] for name, dim in session.signature.dims.items()}
    tuned = [
        replace(spec, shape=tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape))
        for spec in specs
    ]
    asked = point.dims or point.shapes or point.data or point.batch or point.length
    return Foreign(session, feed_foreign(specs if asked else tuned, point))


def _signature(fed: Fed, outputs: Sequence[str]) -> Signature:
    """What a session of ours needs of it: the inputs as they are fed; of outputs, whose sizes are not known, names."""
    inputs = tuple(TensorSpec(each["name"], each["dtype"], tuple(each["shape"])) for each in fed.described)
    return Signature(inputs, tuple(TensorSpec(name, "float32", ()) for name in outputs))


def _dtype(found: str | None, name: str, kind: str) -> str:
    if found is None:
        raise UsageError(f"expected inputs of {', '.join(sorted(_ORT_TYPES.values()))}; {name} is {kind}")
    return found


def _name(port: Any) -> str:
    names = sorted(port.names)
    if not names:
        raise BackendError("expected inputs and outputs with names, this model has some without")
    return str(names[0])


def _names_of_axes(path: Path) -> dict[str, tuple[str | None, ...]]:
    """What an ONNX file calls the axes of its inputs; nothing where the package onnx is not there to read it."""
    if path.suffix != ".onnx":
        return {}
    try:
        import onnx
    except ImportError:
        return {}
    graph = onnx.load(str(path), load_external_data=False).graph
    return {
        value.name: tuple(dim.dim_param or None for dim in value.type.tensor_type.shape.dim) for value in graph.input
    }


def kind_of(path: Path) -> str:
    """What a file is, by its suffix.

    Raises:
        UsageError: no such file, of another suffix, or one whose name is no text.
    """
    if path.suffix not in KINDS:
        raise unknown("bundle's folder or a file with a suffix", path.suffix or path.name, KINDS)
    if not path.is_file():
        raise UsageError(f"expected a model at {path}, there is no such file")
    if any("\udc80" <= letter <= "\udcff" for letter in str(path)):  # bytes that are none, which no library opens
        raise UsageError(f"expected a model whose name is text in UTF-8, received {str(path)!r}", hint="rename it")
    return KINDS[path.suffix]
