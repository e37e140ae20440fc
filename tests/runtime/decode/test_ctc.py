from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import BundleError, VerificationError
from edgekit.runtime.decode.ctc import Token, Word, greedy, join_windows, merge_windows, words
from edgekit.runtime.features.audio import windows

pytestmark = pytest.mark.device_side


def log_probs_of(path: list[int], num_symbols: int, seed: int = 0) -> np.ndarray:
    """float32 [T, V]: log-softmax of noise in which `path` is the best at every frame."""
    logits = np.random.default_rng(seed).normal(size=(len(path), num_symbols))
    logits[np.arange(len(path)), path] = logits.max(axis=1, initial=0.0) + 1.0
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


# ---- greedy


@given(path=st.lists(st.integers(0, 4), max_size=60), blank=st.integers(0, 4))
def test_greedy_is_collapse_then_drop_blanks(path: list[int], blank: int) -> None:
    log_probs = log_probs_of(path, 5)
    expected, at = [], 0
    for index, run in groupby(path):
        size = len(list(run))
        if index != blank:
            expected.append((index, at, at + size, float(np.mean(log_probs[at : at + size, index], dtype=np.float64))))
        at += size
    tokens = greedy(log_probs, blank)
    assert [(t.index, t.start_frame, t.end_frame) for t in tokens] == [e[:3] for e in expected]
    np.testing.assert_allclose([t.log_prob for t in tokens], [e[3] for e in expected], atol=1e-6)


def test_a_repeat_needs_a_blank_between() -> None:
    assert [t.index for t in greedy(log_probs_of([1, 1, 0, 1, 2, 2], 3), blank=0)] == [1, 1, 2]


def test_minus_infinity_beside_the_best_is_allowed() -> None:
    log_probs = np.array([[0.0, -np.inf], [-np.inf, 0.0]], np.float32)
    assert greedy(log_probs, blank=0) == [Token(1, 1, 2, 0.0)]


@pytest.mark.parametrize("bad", [[-1.0, -1.0, np.nan], [-1.0, -1.0, np.inf], [-1.0, 3.5, -1.0], [-np.inf] * 3])
def test_refuses_what_is_no_log_probability(bad: list[float]) -> None:
    log_probs = log_probs_of([0, 1, 2], 3)
    log_probs[1] = bad
    with pytest.raises(VerificationError, match=r"expected log-probabilities.*frame 1"):
        greedy(log_probs, blank=0)


@pytest.mark.parametrize(("shape", "blank"), [((4,), 0), ((1, 4, 3), 0), ((4, 3), 3), ((4, 3), -1)])
def test_refuses_another_shape_or_blank(shape: tuple[int, ...], blank: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        greedy(np.zeros(shape, np.float32), blank)


# ---- words

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", "A", "B", "C"]
PIECES = ["<unk>", "▁", "▁he", "llo", "▁a", "b"]


def spell(indices: list[int], log_prob: float = -0.1) -> list[Token]:
    return [Token(index, 3 * i + 1, 3 * i + 3, log_prob) for i, index in enumerate(indices)]


def test_words_of_letters_with_times() -> None:
    tokens = spell([5, 6, 4, 7])
    assert words(tokens, LETTERS, delimiter="|", frame_s=0.02, offset_s=10.0) == [
        Word("AB", pytest.approx(10.02), pytest.approx(10.12), pytest.approx(np.exp(-0.1))),
        Word("C", pytest.approx(10.20), pytest.approx(10.24), pytest.approx(np.exp(-0.1))),
    ]


def test_confidence_is_the_geometric_mean_over_tokens() -> None:
    tokens = [Token(5, 0, 1, np.log(0.5)), Token(6, 1, 9, np.log(0.125))]
    (word,) = words(tokens, LETTERS, delimiter="|", frame_s=0.02)
    assert word.confidence == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("labels", "delimiter", "indices", "expected"),
    [
        (LETTERS, "|", [4, 4, 5, 4, 4, 6, 4], ["A", "B"]),
        (LETTERS, "|", [1, 5, 0, 3, 6, 2], ["AB"]),
        (LETTERS, "|", [], []),
        (LETTERS, "|", [1, 4, 2], []),
        (PIECES, "▁", [2, 3, 4, 5, 5], ["hello", "abb"]),
        (PIECES, "▁", [3, 1, 3, 1, 2], ["llo", "llo", "he"]),
        (PIECES, "▁", [2, 0, 3], ["hello"]),
        (["<pad>", "▁x"], "|", [1, 1], ["▁x▁x"]),
    ],
)
def test_words_of_labels(labels: list[str], delimiter: str, indices: list[int], expected: list[str]) -> None:
    assert [w.text for w in words(spell(indices), labels, delimiter=delimiter, frame_s=0.02)] == expected


@given(st.lists(st.integers(0, 7), max_size=40))
def test_words_are_the_joined_labels_split(indices: list[int]) -> None:
    joined = "".join(" " if LETTERS[i] == "|" else LETTERS[i] for i in indices if not LETTERS[i].startswith("<"))
    found = words(spell(indices), LETTERS, delimiter="|", frame_s=0.02)
    assert [w.text for w in found] == joined.split()
    assert all(w.start_s < w.end_s and 0 < w.confidence <= 1 for w in found)
    assert all(a.end_s <= b.start_s for a, b in pairwise(found))


