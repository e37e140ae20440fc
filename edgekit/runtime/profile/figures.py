"""The figures of one point against those of another: each with its ratio and what that says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from edgekit.runtime.profile.measured import Measured
from edgekit.runtime.profile.ratios import Ratio, mean_ratio, percentile_ratios, shift_ratio

PERCENTILES = (50.0, 90.0, 99.0)
Kind = Literal["time", "speed", "amount"]


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
    """All of them; latencies where both have some, which the offline query has not.

    Of a point that further results have measured again each figure has a value of each result. These tell how one run
    differs from the next, which the samples within a run do not.
    """
    return _of_several((a, *a.again), (b, *b.again)) if a.again or b.again else _of_one(a, b)


def _of_one(a: Measured, b: Measured) -> list[Figure]:
    found = []
    if a.latencies_ms is not None and b.latencies_ms is not None:
        for q, ratio in zip(PERCENTILES, percentile_ratios(a.latencies_ms, b.latencies_ms, PERCENTILES)):
            found.append(_figure(f"p{q:g}", "ms", _percentile(a, q), _percentile(b, q), ratio, "time"))
    found.append(_figure("throughput", "items/s", a.throughput_per_s, b.throughput_per_s, _throughput(a, b), "speed"))
    if a.memory_read == b.memory_read:
        found.append(_once("peak memory", "MiB", a.peak_mib, b.peak_mib))
    else:
        found.append(_read_otherwise(a, b))
    if a.gpu_mib is not None or b.gpu_mib is not None:
        found.append(_once("GPU memory", "MiB", a.gpu_mib, b.gpu_mib, _why((a, b), "memory.gpu_mib")))
    found.append(_once("energy of an item", "J", a.energy_j, b.energy_j, _why((a, b), "energy")))
    found.append(_cold_start(a, b))
    return found


def _of_several(a: Sequence[Measured], b: Sequence[Measured]) -> list[Figure]:
    both = (*a, *b)

    def figure(name: str, unit: str, kind: Kind, value: Callable[[Measured], float | None], why: str = "") -> Figure:
        of_a, of_b = ([told for each in side if (told := value(each)) is not None] for side in (a, b))
        if (len(of_a), len(of_b)) != (len(a), len(b)):
            return _once(name, unit, None, None, why or "too few samples in one of the results")
        median_a, median_b = float(np.median(of_a)), float(np.median(of_b))
        if min(*of_a, *of_b) <= 0:
            return _figure(name, unit, median_a, median_b, Ratio(None, reason="a value of 0"), kind)
        ratio = shift_ratio(of_a, of_b)
        if ratio.low is None:
            ratio = replace(ratio, reason=f"{len(a)} and {len(b)} results, 4 and 4 are enough")
        return _figure(name, unit, median_a, median_b, ratio, kind)

    found = []
    if all(each.latencies_ms is not None for each in both):
        found += [figure(f"p{q:g}", "ms", "time", partial(_percentile, q=q)) for q in PERCENTILES]
    throughput = figure("throughput", "items/s", "speed", lambda each: each.throughput_per_s)
    if "server" in (a[0].load["scenario"], b[0].load["scenario"]):
        ratio = Ratio(throughput.ratio.value, reason="the load was given")
        throughput = replace(throughput, ratio=ratio, verdict=f"no interval: {ratio.reason}")
    found.append(throughput)
    if len({each.memory_read for each in both}) == 1:
        found.append(figure("peak memory", "MiB", "amount", lambda each: each.peak_mib))
    else:
        found.append(_read_otherwise(a[0], b[0]))
    if any(each.gpu_mib is not None for each in both):
        found.append(figure("GPU memory", "MiB", "amount", lambda each: each.gpu_mib, _why(both, "memory.gpu_mib")))
    found.append(figure("energy of an item", "J", "amount", lambda each: each.energy_j, _why(both, "energy")))
    found.append(figure("cold start", "s", "time", _median_start, _why(both, "cold_start")))
    return found


def _percentile(each: Measured, q: float) -> float | None:
    return each.percentiles[q].value if q in each.percentiles else None


def _median_start(each: Measured) -> float | None:
    return float(np.median(each.cold_starts_s)) if each.cold_starts_s else None


def _read_otherwise(a: Measured, b: Measured) -> Figure:
    when = f"{a.memory_read} in A, {b.memory_read} in B"
    return Figure("peak memory", "MiB", a.peak_mib, b.peak_mib, Ratio(None, reason=when), f"read {when}")


def _throughput(a: Measured, b: Measured) -> Ratio:
    value = b.throughput_per_s / a.throughput_per_s if a.throughput_per_s > 0 else None
    if value is None or "server" in (a.load["scenario"], b.load["scenario"]):
        return Ratio(value, reason="the load was given")
    calls = mean_ratio(b.call_ms, a.call_ms)
    if calls.value is None or calls.low is None or calls.high is None:
        return Ratio(value, reason=calls.reason)
    return Ratio(value, calls.low * value / calls.value, calls.high * value / calls.value)


def _cold_start(a: Measured, b: Measured) -> Figure:
    of_a, of_b = _median_start(a), _median_start(b)
    if of_a is None or of_b is None:
        return _once("cold start", "s", of_a, of_b, _why((a, b), "cold_start"))
    return _figure("cold start", "s", of_a, of_b, shift_ratio(a.cold_starts_s, b.cold_starts_s), "time")


def _why(points: Sequence[Measured], name: str) -> str:
    """Why one of them lacks something."""
    return next((each.not_measured[name] for each in points if name in each.not_measured), "not measured")


def _once(name: str, unit: str, a: float | None, b: float | None, why: str = "") -> Figure:
    """Of what a run tells once."""
    if a is None or b is None:
        return Figure(name, unit, a, b, Ratio(None, reason=why), f"not measured: {why}")
    return _figure(name, unit, a, b, Ratio(b / a if a > 0 else None, reason="one value of each run"), "amount")


def _figure(name: str, unit: str, a: float | None, b: float | None, ratio: Ratio, kind: Kind) -> Figure:
    if ratio.low is None or ratio.high is None:
        return Figure(name, unit, a, b, ratio, f"no interval: {ratio.reason}")
    if ratio.holds_one:
        return Figure(name, unit, a, b, ratio, "no difference measured")
    more, less = {"time": ("slower", "faster"), "speed": ("faster", "slower"), "amount": ("more", "less")}[kind]
    return Figure(name, unit, a, b, ratio, f"B is {more if ratio.low > 1 else less}")
