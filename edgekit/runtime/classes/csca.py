"""Channel weights of classes, fitted together by the very score that answers (CSCA, arXiv 2209.01332, in our reading).

The paper's released loss falls as classes grow alike, and never compares the scores of two classes. Instead: cross
entropy over the classes of `scale * s_j`, where an example's own class is scored against the mean of its other
examples, plus `pull * mean((w - 1)^2)`; Adam from w = 1.

M examples of F classes that are fitted and, behind them, of fixed ones; C channels. Leading axes (`...`) are
independent problems, such as episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.runtime.adapt.adamw import AdamW
from edgekit.runtime.classes.scoring import unit

_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class CscaSettings:
    """How weights are fitted.

    Attributes:
        steps: updates by all examples.
        rate: Adam's learning rate, the most that an update changes a weight, about.
        scale: what scores are multiplied by before the softmax.
        pull: how strongly weights are held to 1, which is the nearest prototype.
        least: no weight is smaller.
    """

    steps: int = 30
    rate: float = 0.005
    scale: float = 20.0
    pull: float = 0.01
    least: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 0 or self.rate <= 0 or self.scale <= 0 or self.pull < 0 or not 0 < self.least <= 1:
            raise ValueError(
                "expected steps and pull of at least 0, rate and scale above 0 and least in (0, 1]; received "
                f"{self.steps}, {self.pull:g}, {self.rate:g}, {self.scale:g}, {self.least:g}"
            )


class Problem:
    """Examples and what they are scored against.

    Args:
        examples: `[..., M, C]`; those of fitted classes first.
        labels: int [M], 0 to F - 1 for those of fitted classes.
        own: for each example of a fitted class the prototype of that class without it, `[..., M', C]`, M' <= M.
        prototypes: of the fitted classes, `[..., F, C]`.
        fixed_scores: the examples' scores at classes that stay as they are, `[..., M, N - F]`; None: there are none.
    """

    def __init__(
        self,
        examples: np.ndarray,
        labels: np.ndarray,
        own: np.ndarray,
        prototypes: np.ndarray,
        fixed_scores: np.ndarray | None = None,
    ) -> None:
        self.x, self.labels, self.own, self.p = unit(examples), labels, unit(own), unit(prototypes)
        self.xx, self.pp, self.oo = self.x**2, self.p**2, self.own**2
        self.num_own, self.num_fitted = own.shape[-2], prototypes.shape[-2]
        self.x_own, self.xx_own = self.x[..., : self.num_own, :] * self.own, self.xx[..., : self.num_own, :]
        self.fixed_scores = fixed_scores
        # which of the first M' rows and F columns are an example and its own class
        self.is_own = labels[: self.num_own, None] == np.arange(self.num_fitted)


def loss_and_gradient(problem: Problem, weights: np.ndarray, settings: CscaSettings) -> tuple[np.ndarray, np.ndarray]:
    """The loss `[...]` of each problem, and its gradient by the weights, `[..., F, C]` as these."""
    q, v = problem, weights * weights
    # at all fitted classes: [..., M, F]
    squares = np.maximum(q.xx @ v.swapaxes(-1, -2), _TINY)
    own_squares = np.maximum((v * q.pp).sum(-1), _TINY)
    inverse = 1 / np.sqrt(squares * own_squares[..., None, :])
    scores = q.x @ (v * q.p).swapaxes(-1, -2) * inverse
    # at an example's own class, without it: [..., M']
    v_own = v[..., q.labels[: q.num_own], :]
    left_squares = np.maximum((v_own * q.oo).sum(-1), _TINY)
    x_squares = np.maximum((v_own * q.xx_own).sum(-1), _TINY)
    left_inverse = 1 / np.sqrt(x_squares * left_squares)
    left_scores = (v_own * q.x_own).sum(-1) * left_inverse
    first = scores[..., : q.num_own, :]
    first[..., q.is_own] = left_scores

    logits = scores if q.fixed_scores is None else np.concatenate([scores, q.fixed_scores], axis=-1)
    logits = settings.scale * logits
    logits = logits - logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    each = np.arange(len(q.labels))
    loss = -log_p[..., each, q.labels].mean(-1) + settings.pull * ((weights - 1) ** 2).mean((-1, -2))

    by_scores = np.exp(log_p)
    by_scores[..., each, q.labels] -= 1
    by_scores = by_scores[..., : q.num_fitted] * (settings.scale / len(q.labels))
    by_left = by_scores[..., : q.num_own, :][..., q.is_own]
    by_scores[..., : q.num_own, :][..., q.is_own] = 0
    # d s / d v = x p / (|wx| |wp|) - s x^2 / (2 |wx|^2) - s p^2 / (2 |wp|^2)
    by_length = by_scores * scores / 2
    by_v = ((by_scores * inverse).swapaxes(-1, -2) @ q.x) * q.p
    by_v -= (by_length / squares).swapaxes(-1, -2) @ q.xx
    by_v -= (by_length.sum(-2) / own_squares)[..., None] * q.pp
    each_v = (by_left * left_inverse)[..., None] * q.x_own
    each_v -= (by_left * left_scores / 2 / x_squares)[..., None] * q.xx_own
    each_v -= (by_left * left_scores / 2 / left_squares)[..., None] * q.oo
    by_v += q.is_own.T.astype(v.dtype) @ each_v
    size = weights.shape[-1] * weights.shape[-2]
    return loss, 2 * weights * by_v + (2 * settings.pull / size) * (weights - 1)


def fit_weights(problem: Problem, settings: CscaSettings | None = None) -> np.ndarray:
    """The weights `[..., F, C]` of the fitted classes, at least `settings.least`. The same input gives the same."""
    settings = settings or CscaSettings()
    # not ones_like, which takes over a layout of memory in which the flat view would be a copy
    weights = np.ones(problem.p.shape, problem.p.dtype)
    flat = weights.reshape(-1)
    adam = AdamW(np.zeros_like(flat), np.zeros_like(flat), weight_decay=0.0)
    for step in range(1, settings.steps + 1):
        _, gradient = loss_and_gradient(problem, weights, settings)
        adam.update(flat, gradient.reshape(-1), settings.rate, step)
        np.maximum(flat, np.asarray(settings.least, flat.dtype), out=flat)
    return weights


def leave_one_out(examples: np.ndarray) -> np.ndarray:
    """Of each of K examples `[..., K, C]`, K > 1, the mean of the others: `[..., K, C]`."""
    num = examples.shape[-2]
    left: np.ndarray = (examples.sum(-2, keepdims=True) - examples) / (num - 1)
    return left
