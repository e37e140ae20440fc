"""Small residual networks for small pictures (He et al. 2016, section 4.2): ResNet-20 and a tiny one for tests."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgekit.train.layers.backbones.backbone import Backbone, Branch


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the input: `[B, C, h, w]` -> `[B, C', h / stride, w / stride]`.

    Where the shapes differ the input goes through a 1x1 convolution (the paper's option B).
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.same = stride == 1 and channels_in == channels
        self.shortcut = (
            nn.Identity()
            if self.same
            else nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        )
        self.act = nn.ReLU()

    def forward(self, x_BChw: Tensor) -> Tensor:
        out: Tensor = self.act(self.branch(x_BChw) + self.shortcut(x_BChw))
        return out


class ResidualNet(Backbone):
    """A 3x3 convolution, then stages of blocks; each stage but the first halves the picture.

    Args:
        channels: of each stage.
        depth: blocks of each stage.
        stride: of the first convolution.
    """

    def __init__(self, channels: Sequence[int], depth: int, stride: int = 1) -> None:
        super().__init__()
        if not channels or min(channels) < 1 or depth < 1 or stride < 1:
            raise ValueError(f"channels, depth and stride must be at least 1, got {channels}, {depth}, {stride}")
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0], 3, stride, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
        )
        self.stages = nn.ModuleList()
        before = channels[0]
        for index, width in enumerate(channels):
            first = ResidualBlock(before, width, 2 if index else 1)
            self.stages.append(nn.Sequential(first, *(ResidualBlock(width, width, 1) for _ in range(depth - 1))))
            before = width
        names = [f"stage{index + 1}" for index in range(len(channels))]
        self.channels = dict(zip(names, channels))
        self.strides = {name: stride * 2**index for index, name in enumerate(names)}
        self.last = names[-1]
        self.blocks = tuple(
            name for name, module in self.named_modules() if isinstance(module, ResidualBlock) and module.same
        )
        self.branches = tuple(Branch(f"{name}.branch", adds=False) for name in self.blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        h_BChw, maps = self.stem(pixels_BCHW), {}
        for name, stage in zip(self.channels, self.stages):
            h_BChw = maps[name] = stage(h_BChw)
        return maps
