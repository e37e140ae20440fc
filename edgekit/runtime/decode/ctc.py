"""Greedy CTC decoding with time stamps, into tokens and words, and the joining of a long recording's windows.

T frames, V symbols. After Graves et al. 2006 (best-path decoding, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from edgekit.core.errors import BundleError, VerificationError

SPECIAL = frozenset({"<s>", "</s>", "<unk>", "<pad>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "<blank>", "<blk>"})
WORD_PREFIX = "▁"
# A log-softmax in float32 may end a few units of rounding above zero.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Token:
    """One emitted symbol.

    Attributes:
        index: its row in the labels.
        start_frame: the first frame it was the best symbol of.
        end_frame: the frame after the last one.
        log_prob: natural logarithm, mean over its frames, at most 0.
    """

    index: int
    start_frame: int
    end_frame: int
    log_prob: float


@dataclass(frozen=True)
class Word:
    """One word: its text, its times in seconds, and exp(mean log-probability of its tokens) in 0..1."""

    text: str
    start_s: float
    end_s: float
    confidence: float


def greedy(log_probs: np.ndarray, blank: int) -> list[Token]:
    """The best symbol of each frame, repeats joined, blanks dropped.

    Args:
        log_probs: floats [T, V], natural log-probabilities; -inf is allowed.
        blank: the blank's index.

    Raises:
        VerificationError: the best symbol of a frame is NaN, infinite or clearly above 0: the graph gave nonsense, or
            gave logits.
        ValueError: not [T, V], or no symbol `blank`.
    """
    best, best_log_prob = best_symbols(log_probs, blank)
    if not len(best):
        return []
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(starts[1:], len(best))
    means = np.minimum(np.add.reduceat(best_log_prob, starts) / (ends - starts), 0.0)
    return [
        Token(index, start, end, mean)
        for index, start, end, mean in zip(best[starts].tolist(), starts.tolist(), ends.tolist(), means.tolist())
        if index != blank
    ]


def best_symbols(log_probs: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """The best symbol of each frame, int64 [T], and its log-probability, float64 [T]; arguments, errors as `greedy`."""
    if log_probs.ndim != 2 or not 0 <= blank < log_probs.shape[1]:
        raise ValueError(
            f"expected log-probabilities [T, V] and a blank in 0..V-1, received {log_probs.shape}, {blank}"
        )
    best = log_probs.argmax(axis=1)
    best_log_prob = np.take_along_axis(log_probs, best[:, None], axis=1)[:, 0].astype(np.float64)
    sound = np.isfinite(best_log_prob) & (best_log_prob <= _ROUNDING)
    if not sound.all():
        frame = int(np.argmin(sound))
        raise VerificationError(
            f"expected log-probabilities of at most 0, received {best_log_prob[frame]} at frame {frame}",
            hint="edgekit verify BUNDLE shows which graph is wrong; fp32 is the precision to fall back to",
        )
    return best, best_log_prob


def spells(label: str, delimiter: str) -> tuple[bool, str]:
    """Whether a word ends before a label, and the text that it adds: `|` (True, ""), `▁he` (True, "he"), `<s>` nothing.

    Args:
        label: the text of a symbol.
        delimiter: as in `words`.
    """
    if label in SPECIAL:
        return False, ""
    if label == delimiter or (delimiter == WORD_PREFIX and label.startswith(WORD_PREFIX)):
        return True, label[len(delimiter) :]
    return False, label


def words(
    tokens: Iterable[Token], labels: Sequence[str], *, delimiter: str, frame_s: float, offset_s: float = 0.0
) -> list[Word]:
    """Spell tokens into words; special symbols (<s>, </s>, <unk>, <pad>) are dropped.

    Args:
        tokens: in order of time.
        labels: the text of each symbol.
        delimiter: the symbol between words ("|"), or "▁" where it is the first character of a word's first piece.
        frame_s: seconds per frame.
        offset_s: when frame 0 begins, in seconds.

    Raises:
        BundleError: a token without a label.
    """
    spelled: list[list[tuple[str, Token]]] = []
    begin = True
    for token in tokens:
        if not 0 <= token.index < len(labels):
            raise BundleError(f"expected symbols 0..{len(labels) - 1}, one for each label, received {token.index}")
        ends, text = spells(labels[token.index], delimiter)
        begin = begin or ends
        if not text:
            continue
        if begin:
            spelled.append([])
            begin = False
        spelled[-1].append((text, token))
    return [
        Word(
            "".join(text for text, _ in word),
            offset_s + word[0][1].start_frame * frame_s,
            offset_s + word[-1][1].end_frame * frame_s,
            math.exp(sum(token.log_prob for _, token in word) / len(word)),
        )
        for word in spelled
    ]


def merge_windows(parts: Sequence[Iterable[Token]], spans: Sequence[tuple[int, int]]) -> list[Token]:
    """Join the tokens of overlapping windows of one recording.

    Each overlap is cut in its middle; a token whose centre lies left of the cut is taken from the left window, else
    from the right. Where both windows agree nothing is lost or doubled: a symbol that fills a whole overlap, and so is
    kept by both, is joined again.

    Args:
        parts: per window its tokens, frames counted from the window's start.
        spans: per window its (start, stop) in frames of the recording, ascending, neighbours touching or overlapping;
            the last may end where the one before it ends.

    Returns:
        The tokens of the recording, frames counted from its start.

    Raises:
        ValueError: parts and spans do not match, or spans leave a gap or do not ascend.
    """
    # Centres are doubled, as the cuts are.
    cuts = _doubled_cuts(len(parts), spans)
    merged: list[Token] = []
    for part, (start, _), low, high in zip(parts, spans, [-math.inf, *cuts], [*cuts, math.inf]):
        for token in part:
            moved = replace(token, start_frame=token.start_frame + start, end_frame=token.end_frame + start)
            if not low <= moved.start_frame + moved.end_frame < high:
                continue
            # Two tokens of one symbol always have a blank between them, so touching ones are one.
            if merged and merged[-1].index == moved.index and merged[-1].end_frame >= moved.start_frame:
                moved = _joined(merged.pop(), moved)
            merged.append(moved)
    return merged


def join_windows(parts: Sequence[np.ndarray], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Join the frames of overlapping windows of one recording, each overlap cut where `merge_windows` cuts it.

    Args:
        parts: per window its frames `[T, V]`, at least one window.
        spans: as in `merge_windows`.

    Returns:
        The frames of the recording, `[T, V]`.

    Raises:
        ValueError: as `merge_windows`.
    """
    # frame f, whose doubled centre is 2f + 1, lies left of the cut
    cuts = [cut // 2 for cut in _doubled_cuts(len(parts), spans)]
    lows, highs = [spans[0][0], *cuts], [*cuts, spans[-1][1]]
    return np.concatenate(
        [part[low - start : high - start] for part, (start, _), low, high in zip(parts, spans, lows, highs)]
    )


def _doubled_cuts(num_parts: int, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Twice the middle of each overlap, in frames of the recording: whole numbers."""
    if num_parts != len(spans):
        raise ValueError(f"expected one span per window, received {num_parts} windows and {len(spans)} spans")
    for (start, stop), (next_start, next_stop) in pairwise(spans):
        if not (start < next_start <= stop <= next_stop):
            raise ValueError(
                f"expected ascending spans without gaps, received {(start, stop)}, {(next_start, next_stop)}"
            )
    return [stop + next_start for (_, stop), (next_start, _) in pairwise(spans)]


def _joined(left: Token, right: Token) -> Token:
    sizes = [token.end_frame - token.start_frame for token in (left, right)]
    log_prob = (left.log_prob * sizes[0] + right.log_prob * sizes[1]) / sum(sizes)
    return Token(left.index, left.start_frame, max(left.end_frame, right.end_frame), log_prob)
