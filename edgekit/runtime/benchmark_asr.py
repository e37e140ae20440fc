"""Word errors, speed and memory of a bundle over recordings with known words: a figure that can be published."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import edgekit
from edgekit.core.errors import AudioError, UsageError
from edgekit.devices.memory import peak_memory_mib as peak_memory_mib
from edgekit.devices.probe import probe_machine
from edgekit.runtime import cuda
from edgekit.runtime.corpus import Utterance, read_corpus
from edgekit.runtime.decode.decoding import Decoding
from edgekit.runtime.session import backend_module
from edgekit.runtime.tasks import load
from edgekit.runtime.tasks.speech_recognition import SpeechRecognition, Transcript, require_trained
from edgekit.runtime.word_errors import Answer, WordErrors, count_word_errors, load_jiwer

_T = TypeVar("_T")

Report = Callable[[int, int, float], None]
"""Called after each recording: how many are done, of how many, and which share (0..1) of the seconds of audio."""


@dataclass(frozen=True)
class SkippedRecording:
    """A recording that counts nowhere, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class AsrBenchmark:
    """What one run of a recogniser over a data set has shown.

    Attributes:
        context: what the figures belong to: `command`, `date` (UTC), `machine`, `load_before` (averages of 1, 5 and 15
            minutes), `versions`, `bundle`, `session`, `data`; of a speaker `speaker` and `speaker_version`.
        errors: of the recordings that were recognised.
        audio_s: length of these recordings together.
        compute_s: features, session and decoding together, wall time; reading and resampling are not in it.
        rtf_p50: median over recordings of compute time / length.
        rtf_p95: their 95th percentile, linearly interpolated.
        loaded_mib: the most resident memory of this process until the bundle was open; not the memory of a GPU.
        peak_mib: the most until the last recording was recognised.
        skipped: the recordings that count nowhere.
    """

    context: dict[str, Any]
    errors: WordErrors
    audio_s: float
    compute_s: float
    rtf_p50: float
    rtf_p95: float
    loaded_mib: float
    peak_mib: float
    skipped: tuple[SkippedRecording, ...]

    @property
    def rtf(self) -> float:
        """Real-time factor over all: `compute_s / audio_s`."""
        return self.compute_s / self.audio_s

    def to_json(self) -> dict[str, Any]:
        """Plain data: `benchmark`, the context's keys, `errors`, `speed`, `memory`, `skipped`."""
        speed = {name: getattr(self, name) for name in ("audio_s", "compute_s", "rtf", "rtf_p50", "rtf_p95")}
        return {
            "benchmark": "asr",
            **self.context,
            "errors": self.errors.to_json(),
            "speed": speed,
            "memory": {"loaded_mib": self.loaded_mib, "peak_mib": self.peak_mib},
            "skipped": [asdict(recording) for recording in self.skipped],
        }


def benchmark_asr(
    bundle: Path | str,
    data: Path | str,
    *,
    backend: str | None = None,
    device: str | None = None,
    precision: str = "fp32",
    num_threads: int | None = None,
    allow_fallback: bool = False,
    speaker: str | None = None,
    store: Path | str | None = None,
    allow_random_weights: bool = False,
    limit: int | None = None,
    normalised: bool = True,
    decoding: Decoding | None = None,
    command: str = "",
    report: Report = lambda done, total, share: None,
) -> AsrBenchmark:
    """Recognise every recording of a data set that has a transcript, one after the other, and compare.

    The first recording is recognised once more beforehand, since a session's first run allocates.

    Args:
        bundle: for speech recognition; this and the next five as in `edgekit.load`.
        data: what `read_corpus` reads.
        speaker: a name in the store, whose weights answer all recordings; None: the core alone.
        store: as in `edgekit.load`.
        allow_random_weights: measure although the weights are random and the error rate means nothing.
        limit: at most so many recordings, spread evenly over the data; None: all.
        decoding: a beam search, with hotwords or a language model; None: greedy.
        normalised: compare words as `word_errors.normalise` makes them; else as they stand.
        command: what made the figure, for its record.

    Raises:
        UnavailableError: jiwer, the backend or the device is absent.
        BundleError: no bundle, or random weights.
        UsageError: a bundle for another task, or no transcripts in the data.
        AudioError: not one recording can be used.
        StoreError: an unknown speaker, or one that does not fit.
        EdgekitError: the data cannot be read.
    """
    load_before = [round(average, 2) for average in os.getloadavg()]
    load_jiwer()  # what is missing is said before the work, not after it
    recogniser = load(
        bundle,
        backend=backend,
        device=device,
        precision=precision,
        num_threads=num_threads,
        allow_fallback=allow_fallback,
        store=store,
    )
    if not isinstance(recogniser, SpeechRecognition):
        raise UsageError(f"expected a bundle for speech-recognition, {bundle} is for {recogniser.bundle.manifest.task}")
    require_trained(recogniser.bundle, allow_random_weights)
    loaded_mib = peak_memory_mib()

    corpus = read_corpus(Path(data))
    skipped = [SkippedRecording(str(bad.path), bad.reason) for bad in corpus.skipped]
    known = [utterance for utterance in corpus.utterances if utterance.text is not None]
    skipped += [SkippedRecording(str(u.audio), "no transcript") for u in corpus.utterances if u.text is None]
    if not known:
        raise UsageError(
            f"expected recordings with transcripts in {data}, "
            f"received {len(corpus.utterances)} without and {len(corpus.skipped)} that cannot be used",
            hint='name each in a .jsonl file: {"audio": "a.wav", "text": "what is said", "speaker": "anna"}',
        )
    chosen = _spread(known, limit)
    if decoding is not None:
        recogniser.search(decoding)  # what does not fit is said before the first recording
    # its weights as they are now: a version that is installed meanwhile answers none of the recordings
    found = None if speaker is None else recogniser.speakers.find(speaker)
    theta = None if found is None else found.theta
    answers, transcripts, broken = _recognise(recogniser, chosen, theta, decoding, report)
    peak_mib = peak_memory_mib()
    if not transcripts:
        raise AudioError(
            f"expected a recording that can be used, all {len(chosen)} of {data} are broken: {broken[0].reason}",
            hint="fetch or convert them again",
        )
    rtfs = [transcript.rtf for transcript in transcripts]
    return AsrBenchmark(
        context={
            **_context(recogniser, num_threads, command),
            "decoding": _described(decoding),
            **({} if found is None or found.version is None else found.version.to_json()),
            "load_before": load_before,
            "data": {"path": str(data), "num_utterances": len(corpus.utterances), "limit": limit},
        },
        errors=count_word_errors(answers, normalised=normalised),
        audio_s=sum(transcript.audio_s for transcript in transcripts),
        compute_s=sum(transcript.compute_s for transcript in transcripts),
        rtf_p50=float(np.percentile(rtfs, 50)),
        rtf_p95=float(np.percentile(rtfs, 95)),
        loaded_mib=loaded_mib,
        peak_mib=peak_mib,
        skipped=(*skipped, *broken),
    )


