"""A search held to the sum over all alignments, to itself in other chunks, and to greedy decoding."""

from __future__ import annotations

import math
from itertools import groupby, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.core.errors import VerificationError
from edgekit.runtime.decode.beam import PrefixBeam
from edgekit.runtime.decode.ctc import Token, greedy
from edgekit.runtime.decode.prefix import Prefix

pytestmark = pytest.mark.device_side

EXACT: dict[str, Any] = {"beam": 10_000, "max_symbols": 100, "min_log_prob": -math.inf}


def random_frames(num_frames: int, num_symbols: int, seed: int, spread: float = 2.0) -> np.ndarray:
    """float32 [T, V]: log-softmax of noise."""
    logits = np.random.default_rng(seed).normal(size=(num_frames, num_symbols)) * spread
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def all_alignments(log_probs: np.ndarray, blank: int) -> dict[tuple[int, ...], tuple[float, list[tuple[int, ...]]]]:
    """Per sequence of symbols the sum over its alignments, and the runs (symbol, start, end) of the best one."""
    found: dict[tuple[int, ...], list[tuple[float, list[tuple[int, ...]]]]] = {}
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        runs, at = [], 0
        for symbol, run in groupby(path):
            size = len(list(run))
            if symbol != blank:
                runs.append((symbol, at, at + size))
            at += size
        log_prob = float(log_probs[np.arange(len(path)), list(path)].astype(np.float64).sum())
        if log_prob > -math.inf:
            found.setdefault(tuple(symbol for symbol, *_ in runs), []).append((log_prob, runs))
    return {key: (float(np.logaddexp.reduce([p for p, _ in ways])), max(ways)[1]) for key, ways in found.items()}


def frames_of(tokens: tuple[Token, ...]) -> list[tuple[int, int, int]]:
    return [(token.index, token.start_frame, token.end_frame) for token in tokens]


class Preference:
    """A scorer that likes a symbol after another one, and dislikes an end after symbol 1."""

    start = -1

    def extend(self, state: int, symbol: int) -> tuple[int, float]:
        return symbol, 0.7 if (state, symbol) in ((-1, 2), (1, 2), (2, 2)) else -0.1

    def end(self, state: int) -> float:
        return -0.5 if state == 1 else 0.0

    def total(self, symbols: tuple[int, ...]) -> float:
        states = (-1, *symbols)
        return sum(self.extend(a, b)[1] for a, b in zip(states, symbols)) + self.end(states[-1])


@settings(deadline=None)
@given(
    num_frames=st.integers(0, 5), num_symbols=st.integers(2, 4), blank=st.integers(0, 1), seed=st.integers(0, 10_000)
)
def test_the_sum_over_all_alignments(num_frames: int, num_symbols: int, blank: int, seed: int) -> None:
    log_probs = random_frames(num_frames, num_symbols, seed)
    if num_frames > 1:
        log_probs[1, (blank + 1) % num_symbols] = -math.inf
    expected = all_alignments(log_probs, blank)
    search = PrefixBeam(blank, **EXACT)
    search.advance(log_probs)
    found = {tuple(token.index for token in h.tokens): h for h in search.best(10_000)}
    assert found.keys() == expected.keys()
    for symbols, (log_prob, runs) in expected.items():
        assert found[symbols].log_prob == found[symbols].score == pytest.approx(log_prob, abs=1e-9)
        assert frames_of(found[symbols].tokens) == runs
        for token, (symbol, start, end) in zip(found[symbols].tokens, runs):
            assert token.log_prob == pytest.approx(log_probs[start:end, symbol].mean(dtype=np.float64), abs=1e-6)


@given(seed=st.integers(0, 10_000))
def test_the_best_with_a_scorer(seed: int) -> None:
    log_probs, scorer = random_frames(5, 3, seed), Preference()
    expected = {key: p + scorer.total(key) for key, (p, _) in all_alignments(log_probs, 0).items()}
    search = PrefixBeam(0, **EXACT, scorer=scorer)
    search.advance(log_probs)
    best = search.best(3)
    assert [h.score for h in best] == pytest.approx(sorted(expected.values(), reverse=True)[:3], abs=1e-9)
    assert best[0].score == pytest.approx(expected[tuple(t.index for t in best[0].tokens)], abs=1e-9)
    open_ended = search.best(10_000, ended=False)
    assert max(h.score for h in open_ended) == open_ended[0].score
    assert any(h.score == pytest.approx(h.log_prob + 0.7 - 0.1, abs=1e-9) for h in open_ended)


@given(
    cuts=st.lists(st.integers(0, 120), max_size=8),
    beam=st.integers(1, 6),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.5, 3.0, 12.0]),
    is_scored=st.booleans(),
)
def test_chunks_change_nothing(cuts: list[int], beam: int, seed: int, spread: float, is_scored: bool) -> None:
    log_probs = random_frames(120, 6, seed, spread)
    scorer = Preference() if is_scored else None
    whole = PrefixBeam(0, beam=beam, max_symbols=3, scorer=scorer)
    whole.advance(log_probs)
    parts = PrefixBeam(0, beam=beam, max_symbols=3, scorer=scorer)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 120]):
        parts.advance(log_probs[start:stop])
        parts.best(2)
    assert parts.num_frames == whole.num_frames == 120
    assert parts.best(beam) == whole.best(beam)


