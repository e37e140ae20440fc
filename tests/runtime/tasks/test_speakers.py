"""Several speakers in one open bundle: per request, per thread, in one batch; a toy whose answers are known exactly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import AudioError, BundleError, SignatureError, StoreError
from edgekit.core.record import Record
from edgekit.runtime.decode.decoding import Decoding
from edgekit.runtime.speakers import SpeakerVersion

pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

Install = Callable[..., Record]
Hears = Callable[[str], np.ndarray]
Speak = Callable[..., np.ndarray]


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture
def recogniser(backend: str, personal_toy: Path, tmp_path: Path, install: Install, hears: Hears) -> Any:
    """It knows anna, who says A where she means B, and ben, who says A where he means D."""
    for name, letters in (("anna", "BACD"), ("ben", "DBCA")):
        install(personal_toy, tmp_path / "store", name, hears(letters))
    return edgekit.load(personal_toy, backend=backend, store=tmp_path / "store")


@pytest.mark.device_side
def test_each_request_has_its_speaker(recogniser: Any, speak: Speak, hears: Hears) -> None:
    wave = speak("AB CAD"), 16000
    for _ in range(2):
        assert recogniser.transcribe(wave).text == "AB CAD"
        answer = recogniser.transcribe(wave, speaker="anna")
        assert answer.text == "BA CBD"
        assert answer.speaker == SpeakerVersion("anna", 1)
        assert recogniser.transcribe(wave, speaker="ben").text == "DB CDA"
        given = recogniser.transcribe(wave, speaker=hears("DCBA"))
        assert (given.text, given.speaker) == ("DC BDA", None)
    assert recogniser.transcribe(wave, speaker="ben", decoding=Decoding(beam=4)).text == "DB CDA"


@pytest.mark.device_side
def test_what_is_told_of_a_speaker(recogniser: Any, speak: Speak) -> None:
    """The name stands where corpora have it, so that `adapt` can read it back."""
    data = recogniser.transcribe((speak("AB"), 16000), speaker="anna").to_json()
    assert (data["speaker"], data["speaker_version"], data["text"]) == ("anna", 1, "BA")
    assert not {"speaker", "speaker_version"} & set(recogniser.transcribe((speak("AB"), 16000)).to_json())


@pytest.mark.device_side
def test_a_new_version_answers_the_next_request(
    recogniser: Any, personal_toy: Path, tmp_path: Path, install: Install, hears: Hears, speak: Speak
) -> None:
    wave = speak("AB"), 16000
    assert recogniser.transcribe(wave, speaker="anna").text == "BA"
    install(personal_toy, tmp_path / "store", "anna", hears("CDAB"))
    answer = recogniser.transcribe(wave, speaker="anna")
    assert (answer.text, answer.speaker) == ("CD", SpeakerVersion("anna", 2))


@pytest.mark.device_side
def test_threads_with_speakers_of_their_own(recogniser: Any, speak: Speak) -> None:
    wave = speak("AB CAD"), 16000
    expected = {"anna": "BA CBD", "ben": "DB CDA", None: "AB CAD"}
    wrong = []

    def ask(speaker: str | None) -> None:
        for _ in range(20):
            answer = recogniser.transcribe(wave, speaker=speaker)
            if answer.text != expected[speaker]:
                wrong.append((speaker, answer.text))

    threads = [threading.Thread(target=ask, args=(speaker,)) for speaker in expected for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.device_side
@pytest.mark.parametrize("decoding", [None, Decoding(beam=4)], ids=["greedy", "beam"])
def test_a_batch_answers_as_each_alone(
    recogniser: Any, speak: Speak, hears: Hears, decoding: Decoding | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many speakers and lengths, more than go together, and one that is longer than a window."""
    draw = np.random.default_rng(0)
    given = hears("DCBA")
    speakers = ["anna", "ben", None, given]
    texts = ["".join(draw.choice(list("ABCD "), draw.integers(2, 12))) + "A" for _ in range(37)]
    requests = [((speak(text, frames_each=3), 16000), speakers[i % 4]) for i, text in enumerate(texts)]
    requests.insert(5, ((np.resize(speak("AB CAD "), 16000 * 25), 16000), "anna"))
    sizes = _sizes_of_calls(recogniser, monkeypatch)
    together = recogniser.transcribe_batch(requests, decoding=decoding)
    assert sorted(sizes, reverse=True)[:3] == [(16, 16), (16, 16), (5, 5)]
    assert len(together) == len(requests)
    for (audio, speaker), answer in zip(requests, together):
        alone = recogniser.transcribe(audio, speaker=speaker, decoding=decoding)
        assert (answer.text, answer.speaker, answer.audio_s) == (alone.text, alone.speaker, alone.audio_s)
        assert [asdict(word) for word in answer.words] == [
            {**asdict(word), "confidence": pytest.approx(word.confidence, abs=1e-5)} for word in alone.words
        ]
        assert answer.compute_s > 0


