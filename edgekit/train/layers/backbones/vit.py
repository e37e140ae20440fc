"""A plain vision Transformer with LayerScale, as DeiT-III's (arXiv 2204.07118), from which cosub starts.

Shapes: B batch, N patches, T = N + 1 tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from edgekit.train.layers.backbones.backbone import Backbone, Branch

_NUM_MAPS = 4


class Attention(nn.Module):
    """Softmax attention of all tokens with all: `[B, T, D]` -> `[B, T, D]`. There is no padding and so no mask."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, h_BTD: Tensor) -> Tensor:
        split_BT3Hd = self.qkv(h_BTD).unflatten(2, (3, self.num_heads, -1))
        q_BHTd, k_BHTd, v_BHTd = split_BT3Hd.permute(2, 0, 3, 1, 4).unbind(0)
        out: Tensor = self.proj(scaled_dot_product_attention(q_BHTd, k_BHTd, v_BHTd).transpose(1, 2).flatten(2))
        return out


class ScaledBranch(nn.Module):
    """gamma * inner(LayerNorm(x)): what is added to x; `[B, T, D]` -> `[B, T, D]`."""

    def __init__(self, width: int, inner: nn.Module, scale: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.inner = inner
        self.gamma = nn.Parameter(torch.full((width,), scale))

    def forward(self, h_BTD: Tensor) -> Tensor:
        out: Tensor = self.gamma * self.inner(self.norm(h_BTD))
        return out


class Block(nn.Module):
    """Attention, then two linear layers with GELU between, each added to its input."""

    def __init__(self, width: int, num_heads: int, scale: float) -> None:
        super().__init__()
        mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.attention = ScaledBranch(width, Attention(width, num_heads), scale)
        self.mlp = ScaledBranch(width, mlp, scale)

    def forward(self, h_BTD: Tensor) -> Tensor:
        h_BTD = h_BTD + self.attention(h_BTD)
        out: Tensor = h_BTD + self.mlp(h_BTD)
        return out


class VisionTransformer(Backbone):
    """Patches with learned positions, a class token that has none, blocks, a norm.

    Its maps are the patches after each quarter of the blocks ("stage1" to "stage4", the last one normed) and the class
    token, "class" `[B, D, 1, 1]`, which is the embedding.

    Args:
        size: height and width of its pictures, multiples of `patch`.
        scale: LayerScale's initial value.
    """

    def __init__(
        self, width: int, depth: int, num_heads: int, patch: int, size: tuple[int, int], scale: float = 1e-4
    ) -> None:
        super().__init__()
        if width % num_heads or min(width, depth, num_heads, patch) < 1:
            raise ValueError(f"width must be a multiple of num_heads, got {width} and {num_heads}")
        if size[0] % patch or size[1] % patch:
            raise ValueError(f"height and width must be multiples of the patch, {patch}, got {size[0]} and {size[1]}")
        self._cells = size[0] // patch, size[1] // patch
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions_1ND = nn.Parameter(torch.zeros(1, self._cells[0] * self._cells[1], width))
        self.class_11D = nn.Parameter(torch.zeros(1, 1, width))
        self.layers = nn.ModuleList(Block(width, num_heads, scale) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        ends = sorted({max(1, round(depth * part / _NUM_MAPS)) for part in range(1, _NUM_MAPS + 1)})
        self._ends = dict(zip(ends, (f"stage{index + 1}" for index in range(len(ends)))))
        self.channels = dict.fromkeys((*self._ends.values(), "class"), width)
        self.strides = dict.fromkeys(self._ends.values(), patch)
        self.last = "class"
        self.blocks = tuple(f"layers.{index}" for index in range(depth))
        self.branches = tuple(Branch(f"{block}.{part}", adds=False) for block in self.blocks for part in _PARTS)
        nn.init.trunc_normal_(self.positions_1ND, std=0.02)
        nn.init.trunc_normal_(self.class_11D, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        h_BND = self.patches(pixels_BCHW).flatten(2).transpose(1, 2) + self.positions_1ND
        h_BTD = torch.cat([self.class_11D.expand(len(h_BND), -1, -1), h_BND], 1)
        maps = {}
        for number, layer in enumerate(self.layers, 1):
            h_BTD = layer(h_BTD)
            if number == len(self.layers):
                h_BTD = self.norm(h_BTD)
            if number in self._ends:
                maps[self._ends[number]] = h_BTD[:, 1:].transpose(1, 2).unflatten(2, self._cells)
        return {**maps, "class": h_BTD[:, 0, :, None, None]}


_PARTS = ("attention", "mlp")
