"""How much an embedding is like a class: s_j(x) = cos(w_j * x, w_j * p_j), for every class j alike.

The authors' released code scores a query with the weights of its own true class, which gives the answer away (about
100 % on noise). Here a score depends on the query and on class j alone; nothing here takes a query's label.

n queries, N classes, C channels; p_j is the class's prototype (mean of its embeddings), w_j its channel weights.
"""

from __future__ import annotations

import numpy as np

_TINY = np.finfo(np.float32).tiny


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors `[..., C]` scaled to length 1, which changes no score; zeros stay zeros."""
    # first by the largest value: squares of very large or small ones have no float32
    x = x / np.maximum(np.abs(x).max(axis=-1, keepdims=True), _TINY)
    scaled: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), _TINY)
    return scaled


def fold(prototypes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a class is once its score is folded: `w^2 * p` by the length of `w * p`, and `w^2`, each `[..., N, C]`."""
    prototypes = unit(prototypes)
    squares = weights * weights
    lengths = np.sqrt((squares * prototypes * prototypes).sum(axis=-1, keepdims=True))
    return squares * prototypes / np.maximum(lengths, _TINY), squares


def class_scores(queries: np.ndarray, prototypes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The scores of many queries at once, -1 to 1, by matrix products; for many episodes, along leading axes.

    How they are rounded depends on how many there are of either; `FoldedClasses` answers each alike in any company.

    Args:
        queries: `[..., n, C]`.
        prototypes, weights: `[..., N, C]`.

    Returns:
        `[..., n, N]`; 0 where a query or a prototype is all zeros.
    """
    directions, squares = fold(prototypes, weights)
    queries = unit(queries)
    lengths = np.sqrt(queries * queries @ squares.swapaxes(-1, -2))
    scores: np.ndarray = queries @ directions.swapaxes(-1, -2) / np.maximum(lengths, _TINY)
    return scores


class FoldedClasses:
    """Classes ready to be asked: two products of C values for a query and a class.

    Each score is made of dot products of its own, so that it is the same to the last bit whichever classes are
    enrolled beside it and however many queries are asked at once. Measured beside matrix products: as fast for one
    query, which is bound by memory; slower for many.

    Args:
        prototypes, weights: float32 `[N, C]`.
    """

    def __init__(self, prototypes: np.ndarray, weights: np.ndarray) -> None:
        directions, squares = fold(np.asarray(prototypes, np.float32), np.asarray(weights, np.float32))
        # [1, C] by [C, 1] is a dot product to NumPy, whatever N is
        self._directions_N1C = np.ascontiguousarray(directions)[:, None, :]
        self._squares_N1C = np.ascontiguousarray(squares)[:, None, :]

    def scores(self, queries: np.ndarray) -> np.ndarray:
        """The scores of embeddings float32 `[n, C]`, as `class_scores`: float32 `[n, N]`."""
        answers = np.empty((len(queries), len(self._squares_N1C)), np.float32)
        for answer, x_C in zip(answers, unit(np.asarray(queries, np.float32))):
            lengths = np.sqrt(self._squares_N1C @ (x_C * x_C)[:, None])
            answer[:] = (self._directions_N1C @ x_C[:, None] / np.maximum(lengths, _TINY))[:, 0, 0]
        return answers
