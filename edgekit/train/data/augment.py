"""Changes to a waveform that leave its words alone: another speed, noise. Pure functions of (wave, rng).

Waves are float32 [N] in [-1, 1]. None of these changes its argument.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import soxr

Float32 = npt.NDArray[np.float32]

COLOURS = (0.0, 1.0, 2.0)
"""White, pink and brown: the power density falls with frequency to this power."""


def change_speed(wave: Float32, factor: float) -> Float32:
    """Faster (factor > 1) and higher, or slower and lower: [N] to [about N / factor].

    Resampling, as Ko et al. 2015, "Audio augmentation for speech recognition", whose factors are 0.9, 1.0 and 1.1.
    """
    if factor == 1:
        return wave
    # soxr takes the ratio of the two rates only
    changed: Float32 = soxr.resample(wave, 1000 * factor, 1000)
    return np.clip(changed, -1, 1, out=changed)


def perturb_speed(wave: Float32, factors: Sequence[float], rng: np.random.Generator) -> Float32:
    """`change_speed` by one of the factors, all as likely."""
    return change_speed(wave, factors[int(rng.integers(len(factors)))])


def coloured_noise(num_samples: int, exponent: float, rng: np.random.Generator) -> Float32:
    """Gaussian noise, float32 [num_samples], of unit variance; its power density is 1 / frequency^exponent.

    Shaped in the frequency domain (Timmer & Koenig 1995), without a mean.
    """
    # the transform of a power of two is several times as fast
    size = 1 << (max(num_samples, 2) - 1).bit_length()
    white = rng.standard_normal(size, np.float32)
    if exponent == 0:
        shaped = white[:num_samples]
    else:
        spectrum = np.fft.rfft(white)
        frequency = np.arange(len(spectrum), dtype=np.float32)
        # the mean's share of the power would be infinite
        spectrum[0], frequency[0] = 0, 1
        shaped = np.fft.irfft(spectrum * frequency ** np.float32(-exponent / 2), n=size)[:num_samples].astype(
            np.float32
        )
    noise: Float32 = shaped - shaped.mean()
    noise /= max(float(noise.std()), 1e-12)
    return noise


def add_noise(wave: Float32, noise: Float32, snr_db: float) -> Float32:
    """Add noise at a signal-to-noise ratio of mean powers over the whole wave, dB.

    Noise that is shorter is repeated, longer is cut. A sum that leaves [-1, 1] is scaled down as a whole, so that
    nothing is clipped. Where either is silent there is no such ratio and `wave` is returned.
    """
    noise = np.resize(noise, len(wave))
    signal_power, noise_power = (float(np.mean(np.square(part, dtype=np.float64))) for part in (wave, noise))
    if signal_power == 0 or noise_power == 0:
        return wave
    gain = np.sqrt(signal_power / noise_power * 10 ** (-snr_db / 10))
    mixed: Float32 = wave + noise * np.float32(gain)
    mixed /= max(1.0, float(np.abs(mixed).max()))
    return mixed


def add_coloured_noise(wave: Float32, snr_db: float, rng: np.random.Generator) -> Float32:
    """`add_noise` of white, pink or brown noise, all as likely."""
    return add_noise(wave, coloured_noise(len(wave), COLOURS[int(rng.integers(len(COLOURS)))], rng), snr_db)
