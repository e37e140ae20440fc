"""Word n-gram models with back-off, read from ARPA files.

The format is read here, in NumPy, because no package that reads it serves every device (2026-11): `kenlm` has no
wheels, `kenlm-ex` none for aarch64, `flashlight-text` none for Python 3.13, and `pyctcdecode` needs NumPy 1.

After Katz 1987, "Estimation of probabilities from sparse data for the language model component of a speech recognizer":
p(w | h) is that of the n-gram h w where the file has it, else back-off(h) p(w | h without its first word). Natural
logarithms; the file's are to base 10. N is the order, V the number of words.
"""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgekit.core.errors import DecodingError
from edgekit.runtime.decode.lines import read_lines

MAX_ORDER = 9

_WHAT = "a language model in ARPA format"
_HEADER = r"\data\, `ngram 1=` and so on, then \1-grams:"
_MAX_LINES_BEFORE = 1000
_Lines = Iterator[tuple[int, bytes]]


class NgramModel:
    """Log-probabilities of words after words. An n-gram is held as (row of its first n-1 words) * V + its last word, in
    ascending order: 16 bytes each, and exact.

    Args:
        index: the row of each unigram, by its bytes in UTF-8.
        log_probs: per order float32 [n-grams].
        backoffs: the same; 0 for the highest order.
        keys: per order from 2 on int64 [n-grams], ascending.

    Attributes:
        order: N.
    """

    def __init__(
        self,
        index: dict[bytes, int],
        log_probs: list[np.ndarray],
        backoffs: list[np.ndarray],
        keys: list[np.ndarray],
    ) -> None:
        self.order = len(log_probs)
        self._index = index
        self._sorted = sorted(index)
        # views, because single elements are read, which takes an array's several times as long
        self._log_probs = [values.data for values in log_probs]
        self._backoffs = [values.data for values in backoffs]
        self._keys = [values.data for values in keys]
        self._unknown = next((index[name] for name in (b"<unk>", b"<UNK>") if name in index), None)
        start = index.get(b"<s>")
        # <s> is never spoken, and has any probability at all
        self._least = float(min(np.delete(log_probs[0], [] if start is None else start), default=log_probs[0][0]))
        self.start: tuple[int | None, ...] = () if start is None or self.order == 1 else (start,)

    def __contains__(self, word: str) -> bool:
        return word.encode() in self._index

    def has_prefix(self, text: str) -> bool:
        """Whether any word begins with this."""
        prefix = text.encode()
        at = bisect_left(self._sorted, prefix)
        return at < len(self._sorted) and self._sorted[at].startswith(prefix)

    def score(self, context: tuple[int | None, ...], word: str) -> tuple[float, tuple[int | None, ...]]:
        """The log-probability of a word, and the context after it.

        A word that the model lacks has the probability of its <unk>; without one, that of its least probable word.

        Args:
            context: `start`, or what an earlier call returned.
            word: `</s>` ends the sentence.
        """
        row = self._index.get(word.encode(), self._unknown)
        after = (*context, row)[1 - self.order :] if self.order > 1 else ()
        if row is None:
            return self._least, after
        backoff = 0.0
        for begin in range(len(context)):
            history = self._find(context[begin:])
            if history is None:
                continue
            num_words = len(context) - begin
            found = self._row(num_words, history, row)
            if found is not None:
                return backoff + self._log_probs[num_words][found], after
            backoff += self._backoffs[num_words - 1][history]
        return backoff + self._log_probs[0][row], after

    def _find(self, words: tuple[int | None, ...]) -> int | None:
        """The row of an n-gram among those of its order."""
        row = words[0]
        for position, word in enumerate(words[1:], start=1):
            if row is None or word is None:
                return None
            row = self._row(position, row, word)
        return row

    def _row(self, num_words: int, history: int, word: int) -> int | None:
        """The row of the n-gram of `num_words` words, which are row `history` of their order, and one more."""
        keys = self._keys[num_words - 1]
        key = history * len(self._index) + word
        row = bisect_left(keys, key)
        return row if row < len(keys) and keys[row] == key else None


def read_arpa(path: Path | str) -> NgramModel:
    """A model from a file in ARPA format, or one compressed with gzip.

    Raises:
        DecodingError: it cannot be read, is no ARPA file, or contradicts itself: other counts than it says, a word or a
            context that no lower order has, an n-gram twice, a log-probability that is none.
    """
    path = Path(path)
    lines = read_lines(path, _WHAT)
    counts = _counts(lines, path)
    index: dict[bytes, int] = {}
    log_probs: list[np.ndarray] = []
    backoffs: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    for order, count in enumerate(counts, start=1):
        closing = rf"\{order + 1}-grams:" if order < len(counts) else "\\end\\"
        ids, log_prob, backoff = _section(lines, path, order, count, closing, index)
        if order > 1:
            key = _rows(ids, keys, len(index), path)
            ranked = np.argsort(key, kind="stable")
            key, log_prob, backoff = key[ranked], log_prob[ranked], backoff[ranked]
            if (key[1:] == key[:-1]).any():
                raise _wrong(path, f"each {order}-gram once", "one twice")
            keys.append(key)
        log_probs.append(log_prob)
        backoffs.append(backoff)
    return NgramModel(index, log_probs, backoffs, keys)


