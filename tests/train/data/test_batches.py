"""Every utterance once per epoch, never more than the budget, and the same data whatever the number of processes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.train.data.batches import BatchPlan, padding_share


@st.composite
def plans(draw: Callable[..., list[float]]) -> BatchPlan:
    durations_s = draw(st.lists(st.floats(0.1, 40) | st.sampled_from([1.0, 2.0]), min_size=1, max_size=150))
    return BatchPlan(
        durations_s,
        draw(st.floats(1, 120)),  # type: ignore[arg-type]
        draw(st.integers(0, 5)),  # type: ignore[arg-type]
        draw(st.integers(1, 20)),  # type: ignore[arg-type]
    )


@given(plan=plans(), epoch=st.integers(0, 3))
def test_an_epoch_has_every_utterance_once(plan: BatchPlan, epoch: int) -> None:
    first = epoch * plan.num_batches
    batches = [plan.batch(index) for index in range(first, first + plan.num_batches)]
    assert sorted(item for batch in batches for item in batch.items) == list(range(len(plan.durations_s)))
    assert [batch.index for batch in batches] == list(range(first, first + plan.num_batches))
    assert {batch.epoch for batch in batches} == {epoch}


@given(plan=plans())
def test_a_batch_keeps_to_its_budget(plan: BatchPlan) -> None:
    for index in range(plan.num_batches):
        items = plan.batch(index).items
        assert 1 <= len(items) <= plan.max_items
        assert plan.padded_s(items) <= plan.batch_s * (1 + 1e-12) or len(items) == 1


@given(plan=plans(), start=st.integers(0, 200))
def test_any_batch_is_known_at_once(plan: BatchPlan, start: int) -> None:
    again = BatchPlan(plan.durations_s.tolist(), plan.batch_s, plan.seed, plan.max_items)
    straight = list(itertools.islice(plan.iterate(), start, start + 10))
    assert list(itertools.islice(again.iterate(start), 10)) == straight


@given(plan=plans(), start=st.integers(0, 20), world=st.sampled_from([1, 2, 3, 6]))
def test_processes_share_a_step(plan: BatchPlan, start: int, world: int) -> None:
    accumulate = 6 // world
    ranks = [plan.for_rank(start, rank, world, accumulate) for rank in range(world)]
    for step in range(start, start + 3):
        parts = [batch for rank in ranks for batch in itertools.islice(rank, accumulate)]
        assert sorted(batch.index for batch in parts) == list(range(step * 6, step * 6 + 6))
        assert all(batch == plan.batch(batch.index) for batch in parts)


def test_the_index_of_a_micro_batch() -> None:
    plan = BatchPlan([1.0] * 1000, 10, seed=0)
    got = list(itertools.islice(plan.for_rank(5, rank=1, world=3, accumulate=2), 4))
    assert [batch.index for batch in got] == [(s * 2 + a) * 3 + 1 for s in (5, 6) for a in (0, 1)]


def test_epochs_and_seeds_differ() -> None:
    durations_s = np.random.default_rng(0).uniform(2, 16, 300).tolist()

    def batches(seed: int, epoch: int) -> list[tuple[int, ...]]:
        plan = BatchPlan(durations_s, 60, seed)
        return [plan.batch(epoch * plan.num_batches + i).items for i in range(plan.num_batches)]

    assert batches(0, 0) == batches(0, 0)
    together = [frozenset(map(frozenset, batches(*key))) for key in ((0, 0), (0, 1), (1, 0))]
    for other in together[1:]:
        assert len(together[0] & other) < 0.1 * len(other), "the same utterances are hardly ever together again"


def test_neither_lengths_nor_utterances_come_in_order() -> None:
    plan = BatchPlan(np.linspace(2, 16, 2000).tolist(), 120, seed=0)
    lengths = [plan.durations_s[list(plan.batch(i).items)].mean() for i in range(plan.num_batches)]
    assert abs(np.corrcoef(lengths, np.arange(len(lengths)))[0, 1]) < 0.3


def test_batches_are_full_and_little_padded() -> None:
    # about LibriSpeech's lengths: most are 12 to 16 s
    rng = np.random.default_rng(0)
    durations_s = np.clip(np.concatenate([rng.normal(14, 1.5, 1000), rng.uniform(1.5, 14, 519)]), 1.5, 17).tolist()
    plan = BatchPlan(durations_s, 120, seed=0)
    assert padding_share(plan, epochs=2) < 0.06
    assert plan.num_batches < 1.15 * sum(durations_s) / 120
    sizes = Counter(len(plan.batch(i).items) for i in range(plan.num_batches))
    assert min(sizes) >= 7


def test_a_long_utterance_goes_alone() -> None:
    plan = BatchPlan([1.0, 100.0, 1.0, 101.0], 10, seed=0)
    assert sorted(plan.batch(i).items for i in range(3)) in ([(0, 2), (1,), (3,)], [(1,), (2, 0), (3,)])


def test_padding_share() -> None:
    assert padding_share(BatchPlan([1.0, 1.0, 3.0, 3.0], 6, seed=0), epochs=3) == pytest.approx(0)
    assert padding_share(BatchPlan([1.0, 3.0], 6, seed=0)) == pytest.approx(1 - 4 / 6)


@pytest.mark.parametrize("durations_s", [[], [0.0], [-1.0], [float("nan")], [float("inf")]])
def test_durations_that_are_none(durations_s: list[float]) -> None:
    with pytest.raises(ValueError, match="positive durations"):
        BatchPlan(durations_s, 10, seed=0)


def test_arguments_out_of_range() -> None:
    plan = BatchPlan([1.0], 10, seed=0)
    for wrong in ((10.0, -1, 4), (0.0, 0, 4), (10.0, 0, 0)):
        with pytest.raises(ValueError, match="received"):
            BatchPlan([1.0], *wrong)
    for arguments in ((-1, 0, 1, 1), (0, 1, 1, 1), (0, -1, 1, 1), (0, 0, 1, 0)):
        with pytest.raises(ValueError, match="received"):
            plan.for_rank(*arguments)
    with pytest.raises(ValueError, match="received -1"):
        plan.batch(-1)
