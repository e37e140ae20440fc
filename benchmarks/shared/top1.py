"""Arms of an experiment on pictures: how many first answers are right, and differences over the same pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Right = npt.NDArray[np.bool_]


def right(answers: Path) -> Right:
    """Which pictures' first class is that of their folder: of `edgekit classify --json`, in the order of their paths.

    Raises:
        SystemExit: pictures were left out.
    """
    pictures = sorted(json.loads(answers.read_text(encoding="utf-8"))["pictures"], key=lambda each: each["picture"])
    if not pictures:
        raise SystemExit(f"no picture was answered: {answers}")
    return np.array([Path(each["picture"]).parent.name == each["classes"][0]["name"] for each in pictures])


def accuracy(arm: Sequence[Right]) -> dict[str, Any]:
    """Of one arm's seeds: top-1 in percent, each and the mean with its interval (see `difference`)."""
    seeds = np.stack(arm).astype(np.float64)
    return {
        "seeds": len(arm),
        "top1": [round(100 * float(value), 2) for value in seeds.mean(1)],
        "mean_top1": round(100 * float(seeds.mean()), 2),
        "interval": _interval(seeds),
    }


def difference(ours: Sequence[Right], others: Sequence[Right]) -> dict[str, Any]:
    """Top-1 of one arm less that of another, in points: above 0 ours is better.

    The 95 % interval is for other seeds and other pictures: a seed of one arm goes with the same seed of the other, and
    so does a picture. Of one seed it tells of pictures alone.
    """
    both = min(len(ours), len(others))  # of an arm with fewer seeds, those
    mine, theirs = (np.stack(arm[:both]).astype(np.float64) for arm in (ours, others))
    return {
        "points": round(100 * float((mine - theirs).mean()), 2),
        "interval": _interval(mine - theirs),
        "by_seed": [round(100 * float(value), 2) for value in (mine - theirs).mean(1)],
    }


def _interval(values: npt.NDArray[np.float64]) -> list[float]:
    """Of the mean of `[seeds, pictures]`, in percent.

    Student's t with Satterthwaite's degrees of freedom, of the sum of what means vary by over seeds and over pictures;
    a bootstrap of so few seeds would be too narrow. What varies by both at once is counted in both.
    """
    each, freedom = [], []
    for means in (values.mean(1), values.mean(0)):
        if len(means) > 1:
            each.append(float(means.var(ddof=1)) / len(means))
            freedom.append(len(means) - 1)
    variance, mean = sum(each), float(values.mean())
    reach = 0.0
    if variance:
        degrees = variance**2 / sum(part**2 / own for part, own in zip(each, freedom))
        reach = float(stats.t.ppf(0.975, degrees)) * variance**0.5
    return [round(100 * end, 2) for end in (mean - reach, mean + reach)]
