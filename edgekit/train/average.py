"""Averages of the weights while they learn: what is validated and saved in the place of those of one step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """No average: the module's weights are what is validated and saved."""

    def after_step(self) -> None:
        """The weights were changed."""

    def before_validation(self) -> None:
        """The weights will be validated."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module has the averaged weights inside, its own again after."""
        yield

    def state(self) -> dict[str, Tensor]:
        """All that is remembered, by name."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave.

        Raises:
            KeyError, RuntimeError: it is of another average or module.
        """


class _OfWeights(Average):
    """An average of the weights that learn; buffers stay as they are."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def values(self) -> Mapping[str, Tensor]:
        """The average, by the parameters' names."""
        raise NotImplementedError

    @contextmanager
    def in_place(self) -> Iterator[None]:
        own = {name: p.detach().clone() for name, p in self.parameters.items()}
        try:
            self._copy(self.values())
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])


class MovingAverage(_OfWeights):
    """The exponential moving average over all steps.

    Args:
        decay: what stays of it at each step, 0..1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__(module)
        self.decay = decay
        self._values = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def after_step(self) -> None:
        values = list(self._values.values())
        torch._foreach_lerp_(values, [p.detach() for p in self.parameters.values()], 1 - self.decay)

    def values(self) -> Mapping[str, Tensor]:
        return self._values

    def state(self) -> dict[str, Tensor]:
        return dict(self._values)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self._values.items():
            value.copy_(state[name])


class MeanOfLast(_OfWeights):
    """The mean of the weights at the last validations, as far as there were so many.

    Args:
        count: validations; as many copies of the weights are kept, in the CPU's memory and in the run's state.
    """

    def __init__(self, module: nn.Module, count: int) -> None:
        super().__init__(module)
        self._kept: deque[dict[str, Tensor]] = deque(maxlen=count)

    def before_validation(self) -> None:
        self._kept.append({name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()})

    def values(self) -> Mapping[str, Tensor]:
        return {name: torch.stack([kept[name] for kept in self._kept]).mean(0) for name in self.parameters}

    def state(self) -> dict[str, Tensor]:
        return {f"{age}/{name}": value for age, kept in enumerate(self._kept) for name, value in kept.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        num_kept = len({name.partition("/")[0] for name in state})
        self._kept.extend({name: state[f"{age}/{name}"] for name in self.parameters} for age in range(num_kept))


def open_average(module: nn.Module, *, ema: float, last: int) -> Average:
    """The average that `LoopSettings.ema` and `average_last` ask for."""
    if last:
        return MeanOfLast(module, last)
    return MovingAverage(module, ema) if ema else Average()
