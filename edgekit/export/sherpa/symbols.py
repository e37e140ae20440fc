"""What sherpa-onnx can feed and spell: its filter bank, and the classes of its files made of a graph's.

Of its models, `zipformer2_ctc` takes its own filter bank as it is (lhotse's: no snipped edges, 20..7600 Hz, samples in
[-1, 1], 80 bins) and counts 40 ms a frame, whatever the metadata say. It spells all that is not the blank, so labels
that edgekit does not spell are folded into the blank in the file: their frames part equal letters, as before.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgekit.core.bundle import Bundle, Graph
from edgekit.core.errors import BundleError, ExportError
from edgekit.core.settings import settings_from_dict
from edgekit.core.signature import Signature
from edgekit.runtime.decode.ctc import WORD_PREFIX, spells
from edgekit.runtime.features import open_features
from edgekit.runtime.features.fbank import FbankConfig

if TYPE_CHECKING:
    from onnx import ModelProto

FBANK = FbankConfig(16000, 80, snip_edges=False, high_freq=-400.0, scale=1.0)
FRAME_S = 0.04
STEPS_EACH = round(FRAME_S * FBANK.sample_rate / FBANK.frame_shift)
"""Log-mel frames from one answer to the next."""

_BLANK = "<blk>"
_MISREAD = re.compile(r"[\x00-\x20\x7f]|^SIL$|^<0x[0-9A-F]{2}>$")
"""sherpa-onnx splits lines at white space, drops SIL, reads <0x41> as a byte and prints control characters as one."""
_BYTE_BPE = 0xC6
"""Where this is the highest byte of all labels, sherpa-onnx takes them for byte-level BPE."""


@dataclass(frozen=True)
class Symbols:
    """The classes of the file, made of the graph's.

    Attributes:
        texts: per class what sherpa-onnx reads in tokens.txt; the blank is the first.
        silent: the graph's classes that are folded into the blank, itself among them.
        spelled: the graph's class behind each other one.
    """

    texts: tuple[str, ...]
    silent: tuple[int, ...]
    spelled: tuple[int, ...]

    @property
    def unchanged(self) -> bool:
        """Whether the graph's classes are the file's."""
        return (*self.silent, *self.spelled) == tuple(range(len(self.texts)))

    def fold(self, log_probs: np.ndarray) -> np.ndarray:
        """The file's `[..., V]` from the graph's."""
        blank = log_probs[..., list(self.silent)].max(-1, keepdims=True)
        return np.concatenate([blank, log_probs[..., list(self.spelled)]], axis=-1)

    def signature(self, signature: Signature) -> Signature:
        """That of a graph without state, with the file's classes in its first output."""
        first, *rest = signature.outputs
        folded = replace(first, shape=(*first.shape[:-1], len(self.texts)))
        return replace(signature, outputs=(folded, *rest))

    def fold_graph(self, model: ModelProto, output: str) -> None:
        """Let a graph answer with `fold` of what it did."""
        from onnx import helper, numpy_helper

        if self.unchanged:
            return
        graph = model.graph
        inner = f"{output}/labels"
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [inner if name == output else name for name in names]
        constants = {"silent": self.silent, "spelled": self.spelled, "axis": (-1,)}
        graph.initializer.extend(
            numpy_helper.from_array(np.array(values, np.int64), f"sherpa/{name}") for name, values in constants.items()
        )
        nodes = [
            helper.make_node("Gather", [inner, "sherpa/silent"], ["sherpa/not_spelled"], axis=-1),
            helper.make_node("ReduceMax", ["sherpa/not_spelled", "sherpa/axis"], ["sherpa/blank"], keepdims=1),
            helper.make_node("Gather", [inner, "sherpa/spelled"], ["sherpa/letters"], axis=-1),
            helper.make_node("Concat", ["sherpa/blank", "sherpa/letters"], [output], axis=-1),
        ]
        for index, node in enumerate(nodes):
            node.name = f"sherpa/{node.op_type}_{index}"
        graph.node.extend(nodes)
        (answer,) = (value for value in graph.output if value.name == output)
        answer.type.tensor_type.shape.dim[-1].dim_value = len(self.texts)

    def lines(self) -> bytes:
        """tokens.txt."""
        return "".join(f"{text} {index}\n" for index, text in enumerate(self.texts)).encode()


