"""Arms that tune a checkpoint's own weights in torch: all of them, LoRA, or as many as an augment net has.

Features, labels, loss, optimiser, masking, early stop and safeguard are those of the arm `disentangled`
(`edgekit.runtime.libricontinual.learning`); what is tuned is all that differs. torch is imported when it is needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.settings import settings_to_dict
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.libricontinual.arms import Outcome, SpeakerData
from edgekit.runtime.libricontinual.cost import measured
from edgekit.runtime.libricontinual.learning import LEARNING, learn
from edgekit.train.libricontinual.beginning import augment_size, identity_of, load_beginning

if TYPE_CHECKING:
    from torch import nn

    from edgekit.train.family import LoadedModel
    from edgekit.train.libricontinual.choice import Choice


@dataclass(frozen=True)
class _Told:
    """What is known of an arm once its model was opened."""

    start: dict[str, Any]
    num_tuned: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Tuned(ABC):
    """A DisConformer's core of which something is tuned.

    Attributes:
        bundle: whose features and labels are used.
        checkpoint: a folder or a hub's name; None: what the bundle was exported from, where that is built in.
        learning: how; the seed is the task's.
        rates: learning rates to try, see `learn`.
    """

    kind: ClassVar[str]

    name: str
    bundle: Path
    checkpoint: str | None = None
    learning: AdaptSettings = LEARNING
    rates: tuple[float, ...] = ()

    @property
    def tuned_parameters(self) -> int:
        return self._told.num_tuned

    @property
    def start(self) -> dict[str, Any]:
        return self._told.start

    @property
    def settings(self) -> dict[str, Any]:
        return {**settings_to_dict(self.learning), "rates": list(self.rates), **self._told.settings}

    def run(self, data: SpeakerData | None, *, num_threads: int) -> Outcome:
        """
        Raises:
            EdgekitError: see `load_beginning`; torch or peft is missing; nothing to learn.
        """
        bundle = open_bundle(self.bundle)
        if data is None:
            return _serving(bundle, self._begin(bundle, num_threads).module)
        with measured() as meter:
            model = self._begin(bundle, num_threads)
            from edgekit.train.libricontinual.gradient import ModuleGradient

            choice = self._choose(model.module, augment_size(model, bundle), data.seed)
            gradient = ModuleGradient(model.module, choice)
            learned = learn(gradient, bundle, data, self.learning, self.rates)
            gradient.close()
        # the safeguard of `edgekit adapt`: what is no better than the core is not installed
        theta_P = learned.adapted.theta_P
        gradient.use(theta_P if learned.adapted.improved else np.zeros_like(theta_P))
        return replace(_serving(bundle, model.module), cost=meter.cost, details=learned.details)

    @abstractmethod
    def _choose(self, module: nn.Module, num_values: int, seed: int) -> Choice:
        """What is tuned, of a module which that may change.

        Args:
            num_values: of one augment net.
        """

    @cached_property
    def _told(self) -> _Told:
        bundle = open_bundle(self.bundle)
        model = load_beginning(self.kind, bundle, self.checkpoint)
        choice = self._choose(model.module, augment_size(model, bundle), 0)
        return _Told(identity_of(model), choice.size(model.module), {"tuned": self.kind, **choice.settings})

    def _begin(self, bundle: Bundle, num_threads: int) -> LoadedModel:
        model = load_beginning(self.kind, bundle, self.checkpoint)
        import torch

        torch.set_num_threads(num_threads)
        return model


@dataclass(frozen=True)
class Full(Tuned):
    """Full fine-tuning: all weights of the core, subsampling and CTC layer among them."""

    kind: ClassVar[str] = "full"

    def _choose(self, module: nn.Module, num_values: int, seed: int) -> Choice:
        from edgekit.train.libricontinual.choice import all_weights

        return all_weights(module)


@dataclass(frozen=True)
class Lora(Tuned):
    """peft's LoRA of about as many values as an augment net has, in all linear layers of the blocks."""

    kind: ClassVar[str] = "lora"

    def _choose(self, module: nn.Module, num_values: int, seed: int) -> Choice:
        from edgekit.train.libricontinual.lora import with_lora

        return with_lora(module, num_values, seed)


@dataclass(frozen=True)
class Matched(Tuned):
    """Parameter-matched tuning of a plain Conformer: a random slice of its feed-forward units, the rest frozen.

    INFERRED by us from the abstract of arXiv 2212.01393, which names the baseline and no more; see `units`.
    """

    kind: ClassVar[str] = "matched"

    def _choose(self, module: nn.Module, num_values: int, seed: int) -> Choice:
        from edgekit.train.libricontinual.units import feed_forward_units

        return feed_forward_units(module, num_values, seed)


def _serving(bundle: Bundle, module: nn.Module) -> Outcome:
    from edgekit.train.libricontinual.serving import recogniser_of

    recogniser = recogniser_of(bundle, module)
    return Outcome(lambda audio: recogniser.transcribe(audio, allow_random_weights=True).text)
