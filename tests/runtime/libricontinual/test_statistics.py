from __future__ import annotations

import numpy as np
import pytest

from edgekit.runtime.libricontinual.statistics import Estimate, difference, estimate, verdict


def test_the_mean_and_its_interval() -> None:
    values = {f"{i:02}": float(v) for i, v in enumerate(np.random.default_rng(0).normal(0.2, 0.05, 40))}
    found = estimate(values)
    assert found is not None
    assert found.interval is not None
    mean, error = np.mean(list(values.values())), np.std(list(values.values())) / np.sqrt(40)
    assert (found.mean, found.num_speakers) == (pytest.approx(mean), 40)
    assert found.interval == (
        pytest.approx(mean - 1.96 * error, abs=0.003),
        pytest.approx(mean + 1.96 * error, abs=0.003),
    )
    assert estimate(dict(reversed(values.items()))) == found, "order changes nothing"


def test_the_interval_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        found = estimate({str(i): float(v) for i, v in enumerate(random.normal(0, 1, 30))})
        assert found is not None
        assert found.interval is not None
        hits += found.interval[0] <= 0 <= found.interval[1]
    assert 0.88 <= hits / 200 <= 0.98


def test_few_speakers_have_no_interval() -> None:
    assert estimate({}) is None
    assert estimate({"a": 0.1, "b": 0.3}) == Estimate(pytest.approx(0.2), None, 2)  # type: ignore[arg-type]
    assert estimate(dict.fromkeys("abcde", 0.5)) == Estimate(0.5, (0.5, 0.5), 5)


def test_differences_are_of_the_same_speakers() -> None:
    """Speakers differ by far more than the arms do, and it is told all the same."""
    b = {str(i): 0.1 + 0.05 * i for i in range(10)}
    a = {name: rate - 0.01 - 0.0002 * int(name) for name, rate in b.items()}
    found = difference(a, {**b, "another": 0.9})
    assert found is not None
    assert (found.mean, found.num_speakers) == (pytest.approx(-0.0109), 10)
    assert verdict("new", "old", found) == "new is better"
    reverse = difference(b, a)
    assert reverse is not None
    assert verdict("old", "new", reverse) == "new is better"
    assert difference(a, {"another": 0.9}) is None


def test_no_difference_is_said() -> None:
    assert verdict("a", "b", Estimate(-0.01, (-0.03, 0.01), 9)) == "no difference measured"
    assert verdict("a", "b", Estimate(0.0, (0.0, 0.0), 9)) == "no difference measured"
    assert verdict("a", "b", Estimate(-0.5, None, 2)) == "too few speakers to tell (fewer than 5)"
