"""Latency: percentiles of real calls, and the limits on how many are made."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgekit.devices.measure import Latency, measure_latency

pytestmark = pytest.mark.device_side


def test_percentiles_are_numpys() -> None:
    samples = tuple(np.random.default_rng(0).exponential(3, 101))
    latency = Latency(samples)
    assert latency.p50_ms == np.median(samples)
    assert latency.p99_ms == np.percentile(samples, 99)


def test_a_call_of_known_length_is_measured_as_long() -> None:
    latency = measure_latency(lambda: time.sleep(0.005), warm_up=0, min_samples=5, max_samples=5)
    assert all(sample >= 5 for sample in latency.samples_ms)


def test_warm_up_is_not_counted_and_the_limits_hold() -> None:
    calls = []
    latency = measure_latency(lambda: calls.append(1), warm_up=4, min_samples=3, max_samples=7, budget_s=10)
    assert (len(calls), len(latency.samples_ms)) == (11, 7)
    slow = measure_latency(lambda: time.sleep(0.01), warm_up=0, min_samples=3, max_samples=100, budget_s=0)
    assert len(slow.samples_ms) == 3
