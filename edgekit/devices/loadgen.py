"""The scenarios of `scenarios.py` by MLPerf's own load generator (PyPI: mlcommons-loadgen).

Its latencies are read from its trace. What makes a run a submission to MLPerf (ten minutes, a closed set of models) is
not asked for: these are its scenarios, timed by its code.
"""

from __future__ import annotations

import math
import queue
import re
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.errors import EdgekitError, UnavailableError
from edgekit.devices.scenarios import MAX_QUERIES, Answered, Load, keeping

_PACKAGE, _MODULE = "mlcommons-loadgen", "mlperf_loadgen"
_NAMES = {"single-stream": "SingleStream", "multi-stream": "MultiStream", "offline": "Offline", "server": "Server"}
_SAMPLE = re.compile(r'"name":"Sample".*?"ph":"b".*?"sample_seq":(\d+),"query_seq":(\d+).*?"complete_ns":(\d+)')


def installed() -> bool:
    """Whether the package is there; it has wheels for Linux on x86_64."""
    return find_spec(_MODULE) is not None


def ask_by_loadgen(
    call: Callable[[], object], load: Load, *, expected_ms: float, bound_ms: float = 100.0, percentile: float = 99.0
) -> Answered:
    """Run a scenario, as `scenarios.ask`; `median_width` means nothing here.

    Args:
        bound_ms, percentile: what a valid run of the server scenario keeps.

    Raises:
        UnavailableError: the package is not installed.
        EdgekitError: its trace is not whole.
        What `call` raises.
    """
    if not installed():
        raise UnavailableError(
            f"expected the package {_PACKAGE}, it is not installed",
            hint='pip install "edgekit[profile]" (Linux on x86_64), or --set harness=edgekit',
        )
    import mlperf_loadgen as loadgen

    settings = _settings(loadgen, load, expected_ms, bound_ms, percentile)
    answerer = _Answerer(loadgen, call, load)
    with tempfile.TemporaryDirectory(prefix="edgekit-loadgen-") as folder:
        logs = loadgen.LogSettings()
        outputs = loadgen.LogOutputSettings()
        outputs.outdir = folder
        logs.log_output, logs.enable_trace = outputs, True
        sut = loadgen.ConstructSUT(answerer.issue, lambda: None)
        samples = loadgen.ConstructQSL(1, 1, lambda indices: None, lambda indices: None)
        try:
            loadgen.StartTestWithLogSettings(sut, samples, settings, logs, str(Path(folder, "audit.config")))
        finally:
            answerer.close()
            loadgen.DestroyQSL(samples)
            loadgen.DestroySUT(sut)
        if answerer.failed:
            raise answerer.failed[0]
        found = _read_trace(Path(folder, "mlperf_log_trace.json"))
        summary = Path(folder, "mlperf_log_summary.txt").read_text(encoding="utf-8", errors="replace")
    if len(found) != answerer.num_samples:  # it says nothing of a disk that is full
        raise EdgekitError(
            f"expected {answerer.num_samples} samples in the trace of MLPerf's load generator, received {len(found)}: "
            f"is there room in {tempfile.gettempdir()}?",
            hint="--set harness=edgekit",
        )
    return Answered(
        f"mlperf loadgen {metadata.version(_PACKAGE)}",
        _latencies_ms(found, load),
        answerer.start_s,
        answerer.stop_s,
        answerer.num_calls,
        summary,
        "Result is : VALID" in summary,
    )


def loadgen_overhead_us(num_calls: int = 1000) -> float:
    """What the load generator adds to one call in this process, microseconds: its median for one that does nothing."""
    load = Load(duration_s=1e-3, min_queries=num_calls)
    # many are expected to be asked for only where calls are expected to be quick
    return float(np.median(ask_by_loadgen(lambda: None, load, expected_ms=1e3).latencies_ms)) * 1e3


