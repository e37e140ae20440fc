"""Wide residual networks (arXiv 1605.07146), as S2M2's code has them: norms before convolutions, dropout between."""

from __future__ import annotations

from torch import Tensor, nn

from edgekit.train.layers.backbones.backbone import Backbone, Branch

_STEM = 16


class WideBlock(nn.Module):
    """x + conv(dropout(relu(norm(conv(relu(norm(x))))))): `[B, C, h, w]` -> `[B, C', h / stride, w / stride]`.

    Where the width differs, the input goes through a norm, ReLU and a 1x1 convolution.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.same = stride == 1 and channels_in == channels
        self.enter = nn.Sequential(nn.BatchNorm2d(channels_in), nn.ReLU())
        self.branch = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
        )
        self.shortcut = nn.Identity() if self.same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x_BChw: Tensor) -> Tensor:
        active_BChw = self.enter(x_BChw)
        out: Tensor = self.branch(active_BChw) + (x_BChw if self.same else self.shortcut(active_BChw))
        return out


class WideResNet(Backbone):
    """A 3x3 convolution, three stages of (depth - 4) / 6 blocks, a norm and ReLU: its embedding is not negative.

    Args:
        depth: 28 of WRN-28-10.
        widen: 10 of it: stages are 16, 32 and 64 times as wide.
        dropout: share of the values between a block's convolutions that is set to 0 in training.
    """

    def __init__(self, depth: int, widen: int, dropout: float = 0.5) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 or widen < 1 or not 0 <= dropout < 1:
            raise ValueError(f"depth must be 6 n + 4, widen 1 or more and dropout in 0..1, got {depth}, {widen}")
        self.stem = nn.Conv2d(3, _STEM, 3, 1, 1, bias=False)
        self.stages = nn.ModuleList()
        before = _STEM
        for index in range(3):
            width = _STEM * widen * 2**index
            first = WideBlock(before, width, 2 if index else 1, dropout)
            rest = (WideBlock(width, width, 1, dropout) for _ in range((depth - 4) // 6 - 1))
            self.stages.append(nn.Sequential(first, *rest))
            before = width
        self.norm = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU())
        self.channels = {f"stage{index + 1}": _STEM * widen * 2**index for index in range(3)}
        self.strides = {f"stage{index + 1}": 2**index for index in range(3)}
        self.last = "stage3"
        self.blocks = tuple(
            name for name, module in self.named_modules() if isinstance(module, WideBlock) and module.same
        )
        self.branches = tuple(Branch(f"{name}.branch", adds=False) for name in self.blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        h_BChw, maps = self.stem(pixels_BCHW), {}
        for name, stage in zip(self.channels, self.stages):
            h_BChw = maps[name] = stage(h_BChw)
        return {**maps, self.last: self.norm(h_BChw)}
