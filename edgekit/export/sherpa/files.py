"""From a graph to the two files that sherpa-onnx reads: the model and tokens.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.core.bundle import Bundle, Graph
from edgekit.core.errors import ExportError
from edgekit.core.files import explained
from edgekit.export.sherpa.online import MODEL_TYPE as ONLINE
from edgekit.export.sherpa.online import online_of
from edgekit.export.sherpa.symbols import FRAME_S, STEPS_EACH, symbols_of

OFFLINE = "zipformer2_ctc"

_IR_VERSION = 8
"""What opset 18 needs; the ONNX Runtime of older releases of sherpa-onnx reads up to 9."""


def left_out(bundle: Bundle, name: str) -> str | None:
    """Why there are no files of a graph beside `infer`; None: there are."""
    if name == "infer":
        return None  # a bundle without them is refused
    try:
        online_of(bundle.graph(name).signature)
    except ExportError as error:
        return f"graph {name} does not fit sherpa-onnx: {error.message}"
    return None


def convert(onnx_path: Path, bundle: Bundle, graph: Graph, folder: Path) -> tuple[tuple[Path, Path], dict[str, Any]]:
    """Write `sherpa.onnx` and `tokens.txt` into a folder; return them and what is worth recording.

    Args:
        onnx_path: the graph in fp32 and standard operators alone.
        graph: one with state becomes a file for streams.

    Raises:
        ExportError: sherpa-onnx cannot feed the graph or read its labels.
    """
    import onnx

    symbols = symbols_of(bundle, graph)
    own: dict[str, Any] = {
        "version": 1,
        "model_author": "edgekit",
        "comment": f"{bundle.manifest.family} {bundle.manifest.variant}",
        "vocab_size": len(symbols.texts),
    }
    model = onnx.load(onnx_path)
    symbols.fold_graph(model, graph.signature.without_state().outputs[0].name)
    if graph.signature.state:
        online = online_of(graph.signature)
        online.wrap(model, symbols)
        own |= {"model_type": ONLINE, **online.metadata}
        details = {"chunk_s": round(online.chunks.num_frames * FRAME_S, 3)}
    else:
        own |= {"model_type": OFFLINE, "subsampling_factor": STEPS_EACH}
        details = {}
    onnx.helper.set_model_props(model, {key: str(value) for key, value in own.items()})
    model.ir_version = min(model.ir_version, _IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    target, tokens = folder / "sherpa.onnx", folder / "tokens.txt"
    with explained(target):
        onnx.save(model, target)
        tokens.write_bytes(symbols.lines())
    return (target, tokens), {**details, "model_type": own["model_type"], "num_symbols": len(symbols.texts)}
