"""What is read depends on seed, epoch and place alone; broken files cost a warning."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from edgekit.core.errors import DataError, SettingsError
from edgekit.core.settings import apply_settings
from edgekit.runtime.corpus import Corpus, Utterance, read_corpus
from edgekit.runtime.features.audio import load_audio
from edgekit.train.data.batches import BatchPlan
from edgekit.train.data.loading import Batch, open_batches, validation_batches
from edgekit.train.data.settings import DataSettings, plan_batches, select

PLAIN = DataSettings(workers=0, batch_s=4.0, max_s=2.0)
NOISY = replace(PLAIN, speed=(0.9, 1.0, 1.1), noise_probability=0.7)


def record(path: Path, duration_s: float, rate: int = 16000, channels: int = 1) -> Path:
    rng = np.random.default_rng(round(duration_s * 1000))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, rng.uniform(-0.3, 0.3, (round(duration_s * rate), channels)), rate)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Thirty recordings of 0.5 to 1.95 s, every third at another rate or in stereo."""
    folder = tmp_path_factory.mktemp("corpus")
    for i in range(30):
        odd: dict[str, Any] = ({}, {"rate": 24000}, {"channels": 2})[i % 3]
        record(folder / f"{i:02}.flac", 0.5 + i * 0.05, **odd)
    found = read_corpus(folder)
    return Corpus(tuple(replace(u, text=f"text {u.id}") for u in found.utterances))


def opened(corpus: Corpus, settings: DataSettings, *, augment: bool = True, **position: int) -> Iterator[Batch]:
    plan = plan_batches(corpus, settings, augment=augment)
    return open_batches(corpus, plan, settings, augment=augment, **position)


def some(batches: Iterator[Batch], count: int) -> list[Batch]:
    return list(itertools.islice(batches, count))


def assert_equal(left: list[Batch], right: list[Batch]) -> None:
    assert [(b.ids, b.texts, b.epoch, b.index) for b in left] == [(b.ids, b.texts, b.epoch, b.index) for b in right]
    for a, b in zip(left, right):
        torch.testing.assert_close(a.wave_BN, b.wave_BN, rtol=0, atol=0)
        torch.testing.assert_close(a.lengths_B, b.lengths_B, rtol=0, atol=0)


# What a batch holds.


def test_a_batch_is_what_the_device_reads(corpus: Corpus) -> None:
    by_id = {u.id: u for u in corpus.utterances}
    plan = plan_batches(corpus, PLAIN, augment=False)
    seen: list[str] = []
    for batch in some(opened(corpus, PLAIN, augment=False), plan.num_batches):
        seen += batch.ids
        assert batch.wave_BN.dtype == torch.float32
        assert batch.lengths_B.dtype == torch.int64
        assert batch.wave_BN.shape == (len(batch.ids), int(batch.lengths_B.max()))
        assert batch.audio_s == int(batch.lengths_B.sum()) / 16000
        assert batch.wave_BN.numel() <= PLAIN.batch_s * 16000
        for wave_N, length, name, text in zip(batch.wave_BN, batch.lengths_B.tolist(), batch.ids, batch.texts):
            assert text == by_id[name].text
            np.testing.assert_array_equal(wave_N[:length].numpy(), load_audio(by_id[name].audio))
            assert not wave_N[length:].any()
    assert sorted(seen) == sorted(by_id)


def test_to_a_device(corpus: Corpus) -> None:
    moved = next(opened(corpus, PLAIN)).to("meta")
    assert moved.wave_BN.device.type == moved.lengths_B.device.type == "meta"
    assert moved.audio_s > 1, "known without asking the device"


def test_augmented_batches_keep_to_the_budget(corpus: Corpus) -> None:
    batches = some(opened(corpus, NOISY), 40)
    assert max(batch.wave_BN.numel() for batch in batches) <= NOISY.batch_s * 16000 + 64
    assert all(batch.wave_BN.abs().max() <= 1 for batch in batches)
    plain = {name: length for b in some(opened(corpus, PLAIN), 40) for name, length in zip(b.ids, b.lengths_B.tolist())}
    ratios = {round(b.lengths_B[i].item() / plain[name], 2) for b in batches for i, name in enumerate(b.ids)}
    assert ratios == {0.91, 1.0, 1.11}


# Always the same.


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(corpus: Corpus, workers: int) -> None:
    assert_equal(some(opened(corpus, NOISY), 25), some(opened(corpus, replace(NOISY, workers=workers)), 25))


