"""Activations by the names that `transformers` gives them."""

from __future__ import annotations

from torch import nn


def activation(name: str) -> nn.Module:
    """A module for "gelu", "gelu_new" (its tanh form), "relu", "silu" or "swish"."""
    if name == "gelu":
        return nn.GELU()
    if name == "gelu_new":
        return nn.GELU(approximate="tanh")
    return {"relu": nn.ReLU, "silu": nn.SiLU, "swish": nn.SiLU}[name]()
