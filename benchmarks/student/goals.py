"""From raw samples to medians, ratios with their intervals, and a verdict for each goal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from shared.interval import MIN_SAMPLES, Interval, median_interval

BASE_AT_MOST = 1.03
FBANK_AT_LEAST = 6.0
OVERHEAD_AT_MOST = 0.05

RULES = (
    "Times are from a float32 waveform in memory to greedy CTC tokens: features, session and decoding. A ratio is the "
    "median over rounds of the two wall times of a round, with its 95 % interval by bootstrap. A goal is 'reached' "
    "where the whole interval lies inside its bound, 'not reached' where it lies wholly outside, else 'not resolved'; "
    f"so is anything of fewer than {MIN_SAMPLES} rounds.",
    f"Base: edgekit's export of HuBERT Base takes at most {BASE_AT_MOST:g} x optimum's time on the same backend and "
    "precision: the same weights, no slower, with 3 % for equal.",
    f"Student: the fbank student is at least {FBANK_AT_LEAST:g} x as fast as optimum's HuBERT Base on the same backend "
    "and precision.",
    f"Overhead: features and decoding are under {OVERHEAD_AT_MOST:.0%} of the fbank student's whole time.",
    "Waveform / fbank has no goal here; the paper reports 2 x.",
)

Times = npt.NDArray[np.float64]
Cell = Mapping[str, Any]


def rows_of(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """A row per subject, threads and length: median wall and CPU ms, and the share of features and decoding."""
    rows = []
    for cell in cells:
        for name, samples in cell["samples"].items():
            model, backend, precision = name.split()
            rows.append(
                {
                    "num_threads": cell["num_threads"],
                    "audio_s": cell["audio_s"],
                    "model": model,
                    "backend": backend,
                    "precision": precision,
                    "num_rounds": cell["num_rounds"],
                    "wall_p50_ms": round(float(np.median(samples["wall_ms"])), 3),
                    "cpu_p50_ms": round(float(np.median(samples["cpu_ms"])), 3),
                    "features_p50_ms": round(float(np.median(samples["features_ms"])), 3),
                    "decoding_p50_ms": round(float(np.median(samples["decoding_ms"])), 3),
                    "num_tokens": samples["num_tokens"],
                }
            )
    return rows


def goals_of(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """All comparisons: per cell, backend and precision. `wall` decides; `cpu` is the same by process CPU time."""
    goals = []
    for cell in cells:
        runs = dict.fromkeys(name.split(maxsplit=1)[1] for name in cell["samples"])
        for run in runs:
            if "torch" not in run:
                goals += _goals_on(cell, run)
    return goals


def over_lengths(goals: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per goal, threads and backend: reached where it is at every length, not reached where it is not at one."""
    verdicts: dict[tuple[str, int, str], list[str]] = {}
    for goal in goals:
        if goal["verdict"] is not None:
            verdicts.setdefault((goal["goal"], goal["num_threads"], goal["run"]), []).append(goal["verdict"])
    worst = ("not reached", "not resolved", "reached")
    return [
        {"goal": goal, "num_threads": num_threads, "run": run, "verdict": min(given, key=worst.index)}
        for (goal, num_threads, run), given in verdicts.items()
    ]


def _goals_on(cell: Cell, run: str) -> list[dict[str, Any]]:
    comparisons: tuple[tuple[str, dict[str, Interval], dict[str, float]], ...] = (
        ("base", _compare(cell, f"edgekit-base {run}", f"optimum-base {run}"), {"at_most": BASE_AT_MOST}),
        ("student", _compare(cell, f"optimum-base {run}", f"fbank {run}"), {"at_least": FBANK_AT_LEAST}),
        ("overhead", _overhead(cell["samples"][f"fbank {run}"]), {"at_most": OVERHEAD_AT_MOST}),
        ("waveform / fbank", _compare(cell, f"waveform {run}", f"fbank {run}"), {}),
    )
    return [
        {
            "num_threads": cell["num_threads"],
            "audio_s": cell["audio_s"],
            "run": run,
            "goal": goal,
            **{clock: interval.to_json() for clock, interval in by_clock.items()},
            **bound,
            "verdict": by_clock["wall"].verdict(**bound) if bound else None,
        }
        for goal, by_clock, bound in comparisons
    ]


def _compare(cell: Cell, above: str, below: str) -> dict[str, Interval]:
    """Time of `above` divided by that of `below`."""
    return {
        clock: median_interval(_times(cell, above, clock) / _times(cell, below, clock)) for clock in ("wall", "cpu")
    }


def _overhead(samples: Mapping[str, Any]) -> dict[str, Interval]:
    parts = np.add(samples["features_ms"], samples["decoding_ms"])
    return {"wall": median_interval(parts / np.asarray(samples["wall_ms"]))}


def _times(cell: Cell, subject: str, clock: str) -> Times:
    return np.asarray(cell["samples"][subject][f"{clock}_ms"], np.float64)
