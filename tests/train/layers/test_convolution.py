"""The deployed form of a convolution answers as the convolution does, whatever its groups leave of a block."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.train.layers.convolution import DeployedConv


@pytest.mark.parametrize(
    ("channels", "out", "groups"), [(1, 8, 1), (20, 20, 1), (64, 64, 16), (60, 60, 2), (64, 32, 2), (90, 90, 3)]
)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(10, 5, 0), (3, 2, 0), (128, 1, 64), (31, 1, 15)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_answers_as_the_convolution(
    channels: int, out: int, groups: int, kernel: int, stride: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(channels, out, kernel, stride, padding, groups=groups, bias=bias)
    x = torch.randn(2, channels, 150)
    with torch.no_grad():
        torch.testing.assert_close(DeployedConv(conv)(x), conv(x), atol=1e-5, rtol=1e-4)
