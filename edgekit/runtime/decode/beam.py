"""CTC prefix beam search, chunk by chunk, with time stamps.

After Graves and Jaitly 2014, "Towards end-to-end speech recognition with recurrent neural networks" (algorithm 1) and
Hannun et al. 2014, arXiv 1408.2873 (algorithm 1). A prefix's probability is the sum over all alignments that spell it;
its time stamps are those of its best alignment. T frames, V symbols; natural logarithms throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from edgekit.runtime.decode.ctc import Token, best_symbols
from edgekit.runtime.decode.prefix import NONE, Prefix

BEAM = 16
MAX_SYMBOLS = 16
MIN_LOG_PROB = -8.0
"""What is less probable in a frame than this, 1 in 3000, no hotword brings back."""


class Scorer(Protocol):
    """What is added to the log-probability of a prefix, symbol by symbol. States are opaque and never changed."""

    @property
    def start(self) -> Any:
        """The state before the first symbol."""

    def extend(self, state: Any, symbol: int) -> tuple[Any, float]:
        """The state after one more symbol, and what it adds."""

    def end(self, state: Any) -> float:
        """What is added where nothing follows."""


@dataclass(frozen=True)
class Hypothesis:
    """One prefix of the beam.

    Attributes:
        tokens: with the frames of the prefix's best alignment; a token's log-probability is the mean over its frames.
        log_prob: of the prefix, summed over the alignments that were not pruned, at most 0.
        score: `log_prob` and what the scorer adds.
    """

    tokens: tuple[Token, ...]
    log_prob: float
    score: float


class PrefixBeam:
    """The search over one recording. However its frames are cut into chunks, the result is the same, to the bit.

    In each frame the blank is kept and, of the other symbols, at most `max_symbols` of at least `min_log_prob` (the
    best of all in any case): O(beam x kept symbols). A frame in which pruning leaves the blank alone extends no prefix,
    and ranks none anew: it takes one addition, with the exact result of the full step on the same symbols. With nothing
    pruned (`beam` and `max_symbols` large, `min_log_prob` -inf) the search is exact.

    Args:
        blank: the blank's index.
        beam: how many prefixes are kept.
        max_symbols: the most symbols besides the blank that extend a prefix in one frame.
        min_log_prob: the least log-probability with which a symbol does.
        scorer: adds hotwords or a language model; None: the acoustic model alone.

    Attributes:
        num_frames: taken so far.
    """

    def __init__(
        self,
        blank: int,
        *,
        beam: int = BEAM,
        max_symbols: int = MAX_SYMBOLS,
        min_log_prob: float = MIN_LOG_PROB,
        scorer: Scorer | None = None,
    ) -> None:
        if beam < 1 or max_symbols < 1:
            raise ValueError(f"expected a beam and symbols of at least 1, received {beam} and {max_symbols}")
        self.num_frames = 0
        self._blank = blank
        self._size = beam
        self._max_symbols = max_symbols
        self._min_log_prob = min_log_prob
        self._scorer = scorer
        root = Prefix(None, -1, None if scorer is None else scorer.start, 0.0)
        root.become((0.0, NONE, 0.0, NONE, None, None))
        self._beam = [root]
        # shared by all prefixes, so that a frame of the blank alone is one addition
        self._log_prob = 0.0
        self._after_blank = True

    def advance(self, log_probs: np.ndarray) -> None:
        """Take the next frames.

        Args:
            log_probs: floats [T, V]; -inf is allowed.

        Raises:
            VerificationError: a frame holds no log-probabilities, as `greedy` tells it.
            ValueError: not [T, V], or no symbol `blank`.
        """
        for blank, symbols in self._kept(log_probs):
            if symbols:
                self._step(blank, symbols)
            else:
                self._skip(blank)
            self.num_frames += 1

    def best(self, count: int = 1, *, ended: bool = True) -> list[Hypothesis]:
        """The best prefixes so far, best first.

        Args:
            count: at most so many.
            ended: rank them as if nothing followed: a hotword must be complete, the last word is scored.
        """
        found = []
        for prefix in self._beam:
            end = 0.0 if self._scorer is None or not ended else self._scorer.end(prefix.state)
            found.append((prefix.total + prefix.bonus + end, prefix))
        found.sort(key=lambda pair: -pair[0])
        return [
            Hypothesis(prefix.tokens(), min(prefix.total + self._log_prob, 0.0), score + self._log_prob)
            for score, prefix in found[:count]
        ]

    def _kept(self, log_probs: np.ndarray) -> Iterator[tuple[float, list[tuple[int, float]]]]:
        """Per frame the blank's log-probability, and the other symbols that are kept with theirs."""
        _, best = best_symbols(log_probs, self._blank)
        log_probs = log_probs.astype(np.float64)
        kept = (log_probs >= np.minimum(self._min_log_prob, best)[:, None]) & (log_probs > NONE)
        kept[:, self._blank] = False
        for frame in np.flatnonzero(kept.sum(axis=1) > self._max_symbols):
            ranked = np.argsort(np.where(kept[frame], -log_probs[frame], math.inf), kind="stable")
            kept[frame, ranked[self._max_symbols :]] = False
        frames, symbols = np.nonzero(kept)
        pairs = list(zip(symbols.tolist(), log_probs[frames, symbols].tolist()))
        ends = np.cumsum(kept.sum(axis=1)).tolist()
        begin = 0
        for blank, end in zip(log_probs[:, self._blank].tolist(), ends):
            yield blank, pairs[begin:end]
            begin = end

    def _skip(self, blank: float) -> None:
        """A frame of the blank alone."""
        if not self._after_blank:
            for prefix in self._beam:
                best, alignment = prefix.best()
                prefix.become((prefix.total, NONE, best, NONE, alignment, None))
            self._after_blank = True
        self._log_prob += blank

    def _step(self, blank: float, symbols: list[tuple[int, float]]) -> None:
        """Any other frame."""
        frame, beam, scorer = self.num_frames, self._beam, self._scorer
        log_prob_of = dict(symbols)
        for prefix in beam:
            prefix.stay(blank, log_prob_of.get(prefix.symbol), frame)
        # What scores no better than the worst of a full beam that stays cannot be among the best: no approximation.
        least = min(prefix.score for prefix in beam) if len(beam) == self._size else NONE
        reached = []
        for prefix in beam:
            total, children = prefix.total, prefix.children
            best, alignment = prefix.best()
            for symbol, log_prob in symbols:
                # only a blank between them makes a second one of the same symbol
                again = symbol == prefix.symbol
                value = (prefix.log_blank if again else total) + log_prob
                child = children.get(symbol)
                if child is None:
                    if value == NONE or (scorer is None and value <= least):
                        continue
                    state, gain = (None, 0.0) if scorer is None else scorer.extend(prefix.state, symbol)
                    child = children[symbol] = Prefix(prefix, symbol, state, prefix.bonus + gain)
                if not child.kept:
                    if value + child.bonus <= least:
                        continue
                    reached.append(child)
                if again:
                    child.enter(value, prefix.best_blank + log_prob, prefix.alignment_blank, frame, log_prob)
                else:
                    child.enter(value, best + log_prob, alignment, frame, log_prob)
        ranked = sorted([*beam, *reached], key=attrgetter("score"), reverse=True)
        self._beam = [prefix for prefix in ranked[: self._size] if prefix.score > NONE]
        for prefix in self._beam:
            prefix.become(prefix.next)
        for prefix in ranked[len(self._beam) :]:
            prefix.leave()
        self._after_blank = False
