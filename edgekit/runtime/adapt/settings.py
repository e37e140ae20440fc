"""How a recogniser learns a speaker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AdaptSettings:
    """What `edgekit adapt --set FIELD=VALUE` changes.

    Attributes:
        learning_rate: AdamW's, at its peak.
        schedule: "constant", or "cosine" to 0 over all updates (for a run that is to end by them, not by its time).
        warmup_steps: updates in which the rate rises.
        steps: the most updates.
        epochs: the most passes over the speech; what is reached first ends the run.
        batch_s: seconds of speech whose gradients are added up, one utterance at a time, for one update.
        weight_decay: AdamW's; it leads back to the core.
        clip_norm: the longest gradient, as an L2 norm, of the loss per label.
        time_masks, time_width: SpecAugment's bands of time, and the most frames of one (10 ms each).
        freq_masks, freq_width: its bands of frequency, and the most mel bins of one.
        held_back: share of the speech that is not learned but looked at, to know when to stop; in 0..1.
        held_back_s: the most seconds of it.
        evaluate_steps: updates between two looks at what is held back.
        patience: looks without a lower loss after which the run ends.
        interpolation: what is looked at and kept lies so far on the line from the starting point to the weights that
            are learned; above 0, to 1: these themselves. Between the two a model that knows little of a user errs less
            than at either end (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903, section 3).
        seed: of what is held back, of the order, and of SpecAugment.
        start: which of the trained starting points: "best" is that with the lowest loss on what is held back; a number
            is its place; "zeros", the core, only where the bundle has none, since its gradients vanish there.
        confidence: the lowest mean confidence of the words of a recording without a text, for which the model's own
            words are taken; in 0..1.
        longest_s: utterances longer than this, in seconds, are left out or, where they have no text, cut at pauses.
    """

    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 5
    steps: int = 300
    epochs: int = 30
    batch_s: float = 30.0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    time_masks: int = 2
    time_width: int = 40
    freq_masks: int = 2
    freq_width: int = 27
    held_back: float = 0.2
    held_back_s: float = 120.0
    evaluate_steps: int = 10
    patience: int = 5
    interpolation: float = 0.5
    seed: int = 0
    start: int | Literal["best", "zeros"] = "best"
    confidence: float = 0.9
    longest_s: float = 20.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "batch_s", "clip_norm", "held_back_s", "longest_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected {name} above 0, received {getattr(self, name)}")
        for name in ("steps", "epochs", "evaluate_steps", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of 1 or more, received {getattr(self, name)}")
        for name in ("warmup_steps", "time_masks", "time_width", "freq_masks", "freq_width", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"expected {name} of 0 or more, received {getattr(self, name)}")
        if isinstance(self.start, int) and self.start < 0:
            raise ValueError(f"expected start of 0 or more, best or zeros, received {self.start}")
        if not 0 <= self.weight_decay < 1 / self.learning_rate:
            raise ValueError(f"expected weight_decay in 0..1 / learning_rate, received {self.weight_decay}")
        if not 0 < self.interpolation <= 1:
            raise ValueError(f"expected interpolation above 0, at most 1, received {self.interpolation}")
        if not 0 < self.held_back < 1:
            raise ValueError(f"expected held_back between 0 and 1, received {self.held_back}")
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"expected confidence in 0..1, received {self.confidence}")
