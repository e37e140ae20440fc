"""Speed changes length and pitch, noise has the ratio and the colour that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.train.data.augment import (
    COLOURS,
    add_coloured_noise,
    add_noise,
    change_speed,
    coloured_noise,
    perturb_speed,
)

RATE = 16000


def tone(hz: float, num_samples: int = RATE, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hz / RATE * np.arange(num_samples))).astype(np.float32)


@pytest.mark.parametrize("factor", [0.9, 1.1, 0.5, 2.0, 1.037])
def test_speed(factor: float) -> None:
    wave = tone(440)
    changed = change_speed(wave, factor)
    assert changed.dtype == np.float32
    assert abs(len(changed) - RATE / factor) <= 1
    peak_hz = np.abs(np.fft.rfft(changed * np.hanning(len(changed)))).argmax() * RATE / len(changed)
    assert peak_hz == pytest.approx(440 * factor, abs=2)
    np.testing.assert_array_equal(wave, tone(440))


def test_speed_is_drawn_from_the_factors() -> None:
    rng = np.random.default_rng(0)
    lengths = {len(perturb_speed(tone(440), (0.9, 1.0, 1.1), rng)) for _ in range(50)}
    assert lengths == {len(change_speed(tone(440), factor)) for factor in (0.9, 1.0, 1.1)}


@given(snr_db=st.floats(-10, 40), num_noise=st.integers(100, 40_000), seed=st.integers(0, 5))
def test_the_ratio_is_what_was_asked_for(snr_db: float, num_noise: int, seed: int) -> None:
    wave = tone(300, peak=0.3)
    noise = np.random.default_rng(seed).uniform(-1, 1, num_noise).astype(np.float32)
    mixed = add_noise(wave, noise, snr_db)
    assert mixed.dtype == np.float32
    assert np.abs(mixed).max() <= 1
    # the part of the sum that is the wave, whatever the sum was scaled by
    repeated = np.resize(noise, len(wave)).astype(np.float64)
    scale, gain = np.linalg.lstsq(np.stack([wave, repeated], 1).astype(np.float64), mixed, rcond=None)[0]
    ratio = 10 * np.log10(np.mean((scale * wave) ** 2) / np.mean((gain * repeated) ** 2))
    assert ratio == pytest.approx(snr_db, abs=0.01)


def test_silence_has_no_ratio() -> None:
    silence, noise = np.zeros(1000, np.float32), tone(100, 1000)
    np.testing.assert_array_equal(add_noise(silence, noise, 10), silence)
    np.testing.assert_array_equal(add_noise(noise, silence, 10), noise)


@pytest.mark.parametrize("exponent", COLOURS)
def test_colours(exponent: float) -> None:
    noise = coloured_noise(1 << 17, exponent, np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert noise.std() == pytest.approx(1, abs=1e-3)
    power = np.abs(np.fft.rfft(noise))[1:] ** 2
    octaves = [power[1 << i : 1 << (i + 1)].mean() for i in range(8, 15)]
    slope = np.polyfit(np.arange(len(octaves)), np.log2(octaves), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 400])
@pytest.mark.parametrize("exponent", COLOURS)
def test_short_noise_is_finite(num_samples: int, exponent: float) -> None:
    noise = coloured_noise(num_samples, exponent, np.random.default_rng(0))
    assert noise.shape == (num_samples,)
    assert np.isfinite(noise).all()


def test_generated_noise_depends_on_the_generator_alone() -> None:
    mixed = [add_coloured_noise(tone(300), 10, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(mixed[0], mixed[1])
    assert np.abs(mixed[0] - mixed[2]).max() > 0.01
