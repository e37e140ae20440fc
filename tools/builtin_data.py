"""The lists that the built-in weights learn from: transcribed, pseudo-labelled and cut recordings, and digits.

    python tools/builtin_data.py --librispeech librispeech --unlabelled librispeech-unlabelled \\
        --digits fsdd/recordings --whisper faster-whisper-base --out lists

Needs the packages faster-whisper and pocketsphinx beside edgekit. `--librispeech` has LibriSpeech's layout and a
`splits.json`: {"train": {"subset", "speakers"}, "validation": ...}. Written are

    whole.jsonl       the training speakers' recordings, and the others with what Whisper hears in place of a transcript
    pieces.jsonl      the same cut between words into one to five seconds, and the digits
    digits.jsonl      the digits, but for the official test part (index 0 to 4)
    validation.jsonl  the validation speakers' recordings

A small model learns to align letters and sound in minutes from pieces, and in hours from whole recordings.
"""

from __future__ import annotations

import argparse
import json
import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from edgekit.runtime.corpus import Corpus, Utterance, read_corpus, write_jsonl
from edgekit.runtime.features.audio import load_audio

RATE = 16_000
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
MIN_LOG_PROB = -0.7
"""Of Whisper's answer, the mean of its tokens; what it is less sure of is left out."""

LETTERS_PER_S = (5.0, 25.0)
# a rough sound for each letter of a word that the dictionary lacks: good enough to find where it begins and ends
_PHONES = "AE B K D EH F G HH IH JH K L M N AA P K R S T AH V W K Y Z"
PHONES = dict(zip(string.ascii_lowercase, _PHONES.split(" ")))


@dataclass(frozen=True)
class Spoken:
    """A word and its times, in seconds."""

    text: str
    start_s: float
    end_s: float


def letters_of(text: str) -> str | None:
    """Upper-case words of letters and apostrophes; None where digits or signs stand for words."""
    text = text.replace("’", "'").upper()
    for short, long in (("MR.", "MISTER"), ("MRS.", "MISSUS"), ("DR.", "DOCTOR")):
        text = text.replace(short, long)
    if re.search(r"[0-9$&%£@]", text):
        return None
    return " ".join(re.sub(r"[^A-Z' ]", "", re.sub(r"[-—–/]", " ", text)).split()) or None


def pseudo_labelled(corpus: Corpus, whisper: Path) -> Iterator[Utterance]:
    """The recordings with what Whisper hears, where it is sure and can be spelled."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(whisper), device="cpu", compute_type="int8", cpu_threads=1)
    for utterance in corpus.utterances:
        wave = load_audio(utterance.audio, RATE)
        segments = list(model.transcribe(wave, language="en", beam_size=5, condition_on_previous_text=False)[0])
        text = letters_of(" ".join(segment.text for segment in segments))
        sure = segments and np.mean([segment.avg_logprob for segment in segments]) >= MIN_LOG_PROB
        if text and sure and LETTERS_PER_S[0] < len(text) / utterance.duration_s < LETTERS_PER_S[1]:
            yield replace(utterance, text=text)


class Aligner:
    """Word times of a known text, by pocketsphinx."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        # wide beams: a name that the dictionary lacks is a bad match
        self._decoder = Decoder(lm=None, loglevel="FATAL", beam=1e-80, wbeam=1e-60, pbeam=1e-80)

    def __call__(self, wave: np.ndarray, text: str) -> list[Spoken] | None:
        """The words with their times; None where no alignment was found."""
        words, decoder = text.lower().split(), self._decoder
        for word in set(words):
            if decoder.lookup_word(word) is None:
                decoder.add_word(word, " ".join(PHONES[c] for c in word if c in PHONES) or "AH", True)
        try:
            decoder.set_align_text(" ".join(words))
            decoder.start_utt()
            decoder.process_raw((wave * 32767).astype("<i2").tobytes(), full_utt=True)
            decoder.end_utt()
            found: Sequence[Any] = list(decoder.seg()) if decoder.hyp() else []
        except RuntimeError:
            return None
        spoken = [
            Spoken(segment.word.split("(")[0], segment.start_frame / 100, (segment.end_frame + 1) / 100)
            for segment in found
            if not segment.word.startswith(("<", "["))
        ]
        return spoken if [word.text for word in spoken] == words else None


