"""What is timed: from waveforms in memory to texts, features and greedy decoding included, whole or chunk by chunk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

import edgekit
from conformer.speech import SAMPLE_RATE, Float32
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.chunks import counted
from edgekit.runtime.decode.ctc import greedy, merge_windows, words
from edgekit.runtime.features.audio import windows
from edgekit.runtime.session import open_session
from edgekit.runtime.streaming import SpeechStream
from edgekit.runtime.tasks.speech import WINDOW_S, SpeechGraph, Window

SHERPA = "sherpa-onnx"


@dataclass(frozen=True)
class Answer:
    """Texts and times in milliseconds; `wall_ms` holds all steps. sherpa-onnx decodes in the step of its session."""

    texts: list[str]
    wall_ms: float
    cpu_ms: float
    features_ms: float
    session_ms: float
    decoding_ms: float

    def to_json(self) -> dict[str, Any]:
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


class Live(Protocol):
    """One speaker's stream."""

    def accept(self, block: Float32) -> None:
        """Take the next samples, and compute the chunk that they complete, up to the text."""
        ...


class Subject(Protocol):
    """A model on a backend."""

    def answer(self, waves: Sequence[Float32]) -> Answer:
        """Recognise recordings of one length; several go through the graph together."""
        ...

    def live(self, chunk_s: float) -> Live:
        """Begin a stream."""
        ...


def open_subject(kind: str, precision: str, threads: int, bundle: str) -> Subject:
    """By kind: "onnxruntime", "openvino", "torch", "torch.compile" or "sherpa-onnx".

    Args:
        bundle: of all of them, so that all have the same weights.

    Raises:
        ImportError: a package is not installed.
    """
    opened = open_bundle(bundle)
    if kind == SHERPA:
        return OfSherpa(opened, threads)
    if kind in ("onnxruntime", "openvino"):
        options = SessionOptions(device="cpu", precision=precision, num_threads=threads)
        return OfBundle(opened, open_session(opened, backend=kind, options=options), options)
    return OfBundle(opened, TorchSession(opened, threads, compiled=kind == "torch.compile"))


