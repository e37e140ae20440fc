"""The figures of one point against those of another: each with its ratio and what that says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.runtime.profile.measured import Measured
from edgekit.runtime.profile.ratios import Ratio, mean_ratio, percentile_ratios, shift_ratio

PERCENTILES = (50.0, 90.0, 99.0)


@dataclass(frozen=True)
class Figure:
    """One figure of a pair.

    Attributes:
        name: "p50", "p90", "p99", "throughput", "peak memory", "GPU memory", "energy of an item", "cold start".
        a, b: None where it was not measured.
    """

    name: str
    unit: str
    a: float | None
    b: float | None
    ratio: Ratio
    verdict: str


def figures_of(a: Measured, b: Measured) -> list[Figure]:
    """All of them; latencies where both have some, which the offline query has not."""
    found = []
    if a.latencies_ms is not None and b.latencies_ms is not None:
        for q, ratio in zip(PERCENTILES, percentile_ratios(a.latencies_ms, b.latencies_ms, PERCENTILES)):
            of_a, of_b = (each.percentiles[q].value if q in each.percentiles else None for each in (a, b))
            found.append(_figure(f"p{q:g}", "ms", of_a, of_b, ratio, "time"))
    found.append(_figure("throughput", "items/s", a.throughput_per_s, b.throughput_per_s, _throughput(a, b), "speed"))
    if a.memory_read == b.memory_read:
        found.append(_once("peak memory", "MiB", a.peak_mib, b.peak_mib))
    else:
        when = f"{a.memory_read} in A, {b.memory_read} in B"
        found.append(Figure("peak memory", "MiB", a.peak_mib, b.peak_mib, Ratio(None, reason=when), f"read {when}"))
    if a.gpu_mib is not None or b.gpu_mib is not None:
        found.append(_once("GPU memory", "MiB", a.gpu_mib, b.gpu_mib, _why(a, b, "memory.gpu_mib")))
    found.append(_once("energy of an item", "J", a.energy_j, b.energy_j, _why(a, b, "energy")))
    found.append(_cold_start(a, b))
    return found


def _throughput(a: Measured, b: Measured) -> Ratio:
    value = b.throughput_per_s / a.throughput_per_s if a.throughput_per_s > 0 else None
    if value is None or "server" in (a.load["scenario"], b.load["scenario"]):
        return Ratio(value, reason="the load was given")
    calls = mean_ratio(b.call_ms, a.call_ms)
    if calls.value is None or calls.low is None or calls.high is None:
        return Ratio(value, reason=calls.reason)
    return Ratio(value, calls.low * value / calls.value, calls.high * value / calls.value)


def _cold_start(a: Measured, b: Measured) -> Figure:
    of_a, of_b = (float(np.median(each.cold_starts_s)) if each.cold_starts_s else None for each in (a, b))
    if of_a is None or of_b is None:
        return _once("cold start", "s", of_a, of_b, _why(a, b, "cold_start"))
    return _figure("cold start", "s", of_a, of_b, shift_ratio(a.cold_starts_s, b.cold_starts_s), "time")


def _why(a: Measured, b: Measured, name: str) -> str:
    """Why one of both lacks something."""
    return next((each.not_measured[name] for each in (a, b) if name in each.not_measured), "not measured")


def _once(name: str, unit: str, a: float | None, b: float | None, why: str = "") -> Figure:
    """Of what a run tells once."""
    if a is None or b is None:
        return Figure(name, unit, a, b, Ratio(None, reason=why), f"not measured: {why}")
    return _figure(name, unit, a, b, Ratio(b / a if a > 0 else None, reason="one value of each run"), "amount")


def _figure(
    name: str, unit: str, a: float | None, b: float | None, ratio: Ratio, kind: Literal["time", "speed", "amount"]
) -> Figure:
    if ratio.low is None or ratio.high is None:
        return Figure(name, unit, a, b, ratio, f"no interval: {ratio.reason}")
    if ratio.holds_one:
        return Figure(name, unit, a, b, ratio, "no difference measured")
    more, less = {"time": ("slower", "faster"), "speed": ("faster", "slower"), "amount": ("more", "less")}[kind]
    return Figure(name, unit, a, b, ratio, f"B is {more if ratio.low > 1 else less}")