def _counts(lines: _Lines, path: Path) -> list[int]:
    """The number of n-grams of each order, and the lines after them taken up to the first section."""
    for number, line in lines:
        if line.strip() == b"\\data\\":
            break
        if number > _MAX_LINES_BEFORE or line.startswith(b"mmap lm "):
            raise _wrong(path, r"\data\ at the beginning", repr(line[:40].decode(errors="replace")))
    counts: list[int] = []
    for number, line in lines:
        if line.strip() == b"\\1-grams:" and counts:
            if 0 in counts or len(counts) > MAX_ORDER:
                raise _wrong(path, f"n-grams of every order, up to {MAX_ORDER}", f"{counts} of them")
            return counts
        declared = re.fullmatch(rb"ngram\s+(\d{1,2})\s*=\s*(\d{1,12})", line.strip())
        if declared is not None and int(declared[1]) == len(counts) + 1:
            counts.append(int(declared[2]))
        elif line.strip():
            raise _wrong(path, _HEADER, repr(line[:40].decode(errors="replace")), number)
    raise _wrong(path, _HEADER, "its end")


def _section(
    lines: _Lines, path: Path, order: int, count: int, closing: str, index: dict[bytes, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The n-grams of one order: words int64 [n-grams, order], log-probabilities and back-offs float32 [n-grams].

    Unigrams are put into `index`. The line `closing` is taken too.
    """
    values, backoffs, ids = array("d"), array("d"), array("q")
    for number, line in lines:
        # bytes split at ASCII's white space alone: a word may hold any other
        fields = line.split()
        if not fields:
            continue
        if line.startswith(b"\\"):
            if line.strip() != closing.encode() or len(values) != count:
                received = f"{line[:20].decode(errors='replace')} after {len(values)}"
                raise _wrong(path, f"{count} {order}-grams as \\data\\ says, then {closing}", received, number)
            break
        try:
            first, *words = fields
            backoff = float(words.pop()) if len(words) == order + 1 else 0.0
            if order == 1:
                words[0].decode()
                index.setdefault(words[0], len(values))
            rows = [index[word] for word in words]
            if len(rows) != order or (order == 1 and rows != [len(values)]):
                raise ValueError(rows)
            ids.extend(rows)
            values.append(float(first))
            backoffs.append(backoff)
        except (IndexError, KeyError, ValueError) as error:
            expected = f"a log-probability, {order} of the file's words (UTF-8, each once), a back-off if any"
            shown = repr(line[:60].decode(errors="replace"))
            raise _wrong(path, expected, shown, number) from error
    else:
        raise _wrong(path, f"{count} {order}-grams, then {closing}", f"the end after {len(values)}")
    both = np.array([values, backoffs])
    # rounding may leave a probability of 1 a little above it
    if not np.isfinite(both).all() or both[0].max() > 1e-3:
        raise _wrong(path, "finite logarithms, those of probabilities at most 0", f"others among the {order}-grams")
    np.minimum(both[0], 0.0, out=both[0])
    log_probs, natural_backoffs = (both * math.log(10)).astype(np.float32)
    return np.frombuffer(ids, np.int64).reshape(-1, order), log_probs, natural_backoffs


def _rows(ids: np.ndarray, keys: list[np.ndarray], num_words: int, path: Path) -> np.ndarray:
    """The keys int64 [n-grams] of n-grams int64 [n-grams, n], by way of the rows of their first words."""
    key: np.ndarray = ids[:, 0]
    for position, known in enumerate([*keys, None], start=1):
        key = key * num_words + ids[:, position]
        if known is not None:
            row = np.searchsorted(known, key)
            missing = known[np.minimum(row, len(known) - 1)] != key
            if missing.any():
                order = ids.shape[1]
                raise _wrong(path, f"every {order}-gram's first {position + 1} words as an n-gram", "one without")
            key = row
    return key


def _wrong(path: Path, expected: str, received: str, number: int | None = None) -> DecodingError:
    where = f"{path}" if number is None else f"line {number} of {path}"
    return DecodingError(
        f"expected {_WHAT}: {expected}; received {received} in {where}",
        hint="write it again; of KenLM, give the file that lmplz wrote and not the binary one",
    )
