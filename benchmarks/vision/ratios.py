"""From samples to medians, ratios with intervals and verdicts, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from shared.interval import Interval, median_interval

AT_MOST = 1.03
"""edgekit's time by a peer's: no slower, with 3 % for equal."""

RULES = (
    "Times are from the encoded bytes of a photograph in memory to its five likeliest classes: decode, turn, resize, "
    "crop, normalise, infer, softmax. Each round takes one photograph; a ratio is the median over rounds of the two "
    "wall times of a round, with its 95 % interval by bootstrap. edgekit's fp32 is held to the fp32 peers on its "
    f"backend and in torch: 'reached' where the whole interval is at most {AT_MOST:g}. bf16 has rows of its own, "
    "beside the peer's file in bf16."
)


def goals_of(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """edgekit's time by each peer's, in the same precision and on the same backend or in torch."""
    goals = []
    for ours in cell["samples"]:
        maker, backend, precision = ours.split()
        if maker != "edgekit":
            continue
        for theirs in cell["samples"]:
            peer, where, computed_in = theirs.split()
            if peer == "edgekit" or computed_in != precision or where not in (backend, "eager", "compiled"):
                continue
            ratios = {clock: _ratio(cell, ours, theirs, clock) for clock in ("wall_ms", "cpu_ms")}
            goals.append(
                {
                    "model": cell["model"],
                    "num_threads": cell["num_threads"],
                    "ours": ours,
                    "peer": theirs,
                    "wall": ratios["wall_ms"].to_json(),
                    "cpu": ratios["cpu_ms"].to_json(),
                    "at_most": AT_MOST,
                    "verdict": ratios["wall_ms"].verdict(at_most=AT_MOST),
                }
            )
    return goals


def report(cells: Sequence[Mapping[str, Any]], goals: Sequence[Mapping[str, Any]]) -> str:
    """Two tables in Markdown: times, and ratios."""
    times = ["| model | threads | subject | p50 ms | CPU ms | decode to pixels ms |", "|---|---:|---|---:|---:|---:|"]
    for cell in cells:
        for name, samples in cell["samples"].items():
            wall, cpu = (float(np.median(samples[clock])) for clock in ("wall_ms", "cpu_ms"))
            pixels = cell["features_p50_ms"][name]
            times.append(
                f"| {cell['model']} | {cell['num_threads']} | {name} | {wall:.2f} | {cpu:.2f} | {pixels:.2f} |"
            )
        times += [
            f"| {cell['model']} | {cell['num_threads']} | {name} | not measured: {why} | | |"
            for name, why in cell["not_measured"].items()
        ]
    ratios = ["| model | threads | edgekit | peer | time by the peer's | |", "|---|---:|---|---|---:|---|"]
    for goal in goals:
        told = [goal["model"], goal["num_threads"], goal["ours"], goal["peer"], Interval(**goal["wall"]).text()]
        ratios.append(f"| {' | '.join(map(str, told))} | {goal['verdict']} |")
    return "\n".join([*times, "", *ratios, "", RULES])


def _ratio(cell: Mapping[str, Any], above: str, below: str, clock: str) -> Interval:
    ours, theirs = (np.asarray(cell["samples"][name][clock], np.float64) for name in (above, below))
    # a clock of whole ticks may read 0
    return median_interval(ours / np.maximum(theirs, 1e-3))