def symbols_of(bundle: Bundle, graph: Graph) -> Symbols:
    """What sherpa-onnx is to read for each class.

    Raises:
        ExportError: sherpa-onnx cannot feed the graph or read its labels.
    """
    _require_fit(bundle, graph)
    labels = labels_of(bundle)
    blank, delimiter = (bundle.manifest.output.get(key) for key in ("blank", "delimiter"))
    classes = graph.signature.without_state().outputs[0]
    if type(blank) is not int or not 0 <= blank < len(labels) == classes.shape[-1] or not isinstance(delimiter, str):
        raise BundleError(
            f"expected a label for each class of {classes}, a blank and a delimiter; received {len(labels)} labels, "
            f"{blank!r} and {delimiter!r}",
            hint=f"export it again: edgekit export {bundle.manifest.family}",
        )
    silent, spelled, texts = [blank], [], [_BLANK]
    for index, label in enumerate(labels):
        ends, text = spells(label, delimiter)
        if index == blank:
            continue
        if not ends and not text:
            silent.append(index)
            continue
        read = f"{WORD_PREFIX}{text}" if ends else text
        if _MISREAD.search(read) or read in texts or (not ends and text.startswith(WORD_PREFIX)):
            raise ExportError(
                f"expected labels that sherpa-onnx reads as edgekit does, received {label!r} as label {index}",
                hint=f"edgekit transcribe {bundle.path} AUDIO",
            )
        spelled.append(index)
        texts.append(read)
    if max("".join(text.lstrip(WORD_PREFIX) for text in texts).encode()) == _BYTE_BPE:
        raise ExportError(
            "expected labels that sherpa-onnx does not take for byte-level BPE, received letters up to U+01BF only",
            hint=f"edgekit transcribe {bundle.path} AUDIO",
        )
    return Symbols(tuple(texts), tuple(silent), tuple(spelled))


def labels_of(bundle: Bundle) -> list[str]:
    """The bundle's labels, one per class."""
    return bundle.asset("tokens").read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _require_fit(bundle: Bundle, graph: Graph) -> None:
    """Raise `ExportError` for a bundle whose features, tensors or answers are not sherpa-onnx's."""
    manifest = bundle.manifest
    problems = []
    kind = manifest.output.get("kind")
    if kind != "ctc":
        problems.append(f"an output of kind 'ctc', received {kind!r}")
    elif manifest.output.get("frame_s") != FRAME_S:
        problems.append(f"an answer every {FRAME_S:g} s, received one every {manifest.output.get('frame_s')} s")
    open_features(manifest.features)  # raises, for what is none
    if manifest.features["kind"] != "kaldi-fbank":
        problems.append(f"features of kind 'kaldi-fbank', received {manifest.features['kind']!r}")
    else:
        own = {name: value for name, value in manifest.features.items() if name not in ("kind", "min_samples")}
        given = asdict(settings_from_dict(FbankConfig, own))
        problems += [
            f"features.{name} {value}, received {given[name]}"
            for name, value in asdict(FBANK).items()
            if given[name] != value
        ]
    signature = graph.signature.without_state()
    if signature.weights and not problems:
        # which sherpa-onnx could not feed; the same weights without it make a file of the same answers
        raise ExportError(
            f"{manifest.family} {manifest.variant} does not fit sherpa-onnx: expected a graph without theta",
            hint="export it without --adapt, into another folder: "
            f"{str(manifest.provenance.get('command', f'edgekit export {manifest.family}')).replace(' --adapt', '')} "
            "--format sherpa --out DIR",
        )
    tensors = [
        [(spec.dtype, len(spec.shape), spec.lengths_of is not None) for spec in specs]
        for specs in (signature.inputs, signature.outputs)
    ]
    counted = [("float32", 3, False), ("int64", 1, True)]
    if not problems and tensors != [counted, counted]:
        problems.append("inputs and outputs of one float32[batch, time, size] each and its int64 lengths")
    if problems:
        hint = f"edgekit runs it itself: edgekit transcribe {bundle.path} AUDIO" if kind == "ctc" else None
        if kind != "ctc" and len(problems) == 1:
            hint = f"edgekit export {manifest.family} --head ctc --format sherpa --out DIR"
        raise ExportError(
            f"{manifest.family} {manifest.variant} does not fit sherpa-onnx: expected {'; expected '.join(problems)}",
            hint=hint,
        )