def _recognise(
    recogniser: SpeechRecognition,
    chosen: Sequence[Utterance],
    theta: np.ndarray | None,
    decoding: Decoding | None,
    report: Report,
) -> tuple[list[Answer], list[Transcript], list[SkippedRecording]]:
    """Each of the corpus's utterances in turn; what cannot be used is left out and told."""
    total_s, done_s = sum(utterance.duration_s for utterance in chosen), 0.0
    options: dict[str, Any] = {"speaker": theta, "decoding": decoding, "allow_random_weights": True}
    answers: list[Answer] = []
    transcripts: list[Transcript] = []
    broken = []
    for index, utterance in enumerate(chosen, start=1):
        try:
            if not transcripts:
                recogniser.transcribe(utterance.audio, **options)
            transcript = recogniser.transcribe(utterance.audio, **options)
        except AudioError as error:
            broken.append(SkippedRecording(str(utterance.audio), error.message))
        else:
            transcripts.append(transcript)
            answers.append(Answer(utterance.id, utterance.text or "", transcript.text, utterance.speaker))
        done_s += utterance.duration_s
        report(index, len(chosen), done_s / total_s if total_s else 1.0)
    return answers, transcripts, broken


def _described(decoding: Decoding | None) -> dict[str, Any]:
    """The search as it was asked for; what the hotwords and the model are, the command says."""
    if decoding is None:
        return {"search": "greedy"}
    described: dict[str, Any] = {"search": "beam", "beam": decoding.beam}
    if decoding.hotwords:
        described |= {"num_hotwords": len(decoding.hotwords), "hotwords_weight": decoding.hotwords_weight}
    if decoding.lm is not None:
        described |= {"lm_weight": decoding.lm_weight, "word_bonus": decoding.word_bonus}
    return described


def _spread(items: Sequence[_T], limit: int | None) -> list[_T]:
    """At most `limit` items at even distances: the first ones alone would be those of a few speakers."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def _context(recogniser: SpeechRecognition, num_threads: int | None, command: str) -> dict[str, Any]:
    """What the figures belong to, but for the data."""
    bundle, session = recogniser.bundle, recogniser.session
    manifest = bundle.manifest
    machine = asdict(probe_machine())
    machine["system"] = machine["system"].split("-")[0]  # a kernel's local name says nothing elsewhere
    kind, _, index = session.device.partition(":")
    machine["gpu"] = cuda.devices()[int(index or 0)].name if kind == "cuda" else None
    return {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": {
            "edgekit": edgekit.__version__,
            session.backend: backend_module(session.backend).probe().version,
            "numpy": np.__version__,
            "jiwer": metadata.version("jiwer"),
        },
        "bundle": {
            "path": str(bundle.path),
            "family": manifest.family,
            "variant": manifest.variant,
            "weights": manifest.provenance["weights"],
            "core_sha256": manifest.core_hash,
        },
        "session": {
            "backend": session.backend,
            "device": session.device,
            "precision": session.precision,
            "computed_in": session.computed_in,
            "num_threads": num_threads,
        },
    }
