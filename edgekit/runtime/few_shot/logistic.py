"""Logistic regression on an episode's labelled pictures, for many episodes at once: the control that is hard to beat.

Minimises `C * sum of cross entropies + |W|^2 / 2` without an intercept, on embeddings of length 1: what scikit-learn's
`LogisticRegression(C=C, fit_intercept=False)` does. The weights are sums of the examples, so that the examples'
products with each other are all that it needs; M examples, N classes, C channels, leading axes are episodes.
"""

from __future__ import annotations

import numpy as np

from edgekit.runtime.classes.scoring import unit

_MOST_STEPS, _TOLERANCE = 1000, 1e-5


def logistic_scores(
    examples: np.ndarray, labels: np.ndarray, num_classes: int, queries: np.ndarray, strength: float = 1.0
) -> np.ndarray:
    """What the fitted regression says to queries.

    Args:
        examples: `[..., M, C]`.
        labels: int [M].
        queries: `[..., n, C]`.
        strength: C of scikit-learn: large values fit the examples more closely.

    Returns:
        `[..., n, N]`, before the softmax.
    """
    examples, queries = unit(examples), unit(queries)
    gram = examples @ examples.swapaxes(-1, -2)
    targets = np.eye(num_classes, dtype=gram.dtype)[labels]
    # Nesterov's method. Curvature lies between 1 and this, since a softmax's is at most 1/2.
    most = 1 + strength * np.abs(gram).sum(-1).max(-1)[..., None, None] / 2
    momentum = (np.sqrt(most) - 1) / (np.sqrt(most) + 1)
    alpha = ahead = np.zeros((*gram.shape[:-1], num_classes), gram.dtype)
    for _ in range(_MOST_STEPS):
        logits = gram @ ahead
        likely = np.exp(logits - logits.max(-1, keepdims=True))
        slope = ahead + strength * (likely / likely.sum(-1, keepdims=True) - targets)
        following = ahead - slope / most
        ahead = following + momentum * (following - alpha)
        alpha = following
        if np.abs(slope).max() < _TOLERANCE * strength:
            break
    scores: np.ndarray = queries @ examples.swapaxes(-1, -2) @ alpha
    return scores
