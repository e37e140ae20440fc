"""Warm-up: a callable is called until it has become as fast as it gets, by a rule that is stated."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

AGREEMENT = 0.02
MIN_CALLS, MIN_S = 5, 0.2


@dataclass(frozen=True)
class WarmUp:
    """What a warm-up took.

    Attributes:
        steady: the rule was met; otherwise the limit ended it.
        rule: in words.
        first_ms: the first call, which allocates and may compile.
        window_medians_ms: of each whole window, in order; where the limit came before there was one, of its calls, the
            first of all excepted.
    """

    steady: bool
    rule: str
    num_calls: int
    seconds: float
    first_ms: float
    window_medians_ms: tuple[float, ...]

    @property
    def call_ms(self) -> float:
        """About how long a call takes now."""
        return self.window_medians_ms[-1]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "window_medians_ms": list(self.window_medians_ms)}


def warm_up(call: Callable[[], object], *, limit_s: float = 10.0) -> WarmUp:
    """Call until the medians of two successive windows agree.

    Args:
        limit_s: so many seconds after the first call, which may compile for longer, it ends in any case, with the call
            that is then running.
    """
    rule = (
        f"the medians of two successive windows of at least {MIN_CALLS} calls and {MIN_S:g} s differ by at most "
        f"{AGREEMENT:.0%}; at most {limit_s:g} s after the first call"
    )
    medians: list[float] = []
    first_ms, num_calls = None, 0
    begun = limited = time.perf_counter()
    while True:
        window: list[float] = []
        opened = before = time.perf_counter()
        while len(window) < MIN_CALLS or before - opened < MIN_S:
            call()
            after = time.perf_counter()
            window.append((after - before) * 1e3)
            num_calls += 1
            if first_ms is None:
                first_ms, limited = window[0], after
            elif after - limited >= limit_s:
                medians = medians or [median(window[1:])]
                return WarmUp(False, rule, num_calls, after - begun, first_ms, tuple(medians))
            before = after
        assert first_ms is not None
        medians.append(median(window))
        if len(medians) > 1 and abs(medians[-1] - medians[-2]) <= AGREEMENT * max(medians[-2:]):
            return WarmUp(True, rule, num_calls, before - begun, first_ms, tuple(medians))
