from __future__ import annotations

import os
import struct
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import AudioError, BundleError
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import as_waveform, load_audio, normalise, windows
from edgekit.runtime.features.fbank import Fbank, FbankConfig

pytestmark = pytest.mark.device_side


def tone(seconds: float = 0.5, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 16000, **how: str) -> Path:
    soundfile.write(path, samples, rate, **how)
    return path


# ---- load_audio: what it reads


@pytest.mark.parametrize(
    ("name", "how", "atol"),
    [
        ("a.wav", {"subtype": "PCM_16"}, 2**-15),
        ("a.wav", {"subtype": "FLOAT"}, 0.0),
        ("a.flac", {"subtype": "PCM_24"}, 2**-23),
        ("a.ogg", {"subtype": "VORBIS"}, 0.05),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}, 0.05),
        ("a.mp3", {}, 0.05),
        ("a.aiff", {}, 2**-15),
    ],
)
def test_reads_every_common_format(tmp_path: Path, name: str, how: dict[str, str], atol: float) -> None:
    x = tone()
    y = load_audio(write(tmp_path / name, x, **how))
    assert y.dtype == np.float32
    assert y.shape == x.shape
    inner = slice(800, -800)  # lossy codecs ring at the ends
    np.testing.assert_allclose(y[inner], x[inner], atol=atol)


def test_averages_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    channels = rng.uniform(-1, 1, (3000, 8)).astype(np.float32)
    y = load_audio(write(tmp_path / "8.wav", channels, subtype="FLOAT"))
    np.testing.assert_allclose(y, channels.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resamples_a_tone_to_the_same_tone(tmp_path: Path, rate: int) -> None:
    y = load_audio(write(tmp_path / "a.wav", tone(rate=rate), rate, subtype="FLOAT"))
    assert abs(len(y) - 8000) <= 1
    np.testing.assert_allclose(y[800:-800], tone()[800 : len(y) - 800], atol=2e-4)


def test_what_lies_above_the_new_nyquist_frequency_is_removed(tmp_path: Path) -> None:
    y = load_audio(write(tmp_path / "a.wav", tone(rate=48000, hz=9000.0), 48000, subtype="FLOAT"))
    assert np.abs(y[800:-800]).max() < 1e-4


def test_blocks_join_without_a_seam(tmp_path: Path) -> None:
    # Longer than one block, at a rate that divides neither the block nor the target.
    x = tone(5.0, 44100)
    y = load_audio(write(tmp_path / "a.wav", x, 44100, subtype="FLOAT"))
    np.testing.assert_array_equal(y, as_waveform(x, 44100))


def test_only_one_channel_is_held_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "8.wav", np.zeros((30 * 16000, 8), np.int16))
    tracemalloc.start()
    try:
        load_audio(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * (30 * 16000 * 8 * 4)


def test_a_clipped_recording_stays_within_full_scale(tmp_path: Path) -> None:
    square = np.sign(tone(rate=48000))
    y = load_audio(write(tmp_path / "a.wav", square, 48000, subtype="FLOAT"))
    assert np.abs(y).max() == 1.0


def test_silence_is_fine(tmp_path: Path) -> None:
    assert not load_audio(write(tmp_path / "a.wav", np.zeros(16000), 8000)).any()


def test_reads_opus_and_flac_of_librispeech(shared_data: Path) -> None:
    recordings = [
        next(iter(sorted((shared_data / "librispeech").rglob(f"*.{suffix}"))), None) for suffix in ("opus", "flac")
    ]
    for recording in recordings:
        assert recording is not None
        y = load_audio(recording)
        assert abs(len(y) - soundfile.info(recording).duration * 16000) <= 1
        assert 1.0 < len(y) / 16000 < 36.0
        assert 0.01 < np.abs(y).max() <= 1.0
        assert 0.0 < y.std() < 0.3


# ---- load_audio: what it refuses


def refused(path: Path, match: str, **options: int) -> AudioError:
    with pytest.raises(AudioError, match=match) as caught:
        load_audio(path, **options)
    assert str(path) in caught.value.message
    assert caught.value.message.startswith("expected")
    return caught.value


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "none.wav", "No such file")
    refused(tmp_path / "a\0b.wav", "null")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_refuses_a_pipe_instead_of_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", "pipe or device")


def test_refuses_a_folder(tmp_path: Path) -> None:
    assert refused(tmp_path, "folder").hint


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.txt", "a"])
def test_refuses_what_is_not_audio(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"It was a dark and stormy night. " * 100)
    assert "ffmpeg" in str(refused(tmp_path / name, "decoded").hint)


