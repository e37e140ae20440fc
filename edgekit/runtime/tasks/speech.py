"""Recordings through a speech graph: features, windows of a long recording, one array of frames per window."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError
from edgekit.core.signature import Derived, Dim, TensorSpec
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
    """Where the time of one recording went, in seconds; of recordings that were computed together, its share."""

    audio_s: float
    features_s: float
    inference_s: float


class SpeechGraph:
    """A bundle's graph over recordings, in an open session.

    Attributes:
        features: how a recording becomes its input.
        frame_s: seconds of sound per output frame.
        width: the size of the output's last axis.
        no_weights: what its inputs of weights hold where they are nobody's.

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
        self.no_weights = {spec.name: _zeros(spec) for spec in session.signature.weights}
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

    @property
    def max_together(self) -> int:
        """Recordings that `run_together` takes."""
        signature = self.session.signature
        firsts = [signature.batch, *(spec.shape[0] for spec in signature.weights)]
        return min(axis.max if isinstance(axis, Dim) else 1 for axis in firsts)

    def fits(self, wave: np.ndarray) -> bool:
        """Whether a waveform `[n]` is one window."""
        return len(wave) <= self._window

    def run_together(
        self, waves: Sequence[np.ndarray], weights: Sequence[Mapping[str, np.ndarray] | None]
    ) -> list[tuple[list[Window], Timing]]:
        """What `run` gives for each of several waveforms, in one call of the graph. Padding changes no answer.

        Args:
            waves: at most `max_together`, each of which `fits`; those of like length pad least.
            weights: each one's own. Where all have the same arrays, these go in once.
        """
        features, features_s = [], []
        for wave in waves:
            begun = time.perf_counter()
            features.append(self.features.compute(self.features.prepare(wave)))
            features_s.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        lengths = np.array([len(x) for x in features], self._lengths.dtype)
        padded = np.zeros((len(features), lengths.max(), *features[0].shape[1:]), features[0].dtype)
        for row, x in zip(padded, features):
            row[: len(x)] = x
        given = [self.no_weights if each is None else each for each in weights]
        joined = {name: _joined([each[name] for each in given]) for name in self.no_weights}
        outputs = self.session.run({self._data.name: padded, self._lengths.name: lengths, **joined})
        shares_s = (time.perf_counter() - begun) * lengths / lengths.sum()
        answered = zip(outputs[self._output.name], outputs[self._output_lengths.name])
        windows = [Window(0, frames[: int(num)]) for frames, num in answered]
        return [
            ([window], Timing(len(wave) / self.features.sample_rate, of_features_s, float(of_inference_s)))
            for window, wave, of_features_s, of_inference_s in zip(windows, waves, features_s, shares_s)
        ]

    def run(self, wave: np.ndarray, weights: Mapping[str, np.ndarray] | None = None) -> tuple[list[Window], Timing]:
        """All windows of a waveform `[n]`, in order.

        Args:
            weights: what the graph's inputs of weights hold; None: nobody's.
        """
        given = self.no_weights if weights is None else weights
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
            lengths = np.array([len(x)], self._lengths.dtype)
            outputs = self.session.run({self._data.name: x[None], self._lengths.name: lengths, **given})
            num_frames = int(outputs[self._output_lengths.name][0])
            answered.append(Window(start // self._hop, outputs[self._output.name][0, :num_frames]))
            features_s += between - before
            inference_s += time.perf_counter() - between
        return answered, Timing(len(wave) / rate, features_s, inference_s)


def _zeros(spec: TensorSpec) -> np.ndarray:
    return np.zeros([axis if isinstance(axis, int) else 1 for axis in spec.shape], spec.dtype)


def _joined(rows: Sequence[np.ndarray]) -> np.ndarray:
    """A row per item, or the one that all share."""
    return rows[0] if all(row is rows[0] for row in rows) else np.concatenate(rows)
