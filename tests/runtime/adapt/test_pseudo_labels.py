"""Only what the model is sure of is learned, cut where nobody speaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import edgekit
from edgekit.core.bundle import Bundle
from edgekit.core.errors import AudioError
from edgekit.runtime.adapt.examples import ExampleMaker, Recorded, read_data
from edgekit.runtime.adapt.labels import read_labels
from edgekit.runtime.adapt.pseudo_labels import label
from edgekit.runtime.decode.ctc import Word
from edgekit.runtime.tasks.speech_recognition import Transcript

pytestmark = pytest.mark.device_side

Speak = Callable[..., np.ndarray]


def recorded(path: Path, wave: np.ndarray) -> Recorded:
    soundfile.write(path, wave, 16000, subtype="FLOAT")
    return read_data([path])[0][0]


def heard(*words: tuple[str, float, float, float]) -> Callable[[np.ndarray, int], Transcript]:
    return lambda wave, rate: Transcript("", tuple(Word(*word) for word in words), len(wave) / rate, 0.1)


def maker(bundle: Bundle, longest_s: float = 20.0, cache_mib: float = 0.0) -> ExampleMaker:
    return ExampleMaker(bundle, read_labels(bundle), longest_s, cache_mib)


def test_the_models_own_words(opened: Bundle, tmp_path: Path, speak: Speak) -> None:
    pytest.importorskip("onnxruntime", reason="needs a backend")
    recogniser = edgekit.load(opened.path)
    made, skipped = label(
        recorded(tmp_path / "a.wav", speak("AB CAD")),
        maker(opened),
        lambda wave, rate: recogniser.transcribe((wave, rate)),
        0.9,
    )
    assert [(example.id, example.text) for example in made] == [(str(tmp_path / "a.wav"), "AB CAD")]
    assert skipped == []
    np.testing.assert_array_equal(made[0].features(), speak("AB CAD"))


def test_what_it_is_not_sure_of(opened: Bundle, tmp_path: Path, speak: Speak) -> None:
    one = recorded(tmp_path / "a.wav", speak("AB C"))
    words = (("AB", 0.1, 0.5, 0.9), ("C", 0.8, 0.9, 0.5))
    assert [example.text for example in label(one, maker(opened), heard(*words), 0.7)[0]] == ["AB C"]
    made, (skipped,) = label(one, maker(opened), heard(*words), 0.71)
    assert made == []
    assert skipped.reason == "confidence of 0.70, below 0.71"
    made, (skipped,) = label(one, maker(opened), heard(), 0.0)
    assert (made, skipped.reason) == ([], "no word was heard")


def test_a_long_recording_is_cut_at_its_pauses(opened: Bundle, tmp_path: Path) -> None:
    """Five words in 60 s; the pause before the fourth is the longest, that within reach of the middle."""
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 60 * 16000).astype(np.float32)
    words = (
        ("A", 2.0, 3.0, 0.99), ("B", 8.0, 20.0, 0.99), ("C", 21.0, 24.0, 0.2), ("D", 44.0, 50.0, 0.99),
        ("A", 51.0, 52.0, 0.99),
    )  # fmt: skip
    made, skipped = label(recorded(tmp_path / "a.wav", wave), maker(opened, 25.0), heard(*words), 0.6)
    assert [example.text for example in made] == ["A B C", "D A"]
    assert all(example.duration_s <= 25 for example in made)
    for example in made:
        start, stop = map(int, example.id.split("[")[1].removesuffix("]").split(":"))
        np.testing.assert_array_equal(example.features(), wave[start:stop])
        assert example.duration_s == pytest.approx((stop - start) / 16000)
    assert skipped == []
    made, skipped = label(recorded(tmp_path / "a.wav", wave), maker(opened, 15.0), heard(*words), 0.6)
    assert [example.text for example in made] == ["A", "B", "D A"]
    assert [each.reason.split(": ")[1] for each in skipped] == ["confidence of 0.20, below 0.6"]


def test_a_word_that_is_too_long_is_left_out(opened: Bundle, tmp_path: Path) -> None:
    wave = np.zeros(30 * 16000, np.float32)
    words = (("A", 1.0, 28.0, 0.99),)
    made, (skipped,) = label(recorded(tmp_path / "a.wav", wave), maker(opened, 10.0), heard(*words), 0.5)
    assert made == []
    assert skipped.reason == "0.7 to 28.3 s: expected at most 10 s, received 27.6 s"


def test_a_recording_that_breaks_off(opened: Bundle, tmp_path: Path, speak: Speak) -> None:
    one = recorded(tmp_path / "a.wav", speak("AB C"))
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:2000])
    with pytest.raises(AudioError):
        label(one, maker(opened), heard(), 0.5)
