"""What is recognised: a corpus or a part of it, and the spoken digits' official test as a list of their own."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr.recognisers import SAMPLE_RATE
from edgekit.runtime.corpus import Utterance
from edgekit.runtime.features.audio import load_audio

DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
NUM_TEST = 5
"""Of each digit and speaker the recordings 0 to 4 are the official test."""


def list_digits(folder: Path, out: Path) -> None:
    """Write the official test of the free spoken digits as JSON lines.

    Args:
        folder: holds `<digit>_<speaker>_<index>.wav`.
        out: for `read_corpus`.

    Raises:
        SystemExit: none of them is there.
    """
    lines = []
    for audio in sorted(folder.absolute().glob("[0-9]_*_[0-9].wav")):
        digit, speaker, index = audio.stem.split("_")
        if int(index) < NUM_TEST:
            line = {"id": audio.stem, "audio": str(audio), "text": DIGITS[int(digit)], "speaker": speaker}
            lines.append(json.dumps(line) + "\n")
    if not lines:
        raise SystemExit(f"expected recordings named <digit>_<speaker>_<index>.wav in {folder}, found none")
    out.write_text("".join(lines), encoding="utf-8")


def spread(utterances: Sequence[Utterance], limit: int | None, seed: int) -> list[Utterance]:
    """At most `limit`, by ascending id: one of each speaker in turn, in an order that depends on the seed alone."""
    order = random.Random(seed)
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in order.sample(utterances, len(utterances)):
        by_speaker.setdefault(utterance.speaker or "", []).append(utterance)
    turns = [(turn, u) for spoken in by_speaker.values() for turn, u in enumerate(spoken)]
    chosen = [utterance for _, utterance in sorted(turns, key=lambda entry: entry[0])][:limit]
    return sorted(chosen, key=lambda utterance: utterance.id)


def pcm(utterance: Utterance) -> bytes:
    """Its samples as every contender gets them: 16 kHz, mono, signed little-endian 16 bit.

    Raises:
        AudioError: it cannot be read.
    """
    scaled = np.rint(load_audio(utterance.audio, SAMPLE_RATE) * 32768)
    return np.clip(scaled, -32768, 32767).astype("<i2").tobytes()
