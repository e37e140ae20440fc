"""Recordings into mono float32 waveforms at a model's sample rate, and long ones into windows."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from edgekit.core.errors import AudioError

Float32 = npt.NDArray[np.float32]

MIN_RATE, MAX_RATE = 1_000, 768_000
"""Sample rates that are taken, in Hz. A wrong rate in a header would make hours of a second, or nothing of an hour."""

_FRAMES_PER_BLOCK = 1 << 16
# Lossy codecs and resampling overshoot full scale a little; floats far above it are integers that nobody divided.
_MAX_PEAK = 4.0
_FULL_SCALE = {"int16": 1 << 15, "int32": 1 << 31}
# libsndfile reads a cut file to its end in silence, but its log keeps both sizes: "data : 96000 (should be 47978)".
_DATA_SIZE = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
# What programs that write to a pipe put in place of a size they cannot know: 0x7FFFF000, 0xFFFFFFFF, ...
_UNKNOWN_SIZE = 0x7FFF0000


def load_audio(path: str | os.PathLike[str], sample_rate: int = 16000, *, min_samples: int = 1) -> Float32:
    """Read a recording: channels averaged, resampled (soxr, HQ), clipped to [-1, 1].

    Whatever libsndfile reads (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF, ...), block by block, so that only the mono
    result is held in memory. Two limits: an Ogg file does not say its length, so that a shortened one is read to where
    it ends; and of an MP3 without a length tag libsndfile reads as much as it guesses from the first frames.

    Args:
        path: the file.
        sample_rate: of the result, Hz.
        min_samples: the fewest samples of use, at `sample_rate`.

    Returns:
        float32 [n], about duration x sample_rate samples.

    Raises:
        AudioError: missing, a folder, unreadable, not audio, cut short or damaged, empty, NaN or infinite samples,
            floats far outside [-1, 1], or shorter than `min_samples`.
    """
    path = Path(path)
    _check_file(path)
    try:
        # a name need not be text
        with soundfile.SoundFile(os.fsencode(path)) as file:
            resampler, parts = Resampler(file.samplerate, sample_rate), []
            _check_data_size(path, file.extra_info)
            num_read = 0
            while len(block := file.read(_FRAMES_PER_BLOCK, dtype="float32", always_2d=True)):
                parts.append(resampler.feed(mono(block, f"{path} from frame {num_read}")))
                num_read += len(block)
            num_expected = file.frames
            states_length = file.format not in ("MP3", "MPEG") or _has_length_tag(path)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"expected a recording that can be decoded to its end, received {path}: {error.error_string}",
            hint=f"listen to it; if it plays, convert it: ffmpeg -i {path} -ac 1 {path.stem}.mono.flac",
        ) from error
    if num_read < num_expected and states_length:
        raise _cut_short(path, f"{num_expected} frames", str(num_read))
    return _long_enough(_finished(resampler, parts), sample_rate, min_samples, str(path))


def as_waveform(
    array: npt.ArrayLike, sample_rate: float, target: int = 16000, *, min_samples: int = 1, where: str = "the array"
) -> Float32:
    """What `load_audio` returns, from samples already in memory.

    Args:
        array: [n] or [n, channels] of float32 or float64 in [-1, 1], or of int16 or int32 over their full range.
        sample_rate: of `array`, Hz.
        target: of the result, Hz.
        min_samples: the fewest samples of use, at `target`.
        where: what to call the array in an error.

    Returns:
        float32 [n] in [-1, 1], never `array` itself.

    Raises:
        AudioError: another shape or dtype, no sample rate, or as `load_audio`.
    """
    samples = np.asarray(array)
    if samples.ndim not in (1, 2) or 0 in samples.shape[1:]:
        raise AudioError(f"expected samples [n] or [n, channels], received {where} {list(samples.shape)}")
    if samples.ndim == 2 and 0 < samples.shape[0] < samples.shape[1]:
        raise AudioError(
            f"expected samples [n, channels], received more channels than samples in {where} {list(samples.shape)}",
            hint="if it is [channels, n], as torchaudio gives, pass array.T",
        )
    if not (np.isfinite(sample_rate) and sample_rate > 0):
        raise AudioError(f"expected a positive sample rate in Hz, received {sample_rate} for {where}")
    name = samples.dtype.name
    if name in _FULL_SCALE:
        samples = (samples / _FULL_SCALE[name]).astype(np.float32)
    elif name in ("float32", "float64"):
        with np.errstate(over="ignore"):  # what does not fit in float32 becomes infinite, and is refused as that
            samples = samples.astype(np.float32)
    else:
        raise AudioError(f"expected samples of float32, float64, int16 or int32, received {name} in {where}")
    resampler, parts = Resampler(sample_rate, target), []
    if len(samples):
        parts.append(resampler.feed(mono(samples.reshape(len(samples), -1), where)))
    return _long_enough(_finished(resampler, parts), target, min_samples, where)


def normalise(waveform: Float32) -> Float32:
    """Zero mean and unit variance over the whole recording, (x - mean) / sqrt(variance + 1e-7), as float32 [n].

    The same as `zero_mean_unit_var_norm` of transformers' Wav2Vec2FeatureExtractor; silence stays zero.
    """
    scaled: Float32 = (waveform - waveform.mean()) / np.sqrt(waveform.var() + np.float32(1e-7))
    return scaled.astype(np.float32, copy=False)


def windows(num_samples: int, window: int, overlap: int, *, multiple_of: int = 1) -> list[tuple[int, int]]:
    """Cover a long recording with overlapping windows of equal length, the last one moved back to be full too.

    Args:
        num_samples: of the recording.
        window: samples of one window.
        overlap: the fewest samples that neighbours share.
        multiple_of: starts are multiples of it. With a model's samples per frame, the frames of all windows lie on one
            grid, as `decode.ctc.merge_windows` needs; the last window then lacks up to `multiple_of - 1` samples.

    Returns:
        (start, stop) in samples, ascending; one shorter window where the recording is shorter, none where it is empty.

    Raises:
        ValueError: the windows would not advance.
    """
    hop = (window - overlap) // multiple_of * multiple_of
    if overlap < 0 or hop <= 0:
        raise ValueError(
            f"expected 0 <= overlap <= window - {multiple_of}, received overlap {overlap} and window {window}"
        )
    if num_samples <= window:
        return [(0, num_samples)] if num_samples > 0 else []
    last = -(-(num_samples - window) // multiple_of) * multiple_of
    starts = [*range(0, last, hop), last]
    return [(start, min(start + window, num_samples)) for start in starts]


class Resampler:
    """Mono blocks at one rate in, blocks at another rate out.

    Args:
        source, target: rates, Hz.

    Raises:
        AudioError: a rate that no recording has.
    """

    def __init__(self, source: float, target: float) -> None:
        if not MIN_RATE <= source <= MAX_RATE:
            raise AudioError(
                f"expected a sample rate of {MIN_RATE} to {MAX_RATE} Hz, received {source:g}",
                hint="give the rate at which it was recorded",
            )
        self._stream = soxr.ResampleStream(source, target, 1, "float32", "HQ") if source != target else None

    def feed(self, block: Float32, *, last: bool = False) -> Float32:
        """What the next block, float32 [n], gives; not every block gives something, and the last one gives the rest."""
        given = block if self._stream is None else self._stream.resample_chunk(block, last=last)
        return np.clip(given, -1.0, 1.0)


def _finished(resampler: Resampler, parts: Sequence[Float32]) -> Float32:
    return np.concatenate([*parts, resampler.feed(np.empty(0, np.float32), last=True)])


def mono(block: Float32, where: str) -> Float32:
    """The mean over the channels of [n, channels], n > 0, after a look at its range."""
    mono: Float32 = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
    peak = np.abs(mono).max()
    if not np.isfinite(peak):
        raise AudioError(
            f"expected finite samples, received NaN or infinity in {where}", hint="record or export it again"
        )
    if peak > _MAX_PEAK:
        raise AudioError(
            f"expected samples in [-1, 1], received a peak of {peak:g} in {where}",
            hint="floats made from 16-bit integers are divided by 32768 first",
        )
    return mono


def _long_enough(waveform: Float32, sample_rate: int, min_samples: int, where: str) -> Float32:
    if len(waveform) < max(1, min_samples):
        raise AudioError(
            f"expected at least {max(1, min_samples)} samples ({max(1, min_samples) / sample_rate:.3f} s at "
            f"{sample_rate} Hz), received {len(waveform) or 'none'} in {where}",
            hint="leave out recordings this short",
        )
    return waveform


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"expected a recording, received a folder: {path}", hint="name the files inside it")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(
                f"expected a recording, received a pipe or device: {path}", hint="write it to a file first"
            )
        path.open("rb").close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AudioError(
            f"expected a recording that can be read, received {path}: {reason}", hint="look at its path and permissions"
        ) from error
    if status.st_size == 0:
        raise AudioError(
            f"expected a recording, received an empty file: {path}", hint="fetch or record it again, or leave it out"
        )
    if path.suffix.lower() == ".raw":
        raise AudioError(
            f"expected a recording with a header, received {path}",
            hint=f"say what it holds: ffmpeg -f s16le -ar 16000 -ac 1 -i {path} {path.stem}.flac",
        )


def _check_data_size(path: Path, log: str) -> None:
    """Hold the size in a WAV, AIFF or AU header to the bytes that follow it."""
    for declared, present in _DATA_SIZE.findall(log):
        if int(present) < int(declared) < _UNKNOWN_SIZE:
            raise _cut_short(path, f"{declared} bytes of samples", present)


def _has_length_tag(path: Path) -> bool:
    """Whether an MP3's first frame holds the length; without it libsndfile guesses, wrongly at variable rates."""
    with path.open("rb") as file:
        head = file.read(10)
        # ID3v2: its size is 28 bits, seven to a byte.
        start = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0)))
        file.seek(start if head.startswith(b"ID3") else 0)
        frame = file.read(192)
    return b"Xing" in frame or b"Info" in frame


def _cut_short(path: Path, expected: str, received: str) -> AudioError:
    return AudioError(
        f"expected {expected} as its header says, received {received} in {path}: it was cut short or is damaged",
        hint="fetch or copy it again",
    )
