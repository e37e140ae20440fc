"""No book in train and test, lists as near to their sizes as recordings allow, and the same for everybody."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.runtime.corpus import Utterance
from edgekit.runtime.libricontinual.books import Recording
from edgekit.runtime.libricontinual.divide import Division, divide
from edgekit.runtime.libricontinual.sizes import Sizes, parse_size, parse_splits

SIZES = Sizes(parse_splits("30s,1m,2m"), parse_size("30s"), parse_size("1m"))


def made_up(books: Mapping[str | None, int], ms: int = 10_000) -> list[Recording]:
    """Recordings of one speaker, `ms` long each: so many of each book."""
    named = [book for book, count in books.items() for _ in range(count)]
    return [
        Recording(Utterance(f"{i:04}", Path(f"{i}.wav"), ms / 1000, f"words {i}", "a"), "a", ms, book, None)
        for i, book in enumerate(named)
    ]


def divided(recordings: list[Recording], **changes: object) -> Division:
    found = divide(recordings, SIZES, 0) if not changes else divide(recordings, SIZES, 0, **changes)  # type: ignore[arg-type]
    assert found is not None
    return found


def lists(division: Division) -> tuple[tuple[Recording, ...], ...]:
    """The longest train list, validation and test."""
    return (tuple(division.splits.values())[-1], division.validation, division.test)


def books(recordings: tuple[Recording, ...]) -> set[str | None]:
    return {recording.book for recording in recordings}


def seconds(recordings: tuple[Recording, ...]) -> list[float]:
    return [sum(recording.ms for recording in recordings) / 1000]


def test_sizes_are_met() -> None:
    found = divided(made_up({"A": 12, "B": 3, "C": 6}))
    assert [sum(r.ms for r in part) for part in found.splits.values()] == [30_000, 60_000, 120_000]
    assert [sum(r.ms for r in part) for part in (found.validation, found.test)] == [30_000, 60_000]


def test_three_books_are_kept_apart() -> None:
    found = divided(made_up({"A": 12, "B": 3, "C": 6}))
    assert [books(part) for part in lists(found)] == [{"A"}, {"B"}, {"C"}]
    assert (found.disjoint, found.all_disjoint, found.rank) == ("book", True, 0)


def test_of_two_books_train_has_one() -> None:
    found = divided(made_up({"A": 12, "B": 9}))
    train, validation, test = lists(found)
    assert books(train) == {"A"}
    assert books(validation) == books(test) == {"B"}
    assert not set(validation) & set(test)
    assert (found.disjoint, found.all_disjoint, found.rank) == ("book", False, 1)


def test_chapters_where_there_is_one_book() -> None:
    whole = [replace(r, book="A", chapter=r.book) for r in made_up({"1": 12, "2": 3, "3": 6})]
    found = divided(whole)
    assert [{r.chapter for r in part} for part in lists(found)] == [{"1"}, {"2"}, {"3"}]
    assert (found.disjoint, found.all_disjoint, found.rank) == ("chapter", True, 2)


@pytest.mark.parametrize("recordings", [made_up({None: 21}), made_up({"A": 21}), made_up({"A": 20, None: 1})])
def test_without_books_test_is_the_end(recordings: list[Recording]) -> None:
    found = divided(recordings)
    assert (found.disjoint, found.rank) == (None, 4)
    assert sorted(r.id for r in found.test) == [r.id for r in recordings[-6:]]
    assert sorted(r.id for r in found.validation) == [r.id for r in recordings[-9:-6]]
    train = [r.id for r in lists(found)[0]]
    assert sorted(train) == [r.id for r in recordings[:12]]
    assert train != sorted(train), "small lists are spread over the book"


def test_halves() -> None:
    recordings = made_up({"A": 15, "B": 16})
    found = divided(recordings, way="halves")
    first = {r.id for r in recordings[:16]}
    train, validation, test = lists(found)
    assert {r.id for r in (*train, *validation)} <= first
    assert not {r.id for r in test} & first
    assert (found.disjoint, len(test)) == (None, 6)
    assert divide(recordings[:22], SIZES, 0, "halves") is None, "the first half is too short for train"


def test_too_little_is_nothing() -> None:
    assert divide(made_up({"A": 20}), SIZES, 0) is None
    assert divide([], SIZES, 0) is None
    assert divide(made_up({"A": 1}, ms=1_000_000), SIZES, 0) is None


def test_long_recordings_still_nest() -> None:
    train = divided(made_up({None: 10}, ms=60_000)).splits.values()
    assert [len(part) for part in train] == [1, 2, 3], "each list has one more"


def test_the_seed_decides() -> None:
    recordings = made_up({str(book): 5 for book in range(12)})
    found = [divide(recordings, SIZES, seed) for seed in range(4)]
    assert found[0] == divide(recordings, SIZES, 0)
    assert len({tuple(r.id for r in each.test) for each in found if each}) == 4


def test_an_order_that_no_version_changes() -> None:
    """If this fails, benchmarks built before cannot be built again: raise the manifest's schema."""
    found = divided(made_up({str(book): 5 for book in range(7)}))
    assert [r.id for r in found.splits[SIZES.splits[0]]] == PINNED
    assert sorted(books(found.test)) == PINNED_BOOKS


PINNED = ["0013", "0031", "0012"]
PINNED_BOOKS = ["3", "5"]


@given(
    lengths=st.lists(st.tuples(st.sampled_from("ABCDEFG"), st.integers(1, 40_000)), max_size=60),
    seed=st.integers(0, 3),
)
def test_whatever_the_books(lengths: list[tuple[str, int]], seed: int) -> None:
    recordings = [
        Recording(Utterance(f"{i:03}", Path("x"), ms / 1000, "a", "a"), "a", ms, book, None)
        for i, (book, ms) in enumerate(lengths)
    ]
    found = divide(recordings, SIZES, seed)
    if found is None:
        return
    train = list(found.splits.values())
    assert [str(size) for size in found.splits] == ["30s", "1m", "2m"]
    for small, large in itertools.pairwise(train):
        assert small == large[: len(small)]
        assert len(small) < len(large)
    whole = [r.id for part in lists(found) for r in part]
    assert len(set(whole)) == len(whole)
    assert all(lists(found))
    if found.disjoint == "book":
        assert not books(train[-1]) & (books(found.validation) | books(found.test))
        assert not (found.all_disjoint and books(found.validation) & books(found.test))
    longest = max(ms for _, ms in lengths)
    for part, size in ((found.validation, SIZES.validation), (found.test, SIZES.test)):
        assert abs(sum(r.ms for r in part) - size.ms) <= longest / 2 or len(part) == 1
