"""What a few-shot benchmark found: each answer's accuracy, its gain over nearest prototype, and what they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.runtime.few_shot.intervals import Mean


@dataclass(frozen=True)
class Arm:
    """One way to answer.

    Attributes:
        accuracy: the share of queries answered rightly, 0 to 1.
        gain: `accuracy` minus that of nearest prototype, of the same episodes; None: that is it, or its labels differ.
        note: what must be known to read the figure.
    """

    name: str
    accuracy: Mean
    gain: Mean | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        gain = None if self.gain is None else self.gain.to_json()
        return {"name": self.name, "accuracy": self.accuracy.to_json(), "gain": gain, "note": self.note}


@dataclass(frozen=True)
class FewShotBenchmark:
    """The result.

    Attributes:
        context: what the figures belong to: command, date, machine, versions, data, episodes, preprocessing, settings.
        arms: CSCA first, then the controls.
    """

    context: dict[str, Any]
    arms: tuple[Arm, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"benchmark": "few-shot", **self.context, "arms": [arm.to_json() for arm in self.arms]}
