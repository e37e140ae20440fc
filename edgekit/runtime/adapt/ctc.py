"""The CTC loss and its gradient, of one utterance, in log space.

T frames, V labels, S = 2 L + 1 states of the lattice: the L labels with a blank before, between and after them. After
Graves et al. 2006, "Connectionist temporal classification", equations 6 to 8 (forward) and 9 to 11 (backward). Not in
their rescaled probabilities: where frames are peaky, these underflow and the gradient is wrong.

Measured against `torch.nn.functional.ctc_loss` in float64: the loss to 1e-13 of itself, the gradient to 1e-10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def ctc_loss(log_probs_TV: np.ndarray, labels: Sequence[int], blank: int) -> tuple[float, np.ndarray]:
    """The negative log-likelihood of `labels`, and its derivative by the log-probabilities.

    The derivative takes log-probabilities as free variables: the softmax before them is for whoever computed them.

    Args:
        log_probs_TV: floats [T, V], natural logarithms; -inf is allowed.
        labels: indices in 0..V-1 without blanks; none: nothing is said.
        blank: the blank's index.

    Returns:
        The loss in nats, and float64 [T, V], at most 0. A target that needs more frames than there are, or that has no
        probability, has the loss `inf` and the gradient zero; where a log-probability is NaN, so is the loss.

    Raises:
        ValueError: not [T, V], or a label that is not in 0..V-1 or is the blank.
    """
    if log_probs_TV.ndim != 2 or not all(0 <= label < log_probs_TV.shape[1] for label in (blank, *labels)):
        raise ValueError(f"expected log-probabilities [T, V] and labels in 0..V-1, received {log_probs_TV.shape}")
    if blank in labels:
        raise ValueError(f"expected labels other than the blank {blank}, received it among them")
    num_frames, num_states = len(log_probs_TV), 2 * len(labels) + 1
    gradient_TV = np.zeros(log_probs_TV.shape)
    if np.isnan(log_probs_TV).any():
        return math.nan, gradient_TV
    if num_frames < frames_needed(labels):
        return math.inf, gradient_TV
    if not num_frames:
        return 0.0, gradient_TV
    states_S = np.full(num_states, blank)
    states_S[1::2] = labels
    emitted_TS = log_probs_TV[:, states_S].astype(np.float64)
    # the way back is the way forward with time and states reversed: both at once, along the axis 2
    both_2S = np.stack([states_S, states_S[::-1]])
    entered_T2S, reached_T2S = _walk(np.stack([emitted_TS, emitted_TS[::-1, ::-1]], axis=1), both_2S, blank)
    log_likelihood = float(np.logaddexp.reduce(reached_T2S[-1, 0, -2:]))
    if log_likelihood == -math.inf:
        return math.inf, gradient_TV
    # what follows a state leaves its own emission out, else it would count twice
    occupied_TS = np.exp(reached_T2S[:, 0] + entered_T2S[::-1, 1, ::-1] - log_likelihood)
    used_U, of_state_S = np.unique(states_S, return_inverse=True)
    gradient_TV[:, used_U] = -occupied_TS @ (of_state_S[:, None] == np.arange(len(used_U))).astype(np.float64)
    return -log_likelihood, gradient_TV


def frames_needed(labels: Sequence[int]) -> int:
    """The fewest frames that can say `labels`: one each, and a blank between two that are the same."""
    return len(labels) + sum(left == right for left, right in pairwise(labels))


def _walk(emitted_T2S: np.ndarray, states_2S: np.ndarray, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of all ways from the first frame into a state: before its emission there, and after it."""
    num_frames, _, num_states = emitted_T2S.shape
    # a label may follow another one without a blank between them, unless both are the same
    skip_2S = np.full((2, num_states), -np.inf)
    skip_2S[:, 2:][(states_2S[:, 2:] != blank) & (states_2S[:, 2:] != states_2S[:, :-2])] = 0.0
    entered_T2S = np.full((num_frames, 2, num_states), -np.inf)
    # two states that cannot be are put before the first, from which nothing comes
    reached = np.full((num_frames, 2, num_states + 2), -np.inf)
    entered_T2S[0, :, :2] = 0.0
    reached[0, :, 2:] = entered_T2S[0] + emitted_T2S[0]
    for frame in range(1, num_frames):
        before, into = reached[frame - 1], entered_T2S[frame]
        np.logaddexp(before[:, 2:], before[:, 1:-1], out=into)
        np.logaddexp(into, before[:, :-2] + skip_2S, out=into)
        np.add(into, emitted_T2S[frame], out=reached[frame, :, 2:])
    return entered_T2S, reached[:, :, 2:]
