"""Speech to text: CTC log-probabilities, decoded greedily or by beam search, with word times; long recordings too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError
from edgekit.core.signature import Axis
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.decode.beam import PrefixBeam
from edgekit.runtime.decode.ctc import Token, Word, greedy, join_windows, merge_windows, words
from edgekit.runtime.decode.decoding import Decoder, Decoding
from edgekit.runtime.session import CheckedSession, open_session
from edgekit.runtime.streaming import Endpoint, SpeechStream
from edgekit.runtime.tasks.speech import Audio, SpeechGraph, Timing, Window

if TYPE_CHECKING:
    from edgekit.runtime.speakers import Known, Speaker, Speakers, SpeakerVersion

STREAM = "stream"
"""The graph that takes a recording in chunks."""


@dataclass(frozen=True)
class Transcript:
    """What was said.

    Attributes:
        text: all words.
        words: each with start and end in seconds and a confidence in 0..1.
        audio_s: length of the recording.
        compute_s: features, inference and decoding together; of a recording in a batch, its share.
        speaker: whose weights answered, where a name was given.
        rtf: real-time factor, `compute_s / audio_s`.
    """

    text: str
    words: tuple[Word, ...]
    audio_s: float
    compute_s: float
    speaker: SpeakerVersion | None = None

    @property
    def rtf(self) -> float:
        return self.compute_s / self.audio_s

    def to_json(self) -> dict[str, Any]:
        """Plain data: `text`, `words`, `audio_s`, `compute_s`, `rtf`, and of a speaker `speaker` and `speaker_version`.

        Times of words are in whole milliseconds.
        """
        words = [{key: round(v, 3) if isinstance(v, float) else v for key, v in asdict(w).items()} for w in self.words]
        data: dict[str, Any] = {**asdict(self), "words": words, "rtf": self.rtf}
        del data["speaker"]
        return data if self.speaker is None else {**data, **self.speaker.to_json()}


class SpeechRecognition:
    """A speech recogniser. Make one with `edgekit.load(bundle)`.

    Args:
        session: what answers in the place of the bundle's first graph, with its signature; None: an artifact does.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str | None,
        options: SessionOptions,
        store: Path | str | None = None,
        *,
        session: CheckedSession | None = None,
    ) -> None:
        output = bundle.manifest.output
        if output.get("kind") != "ctc":
            raise BundleError(
                f"expected an output of kind 'ctc', received {output.get('kind')!r}", hint="pip install -U edgekit"
            )
        self.bundle, self._backend, self._options, self._store = bundle, backend, options, store
        self._graph = SpeechGraph(bundle, session or open_session(bundle, backend=backend, options=options))
        self._stream_session: CheckedSession | None = None
        self.labels, self._blank, self._delimiter = _labels(bundle, self._graph.width)
        self._decoder: Decoder | None = None

    @property
    def session(self) -> Any:
        """The open session: its backend, device and precision."""
        return self._graph.session

    @cached_property
    def speakers(self) -> Speakers:
        """Whom the store knows for this bundle's core."""
        from edgekit.runtime.speakers import Speakers  # which most processes never need, nor the store

        return Speakers(self.bundle, self._store)

    def search(self, decoding: Decoding) -> PrefixBeam:
        """A beam search over frames of this bundle; what it needs is made once, until another `decoding` is given.

        Raises:
            DecodingError: hotwords or a language model that do not fit the bundle's labels.
        """
        if self._decoder is None or self._decoder.decoding != decoding:
            self._decoder = Decoder(decoding, self.labels, self._blank, self._delimiter)
        return self._decoder.start()

    def transcribe(
        self,
        audio: Audio,
        *,
        speaker: Speaker | None = None,
        decoding: Decoding | None = None,
        allow_random_weights: bool = False,
    ) -> Transcript:
        """Recognise one recording. Threads may share this object, each with a speaker of its own.

        Args:
            audio: a file that soundfile reads, or `(samples [n] or [n, channels], sample_rate)`.
            speaker: a name in the store, whose version in use answers, or values of theta, float32 `[P]`; None: the
                core alone.
            decoding: a beam search, with hotwords or a language model; None: greedy.
            allow_random_weights: answer although the weights are random and the words mean nothing.

        Raises:
            AudioError: it cannot be read, or is shorter than one frame.
            BundleError: the weights are random, or there is a speaker and the graph takes nobody's weights.
            StoreError, SignatureError: a speaker that is unknown or does not fit; see `Speakers.find`.
            DecodingError: as `search`.
        """
        require_trained(self.bundle, allow_random_weights)
        search = None if decoding is None else self.search(decoding)
        known = None if speaker is None else self.speakers.find(speaker)
        wave = self._graph.load(audio)
        answered, timing = self._graph.run(wave, None if known is None else known.weights)
        return self._transcript(answered, timing, search, known)

    def transcribe_batch(
        self,
        requests: Sequence[tuple[Audio, Speaker | None]],
        *,
        decoding: Decoding | None = None,
        allow_random_weights: bool = False,
    ) -> list[Transcript]:
        """Recognise recordings of several speakers, those of up to a window's length together.

        Args:
            requests: each a recording and its speaker, as in `transcribe`. All are held in memory.
            decoding, allow_random_weights: as in `transcribe`.

        Returns:
            What `transcribe` answers to each, in the order of the requests.

        Raises:
            EdgekitError: as `transcribe`, of the first request that cannot be answered; then none is.
        """
        require_trained(self.bundle, allow_random_weights)
        if decoding is not None:
            self.search(decoding)
        speakers = [speaker for _, speaker in requests]
        known: list[Known | None] = [None] * len(requests)
        if any(speaker is not None for speaker in speakers):
            known = self.speakers.find_all(speakers)
        weights = [None if each is None else each.weights for each in known]
        waves = [self._graph.load(audio) for audio, _ in requests]
        answers: dict[int, tuple[list[Window], Timing]] = {}
        # of like length together: what is padded is computed too
        short = sorted((i for i, wave in enumerate(waves) if self._graph.fits(wave)), key=lambda i: len(waves[i]))
        size = self._graph.max_together
        for start in range(0, len(short), size):
            part = short[start : start + size]
            together = self._graph.run_together([waves[i] for i in part], [weights[i] for i in part])
            answers.update(zip(part, together))
        for i, wave in enumerate(waves):
            if i not in answers:
                answers[i] = self._graph.run(wave, weights[i])
        return [
            self._transcript(*answers[i], None if decoding is None else self.search(decoding), known[i])
            for i in range(len(requests))
        ]

    def stream(
        self,
        sample_rate: float,
        *,
        speaker: Speaker | None = None,
        decoding: Decoding | None = None,
        endpoint: Endpoint | None = Endpoint(),  # noqa: B008  (it is frozen)
        chunk_s: float | None = None,
        allow_random_weights: bool = False,
    ) -> SpeechStream:
        """Recognise while it is spoken; several streams may go on side by side, each in a thread or in turns.

        Args:
            sample_rate: of the samples that will come, Hz.
            speaker: as in `transcribe`; a version that is installed meanwhile answers the next stream.
            decoding: a beam search for each utterance; None: greedy.
            endpoint: when an utterance is over; None: when the stream is.
            chunk_s: seconds of sound per chunk; None: what the bundle holds for best.
            allow_random_weights: as in `transcribe`.

        Raises:
            BundleError: it holds no graph that streams, or random weights.
            AudioError: a sample rate that no recording has.
            StoreError, SignatureError: a speaker that is unknown or does not fit; see `Speakers.find`.
            DecodingError: as `search`.
        """
        require_trained(self.bundle, allow_random_weights)
        if STREAM not in self.bundle.manifest.graphs:
            raise BundleError(
                f"expected a graph {STREAM!r} in {self.bundle.path}, {self.bundle.manifest.family} has none",
                hint="a disconformer streams: edgekit export disconformer",
            )
        known = None if speaker is None else self.speakers.find(speaker)
        if self._stream_session is None:
            self._stream_session = open_session(self.bundle, STREAM, backend=self._backend, options=self._options)
        return SpeechStream(
            self._stream_session,
            self._graph.features,
            self.labels,
            self._blank,
            self._delimiter,
            sample_rate=sample_rate,
            search=None if decoding is None else partial(self.search, decoding),
            endpoint=endpoint,
            chunk_s=chunk_s,
            weights=self._graph.no_weights if known is None else known.weights,
            speaker=None if known is None else known.version,
        )

    def _transcript(
        self, answered: Sequence[Window], timing: Timing, search: PrefixBeam | None, known: Known | None
    ) -> Transcript:
        before = time.perf_counter()
        tokens = self._tokens(answered, search)
        spoken = words(tokens, self.labels, delimiter=self._delimiter, frame_s=self._graph.frame_s)
        compute_s = _total(timing) + time.perf_counter() - before
        speaker = None if known is None else known.version
        return Transcript(" ".join(word.text for word in spoken), tuple(spoken), timing.audio_s, compute_s, speaker)

    def _tokens(self, answered: Sequence[Window], search: PrefixBeam | None) -> Sequence[Token]:
        frames, spans = [window.frames for window in answered], [window.span for window in answered]
        if search is None:
            return merge_windows([greedy(part, self._blank) for part in frames], spans)
        # frames are joined and not answers: a phrase may lie across the cut, and two beams need not agree on one
        search.advance(join_windows(frames, spans))
        return search.best()[0].tokens


