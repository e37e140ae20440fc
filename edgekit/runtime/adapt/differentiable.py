"""What learning needs of a model: answers and gradients of one utterance at a time."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Gradient(Protocol):
    """A model with P tunable values.

    Attributes:
        size: P.
        layout_hash: SHA-256 that says which value is what.
        starts: float32 [N, P], trained starting points; N may be 0.
    """

    @property
    def size(self) -> int: ...

    @property
    def layout_hash(self) -> str: ...

    @property
    def starts(self) -> np.ndarray: ...

    def forward(self, features_FM: np.ndarray, theta_P: np.ndarray) -> np.ndarray:
        """Log-probabilities float32 [T, V] of one utterance; remembers what `backward` needs."""

    def backward(self, d_log_probs_TV: np.ndarray) -> np.ndarray:
        """float32 [P]: the gradient of sum(log_probs * d), for the last `forward`."""

    def close(self) -> None:
        """Give back what it holds."""
