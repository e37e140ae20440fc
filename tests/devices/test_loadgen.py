"""Our harness held to MLPerf's load generator, on a callable whose latency is known."""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import pytest

from edgekit.core.errors import EdgekitError, UnavailableError
from edgekit.devices import loadgen
from edgekit.devices.scenarios import MAX_QUERIES, Answered, Load, ask

pytestmark = pytest.mark.device_side
needs_loadgen = pytest.mark.skipif(
    not loadgen.installed(), reason="needs MLPerf's load generator (Linux on x86_64): pip install mlcommons-loadgen"
)
CALL_MS = 5.0


def call() -> None:
    time.sleep(CALL_MS / 1e3)


def both(load: Load) -> tuple[Answered, Answered]:
    own = ask(call, load, expected_ms=CALL_MS)
    theirs = loadgen.ask_by_loadgen(call, load, expected_ms=CALL_MS)
    assert theirs.harness.startswith("mlperf loadgen ")
    assert "MLPerf Results Summary" in (theirs.summary or "")
    return own, theirs


def quick(latencies_ms: np.ndarray) -> float:
    """Of the quickest tenth, since a busy machine holds up many calls."""
    return float(np.percentile(latencies_ms, 10))


@needs_loadgen
@pytest.mark.parametrize(("scenario", "calls"), [("single-stream", 1), ("multi-stream", 4)])
def test_streams_agree(scenario: str, calls: int) -> None:
    load = Load(scenario, duration_s=0.3, items_per_query=8, items_per_call=2)
    own, theirs = both(load)
    for answered in (own, theirs):
        assert answered.num_calls == len(answered.latencies_ms) * calls
        assert answered.latencies_ms.min() >= calls * CALL_MS
        assert answered.seconds >= 0.3
    assert quick(own.latencies_ms) == pytest.approx(quick(theirs.latencies_ms), rel=0.2)
    # what is read from its trace is what it reports itself
    ordered = np.sort(theirs.latencies_ms)
    q = {"single-stream": 0.9, "multi-stream": 0.99}[scenario]
    told = f"{100 * q:.1f}th percentile latency (ns) : {round(ordered[int(len(ordered) * q)] * 1e6)}"
    assert told in (theirs.summary or "")


@needs_loadgen
@pytest.mark.parametrize("workers", [1, 2])
def test_offline_agrees(workers: int) -> None:
    own, theirs = both(Load("offline", duration_s=0.2, items_per_call=3, num_workers=workers))
    assert own.num_calls == pytest.approx(theirs.num_calls, abs=1)
    assert len(theirs.latencies_ms) == theirs.num_calls
    for answered in (own, theirs):
        assert answered.seconds * 1e3 >= answered.num_calls // workers * CALL_MS
    # from one answer of a worker to its next
    steps = [quick(each.latencies_ms[workers:] - each.latencies_ms[:-workers]) for each in (own, theirs)]
    assert steps[0] == pytest.approx(steps[1], rel=0.2)


@needs_loadgen
def test_servers_agree() -> None:
    load = Load("server", duration_s=0.7, qps=80)
    own, theirs = both(load)
    for answered in (own, theirs):
        assert answered.latencies_ms.min() >= CALL_MS
        assert answered.num_calls == len(answered.latencies_ms) == pytest.approx(56, abs=4 * 56**0.5)
    # most queries find nobody before them
    assert quick(own.latencies_ms) == pytest.approx(quick(theirs.latencies_ms), rel=0.2)


@needs_loadgen
@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "server"])
def test_it_makes_no_more_queries_beforehand_than_are_asked(scenario: str) -> None:
    """Of a call of 1 microsecond it made 40 million for 10 s, in 260 bytes each."""
    import mlperf_loadgen

    load = Load(scenario, duration_s=10, qps=1e7, items_per_query=2)
    made = loadgen._settings(mlperf_loadgen, load, 1e-3, 100.0, 99.0)
    seconds = made.min_duration_ms / 1e3
    if scenario == "server":
        num = seconds * made.server_target_qps
    else:
        assert seconds == 10
        num = 2 * seconds / (getattr(made, f"{scenario.replace('-', '_')}_expected_latency_ns") / 1e9)
    assert 100_000 < num <= MAX_QUERIES


@needs_loadgen
def test_a_trace_that_the_disk_has_no_room_for_is_no_result() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, hard))
    try:
        with pytest.raises(EdgekitError, match=r"expected 2000 samples in the trace .* is there room in "):
            loadgen.ask_by_loadgen(lambda: None, Load(duration_s=1e-3, min_queries=2000), expected_ms=1e3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@needs_loadgen
def test_its_asking_adds_less_than_20_microseconds_to_a_call() -> None:
    assert 0 < loadgen.loadgen_overhead_us() < 20


@needs_loadgen
@pytest.mark.parametrize("scenario", ["single-stream", "server"])
def test_what_a_call_raises_comes_out_of_the_generator(scenario: str) -> None:
    def broken() -> None:
        raise ZeroDivisionError("in a call")

    with pytest.raises(ZeroDivisionError, match="in a call"):
        loadgen.ask_by_loadgen(broken, Load(scenario, duration_s=0.05, qps=100), expected_ms=1)


def test_without_the_package_the_error_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    monkeypatch.setattr(loadgen, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="expected the package mlcommons-loadgen") as caught:
        loadgen.ask_by_loadgen(call, Load(), expected_ms=1)
    assert caught.value.hint is not None
    assert "edgekit[profile]" in caught.value.hint
