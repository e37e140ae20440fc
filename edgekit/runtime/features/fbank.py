"""Kaldi's log-mel filter bank (feat/feature-fbank.cc), vectorised over frames in NumPy.

N samples, T frames, L samples per frame, F points of the Fourier transform, M mel bins.
Without dither, without the energy column, with the Povey window and the power spectrum.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

# Few enough that a block's buffers (0.9 MB at 16 kHz) stay in cache, many enough that NumPy's calls cost little beside
# what they compute. `python benchmarks/features.py` measures the whole.
_FRAMES_PER_BLOCK = 128
# NumPy 1 transforms in float64, into a new array.
_NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


@dataclass(frozen=True)
class FbankConfig:
    """What a filter bank computes; the defaults are Kaldi's, with 80 bins.

    Attributes:
        sample_rate: Hz.
        num_mel_bins: M, at least 3 and at most F.
        frame_length_ms: L, rounded down to whole samples, at most a second; F is the next power of two.
        frame_shift_ms: from one frame's start to the next.
        snip_edges: only frames that lie wholly inside; else one frame per shift, with the edges mirrored.
        low_freq: lower edge of the first mel bin, Hz.
        high_freq: upper edge of the last, Hz; zero or negative: as much below Nyquist's frequency.
        scale: samples in [-1, 1] are multiplied by it; 32768 is the 16-bit range that Kaldi's models were trained in.
        preemphasis: y[i] = x[i] - preemphasis * x[i - 1].
        remove_dc_offset: subtract each frame's mean first.
        energy_floor: the logarithm's least argument; Kaldi's is float32's epsilon.

    Raises:
        ValueError: no frame or no mel bin is possible with these values.
    """

    sample_rate: int = 16000
    num_mel_bins: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    snip_edges: bool = True
    low_freq: float = 20.0
    high_freq: float = 0.0
    scale: float = 32768.0
    preemphasis: float = 0.97
    remove_dc_offset: bool = True
    energy_floor: float = float(np.finfo(np.float32).eps)

    def __post_init__(self) -> None:
        if not 2 <= self.frame_length <= self.sample_rate or self.frame_shift < 1:
            raise ValueError(
                f"expected frames of two samples to one second and a shift of one sample or more; received "
                f"{self.frame_length_ms} ms every {self.frame_shift_ms} ms at {self.sample_rate} Hz"
            )
        if not 3 <= self.num_mel_bins <= self.num_fft:
            raise ValueError(f"expected num_mel_bins of 3 to {self.num_fft}, received {self.num_mel_bins}")
        nyquist = self.sample_rate / 2
        if not 0 <= self.low_freq < self.upper_freq <= nyquist:
            raise ValueError(
                f"expected 0 <= low_freq < high_freq <= {nyquist:g} Hz, received {self.low_freq:g} and "
                f"{self.high_freq:g} (that is {self.upper_freq:g} Hz)"
            )
        if not 0 <= self.preemphasis <= 1:
            raise ValueError(f"expected preemphasis in 0..1, received {self.preemphasis}")
        if not (self.scale > 0 and self.energy_floor > 0):
            raise ValueError(f"expected a positive scale and energy_floor, received {self.scale}, {self.energy_floor}")

    @property
    def frame_length(self) -> int:
        """L, samples per frame."""
        return int(self.sample_rate * 0.001 * self.frame_length_ms)

    @property
    def frame_shift(self) -> int:
        """Samples from one frame's start to the next."""
        return int(self.sample_rate * 0.001 * self.frame_shift_ms)

    @property
    def num_fft(self) -> int:
        """F, the least power of two that holds a frame."""
        return 1 << (self.frame_length - 1).bit_length()

    @property
    def upper_freq(self) -> float:
        """The upper edge of the last mel bin, Hz."""
        return self.high_freq if self.high_freq > 0 else self.sample_rate / 2 + self.high_freq

    @property
    def min_samples(self) -> int:
        """The fewest samples that give one frame."""
        return self.frame_length if self.snip_edges else self.frame_shift - self.frame_shift // 2

    def num_frames(self, num_samples: int) -> int:
        """T, the frames of a recording of N samples."""
        if self.snip_edges:
            return max(0, (num_samples - self.frame_length) // self.frame_shift + 1)
        return (num_samples + self.frame_shift // 2) // self.frame_shift


class _Buffers(threading.local):
    """Scratch for one block, kept: made anew in every call, it would be fresh pages from the system each time."""

    def __init__(self, config: FbankConfig) -> None:
        num_points = config.num_fft // 2 + 1
        self.cut = np.empty((_FRAMES_PER_BLOCK, config.frame_length), np.float32)
        # Only a frame's own samples are ever written: the rest is the transform's padding.
        self.padded = np.zeros((_FRAMES_PER_BLOCK, config.num_fft), np.float32)
        self.spectrum = np.empty((_FRAMES_PER_BLOCK, num_points), np.complex64)
        self.power = np.empty((_FRAMES_PER_BLOCK, num_points), np.float32)


class Fbank:
    """The filter bank of one configuration; its tables are made once, its buffers once per thread.

    Args:
        config: what to compute.

    Raises:
        ValueError: more mel bins than the transform can tell apart.
    """

    def __init__(self, config: FbankConfig | None = None) -> None:
        self.config = config = config or FbankConfig()
        # The window is zero at a frame's first sample, the one without a predecessor to pre-emphasise with.
        self._window = (povey_window(config.frame_length)[1:] * config.scale).astype(np.float32)
        self._mean = np.full(config.frame_length, 1 / config.frame_length, np.float32)
        self._mel = _in_strips(mel_weights(config))
        self._buffers = _Buffers(config)

    def __reduce__(self) -> tuple[type[Fbank], tuple[FbankConfig]]:
        return type(self), (self.config,)

    def num_frames(self, num_samples: int) -> int:
        """T, the frames of a recording of N samples."""
        return self.config.num_frames(num_samples)

    def __call__(self, waveform: Float32) -> Float32:
        """The log-mel features of one recording.

        Args:
            waveform: float32 [N], in [-1, 1].

        Returns:
            float32 [T, M], natural logarithms; [0, M] where it is shorter than one frame.

        Raises:
            ValueError: not float32 or not of one dimension.
        """
        if waveform.ndim != 1 or waveform.dtype != np.float32:
            raise ValueError(f"expected a waveform float32[N], received {waveform.dtype}{list(waveform.shape)}")
        config = self.config
        waveform = np.ascontiguousarray(waveform)
        num_frames = config.num_frames(len(waveform))
        log_mel_TM = np.empty((num_frames, config.num_mel_bins), np.float32)
        buffers = self._buffers
        origin = 0 if config.snip_edges else config.frame_shift // 2 - config.frame_length // 2
        for first in range(0, num_frames, _FRAMES_PER_BLOCK):
            block = log_mel_TM[first : first + _FRAMES_PER_BLOCK]
            count = len(block)
            start = origin + first * config.frame_shift
            samples = _mirrored(waveform, start, start + (count - 1) * config.frame_shift + config.frame_length)
            self._window_frames(samples, buffers.cut[:count], buffers.padded[:count, : config.frame_length - 1])
            power = _power(buffers.padded[:count], buffers.spectrum[:count], buffers.power[:count])
            for points, bins, weights in self._mel:
                np.matmul(power[:, points], weights, out=block[:, bins])
            np.maximum(block, np.float32(config.energy_floor), out=block)
            np.log(block, out=block)
        return log_mel_TM

    def _window_frames(self, samples: Float32, cut: Float32, out: Float32) -> None:
        """Cut frames from contiguous samples, centre, pre-emphasise and window them, in Kaldi's order.

        `cut` [block, L] is scratch; `out` [block, L - 1] lacks the first sample, whose window is zero, and so is one
        sample early, which changes phases only.
        """
        config = self.config
        # Overlapping rows of one buffer: what sliding_window_view gives, without its checks of every block.
        cut[:] = np.ndarray(cut.shape, np.float32, samples, strides=(4 * config.frame_shift, 4))
        if config.remove_dc_offset:
            cut -= (cut @ self._mean)[:, None]
        np.multiply(cut[:, :-1], np.float32(config.preemphasis), out=out)
        np.subtract(cut[:, 1:], out, out=out)
        out *= self._window


def povey_window(length: int) -> npt.NDArray[np.float64]:
    """Kaldi's default window, float64 [length]: a Hann window to the power 0.85, zero at both ends."""
    hann: npt.NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * math.pi / (length - 1) * np.arange(length))
    return np.power(hann, 0.85)


def mel_weights(config: FbankConfig) -> Float32:
    """Triangles on the mel scale, float32 [F / 2, M]; Nyquist's frequency has no weight (feat/mel-computations.cc).

    In float32 and in Kaldi's order, rounding included: some low bins are narrower than the transform's resolution, so
    that their weights are small differences of large numbers.

    Raises:
        ValueError: a bin so narrow that no point of the transform lies in it; Kaldi refuses it too.
    """
    low, high = _mel(np.array([config.low_freq, config.upper_freq], np.float32))
    step = (high - low) / np.float32(config.num_mel_bins + 1)
    edges = low + np.arange(config.num_mel_bins + 2, dtype=np.float32) * step
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    resolution = np.float32(config.sample_rate / config.num_fft)
    at = _mel(np.arange(config.num_fft // 2, dtype=np.float32) * resolution)[:, None]
    triangles: Float32 = np.minimum((at - left) / (centre - left), (right - at) / (right - centre))
    weights = np.ascontiguousarray(np.maximum(triangles, 0))
    if not weights.any(axis=0).all():
        raise ValueError(
            f"expected mel bins of at least {resolution:g} Hz, the transform's resolution; received num_mel_bins of "
            f"{config.num_mel_bins} in {config.low_freq:g}..{config.upper_freq:g} Hz"
        )
    return weights


def _mel(hz: Float32) -> Float32:
    scaled: Float32 = np.float32(1127.0) * np.log(np.float32(1.0) + hz / np.float32(700.0))
    return scaled


def _mirrored(waveform: Float32, start: int, stop: int) -> Float32:
    """Samples start..stop, where those outside are mirrored at the edges, again and again if need be."""
    size = len(waveform)
    if start >= 0 and stop <= size:
        return waveform[start:stop]
    index = np.arange(start, stop) % (2 * size)
    return waveform[np.minimum(index, 2 * size - 1 - index)]


def _in_strips(weights: Float32) -> list[tuple[slice, slice, Float32]]:
    """Mel weights as (points, bins, weights[points, bins]), leaving out most zeros, which need no product."""
    strips = []
    for bins in np.array_split(np.arange(weights.shape[1]), min(4, weights.shape[1])):
        points = np.flatnonzero(weights[:, bins].any(axis=1))
        rows, columns = slice(points[0], points[-1] + 1), slice(bins[0], bins[-1] + 1)
        strips.append((rows, columns, np.ascontiguousarray(weights[rows, columns])))
    return strips


def _power(frames: Float32, spectrum: npt.NDArray[np.complex64], out: Float32) -> Float32:
    """The power spectrum [block, F / 2 + 1] of [block, F], in `out`; `spectrum` is scratch."""
    if _NUMPY_2:
        np.fft.rfft(frames, axis=1, out=spectrum)  # type: ignore[arg-type]  # the stubs know complex128 only
    else:
        spectrum[:] = np.fft.rfft(frames, axis=1)
    parts = spectrum.view(np.float32).reshape(*spectrum.shape, 2)
    np.multiply(parts, parts, out=parts)
    return np.add(parts[..., 0], parts[..., 1], out=out)