def require_trained(bundle: Bundle, allow_random_weights: bool) -> None:
    """Raise `BundleError` for answers from random weights, unless they were asked for."""
    if bundle.manifest.weights == "random" and not allow_random_weights:
        raise BundleError(
            f"{bundle.path} was exported with random weights: its words would mean nothing",
            hint="export a checkpoint, or pass --allow-random-weights to see the machinery run",
        )


def _labels(bundle: Bundle, num_classes: Axis) -> tuple[list[str], int, str]:
    """One label per class of the output, the blank among them, and the delimiter of words."""
    asset = bundle.asset("tokens")
    try:
        # not splitlines(): a label may be a character that counts as a line's end there
        labels = asset.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"expected labels in UTF-8, one a line, received {asset}: {error}") from error
    blank, delimiter = (bundle.manifest.output.get(key) for key in ("blank", "delimiter"))
    if len(labels) != num_classes or type(blank) is not int or not 0 <= blank < len(labels):
        raise BundleError(
            f"expected {num_classes} labels and a blank among them, received {len(labels)} and {blank!r}",
            hint=f"export it again: edgekit export {bundle.manifest.family}",
        )
    if not isinstance(delimiter, str):
        raise BundleError(f"expected output.delimiter to be the label between words, received {delimiter!r}")
    return labels, blank, delimiter


def _total(timing: Timing) -> float:
    return timing.features_s + timing.inference_s


def open_task(
    bundle: Bundle, backend: str | None, options: SessionOptions, store: Path | str | None
) -> SpeechRecognition:
    return SpeechRecognition(bundle, backend, options, store)
