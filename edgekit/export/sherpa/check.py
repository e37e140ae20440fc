"""Hold a file for sherpa-onnx to the reference by ONNX Runtime, and what sherpa-onnx hears to the file's answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.core.bundle import Artifact, Bundle
from edgekit.core.errors import BackendError, UnavailableError, VerificationError
from edgekit.core.reference import Reference
from edgekit.core.signature import Signature
from edgekit.export.sherpa.hearing import Kind, hold, transcribe
from edgekit.export.sherpa.online import InWindows, Online, online_of
from edgekit.export.sherpa.symbols import Symbols, symbols_of
from edgekit.export.verify import MIN_LENGTHS, TOLERANCES, check_answers
from edgekit.runtime.backends import onnxruntime as backend
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.chunks import Runs
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips
from edgekit.runtime.session import CheckedSession


def check(bundle: Bundle, name: str, artifact: Artifact, reference: Reference, options: SessionOptions) -> Artifact:
    """The artifact with a new `parity`, or with the reason why it cannot be executed here.

    Its log-probabilities are held to the reference by ONNX Runtime, those of a file for streams chunk by chunk as far
    as whole windows go. Then sherpa-onnx transcribes the sample clips from their samples; the symbols and their times
    must be a best path of the log-probabilities, its text what edgekit writes for them.

    Args:
        name: of the graph.

    Raises:
        VerificationError: ONNX Runtime or sherpa-onnx refuses it, or answers otherwise.
        BundleError: a file is missing or altered.
    """

    def not_executed(why: str) -> Artifact:
        return replace(artifact, parity=None, reason=f"not executed: {why}", failed=False)

    graph = bundle.graph(name)
    symbols = symbols_of(bundle, graph)
    online = online_of(graph.signature) if graph.signature.state else None
    kind: Kind = "offline" if online is None else "online"
    signature = symbols.signature(graph.signature) if online is None else online.signature(symbols)
    model, tokens = (bundle.checked(file) for file in artifact.files)
    probe = backend.probe()
    if not probe.usable:
        return not_executed(f"missing {probe.missing}")
    if options.device not in (None, "cpu"):
        return not_executed("sherpa-onnx is checked on the CPU")
    expected = _expected(reference, graph.signature.without_state(), symbols, online)
    num_lengths = len({x.shape for item in expected.inputs for x in item.values() if x.ndim > 1})
    if online is not None and num_lengths < MIN_LENGTHS:
        return not_executed(f"expected recordings of {MIN_LENGTHS} numbers of whole windows, received {num_lengths}")
    try:
        session = CheckedSession(backend.open([model], signature, SessionOptions(num_threads=options.num_threads)))
    except BackendError as error:
        raise VerificationError(f"cannot be opened: {error.message}") from error
    runs: Runs = session if online is None else InWindows(session, online, symbols)
    clips = sample_clips()
    try:
        parity = check_answers(runs, expected, TOLERANCES["fp32"])
        try:
            padding = 0 if online is None else online.silence
            version, answers = transcribe(kind, model, tokens, clips, padding=padding)
        except UnavailableError as error:
            return not_executed(f"{error.message}; by ONNX Runtime alone it answers as it must")
        for clip, answer in zip(clips, answers):
            hold(bundle, symbols, _log_probs(bundle, runs, clip, online), clip.name, answer, kind=kind)
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


def _expected(reference: Reference, signature: Signature, symbols: Symbols, online: Online | None) -> Reference:
    """What the file must answer: the graph's answers in its classes and, of a stream, to what sherpa-onnx decodes.

    Args:
        signature: the graph's, without state.
    """
    (data, lengths), (output, output_lengths) = signature.inputs, signature.outputs
    inputs, outputs = [], []
    for item, answer in zip(reference.inputs, reference.outputs, strict=True):
        item, answer = dict(item), {**answer, output.name: symbols.fold(answer[output.name])}
        if online is not None:
            num_steps = online.heard(item[data.name].shape[1])
            if not num_steps:
                continue
            num_frames = online.chunks.frames.of_size(num_steps)
            item = {
                data.name: item[data.name][:, :num_steps],
                lengths.name: np.full_like(item[lengths.name], num_steps),
            }
            answer = {
                output.name: answer[output.name][:, :num_frames],
                output_lengths.name: np.full_like(answer[output_lengths.name], num_frames),
            }
        inputs.append(item)
        outputs.append(answer)
    return Reference(reference.origin, tuple(inputs), tuple(outputs))


def _log_probs(bundle: Bundle, runs: Runs, clip: Path, online: Online | None) -> np.ndarray:
    """The file's `[T, V]` for what sherpa-onnx decodes of a clip."""
    features = open_features(bundle.manifest.features)
    wave = load_audio(clip, features.sample_rate)
    if online is None:
        x = features(wave)
    else:
        x = features(np.concatenate((wave, np.zeros(online.silence, np.float32))))
        x = x[: online.heard(len(x))]
    data, lengths = runs.signature.inputs
    outputs = runs.run({data.name: x[None], lengths.name: np.array([len(x)], lengths.dtype)})
    log_probs: np.ndarray = outputs[runs.signature.outputs[0].name][0]
    return log_probs
