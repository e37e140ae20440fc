"""A speaker's recordings into train, validation and test, so that no book is in both train and test.

Order and choice come from SHA-256 alone, not from a generator that a version of Python or NumPy may change.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from edgekit.runtime.libricontinual.books import Recording
from edgekit.runtime.libricontinual.sizes import Size, Sizes
from edgekit.runtime.libricontinual.sources import Unit

Way = Literal["books", "halves"]
"""How recordings are divided: by books, or test from the second half of the recordings and the rest from the first."""

# of so many books or fewer all orders are tried, else so many orders
_MAX_PERMUTED, _NUM_TRIES = 5, 200

_LEVELS: tuple[tuple[Unit, bool], ...] = (("book", True), ("book", False), ("chapter", True), ("chapter", False))

Pool = Sequence[Recording]


@dataclass(frozen=True)
class Division:
    """What one speaker gives.

    Attributes:
        splits: train lists by size, ascending; each begins with the one before it.
        disjoint: what train shares none of with validation and test; None: recordings alone.
        all_disjoint: whether validation and test share none of it either.
    """

    splits: dict[Size, tuple[Recording, ...]]
    validation: tuple[Recording, ...]
    test: tuple[Recording, ...]
    disjoint: Unit | None
    all_disjoint: bool

    @property
    def rank(self) -> int:
        """0 is best: books before chapters before nothing, all three lists apart before train alone."""
        return {"book": 0, "chapter": 2, None: 4}[self.disjoint] + (not self.all_disjoint)


def digest(*parts: object) -> str:
    """What an order is made of."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def divide(recordings: Sequence[Recording], sizes: Sizes, seed: int, way: Way = "books") -> Division | None:
    """Divide one speaker's recordings; None where they do not hold what is asked for.

    A list takes whole recordings as long as that brings it nearer to its size, so that it misses its size by half a
    recording at most, but has at least one; each train list has at least one more than the one before it. Within
    train, validation and test the order is the seed's, spread over their books; without books, test is the end of the
    recordings by id and validation what stands before it.

    Args:
        recordings: by ascending id.
    """
    if sum(recording.ms for recording in recordings) < sizes.total.ms:
        return None
    if way == "halves":
        middle = (len(recordings) + 1) // 2
        return _by_id(recordings[:middle], recordings[middle:], sizes, seed)
    for unit, apart in _LEVELS:
        groups = _groups(recordings, unit)
        for order in _orders(groups, seed):
            pools = _pools([groups[name] for name in order], sizes, apart)
            if pools and (made := _lists(*pools, sizes, seed, unit, apart)):
                return made
    cut = _cut_end(recordings, sizes.test.ms)
    return _by_id(*cut, sizes, seed) if cut else None


def _by_id(before: Pool, test: Pool, sizes: Sizes, seed: int) -> Division | None:
    """Validation is the end of what stands before the test recordings."""
    cut = _cut_end(before, sizes.validation.ms)
    return _lists(*cut, test, sizes, seed, None, True) if cut else None


def _groups(recordings: Pool, unit: Unit) -> dict[str, list[Recording]]:
    """Recordings by book, or by chapter (a book where its chapters are not told); empty where one has neither."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        if unit == "book" or recording.chapter is None:
            name = recording.book and f"book {recording.book}"
        else:
            name = f"chapter {recording.chapter}"
        if name is None:
            return {}
        groups.setdefault(name, []).append(recording)
    return groups


def _orders(groups: dict[str, list[Recording]], seed: int) -> Iterator[Sequence[str]]:
    """Orders of the groups, the seed's first; none of one group, which cannot be divided."""
    if len(groups) < 2:
        return
    if len(groups) <= _MAX_PERMUTED:
        yield from itertools.permutations(sorted(groups, key=partial(digest, seed)))
        return
    for attempt in range(_NUM_TRIES):
        yield sorted(groups, key=partial(digest, seed, attempt))


def _pools(groups: Sequence[Pool], sizes: Sizes, apart: bool) -> tuple[Pool, Pool, Pool] | None:
    """Whole groups for test, then for validation, the rest to train; together for both of them unless `apart`."""
    left = iter(groups)
    if apart:
        test, validation = _fill(left, sizes.test.ms), _fill(left, sizes.validation.ms)
    else:
        held_out = sorted(_fill(left, sizes.test.ms + sizes.validation.ms), key=lambda recording: recording.id)
        cut = _cut_end(held_out, sizes.test.ms)
        if cut is None:
            return None
        validation, test = cut
    train = [recording for group in left for recording in group]
    return train, validation, test


def _fill(groups: Iterator[Pool], ms: int) -> Pool:
    filled: list[Recording] = []
    while sum(recording.ms for recording in filled) < ms and (group := next(groups, None)):
        filled += group
    return filled


def _cut_end(recordings: Pool, ms: int) -> tuple[Pool, Pool] | None:
    """Before, and the end of about so many milliseconds; None where nothing is left before."""
    count = _nearest(recordings[::-1], ms)
    return (recordings[:-count], recordings[-count:]) if 0 < count < len(recordings) else None


def _lists(
    train: Pool, validation: Pool, test: Pool, sizes: Sizes, seed: int, disjoint: Unit | None, apart: bool
) -> Division | None:
    """The lists out of their pools; None where a pool falls short."""
    train, validation, test = (
        sorted(pool, key=lambda recording: digest(seed, recording.id)) for pool in (train, validation, test)
    )
    splits: dict[Size, tuple[Recording, ...]] = {}
    count = 0
    for size in sizes.splits:
        count = max(count + 1, _nearest(train, size.ms))
        splits[size] = tuple(train[:count])
    asked = ((train, sizes.splits[-1]), (validation, sizes.validation), (test, sizes.test))
    if count > len(train) or not all(_holds(pool, size) for pool, size in asked):
        return None
    return Division(
        splits,
        tuple(validation[: _nearest(validation, sizes.validation.ms)]),
        tuple(test[: _nearest(test, sizes.test.ms)]),
        disjoint,
        apart,
    )


def _holds(pool: Pool, size: Size) -> bool:
    """Whether the pool comes as near to the size as whole recordings can."""
    lengths = [recording.ms for recording in pool]
    return bool(lengths) and sum(lengths) >= size.ms - max(lengths) // 2


def _nearest(recordings: Pool, ms: int) -> int:
    """How many from the front come nearest to so many milliseconds, at least one if there is one."""
    total = 0
    for index, recording in enumerate(recordings):
        if total and abs(total + recording.ms - ms) >= abs(total - ms):
            return index
        total += recording.ms
    return len(recordings)
