"""Synthetic speech that the built-in weights learn from beside recordings: sentences of novels, and digits.

    python tools/builtin_speech.py novels.txt --without test.jsonl --sentences 12000 --out synthetic

Needs the programs pico2wave (SVOX Pico, Apache-2.0) and flite (its voices awb, rms, slt and kal16), and the package
scipy. The text is to be in the public domain; for the present weights it was Jane Austen's six novels (R package
janeaustenr). What shares six words in a row with a transcript of `--without` is left out. Written are `speech.jsonl`
and `digits.jsonl` with their recordings. Each is played at another speed, and said faster or slower against that, so
that every voice has nine sizes; half of them sound as in a room, all have noise.

A recording depends on its number alone: with a larger `--sentences` the call goes on, and it goes on after a kill.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from builtin_data import DIGITS, RATE, letters_of
from scipy.signal import fftconvolve, resample_poly

from edgekit.runtime.corpus import Corpus, Utterance, write_jsonl

VOICES = ("pico:en-US", "pico:en-GB", "flite:awb", "flite:rms", "flite:slt", "flite:kal16")
SIZES = (84, 88, 92, 96, 100, 104, 108, 112, 116)
"""Percent of the speed at which a voice is played: pitch and formants move with it."""

TITLES = {"Mr": "Mister", "Mrs": "Missus", "Dr": "Doctor"}
"""Whose full stop ends no sentence."""

_OVERLAP = 6


def sentences(text: str) -> Iterator[tuple[str, str]]:
    """Sentences of 4 to 30 words as they are said, and in letters; headings, and what has figures, are left out."""
    for paragraph in re.split(r"\n\s*\n", text):
        flat = re.sub(r"\s+", " ", paragraph).strip()
        if len(flat) <= 20 or re.match(r"(?i)(chapter|volume)\b", flat):
            continue
        plain = re.sub(r"\b(Mr|Mrs|Dr)\.", lambda found: TITLES[found[1]], flat.replace("_", "").replace("--", ", "))
        for said in re.split(r"(?<=[.!?;])[\"']?\s+", plain):
            letters = letters_of(said)
            if letters and 4 <= len(letters.split()) <= 30:
                yield said.strip("\"' "), letters


def shares_words(letters: str, known: set[tuple[str, ...]]) -> bool:
    """Whether six words in a row are among those."""
    return not known.isdisjoint(in_a_row(letters))


def in_a_row(letters: str) -> Iterator[tuple[str, ...]]:
    words = letters.split()
    return (tuple(words[start : start + _OVERLAP]) for start in range(len(words) - _OVERLAP + 1))


def spoken(text: str, voice: str, size: int, rate: float) -> np.ndarray:
    """A voice's wave at 16 kHz: played at `size` percent of its speed, and said `rate` times as fast as usual after
    that."""
    program, name = voice.split(":")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "said.wav")
        if program == "pico":
            plain = text.replace("&", "and").replace("<", " ")
            level = round(100 * rate / (size / 100))
            command = ["pico2wave", "-l", name, "-w", path, "--", f'<speed level="{level}">{plain}</speed>']
        else:
            stretch = f"duration_stretch={size / 100 / rate:.3f}"
            command = ["flite", "-voice", name, "--setf", stretch, "-t", text, "-o", path]
        subprocess.run(command, check=True, capture_output=True)
        wave, found = soundfile.read(path, dtype="float32")
    assert found == RATE, f"expected {RATE} Hz, received {found}"
    resampled: np.ndarray = resample_poly(wave, 100, size)
    return resampled


def recorded(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In a room or not, at some level, with some noise."""
    if rng.random() < 0.5:
        num = int(rng.uniform(0.1, 0.4) * RATE)
        echo = rng.standard_normal(num) * np.exp(-6.9 * np.arange(num) / num)
        echo *= rng.uniform(0.05, 0.3) / np.linalg.norm(echo)
        echo[0] = 1
        wave = fftconvolve(wave, echo)[: len(wave)]
    wave = wave / max(1e-4, np.abs(wave).max()) * rng.uniform(0.1, 0.7)
    noise = rng.standard_normal(len(wave)) * np.sqrt(np.mean(wave**2)) * 10 ** (-rng.uniform(20, 45) / 20)
    return np.clip(wave + noise, -1, 1).astype(np.float32)


def trimmed(wave: np.ndarray, before_s: float, after_s: float) -> np.ndarray:
    """With so much of the silence around it, at most."""
    loud = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max())
    return wave[max(0, loud[0] - int(before_s * RATE)) : loud[-1] + int(after_s * RATE)]


def speak(texts: Sequence[tuple[str, str]], folder: Path, *, digits: bool) -> Iterator[Utterance]:
    """A recording of each text; digits without silence around them, and as narrow as a telephone."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (text, letters) in enumerate(texts):
        rng = np.random.default_rng([int(digits), number])
        voice, size = VOICES[rng.integers(len(VOICES))], int(rng.choice(SIZES))
        path = folder / f"{number}.wav"
        if not path.exists():
            wave = spoken(text, voice, size, rng.uniform(0.7, 1.35) if digits else rng.uniform(0.85, 1.2))
            if digits:
                wave = trimmed(wave, *rng.uniform(0, 0.12, 2))
                wave = resample_poly(resample_poly(wave, 1, 2), 2, 1)
            soundfile.write(path, recorded(wave, rng), RATE, subtype="PCM_16")
        duration_s = soundfile.info(str(path)).duration
        if duration_s < 16:
            yield Utterance(path.stem, path, duration_s, letters, f"synthetic-{voice.split(':')[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="paragraphs with empty lines between")
    parser.add_argument("--without", type=Path, nargs="*", default=[], help="JSON lines of what is tested on")
    parser.add_argument("--sentences", type=int, default=12_000)
    parser.add_argument("--digits", type=int, default=720)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = [line for path in given.without for line in path.read_text(encoding="utf-8").splitlines()]
    known = {words for line in lines for words in in_a_row(json.loads(line)["text"])}
    novel = {letters: text for text, letters in sentences(given.text.read_text(encoding="utf-8"))}
    kept = [(text, letters) for letters, text in novel.items() if not shares_words(letters, known)]
    chosen = [kept[index] for index in np.random.default_rng(7).permutation(len(kept))[: given.sentences]]
    digits = [(DIGITS[number % 10].lower(), DIGITS[number % 10]) for number in range(given.digits)]
    for name, texts in (("speech", chosen), ("digits", digits)):
        corpus = Corpus(tuple(speak(texts, given.out / name, digits=name == "digits")))
        write_jsonl(given.out / f"{name}.jsonl", corpus)
        hours = sum(utterance.duration_s for utterance in corpus.utterances) / 3600
        print(f"{name}: {len(corpus.utterances)} recordings, {hours:.2f} h")


if __name__ == "__main__":
    main()
