"""A model that learns without an engine, and speech that it can learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgekit.runtime.adapt.examples import AdaptationData, Example
from edgekit.runtime.adapt.labels import Labels

TOKENS = ("<pad>", "|", "A", "B", "C", "D")
NUM_BINS = 8


class Linear:
    """log-softmax of a linear map of features [F, 8] onto six labels, F = T; theta is added to the map.

    Attributes:
        num_forward, num_backward: calls so far.
        before: called before each of them.
    """

    layout_hash = "ab" * 32

    def __init__(self, num_starts: int = 2, before: Callable[[np.ndarray], None] = lambda features: None) -> None:
        rng = np.random.default_rng(7)
        self.prototypes = rng.normal(size=(len(TOKENS), NUM_BINS))
        self.core = self.prototypes.T.copy()
        self.size = self.core.size
        self.starts = (0.05 * rng.normal(size=(num_starts, self.size))).astype(np.float32)
        self.before, self.num_forward, self.num_backward, self.closed = before, 0, 0, False

    def forward(self, features_FM: np.ndarray, theta_P: np.ndarray) -> np.ndarray:
        assert theta_P.dtype == np.float32
        assert theta_P.shape == (self.size,)
        self.before(features_FM)
        self.num_forward += 1
        logits = features_FM.astype(np.float64) @ (self.core + theta_P.reshape(self.core.shape))
        logits -= logits.max(1, keepdims=True)
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        self._known = (features_FM, np.exp(log_probs))
        return log_probs.astype(np.float32)

    def backward(self, d_log_probs_TV: np.ndarray) -> np.ndarray:
        assert d_log_probs_TV.dtype == np.float32
        features_FM, probs = self._known
        self.num_backward += 1
        d_logits = d_log_probs_TV - probs * d_log_probs_TV.sum(1, keepdims=True, dtype=np.float64)
        return (features_FM.T @ d_logits).astype(np.float32).ravel()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def linear() -> Callable[..., Linear]:
    """`linear(num_starts=2)`: a fresh model, always the same."""
    return Linear


@pytest.fixture
def labels() -> Labels:
    return Labels(TOKENS, 0, "|")


def utterance(index: int, rng: np.random.Generator, labels: Labels, speaker: np.ndarray, num_words: int) -> Example:
    """Letters of four frames each with blanks between, as this speaker says them."""
    text = " ".join("".join(rng.choice(list("ABCD"), rng.integers(1, 4))) for _ in range(num_words))
    _, ids = labels.encode(text)
    frames = np.repeat([symbol for label in ids for symbol in (0, label)] + [0], 4)
    prototypes = Linear().prototypes
    features = ((prototypes[frames] @ speaker) + rng.normal(0, 0.3, (len(frames), NUM_BINS))).astype(np.float32)
    return Example(f"{index:03}", 0.1 * len(frames), text, ids, lambda: features)


@pytest.fixture
def spoken(labels: Labels) -> Callable[..., AdaptationData]:
    """`spoken(num=20)`: examples of one speaker, who speaks otherwise than the model was taught."""

    def make(
        num: int = 20, num_held_back: int = 5, *, change: float = 0.6, words: Sequence[int] = (2,)
    ) -> AdaptationData:
        rng = np.random.default_rng(3)
        speaker = np.eye(NUM_BINS) + change * rng.normal(size=(NUM_BINS, NUM_BINS))
        made = [utterance(index, rng, labels, speaker, words[index % len(words)]) for index in range(num)]
        return AdaptationData(tuple(made[num_held_back:]), tuple(made[:num_held_back]), ("transcripts",))

    return make
