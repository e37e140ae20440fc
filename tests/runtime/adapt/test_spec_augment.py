"""Bands are hidden where they should be, as wide as they may be, always the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.runtime.adapt.spec_augment import spec_augment

pytestmark = pytest.mark.device_side

SIZES = {"time_masks": 2, "time_width": 40, "freq_masks": 2, "freq_width": 27}


def features(num_frames: int = 500) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_frames, 80)).astype(np.float32)


def test_what_is_hidden_is_the_mean_of_its_bin() -> None:
    x = features()
    before = x.copy()
    masked = spec_augment(x, np.random.default_rng(3), **SIZES)
    np.testing.assert_array_equal(x, before)
    assert (masked.dtype, masked.shape) == (x.dtype, x.shape)
    hidden = masked != x
    np.testing.assert_array_equal(masked[hidden], np.broadcast_to(x.mean(0), x.shape)[hidden])
    # whole frames and whole bins
    frames, bins = hidden.all(1), hidden[~hidden.all(1)].any(0)
    np.testing.assert_array_equal(hidden, frames[:, None] | bins[None])
    assert 0 < frames.sum() <= 80
    assert 0 < bins.sum() <= 54


def test_the_seed_decides() -> None:
    x = features()
    first, again, other = (spec_augment(x, np.random.default_rng(seed), **SIZES) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_widths_and_places_are_uniform() -> None:
    """One band of up to 40 frames hides 20 on average, and each frame but those at the ends equally often."""
    rng, x = np.random.default_rng(0), features(100)
    sizes = {**SIZES, "time_masks": 1, "freq_masks": 0}
    hidden = np.array([(spec_augment(x, rng, **sizes) != x).any(1) for _ in range(3000)])
    assert hidden.sum(1).mean() == pytest.approx(20, abs=0.7)
    assert hidden.sum(1).max() == 40
    middle = hidden.mean(0)[40:60]
    assert middle.max() - middle.min() < 0.05
    assert hidden[:, [0, -1]].mean() > 0.003


def test_without_masks_nothing_changes() -> None:
    x = features()
    none = dict.fromkeys(SIZES, 0)
    np.testing.assert_array_equal(spec_augment(x, np.random.default_rng(0), **none), x)


def test_what_is_short_is_not_left() -> None:
    rng = np.random.default_rng(0)
    assert all(np.isfinite(spec_augment(features(n), rng, **SIZES)).all() for n in (1, 2, 5) for _ in range(50))
