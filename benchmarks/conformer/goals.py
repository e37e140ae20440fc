"""From raw samples to medians, ratios with their intervals, and a verdict for each goal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from shared.interval import MIN_SAMPLES, Interval, median_interval

SHERPA = "sherpa-onnx fp32"
OURS = "onnxruntime fp32"
"""What a user gets who asks for nothing."""
NO_SLOWER = 1.03
RTF_AT_MOST = 0.02
RTF_AT = {"num_threads": 2, "audio_s": 10, "batch": 1}
CHUNK_AT_MOST = 0.1
MEMORY_WITHIN = 0.03

RULES = (
    "Random weights: speed only. Times are from float32 waveforms in memory to texts: features, session and greedy "
    "decoding. A ratio is the median over rounds of the two wall times of a round, with its 95 % interval by "
    "bootstrap. A goal is 'reached' where the whole interval lies inside its bound, 'not reached' where it lies wholly "
    f"outside, else 'not resolved'; so is anything of fewer than {MIN_SAMPLES} rounds.",
    f"sherpa: edgekit takes at most {NO_SLOWER:g} x the time of sherpa-onnx with the same model: no slower, with 3 % "
    "for equal. What is longer than 20 s edgekit and the torch module answer in windows of 20 s that share a fifth, "
    "sherpa-onnx in one piece: 30 s are 40 s of computing against 30.",
    f"rtf: at most {RTF_AT_MOST:g} of the recording's length, 10 s with 2 threads.",
    "chunk: of 100 chunks 99 are computed within a tenth of their sound; one thread, end-pointing included. The "
    "interval is by bootstrap over streams. sherpa-onnx takes part where its file has such chunks.",
    f"memory: the median resident size of the last tenth of the requests is within {MEMORY_WITHIN:.0%} of the second "
    "tenth's. The slope is that of a line through all but the first tenth; its interval is by bootstrap of the "
    "residuals of means over a fiftieth of the requests.",
)

Times = npt.NDArray[np.float64]
Cell = Mapping[str, Any]
Row = dict[str, Any]


def offline_rows(cells: Iterable[Cell]) -> list[Row]:
    """A row per subject and cell: medians of the whole and of its steps, and how often its texts were edgekit's."""
    rows = []
    for cell in cells:
        ours = cell["samples"].get(OURS, {}).get("texts", [])
        for name, samples in cell["samples"].items():
            medians = {
                f"{kind}_p50_ms": round(float(np.median(samples[f"{kind}_ms"])), 3)
                for kind in ("wall", "cpu", "features", "session", "decoding")
            }
            same = [a == b for a, b in zip(samples["texts"], ours)]
            place = {key: cell[key] for key in ("num_threads", "audio_s", "batch", "num_rounds")}
            rows.append(
                {**place, "run": name, **medians, "same_texts": round(float(np.mean(same)), 3) if same else None}
            )
    return rows


def stream_rows(streams: Iterable[Cell], most: Iterable[Cell]) -> list[Row]:
    """A row per subject and size of chunk."""
    held = {(cell["run"], cell["chunk_s"]): cell for cell in most}
    rows = []
    for cell in streams:
        for name, rounds in cell["chunk_ms"].items():
            p50, p99 = (quantile_interval(rounds, q).to_json() for q in (0.5, 0.99))
            found = held.get((name, cell["chunk_s"]), {})
            rows.append(
                {
                    "run": name,
                    "chunk_s": cell["chunk_s"],
                    "num_chunks": sum(map(len, rounds)),
                    "p50_ms": p50,
                    "p99_ms": p99,
                    "delay_ms": round(1e3 * (cell["chunk_s"] + cell["look_ahead_s"]) + p99["median"], 1),
                    "num_streams": found.get("num_streams"),
                    "at_least": found.get("at_least", False),
                }
            )
    return rows


def memory_rows(cells: Iterable[Cell]) -> list[Row]:
    """A row per subject."""
    rows = []
    for cell in cells:
        resident = np.asarray(cell["resident_mib"])
        tenth = len(resident) // 10
        ratio = ratio_of_medians(resident[-tenth:], resident[tenth : 2 * tenth])
        rows.append(
            {
                "run": cell["run"],
                "num_requests": len(resident),
                "audio_s": round(sum(cell["audio_s"]), 1),
                "second_tenth_mib": round(float(np.median(resident[tenth : 2 * tenth])), 1),
                "last_tenth_mib": round(float(np.median(resident[-tenth:])), 1),
                "peak_mib": float(resident.max()),
                "slope_mib_per_1000": slope_interval(resident[tenth:]).to_json(),
                "ratio": ratio.to_json(),
            }
        )
    return rows


