"""Held to kaldi_native_fbank, which shares no code with ours."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgekit.runtime.features.fbank import Fbank, FbankConfig, mel_weights, povey_window
from edgekit.runtime.samples import sample_clips

pytestmark = pytest.mark.device_side

# Both compute in float32, so that both are rounding far below a frame's loudest bin. Reached: 3.1e-4 where a bin is
# within 70 dB of the loudest (1.7e-4 at 16 kHz on noise and speech), 7e-6 of the loudest bin's amplitude everywhere,
# and 3.2e-6 on average over noise and speech. Held to float64, ours is off by 1.1e-4 and the reference by 2.5e-4.
ATOL = 5e-4
AUDIBLE_NEPERS = 16.0
AMPLITUDE_ATOL = 1e-5
MEAN_ATOL = 1e-5

PLAIN = FbankConfig()
MIRRORED = FbankConfig(snip_edges=False, high_freq=-400.0, scale=1.0)
OTHERS = [
    FbankConfig(sample_rate=8000, num_mel_bins=23, low_freq=64.0, high_freq=3800.0),
    FbankConfig(num_mel_bins=40, frame_length_ms=32.0, frame_shift_ms=12.5, preemphasis=0.0),
    FbankConfig(num_mel_bins=64, remove_dc_offset=False, snip_edges=False),
    FbankConfig(sample_rate=44100, frame_length_ms=46.0, frame_shift_ms=11.6),
]


def reference(waveform: np.ndarray, config: FbankConfig) -> np.ndarray:
    knf = pytest.importorskip("kaldi_native_fbank", reason="the reference is a development dependency")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = config.sample_rate
    options.frame_opts.frame_length_ms = config.frame_length_ms
    options.frame_opts.frame_shift_ms = config.frame_shift_ms
    options.frame_opts.snip_edges = config.snip_edges
    options.frame_opts.preemph_coeff = config.preemphasis
    options.frame_opts.remove_dc_offset = config.remove_dc_offset
    options.mel_opts.num_bins = config.num_mel_bins
    options.mel_opts.low_freq = config.low_freq
    options.mel_opts.high_freq = config.high_freq
    online = knf.OnlineFbank(options)
    online.accept_waveform(config.sample_rate, (waveform * np.float32(config.scale)).tolist())
    online.input_finished()
    frames = [online.get_frame(i).copy() for i in range(online.num_frames_ready)]
    return np.array(frames, np.float32).reshape(-1, config.num_mel_bins)


def noise(num_samples: int, peak: float = 0.5) -> np.ndarray:
    return np.random.default_rng(num_samples).uniform(-peak, peak, num_samples).astype(np.float32)


def assert_equal_to_reference(waveform: np.ndarray, config: FbankConfig, *, min_audible: float = 0.98) -> None:
    ours, theirs = Fbank(config)(waveform), reference(waveform, config)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape == (config.num_frames(len(waveform)), config.num_mel_bins)
    loudest = theirs.max(axis=1, keepdims=True)
    audible = theirs > loudest - AUDIBLE_NEPERS
    assert audible.mean() > min_audible, "or too little is compared"
    np.testing.assert_allclose(ours[audible], theirs[audible], rtol=0, atol=ATOL)
    # A log-mel value is the logarithm of a power: half of it is that of an amplitude.
    np.testing.assert_allclose(
        np.exp((ours - loudest) / 2), np.exp((theirs - loudest) / 2), rtol=0, atol=AMPLITUDE_ATOL
    )
    if min_audible > 0.9:
        assert np.abs(ours - theirs).mean() <= MEAN_ATOL


@pytest.mark.parametrize("config", [PLAIN, MIRRORED])
@pytest.mark.parametrize("peak", [0.5, 1e-4])
def test_noise(config: FbankConfig, peak: float) -> None:
    assert_equal_to_reference(noise(160_000, peak), config)


@pytest.mark.parametrize("config", [PLAIN, MIRRORED])
def test_twenty_seconds(config: FbankConfig) -> None:
    assert_equal_to_reference(noise(320_000), config)


@pytest.mark.parametrize("config", [PLAIN, MIRRORED])
@pytest.mark.parametrize("clip", sample_clips(), ids=lambda clip: clip.stem)
def test_speech(config: FbankConfig, clip: Path) -> None:
    assert_equal_to_reference(soundfile.read(clip, dtype="float32")[0], config)


@pytest.mark.parametrize("config", [PLAIN, MIRRORED])
def test_silence_is_the_energy_floor(config: FbankConfig) -> None:
    silence = np.zeros(16000, np.float32)
    assert_equal_to_reference(silence, config)
    np.testing.assert_allclose(Fbank(config)(silence), np.log(np.finfo(np.float32).eps), rtol=1e-6)


@pytest.mark.parametrize("config", [PLAIN, MIRRORED])
@pytest.mark.parametrize("hz", [100.0, 440.0, 1000.0, 7000.0])
def test_tone(config: FbankConfig, hz: float) -> None:
    waveform = (0.5 * np.sin(2 * np.pi * hz / 16000 * np.arange(16000))).astype(np.float32)
    assert_equal_to_reference(waveform, config, min_audible=0.05)


@pytest.mark.parametrize("config", [PLAIN, MIRRORED])
def test_short_and_odd_lengths(config: FbankConfig) -> None:
    waveform = noise(2000)
    for num_samples in (1, 79, 80, 81, 119, 120, 241, *range(397, 2001, 37), 400, 401, 559, 560, 561, 719, 720, 1999):
        assert_equal_to_reference_or_none(waveform[:num_samples], config)


def assert_equal_to_reference_or_none(waveform: np.ndarray, config: FbankConfig) -> None:
    if config.num_frames(len(waveform)):
        assert_equal_to_reference(waveform, config)
    else:
        assert len(reference(waveform, config)) == 0
        assert Fbank(config)(waveform).shape == (0, config.num_mel_bins)


@pytest.mark.parametrize("config", OTHERS)
def test_other_configurations(config: FbankConfig) -> None:
    assert_equal_to_reference(noise(20_001), config)


@pytest.mark.parametrize("config", [PLAIN, MIRRORED, *OTHERS])
def test_min_samples_is_the_least_that_gives_a_frame(config: FbankConfig) -> None:
    fbank = Fbank(config)
    assert fbank(noise(config.min_samples)).shape == (1, config.num_mel_bins)
    assert fbank(noise(config.min_samples - 1)).shape == (0, config.num_mel_bins)


@pytest.mark.parametrize("config", [PLAIN, MIRRORED])
def test_a_recording_of_several_blocks_is_its_parts(config: FbankConfig) -> None:
    waveform = noise(160 * 400 + 240)
    whole = Fbank(config)(waveform)
    # Frames 100..299, wholly inside, from their own samples only.
    start = 160 * 100 - (0 if config.snip_edges else 120)
    part = Fbank(replace(config, snip_edges=True))(waveform[start : start + 160 * 199 + 400])
    np.testing.assert_allclose(whole[100:300], part, rtol=0, atol=1e-5)


def test_the_caller_keeps_a_waveform_of_any_stride() -> None:
    wide = noise(32_000)
    before = wide.copy()
    np.testing.assert_array_equal(Fbank()(wide[::2]), Fbank()(wide[::2].copy()))
    np.testing.assert_array_equal(wide, before)


def test_threads_do_not_disturb_each_other() -> None:
    fbank = Fbank()
    waveforms = [noise(80_000 + 160 * i) for i in range(8)]
    expected = [Fbank()(waveform) for waveform in waveforms]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(fbank, waveforms * 4), expected * 4):
            np.testing.assert_array_equal(found, wanted)


def test_it_can_be_sent_to_another_process() -> None:
    fbank = pickle.loads(pickle.dumps(Fbank(MIRRORED)))
    np.testing.assert_array_equal(fbank(noise(4000)), Fbank(MIRRORED)(noise(4000)))


@pytest.mark.parametrize("waveform", [np.zeros(400), np.zeros(400, np.int16), np.zeros((1, 400), np.float32)])
def test_refuses_another_dtype_or_rank(waveform: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a waveform float32\[N\]"):
        Fbank()(waveform)


def test_a_constant_offset_changes_nothing_where_it_is_removed() -> None:
    waveform = noise(16_000)
    shifted = waveform + np.float32(0.25)
    np.testing.assert_allclose(Fbank()(shifted), Fbank()(waveform), rtol=0, atol=0.01)
    kept = Fbank(FbankConfig(remove_dc_offset=False))
    assert np.abs(kept(shifted) - kept(waveform)).max() > 0.5


def test_refuses_more_bins_than_the_transform_tells_apart() -> None:
    with pytest.raises(ValueError, match=r"31\.25 Hz.*num_mel_bins of 128"):
        Fbank(FbankConfig(num_mel_bins=128))


def test_the_config_survives_json() -> None:
    assert FbankConfig(**json.loads(json.dumps(asdict(MIRRORED)))) == MIRRORED


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_mel_bins": 2},
        {"low_freq": -1.0},
        {"low_freq": 8000.0},
        {"high_freq": 8001.0},
        {"high_freq": -7990.0},
        {"frame_length_ms": 0.1},
        {"frame_shift_ms": 0.0},
        {"sample_rate": 0},
        {"preemphasis": 1.5},
        {"scale": 0.0},
        {"energy_floor": 0.0},
    ],
)
def test_refuses_impossible_values(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        FbankConfig(**wrong)  # type: ignore[arg-type]


def test_the_tables() -> None:
    window = povey_window(400)
    assert window[0] == 0.0
    assert window.max() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(window, window[::-1], atol=1e-9)
    weights = mel_weights(PLAIN)
    assert weights.shape == (256, 80)
    assert not weights[0].any(), "0 Hz lies below low_freq"
    assert ((weights >= 0) & (weights <= 1)).all()
    # Between the first and the last centre, neighbouring triangles add up to one.
    centres = weights.argmax(axis=0)
    np.testing.assert_allclose(weights[centres[0] + 1 : centres[-1]].sum(axis=1), 1.0, atol=2e-5)
