"""Attention is one operator in an exported graph, with a torch that can say so and with one that cannot."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from edgekit.train.layers import attention


class Attention(nn.Module):
    def forward(self, x_BTD: torch.Tensor, bias_B11T: torch.Tensor) -> torch.Tensor:
        return attention.attend(x_BTD, x_BTD, x_BTD, bias_B11T, 2, 0.0)


class Torch26:
    """torch, without what 2.6 lacks."""

    compiler = SimpleNamespace(is_compiling=torch.compiler.is_compiling)

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


@pytest.mark.parametrize("version", [torch, Torch26()], ids=["here", "2.6"])
def test_an_exported_graph_has_the_operator(monkeypatch: pytest.MonkeyPatch, version: object) -> None:
    monkeypatch.setattr(attention, "torch", version)
    inputs = torch.randn(1, 5, 8), torch.zeros(1, 1, 1, 5)
    program = torch.export.export(Attention(), inputs, strict=False)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called == [torch.ops.edgekit.attention.default]
    torch.testing.assert_close(program.module()(*inputs), Attention()(*inputs))
