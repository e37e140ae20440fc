"""A convolution over time in the form in which inference engines run it fastest: two-dimensional, of height one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BLOCK = 16
"""Channels that ONNX Runtime's blocked kernels take at once with AVX-512."""


class DeployedConv(nn.Module):
    """The same answers as an `nn.Conv1d` on `[B, C, T]`, for inference.

    ONNX Runtime has direct kernels for two-dimensional convolutions only; for one dimension it copies all windows and
    multiplies. A group whose channels do not fill a block is padded with zeros, which those kernels need. The
    positional convolution gains most; `python benchmarks/hubert_student.py --profile` shows what is left of it.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        groups = conv.groups
        inputs, outputs = conv.in_channels // groups, conv.out_channels // groups
        self.padded = (0, 0) if groups == 1 else (-inputs % _BLOCK, -outputs % _BLOCK)
        wide_in, wide_out = inputs + self.padded[0], outputs + self.padded[1]
        self.groups = groups
        self.conv = nn.Conv2d(
            groups * wide_in,
            groups * wide_out,
            (1, conv.kernel_size[0]),
            stride=(1, conv.stride[0]),
            padding=(0, int(conv.padding[0])),
            groups=groups,
            bias=conv.bias is not None,
        )
        with torch.no_grad():
            weight = torch.zeros(groups, wide_out, wide_in, 1, conv.kernel_size[0])
            weight[:, :outputs, :inputs, 0] = conv.weight.view(groups, outputs, inputs, -1)
            self.conv.weight.copy_(weight.flatten(0, 1))
            if conv.bias is not None and self.conv.bias is not None:
                bias = torch.zeros(groups, wide_out)
                bias[:, :outputs] = conv.bias.view(groups, outputs)
                self.conv.bias.copy_(bias.flatten())

    def forward(self, h_BCT: Tensor) -> Tensor:
        more, surplus = self.padded
        if more:
            h_BGCT = h_BCT.view(h_BCT.shape[0], self.groups, -1, h_BCT.shape[2])
            zeros_BGCT = h_BGCT.new_zeros(h_BCT.shape[0], self.groups, more, h_BCT.shape[2])
            h_BCT = torch.cat((h_BGCT, zeros_BGCT), 2).flatten(1, 2)
        out: Tensor = self.conv(h_BCT[:, :, None, :])[:, :, 0, :]
        if surplus:
            out = out.view(out.shape[0], self.groups, -1, out.shape[2])[:, :, :-surplus].flatten(1, 2)
        return out
