"""Arms of an experiment on recognition: their error rates, and their differences over the same speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NUM_RESAMPLES = 10_000


def rates(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one arm's scores by `edgekit benchmark asr`, one per seed: error rates in percent."""
    errors = [score["errors"] for score in scores]
    return {
        "seeds": len(errors),
        "wer": [round(100 * each["wer"], 2) for each in errors],
        "cer": [round(100 * each["cer"], 2) for each in errors],
        "mean_wer": round(100 * float(np.mean([each["wer"] for each in errors])), 2),
        "mean_cer": round(100 * float(np.mean([each["cer"] for each in errors])), 2),
        "cer_intervals": [[round(100 * end, 2) for end in each["cer_interval"]] for each in errors],
    }


def difference(ours: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Character error rate of one arm less that of another, in points: below 0 ours is better.

    The interval is the 95 % percentile bootstrap over speakers, the same for both arms, of the mean over seeds. It
    tells how the difference would vary with other speakers; what other seeds would give, `by_seed` shows.
    """
    both = min(len(ours), len(others))  # of an arm with fewer seeds, those
    mine, theirs = (np.stack([_counts(score) for score in arm[:both]]) for arm in (ours, others))
    drawn = np.random.default_rng(0).integers(mine.shape[1], size=(NUM_RESAMPLES, mine.shape[1]))
    low, high = np.percentile(_rate(mine[:, drawn]).mean(axis=0) - _rate(theirs[:, drawn]).mean(axis=0), [2.5, 97.5])
    by_seed = [round(100 * float(a - b), 2) for a, b in zip(_rate(mine), _rate(theirs), strict=True)]
    value = 100 * float(_rate(mine).mean() - _rate(theirs).mean())
    return {
        "cer_points": round(value, 2),
        "interval": [round(100 * float(low), 2), round(100 * float(high), 2)],
        "by_seed": by_seed,
    }


def _counts(score: Mapping[str, Any]) -> np.ndarray:
    """int64 `[num_speakers, 2]`: character errors and characters, by the speakers' names."""
    speakers = sorted(score["errors"]["speakers"], key=lambda each: each["speaker"])
    return np.array([(each["num_character_errors"], each["num_characters"]) for each in speakers], np.int64)


def _rate(counts: np.ndarray) -> np.ndarray:
    """Of `[..., num_speakers, 2]` the rates `[...]`."""
    wrong, characters = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return np.asarray(wrong / characters)
