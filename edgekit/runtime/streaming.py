"""Speech recognition while it is spoken: partial and final texts, with end-pointing by the CTC blanks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.core.errors import UsageError
from edgekit.runtime.chunks import Chunks, Runs, Stateful
from edgekit.runtime.decode.beam import PrefixBeam
from edgekit.runtime.decode.ctc import Token, Word, best_symbols, greedy, spells, words
from edgekit.runtime.features import Features
from edgekit.runtime.features.audio import Resampler, mono
from edgekit.runtime.features.increments import Increments

if TYPE_CHECKING:
    from edgekit.runtime.speakers import SpeakerVersion

_PAUSE_S = 0.12
"""In an utterance that is too long a pause this short ends it."""


@dataclass(frozen=True)
class Endpoint:
    """When an utterance is over.

    Attributes:
        silence_s: seconds without a letter after its last one.
        max_s: seconds after which the next pause is taken, and half as many again after which none is waited for.

    Raises:
        UsageError: a value that is not positive.
    """

    silence_s: float = 0.8
    max_s: float = 20.0

    def __post_init__(self) -> None:
        if not (self.silence_s > 0 and self.max_s > 0):
            raise UsageError(f"expected positive seconds for end-pointing, received {self.silence_s} and {self.max_s}")

    def reached(self, spoken_s: float, silence_s: float) -> bool:
        """Whether an utterance of so many seconds, the last of them silent, is over."""
        wanted = self.silence_s if spoken_s < self.max_s else min(_PAUSE_S, self.silence_s)
        return silence_s >= wanted or spoken_s >= 1.5 * self.max_s


@dataclass(frozen=True)
class Update:
    """What is known of the utterance that is being spoken.

    Attributes:
        final: it is over, and the next update is of another.
        text: all its words so far.
        words: with their times in the stream.
        audio_s: seconds of sound that were taken in.
        compute_s: what the newest chunk cost: inference and decoding.
        speaker: whose weights answer, where a name was given.
    """

    final: bool
    text: str
    words: tuple[Word, ...]
    audio_s: float
    compute_s: float
    speaker: SpeakerVersion | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, of a speaker `speaker` and `speaker_version`; times of words in whole milliseconds."""
        words = [{key: round(v, 3) if isinstance(v, float) else v for key, v in asdict(w).items()} for w in self.words]
        data = {**asdict(self), "words": words}
        del data["speaker"]
        return data if self.speaker is None else {**data, **self.speaker.to_json()}


@dataclass
class _Utterance:
    """What is being spoken: its first frame in the stream, all its frames, and those since its last letter."""

    start: int
    beam: PrefixBeam | None
    frames: list[np.ndarray] = field(default_factory=list)
    silence: int = 0
    words: list[Word] = field(default_factory=list)


