"""SpecAugment without a graph: bands of time and frequency of one utterance's features are hidden."""

from __future__ import annotations

import numpy as np


def spec_augment(
    features_FM: np.ndarray,
    rng: np.random.Generator,
    *,
    time_masks: int,
    time_width: int,
    freq_masks: int,
    freq_width: int,
) -> np.ndarray:
    """Replace bands of frames and bins by each bin's mean over the utterance (Park et al. 2019, arXiv 1904.08779).

    As in training, without time warping: each band's width is uniform from 0 to its most, and so is its place among
    those where it fits; bands may overlap.

    Args:
        features_FM: F frames of M bins.
        rng: what is drawn from it depends on the numbers of masks alone.
        time_masks, time_width: bands of time, and the most frames of one.
        freq_masks, freq_width: bands of frequency, and the most bins of one.

    Returns:
        A new [F, M] of the same type.
    """
    masked_FM, mean_M = features_FM.copy(), features_FM.mean(axis=0)
    for start, stop in _bands(rng, time_masks, time_width, features_FM.shape[0]):
        masked_FM[start:stop] = mean_M
    for start, stop in _bands(rng, freq_masks, freq_width, features_FM.shape[1]):
        masked_FM[:, start:stop] = mean_M[start:stop]
    return masked_FM


def _bands(rng: np.random.Generator, count: int, widest: int, size: int) -> list[tuple[int, int]]:
    where = rng.random((count, 2))
    widths = (where[:, 0] * (min(widest, size) + 1)).astype(np.int64)
    starts = (where[:, 1] * (size - widths + 1)).astype(np.int64)
    return list(zip(starts.tolist(), (starts + widths).tolist()))