def test_refuses_headerless_samples(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(3200))
    assert "ffmpeg" in str(refused(tmp_path / "a.raw", "header").hint)


def test_refuses_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    refused(tmp_path / "a.wav", "empty file")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_refuses_a_recording_of_no_frames(tmp_path: Path, name: str) -> None:
    refused(write(tmp_path / name, np.zeros(0)), "at least 1 sample.*received none")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au", "a.mp3"])
@pytest.mark.parametrize("keep", [0.5, 0.95])
def test_refuses_a_truncated_file(tmp_path: Path, name: str, keep: float) -> None:
    path = write(tmp_path / name, np.random.default_rng(0).uniform(-0.5, 0.5, 48000))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    refused(path, "cut short|decoded to its end")


def test_refuses_a_damaged_opus_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.opus", tone(5.0), format="OGG", subtype="OPUS")
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 100] = bytes(100)
    path.write_bytes(whole)
    refused(path, "cut short or is damaged")


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
def test_reads_a_wav_that_was_written_to_a_pipe(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.wav", tone())
    whole = bytearray(path.read_bytes())
    at = whole.index(b"data") + 4
    whole[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(whole)
    assert len(load_audio(path)) == 8000


@pytest.mark.skipif(not hasattr(soundfile.SoundFile, "bitrate_mode"), reason="soundfile before 0.13 cannot write one")
def test_reads_an_mp3_of_variable_rate_without_its_length(tmp_path: Path) -> None:
    # Its first seconds take few bits, so that libsndfile expects many more frames than there are.
    path = tmp_path / "a.mp3"
    x = np.concatenate([np.zeros(48000), np.random.default_rng(0).uniform(-0.5, 0.5, 48000)])
    with soundfile.SoundFile(path, "w", 16000, 1, format="MP3", bitrate_mode="VARIABLE") as file:
        file.write(x)
    whole = path.read_bytes()
    path.write_bytes(whole[whole.index(whole[:2], whole.index(b"Xing")) :])
    assert soundfile.info(path).frames > 1.2 * len(x), "the guess is wrong, or this tests nothing"
    assert abs(len(load_audio(path)) - len(x)) < 3000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_samples_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    x = tone(6.0)
    x[70000] = bad
    refused(write(tmp_path / "a.wav", x, subtype="FLOAT"), "finite")


def test_refuses_integers_stored_as_floats(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "a.wav", tone() * 32768, subtype="FLOAT"), r"\[-1, 1\].*peak")
    assert "32768" in str(error.hint)


def test_holds_the_length_to_the_callers_minimum_after_resampling(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.zeros(1199), 48000)
    refused(path, "at least 401 samples.*received 400", min_samples=401)
    assert len(load_audio(path, min_samples=400)) == 400


# ---- as_waveform


def test_integers_become_fractions_of_full_scale() -> None:
    expected = np.array([-1.0, 0.0, 0.5], np.float32)
    np.testing.assert_array_equal(as_waveform(np.array([-(2**15), 0, 2**14], np.int16), 16000), expected)
    np.testing.assert_array_equal(as_waveform(np.array([-(2**31), 0, 2**30], np.int32), 16000), expected)
    np.testing.assert_array_equal(as_waveform(expected.astype(np.float64), 16000), expected)


def test_the_result_is_the_callers_own() -> None:
    x = tone()
    y = as_waveform(x, 16000)
    np.testing.assert_array_equal(y, x)
    y[:] = 0
    assert x.any()


@pytest.mark.parametrize(
    ("array", "rate", "match"),
    [
        (np.zeros((2, 8000), np.float32), 16000, "more channels than samples"),
        (np.zeros((1, 2, 3), np.float32), 16000, r"\[n, channels\]"),
        (np.float32(0), 16000, r"\[n, channels\]"),
        (np.zeros((8000, 0), np.float32), 16000, r"\[n, channels\]"),
        (np.zeros(8000, np.int64), 16000, "int64"),
        (np.zeros(8000, np.complex64), 16000, "complex64"),
        (np.zeros(8000, np.float32), 0, "sample rate"),
        (np.zeros(8000, np.float32), float("nan"), "sample rate"),
        (np.full(8000, np.nan, np.float32), 16000, "finite"),
        (np.full(8000, 1e300), 16000, "finite"),
        (tone() * 32768, 16000, "32768|peak"),
        (np.zeros(0, np.float32), 16000, "received none"),
    ],
)
def test_refuses_arrays_that_are_no_waveform(array: np.ndarray, rate: float, match: str) -> None:
    with pytest.raises(AudioError, match=match):
        as_waveform(array, rate)


# ---- normalise


def test_normalise_is_zero_mean_and_unit_variance() -> None:
    x = tone() + np.float32(0.1)
    y = normalise(x)
    assert y.dtype == np.float32
    wide = x.astype(np.float64)
    np.testing.assert_allclose(y, (wide - wide.mean()) / np.sqrt(wide.var() + 1e-7), atol=1e-5)
    assert not normalise(np.zeros(400, np.float32)).any()


def test_normalise_gives_what_transformers_gives() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not part of the device side")
    x = tone() + np.float32(0.1)
    theirs = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)(x, sampling_rate=16000)["input_values"][0]
    np.testing.assert_allclose(normalise(x), theirs, atol=1e-6)


