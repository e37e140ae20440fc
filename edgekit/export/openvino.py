"""From fp32 ONNX to OpenVINO's IR, with shapes bounded as the signature says. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.core.errors import BackendError, ExportError
from edgekit.core.signature import Dim, Signature


def convert(onnx_path: Path, signature: Signature, folder: Path) -> tuple[tuple[Path, Path], dict[str, Any]]:
    """Write `model.xml` and `model.bin` into a folder; return them and what is worth recording.

    Raises:
        BackendError: OpenVINO is not installed.
        ExportError: OpenVINO cannot read the graph.
    """
    try:
        import openvino
    except ImportError as error:
        raise BackendError(
            f"expected the package openvino, it cannot be imported ({error})", hint='pip install "edgekit[openvino]"'
        ) from error
    try:
        model = openvino.Core().read_model(onnx_path)
        bounds = {
            spec.name: openvino.PartialShape(
                [openvino.Dimension(a.min, a.max) if isinstance(a, Dim) else openvino.Dimension(a) for a in spec.shape]
            )
            for spec in signature.inputs
        }
        model.reshape(bounds)
        target = folder / "model.xml"
        openvino.save_model(model, target, compress_to_fp16=False)
    except RuntimeError as error:
        raise ExportError(f"OpenVINO cannot convert {onnx_path.name}: {error}") from error
    details = {"openvino": openvino.__version__.split("-")[0], "num_ops": len(model.get_ops())}
    return (target, target.with_suffix(".bin")), details
