"""From which score on a picture belongs to a class, and below which it is of none of them.

Chosen on the enrolled embeddings alone, from two samples: what an example scores at its own class without itself, and
what it scores at the best of the other classes, which is what a picture of a class that nobody enrolled would get.
The threshold lies at equal distance from both means, each in its sample's standard deviations: of normal scores it
errs as often one way as the other. One example of each class says nothing of the first sample; then the threshold is
one standard deviation above the second one's mean. One class alone has only the first; of fewer than three examples
that tells nothing, and there is no threshold.

With weights that were fitted the first sample is a little too high, since they saw the example that is left out; the
mean of one example fewer makes it a little too low. On the features at hand these about cancel.
"""

from __future__ import annotations

import numpy as np

_ABOVE_OTHERS, _BELOW_OWN, _LEAST_ALONE = 1.0, 2.0, 3
_LEAST_SPREAD = 1e-5
"""Below it scores are one that is told several times, as of a class of two pictures, each of which scores the other."""


def choose_threshold(own: np.ndarray, others: np.ndarray) -> float | None:
    """The threshold, within -1 to 1.

    Args:
        own: [m] scores of examples at their own class, each left out of it; empty where each class has one example.
        others: [n] scores of examples at the best of the other classes; empty where there is one class.

    Returns:
        None where there are too few of either.
    """
    if len(own) and len(others):
        near, far = float(own.mean()), float(others.mean())
        spread_near, spread_far = _spread(own, others), _spread(others, own)
        if spread_near + spread_far == 0:
            return (near + far) / 2
        return (near * spread_far + far * spread_near) / (spread_near + spread_far)
    if len(own) >= _LEAST_ALONE:
        return float(own.mean()) - _BELOW_OWN * _spread(own, own)
    if len(others):
        return min(1.0, float(others.mean()) + _ABOVE_OTHERS * _spread(others, others))
    return None


def _spread(scores: np.ndarray, instead: np.ndarray) -> float:
    """A sample's standard deviation; of one value nothing is known, so that of the other sample stands in."""
    for sample in (scores, instead):
        if len(sample) > 1 and (spread := float(sample.std(ddof=1))) >= _LEAST_SPREAD:
            return spread
    return 0.0
