"""A file and tokens.txt that sherpa-onnx reads as an offline CTC recogniser. Torch-free.

Of sherpa-onnx's models, `zipformer2_ctc` takes its own filter bank as it is (lhotse's: no snipped edges, 20..7600 Hz,
samples in [-1, 1], 80 bins) and counts 40 ms a frame, whatever the metadata say. Its inputs and outputs are known by
their order: features and lengths, log-probabilities and lengths. It spells all that is not the blank, so the labels
that edgekit does not spell are folded into the blank in the file: their frames part equal letters, as before.

`python -m edgekit.export.sherpa MODEL TOKENS CLIP...` prints sherpa-onnx's answers: it ends its process where a file
does not please it, and brings an ONNX Runtime of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.bundle import Artifact, Bundle, Graph
from edgekit.core.errors import BackendError, BundleError, ExportError, UnavailableError, VerificationError
from edgekit.core.files import explained
from edgekit.core.reference import Reference
from edgekit.core.settings import settings_from_dict
from edgekit.core.signature import Signature
from edgekit.export.verify import TOLERANCES, check_answers
from edgekit.runtime.backends import onnxruntime as backend
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.decode.ctc import WORD_PREFIX, Token, spells, words
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.features.fbank import FbankConfig
from edgekit.runtime.samples import sample_clips
from edgekit.runtime.session import CheckedSession

if TYPE_CHECKING:
    from onnx import ModelProto

FBANK = FbankConfig(16000, 80, snip_edges=False, high_freq=-400.0, scale=1.0)
FRAME_S = 0.04
MODEL_TYPE = "zipformer2_ctc"

_BLANK = "<blk>"
_IR_VERSION = 8
"""What opset 18 needs; the ONNX Runtime of older releases of sherpa-onnx reads up to 9."""
_MISREAD = re.compile(r"[\x00-\x20\x7f]|^SIL$|^<0x[0-9A-F]{2}>$")
"""sherpa-onnx splits lines at white space, drops SIL, reads <0x41> as a byte and prints control characters as one."""
_BYTE_BPE = 0xC6
"""Where this is the highest byte of all labels, sherpa-onnx takes them for byte-level BPE."""
_TIE = 0.01
"""Log-probabilities this near to the best may come out on top: sherpa-onnx's filter bank is rounded otherwise."""
_NOT_INSTALLED = 3
"""The status with which the process ends where sherpa-onnx cannot be imported."""


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


