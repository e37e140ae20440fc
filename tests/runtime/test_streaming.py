"""Streaming: features block by block, chunks through a real graph, updates and their ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import open_bundle
from edgekit.core.errors import AudioError, BundleError, StoreError, UsageError
from edgekit.core.record import Record
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.runtime.chunks import InChunks
from edgekit.runtime.decode.ctc import greedy, words
from edgekit.runtime.decode.decoding import Decoding
from edgekit.runtime.decode.hotwords import Hotword
from edgekit.runtime.features import open_features
from edgekit.runtime.features.increments import Increments
from edgekit.runtime.session import open_session
from edgekit.runtime.speakers import SpeakerVersion
from edgekit.runtime.streaming import Endpoint, SpeechStream, Update

SHERPA = {"kind": "kaldi-fbank", "snip_edges": False, "high_freq": -400.0, "scale": 1.0, "min_samples": 1040}
KALDI = {"kind": "kaldi-fbank"}


@pytest.mark.parametrize("described", [SHERPA, KALDI])
@pytest.mark.parametrize("block", [37, 160, 399, 16000])
@pytest.mark.parametrize("num_samples", [50, 200, 8_123])
def test_features_of_blocks_are_those_of_the_whole(described: dict, block: int, num_samples: int) -> None:
    features = open_features(described)
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples).astype(np.float32)
    increments = Increments(features)
    parts = [increments.feed(wave[start : start + block]) for start in range(0, num_samples, block)]
    parts.append(increments.feed(np.empty(0, np.float32), last=True))
    np.testing.assert_allclose(np.concatenate(parts), features.compute(wave), rtol=1e-4, atol=1e-4)


def test_no_frame_waits_longer_than_its_samples() -> None:
    """Frame t of the filter bank that mirrors edges ends at 160 t + 280 samples."""
    increments = Increments(open_features(SHERPA))
    given = 0
    for total in range(40, 4000, 40):
        given += len(increments.feed(np.zeros(40, np.float32)))
        assert given == max(0, (total - 280) // 160 + 1)


def test_a_waveform_does_not_stream() -> None:
    with pytest.raises(BundleError, match="filter bank"):
        Increments(open_features({"kind": "waveform", "sample_rate": 16000, "normalise": False}))


LABELS = ["<pad>", "|", "A", "B"]


class Spelled:
    """A graph of one frame per 160 samples, whose answer is written in the sound: a loud step is its label.

    The state counts the frames, so that a stream which loses it is found out.
    """

    _batch, _time = Dim("batch", ((1, 1, 4),)), Dim("time", ((3, 12, 30),))
    signature = Signature(
        (
            TensorSpec("x", "float32", (_batch, _time, 80)),
            TensorSpec("n", "int64", (_batch,), lengths_of=_time),
            TensorSpec("count", "int64", (_batch,)),
        ),
        (
            TensorSpec("log_probs", "float32", (_batch, Derived("time", 3, 1, 1), 4)),
            TensorSpec("m", "int64", (_batch,), lengths_of=Derived("time", 3, 1, 1)),
            TensorSpec("next_count", "int64", (_batch,)),
        ),
        (("count", "next_count"),),
    )

    def __init__(self, said: list[int]) -> None:
        self.said, self.sizes = said, list[int]()

    def run(self, inputs):
        self.signature.check_inputs(inputs)
        frames = inputs["n"] - 2
        first = int(inputs["count"][0])
        said = (self.said + [0] * 10_000)[first : first + int(frames[0])]
        self.sizes.append(int(frames[0]))
        log_probs = np.where(np.arange(4) == np.array(said)[:, None], -0.1, -5.0).astype(np.float32)[None]
        return {"log_probs": log_probs, "m": frames, "next_count": inputs["count"] + frames}


def stream(said: list[int], **options) -> tuple[SpeechStream, Spelled]:
    graph = Spelled(said)
    given = {"sample_rate": 16000, **options}
    return SpeechStream(graph, open_features(SHERPA), LABELS, 0, "|", **given), graph


def texts(updates: list[Update]) -> list[tuple[bool, str]]:
    return [(update.final, update.text) for update in updates]


def test_partial_texts_grow_and_finish_gives_the_last() -> None:
    said = [2] * 8 + [3] * 8 + [1] * 2 + [2] * 4
    live, graph = stream(said)
    updates = [u for _ in range(40) for u in live.accept(np.zeros(100, np.float32))]
    assert texts(updates) == [(False, "AB"), (False, "AB A")]  # chunks of ten frames
    assert texts(live.finish()) == [(True, "AB A")]
    assert sum(graph.sizes) == len(open_features(SHERPA).compute(np.zeros(4000, np.float32))) - 2
    assert updates[0].words[0].start_s == 0
    assert updates[-1].audio_s <= 0.25


def test_an_utterance_ends_after_its_silence_and_the_next_begins() -> None:
    said = [2] * 5 + [0] * 50 + [3] * 5 + [1] * 60
    live, _ = stream(said, endpoint=Endpoint(silence_s=0.3))
    updates = [u for _ in range(200) for u in live.accept(np.zeros(160, np.float32))]
    assert [text for final, text in texts(updates) if final] == ["A", "B"]
    second = next(u for u in updates if u.final and u.text == "B")
    assert second.words[0].start_s == pytest.approx(0.55)
    assert live.finish() == []


def test_silence_alone_says_nothing() -> None:
    live, _ = stream([], endpoint=Endpoint())
    assert live.accept(np.zeros(16000 * 30, np.float32)) == []
    assert live.finish() == []


def test_what_is_too_long_is_ended_at_a_short_pause_or_at_last_without() -> None:
    said = ([2] * 70 + [0] * 30) * 10
    live, _ = stream(said, endpoint=Endpoint(silence_s=5, max_s=2))
    finals = [u for u in live.accept(np.zeros(16000 * 10, np.float32)) if u.final]
    assert len(finals) >= 3
    assert all(2 <= u.words[-1].end_s - u.words[0].start_s + 0.3 <= 3 for u in finals)
    live, _ = stream([2, 3] * 2000, endpoint=Endpoint(silence_s=5, max_s=2))
    finals = [u for u in live.accept(np.zeros(16000 * 10, np.float32)) if u.final]
    assert len(finals) == 3
    with pytest.raises(UsageError, match="positive"):
        Endpoint(silence_s=0)


def test_chunks_of_another_size() -> None:
    live, graph = stream([2] * 100, chunk_s=0.2)
    assert live.chunk_s == pytest.approx(0.2)
    assert live.delay_s == pytest.approx(0.2275)  # 22 steps: 21 shifts of 10 ms and 17.5 ms
    live.accept(np.zeros(16000, np.float32))
    assert set(graph.sizes) == {20}
    with pytest.raises(BundleError, match="chunks of 3 to 30"):
        stream([], chunk_s=0.5)


def test_other_sample_rates_and_channels() -> None:
    live, graph = stream([2] * 100, sample_rate=48_000)
    for _ in range(10):
        live.accept(np.zeros((4800, 2)))
    live.finish()
    assert 96 <= sum(graph.sizes) <= 98
    with pytest.raises(AudioError, match="NaN"):
        live.accept(np.full(10, np.nan))


@pytest.mark.parametrize("decoding", [None, Decoding(4, (Hotword("hello there"),))], ids=["greedy", "hotwords"])
def test_a_real_graph_block_by_block(core_bundle: Path, decoding: Decoding | None) -> None:
    """However the sound comes in, the same words come out, at the same times."""
    recogniser = edgekit.load(core_bundle)
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, 40_000).astype(np.float32)
    answers = []
    for block in (1_000, 7_777, 40_000):
        live = recogniser.stream(16_000, decoding=decoding, endpoint=None, allow_random_weights=True)
        for start in range(0, len(wave), block):
            live.accept(wave[start : start + block])
        answers.append(live.finish()[-1])
        assert live.chunk_s == pytest.approx(0.32)
        assert len(live.compute_s) == 8
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].text
    assert {tuple(word.start_s for word in answer.words) for answer in answers} == {
        tuple(word.start_s for word in answers[0].words)
    }


def test_random_weights_are_not_streamed_unasked(core_bundle: Path) -> None:
    with pytest.raises(BundleError, match="random weights"):
        edgekit.load(core_bundle).stream(16_000)


def test_a_stream_has_its_speaker_from_the_first_chunk_to_the_last(
    personal_bundle: Path, tmp_path: Path, install: Callable[..., Record]
) -> None:
    """Chunk after chunk as all chunks at once, for two speakers side by side and for nobody."""
    adaptation = open_bundle(personal_bundle).manifest.adaptation
    assert adaptation is not None
    random = np.random.default_rng(0)
    thetas = (0.5 * random.standard_normal((2, adaptation.layout.size))).astype(np.float32)
    for name, theta in zip(("anna", "ben"), thetas):
        install(personal_bundle, tmp_path, name, theta)
    recogniser = edgekit.load(personal_bundle, store=tmp_path)
    wave = random.uniform(-0.3, 0.3, 40_000).astype(np.float32)
    options = {"endpoint": None, "allow_random_weights": True}
    live = {name: recogniser.stream(16_000, speaker=name, **options) for name in ("anna", "ben", None)}
    for start in range(0, len(wave), 5_000):
        for stream in live.values():
            stream.accept(wave[start : start + 5_000])
        install(personal_bundle, tmp_path, "anna", thetas[1])  # which answers the next stream, and not this one
    last = {name: stream.finish()[-1] for name, stream in live.items()}
    features = recogniser._graph.features.compute(wave)
    graph = InChunks(open_session(open_bundle(personal_bundle), "stream"))
    for name, theta in (("anna", thetas[0]), ("ben", thetas[1]), (None, np.zeros_like(thetas[0]))):
        inputs = {"x": features[None], "x_lens": np.array([len(features)]), "theta": theta[None]}
        answer = graph.run(inputs)
        frames = answer["log_probs"][0, : answer["log_probs_lens"][0]]
        tokens = greedy(frames, recogniser._blank)
        expected = words(tokens, recogniser.labels, delimiter=recogniser._delimiter, frame_s=0.04)
        assert [(word.text, word.start_s) for word in last[name].words] == [(w.text, w.start_s) for w in expected]
    assert len({update.text for update in last.values()}) == 3
    assert last["anna"].to_json()["speaker_version"] == 1
    assert (last["ben"].speaker, last[None].speaker) == (SpeakerVersion("ben", 1), None)
    assert "speaker" not in last[None].to_json()
    assert recogniser.stream(16_000, speaker="anna", **options)._speaker == SpeakerVersion("anna", 9)


def test_a_speaker_of_a_stream_must_be_known(personal_bundle: Path, core_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="0 speakers"):
        edgekit.load(personal_bundle, store=tmp_path).stream(16_000, speaker="anna", allow_random_weights=True)
    with pytest.raises(BundleError, match="take none"):
        edgekit.load(core_bundle, store=tmp_path).stream(16_000, speaker="anna", allow_random_weights=True)
