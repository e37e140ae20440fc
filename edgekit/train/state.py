"""All that a run needs to go on exactly: weights, optimiser, average and scaler as a `State`, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgekit.core.errors import SettingsError
from edgekit.train.average import Average
from edgekit.train.objective import Objective
from edgekit.train.run import State

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Learner:
    """What changes while a model learns."""

    objective: Objective
    optimizer: torch.optim.Optimizer
    average: Average
    fabric: Fabric

    def state(self, step: int, best: dict[str, float]) -> State:
        """All of it, after `step` steps, with the numbers of the best checkpoint so far."""
        tensors = {f"model/{name}": tensor for name, tensor in self.objective.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in slots.items()}
        tensors |= {f"average/{name}": value for name, value in self.average.state().items()}
        scaler = self.fabric.strategy.precision.state_dict()
        return State(tensors, {"step": step, "best": best, "scaler": scaler, "torch": torch.__version__})

    def restore(self, state: State | None) -> tuple[int, dict[str, float]]:
        """Bring all back as it was; the step reached and the best score so far.

        Raises:
            SettingsError: it is the state of another model or average.
        """
        if state is None:
            return 0, {}
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}}
        try:
            for name, tensor in state.tensors.items():
                part, _, rest = name.partition("/")
                parts[part][rest] = tensor
            self.objective.load_state_dict(parts["model"])
            slots: dict[int, dict[str, Tensor]] = {}
            for name, tensor in parts["optimizer"].items():
                index, _, slot = name.partition("/")
                slots.setdefault(int(index), {})[slot] = tensor
            self.optimizer.load_state_dict(
                {"state": slots, "param_groups": self.optimizer.state_dict()["param_groups"]}
            )
            self.average.restore(parts["average"])
            if state.facts["scaler"]:
                self.fabric.strategy.precision.load_state_dict(state.facts["scaler"])
            return int(state.facts["step"]), dict(state.facts["best"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"the run's state does not fit its settings: {error}", hint="begin again in another --out"
            ) from error
