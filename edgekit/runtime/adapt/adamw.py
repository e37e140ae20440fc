"""AdamW over one flat vector, the limit of a gradient's norm, and the course of the learning rate."""

from __future__ import annotations

import math

import numpy as np

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
# values at a time: what is computed on the way stays in the cache, and takes no memory worth naming
_PART = 1 << 16


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2), as torch has it.

    Args:
        first_P, second_P: the moments, float32 [P], which are changed in place; zeros at the beginning.
        weight_decay: the share of a value that an update takes away, times the rate. Of augment weights zero is the
            core, so that decay leads back to it.
    """

    def __init__(self, first_P: np.ndarray, second_P: np.ndarray, weight_decay: float) -> None:
        self._first_P, self._second_P, self._weight_decay = first_P, second_P, weight_decay

    def update(self, theta_P: np.ndarray, gradient_P: np.ndarray, rate: float, step: int) -> None:
        """Change `theta_P`, float32 [P], in place. `step` counts from 1."""
        for start in range(0, len(theta_P), _PART):
            part = slice(start, start + _PART)
            gradient, first, second = gradient_P[part], self._first_P[part], self._second_P[part]
            first += np.float32(1 - _BETA_1) * (gradient - first)
            second *= np.float32(_BETA_2)
            second += np.float32(1 - _BETA_2) * gradient * gradient
            spread = np.sqrt(second) / np.float32(math.sqrt(1 - _BETA_2**step)) + np.float32(_EPSILON)
            theta_P[part] *= np.float32(1 - rate * self._weight_decay)
            theta_P[part] -= np.float32(rate / (1 - _BETA_1**step)) * (first / spread)


def clip_norm(gradient_P: np.ndarray, most: float) -> float:
    """Scale a gradient down in place to the L2 norm `most` where it is longer; its norm before that."""
    norm = math.sqrt(float(np.dot(gradient_P, gradient_P)))
    if norm > most:
        gradient_P *= np.float32(most / norm)
    return norm


def rate_at(step: int, num_steps: int, *, peak: float, warmup_steps: int, schedule: str) -> float:
    """The learning rate of update 0..num_steps - 1.

    It rises linearly to `peak` within `warmup_steps` updates, and then stays ("constant") or falls to 0 as half a
    cosine does ("cosine").
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return peak
    done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
