"""LoRA by peft in every linear layer of a model's blocks (Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from edgekit.core.errors import UnavailableError
from edgekit.train.libricontinual.choice import Choice, Values

_ALPHA = 8
"""peft's own: what is learned counts `alpha / rank` times."""


def with_lora(module: nn.Module, num_values: int, seed: int) -> Choice:
    """Put LoRA into `module`, which it changes; its answers stay, as every B begins at zero.

    Args:
        module: its linear layers are found by `.blocks.` in their names.
        num_values: the rank is the one whose number of values is nearest to this, and 1 at least.
        seed: of A, which peft draws.

    Returns:
        A and B of all these layers, with the settings `rank` and `alpha`.

    Raises:
        UnavailableError: peft is not installed.
    """
    peft = _load_peft()
    linear = {
        name: each for name, each in module.named_modules() if isinstance(each, nn.Linear) and ".blocks." in f".{name}"
    }
    per_rank = sum(each.in_features + each.out_features for each in linear.values())
    rank = max(1, round(num_values / per_rank))
    with torch.random.fork_rng(devices=[]):  # nobody else's draws are changed by these
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=_ALPHA, target_modules=list(linear)), module)
    found = (Values(name) for name, _ in module.named_parameters() if ".lora_" in name)
    return Choice(tuple(found), {"rank": rank, "alpha": _ALPHA})


def _load_peft() -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise UnavailableError(
            f"expected the package peft for LoRA, it cannot be imported ({error})",
            hint='pip install "edgekit[lora]", or leave the arm lora out',
        ) from error
