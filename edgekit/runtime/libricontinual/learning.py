"""Learning a train list by `edgekit adapt`'s own loop: one loss, optimiser, masking, early stop and safeguard for all.

Arms differ in what a gradient is of, and in nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekit.core.bundle import Bundle
from edgekit.runtime.adapt.differentiable import Gradient
from edgekit.runtime.adapt.examples import TRANSCRIPTS, AdaptationData, Example, ExampleMaker, Recorded
from edgekit.runtime.adapt.labels import read_labels
from edgekit.runtime.adapt.loop import Adapted, adapt
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.corpus import Corpus
from edgekit.runtime.libricontinual.arms import SpeakerData

LEARNING = AdaptSettings(longest_s=30.0)
"""What an arm learns with, if nothing else is said; the seed is the task's."""

_CACHE_MIB = 256.0
"""Features that are remembered: two hours of speech."""


@dataclass(frozen=True)
class Learned:
    """What came of it.

    Attributes:
        adapted: by the rate whose lowest validation loss is the lowest.
        rates: each rate that was tried, with that loss.
        num_left_out: recordings of both lists without words, or longer than is learned.
    """

    adapted: Adapted
    rates: dict[float, float]
    num_left_out: int

    @property
    def details(self) -> dict[str, Any]:
        """What is kept of it beside the error rates, as JSON holds it."""
        found = self.adapted
        return {
            "steps": found.steps,
            "best_step": found.best_step,
            "start": found.start,
            "stopped": found.stopped,
            "validation_loss": [found.before.loss, found.after.loss],
            "rates": [[rate, loss] for rate, loss in self.rates.items()],
            "num_left_out": self.num_left_out,
        }


def learn(
    gradient: Gradient, bundle: Bundle, data: SpeakerData, settings: AdaptSettings, rates: Sequence[float] = ()
) -> Learned:
    """Learn the train list; the validation list decides when to stop, and by which rate.

    Args:
        gradient: of a model with the bundle's features and labels.
        settings: longer recordings than its `longest_s` are left out; the seed is the task's.
        rates: learning rates to try; (): that of `settings`.

    Raises:
        EdgekitError: nothing to learn or to judge by, or recordings that cannot be used.
    """
    labels = read_labels(bundle)
    maker = ExampleMaker(bundle, labels, settings.longest_s, _CACHE_MIB)

    def examples(corpus: Corpus) -> tuple[Example, ...]:
        spoken = (each for each in corpus.utterances if each.text and each.duration_s <= settings.longest_s)
        return tuple(maker.make(Recorded(each, TRANSCRIPTS)) for each in spoken)

    training, validation = examples(data.train), examples(data.validation)
    # as the loop expects it: by the first of them it chooses where to begin, and by their ids these are of one chapter
    validation = tuple(random.Random(data.seed).sample(validation, len(validation)))
    recordings = AdaptationData(training, validation)
    num_given = len(data.train.utterances) + len(data.validation.utterances)
    found = {}
    for rate in rates or (settings.learning_rate,):
        tried = replace(settings, learning_rate=rate, seed=data.seed)
        found[rate] = adapt(gradient, recordings, tried, labels)
    best = min(found.values(), key=lambda adapted: adapted.after.loss)
    rates_tried = {rate: adapted.after.loss for rate, adapted in found.items()}
    return Learned(best, rates_tried, num_given - len(training) - len(validation))