class SpeechStream:
    """One speaker's sound in, updates out. Made by `SpeechRecognition.stream`.

    Args:
        session: a graph with state.
        features: its input.
        labels, blank, delimiter: as in `decode.ctc`.
        sample_rate: of the samples that will come, Hz.
        search: begins a beam search for an utterance; None: greedy.
        endpoint: when an utterance is over; None: never before `finish`, for recordings of minutes.
        chunk_s: seconds of sound per chunk, rounded to frames; None: what the graph holds for best.
        weights: what the graph's inputs of weights hold, from the first chunk to the last.
        speaker: whose they are.

    Attributes:
        chunk_s: seconds of sound per chunk.
        delay_s: the longest that a sound waits until its chunk is complete; computing comes on top.
        compute_s: of the newest chunks, at most 10,000: a stream may go on for days.
    """

    def __init__(
        self,
        session: Runs,
        features: Features,
        labels: list[str],
        blank: int,
        delimiter: str,
        *,
        sample_rate: float,
        search: Callable[[], PrefixBeam] | None = None,
        endpoint: Endpoint | None = None,
        chunk_s: float | None = None,
        weights: Mapping[str, np.ndarray] | None = None,
        speaker: SpeakerVersion | None = None,
    ) -> None:
        step_s = features.samples_per_step / features.sample_rate
        self._chunks = chunks = Chunks(session.signature)
        self._frame_s = chunks.frames.over * step_s
        if chunk_s is not None:
            num_frames = max(1, round(chunk_s / self._frame_s))
            # the first and the last step of a window, between which lie its frames' hops
            window = chunks.num_steps - chunks.hop
            self._chunks = chunks = Chunks(session.signature, window + num_frames * chunks.frames.over)
        self._graph, self._labels, self._blank, self._delimiter = Stateful(session), labels, blank, delimiter
        self._search, self._endpoint = search, endpoint
        self._weights, self._speaker = weights or {}, speaker
        self._resampler = Resampler(sample_rate, features.sample_rate)
        self._increments = Increments(features)
        # symbols that are silence: the blank, and what spells nothing
        self._silent = np.array([i == blank or not spells(label, delimiter)[1] for i, label in enumerate(labels)])
        self.chunk_s = chunks.num_frames * self._frame_s
        self.delay_s = (chunks.num_steps - 1) * step_s + self._increments.end / features.sample_rate
        self.compute_s: deque[float] = deque(maxlen=10_000)
        self._sample_rate, self._num_samples, self._num_frames = sample_rate, 0, 0
        self._steps: np.ndarray | None = None
        self._utterance = self._begin_utterance()

    def accept(self, samples: np.ndarray) -> list[Update]:
        """Take the next samples, float32 or float64 [n] or [n, channels] in [-1, 1].

        Returns:
            An update for each chunk that changed the text or ended the utterance; often none.

        Raises:
            AudioError: NaN, infinity or a range that is no sound's.
        """
        if not len(samples):
            return []
        block = mono(np.asarray(samples, np.float32).reshape(len(samples), -1), "the stream")
        self._num_samples += len(samples)
        return self._take(self._increments.feed(self._resampler.feed(block)), last=False)

    def finish(self) -> list[Update]:
        """The sound ends: what is left, and the final update if anything was said. The stream cannot go on."""
        rest = self._resampler.feed(np.empty(0, np.float32), last=True)
        updates = self._take(self._increments.feed(rest, last=True), last=True)
        if self._utterance.frames:
            updates += self._end_utterance(0.0)
        return updates

    def _take(self, steps: np.ndarray, *, last: bool) -> list[Update]:
        cut = self._chunks
        waiting = steps if self._steps is None else np.concatenate((self._steps, steps))
        updates = []
        while len(waiting) >= (cut.least if last else cut.num_steps):
            updates += self._compute(waiting[: cut.num_steps])
            waiting = waiting[cut.hop :]
        self._steps = waiting
        return updates

    def _compute(self, steps: np.ndarray) -> list[Update]:
        """The updates that one chunk brings."""
        begun = time.perf_counter()
        cut, now = self._chunks, self._utterance
        inputs = {cut.data.name: steps[None], cut.lengths.name: np.array([len(steps)], cut.lengths.dtype)}
        outputs = self._graph.step({**self._weights, **inputs})
        frames = outputs[cut.output.name][0, : int(outputs[cut.output_lengths.name][0])]
        now.frames.append(frames)
        if now.beam is not None:
            now.beam.advance(frames)
        spoken = np.flatnonzero(~self._silent[best_symbols(frames, self._blank)[0]])
        now.silence = len(frames) - 1 - int(spoken[-1]) if len(spoken) else now.silence + len(frames)
        self._num_frames += len(frames)
        spelled = self._spelled(ended=False)
        self.compute_s.append(time.perf_counter() - begun)
        spoken_s = (self._num_frames - now.start) * self._frame_s
        if self._endpoint is not None and self._endpoint.reached(spoken_s, now.silence * self._frame_s):
            return self._end_utterance(self.compute_s[-1])
        if [word.text for word in spelled] == [word.text for word in now.words]:
            return []
        now.words = spelled
        return [self._update(spelled, final=False, compute_s=self.compute_s[-1])]

    def _begin_utterance(self) -> _Utterance:
        return _Utterance(self._num_frames, None if self._search is None else self._search())

    def _end_utterance(self, compute_s: float) -> list[Update]:
        """The final update, if anything was said."""
        spelled = self._spelled(ended=True)
        self._utterance = self._begin_utterance()
        return [self._update(spelled, final=True, compute_s=compute_s)] if spelled else []

    def _spelled(self, *, ended: bool) -> list[Word]:
        now = self._utterance
        tokens: Sequence[Token]
        if now.beam is None:
            tokens = greedy(np.concatenate(now.frames), self._blank)
        else:
            tokens = now.beam.best(ended=ended)[0].tokens
        offset_s = now.start * self._frame_s
        return words(tokens, self._labels, delimiter=self._delimiter, frame_s=self._frame_s, offset_s=offset_s)

    def _update(self, spelled: Sequence[Word], *, final: bool, compute_s: float) -> Update:
        text = " ".join(word.text for word in spelled)
        audio_s = self._num_samples / self._sample_rate
        return Update(final, text, tuple(spelled), audio_s, compute_s, self._speaker)
