"""Our harness: each scenario over calls of a known length, and what asking costs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit.devices.scenarios import Load, arrivals_s, ask, timing_overhead_us

pytestmark = pytest.mark.device_side

CALL_MS = 3.0


def call() -> None:
    time.sleep(CALL_MS / 1e3)


def test_single_stream_is_one_call_after_the_other() -> None:
    answered = ask(call, Load(duration_s=0.1, min_queries=50), expected_ms=CALL_MS)
    assert answered.harness == "edgekit"
    assert len(answered.latencies_ms) == answered.num_calls >= 50
    assert answered.latencies_ms.min() >= CALL_MS
    # nothing but the calls takes time
    assert answered.latencies_ms.sum() == pytest.approx(answered.seconds * 1e3, rel=0.01)


def test_multi_stream_asks_for_several_items_at_once() -> None:
    load = Load("multi-stream", duration_s=0.01, min_queries=6, items_per_query=7, items_per_call=2)
    answered = ask(call, load, expected_ms=CALL_MS)
    assert (len(answered.latencies_ms), answered.num_calls) == (6, 24)
    assert answered.latencies_ms.min() >= 4 * CALL_MS


def test_offline_is_one_query_whose_calls_end_one_after_the_other() -> None:
    answered = ask(call, Load("offline", duration_s=0.09), expected_ms=CALL_MS)
    assert answered.num_calls == len(answered.latencies_ms) == 30
    assert (np.diff(answered.latencies_ms) >= CALL_MS).all()
    assert answered.seconds * 1e3 == pytest.approx(answered.latencies_ms[-1], abs=0.1)


@pytest.mark.parametrize("scenario", ["offline", "server"])
def test_workers_call_side_by_side(scenario: str) -> None:
    inside, most, lock = [0], [0], threading.Lock()

    def counted() -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        with lock:
            inside[0] -= 1

    ask(counted, Load(scenario, duration_s=0.1, num_workers=3, qps=1000), expected_ms=10)
    assert most[0] == 3


def test_a_server_that_is_too_slow_keeps_its_queue_and_its_order() -> None:
    load = Load("server", duration_s=0.1, qps=1000, seed=3)
    answered = ask(call, load, expected_ms=CALL_MS)
    arrived = arrivals_s(load) * 1e3
    # the latency counts from the arrival, and not from when a worker was free
    waits = np.arange(1, len(arrived) + 1) * CALL_MS - arrived
    assert answered.num_calls == len(arrived)
    assert (answered.latencies_ms >= waits - 1e-6).all()
    assert answered.latencies_ms[-1] > 100


def test_a_server_with_time_answers_at_once() -> None:
    answered = ask(call, Load("server", duration_s=0.5, qps=20), expected_ms=CALL_MS)
    assert CALL_MS <= np.median(answered.latencies_ms) < 3 * CALL_MS
    assert answered.seconds >= arrivals_s(Load("server", duration_s=0.5, qps=20))[-1]


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    load = Load("server", duration_s=100, qps=50, seed=1)
    times = arrivals_s(load)
    gaps = np.diff(times)
    assert times[0] == 0
    assert times[-1] < 100
    assert len(times) == pytest.approx(5000, abs=4 * 5000**0.5)
    # exponential: the standard deviation is the mean, and a share of 1/e is longer than it
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.06)
    assert (gaps > gaps.mean()).mean() == pytest.approx(1 / np.e, abs=0.03)
    assert (arrivals_s(load) == times).all()
    assert len(arrivals_s(Load("server", duration_s=0.001, qps=1, min_queries=9))) == 9


def test_a_median_that_is_known_well_enough_ends_it() -> None:
    answered = ask(call, Load(duration_s=30, median_width=2.0), expected_ms=CALL_MS)
    assert 2 <= answered.stop_s - answered.start_s < 15
    assert answered.num_calls >= 30


@pytest.mark.parametrize("scenario", ["offline", "server"])
def test_ctrl_c_ends_the_workers(scenario: str) -> None:
    num = [0]

    def counted() -> None:
        num[0] += 1
        if num[0] == 3:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.01)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs this behind it
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(counted, Load(scenario, duration_s=1.0, num_workers=2, qps=1000), expected_ms=10)
    finally:
        signal.signal(signal.SIGINT, before)
    until = num[0]
    time.sleep(0.05)
    assert num[0] == until < 50


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline", "server"])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_call_raises_comes_out(scenario: str, workers: int) -> None:
    def broken() -> None:
        raise ZeroDivisionError("in a call")

    with pytest.raises(ZeroDivisionError, match="in a call"):
        ask(broken, Load(scenario, duration_s=0.05, num_workers=workers, qps=100), expected_ms=1)


def test_asking_adds_less_than_20_microseconds_to_a_call() -> None:
    assert 0 < timing_overhead_us() < 20


CHANGES: list[dict[str, Any]] = [
    {"scenario": "batch"},
    {"duration_s": 0},
    {"duration_s": float("nan")},
    {"qps": 0},
    {"num_workers": 0},
    {"min_queries": 200_001},
    {"seed": -1},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Load(**changes)


def test_a_query_of_a_callable_object_counts_like_a_function() -> None:
    class Model:
        num = 0

        def __call__(self) -> None:
            self.num += 1

    model = Model()
    asked: Callable[[], object] = model
    answered = ask(asked, Load(duration_s=0.01), expected_ms=1)
    assert model.num == answered.num_calls
