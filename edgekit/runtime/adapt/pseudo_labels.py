"""Texts for recordings that have none: what the model itself is sure of (pseudo-labels, Lee 2013)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from edgekit.core.errors import DataError
from edgekit.runtime.adapt.examples import Example, ExampleMaker, Recorded
from edgekit.runtime.decode.ctc import Word
from edgekit.runtime.layouts import Skipped
from edgekit.runtime.tasks.speech_recognition import Transcript

Transcribe = Callable[[np.ndarray, int], Transcript]
"""A waveform float32 [n] and its sample rate to words with times and confidences."""

# of a pause, on both sides of a cut, and of sound before the first word and after the last one
_MARGIN_S = 0.3


def label(
    recorded: Recorded, maker: ExampleMaker, transcribe: Transcribe, confidence: float
) -> tuple[list[Example], list[Skipped]]:
    """The parts of one recording of whose words the model is sure.

    A recording that is longer than `maker.longest_s` is cut at its longest pauses first.

    Args:
        confidence: the lowest mean over a part's words, 0..1.

    Returns:
        Examples, and what was left out.

    Raises:
        AudioError: the recording cannot be read.
    """
    utterance = recorded.utterance
    wave, rate = maker.load(utterance.audio), maker.features.sample_rate
    transcript = transcribe(wave, rate)
    if not transcript.words:
        return [], [Skipped(utterance.audio, "no word was heard")]
    made, skipped = list[Example](), list[Skipped]()
    for start_s, end_s, words in _parts(transcript.words, len(wave) / rate, maker.longest_s):
        cut = (start_s, end_s) != (0.0, len(wave) / rate)
        where = f"{start_s:.1f} to {end_s:.1f} s: " if cut else ""
        mean = sum(word.confidence for word in words) / len(words)
        if mean < confidence:
            skipped.append(Skipped(utterance.audio, f"{where}confidence of {mean:.2f}, below {confidence:g}"))
            continue
        start, stop = round(start_s * rate), round(end_s * rate)
        id = f"{utterance.id} [{start}:{stop}]" if cut else utterance.id
        text = " ".join(word.text for word in words)
        try:
            made.append(maker.of_wave(id, utterance.audio, wave[start:stop], text, start))
        except DataError as error:
            skipped.append(Skipped(utterance.audio, where + error.message))
    return made, skipped


def _parts(
    words: Sequence[Word], audio_s: float, longest_s: float, start_s: float = 0.0
) -> list[tuple[float, float, Sequence[Word]]]:
    """Stretches of a recording of at most `longest_s` with the words in them: its start, its end, its words.

    What is too long is cut in two at the longest pause of its middle 60 %, and then again; silence at its ends is
    left out. A single word that is too long stays so.
    """
    if audio_s - start_s <= longest_s:
        return [(start_s, audio_s, words)]
    start_s = max(start_s, words[0].start_s - _MARGIN_S)
    end_s = min(audio_s, words[-1].end_s + _MARGIN_S)
    if end_s - start_s <= longest_s or len(words) < 2:
        return [(start_s, end_s, words)]
    low_s, high_s = (start_s + share * (end_s - start_s) for share in (0.2, 0.8))
    pauses = [
        (after.start_s - before.end_s, (after.start_s + before.end_s) / 2, place)
        for place, (before, after) in enumerate(pairwise(words), 1)
    ]
    _, cut_s, place = max([pause for pause in pauses if low_s <= pause[1] <= high_s] or pauses)
    return _parts(words[:place], cut_s, longest_s, start_s) + _parts(words[place:], end_s, longest_s, cut_s)
