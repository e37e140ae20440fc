"""What answers an episode's queries: CSCA, and the controls that it must be held to.

Each takes labelled pictures `[E, N, K, C]` and queries `[E, n, C]` and gives scores `[E, n, N]`. None takes the
queries' labels, and each query is answered alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from edgekit.runtime.classes.csca import CscaSettings, Problem, fit_weights, leave_one_out
from edgekit.runtime.classes.scoring import class_scores
from edgekit.runtime.few_shot.logistic import logistic_scores

Answer = Callable[[np.ndarray, np.ndarray], np.ndarray]

_RANDOM_WEIGHTS = (0.05, 2.0)


def prototype(shots: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Nearest prototype by the cosine: weights of 1."""
    means = shots.mean(-2)
    return class_scores(queries, means, np.ones_like(means))


def csca(shots: np.ndarray, queries: np.ndarray, settings: CscaSettings | None = None) -> np.ndarray:
    """Weights fitted on the labelled pictures; of one picture of each class they stay 1."""
    means = shots.mean(-2)
    return class_scores(queries, means, episode_weights(shots, settings))


def episode_weights(shots: np.ndarray, settings: CscaSettings | None = None) -> np.ndarray:
    """The weights `[E, N, C]` of the classes of each episode."""
    *lead, ways, num_shots, channels = shots.shape
    if num_shots == 1:
        return np.ones((*lead, ways, channels), shots.dtype)
    rows = (*lead, ways * num_shots, channels)
    labels = np.repeat(np.arange(ways), num_shots)
    problem = Problem(shots.reshape(rows), labels, leave_one_out(shots).reshape(rows), shots.mean(-2))
    return fit_weights(problem, settings)


def random_weights(shots: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Weights that mean nothing: what any weighting gains or loses.

    Drawn by an episode's labelled pictures: others in each episode, the same whichever episodes stand beside it.
    """
    means = shots.mean(-2)
    seeds = [zlib.crc32(each.tobytes()) for each in shots.reshape(-1, *shots.shape[-3:])]
    drawn = [np.random.default_rng(seed).uniform(*_RANDOM_WEIGHTS, means.shape[-2:]) for seed in seeds]
    return class_scores(queries, means, np.reshape(drawn, means.shape).astype(means.dtype))


def logistic(shots: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Logistic regression on embeddings of length 1, as scikit-learn's by default but for the intercept."""
    ways, num_shots = shots.shape[-3:-1]
    rows = shots.reshape(*shots.shape[:-3], ways * num_shots, shots.shape[-1])
    return logistic_scores(rows, np.repeat(np.arange(ways), num_shots), ways, queries)
