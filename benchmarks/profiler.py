"""What `edgekit profile` times against a bare loop with a clock, over the same session, taken in turns.

    python benchmarks/profiler.py [BUNDLE] [--rounds 100] [--calls 50] [--json FILE]

A round is so many calls by each, in an order that turns around each time. Goals: the ratio of the medians within 0.97
to 1.03, and less than 20 microseconds added to a call. What is added to a call that does nothing is added to any.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from shared.interval import Interval, median_interval
from shared.record import describe, load, record, write_result

from edgekit.core.bundle import open_bundle
from edgekit.devices.loadgen import ask_by_loadgen, installed
from edgekit.devices.scenarios import Load, ask
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.profile.inputs import feed_bundle
from edgekit.runtime.profile.point import Point
from edgekit.runtime.session import open_session

Call = Callable[[], object]
Timer = Callable[[Call, int], np.ndarray]
RATIO, ADDED_US = (0.97, 1.03), 20.0
_UNCOUNTED = 10


def bare(call: Call, num_calls: int) -> np.ndarray:
    """Milliseconds of each call, by nothing but a clock."""
    times_ms = []
    for _ in range(num_calls):
        start = time.perf_counter()
        call()
        times_ms.append((time.perf_counter() - start) * 1e3)
    return np.array(times_ms)


def by_edgekit(call: Call, num_calls: int) -> np.ndarray:
    return ask(call, Load(duration_s=1e-9, min_queries=num_calls), expected_ms=1.0).latencies_ms


def by_loadgen(call: Call, num_calls: int) -> np.ndarray:
    return ask_by_loadgen(call, Load(duration_s=1e-3, min_queries=num_calls), expected_ms=1e6).latencies_ms


def take_turns(timers: dict[str, Timer], call: Call, rounds: int, num_calls: int) -> dict[str, list[np.ndarray]]:
    """Of each timer, `[num_calls]` milliseconds for every round."""
    times_ms: dict[str, list[np.ndarray]] = {name: [] for name in timers}
    bare(call, 2 * num_calls)
    for turn in range(rounds):
        names = list(timers) if turn % 2 else list(reversed(timers))
        for name in names:
            # the first calls find the caches as setting the timer up has left them
            times_ms[name].append(timers[name](call, num_calls + _UNCOUNTED)[_UNCOUNTED:])
    return times_ms


def nothing() -> None:
    return None


def added_us(timer: Timer, rounds: int = 20, num_calls: int = 1000) -> Interval:
    """The median latency that is told of calls that do nothing, in microseconds."""
    return median_interval([float(np.median(timer(nothing, num_calls))) * 1e3 for _ in range(rounds)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=builtin_bundle(), help="default: the built-in model")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()

    result = record("profiler", ("numpy", "onnxruntime", *(["mlcommons-loadgen"] if installed() else [])))
    bundle = open_bundle(arguments.bundle)
    session = open_session(bundle, backend="onnxruntime", options=SessionOptions(num_threads=1))
    arrays = feed_bundle(session.signature, Point(str(arguments.bundle)), None).arrays
    timers: dict[str, Timer] = {"bare loop": bare, "edgekit": by_edgekit}
    if installed():
        timers["MLPerf's loadgen"] = by_loadgen
    times_ms = take_turns(timers, lambda: session.run(arrays), arguments.rounds, arguments.calls)

    medians = {name: np.array([np.median(each) for each in rounds]) for name, rounds in times_ms.items()}
    rows: list[dict[str, Any]] = []
    for name, timer in timers.items():
        p50, p90, p99 = np.percentile(np.concatenate(times_ms[name]), [50, 90, 99])
        ratio, added = median_interval(medians[name] / medians["bare loop"]), added_us(timer)
        rows.append(
            {
                "name": name,
                **{key: round(float(value), 4) for key, value in (("p50_ms", p50), ("p90_ms", p90), ("p99_ms", p99))},
                "times_bare": ratio.to_json(),
                "ratio_verdict": ratio.verdict(at_least=RATIO[0], at_most=RATIO[1]),
                "added_us": added.to_json(),
                "added_verdict": added.verdict(at_most=ADDED_US),
            }
        )
    result |= {
        "load_after": load(),
        "bundle": f"{bundle.manifest.family} {bundle.manifest.variant}",
        "rounds": arguments.rounds,
        "calls": arguments.calls,
        "rows": rows,
        "raw_ms": {name: [np.round(each, 4).tolist() for each in rounds] for name, rounds in times_ms.items()},
    }
    print(f"{result['bundle']}, one thread, {arguments.rounds} rounds of {arguments.calls} calls; {describe(result)}")
    print(f"{'':18}{'p50 ms':>9}{'p90':>9}{'p99':>9}   {'x bare loop (95 %)':<34}{'added to a call, us (95 %)'}")
    for row in rows:
        ratio, added = (Interval(**row[key]) for key in ("times_bare", "added_us"))
        print(
            f"{row['name']:18}{row['p50_ms']:9.3f}{row['p90_ms']:9.3f}{row['p99_ms']:9.3f}   "
            f"{ratio.text(4)} {row['ratio_verdict']:<8} {added.text()} {row['added_verdict']}"
        )
    if arguments.json:
        write_result(arguments.json, result)
    else:
        print(json.dumps({key: value for key, value in result.items() if key != "raw_ms"}))


if __name__ == "__main__":
    main()
