"""What is recognised: recordings joined to one long one, of which everybody gets the same pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips

Float32 = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000
MOST_S = 600.0
"""Enough for pieces that differ; more is not read."""
_SUFFIXES = {".flac", ".mp3", ".ogg", ".opus", ".wav"}


def join(paths: Sequence[Path]) -> Float32:
    """Recordings one after the other, folders in the order of their files' names.

    Args:
        paths: recordings and folders of them; none: the sample clips, which are synthesised.

    Raises:
        SystemExit: there is none.
    """
    files: list[Path] = []
    for path in paths:
        files += sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES) if path.is_dir() else [path]
    waves: list[Float32] = []
    for file in files if paths else sample_clips():
        waves.append(load_audio(file, SAMPLE_RATE))
        if sum(map(len, waves)) > MOST_S * SAMPLE_RATE:
            break
    if not waves:
        raise SystemExit(f"expected recordings ({', '.join(sorted(_SUFFIXES))}), received {', '.join(map(str, paths))}")
    return np.concatenate(waves)


def piece(speech: Float32, start_s: float, audio_s: float) -> Float32:
    """So many seconds from there on; where the speech ends it begins anew."""
    start, size = (round(seconds * SAMPLE_RATE) for seconds in (start_s, audio_s))
    return np.take(speech, np.arange(start, start + size), mode="wrap")


def pieces(speech: Float32, audio_s: float, count: int, turn: int) -> list[Float32]:
    """As many, others in each turn."""
    return [piece(speech, (turn * count + index) * audio_s, audio_s) for index in range(count)]
