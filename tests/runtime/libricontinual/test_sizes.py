from __future__ import annotations

import pytest

from edgekit.core.errors import UsageError
from edgekit.runtime.libricontinual.sizes import PAPER, Size, parse_size, parse_splits


@pytest.mark.parametrize(
    ("text", "seconds", "told"),
    [("30s", 30, "30s"), ("10m", 600, "10m"), (" 2h ", 7200, "2h"), ("120s", 120, "2m"), ("90s", 90, "90s")],
)
def test_sizes(text: str, seconds: int, told: str) -> None:
    size = parse_size(text)
    assert (size, str(size), size.ms) == (Size(seconds), told, seconds * 1000)
    assert parse_size(str(size)) == size


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-1m", "1.5h", "1001h", "9999999h", "1e3s", "١m", "10 m", "nan"])
def test_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="expected a size from 1s to 1000h"):
        parse_size(text)


def test_splits_are_ascending_and_differ() -> None:
    assert [str(size) for size in parse_splits("1h,30s, 5m")] == ["30s", "5m", "1h"]
    with pytest.raises(UsageError, match="expected sizes that differ, received 1m, 1m"):
        parse_splits("60s,1m")
    with pytest.raises(UsageError, match="expected a size"):
        parse_splits("1m,,2m")


def test_the_papers_range() -> None:
    assert (len(PAPER.splits), str(PAPER.splits[0]), str(PAPER.splits[-1])) == (6, "10m", "10h")
    assert str(PAPER.total) == "12h"
