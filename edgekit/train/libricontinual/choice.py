"""Which values of a module are tuned: whole parameters, or some rows or columns of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Values:
    """Values of one parameter.

    Attributes:
        parameter: its name in the module.
        axis: along which `units` are.
        units: the rows (axis 0) or columns (axis 1) that are meant; None: the whole parameter.
    """

    parameter: str
    axis: int = 0
    units: tuple[int, ...] | None = None

    @property
    def where(self) -> Any:
        """The index under which a tensor gives and takes them."""
        if self.units is None:
            return ...
        return (*[slice(None)] * self.axis, torch.tensor(self.units))


@dataclass(frozen=True)
class Choice:
    """What is tuned.

    Attributes:
        values: each parameter at most once.
        settings: what else was decided by that, as JSON holds it: a rank, a number of units.
    """

    values: tuple[Values, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def size(self, module: nn.Module) -> int:
        """P, how many values that is in `module`."""
        parameters = dict(module.named_parameters())
        return sum(parameters[each.parameter][each.where].numel() for each in self.values)


def all_weights(module: nn.Module) -> Choice:
    """Every parameter: full fine-tuning."""
    return Choice(tuple(Values(name) for name, _ in module.named_parameters()))
