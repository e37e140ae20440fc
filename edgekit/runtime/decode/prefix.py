"""One prefix of a beam search: how probable it is, by which alignment, and its place in the tree of prefixes.

Natural logarithms.
"""

from __future__ import annotations

import math
from typing import Any, Union

from edgekit.runtime.decode.ctc import Token

NONE = -math.inf

Alignment = Union[tuple[Any, int, int, float], None]
"""That of the parent, and of the last symbol the first frame, the frame after its last, and the sum of its
log-probabilities; None of the empty prefix."""

Ends = tuple[float, float, float, float, Alignment, Alignment]
"""Sums over the alignments that end in a blank and in the last symbol; the best of both; which ones they are."""

_NOWHERE: Ends = (NONE, NONE, NONE, NONE, None, None)


class Prefix:
    """A sequence of symbols, as a node of the tree of all that are in the beam or begin one that is.

    `log_*` are sums over alignments, `best_*` the best of them; `*_blank` of those that end in a blank, `*_symbol` of
    those that end in the last symbol. `next` holds these six for the frame that is being taken, and `score` its rank.
    """

    __slots__ = (
        "alignment_blank",
        "alignment_symbol",
        "best_blank",
        "best_symbol",
        "bonus",
        "children",
        "kept",
        "log_blank",
        "log_symbol",
        "next",
        "parent",
        "score",
        "state",
        "symbol",
        "total",
    )

    def __init__(self, parent: Prefix | None, symbol: int, state: Any, bonus: float) -> None:
        self.parent = parent
        self.symbol = symbol
        self.state = state
        self.bonus = bonus
        self.children: dict[int, Prefix] = {}
        self.kept = False
        self.score = NONE
        self.next: Ends = _NOWHERE

    def best(self) -> tuple[float, Alignment]:
        """The best alignment."""
        if self.best_blank >= self.best_symbol:
            return self.best_blank, self.alignment_blank
        return self.best_symbol, self.alignment_symbol

    def stay(self, blank: float, repeat: float | None, frame: int) -> None:
        """The same prefix after one more frame, of the blank or of its last symbol (None: pruned)."""
        best, alignment = self.best()
        log_symbol, best_symbol, held = NONE, NONE, None
        if repeat is not None and self.alignment_symbol is not None:
            before, start, _, log_prob = self.alignment_symbol
            log_symbol, best_symbol = self.log_symbol + repeat, self.best_symbol + repeat
            held = (before, start, frame + 1, log_prob + repeat)
        self.next = (self.total + blank, log_symbol, best + blank, best_symbol, alignment, held)
        self.score = _log_add(self.next[0], log_symbol) + self.bonus

    def enter(self, value: float, best: float, before: Alignment, frame: int, log_prob: float) -> None:
        """Reached from its parent with the sum `value`, at best `best`, and the parent's alignment."""
        log_blank, log_symbol, best_blank, best_symbol, alignment_blank, alignment_symbol = self.next
        log_symbol = _log_add(log_symbol, value)
        if best > best_symbol:
            best_symbol, alignment_symbol = best, (before, frame, frame + 1, log_prob)
        self.next = (log_blank, log_symbol, best_blank, best_symbol, alignment_blank, alignment_symbol)
        self.score = _log_add(log_blank, log_symbol) + self.bonus

    def become(self, state: Ends) -> None:
        """Stay in the beam, with these values."""
        (
            self.log_blank,
            self.log_symbol,
            self.best_blank,
            self.best_symbol,
            self.alignment_blank,
            self.alignment_symbol,
        ) = state
        self.total = _log_add(self.log_blank, self.log_symbol)
        self.kept, self.next = True, _NOWHERE

    def leave(self) -> None:
        """Leave the beam; what neither begins a prefix of it nor is one symbol longer is let go."""
        self.kept, self.next = False, _NOWHERE
        if self.children:
            self.children = {symbol: child for symbol, child in self.children.items() if child.kept or child.children}
        prefix = self
        while not prefix.children and prefix.parent is not None and not prefix.parent.kept:
            prefix.parent.children.pop(prefix.symbol, None)
            prefix = prefix.parent

    def tokens(self) -> tuple[Token, ...]:
        """The symbols, first to last, with their frames."""
        found = []
        prefix, (_, alignment) = self, self.best()
        while prefix.parent is not None and alignment is not None:
            alignment, start, end, log_prob = alignment
            found.append(Token(prefix.symbol, start, end, min(log_prob / (end - start), 0.0)))
            prefix = prefix.parent
        return tuple(reversed(found))


def _log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == NONE else a + math.log1p(math.exp(b - a))