# ---- windows


@given(
    num_samples=st.integers(0, 5000),
    window=st.integers(1, 600),
    overlap=st.integers(0, 599),
    multiple_of=st.sampled_from([1, 2, 7, 32]),
)
def test_windows_cover_all_with_at_least_the_overlap(
    num_samples: int, window: int, overlap: int, multiple_of: int
) -> None:
    if window - overlap < multiple_of:
        with pytest.raises(ValueError, match="overlap"):
            windows(num_samples, window, overlap, multiple_of=multiple_of)
        return
    spans = windows(num_samples, window, overlap, multiple_of=multiple_of)
    if num_samples == 0:
        assert spans == []
        return
    assert spans[0][0] == 0
    assert spans[-1][1] == num_samples
    assert all(start % multiple_of == 0 for start, _ in spans)
    assert all(stop - start == window for start, stop in spans[:-1])
    assert min(num_samples, window) - (spans[-1][1] - spans[-1][0]) in range(multiple_of)
    for (start, stop), (next_start, next_stop) in pairwise(spans):
        assert start < next_start <= stop - overlap
        assert stop < next_stop
    # Not more windows than it takes.
    hop = (window - overlap) // multiple_of * multiple_of
    assert len(spans) <= 1 + max(0, -(-(num_samples - window) // hop))


def test_windows_of_a_known_case() -> None:
    assert windows(100, 40, 10) == [(0, 40), (30, 70), (60, 100)]
    assert windows(95, 40, 10) == [(0, 40), (30, 70), (55, 95)]
    assert windows(40, 40, 10) == [(0, 40)]
    assert windows(41, 40, 10) == [(0, 40), (1, 41)]


# ---- open_features


def test_opens_a_filter_bank() -> None:
    features = open_features({"kind": "kaldi-fbank", "num_mel_bins": 40, "scale": 1.0})
    assert (features.sample_rate, features.min_samples) == (16000, 400)
    x = tone()
    np.testing.assert_array_equal(features(x), Fbank(FbankConfig(num_mel_bins=40, scale=1.0))(x))


def test_opens_a_waveform() -> None:
    x = tone() + np.float32(0.1)
    plain = open_features({"kind": "waveform", "sample_rate": 16000, "normalise": False})
    scaled = open_features({"kind": "waveform", "sample_rate": 8000, "normalise": True, "min_samples": 720})
    assert (plain.sample_rate, plain.min_samples) == (16000, 400)
    assert (scaled.sample_rate, scaled.min_samples) == (8000, 720)
    np.testing.assert_array_equal(plain(x), x)
    np.testing.assert_array_equal(scaled(x), normalise(x))


@pytest.mark.parametrize("waveform", [np.zeros(399, np.float32), np.zeros(400), np.zeros((1, 400), np.float32)])
def test_features_refuse_what_does_not_fit(waveform: np.ndarray) -> None:
    features = open_features({"kind": "kaldi-fbank"})
    assert features(np.zeros(400, np.float32)).shape == (1, 80)
    with pytest.raises(AudioError, match="expected"):
        features(waveform)


@pytest.mark.parametrize(
    ("description", "match", "hint"),
    [
        ({"kind": "mfcc"}, "'mfcc'", "upgrade"),
        ({}, "None", "upgrade"),
        ({"kind": "kaldi-fbank", "vtln_warp": 1.1}, "vtln_warp", "upgrade"),
        ({"kind": "waveform", "sample_rate": 16000}, "none of 'normalise'", ""),
        ({"kind": "kaldi-fbank", "num_mel_bins": 2}, "num_mel_bins", ""),
        ({"kind": "kaldi-fbank", "sample_rate": "16000"}, "16000", ""),
    ],
)
def test_refuses_features_it_does_not_know(description: dict[str, object], match: str, hint: str) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        open_features(description)
    assert hint in str(caught.value.hint)
