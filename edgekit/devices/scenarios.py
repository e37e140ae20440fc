"""The scenarios of MLPerf Inference over any callable: what is asked of it, and a small harness that asks.

`loadgen.py` does the same by MLPerf's own load generator. Definitions: Reddi et al., MLPerf Inference Benchmark (ISCA
2020), section 3.4, with the multi stream of version 2.0 of the rules (a query follows when the one before is answered).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from types import TracebackType

import numpy as np

from edgekit.devices.percentiles import percentile_of

SCENARIOS = ("single-stream", "multi-stream", "offline", "server")
MAX_QUERIES = 200_000
_NARROW_AFTER_S = 2.0
"""The machine's pace wanders from second to second, which fewer of them would not show."""
_SPIN_S = 3e-4
"""A sleeping thread wakes up later than it asked for, by up to so much where nothing else runs."""


@dataclass(frozen=True)
class Load:
    """What is asked of a callable, of which each call answers `items_per_call` items.

    Attributes:
        scenario: "single-stream": a query is one call, the next follows when it is answered. "multi-stream": the same
            with `items_per_query` items a query. "offline": one query with all items. "server": a query is one call,
            they arrive by a Poisson process of `qps` and wait for their turn.
        duration_s: single and multi stream end with the first query after it, server with the last that arrives in it,
            offline has as many items as are expected to take so long.
        min_queries: at least so many, however long they take; of the offline query, calls. More than 200,000 are never
            asked, however short they are.
        items_per_query: for multi stream.
        num_workers: threads that call, for offline and server.
        qps: queries per second, for server.
        seed: of the arrivals.
        median_width: single stream ends before its time, after 2 s or more, where the interval of the median is so
            narrow, relative to it.
    """

    scenario: str = "single-stream"
    duration_s: float = 10.0
    min_queries: int = 1
    items_per_call: int = 1
    items_per_query: int = 8
    num_workers: int = 1
    qps: float = 1.0
    seed: int = 0
    median_width: float | None = None

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise ValueError(f"expected a scenario among {', '.join(SCENARIOS)}, received {self.scenario!r}")
        counts = (self.min_queries, self.items_per_call, self.items_per_query, self.num_workers)
        if min(counts) < 1 or not 0 < self.duration_s < math.inf or not 0 < self.qps < math.inf:
            raise ValueError(f"expected counts of 1 or more, a time and a rate above 0, received {self}")
        if self.min_queries > MAX_QUERIES or self.seed < 0:
            raise ValueError(f"expected at most {MAX_QUERIES} queries and a seed of 0 or more, received {self}")

    @property
    def calls_per_query(self) -> int:
        """Of a query that is not the offline one."""
        return -(-self.items_per_query // self.items_per_call) if self.scenario == "multi-stream" else 1

    def num_offline_calls(self, expected_ms: float) -> int:
        """The calls of the offline query where one is expected to take so long."""
        expected = math.ceil(self.num_workers * self.duration_s * 1e3 / max(expected_ms, 1e-3))
        return min(max(expected, self.min_queries), MAX_QUERIES)


@dataclass(frozen=True)
class Answered:
    """What a scenario has shown.

    Attributes:
        harness: what asked.
        latencies_ms: of each query, in the order in which they were asked; for offline of each call, since the query.
            For server since the query arrived, whether or not a worker was free.
        start_s, stop_s: by `time.perf_counter`, of the first query and of the last answer.
        num_calls: of the callable.
        summary: the load generator's own report, where it was one.
        valid: whether the load generator's rules for a valid run were met; None: it was none.
    """

    harness: str
    latencies_ms: np.ndarray
    start_s: float
    stop_s: float
    num_calls: int
    summary: str | None = None
    valid: bool | None = None

    @property
    def seconds(self) -> float:
        return self.stop_s - self.start_s


def ask(call: Callable[[], object], load: Load, *, expected_ms: float) -> Answered:
    """Run a scenario.

    Args:
        expected_ms: about how long one call takes; offline needs it.

    Raises:
        What `call` raises.
    """
    if load.scenario == "offline":
        return _offline(call, load, load.num_offline_calls(expected_ms))
    if load.scenario == "server":
        return _server(call, load)
    if load.calls_per_query == 1:
        return _stream(call, load)
    calls = range(load.calls_per_query)

    def query() -> None:
        for _ in calls:
            call()

    answered = _stream(query, load)
    return replace(answered, num_calls=answered.num_calls * load.calls_per_query)


def timing_overhead_us(num_calls: int = 2000) -> float:
    """What asking adds to one call in this process, microseconds: the loop's time per call that does nothing."""

    def nothing() -> None:
        return None

    took = []
    for _ in range(5):
        answered = _stream(nothing, Load(duration_s=1e-9, min_queries=num_calls))
        took.append(answered.seconds / num_calls * 1e6)
    return median(took)


def arrivals_s(load: Load) -> np.ndarray:
    """When each query of the server scenario arrives, seconds from its beginning, the first at 0."""
    random = np.random.default_rng(load.seed)
    num = max(load.min_queries, math.ceil(load.qps * load.duration_s))
    # some more than are expected, so that they last for the whole time
    gaps = random.exponential(1 / load.qps, min(num + 10 * math.ceil(math.sqrt(num)) + 10, MAX_QUERIES))
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    return times[: max(load.min_queries, int(np.searchsorted(times, load.duration_s)))]


def _stream(query: Callable[[], object], load: Load) -> Answered:
    clock, took = time.perf_counter_ns, list[int]()
    looks_at = 30 if load.median_width is not None else MAX_QUERIES
    start = clock()
    narrow_after = start + int(_NARROW_AFTER_S * 1e9)
    deadline = start + int(load.duration_s * 1e9)
    while True:
        before = clock()
        query()
        after = clock()
        took.append(after - before)
        num = len(took)
        if (after >= deadline and num >= load.min_queries) or num >= MAX_QUERIES:
            break
        if num >= looks_at and num >= load.min_queries and after >= narrow_after:
            assert load.median_width is not None
            if percentile_of(np.sort(np.array(took)), 50).width <= load.median_width:
                break
            looks_at = num * 5 // 4
    latencies = np.array(took, np.float64) / 1e6
    return Answered("edgekit", latencies, start / 1e9, after / 1e9, len(took))


def _offline(call: Callable[[], object], load: Load, num_calls: int) -> Answered:
    done = np.zeros(num_calls)
    start = time.perf_counter()

    def answer(index: int) -> None:
        call()
        done[index] = time.perf_counter()

    _in_workers(load.num_workers, num_calls, answer)
    return Answered("edgekit", (done - start) * 1e3, start, float(done.max()), num_calls)


def _server(call: Callable[[], object], load: Load) -> Answered:
    """Each worker takes the next query as soon as it is free, and waits for it where it is still to come.

    That is a queue in order of arrival: the first worker that is free answers the first query that is not taken.
    """
    arrives = arrivals_s(load)
    done = np.zeros(len(arrives))
    start = time.perf_counter() + 0.01

    def answer(index: int) -> None:
        _wait_until(start + arrives[index])
        call()
        done[index] = time.perf_counter()

    _in_workers(load.num_workers, len(arrives), answer)
    return Answered("edgekit", (done - start - arrives) * 1e3, start, float(done.max()), len(arrives))


def _wait_until(moment_s: float) -> None:
    while (left := moment_s - time.perf_counter()) > 0:
        if left > _SPIN_S:
            time.sleep(left - _SPIN_S)


def _in_workers(num_workers: int, num: int, answer: Callable[[int], None]) -> None:
    """Answer 0 to `num` - 1, each by the first of several threads that is free."""
    if num_workers == 1:
        for index in range(num):
            answer(index)
        return
    waiting, lock, failed = iter(range(num)), threading.Lock(), list[BaseException]()

    def work() -> None:
        with keeping(failed):
            while not failed:
                with lock:
                    index = next(waiting, None)
                if index is None:
                    return
                answer(index)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(num_workers)]
    with keeping(failed):  # Ctrl-C, which ends the workers, too
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for thread in threads:
        if thread.is_alive():
            thread.join()
    if failed:
        raise failed[0]


def keeping(failed: list[BaseException]) -> ExitStack:
    """A block whose exception is kept and goes no further, where nobody above could take it."""

    def keep(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is not None:
            failed.append(error)
        return error is not None

    stack = ExitStack()
    stack.push(keep)
    return stack
