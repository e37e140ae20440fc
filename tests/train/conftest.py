"""A small spoken corpus in which each letter is a tone, pictures of coloured blots, and a silent reporter."""

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


BLOTS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40), "yellow": (230, 220, 50)}


@pytest.fixture(scope="session")
def blots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class, 12 pictures in each: a blot of the class' colour somewhere on noise, PNG of 30 x 34 to 40."""
    image = pytest.importorskip("PIL.Image", reason="pictures are written with Pillow")
    folder, rng = tmp_path_factory.mktemp("blots"), np.random.default_rng(0)
    for name, colour in BLOTS.items():
        (folder / name).mkdir()
        for index in range(12):
            picture = rng.integers(90, 150, (30, 34 + index // 2, 3), np.uint8)
            top, left = rng.integers(2, 14, 2)
            picture[top : top + 12, left : left + 12] = colour
            image.fromarray(picture).save(folder / name / f"{index:02d}.png")
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
