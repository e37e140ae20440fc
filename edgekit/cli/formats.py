"""From `--format`, `--precision` and their short forms to what is to be built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.cli.output import log

if TYPE_CHECKING:
    from edgekit.export.build import Request


def requests_of(formats: str | None, precision: str, *, openvino: bool, trt: bool, trt_rtx: bool) -> list[Request]:
    """What is asked for besides the fp32 ONNX, which is always there.

    Raises:
        UsageError: an unknown format or precision.
    """
    from edgekit.export.build import Request

    names = [name.strip() for name in (formats or "").split(",") if name.strip()]
    names += [name for name, on in (("openvino", openvino), ("trt", trt), ("trt-rtx", trt_rtx)) if on]
    if precision != "fp32" and not names:
        names = ["onnx"]
    if "openvino" in names and precision in ("fp16", "bf16"):
        log(f"note: OpenVINO computes in {precision} from its fp32 model; pass --precision {precision} when it runs")
    wanted = [
        Request(name, "fp32" if name == "openvino" and precision in ("fp16", "bf16") else precision) for name in names
    ]
    return [request for request in dict.fromkeys(wanted) if request != Request("onnx", "fp32")]
