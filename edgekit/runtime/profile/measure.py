"""One point, measured in this process, which should be a fresh one: its memory is counted whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.core.errors import BackendError
from edgekit.devices.loadgen import ask_by_loadgen, installed, loadgen_overhead_us
from edgekit.devices.memory import gpu_memory_mib, peak_memory_mib, resident_memory_mib
from edgekit.devices.percentiles import Distribution, Percentile, describe, percentile_of
from edgekit.devices.scenarios import Answered, Load, ask, timing_overhead_us
from edgekit.devices.steady import warm_up
from edgekit.runtime.profile.model import Subject, open_subject
from edgekit.runtime.profile.point import Point

Report = Callable[[str], None]
"""Told what is done next, as "loading"."""

_MAX_AUTOCORRELATION = 0.3
_DIGITS = 5
"""Of raw samples in ms: 10 ns, finer than any clock here."""


@dataclass(frozen=True)
class Verdict:
    """A bound of latency, held against a percentile's interval.

    Attributes:
        verdict: "met" or "not met" where the whole interval is on one side of the bound, else "not resolved".
        share_within: of the queries.
    """

    bound_ms: float
    percentile: float
    verdict: str
    share_within: float


def measure_point(
    point: Point,
    report: Report = lambda step: None,
    recorded: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, Any]:
    """Open the model, warm up, run the scenario, and then, in a pass of its own, time its layers.

    Args:
        recorded: a block around the scenario, while which the machine is recorded.

    Returns:
        Plain data: of a point of a result what is measured in its process, with `marks` (`start_s`, `stop_s` and the
        number of items between them, by `time.perf_counter`) for who records the machine meanwhile.

    Raises:
        EdgekitError: the point cannot be run here, or its options do not fit.
    """
    not_measured: dict[str, str] = {}
    before_mib = resident_memory_mib()
    report("loading")
    point.load(1)  # what does not fit is said before the work
    begun = time.perf_counter()
    subject = open_subject(point)
    load_s = time.perf_counter() - begun
    loaded_mib = resident_memory_mib()
    load = point.load(subject.items)
    report("warming up")
    warm = warm_up(subject.call, limit_s=point.warm_up_limit_s)
    held = {"steady_mib": resident_memory_mib(), "peak_mib": peak_memory_mib(), "measured": "after the warm-up"}
    # which does not know the rule by which a point of a sweep ends
    by_loadgen = point.harness == "loadgen" or (point.harness == "auto" and load.median_width is None and installed())
    overhead_us = loadgen_overhead_us() if by_loadgen else timing_overhead_us()
    report(f"measuring {load.scenario}")
    with recorded():
        answered = _ask(subject, point, load, warm.call_ms, by_loadgen)
    if not by_loadgen:
        held = {"steady_mib": resident_memory_mib(), "peak_mib": peak_memory_mib(), "measured": "after the scenario"}
    # MLPerf's load generator keeps every query in this process: 550 MiB of 200,000 were seen
    memory: dict[str, Any] = {"before_mib": before_mib, "loaded_mib": loaded_mib, **held}
    if before_mib is None:
        not_measured["memory.steady_mib"] = "the system tells only how much this process has held at most"
    gpu_mib, why = gpu_memory_mib() if subject.session["device"].startswith("cuda") else (None, "runs on no GPU")
    memory["gpu_mib"] = gpu_mib
    if why is not None:
        not_measured["memory.gpu_mib"] = why
    subject.close()  # so that there is room for the session that times layers
    layers = None
    if point.layers:
        report("timing layers")
        try:
            layers = subject.layers().to_json()
        except BackendError as error:  # what was measured until here stays
            not_measured["layers"] = error.message
    else:
        not_measured["layers"] = "not asked for (--layers)"
    items = answered.num_calls * subject.items
    if subject.no_audio is not None:
        not_measured["rtf"] = subject.no_audio
    elif load.scenario == "server":
        not_measured["rtf"] = "the load is given: what it leaves idle is no speed"
    distribution = None if load.scenario == "offline" else describe(answered.latencies_ms)
    if distribution is None:
        not_measured["latency"] = "offline is one query: its figure is the throughput"
    rtf = _rtf(subject, distribution, load, items / answered.seconds)
    if rtf is None and "rtf" not in not_measured:
        not_measured["rtf"] = "too few queries for a median"
    return {
        "session": {**subject.session, "num_threads": point.threads, "load_s": load_s},
        "inputs": subject.inputs,
        "items_per_call": subject.items,
        "audio_s": subject.audio_s,
        "warm_up": warm.to_json(),
        "timing_overhead_us": overhead_us,
        "scenario": _scenario(load, answered, point),
        "latency": None if distribution is None else distribution.to_json(),
        "throughput_per_s": items / answered.seconds,
        "rtf": rtf,
        "memory": memory,
        "layers": layers,
        "warnings": _warnings(warm.steady, warm.rule, distribution),
        "not_measured": not_measured,
        "samples_ms": [round(float(sample), _DIGITS) for sample in answered.latencies_ms],
        "marks": {"start_s": answered.start_s, "stop_s": answered.stop_s, "num_items": items},
    }


def _ask(subject: Subject, point: Point, load: Load, expected_ms: float, by_loadgen: bool) -> Answered:
    if by_loadgen:
        bound_ms = point.bound_ms or 100.0
        return ask_by_loadgen(
            subject.call, load, expected_ms=expected_ms, bound_ms=bound_ms, percentile=point.bound_percentile
        )
    return ask(subject.call, load, expected_ms=expected_ms)


def _scenario(load: Load, answered: Answered, point: Point) -> dict[str, Any]:
    told = asdict(load)
    bound = None
    if point.bound_ms is not None and load.scenario != "offline":
        bound = asdict(held_to(answered, point.bound_ms, point.bound_percentile))
    return {
        "name": told.pop("scenario"),
        "harness": answered.harness,
        **told,
        "num_queries": 1 if load.scenario == "offline" else len(answered.latencies_ms),
        "num_calls": answered.num_calls,
        "seconds": answered.seconds,
        "bound": bound,
        "loadgen": None if answered.summary is None else {"valid": answered.valid, "summary": answered.summary},
    }


def held_to(answered: Answered, bound_ms: float, q: float) -> Verdict:
    """Whether a percentile of the latencies keeps a bound."""
    values = answered.latencies_ms.copy()
    values.sort()
    found: Percentile = percentile_of(values, q)
    verdict = "not resolved"
    if found.low is not None and found.high is not None:
        verdict = "met" if found.high <= bound_ms else "not met" if found.low > bound_ms else verdict
    return Verdict(bound_ms, q, verdict, float((values <= bound_ms).mean()))


def _rtf(subject: Subject, latency: Distribution | None, load: Load, throughput_per_s: float) -> float | None:
    """Seconds of computing per second of sound: of streams by the median of a query, else by the throughput."""
    if subject.audio_s is None:
        return None
    if latency is None:
        return 1 / (throughput_per_s * subject.audio_s)
    if load.scenario == "server":
        return None
    median_ms = latency.percentile(50).value
    items = subject.items * load.calls_per_query
    return None if median_ms is None else median_ms / 1e3 / (items * subject.audio_s)


def _warnings(steady: bool, rule: str, latency: Distribution | None) -> list[str]:
    warnings = [] if steady else [f"the warm-up ended by its limit: {rule}"]
    if latency is not None and (latency.lag1_autocorrelation or 0.0) > _MAX_AUTOCORRELATION:
        warnings.append(
            f"successive latencies correlate by {latency.lag1_autocorrelation:.2f}: the intervals, which take them for "
            "independent, are too narrow"
        )
    return warnings
