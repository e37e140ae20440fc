"""Loss and word errors on the utterances that are not learned."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.runtime.adapt.budget import Budget
from edgekit.runtime.adapt.ctc import ctc_loss
from edgekit.runtime.adapt.differentiable import Gradient
from edgekit.runtime.adapt.examples import Example
from edgekit.runtime.adapt.labels import Labels


@dataclass(frozen=True)
class Score:
    """How well a theta answers.

    Attributes:
        loss: CTC's, in nats per label; infinite where an answer is no number.
        wer: word error rate of greedy decoding, as a fraction.
    """

    loss: float
    wer: float


def evaluate(
    gradient: Gradient, theta_P: np.ndarray, examples: Sequence[Example], labels: Labels, budget: Budget
) -> Score:
    """The score of `theta_P` over at least one example; its pace is noted in `budget`."""
    nats, num_labels, num_errors, num_words = 0.0, 0, 0, 0
    for example in examples:
        began = time.monotonic()
        features_FM = example.features()
        log_probs_TV = gradient.forward(features_FM, theta_P)
        loss, _ = ctc_loss(log_probs_TV, example.labels, labels.blank)
        reference = example.text.split()
        if np.isnan(log_probs_TV).any():
            nats, num_errors = math.inf, num_errors + len(reference)
        else:
            num_errors += word_errors(reference, labels.answer(log_probs_TV).split())
            if math.isfinite(loss):  # else its text does not fit into its frames, whatever the weights
                nats += loss
                num_labels += len(example.labels)
        num_words += len(reference)
        budget.looked(time.monotonic() - began, example.duration_s)
    return Score(nats / num_labels if num_labels else math.inf, num_errors / num_words)


def word_errors(reference: Sequence[str], answer: Sequence[str]) -> int:
    """The fewest substitutions, deletions and insertions between two lists of words (Levenshtein 1966)."""
    before = list(range(len(answer) + 1))
    for deleted, word in enumerate(reference, 1):
        row = [deleted]
        for place, other in enumerate(answer, 1):
            row.append(min(before[place - 1] + (word != other), before[place] + 1, row[-1] + 1))
        before = row
    return before[-1]
