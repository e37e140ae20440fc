"""A small spoken corpus in which each letter is a tone, and a silent reporter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

TONES = {"A": 300.0, "B": 700.0, "C": 1500.0, "D": 3000.0}
RATE = 16_000


def tones(text: str, rng: np.random.Generator) -> np.ndarray:
    """80 ms of a letter's tone, 60 ms of quiet noise between letters, more at a space."""
    parts = []
    for letter in text:
        gap = rng.normal(0, 0.003, int(0.06 * RATE * (3 if letter == " " else 1)))
        parts.append(gap)
        if letter != " ":
            time = np.arange(int(0.08 * RATE)) / RATE
            parts.append(0.3 * np.sin(2 * np.pi * TONES[letter] * time) + rng.normal(0, 0.003, len(time)))
    return np.concatenate([*parts, rng.normal(0, 0.003, 1000)]).astype(np.float32)


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 utterances of four speakers in LibriSpeech's layout, half a minute in all."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    for speaker in range(1, 5):
        chapter = folder / str(speaker) / "1"
        chapter.mkdir(parents=True)
        lines = []
        for index in range(6):
            words = ["".join(rng.choice(list(TONES), rng.integers(1, 4))) for _ in range(rng.integers(1, 4))]
            name = f"{speaker}-1-{index:04d}"
            soundfile.write(chapter / f"{name}.flac", tones(" ".join(words), rng), RATE)
            lines.append(f"{name} {' '.join(words)}\n")
        (chapter / f"{speaker}-1.trans.txt").write_text("".join(lines))
    return folder


class Silent:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[int] = []

    def begin(self, what: str, done: int, total: int) -> None:
        self.said.append(f"{what} {done}/{total}")

    def step(self, done: int, numbers: dict[str, float]) -> None:
        self.steps.append(done)

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def silent() -> Silent:
    return Silent()
