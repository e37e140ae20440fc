"""One point of a profile: a model in one way of running it, and what is asked of it. It travels to a child as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgekit.core.errors import UsageError
from edgekit.devices.scenarios import SCENARIOS, Load

_LONGEST_S, _MOST = 1e6, 1e9


@dataclass(frozen=True)
class Point:
    """What is measured, and how long.

    Attributes:
        model: a bundle's folder, or a file `.onnx`, `.xml`, `.engine`, `.plan` or `.trt`.
        graph: of a bundle.
        task: a bundle from waveform to answer, and not its graph alone.
        backend, device, precision, threads, allow_fallback: as in `SessionOptions`; None: the default.
        batch: items of each call; None: what the signature holds for best, or 1.
        length: "300" (steps of the time axis), or "3s" (seconds of sound).
        dims: "NAME=SIZE" of dynamic axes; shapes: "NAME=1x80x300" of inputs; values: "NAME=V", an input full of V.
        data: an .npz with real inputs by name.
        scenario: see `Load`, as the next five.
        harness: "loadgen", "edgekit", or "auto": the first where it is installed.
        bound_ms, bound_percentile: what the server's latency is held to.
        warm_up_limit_s: the warm-up ends after so long in any case.
        cold_starts: fresh processes in which the start is measured; 0: none.
        layers: also measure the time of each node, in a pass of its own.
        idle_s: how long the machine's power is measured before the model is loaded, where it can be.
        seed: of inputs and arrivals.
    """

    model: str
    graph: str = "infer"
    task: bool = False
    backend: str | None = None
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    allow_fallback: bool = False
    batch: int | None = None
    length: str | None = None
    dims: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    data: str | None = None
    scenario: str = "single-stream"
    duration_s: float = 10.0
    min_queries: int = 1
    streams: int = 8
    workers: int = 1
    qps: float | None = None
    median_width: float | None = None
    harness: Literal["auto", "loadgen", "edgekit"] = "auto"
    bound_ms: float | None = None
    bound_percentile: float = 99.0
    warm_up_limit_s: float = 10.0
    cold_starts: int = 0
    layers: bool = False
    idle_s: float = 3.0
    seed: int = 0

    @property
    def asked(self) -> dict[str, str | int | None]:
        """What tells this point from the others of a sweep."""
        names = ("scenario", "backend", "precision", "threads", "batch", "length")
        return {name: getattr(self, name) for name in names}

    def load(self, items_per_call: int) -> Load:
        """What is asked of calls of so many items.

        Raises:
            UsageError: a scenario without what it needs, or a number out of range.
        """
        for name, least, most in (
            ("threads", 1, _MOST),
            ("batch", 1, _MOST),
            ("cold_starts", 0, _MOST),
            ("duration_s", 0, _LONGEST_S),
            ("warm_up_limit_s", 0, _LONGEST_S),
            ("idle_s", 0, _LONGEST_S),
            ("median_width", 0, _MOST),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise UsageError(f"expected {name} from {least} to {most:g}, received {value:g}")
        if self.scenario == "server" and (self.qps is None or self.bound_ms is None):
            raise UsageError(
                "expected a rate of queries and a bound of their latency for the scenario server, received "
                f"{self.qps} and {self.bound_ms}",
                hint="--qps 20 --latency-bound 100  (per second, ms)",
            )
        if self.bound_ms is not None and not 0 < self.bound_ms < math.inf:
            raise UsageError(f"expected a latency bound above 0 ms, received {self.bound_ms:g}")
        if not 0 < self.bound_percentile < 100:
            raise UsageError(f"expected a percentile between 0 and 100, received {self.bound_percentile:g}")
        if self.scenario not in SCENARIOS:
            raise UsageError(f"expected a scenario among {', '.join(SCENARIOS)}; received {self.scenario!r}")
        try:
            return Load(
                self.scenario,
                self.duration_s,
                self.min_queries,
                items_per_call,
                self.streams,
                self.workers,
                1.0 if self.qps is None else self.qps,
                self.seed,
                self.median_width,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
