"""Features of a recording that goes on: block after block the same as of the whole."""

from __future__ import annotations

import math

import numpy as np

from edgekit.core.errors import BundleError
from edgekit.runtime.features import Features, Float32
from edgekit.runtime.features.fbank import Fbank


class Increments:
    """The filter bank of a waveform that comes in blocks.

    Args:
        features: of kind "kaldi-fbank".

    Attributes:
        end: the sample after the last one that frame 0 reads; every later frame reads one shift further.

    Raises:
        BundleError: another kind, which needs the whole recording.
    """

    def __init__(self, features: Features) -> None:
        if not isinstance(features.compute, Fbank):
            raise BundleError("expected filter bank features to stream, received features of a whole recording")
        self._fbank, config = features.compute, features.compute.config
        self._shift, self._snip_edges = config.frame_shift, config.snip_edges
        # where frame 0 begins, and how many frames before one are needed that it reads no mirrored sample
        self._origin = 0 if config.snip_edges else config.frame_shift // 2 - config.frame_length // 2
        self.end = self._origin + config.frame_length
        self._context = math.ceil(-self._origin / config.frame_shift)
        self._wave = np.empty(0, np.float32)
        self._begin = self._done = 0

    def feed(self, block: Float32, *, last: bool = False) -> Float32:
        """The frames [T, M] that the next samples, float32 [n] in [-1, 1], complete; T may be 0.

        Args:
            last: the recording ends here: frames that reach over its end are given too.
        """
        self._wave = np.concatenate((self._wave, block))
        num_samples = self._begin * self._shift + len(self._wave)
        ready = max(0, (num_samples - self.end) // self._shift + 1)
        if last and not self._snip_edges:
            ready = self._fbank.num_frames(num_samples)
        first, ready = self._done - self._begin, max(ready, self._done)
        frames = self._fbank(self._wave)[first : ready - self._begin]
        self._done = ready
        begin = max(0, ready - self._context)
        self._wave = self._wave[(begin - self._begin) * self._shift :]
        self._begin = begin
        return frames