def _settings(loadgen: Any, load: Load, expected_ms: float, bound_ms: float, percentile: float) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, _NAMES[load.scenario])
    settings.mode = loadgen.TestMode.PerformanceOnly
    # it makes all queries beforehand, in 260 bytes or more each: no more of them than are asked
    duration_s = min(load.duration_s, MAX_QUERIES / load.qps) if load.scenario == "server" else load.duration_s
    settings.min_duration_ms = max(1, round(duration_s * 1e3))
    settings.min_query_count, settings.max_query_count = load.min_queries, MAX_QUERIES
    # half of what is expected, since there are too few where calls are faster; it makes them for twice the time
    half_ns = round(expected_ms / 2 * 1e6) * load.calls_per_query
    half_ns = max(1, half_ns, math.ceil(2e9 * duration_s / MAX_QUERIES))
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = half_ns
    settings.multi_stream_samples_per_query = load.calls_per_query * load.items_per_call
    settings.server_target_qps = load.qps
    settings.server_target_latency_ns = round(bound_ms * 1e6)
    settings.server_target_latency_percentile = percentile / 100
    settings.schedule_rng_seed = load.seed
    if load.scenario == "offline":
        settings.min_query_count = 1
        num_items = load.num_offline_calls(expected_ms) * load.items_per_call
        # of what it is told to expect it takes a tenth more
        settings.offline_expected_qps = num_items / load.duration_s / 1.1
    return settings


class _Answerer:
    """Answers the generator's queries in its own thread, those of a server or offline in several where asked for."""

    def __init__(self, loadgen: Any, call: Callable[[], object], load: Load) -> None:
        self._loadgen, self._call, self._load = loadgen, call, load
        self._items = load.items_per_call if load.scenario in ("offline", "multi-stream") else 1
        self.failed: list[BaseException] = []
        self.num_calls = self.num_samples = 0
        self.start_s = self.stop_s = 0.0
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[Sequence[Any] | None] = queue.SimpleQueue()
        # of a server even one: a query arrives whether or not the one before is answered
        threaded = load.scenario == "server" or (load.scenario == "offline" and load.num_workers > 1)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(load.num_workers * threaded)]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        if not self.start_s:
            self.start_s = time.perf_counter()
        for first in range(0, len(samples), self._items):
            # ids, since what the generator hands over is gone when this returns
            ids = [sample.id for sample in samples[first : first + self._items]]
            if self._threads:
                self._waiting.put(ids)
            else:
                self._answer(ids)

    def close(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (ids := self._waiting.get()) is not None:
            self._answer(ids)

    def _answer(self, ids: Sequence[int]) -> None:
        # nothing may be raised into the generator, which waits for every answer
        with keeping(self.failed):
            if not self.failed:
                self._call()
        response = self._loadgen.QuerySampleResponse
        self._loadgen.QuerySamplesComplete([response(each, 0, 0) for each in ids])
        stop_s = time.perf_counter()
        with self._lock:
            self.num_calls += 1
            self.num_samples += len(ids)
            self.stop_s = max(self.stop_s, stop_s)


def _read_trace(path: Path) -> np.ndarray:
    """`[n, 3]`: each sample's number, its query and its nanoseconds."""
    # line by line into plain numbers: the file is large, and the memory of this process is measured
    numbers = array("q")
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if (sample := _SAMPLE.search(line)) is not None:
                numbers.extend(map(int, sample.groups()))
    return np.array(numbers, np.int64).reshape(-1, 3)


def _latencies_ms(found: np.ndarray, load: Load) -> np.ndarray:
    """Of `[n, 3]`, each sample's number, its query and its nanoseconds: of each query, of offline of each call."""
    found = found[np.argsort(found[:, 0])]
    groups = found[:, 0] // load.items_per_call if load.scenario == "offline" else found[:, 1]
    starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    # a query is answered when its last sample is
    return np.asarray(np.maximum.reduceat(found[:, 2], starts) / 1e6)
