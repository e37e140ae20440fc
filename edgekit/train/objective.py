"""What a training loop asks of what is learned: inputs of a batch, losses, a score on held-back data, a checkpoint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn


class Batch(Protocol):
    """What is learned from at once: recordings, pictures, ...

    Attributes:
        ids: of its items, for messages.
        index: its global number, over all epochs and processes.
        unit: what its size is counted in, as metrics are named: "audio_s", "pictures".
    """

    unit: ClassVar[str]

    @property
    def ids(self) -> tuple[str, ...]: ...

    @property
    def index(self) -> int: ...

    @property
    def amount(self) -> float:
        """How much of that unit it is."""
        ...

    def to(self, device: torch.device | str) -> Any:
        """The same on a device."""
        ...


class Objective(nn.Module):
    """The deployed module with whatever exists only while it learns: heads, a teacher, losses.

    A frozen teacher is kept out of the module's tree (in a tuple), so that it is neither trained, averaged nor saved.

    Attributes:
        monitor: which of `validate`'s numbers chooses the best checkpoint; lower is better.
    """

    monitor: ClassVar[str] = "loss"

    def rate_share(self, name: str) -> float:
        """By how much the learning rate of a parameter is multiplied, by its name in this module."""
        return 1.0

    @abstractmethod
    def inputs(self, batch: Any, step: int) -> dict[str, Any]:
        """The keyword arguments of `forward` for a batch (`Batch`): features, masks, targets, a teacher's answers.

        It runs without gradients and in float32, on the batch's device. All random numbers come from torch's global
        generator, which the loop seeds for each batch.
        """

    @abstractmethod
    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        """ "loss", which is minimised, and further scalars to be logged."""

    @abstractmethod
    def validate(self, batches: Iterable[Any]) -> dict[str, float]:
        """Numbers on held-back data, `monitor` among them. In evaluation mode, without gradients."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the deployed module as a checkpoint that `edgekit export` reads, into an empty folder."""
