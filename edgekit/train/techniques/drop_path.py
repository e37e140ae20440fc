"""Stochastic depth (Huang et al. 2016): residual branches left out for a part of a batch, while a network learns.

It is laid on a backbone's branches from outside, by hooks, and taken off again: what is deployed knows nothing of it.
Shapes: B batch, V views of it, k items that a branch is computed for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.core.errors import SettingsError
from edgekit.train.layers.backbones.backbone import Backbone


@dataclass(frozen=True)
class DropPathSettings:
    """Stochastic depth.

    Attributes:
        rate: p, the share of items for which a branch is left out; the same for all branches.
        sub_batch: compute a branch for the kept items alone, so many of each view that p are left out (DINOv2's way,
            which saves their time). Otherwise each item's branch is drawn by itself and computed in any case.
    """

    rate: float = 0.0
    sub_batch: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate must be in 0..1 and less than 1, got {self.rate}")


class DropPath:
    """What is left out of one branch; what is kept is divided by its share, so that the mean stays.

    Args:
        adds: whether the module that it is laid on adds its own input (`Branch.adds`).
        views: the batch is so many views of the same pictures, one after another; of each as many are kept.
    """

    def __init__(self, settings: DropPathSettings, *, adds: bool, views: int = 1) -> None:
        self.settings, self.adds, self.views = settings, adds, views
        self._input: Tensor | None = None
        self._kept: Tensor | None = None

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A forward pre-hook: of the batch, what the branch is computed for."""
        self._input = self._kept = None
        if not module.training or not self.settings.rate:
            return None
        self._input = args[0]
        if not self.settings.sub_batch:
            return None
        self._kept = self._drawn(len(args[0]), args[0].device)
        return (args[0][self._kept], *args[1:])

    def after(self, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor | None:
        """A forward hook: the branch's answer for the whole batch."""
        x = self._input
        if x is None:
            return None
        self._input = None
        if self._kept is None:
            # each item by itself
            rate, ones = self.settings.rate, (1,) * (out.ndim - 1)
            scale = torch.empty(len(out), *ones, device=out.device, dtype=out.dtype).bernoulli_(1 - rate) / (1 - rate)
            return x + scale * (out - x) if self.adds else scale * out
        kept, factor = self._kept, len(x) / len(self._kept)
        self._kept = None
        if self.adds:
            return x.index_add(0, kept, ((out - x[kept]) * factor).to(x.dtype))
        return out.new_zeros(len(x), *out.shape[1:]).index_add(0, kept, out * factor)

    def _drawn(self, num_items: int, device: torch.device) -> Tensor:
        """Items that are kept, int64 [k]: of each view as many, drawn independently."""
        size = num_items // self.views
        count = max(int(size * (1 - self.settings.rate)), 1)
        drawn = [torch.randperm(size, device=device)[:count] + view * size for view in range(self.views)]
        return torch.cat(drawn)


def lay_on(backbone: Backbone, settings: DropPathSettings, *, views: int = 1) -> tuple[list[Any], tuple[DropPath, ...]]:
    """Lay stochastic depth on all branches of a backbone; its handles take it off.

    Raises:
        SettingsError: the backbone names no branches.
    """
    if not settings.rate:
        return [], ()
    if not backbone.branches:
        raise SettingsError(
            "expected a backbone that names its residual branches for drop_path.rate, received one that does not",
            hint="--set drop_path.rate=0, or another backbone",
        )
    handles: list[Any] = []
    laid = []
    for branch in backbone.branches:
        drop = DropPath(settings, adds=branch.adds, views=views)
        module = backbone.get_submodule(branch.path)
        handles += [module.register_forward_pre_hook(drop.before), module.register_forward_hook(drop.after)]
        laid.append(drop)
    return handles, tuple(laid)
