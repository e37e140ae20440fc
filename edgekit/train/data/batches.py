"""Which utterances make up each micro-batch: of similar length, in an order that the seed alone decides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# In a bucket no utterance is shorter than this share of the longest, unless the bucket would not fill one batch.
_SIMILAR = 0.9


@dataclass(frozen=True)
class PlannedBatch:
    """One micro-batch, not loaded yet.

    Attributes:
        index: its global number, from 0, over all epochs and processes.
        epoch: from 0.
        items: positions in the plan's durations.
    """

    index: int
    epoch: int
    items: tuple[int, ...]


class BatchPlan:
    """An endless sequence of micro-batches that goes through all utterances once in every epoch.

    Utterances are put into buckets of similar length. In each epoch every bucket is shuffled and cut into batches, and
    the batches of all buckets are shuffled. Their number is the same in every epoch, so that the batch of any index is
    known without going through those before it. Padded to its longest utterance, a batch has at most `batch_s`
    seconds; an utterance that is longer goes alone.

    Args:
        durations_s: of each utterance, positive.
        batch_s: seconds of a batch, padding included.
        seed: 0 or more.
        max_items: the most utterances of a batch.

    Raises:
        ValueError: no utterance, a duration that is not positive, or an argument out of range.
    """

    def __init__(self, durations_s: Sequence[float], batch_s: float, seed: int, max_items: int = 64) -> None:
        self.durations_s: npt.NDArray[np.float64] = np.array(durations_s, np.float64)
        if not len(self.durations_s) or not (np.isfinite(self.durations_s) & (self.durations_s > 0)).all():
            raise ValueError("expected one or more positive durations, received none, or others")
        if not (batch_s > 0 and max_items >= 1 and seed >= 0):
            raise ValueError(
                f"expected batch_s > 0, max_items >= 1 and seed >= 0, received {batch_s}, {max_items} and {seed}"
            )
        self.batch_s, self.seed, self.max_items = batch_s, seed, max_items
        self._buckets = list(self._in_buckets())
        self._epochs: dict[int, list[tuple[int, ...]]] = {}

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch."""
        return sum(count for _, count in self._buckets)

    def batch(self, index: int) -> PlannedBatch:
        """The micro-batch of any global number, 0 or more."""
        if index < 0:
            raise ValueError(f"expected an index of 0 or more, received {index}")
        epoch, position = divmod(index, self.num_batches)
        if epoch not in self._epochs:
            # accumulation and other processes look a little past an epoch's end, never far
            self._epochs = {**dict(list(self._epochs.items())[-1:]), epoch: self._shuffled(epoch)}
        return PlannedBatch(index, epoch, self._epochs[epoch][position])

    def iterate(self, start: int = 0) -> Iterator[PlannedBatch]:
        """Micro-batch `start` and all after it, without end."""
        return map(self.batch, itertools.count(start))

    def for_rank(self, start: int, rank: int, world: int, accumulate: int) -> Iterator[PlannedBatch]:
        """The micro-batches of one process from optimiser step `start` on, without end.

        In step s, process r accumulates over a = 0 ... accumulate - 1 the micro-batches `(s accumulate + a) world + r`:
        a step's data are the same whenever `accumulate x world` is.

        Raises:
            ValueError: an argument out of range.
        """
        if not (start >= 0 and accumulate >= 1 and 0 <= rank < world):
            raise ValueError(
                f"expected start >= 0, accumulate >= 1 and 0 <= rank < world, received {start}, {accumulate} and "
                f"{rank} of {world}"
            )
        return map(self.batch, itertools.count(start * accumulate * world + rank, world))

    def padded_s(self, items: Sequence[int]) -> float:
        """Seconds of a batch of these utterances, padding included."""
        return float(self.durations_s[list(items)].max()) * len(items)

    def _in_buckets(self) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
        """Buckets, longest first: their utterances and into how many batches these are cut."""
        order = np.argsort(-self.durations_s, kind="stable")
        descending = self.durations_s[order]
        first = 0
        while first < len(order):
            longest = descending[first]
            num_items = max(1, min(self.max_items, int(self.batch_s // longest)))
            num_similar = int(np.searchsorted(-descending, -_SIMILAR * longest, side="right")) - first
            # whole batches; a rest that would not fill one is spread over the last bucket's
            last = first + math.ceil(num_similar / num_items) * num_items
            members = order[first : last if last + num_items <= len(order) else len(order)]
            yield members, math.ceil(len(members) / num_items)
            first += len(members)

    def _shuffled(self, epoch: int) -> list[tuple[int, ...]]:
        rng = np.random.default_rng([0, self.seed, epoch])
        batches = [part for members, count in self._buckets for part in np.array_split(rng.permutation(members), count)]
        return [tuple(batches[position].tolist()) for position in rng.permutation(len(batches))]


def padding_share(plan: BatchPlan, epochs: int = 1) -> float:
    """The share of all batches' seconds that is padding, in 0..1, over the first epochs."""
    padded_s = sum(plan.padded_s(plan.batch(index).items) for index in range(epochs * plan.num_batches))
    return 1 - epochs * math.fsum(plan.durations_s) / padded_s
