"""Speech to one vector per frame: the encoder's hidden states; long recordings in windows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.session import open_session
from edgekit.runtime.tasks.speech import Audio, SpeechGraph


@dataclass(frozen=True)
class Embedding:
    """Hidden states of a recording.

    Attributes:
        frames: `[T, D]` float32.
        frame_s: seconds between two frames.
        audio_s: length of the recording.
        compute_s: features and inference together.
    """

    frames: np.ndarray
    frame_s: float
    audio_s: float
    compute_s: float


class SpeechEmbedding:
    """An encoder of speech. Make one with `edgekit.load(bundle)`."""

    def __init__(self, bundle: Bundle, backend: str | None, options: SessionOptions) -> None:
        self.bundle = bundle
        self._graph = SpeechGraph(bundle, open_session(bundle, backend=backend, options=options))

    @property
    def session(self) -> Any:
        """The open session: its backend, device and precision."""
        return self._graph.session

    def embed(self, audio: Audio) -> Embedding:
        """Encode one recording; where windows of a long one overlap, each half comes from the nearer window.

        Raises:
            AudioError: it cannot be read, or is shorter than one frame.
        """
        wave = self._graph.load(audio)
        answered, timing = self._graph.run(wave)
        cuts = [(left.span[1] + right.start) // 2 for left, right in pairwise(answered)]
        spans = zip([0, *cuts], [*cuts, answered[-1].span[1]])
        parts = [
            window.frames[first - window.start : last - window.start] for window, (first, last) in zip(answered, spans)
        ]
        frames = np.concatenate(parts)
        return Embedding(frames, self._graph.frame_s, timing.audio_s, timing.features_s + timing.inference_s)


def open_task(
    bundle: Bundle, backend: str | None, options: SessionOptions, store: Path | str | None
) -> SpeechEmbedding:
    del store  # an encoder has no speakers
    return SpeechEmbedding(bundle, backend, options)
