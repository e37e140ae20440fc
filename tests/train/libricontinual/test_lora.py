"""LoRA: about as many values as an augment net, in every linear layer of the blocks and nowhere else."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import nn

from edgekit.core.errors import UnavailableError
from edgekit.train.families.disconformer.config import VARIANTS
from edgekit.train.families.disconformer.model import DisConformer, build
from edgekit.train.libricontinual.choice import Choice
from edgekit.train.libricontinual.lora import with_lora


@pytest.fixture
def core(whole: DisConformer) -> DisConformer:
    return copy.deepcopy(whole).deploy()


def values_of(module: nn.Module, choice: Choice) -> dict[str, torch.Tensor]:
    parameters = dict(module.named_parameters())
    return {each.parameter: parameters[each.parameter].detach() for each in choice.values}


def test_it_is_said_that_peft_is_missing(core: DisConformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UnavailableError, match="expected the package peft") as raised:
        with_lora(core, 1000, seed=0)
    assert "edgekit[lora]" in (raised.value.hint or "")


def test_every_linear_layer_of_the_blocks_and_no_other(core: DisConformer) -> None:
    pytest.importorskip("peft", reason='LoRA is peft\'s: pip install "edgekit[lora]"')
    linear = {name for name, each in core.named_modules() if isinstance(each, nn.Linear) and ".blocks." in name}
    x_BFM, lengths_B = torch.randn(1, 60, 80), torch.tensor([60])
    with torch.no_grad():
        before, _ = core(x_BFM, lengths_B)
        drawn = torch.random.get_rng_state()
        choice = with_lora(core, 2 * 2 * 12 * 32, seed=0)
        assert torch.equal(torch.random.get_rng_state(), drawn), "others draw as they would have"
        assert torch.equal(core(x_BFM, lengths_B)[0], before), "B begins at zero"
    values = values_of(core, choice)
    assert {name.partition(".lora_")[0] for name in values} == linear
    assert len(values) == 2 * len(linear)
    for name, each in values.items():
        assert choice.settings["rank"] in each.shape
        assert bool(each.any()) == (".lora_A." in name)


def test_the_seed_draws(whole: DisConformer) -> None:
    pytest.importorskip("peft", reason='LoRA is peft\'s: pip install "edgekit[lora]"')
    drawn = []
    for seed in (0, 0, 1):
        core = copy.deepcopy(whole).deploy()
        drawn.append(values_of(core, with_lora(core, 5000, seed)))
    first, again, other = drawn
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if ".lora_A." in name)


def test_as_many_as_the_augment_net_of_t() -> None:
    pytest.importorskip("peft", reason='LoRA is peft\'s: pip install "edgekit[lora]"')
    module = build(VARIANTS["t"], "ctc").deploy()
    choice = with_lora(module, VARIANTS["t"].augment_parameters(), seed=0)
    assert choice.settings == {"rank": 16, "alpha": 8}
    assert choice.size(module) == 331_776
