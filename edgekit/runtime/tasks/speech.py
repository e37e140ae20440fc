"""Recordings through a speech graph: features, windows of a long recording, one array of frames per window."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError
from edgekit.core.signature import Derived, Dim
from edgekit.runtime.chunks import counted
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import as_waveform, load_audio, windows
from edgekit.runtime.session import CheckedSession

WINDOW_S = 20.0
"""A recording longer than this, or than the graph takes, is answered in windows that share a fifth with the next:
memory stays bounded, and each frame that is kept has at least a tenth of a window as context."""

_SAME_S = 1e-6

Audio = Union[Path, str, tuple[np.ndarray, int]]


@dataclass(frozen=True)
class Window:
    """A graph's answer to one stretch of a recording.

    Attributes:
        start: the recording's frame at which it begins.
        frames: `[T, D]`, the first output of the graph, valid frames only.
    """

    start: int
    frames: np.ndarray

    @property
    def span(self) -> tuple[int, int]:
        """Its first frame in the recording, and the one after its last."""
        return self.start, self.start + len(self.frames)


@dataclass(frozen=True)
class Timing:
    """Where the time of one recording went, in seconds."""

    audio_s: float
    features_s: float
    inference_s: float


class SpeechGraph:
    """A bundle's graph over recordings, in an open session.

    Attributes:
        features: how a recording becomes its input.
        frame_s: seconds of sound per output frame.
        width: the size of the output's last axis.

    Raises:
        BundleError: the manifest's features, signature and `frame_s` do not fit each other, or are no recording's.
    """

    def __init__(self, bundle: Bundle, session: CheckedSession) -> None:
        self.features = open_features(bundle.manifest.features)
        self.session = session
        self._data, self._lengths, steps = counted(session.signature.inputs, "an input")
        self._output, self._output_lengths, frames = counted(session.signature.outputs, "an output")
        if not isinstance(steps, Dim) or (frames.name if isinstance(frames, Dim) else frames.of) != steps.name:
            raise BundleError(f"expected frames that follow from {steps}, the axis of {self._data}; received {frames}")
        self._hop = self.features.samples_per_step * (frames.over if isinstance(frames, Derived) else 1)
        longest = steps.max * self.features.samples_per_step
        self._window = min(round(WINDOW_S * self.features.sample_rate), longest)
        self._overlap = self._window // 5
        if self._hop > self._window - self._overlap:
            raise BundleError(f"expected a graph of several frames, received {longest} samples of {self._hop} a frame")
        self.width = self._output.shape[-1]
        self.frame_s = self._hop / self.features.sample_rate
        described = bundle.manifest.output.get("frame_s")
        same = isinstance(described, (int, float)) and self.frame_s - _SAME_S <= described <= self.frame_s + _SAME_S
        if not same:
            raise BundleError(
                f"expected output.frame_s of {self.frame_s:g}, as features and signature say; received {described!r}",
                hint=f"export it again: edgekit export {bundle.manifest.family}",
            )

    def load(self, audio: Audio) -> np.ndarray:
        """A file, or `(samples, sample_rate)`, as this graph's waveform `[n]`.

        Raises:
            AudioError: it cannot be read, or is shorter than one frame.
        """
        if isinstance(audio, tuple):
            return as_waveform(*audio, self.features.sample_rate, min_samples=self.features.min_samples)
        return load_audio(audio, self.features.sample_rate, min_samples=self.features.min_samples)

    def run(self, wave: np.ndarray) -> tuple[list[Window], Timing]:
        """All windows of a waveform `[n]`, in order."""
        rate = self.features.sample_rate
        inference_s = 0.0
        begun = time.perf_counter()
        prepared = self.features.prepare(wave)
        features_s = time.perf_counter() - begun
        answered = []
        for start, stop in windows(len(wave), self._window, self._overlap, multiple_of=self._hop):
            before = time.perf_counter()
            x = self.features.compute(prepared[start:stop])
            between = time.perf_counter()
            outputs = self.session.run(
                {self._data.name: x[None], self._lengths.name: np.array([len(x)], self._lengths.dtype)}
            )
            num_frames = int(outputs[self._output_lengths.name][0])
            answered.append(Window(start // self._hop, outputs[self._output.name][0, :num_frames]))
            features_s += between - before
            inference_s += time.perf_counter() - between
        return answered, Timing(len(wave) / rate, features_s, inference_s)