def test_a_run_goes_on_exactly(corpus: Corpus) -> None:
    straight = some(opened(corpus, NOISY, accumulate=2), 40)
    assert straight[-1].epoch >= 2
    assert_equal(straight[26:], some(opened(corpus, NOISY, start=13, accumulate=2), 14))


def test_two_processes_read_what_one_accumulates(corpus: Corpus) -> None:
    ranks = [some(opened(corpus, NOISY, start=2, rank=rank, world=2), 6) for rank in range(2)]
    together = [batch for pair in zip(*ranks) for batch in pair]
    assert_equal(together, some(opened(corpus, NOISY, start=2, accumulate=2), 12))


def test_epochs_and_seeds_differ(corpus: Corpus) -> None:
    def waves(settings: DataSettings) -> dict[tuple[str, int], torch.Tensor]:
        batches = some(opened(corpus, settings), 2 * plan_batches(corpus, settings, augment=True).num_batches)
        return {(name, b.epoch): b.wave_BN[i, : b.lengths_B[i]] for b in batches for i, name in enumerate(b.ids)}

    always = replace(PLAIN, noise_probability=1.0)
    first, other = waves(always), waves(replace(always, seed=1))
    for name in {name for name, _ in first}:
        assert not torch.equal(first[name, 0], first[name, 1])
        assert not torch.equal(first[name, 0], other[name, 0])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_random_numbers_of_the_loop_are_left_alone(corpus: Corpus, workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    some(opened(corpus, replace(NOISY, workers=workers)), 3)
    assert torch.equal(torch.get_rng_state(), before)


# Long and short recordings.


def test_selection(corpus: Corpus) -> None:
    settings = replace(PLAIN, min_s=0.8, max_s=1.5)
    kept = select(corpus, settings)
    assert {u.id for u in kept.utterances} == {u.id for u in corpus.utterances if 0.8 <= u.duration_s <= 1.5}
    assert len(kept.utterances) + len(kept.skipped) == 30
    without_text = Corpus(tuple(replace(u, text=None) for u in corpus.utterances))
    assert all(u.duration_s >= 0.8 for u in select(without_text, settings).utterances)
    assert max(u.duration_s for u in select(without_text, settings).utterances) > 1.5
    with pytest.raises(DataError, match="none among 30"):
        select(corpus, replace(PLAIN, min_s=10, max_s=20))


def test_long_recordings_without_text_are_cropped(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    ramp = np.linspace(-1, 1, 10 * 16000)
    soundfile.write(path, ramp, 16000)
    crops = some(opened(select(read_corpus(path.parent), PLAIN), PLAIN), 20)
    assert {tuple(batch.wave_BN.shape) for batch in crops} == {(1, 2 * 16000)}
    starts = sorted(batch.wave_BN[0, 0].item() for batch in crops)
    assert starts[0] < -0.7
    assert starts[-1] > 0.3
    np.testing.assert_allclose(crops[0].wave_BN[0, -1] - crops[0].wave_BN[0, 0], 0.4, atol=1e-3)


def test_a_listed_duration_is_not_believed(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    lies = {"05.flac": 0.5, "20.flac": 2.0}
    listed = Corpus(tuple(replace(u, duration_s=lies.get(u.id, u.duration_s)) for u in corpus.utterances))
    batches = some(opened(listed, PLAIN), 30)
    assert max(batch.wave_BN.numel() for batch in batches) <= PLAIN.batch_s * 16000 * 1.1
    assert "05.flac" not in {name for batch in batches for name in batch.ids}
    assert "expected 0.50 s as listed" in caplog.text


# Broken recordings.


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_recording_is_told_once(
    corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    broken = {"00.flac", "07.flac", "29.flac"}
    files = []
    for u in corpus.utterances:
        content = u.audio.read_bytes()
        audio = tmp_path / u.id
        audio.write_bytes(content[: len(content) // 2] if u.id in broken else content)
        files.append(replace(u, audio=audio))
    with caplog.at_level(logging.WARNING, "edgekit.train"):
        batches = some(opened(Corpus(tuple(files)), replace(PLAIN, workers=workers), augment=False), 36)
    plan = plan_batches(corpus, PLAIN, augment=False)
    assert [len(batch.ids) for batch in batches] == [len(plan.batch(i).items) for i in range(36)]
    assert not broken & {name for batch in batches for name in batch.ids}
    assert max(batch.wave_BN.numel() for batch in batches) <= PLAIN.batch_s * 16000 * 1.1
    assert sorted(name for name in broken if caplog.text.count(name) >= 1) == sorted(broken)
    assert len(caplog.records) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_can_be_read(corpus: Corpus, tmp_path: Path, workers: int) -> None:
    lost = Corpus(tuple(replace(u, audio=tmp_path / u.id) for u in corpus.utterances))
    with pytest.raises(DataError, match="none among 30") as raised:
        next(opened(lost, replace(PLAIN, workers=workers)))
    assert raised.value.hint
    with pytest.raises(DataError, match="none among 30"):
        next(validation_batches(lost, 4.0, workers=workers))


# Noise.


def test_noise_from_a_folder(corpus: Corpus, tmp_path: Path) -> None:
    hum = 0.5 * np.sin(2 * np.pi * 50 / 8000 * np.arange(8000 * 20))
    soundfile.write(tmp_path / "hum.wav", hum, 8000)
    settings = replace(PLAIN, noise=str(tmp_path), noise_probability=1.0, snr_db=(0.0, 0.0))
    quiet = some(opened(corpus, PLAIN), 3)
    for with_noise, without in zip(some(opened(corpus, settings), 3), quiet):
        for noisy_N, clean_N, length in zip(with_noise.wave_BN, without.wave_BN, without.lengths_B.tolist()):
            spectrum = np.abs(np.fft.rfft((noisy_N - clean_N)[:length].numpy()))
            assert spectrum.argmax() * 16000 / length == pytest.approx(50, abs=2)


def test_broken_noise_is_told_and_left_out(corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = record(tmp_path / "noise.wav", 1.0)
    batches = opened(corpus, replace(PLAIN, noise=str(tmp_path), noise_probability=1.0))
    noise.write_bytes(b"")
    assert_equal(some(batches, 3), some(opened(corpus, PLAIN), 3))
    assert len(caplog.records) == 1
    with pytest.raises(DataError):
        opened(corpus, replace(PLAIN, noise=str(tmp_path / "none"), noise_probability=1.0))


# Validation.


@pytest.mark.parametrize("workers", [0, 1])
def test_validation(corpus: Corpus, workers: int) -> None:
    lost = Utterance("lost", Path("lost.wav"), 1.0, "lost", None)
    batches = list(validation_batches(Corpus((*corpus.utterances, lost)), 5.0, workers=workers))
    assert sorted(name for batch in batches for name in batch.ids) == sorted(u.id for u in corpus.utterances)
    assert all(batch.wave_BN.numel() <= 5 * 16000 for batch in batches)
    lengths = [length for batch in batches for length in batch.lengths_B.tolist()]
    assert lengths == sorted(lengths, reverse=True)


def test_validation_of_long_recordings(tmp_path: Path) -> None:
    """Without a text a recording of an hour is no sequence to attend to: an excerpt, always the same."""
    soundfile.write(tmp_path / "long.flac", np.linspace(-1, 1, 10 * 16000), 16000)
    corpus = read_corpus(tmp_path)
    (first,), (again,) = (list(validation_batches(corpus, 5.0, max_s=2.0)) for _ in range(2))
    assert first.wave_BN.shape == (1, 2 * 16000)
    assert_equal([first], [again])
    spoken = Corpus(tuple(replace(u, text="A") for u in corpus.utterances))
    (whole,) = validation_batches(spoken, 5.0, max_s=2.0)
    assert whole.wave_BN.shape == (1, 10 * 16000)


# Settings.


@pytest.mark.parametrize(
    "assignment",
    [
        "validation_speakers=0",
        "hours=0",
        "batch_s=0",
        "max_s=0.1",
        "min_s=0",
        "workers=-1",
        "seed=-1",
        "speed=0.1,1.0",
        "speed=",
        "noise_probability=1.5",
        "snr_db=20,5",
    ],
)
def test_settings_out_of_range(assignment: str) -> None:
    with pytest.raises(SettingsError, match="expected"):
        apply_settings(DataSettings(), [assignment])


def test_settings_in_range() -> None:
    changed = apply_settings(DataSettings(), ["train=data", "hours=1.5", "speed=0.9,1.0,1.1", "snr_db=0,10"])
    assert changed.speed == (0.9, 1.0, 1.1)
    assert changed.hours == 1.5


def test_a_plan_of_another_corpus(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="30 utterances, received 1"):
        open_batches(corpus, BatchPlan([1.0], 10, seed=0), PLAIN)


def test_real_speech(shared_data: Path) -> None:
    folder = shared_data / "librispeech" / "train-clean-5" / "1088"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    settings = DataSettings(batch_s=40.0, workers=1, speed=(0.9, 1.1), noise_probability=0.5)
    corpus = select(read_corpus(folder), settings)
    for batch in some(opened(corpus, settings), 4):
        assert batch.audio_s > 20
        assert all(batch.texts)
        assert batch.wave_BN.std() > 0.01
