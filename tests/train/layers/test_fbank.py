"""Held to the device's filter bank, item by item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.features.fbank import Fbank, FbankConfig
from edgekit.runtime.samples import sample_clips
from edgekit.train.layers.fbank import TorchFbank

# Both compute in float32 and are rounding far below a frame's loudest bin. Reached, on speech and noise: 7e-5 within
# 52 dB of it, 3.2e-4 within 70 dB, where the device's is off by 5.1e-4 from float64 and ours by 2.4e-4.
ATOL = 1e-4
AUDIBLE_NEPERS = 12.0
AMPLITUDE_ATOL = 1e-5

CONFIGS = [
    FbankConfig(),
    FbankConfig(snip_edges=False, high_freq=-400.0, scale=1.0),
    FbankConfig(sample_rate=8000, num_mel_bins=23, low_freq=64.0, high_freq=3800.0),
    FbankConfig(num_mel_bins=40, frame_length_ms=32.0, frame_shift_ms=12.5, preemphasis=0.0),
    FbankConfig(num_mel_bins=64, remove_dc_offset=False, snip_edges=False, energy_floor=1.0),
    FbankConfig(sample_rate=44100, frame_length_ms=46.0, frame_shift_ms=11.6),
]


def noise(num_samples: int, peak: float = 0.5) -> np.ndarray:
    return np.random.default_rng(num_samples).uniform(-peak, peak, num_samples).astype(np.float32)


def tone(num_samples: int, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz / 16000 * np.arange(num_samples)) + 0.1).astype(np.float32)


def assert_as_the_device(waves: list[np.ndarray], config: FbankConfig, garbage: float) -> None:
    lengths_B = torch.tensor([len(wave) for wave in waves])
    wave_BN = torch.full((len(waves), int(lengths_B.max()) + 77), garbage)
    for row_N, wave in zip(wave_BN, waves):
        row_N[: len(wave)] = torch.from_numpy(wave)
    log_mel_BFM, frame_lengths_B = TorchFbank(config)(wave_BN, lengths_B)
    assert log_mel_BFM.dtype == torch.float32
    assert log_mel_BFM.shape == (len(waves), config.num_frames(wave_BN.shape[1]), config.num_mel_bins)
    for log_mel_FM, count, wave in zip(log_mel_BFM.numpy(), frame_lengths_B.tolist(), waves):
        theirs = Fbank(config)(wave)
        ours = log_mel_FM[:count]
        assert ours.shape == theirs.shape
        assert not log_mel_FM[count:].any()
        if count:
            loudest = theirs.max(axis=1, keepdims=True)
            audible = theirs > loudest - AUDIBLE_NEPERS
            np.testing.assert_allclose(ours[audible], theirs[audible], rtol=0, atol=ATOL)
            np.testing.assert_allclose(
                np.exp((ours - loudest) / 2), np.exp((theirs - loudest) / 2), rtol=0, atol=AMPLITUDE_ATOL
            )


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("garbage", [1e4, float("nan")])
def test_mixed_lengths(config: FbankConfig, garbage: float) -> None:
    lengths = (40_000, 1, 79, 80, 119, 120, 399, 400, 401, 559, 560, 2028, 2029, 16_123)
    assert_as_the_device([noise(n) for n in lengths], config, garbage)
    assert_as_the_device([noise(50_000, 1e-4), tone(30_000), np.zeros(20_000, np.float32)], config, garbage)


@pytest.mark.parametrize("config", CONFIGS[:2])
def test_speech(config: FbankConfig) -> None:
    assert_as_the_device([load_audio(clip) for clip in sample_clips()], config, 1.0)


@pytest.mark.parametrize("config", CONFIGS[:2])
def test_more_speech(config: FbankConfig, shared_data: Path) -> None:
    clips = sorted((shared_data / "librispeech" / "test-clean").glob("*/*/*.opus"))[::300]
    if not clips:
        pytest.skip("no LibriSpeech")
    assert_as_the_device([load_audio(clip) for clip in clips], config, 1.0)


@pytest.mark.parametrize("config", CONFIGS[:2])
def test_nothing_to_compute(config: FbankConfig) -> None:
    for num_samples in (0, 1, 79):
        log_mel_BFM, lengths_B = TorchFbank(config)(torch.zeros(2, num_samples), torch.tensor([0, num_samples]))
        assert log_mel_BFM.shape == (2, 0, 80)
        assert lengths_B.tolist() == [0, 0]


def test_float32_under_autocast() -> None:
    fbank, wave_BN, lengths_B = TorchFbank(), torch.from_numpy(noise(16_000))[None], torch.tensor([16_000])
    expected, _ = fbank(wave_BN, lengths_B)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = fbank(wave_BN, lengths_B)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_what_other_devices_compute() -> None:
    """The path of a GPU, which computes all frames at once, taken here."""
    config = FbankConfig(snip_edges=False)
    fbank, wave_BN = TorchFbank(config), torch.from_numpy(np.stack([noise(16_000), tone(16_000)]))
    frames_BFL = fbank._mirrored(wave_BN, torch.tensor([16_000, 16_000]), 100).unfold(1, 400, 160)
    expected, _ = fbank(wave_BN, torch.tensor([16_000, 16_000]))
    torch.testing.assert_close(fbank._log_mel(frames_BFL), expected, rtol=0, atol=ATOL)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu() -> None:
    waves = torch.from_numpy(np.stack([noise(32_000), tone(32_000)]))
    lengths_B = torch.tensor([32_000, 20_000])
    expected, _ = TorchFbank()(waves, lengths_B)
    found, frame_lengths_B = TorchFbank().cuda()(waves.cuda(), lengths_B.cuda())
    audible = expected > expected.amax(-1, keepdim=True) - AUDIBLE_NEPERS
    torch.testing.assert_close(found.cpu()[audible], expected[audible], rtol=0, atol=2 * ATOL)
    assert not found[1, frame_lengths_B[1] :].any()


def test_it_has_no_weights() -> None:
    assert not TorchFbank().state_dict()