@pytest.mark.device_side
def test_one_row_of_weights_for_one_speaker(
    recogniser: Any, speak: Speak, hears: Hears, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = _sizes_of_calls(recogniser, monkeypatch)
    audio, given = (speak("AB"), 16000), hears("DCBA")
    for speaker, text in (("anna", "BA"), (None, "AB"), (given, "DC")):
        assert [answer.text for answer in recogniser.transcribe_batch([(audio, speaker)] * 3)] == [text] * 3
    assert sizes == [(3, 1)] * 3
    assert recogniser.transcribe_batch([]) == []


@pytest.mark.device_side
def test_a_batch_with_what_cannot_be_answered(recogniser: Any, speak: Speak) -> None:
    audio = speak("AB"), 16000
    with pytest.raises(StoreError, match="received 'carl'"):
        recogniser.transcribe_batch([(audio, "anna"), (audio, "carl")])
    with pytest.raises(AudioError, match="at least"):
        recogniser.transcribe_batch([(audio, "anna"), ((np.zeros(9, np.float32), 16000), None)])


@pytest.mark.device_side
def test_a_batch_without_theta(toy_bundle: Path, speak: Speak) -> None:
    recogniser = edgekit.load(toy_bundle)
    texts = ["AB", "CAD BAD", "D"]
    answers = recogniser.transcribe_batch([((speak(text), 16000), None) for text in texts])
    assert [answer.text for answer in answers] == texts
    with pytest.raises(BundleError, match="take none"):
        recogniser.transcribe_batch([((speak("AB"), 16000), "anna")])
    with pytest.raises(BundleError, match="take none"):
        recogniser.transcribe((speak("AB"), 16000), speaker="anna")


@pytest.mark.device_side
def test_values_that_do_not_fit(recogniser: Any, speak: Speak) -> None:
    with pytest.raises(SignatureError, match=r"expected finite values of theta float32\[6\]"):
        recogniser.transcribe((speak("AB"), 16000), speaker=np.zeros(5, np.float32))


def noise(seconds: float, seed: int = 0) -> tuple[np.ndarray, int]:
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, round(16000 * seconds))
    return samples.astype(np.float32), 16000


@pytest.fixture
def two(personal_bundle: Path) -> np.ndarray:
    """Two thetas [2, P] that can be heard."""
    adaptation = open_bundle(personal_bundle).manifest.adaptation
    assert adaptation is not None
    return (0.5 * np.random.default_rng(0).standard_normal((2, adaptation.layout.size))).astype(np.float32)


def test_zeros_are_the_core(personal_bundle: Path, core_bundle: Path, two: np.ndarray) -> None:
    """Of the same weights: the same words at the same times, log-probabilities within 1e-5 (on x86, none differs)."""
    frames = []
    for bundle, speaker in ((core_bundle, None), (personal_bundle, None), (personal_bundle, np.zeros_like(two[0]))):
        recogniser = edgekit.load(bundle)
        weights = None if speaker is None else recogniser.speakers.find(speaker).weights
        frames.append(recogniser._graph.run(noise(3)[0], weights)[0][0].frames)
        answer = recogniser.transcribe(noise(3), speaker=speaker, allow_random_weights=True)
        assert [word.text for word in answer.words] == answer.text.split()
    np.testing.assert_allclose(frames[1], frames[0], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(frames[2], frames[1])


def test_a_conformer_in_a_batch(backend: str, personal_bundle: Path, two: np.ndarray) -> None:
    recogniser = edgekit.load(personal_bundle, backend=backend)
    requests = [(noise(0.5 + 0.4 * i, i), (two[0], None, two[1])[i % 3]) for i in range(7)]
    together = recogniser.transcribe_batch(requests, allow_random_weights=True)
    texts = set()
    for (audio, speaker), answer in zip(requests, together):
        alone = recogniser.transcribe(audio, speaker=speaker, allow_random_weights=True)
        assert [(word.text, word.start_s, word.end_s) for word in answer.words] == [
            (word.text, word.start_s, word.end_s) for word in alone.words
        ]
        texts.add(recogniser.transcribe(noise(3), speaker=speaker, allow_random_weights=True).text)
    assert len(texts) == 3


def _sizes_of_calls(recogniser: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Filled with how many items and how many rows of theta each later call of the graph has."""
    sizes: list[tuple[int, int]] = []
    run = recogniser.session.run

    def counted(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        sizes.append((len(inputs["x"]), len(inputs["theta"])))
        return run(inputs)

    monkeypatch.setattr(recogniser.session, "run", counted)
    return sizes