def convert(onnx_path: Path, bundle: Bundle, graph: Graph, folder: Path) -> tuple[tuple[Path, Path], dict[str, Any]]:
    """Write `sherpa.onnx` and `tokens.txt` into a folder; return them and what is worth recording.

    Args:
        onnx_path: the graph in fp32 and standard operators alone.

    Raises:
        ExportError: sherpa-onnx cannot feed the graph or read its labels.
    """
    import onnx

    symbols = symbols_of(bundle, graph)
    model = onnx.load(onnx_path)
    if not symbols.unchanged:
        _fold(model, graph.signature.outputs[0].name, symbols)
    own = {
        "model_type": MODEL_TYPE,
        "version": "1",
        "model_author": "edgekit",
        "comment": f"{bundle.manifest.family} {bundle.manifest.variant}",
        "vocab_size": str(len(symbols.texts)),
        "subsampling_factor": str(_frames_each()),
    }
    onnx.helper.set_model_props(model, own)
    model.ir_version = min(model.ir_version, _IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    target, tokens = folder / "sherpa.onnx", folder / "tokens.txt"
    with explained(target):
        onnx.save(model, target)
        lines = (f"{text} {index}\n" for index, text in enumerate(symbols.texts))
        tokens.write_bytes("".join(lines).encode())
    return (target, tokens), {"model_type": MODEL_TYPE, "num_symbols": len(symbols.texts)}


def check(bundle: Bundle, artifact: Artifact, reference: Reference, options: SessionOptions) -> Artifact:
    """The artifact with a new `parity`, or with the reason why it cannot be executed here.

    Its log-probabilities are held to the reference by ONNX Runtime. Then sherpa-onnx transcribes the sample clips from
    their samples; the symbols and their times must be a best path of the log-probabilities, its text what edgekit
    writes for them.

    Raises:
        VerificationError: ONNX Runtime or sherpa-onnx refuses it, or answers otherwise.
        BundleError: a file is missing or altered.
    """

    def not_executed(why: str) -> Artifact:
        return replace(artifact, parity=None, reason=f"not executed: {why}", failed=False)

    graph = bundle.graph()
    symbols = symbols_of(bundle, graph)
    model, tokens = (bundle.checked(file) for file in artifact.files)
    probe = backend.probe()
    if not probe.usable:
        return not_executed(f"missing {probe.missing}")
    if options.device not in (None, "cpu"):
        return not_executed("sherpa-onnx is checked on the CPU")
    try:
        signature = _signature(graph.signature, len(symbols.texts))
        session = CheckedSession(backend.open([model], signature, SessionOptions(num_threads=options.num_threads)))
    except BackendError as error:
        raise VerificationError(f"cannot be opened: {error.message}") from error
    try:
        parity = check_answers(session, _folded(reference, signature, symbols), TOLERANCES["fp32"])
        clips = sample_clips()
        try:
            version, answers = transcribe(model, tokens, clips)
        except UnavailableError as error:
            return not_executed(f"{error.message}; by ONNX Runtime alone it answers as it must")
        for clip, answer in zip(clips, answers):
            _hold(bundle, session, symbols, clip, answer)
    except BackendError as error:
        raise VerificationError(f"cannot be run: {error.message}") from error
    finally:
        session.close()
    parity |= {
        "backend": f"sherpa-onnx {version} and {session.backend} {probe.version} on {session.device}",
        "computed_in": session.computed_in,
        "texts": len(clips),
    }
    return replace(artifact, parity=parity, reason=None, failed=False)


def symbols_of(bundle: Bundle, graph: Graph) -> Symbols:
    """What sherpa-onnx is to read for each class.

    Raises:
        ExportError: sherpa-onnx cannot feed the graph or read its labels.
    """
    _require_fit(bundle, graph)
    labels = _labels(bundle)
    blank, delimiter = (bundle.manifest.output.get(key) for key in ("blank", "delimiter"))
    classes = graph.signature.outputs[0]
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


def transcribe(model: Path, tokens: Path, clips: Sequence[Path]) -> tuple[str, list[dict[str, Any]]]:
    """sherpa-onnx's version and, for each clip, its `text`, `tokens` and `timestamps`, from a process of its own.

    Raises:
        UnavailableError: it is not installed.
        VerificationError: it refuses the files or fails.
    """
    command = [sys.executable, "-m", __name__, *(str(path.resolve()) for path in (model, tokens, *clips))]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    if done.returncode == _NOT_INSTALLED:
        raise UnavailableError(f"missing the package sherpa-onnx ({said})", hint="pip install sherpa-onnx")
    if done.returncode != 0:
        raise VerificationError(f"sherpa-onnx ended with: {said}")
    version, answers = json.loads(done.stdout.splitlines()[-1])
    return version, answers


def _frames_each() -> int:
    """Log-mel frames of each of the graph's answers."""
    return round(FRAME_S * FBANK.sample_rate / FBANK.frame_shift)


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
    tensors = [
        [(spec.dtype, len(spec.shape), spec.lengths_of is not None) for spec in specs]
        for specs in (graph.signature.inputs, graph.signature.outputs)
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


def _labels(bundle: Bundle) -> list[str]:
    return bundle.asset("tokens").read_text(encoding="utf-8").removesuffix("\n").split("\n")


def _fold(model: ModelProto, output: str, symbols: Symbols) -> None:
    """Let the graph answer with `Symbols.fold` of what it did."""
    from onnx import helper, numpy_helper

    graph = model.graph
    inner = f"{output}/labels"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [inner if name == output else name for name in names]
    constants = {"silent": symbols.silent, "spelled": symbols.spelled, "axis": (-1,)}
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
    answer.type.tensor_type.shape.dim[-1].dim_value = len(symbols.texts)


def _signature(signature: Signature, num_symbols: int) -> Signature:
    """The file's, with a class for each symbol."""
    first, *rest = signature.outputs
    return Signature(signature.inputs, (replace(first, shape=(*first.shape[:-1], num_symbols)), *rest))


def _folded(reference: Reference, signature: Signature, symbols: Symbols) -> Reference:
    name = signature.outputs[0].name
    outputs = tuple({**answer, name: symbols.fold(answer[name])} for answer in reference.outputs)
    return replace(reference, outputs=outputs)


def _hold(bundle: Bundle, session: CheckedSession, symbols: Symbols, clip: Path, answer: dict[str, Any]) -> None:
    """Raise `VerificationError` where sherpa-onnx's answer to a clip does not follow from its samples."""
    features = open_features(bundle.manifest.features)
    x = features(load_audio(clip, features.sample_rate))
    data, lengths = session.signature.inputs
    outputs = session.run({data.name: x[None], lengths.name: np.array([len(x)], lengths.dtype)})
    log_probs = outputs[session.signature.outputs[0].name][0]
    ids = {text.replace(WORD_PREFIX, " ", 1): index for index, text in enumerate(symbols.texts) if index}
    if not set(answer["tokens"]) <= ids.keys():
        raise VerificationError(f"{clip.name}: expected symbols of tokens.txt, sherpa-onnx gave {answer['tokens']}")
    heard = [ids[text] for text in answer["tokens"]]
    frames = [round(time / FRAME_S) for time in answer["timestamps"]]
    frame = _strays(log_probs, heard, frames)
    if frame is not None:
        raise VerificationError(
            f"{clip.name}: expected a best path of the log-probabilities, sherpa-onnx's leaves it at "
            f"{frame * FRAME_S:.2f} s: {answer['text']!r}"
        )
    said = [Token(symbols.spelled[index - 1], frame, frame + 1, 0.0) for index, frame in zip(heard, frames)]
    spelled = words(said, _labels(bundle), delimiter=bundle.manifest.output["delimiter"], frame_s=FRAME_S)
    text = " ".join(word.text for word in spelled)
    if " ".join(answer["text"].split()) != text:
        raise VerificationError(f"{clip.name}: expected {text!r}, sherpa-onnx wrote {answer['text']!r}")


def _strays(log_probs: np.ndarray, symbols: Sequence[int], frames: Sequence[int]) -> int | None:
    """The first frame from which no path of best symbols, ties included, gives `symbols`, each begun at its frame.

    Args:
        log_probs: `[T, V]`, the blank first.
    """
    best = log_probs >= log_probs.max(1, keepdims=True) - _TIE
    begins = dict(zip(frames, symbols, strict=True))
    before = {0}  # the symbols that the frame before may have had
    for frame, near in enumerate(best):
        begun = begins.pop(frame, None)
        after = before | {0} if begun is None else {begun} if begun and before - {begun} else set()
        before = {symbol for symbol in after if near[symbol]}
        if not before:
            return frame
    return len(log_probs) if begins else None


def _main(model: str, tokens: str, *clips: str) -> None:
    try:
        import sherpa_onnx
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(_NOT_INSTALLED)
    recogniser = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(model=model, tokens=tokens)
    answers = []
    for clip in clips:
        stream = recogniser.create_stream()
        stream.accept_waveform(FBANK.sample_rate, load_audio(Path(clip), FBANK.sample_rate))
        recogniser.decode_stream(stream)
        answers.append({name: getattr(stream.result, name) for name in ("text", "tokens", "timestamps")})
    print(json.dumps([sherpa_onnx.__version__, answers]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
