"""What every backbone promises: named feature maps, where they come from, and which of its blocks can be left out.

Shapes: B batch, H x W pixels, C channels, h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from edgekit.core.errors import SettingsError


@dataclass(frozen=True)
class Branch:
    """A part of a network that is added to its own input.

    Attributes:
        path: of the module, as `nn.Module.get_submodule` takes it; its first argument has the batch first.
        adds: whether the module itself adds its input (a whole block), or whoever calls it does (a branch alone).
    """

    path: str
    adds: bool


class Backbone(nn.Module):
    """Pictures `[B, 3, H, W]` -> `{name: [B, C, h, w]}`, in the order in which the network computes them.

    Attributes:
        channels: C of each map.
        strides: H / h of each map, rounded up; a map that has no cells (a class token, features pooled in the network's
            own way) is `[B, C, 1, 1]` and not named here.
        last: the map whose mean over cells is the embedding.
        branches: the residual branches that stochastic depth may leave out for a part of a batch, in their order.
        blocks: paths of the residual blocks without which the network still computes, in their order.
    """

    channels: dict[str, int]
    strides: dict[str, int]
    last: str
    branches: tuple[Branch, ...] = ()
    blocks: tuple[str, ...] = ()

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def embed(self, maps: dict[str, Tensor]) -> Tensor:
        """`[B, C]`: the mean over the cells of the last map."""
        return maps[self.last].mean((2, 3))

    def remove_blocks(self, numbers: Sequence[int]) -> None:
        """Leave residual blocks out for good: what goes into them comes out.

        Args:
            numbers: places in `blocks`, from 0.

        Raises:
            SettingsError: there is no such block.
        """
        if not numbers:
            return
        known = len(self.blocks)
        if not all(0 <= number < known for number in numbers):
            raise SettingsError(
                f"expected blocks in 0..{known - 1} to drop, received {', '.join(map(str, numbers))}"
                if known
                else "expected no block to drop: this backbone names none"
            )
        for number in numbers:
            self.set_submodule(self.blocks[number], nn.Identity())
        gone = tuple(self.blocks[number] for number in numbers)
        self.branches = tuple(branch for branch in self.branches if not f"{branch.path}.".startswith(_inside(gone)))


def _inside(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{path}." for path in paths)