def goals_of(result: Mapping[str, Any]) -> list[Row]:
    """All goals of what was measured."""
    goals = []
    for cell in result["offline"]:
        for name in filter(_ours, cell["samples"]):
            place = {key: cell[key] for key in ("num_threads", "audio_s", "batch")}
            wall = _wall(cell, name)
            if SHERPA in cell["samples"]:
                goals.append(
                    _goal("sherpa", name, place, median_interval(wall / _wall(cell, SHERPA)), at_most=NO_SLOWER)
                )
            if place == RTF_AT:
                interval = median_interval(wall / 1e3 / cell["audio_s"])
                goals.append(_goal("rtf", name, place, interval, at_most=RTF_AT_MOST))
    for cell in result["streams"]:
        for name, rounds in cell["chunk_ms"].items():
            place = {"chunk_s": cell["chunk_s"]}
            if _ours(name):
                shares = [np.asarray(chunks) / (1e3 * cell["chunk_s"]) for chunks in rounds]
                goals.append(_goal("chunk", name, place, quantile_interval(shares, 0.99), at_most=CHUNK_AT_MOST))
            if _ours(name) and SHERPA in cell["chunk_ms"]:
                means, peer = (
                    np.array([np.mean(chunks) for chunks in cell["chunk_ms"][who]]) for who in (name, SHERPA)
                )
                goals.append(_goal("sherpa", name, place, median_interval(means / peer), at_most=NO_SLOWER))
    for row in memory_rows(result["memory"]):
        if _ours(row["run"]):
            bounds = {"at_least": 1 - MEMORY_WITHIN, "at_most": 1 + MEMORY_WITHIN}
            goals.append(_goal("memory", row["run"], {}, Interval(**row["ratio"]), **bounds))
    return goals


def everywhere(goals: Iterable[Row]) -> list[Row]:
    """Per goal and subject: reached where it is everywhere, not reached where it is not somewhere."""
    verdicts: dict[tuple[str, str], list[str]] = {}
    for goal in goals:
        verdicts.setdefault((goal["goal"], goal["run"]), []).append(goal["verdict"])
    worst = ("not reached", "not resolved", "reached")
    return [
        {"goal": goal, "run": run, "verdict": min(given, key=worst.index), "where": _count(given)}
        for (goal, run), given in verdicts.items()
    ]


def ratio_to(cell: Cell, above: str, below: str) -> Interval | None:
    """Time of one subject over that of another, where both took part."""
    if above not in cell["samples"] or below not in cell["samples"]:
        return None
    return median_interval(_wall(cell, above) / _wall(cell, below))


def quantile_interval(rounds: Sequence[npt.ArrayLike], q: float) -> Interval:
    """A quantile of all samples (its field is called `median`), with its interval by bootstrap over rounds."""
    parts = [np.asarray(part, np.float64) for part in rounds]
    drawn = np.random.default_rng(0).choice(len(parts), (1000, len(parts)))
    found = [np.quantile(np.concatenate([parts[index] for index in indices]), q) for indices in drawn]
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(float(np.quantile(np.concatenate(parts), q)), float(low), float(high), len(parts))


def ratio_of_medians(above: Times, below: Times) -> Interval:
    """With its interval by bootstrap of both."""
    random = np.random.default_rng(0)
    drawn = [np.median(random.choice(part, (2000, len(part))), axis=1) for part in (above, below)]
    low, high = np.percentile(drawn[0] / drawn[1], [2.5, 97.5])
    return Interval(float(np.median(above) / np.median(below)), float(low), float(high), min(len(above), len(below)))


def slope_interval(resident_mib: Times, num_means: int = 45) -> Interval:
    """MiB per 1,000 requests of the line through means of neighbours, with its interval by bootstrap of residuals."""
    size = max(1, len(resident_mib) // num_means)
    means = resident_mib[: len(resident_mib) // size * size].reshape(-1, size).mean(1)
    at = np.arange(len(means)) * size / 1000
    slope, offset = np.polyfit(at, means, 1)
    residuals = means - (slope * at + offset)
    drawn = np.random.default_rng(0).choice(residuals, (2000, len(means)))
    slopes = slope + drawn @ (at - at.mean()) / np.sum((at - at.mean()) ** 2)
    low, high = np.percentile(slopes, [2.5, 97.5])
    return Interval(float(slope), float(low), float(high), len(means))


def _goal(goal: str, run: str, place: Mapping[str, Any], interval: Interval, **bounds: float) -> Row:
    return {
        "goal": goal,
        "run": run,
        **place,
        "interval": interval.to_json(),
        **bounds,
        "verdict": interval.verdict(**bounds),
    }


def _ours(name: str) -> bool:
    return name.startswith(("onnxruntime", "openvino"))


def _wall(cell: Cell, name: str) -> Times:
    return np.asarray(cell["samples"][name]["wall_ms"], np.float64)


def _count(verdicts: Sequence[str]) -> str:
    return f"{verdicts.count('reached')} of {len(verdicts)} reached"
