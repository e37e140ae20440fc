"""Arms that serve a speaker by theta alone: a trained augment net as it is, and one that learned the speaker.

The second is DisentangledCL (Diwan et al., arXiv 2212.01393, as far as the abstract tells): the core is frozen and one
augment net is tuned. Both run without torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import UsageError
from edgekit.core.settings import settings_to_dict
from edgekit.runtime.adapt.adaptation import require_adaptable
from edgekit.runtime.adapt.gradient import open_gradient
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.libricontinual.arms import Outcome, SpeakerData
from edgekit.runtime.libricontinual.cost import measured
from edgekit.runtime.libricontinual.learning import LEARNING, learn
from edgekit.runtime.tasks import load
from edgekit.runtime.tasks.speech_recognition import SpeechRecognition, require_trained


@dataclass(frozen=True)
class Untuned:
    """The core and one trained augment net, the same for everyone.

    Attributes:
        start_at: which of the bundle's starting points.
    """

    name: str
    bundle: Path
    start_at: int = 0
    allow_random_weights: bool = False

    @property
    def tuned_parameters(self) -> int:
        return 0

    @property
    def start(self) -> dict[str, Any]:
        return {**_identity(self.bundle), "augment": self.start_at, "starts_sha256": _starts_sha256(self.bundle)}

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    def run(self, data: SpeakerData | None, *, num_threads: int) -> Outcome:
        opened = _open(self.bundle, self.allow_random_weights)
        gradient = open_gradient(opened, num_threads=num_threads)
        starts = gradient.starts
        gradient.close()
        if not self.start_at < len(starts):
            raise UsageError(f"expected an augment net in 0..{len(starts) - 1}, received {self.start_at}")
        return _serving(self.bundle, starts[self.start_at], num_threads)


@dataclass(frozen=True)
class Disentangled:
    """The frozen core and an augment net that learns each speaker, by `edgekit adapt`'s own loop.

    Attributes:
        learning: how; the seed is the task's.
        rates: learning rates to try, see `learn`.
    """

    name: str
    bundle: Path
    learning: AdaptSettings = LEARNING
    rates: tuple[float, ...] = ()
    allow_random_weights: bool = False

    @property
    def tuned_parameters(self) -> int:
        adaptation = open_bundle(self.bundle).manifest.adaptation
        return 0 if adaptation is None else adaptation.layout.size

    @property
    def start(self) -> dict[str, Any]:
        return _identity(self.bundle)

    @property
    def settings(self) -> dict[str, Any]:
        rates = list(self.rates)
        return {**settings_to_dict(self.learning), "rates": rates, "starts_sha256": _starts_sha256(self.bundle)}

    def run(self, data: SpeakerData | None, *, num_threads: int) -> Outcome:
        opened = _open(self.bundle, self.allow_random_weights)
        if data is None:
            return _serving(self.bundle, None, num_threads)
        with measured() as meter:
            gradient = open_gradient(opened, num_threads=num_threads)
            try:
                learned = learn(gradient, opened, data, self.learning, self.rates)
            finally:
                gradient.close()
        # the safeguard of `edgekit adapt`: what is no better than the core is not installed
        theta = learned.adapted.theta_P if learned.adapted.improved else None
        return replace(_serving(self.bundle, theta, num_threads), cost=meter.cost, details=learned.details)


def _identity(bundle: Path) -> dict[str, Any]:
    manifest = open_bundle(bundle).manifest
    return {"family": manifest.family, "variant": manifest.variant, "core_sha256": manifest.core_hash}


def _starts_sha256(bundle: Path) -> str | None:
    """Of the trained augment nets, which the core's hash says nothing of; None: there are none."""
    adaptation = open_bundle(bundle).manifest.adaptation
    return None if adaptation is None or adaptation.starts is None else adaptation.starts.sha256


def _open(bundle: Path, allow_random_weights: bool) -> Bundle:
    opened = open_bundle(bundle)
    require_adaptable(opened)
    require_trained(opened, allow_random_weights)
    return opened


def _serving(bundle: Path, theta_P: np.ndarray | None, num_threads: int) -> Outcome:
    recogniser = load(bundle, num_threads=num_threads)
    assert isinstance(recogniser, SpeechRecognition)
    return Outcome(lambda audio: recogniser.transcribe(audio, speaker=theta_P, allow_random_weights=True).text)
