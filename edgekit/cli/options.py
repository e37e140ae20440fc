"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `edgekit export` wrote.")]
OptionalBundlePath = Annotated[
    Path | None,
    typer.Argument(metavar="BUNDLE", help="The folder that `edgekit export` wrote; default: the built-in model."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
Backend = Annotated[
    str | None, typer.Option(help="onnxruntime, openvino or tensorrt; default: the first that is usable here.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: the backend's first.")]
Precision = Annotated[str, typer.Option(help="fp32, fp16 or bf16.")]
BuildPrecision = Annotated[
    str | None, typer.Option("--precision", help="fp32, fp16 or bf16; default: fp32, or what is best on --target.")
]
TargetName = Annotated[
    str | None,
    typer.Option("--target", metavar="NAME", help="For a device of `edgekit devices --targets`: formats, precision."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads for execution on the CPU.")]
AllowFallback = Annotated[bool, typer.Option("--allow-fallback", help="Run elsewhere where the device is absent.")]
Beam = Annotated[
    int | None,
    typer.Option(min=1, help="Beam search over so many prefixes; default: greedy, or 16 with --hotwords or --lm."),
]
Hotwords = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Phrases to prefer, one a line; ` :2.5` after one is its weight.")
]
HotwordsWeight = Annotated[
    float | None, typer.Option(metavar="W", help="Bonus of each letter of the other hotwords; default: 1.")
]
Lm = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Word n-gram language model in ARPA format, or that with gzip.")
]
LmWeight = Annotated[
    float | None, typer.Option(metavar="W", help="Weight of the language model's log-probabilities; default: 0.5.")
]
WordBonus = Annotated[
    float | None,
    typer.Option(
        metavar="B", help="Added for each word, as a language model alone prefers few of them; default: 1.5, with --lm."
    ),
]
Speaker = Annotated[
    str | None, typer.Option(metavar="NAME", help="Answer with this speaker's weights (`edgekit speakers list`).")
]
StoreRoot = Annotated[
    Path | None,
    typer.Option(
        "--store", metavar="DIR", help="Where speakers and classes lie; default: the platform's data directory."
    ),
]
Formats = Annotated[
    str | None,
    typer.Option("--format", help="Comma-separated: onnx, openvino, trt, trt-rtx, sherpa.", show_default=False),
]
OpenVino = Annotated[bool, typer.Option("--openvino", help="Short for --format openvino.")]
Trt = Annotated[bool, typer.Option("--trt", help="Short for --format trt (TensorRT: Jetson, data centre, any GPU).")]
TrtRtx = Annotated[bool, typer.Option("--trt-rtx", help="Short for --format trt-rtx (TensorRT-RTX: desktop GPUs).")]