@pytest.mark.parametrize("index", [8, -1])
def test_refuses_a_token_without_a_label(index: int) -> None:
    with pytest.raises(BundleError, match=rf"0\.\.7.*received {index}"):
        words(spell([index]), LETTERS, delimiter="|", frame_s=0.02)


# ---- merge_windows


@st.composite
def cut_recordings(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]]]:
    """A path of best symbols (0 is the blank) and spans that cover it, of equal or of any sizes."""
    runs = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 25)), min_size=1, max_size=40))
    path = [index for index, size in runs for _ in range(size)]
    if draw(st.booleans()):
        window = draw(st.integers(1, 60))
        return path, windows(len(path), window, draw(st.integers(0, window - 1)))
    spans = [(0, draw(st.integers(1, len(path))))]
    while spans[-1][1] < len(path):
        start, stop = spans[-1]
        spans.append((draw(st.integers(start + 1, stop)), draw(st.integers(stop + 1, len(path)))))
    return path, spans


@given(cut_recordings())
def test_merging_what_was_cut_gives_the_original(recording: tuple[list[int], list[tuple[int, int]]]) -> None:
    path, spans = recording
    log_probs = log_probs_of(path, 3)
    whole = greedy(log_probs, blank=0)
    merged = merge_windows([greedy(log_probs[start:stop], blank=0) for start, stop in spans], spans)
    assert [(t.index, t.start_frame, t.end_frame) for t in merged] == [
        (t.index, t.start_frame, t.end_frame) for t in whole
    ]
    # A token that spans several windows is a mean of means; any other keeps its score.
    for ours, theirs in zip(merged, whole):
        if any(start <= theirs.start_frame and theirs.end_frame <= stop for start, stop in spans) and ours != theirs:
            lowest = log_probs[theirs.start_frame : theirs.end_frame, theirs.index].min()
            assert lowest - 1e-6 <= ours.log_prob <= 0


def test_each_side_of_the_cut_comes_from_its_window() -> None:
    # Spans 0..20 and 10..30: the cut is frame 15. Indices say which window a token came from.
    left = [Token(1, 2, 3, -1.0), Token(1, 14, 15, -1.0), Token(1, 16, 17, -1.0)]
    right = [Token(2, 2, 3, -2.0), Token(2, 4, 6, -2.0), Token(2, 15, 16, -2.0)]
    assert merge_windows([left, right], [(0, 20), (10, 30)]) == [
        Token(1, 2, 3, -1.0),
        Token(1, 14, 15, -1.0),
        Token(2, 14, 16, -2.0),
        Token(2, 25, 26, -2.0),
    ]


def test_a_symbol_longer_than_the_overlap_is_joined_again() -> None:
    merged = merge_windows([[Token(1, 5, 10, -1.0)], [Token(1, 0, 4, -3.0)]], [(0, 10), (8, 20)])
    assert merged == [Token(1, 5, 12, pytest.approx(-(5 * 1.0 + 4 * 3.0) / 9))]


def test_windows_that_disagree_on_a_symbols_end_give_the_later_one() -> None:
    merged = merge_windows([[Token(1, 1, 9, -1.0)], [Token(1, 0, 2, -1.0)]], [(0, 10), (6, 20)])
    assert [(t.start_frame, t.end_frame) for t in merged] == [(1, 9)]


@given(cut_recordings())
def test_joining_what_was_cut_gives_the_original(recording: tuple[list[int], list[tuple[int, int]]]) -> None:
    path, spans = recording
    log_probs = log_probs_of(path, 3)
    joined = join_windows([log_probs[start:stop] for start, stop in spans], spans)
    np.testing.assert_array_equal(joined, log_probs)


@given(cut_recordings())
def test_frames_and_tokens_are_cut_alike(recording: tuple[list[int], list[tuple[int, int]]]) -> None:
    # every symbol one frame long, and each window's own
    _, spans = recording
    parts = [np.full((stop - start, 1), float(number)) for number, (start, stop) in enumerate(spans)]
    tokens = [
        [Token(number, at, at + 1, 0.0) for at in range(stop - start)] for number, (start, stop) in enumerate(spans)
    ]
    merged = merge_windows(tokens, spans)
    owners = [token.index for token in merged for _ in range(token.start_frame, token.end_frame)]
    assert owners == join_windows(parts, spans)[:, 0].tolist()


def test_one_window_and_none() -> None:
    tokens = spell([5, 6])
    assert merge_windows([tokens], [(0, 50)]) == tokens
    assert merge_windows([], []) == []


@pytest.mark.parametrize(
    "spans", [[(0, 10)], [(0, 10), (11, 20)], [(0, 10), (0, 20)], [(0, 20), (5, 19)], [(10, 20), (0, 15)]]
)
def test_refuses_spans_that_do_not_cover(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        merge_windows([[], []], spans)
    with pytest.raises(ValueError, match="expected"):
        join_windows([np.zeros((stop - start, 3)) for start, stop in spans[:1]] * 2, spans)