class OfBundle:
    """A bundle on whatever computes its graph, by the steps of `edgekit.load(bundle).transcribe`.

    Args:
        options: for streams; None: it has none.
    """

    def __init__(self, bundle: Bundle, session: Any, options: SessionOptions | None = None) -> None:
        self._bundle, self._session, self._options = bundle, session, options
        self._graph = SpeechGraph(bundle, session)
        self._labels = bundle.asset("tokens").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        self._blank, self._delimiter = (bundle.manifest.output[key] for key in ("blank", "delimiter"))
        self._recogniser: Any = None

    def answer(self, waves: Sequence[Float32]) -> Answer:
        cpu_start, start = time.process_time(), time.perf_counter()
        loaded = [self._graph.load((wave, SAMPLE_RATE)) for wave in waves]
        if len(loaded) == 1:
            answered, timing = self._graph.run(loaded[0])
            per_item, features_s, session_s = [answered], timing.features_s, timing.inference_s
        else:
            per_item, features_s, session_s = self._batch(loaded)
        inferred = time.perf_counter()
        texts = [self._text(answered) for answered in per_item]
        end, cpu_end = time.perf_counter(), time.process_time()
        return Answer(
            texts,
            wall_ms=1e3 * (end - start),
            cpu_ms=1e3 * (cpu_end - cpu_start),
            features_ms=1e3 * features_s,
            session_ms=1e3 * session_s,
            decoding_ms=1e3 * (end - inferred),
        )

    def live(self, chunk_s: float) -> Live:
        if self._options is None:
            raise ValueError("streams run on a backend of edgekit")
        if self._recogniser is None:
            self._recogniser = edgekit.load(
                self._bundle.path,
                backend=self._session.backend,
                precision=self._options.precision,
                num_threads=self._options.num_threads,
            )
        return OfStream(self._recogniser.stream(SAMPLE_RATE, chunk_s=chunk_s, allow_random_weights=True))

    def _batch(self, waves: Sequence[Float32]) -> tuple[list[list[Window]], float, float]:
        """`SpeechGraph.run` of several recordings of one length: all their windows in as few calls as the graph takes.

        Returns:
            The windows by recording, and the seconds of features and session.
        """
        begun = time.perf_counter()
        features, signature = self._graph.features, self._session.signature
        data, lengths, _ = counted(signature.inputs, "an input")
        output, _, frames = counted(signature.outputs, "an output")
        window, hop = round(WINDOW_S * SAMPLE_RATE), features.samples_per_step * frames.over
        prepared = [features.prepare(wave) for wave in waves]
        spans = windows(len(waves[0]), window, window // 5, multiple_of=hop)
        x = np.stack([features.compute(wave[start:stop]) for start, stop in spans for wave in prepared])
        between = time.perf_counter()
        parts = []
        for first in range(0, len(x), signature.batch.max):
            part = x[first : first + signature.batch.max]
            sizes = np.full(len(part), part.shape[1], lengths.dtype)
            parts.append(self._session.run({data.name: part, lengths.name: sizes})[output.name])
        answered = np.concatenate(parts).reshape(len(spans), len(waves), *parts[0].shape[1:])
        per_item = [
            [Window(start // hop, answered[index, item]) for index, (start, _) in enumerate(spans)]
            for item in range(len(waves))
        ]
        return per_item, between - begun, time.perf_counter() - between

    def _text(self, answered: Sequence[Window]) -> str:
        parts = [greedy(window.frames, self._blank) for window in answered]
        tokens = merge_windows(parts, [window.span for window in answered])
        spoken = words(tokens, self._labels, delimiter=self._delimiter, frame_s=self._graph.frame_s)
        return " ".join(word.text for word in spoken)


class OfStream:
    """edgekit's stream; utterances end as users get them."""

    def __init__(self, stream: SpeechStream) -> None:
        self._stream = stream

    def accept(self, block: Float32) -> None:
        self._stream.accept(block)


class TorchSession:
    """The family's module with the bundle's weights, without the export between: random ones of the same seed."""

    backend = "torch"

    def __init__(self, bundle: Bundle, threads: int, *, compiled: bool) -> None:
        import torch

        from edgekit.core.settings import settings_from_dict
        from edgekit.train.family import find_family

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        manifest = bundle.manifest
        family = find_family(manifest.family)
        of_config = set(family.variants[manifest.variant].__dataclass_fields__)
        sizes = {name: value for name, value in manifest.config.items() if name in of_config}
        config = settings_from_dict(type(family.variants[manifest.variant]), sizes)
        loaded = family.model.random_model(config, "ctc", manifest.provenance["weights"]["seed"])
        self.signature = bundle.graph().signature
        self._module: Any = loaded.module.eval()
        if compiled:
            if shutil.which(os.environ.get("CXX", "g++")) is None:
                raise ImportError("a C++ compiler, which torch.compile needs")
            # once per shape: kernels for any length are slower, and so are weights that might change
            torch._inductor.config.freezing = True
            torch._dynamo.config.recompile_limit = 64
            self._module = torch.compile(self._module, dynamic=False)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            answers = self._module(*(torch.from_numpy(inputs[spec.name]) for spec in self.signature.inputs))
        return {spec.name: answer.numpy() for spec, answer in zip(self.signature.outputs, answers)}


class OfSherpa:
    """sherpa-onnx with the bundle's files for it: the same model, its own features, ONNX Runtime and decoding."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        import sherpa_onnx

        self._files = {
            name: [str(bundle.checked(file)) for file in bundle.artifact(name, "sherpa", "fp32").files]
            for name in ("infer", "stream")
        }
        self._threads, self._online = threads, sherpa_onnx.OnlineRecognizer
        model, tokens = self._files["infer"]
        self._recogniser = sherpa_onnx.OfflineRecognizer.from_zipformer_ctc(
            model=model, tokens=tokens, num_threads=threads
        )
        self._streaming: Any = None

    def answer(self, waves: Sequence[Float32]) -> Answer:
        cpu_start, start = time.process_time(), time.perf_counter()
        streams = []
        for wave in waves:
            stream = self._recogniser.create_stream()
            stream.accept_waveform(SAMPLE_RATE, wave)
            streams.append(stream)
        computed = time.perf_counter()
        if len(streams) == 1:
            self._recogniser.decode_stream(streams[0])
        else:
            self._recogniser.decode_streams(streams)
        decoded = time.perf_counter()
        texts = [" ".join(stream.result.text.split()) for stream in streams]
        end, cpu_end = time.perf_counter(), time.process_time()
        return Answer(
            texts,
            wall_ms=1e3 * (end - start),
            cpu_ms=1e3 * (cpu_end - cpu_start),
            features_ms=1e3 * (computed - start),
            session_ms=1e3 * (decoded - computed),
            decoding_ms=1e3 * (end - decoded),
        )

    def live(self, chunk_s: float) -> Live:
        if self._streaming is None:
            model, tokens = self._files["stream"]
            self._streaming = self._online.from_zipformer2_ctc(
                model=model,
                tokens=tokens,
                num_threads=self._threads,
                enable_endpoint_detection=True,
            )
        return OfSherpaStream(self._streaming)


class OfSherpaStream:
    """sherpa-onnx's stream, with an end-point as its examples use it. Its chunk is the file's."""

    def __init__(self, recogniser: Any) -> None:
        self._recogniser, self._stream = recogniser, recogniser.create_stream()

    def accept(self, block: Float32) -> None:
        self._stream.accept_waveform(SAMPLE_RATE, block)
        while self._recogniser.is_ready(self._stream):
            self._recogniser.decode_stream(self._stream)
        self._recogniser.get_result(self._stream)
        if self._recogniser.is_endpoint(self._stream):
            self._recogniser.reset(self._stream)
