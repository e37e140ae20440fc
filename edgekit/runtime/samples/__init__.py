"""Three short clips of synthesised English speech, 16 kHz mono FLAC, for trying, calibrating and checking a bundle."""

from __future__ import annotations

import json
from pathlib import Path

_FOLDER = Path(__file__).parent


def sample_clips() -> list[Path]:
    """The clips, shortest first: about 1.6 s, 3.0 s and 5.0 s."""
    return [_FOLDER / name for name in transcripts()]


def transcripts() -> dict[str, str]:
    """What is spoken in each clip, by file name, shortest first."""
    texts: dict[str, str] = json.loads((_FOLDER / "samples.json").read_text(encoding="utf-8"))
    return texts
