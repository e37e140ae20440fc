"""From recordings to text over a graph whose right answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.core.bundle import Bundle
from edgekit.core.errors import AudioError, BundleError, DecodingError
from edgekit.runtime.decode.decoding import Decoding
from edgekit.runtime.decode.hotwords import Hotword

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Speak = Callable[..., np.ndarray]


def test_text_and_word_times(toy_bundle: Path, speak: Speak, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speak("AB BAD"), 16000)
    transcript = edgekit.load(toy_bundle).transcribe(tmp_path / "a.wav")
    assert transcript.text == "AB BAD"
    # every letter stands for 5 frames of 20 ms, after 5 of blank
    assert [(w.text, round(w.start_s, 1), round(w.end_s, 1)) for w in transcript.words] == [
        ("AB", 0.1, 0.4),
        ("BAD", 0.7, 1.2),
    ]
    assert all(word.confidence > 0.99 for word in transcript.words)
    assert transcript.audio_s == pytest.approx(13 * 0.1)
    assert transcript.rtf == transcript.compute_s / transcript.audio_s > 0


def test_an_array_at_another_rate_is_resampled(toy_bundle: Path, speak: Speak) -> None:
    wave = np.repeat(speak("CAB"), 3)
    assert edgekit.load(toy_bundle).transcribe((wave, 48000)).text == "CAB"


@pytest.mark.parametrize("num_words", [100, 300, 600])
def test_a_long_recording_loses_and_doubles_no_word(toy_bundle: Path, speak: Speak, num_words: int) -> None:
    random = np.random.default_rng(num_words)
    words = ["".join(random.choice(list("ABCD"), random.integers(1, 6))) for _ in range(num_words)]
    text = " ".join(words)
    wave = speak(text, frames_each=2)
    recogniser = edgekit.load(toy_bundle)
    # longer than one window
    assert len(wave) > 20 * 16000
    greedy = recogniser.transcribe((wave, 16000))
    assert greedy.text == text
    searched = recogniser.transcribe((wave, 16000), decoding=Decoding(beam=4))
    assert searched.words == greedy.words


@pytest.mark.parametrize("num_samples", [320_001, 320_079, 320_080, 320_399, 320_400, 320_720, 576_001, 832_010])
def test_a_recording_may_end_anywhere_past_a_window(toy_bundle: Path, speak: Speak, num_samples: int) -> None:
    wave = np.resize(speak("AB CAD "), num_samples).astype(np.float32)
    words = edgekit.load(toy_bundle).transcribe((wave, 16000)).text.split()
    assert set(words[:-1]) == {"AB", "CAD"}
    assert words[:-1] == ["AB", "CAD"] * (len(words[:-1]) // 2) + ["AB"] * (len(words[:-1]) % 2)


def test_a_phrase_across_the_cut_of_two_windows(toy_bundle: Path, speak: Speak) -> None:
    # windows are 20 s and share 4: the first cut is at 18 s, inside the unclear A or B of "CA DD"
    before = np.resize(speak("AB "), 18 * 16000 - 320 * 6)
    unclear = 0.49 * speak(" CA DD ", frames_each=1) + 0.51 * speak(" CB DD ", frames_each=1)
    wave = np.concatenate([before, unclear, np.resize(speak("AB "), 16000 * 5)]).astype(np.float32)
    recogniser = edgekit.load(toy_bundle)
    assert "CB DD" in recogniser.transcribe((wave, 16000)).text
    hotword = (Hotword("ca dd", 3.0),)
    assert "CA DD" in recogniser.transcribe((wave, 16000), decoding=Decoding(hotwords=hotword)).text


def test_what_a_search_needs_is_made_once(toy_bundle: Path) -> None:
    recogniser = edgekit.load(toy_bundle)
    asked = {"hotwords": (Hotword("ab"),)}
    first, second = (recogniser.search(Decoding(**asked)) for _ in range(2))
    assert first is not second
    assert first._scorer is second._scorer
    assert recogniser.search(Decoding(**asked, hotwords_weight=2.0))._scorer is not first._scorer


def test_hotwords_that_do_not_fit_the_bundle(toy_bundle: Path, speak: Speak) -> None:
    with pytest.raises(DecodingError, match="'EVE'"):
        edgekit.load(toy_bundle).transcribe((speak("AB"), 16000), decoding=Decoding(hotwords=(Hotword("eve"),)))


def test_labels_that_do_not_fit_the_output(toy_with: Callable[..., Bundle]) -> None:
    output = {"kind": "ctc", "blank": 99, "delimiter": "|", "frame_s": 0.02}
    with pytest.raises(BundleError, match="expected 6 labels and a blank among them"):
        edgekit.load(toy_with(output=output).path)


def test_random_weights_answer_only_when_asked_to(toy_with: Callable[..., Bundle], speak: Speak) -> None:
    bundle = toy_with(provenance={"weights": {"source": "random", "seed": 0}})
    recogniser = edgekit.load(bundle.path)
    with pytest.raises(BundleError, match="random weights") as caught:
        recogniser.transcribe((speak("AB"), 16000))
    assert "--allow-random-weights" in str(caught.value.hint)
    assert recogniser.transcribe((speak("AB"), 16000), allow_random_weights=True).text == "AB"


def test_unusable_audio(toy_bundle: Path) -> None:
    recogniser = edgekit.load(toy_bundle)
    with pytest.raises(AudioError, match="400"):
        recogniser.transcribe((np.zeros(160, np.float32), 16000))
    with pytest.raises(AudioError):
        recogniser.transcribe((np.full(16000, np.nan, np.float32), 16000))


def test_a_task_from_the_future(toy_with: Callable[..., Bundle]) -> None:
    with pytest.raises(BundleError, match=r"speech-embedding or speech-recognition, .* is for 'telepathy'"):
        edgekit.load(toy_with(task="telepathy").path)


def test_an_output_that_is_not_ctc(toy_with: Callable[..., Bundle]) -> None:
    with pytest.raises(BundleError, match="kind 'ctc', received 'transducer'"):
        edgekit.load(toy_with(output={"kind": "transducer", "frame_s": 0.02}).path)
