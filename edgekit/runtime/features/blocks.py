"""Sound as it comes: blocks of samples of a file, of a pipe, or of a microphone."""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from edgekit.core.errors import AudioError, UnavailableError

BLOCK_S = 0.1
PIPE_RATE = 16_000
"""Of 16-bit mono samples from a pipe, which has no header to say it."""

Block = npt.NDArray[np.float32]


@contextmanager
def file_blocks(path: Path) -> Iterator[tuple[int, Iterator[Block]]]:
    """A recording's sample rate and its blocks [n, channels].

    Raises:
        AudioError: it cannot be read.
    """
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            size = max(1, round(BLOCK_S * file.samplerate))
            yield file.samplerate, file.blocks(size, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"expected a recording that can be read, received {path}: {error}") from error


def pipe_blocks(pipe: BinaryIO) -> Iterator[Block]:
    """16-bit little-endian mono samples at `PIPE_RATE`, as they come."""
    rest = b""
    while got := os.read(pipe.fileno(), 2 * round(BLOCK_S * PIPE_RATE)):
        whole = len(rest) + len(got) - (len(rest) + len(got)) % 2
        data, rest = (rest + got)[:whole], (rest + got)[whole:]
        yield np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


@contextmanager
def microphone_blocks() -> Iterator[tuple[int, Iterator[Block]]]:
    """The default microphone's sample rate and its blocks, without end.

    Raises:
        UnavailableError: no package to listen with, or no microphone.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there and its PortAudio library is not
        raise UnavailableError(
            f"expected the package sounddevice to listen, received: {error}",
            hint='pip install "edgekit[microphone]", on Debian also apt install libportaudio2; '
            "or pipe the sound in: arecord -q -f S16_LE -r 16000 | edgekit transcribe --stream -",
        ) from error
    blocks: queue.SimpleQueue[Block] = queue.SimpleQueue()

    def put(data: Any, frames: int, time: Any, status: Any) -> None:
        blocks.put(data.copy())

    try:
        rate = int(sounddevice.query_devices(kind="input")["default_samplerate"])
        with sounddevice.InputStream(rate, round(BLOCK_S * rate), channels=1, dtype="float32", callback=put):
            yield rate, iter(blocks.get, None)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UnavailableError(f"expected a microphone, received: {error}", hint="python -m sounddevice") from error