@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.5, 3.0, 12.0]), beam=st.integers(1, 8))
def test_what_is_pruned_only_lowers_a_probability(seed: int, spread: float, beam: int) -> None:
    log_probs = random_frames(6, 3, seed, spread)
    exact = {key: p for key, (p, _) in all_alignments(log_probs, 0).items()}
    search = PrefixBeam(0, beam=beam, max_symbols=2, min_log_prob=-3.0)
    search.advance(log_probs)
    found = search.best(beam)
    assert 1 <= len(found) <= beam
    keys = [tuple(token.index for token in h.tokens) for h in found]
    assert len(set(keys)) == len(keys)
    assert all(h.log_prob <= exact[key] + 1e-9 for h, key in zip(found, keys))
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


@given(path=st.lists(st.integers(0, 4), max_size=60), blank=st.integers(0, 4), beam=st.sampled_from([1, 8]))
def test_where_frames_are_sure_it_is_greedy(path: list[int], blank: int, beam: int) -> None:
    log_probs = np.log(np.full((len(path), 5), 0.02))
    log_probs[np.arange(len(path)), path] = np.log(0.92)
    search = PrefixBeam(blank, beam=beam)
    search.advance(log_probs)
    found, expected = search.best()[0].tokens, greedy(log_probs, blank)
    assert frames_of(found) == frames_of(tuple(expected))
    assert [t.log_prob for t in found] == pytest.approx([t.log_prob for t in expected])


def test_many_alignments_outweigh_the_best_one() -> None:
    # the best path is empty, the best sequence of symbols is not
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert greedy(log_probs, 0) == []
    search = PrefixBeam(0)
    search.advance(log_probs)
    (best,) = search.best()
    assert [token.index for token in best.tokens] == [1]
    assert best.log_prob == pytest.approx(math.log(0.64))


@given(seed=st.integers(0, 1000))
def test_a_frame_of_blank_alone_is_the_full_step_in_short(seed: int) -> None:
    log_probs = random_frames(40, 4, seed, spread=4.0)
    log_probs[:, 0] += 6.0
    log_probs -= np.logaddexp.reduce(log_probs, axis=1)[:, None]
    short, full = PrefixBeam(0, beam=5, min_log_prob=-4.0), PrefixBeam(0, beam=5, min_log_prob=-4.0)
    full._skip = lambda blank: full._step(blank, [])  # type: ignore[method-assign]
    short.advance(log_probs)
    full.advance(log_probs)
    for ours, theirs in zip(short.best(5), full.best(5), strict=True):
        assert ours.tokens == theirs.tokens
        assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-9)


def test_at_most_so_many_symbols_the_best_ones() -> None:
    log_probs = np.log([[0.05, 0.2, 0.3, 0.25, 0.2]])
    kept = {
        number: {h.tokens[0].index for h in search.best(10) if h.tokens}
        for number in (1, 2, 3)
        for search in [PrefixBeam(0, max_symbols=number)]
        if search.advance(log_probs) is None
    }
    assert kept == {1: {2}, 2: {2, 3}, 3: {1, 2, 3}}


def test_the_best_symbol_is_kept_however_improbable() -> None:
    search = PrefixBeam(0, min_log_prob=-0.1)
    search.advance(np.log([[0.3, 0.4, 0.3]]))
    assert {tuple(t.index for t in h.tokens) for h in search.best(10)} == {(), (1,)}


def test_before_the_first_frame() -> None:
    search = PrefixBeam(0)
    search.advance(np.empty((0, 5), np.float32))
    (best,) = search.best()
    assert (best.tokens, best.log_prob, best.score, search.num_frames) == ((), 0.0, 0.0, 0)


@pytest.mark.parametrize("scorer", [None, Preference()])
def test_what_left_the_beam_is_forgotten(scorer: Preference | None) -> None:
    search = PrefixBeam(0, beam=6, max_symbols=5, scorer=scorer)
    for seed in range(5):
        search.advance(random_frames(100, 12, seed, spread=3.0))
    needed: set[Prefix] = set()
    for prefix in search._beam:
        before: Prefix | None = prefix
        while before is not None:
            needed.add(before)
            before = before.parent
    (waiting,) = ([prefix] for prefix in needed if prefix.parent is None)
    while waiting:
        prefix = waiting.pop()
        waiting += prefix.children.values()
        # of the beam, the beginning of one in it, or one symbol longer than one in it
        assert prefix in needed or (prefix.parent is not None and prefix.parent.kept and not prefix.children)


def test_a_recording_of_hours_is_let_go_of() -> None:
    # each symbol holds the one before it: they must not be freed one inside the other
    log_probs = np.full((60_000, 3), -20.0)
    log_probs[np.arange(60_000), np.arange(60_000) % 3] = 0.0
    search = PrefixBeam(0, beam=1)
    search.advance(log_probs)
    assert len(search.best()[0].tokens) == 40_000
    del search


@pytest.mark.parametrize("bad", [[-1.0, -1.0, np.nan], [-1.0, 3.5, -1.0], [-np.inf] * 3])
def test_refuses_what_is_no_log_probability(bad: list[float]) -> None:
    log_probs = random_frames(4, 3, 0)
    log_probs[2] = bad
    with pytest.raises(VerificationError, match=r"expected log-probabilities.*frame 2"):
        PrefixBeam(0).advance(log_probs)


@pytest.mark.parametrize("wrong", [{"beam": 0}, {"max_symbols": 0}])
def test_refuses_to_search_for_nothing(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected a beam"):
        PrefixBeam(0, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "blank"), [((4,), 0), ((4, 3), 3)])
def test_refuses_another_shape_or_blank(shape: tuple[int, ...], blank: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        PrefixBeam(blank).advance(np.zeros(shape, np.float32))
