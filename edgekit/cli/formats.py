"""From `--format`, `--precision` and their short forms to what is to be built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.cli.output import log

if TYPE_CHECKING:
    from edgekit.export.build import Request


def requests_of(
    formats: str | None, precision: str | None, *, openvino: bool, trt: bool, trt_rtx: bool, target: str | None = None
) -> list[Request]:
    """What is asked for besides the fp32 ONNX, which is always there.

    Args:
        precision: None: fp32, or what is best on `target`.

    Raises:
        UsageError: an unknown format, precision or target, or what the target cannot run.
    """
    from edgekit.export.build import Request

    names = [name.strip() for name in (formats or "").split(",") if name.strip()]
    names += [name for name, on in (("openvino", openvino), ("trt", trt), ("trt-rtx", trt_rtx)) if on]
    if target is None:
        if precision not in (None, "fp32") and not names:
            names = ["onnx"]
        wanted = [Request(name, precision or "fp32") for name in names]
    else:
        from edgekit.export.target import requests_for

        for name in names:
            Request(name, precision or "fp32")  # raises for what is unknown everywhere
        wanted = requests_for(target, names, precision)
    for index, request in enumerate(wanted):
        if request.format == "openvino" and request.precision != "fp32":
            hinted = request.precision
            log(f"note: OpenVINO computes in {hinted} from its fp32 model; pass --precision {hinted} when it runs")
            wanted[index] = Request("openvino")
    return [request for request in dict.fromkeys(wanted) if request != Request("onnx", "fp32")]
