"""The rule of the warm-up, on a clock that only the calls move."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from edgekit.devices import steady

pytestmark = pytest.mark.device_side

Calls = Callable[[Iterator[float]], Callable[[], None]]


@pytest.fixture
def taking(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """`taking(seconds)`: a call that takes the next of these."""
    now = [100.0]
    monkeypatch.setattr("edgekit.devices.steady.time.perf_counter", lambda: now[0])

    def made(seconds: Iterator[float]) -> Callable[[], None]:
        def call() -> None:
            now[0] += next(seconds)

        return call

    return made


def test_it_ends_when_two_windows_agree(taking: Calls) -> None:
    slow, fast = [3.0, *[0.1] * 4], [0.05] * 20
    found = steady.warm_up(taking(iter([*slow, *fast])))
    # windows of 5 calls, as 0.2 s are over by then: 0.1, 0.05, 0.05
    assert found.steady
    assert found.num_calls == 15
    assert found.seconds == pytest.approx(3.4 + 0.5)
    assert found.first_ms == pytest.approx(3000)
    assert found.window_medians_ms == pytest.approx((100, 50, 50))
    assert found.call_ms == pytest.approx(50)


def test_quick_calls_fill_a_window_by_time(taking: Calls) -> None:
    found = steady.warm_up(taking(itertools.repeat(0.001)))
    assert found.steady
    assert 400 <= found.num_calls <= 402


def test_the_limit_ends_what_never_becomes_steady(taking: Calls) -> None:
    found = steady.warm_up(taking(0.1 * 1.01**k for k in itertools.count()), limit_s=10)
    assert not found.steady
    assert 10 <= found.seconds < 10.3
    assert "at most 10 s after the first call" in found.rule
    long = steady.warm_up(taking(itertools.repeat(60.0)), limit_s=10)
    assert (long.steady, long.num_calls, long.call_ms) == (False, 2, pytest.approx(60_000))


def test_a_first_call_that_compiles_is_neither_the_limit_nor_what_a_call_takes(taking: Calls) -> None:
    found = steady.warm_up(taking(itertools.chain([25.0], itertools.repeat(0.05))), limit_s=10)
    assert found.steady
    assert (found.first_ms, found.call_ms) == pytest.approx((25_000, 50))
    found = steady.warm_up(taking(itertools.chain([25.0], itertools.repeat(4.0))), limit_s=10)
    assert (found.steady, found.num_calls, found.seconds) == (False, 4, pytest.approx(37))
    assert found.window_medians_ms == pytest.approx((4000,))


def test_two_percent_are_the_border(taking: Calls) -> None:
    assert steady.warm_up(taking(iter([0.100] * 5 + [0.1019] * 5))).num_calls == 10
    assert steady.warm_up(taking(iter([0.100] * 5 + [0.1030] * 10))).num_calls == 15