def pieces(words: Sequence[Spoken], duration_s: float, rng: np.random.Generator) -> Iterator[tuple[float, float, str]]:
    """Start, end and text of pieces of about one to four seconds, cut where the pauses are long."""
    first = 0
    while first < len(words):
        wanted_s, best, best_score = rng.uniform(1.0, 4.0), first, -np.inf
        for last in range(first, len(words)):
            length_s = words[last].end_s - words[first].start_s
            pause_s = words[last + 1].start_s - words[last].end_s if last + 1 < len(words) else 1.0
            score = 10 * min(pause_s, 0.3) - abs(length_s - wanted_s)
            if score > best_score:
                best, best_score = last, score
            if length_s > wanted_s + 2:
                break
        before = words[first - 1].end_s if first else 0.0
        after = words[best + 1].start_s if best + 1 < len(words) else duration_s
        start_s = max((before + words[first].start_s) / 2, words[first].start_s - 0.3)
        end_s = min((words[best].end_s + after) / 2, words[best].end_s + 0.3)
        yield start_s, end_s, " ".join(word.text for word in words[first : best + 1]).upper()
        first = best + 1


def cut(corpus: Corpus, folder: Path) -> Iterator[Utterance]:
    """The pieces of recordings, written to a folder; what cannot be aligned is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    aligner, rng = Aligner(), np.random.default_rng(0)
    for utterance in corpus.utterances:
        wave = load_audio(utterance.audio, RATE)
        words = aligner(wave, utterance.text or "")
        for index, (start_s, end_s, text) in enumerate(pieces(words or (), len(wave) / RATE, rng)):
            part = wave[int(start_s * RATE) : int(end_s * RATE)]
            path = folder / f"{utterance.audio.stem}-{index}.flac"
            soundfile.write(path, part, RATE)
            yield Utterance(path.stem, path, len(part) / RATE, text, utterance.speaker)


def digits(folder: Path) -> Iterator[Utterance]:
    """`<digit>_<speaker>_<index>.wav` from index 5 on: the others are the official test part."""
    for path in sorted(folder.glob("*.wav")):
        digit, speaker, index = path.stem.split("_")
        if int(index) >= 5:
            info = soundfile.info(str(path))
            yield Utterance(path.stem, path, info.frames / info.samplerate, DIGITS[int(digit)], f"fsdd-{speaker}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("librispeech", "unlabelled", "digits", "whisper", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    splits = json.loads((given.librispeech / "splits.json").read_text(encoding="utf-8"))
    part: dict[str, tuple[Utterance, ...]] = {}
    for name in ("train", "validation"):
        corpus = read_corpus(given.librispeech / splits[name]["subset"])
        part[name] = tuple(u for u in corpus.utterances if u.speaker in set(splits[name]["speakers"]))
    known = {utterance.audio.stem for name in part for utterance in part[name]}
    held = {utterance.speaker for utterance in part["validation"]}
    unlabelled = [
        u for u in read_corpus(given.unlabelled).utterances if u.audio.stem not in known and u.speaker not in held
    ]
    heard = tuple(pseudo_labelled(Corpus(tuple(unlabelled)), given.whisper))
    whole, spelled = Corpus((*part["train"], *heard)), tuple(digits(given.digits))
    given.out.mkdir(parents=True, exist_ok=True)
    lists = {
        "whole": whole,
        "pieces": Corpus((*cut(whole, given.out / "pieces"), *spelled)),
        "digits": Corpus(spelled),
        "validation": Corpus(part["validation"]),
    }
    for name, corpus in lists.items():
        write_jsonl(given.out / f"{name}.jsonl", corpus)
        hours = sum(utterance.duration_s for utterance in corpus.utterances) / 3600
        print(f"{name}: {len(corpus.utterances)} recordings, {hours:.2f} h")


if __name__ == "__main__":
    main()
