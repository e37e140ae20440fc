"""What is compared: ways to serve a speaker, from the bundle as it is to tuning all of it.

An arm that needs torch, or any other package, brings it itself; here is what all have in common, and the one that
tunes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import UsageError
from edgekit.runtime.corpus import Corpus
from edgekit.runtime.libricontinual.cost import Cost
from edgekit.runtime.tasks import load
from edgekit.runtime.tasks.speech_recognition import SpeechRecognition, require_trained


@dataclass(frozen=True)
class SpeakerData:
    """What an arm learns from; the test recordings are never among it.

    Attributes:
        split: the size of `train`, as "10m".
        train: to learn from.
        validation: for early stopping and choices; the same for all splits.
        seed: of all that is drawn.
    """

    speaker: str
    split: str
    train: Corpus
    validation: Corpus
    seed: int


@dataclass(frozen=True)
class Outcome:
    """A model that serves one speaker, or everyone.

    Attributes:
        transcribe: the words of a recording. Raises AudioError for one that cannot be used.
        cost: of the adaptation; None where nothing was adapted.
        details: what else is worth keeping (steps, the rate that was chosen, ...), as JSON holds it.
    """

    transcribe: Callable[[Path], str]
    cost: Cost | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Arm(Protocol):
    """One way to serve a speaker. It travels to other processes and machines, so that it can be pickled."""

    @property
    def name(self) -> str:
        """As tables and plots show it; 1 to 64 of `A-Z a-z 0-9 . _ -`."""

    @property
    def tuned_parameters(self) -> int:
        """How many weights are learned for a speaker. 0: nothing is, and every speaker has the same model."""

    @property
    def start(self) -> dict[str, Any]:
        """What the model is before adaptation (hashes, backend, precision), as JSON holds it.

        Arms of the same start share what is measured of it.
        """

    @property
    def settings(self) -> dict[str, Any]:
        """All else that changes a result, as JSON holds it: rates, steps, ranks."""

    def run(self, data: SpeakerData | None, *, num_threads: int) -> Outcome:
        """Adapt to a speaker; with None, the model before adaptation.

        Raises:
            EdgekitError: it cannot be done.
        """


@dataclass(frozen=True)
class AsItIs:
    """A bundle as it is: nothing is tuned.

    Attributes:
        bundle: for speech recognition.
        allow_random_weights: answer although the weights are random and the words mean nothing.
    """

    name: str
    bundle: Path
    backend: str | None = None
    device: str | None = None
    precision: str = "fp32"
    allow_random_weights: bool = False

    @property
    def tuned_parameters(self) -> int:
        return 0

    @property
    def start(self) -> dict[str, Any]:
        manifest = open_bundle(self.bundle).manifest
        return {
            "family": manifest.family,
            "variant": manifest.variant,
            "core_sha256": manifest.core_hash,
            "backend": self.backend,
            "device": self.device,
            "precision": self.precision,
        }

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    def run(self, data: SpeakerData | None, *, num_threads: int) -> Outcome:
        recogniser = load(
            self.bundle, backend=self.backend, device=self.device, precision=self.precision, num_threads=num_threads
        )
        if not isinstance(recogniser, SpeechRecognition):
            task = open_bundle(self.bundle).manifest.task
            raise UsageError(f"expected a bundle for speech-recognition, {self.bundle} is for {task}")
        require_trained(recogniser.bundle, self.allow_random_weights)
        return Outcome(lambda audio: recogniser.transcribe(audio, allow_random_weights=True).text)
