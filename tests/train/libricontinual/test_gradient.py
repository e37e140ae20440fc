"""A module's gradient is torch's own, in theta's order; only what was chosen is ever written."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.core.errors import BackendError
from edgekit.runtime.adapt.ctc import ctc_loss
from edgekit.train.families.disconformer.model import DisConformer
from edgekit.train.libricontinual.choice import Choice, all_weights
from edgekit.train.libricontinual.gradient import ModuleGradient
from edgekit.train.libricontinual.units import feed_forward_units

LABELS = [7, 5, 5, 9]
Choose = Callable[[nn.Module], Choice]


def some_units(module: nn.Module) -> Choice:
    return feed_forward_units(module, 20 * 65, seed=1)


def a_head(module: nn.Module) -> Choice:
    return Choice(tuple(values for values in all_weights(module).values if values.parameter.startswith("head.")))


@pytest.fixture
def core(whole: DisConformer) -> DisConformer:
    return copy.deepcopy(whole).deploy()


def features(frames: int = 90) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(frames, 80)).astype(np.float32)


def positions(module: nn.Module, choice: Choice) -> dict[str, torch.Tensor]:
    """Where a module's parameters are tuned, told another way than by writing to them."""
    found = {name: torch.zeros(each.shape, dtype=torch.bool) for name, each in module.named_parameters()}
    for values in choice.values:
        for unit in values.units or range(found[values.parameter].shape[0]):
            found[values.parameter].select(values.axis, unit).fill_(True)
    return found


@pytest.mark.parametrize("choose", [all_weights, some_units, a_head])
def test_it_is_the_gradient_of_a_plain_loss(core: DisConformer, choose: Choose) -> None:
    choice, begun = choose(core), copy.deepcopy(core)
    gradient = ModuleGradient(core, choice)
    theta_P = 0.01 * np.random.default_rng(2).normal(size=gradient.size).astype(np.float32)
    log_probs_TV = gradient.forward(features(), theta_P)
    loss, d_TV = ctc_loss(log_probs_TV, LABELS, 0)
    found_P = gradient.backward(d_TV.astype(np.float32))
    assert (found_P.dtype, found_P.shape) == (np.float32, (gradient.size,))
    plain = copy.deepcopy(core).requires_grad_(True)
    x_BFM = torch.from_numpy(features())[None]
    answer_TV = plain(x_BFM, torch.tensor([x_BFM.shape[1]]))[0][0]
    expected = torch.nn.functional.ctc_loss(
        answer_TV, torch.tensor(LABELS), torch.tensor(len(answer_TV)), torch.tensor(len(LABELS)), reduction="sum"
    )
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    # written as if it were a theta, each of its values lies where its parameter has it
    gradient.use(found_P)
    tuned = positions(core, choice)
    for (name, parameter), before, reference in zip(core.named_parameters(), begun.parameters(), plain.parameters()):
        wanted = torch.where(tuned[name], reference.grad, 0.0)
        torch.testing.assert_close(parameter.detach() - before, wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("choose", [all_weights, some_units, a_head])
def test_only_what_was_chosen_changes(core: DisConformer, choose: Choose) -> None:
    choice = choose(core)
    gradient, before = ModuleGradient(core, choice), copy.deepcopy(core.state_dict())
    assert gradient.size == choice.size(core)
    tuned = positions(core, choice)
    assert gradient.size == sum(int(each.sum()) for each in tuned.values())
    gradient.forward(features(), np.full(gradient.size, 0.5, np.float32))
    for name, now in core.state_dict().items():
        # buffers are nobody's
        assert torch.equal(now != before[name], tuned.get(name, torch.zeros(now.shape, dtype=torch.bool))), name
    gradient.use(np.zeros(gradient.size, np.float32))
    assert all(torch.equal(now, before[name]) for name, now in core.state_dict().items())


def test_learning_begins_at_the_module_as_it_is(core: DisConformer) -> None:
    x_BFM = torch.from_numpy(features())[None]
    with torch.no_grad():
        expected = core(x_BFM, torch.tensor([x_BFM.shape[1]]))[0][0].numpy()
    gradient = ModuleGradient(core, all_weights(core))
    assert gradient.starts.shape == (0, gradient.size)
    assert np.array_equal(gradient.forward(features(), np.zeros(gradient.size, np.float32)), expected)


def test_a_gradient_needs_an_answer(core: DisConformer) -> None:
    gradient = ModuleGradient(core, a_head(core))
    d_TV = np.zeros_like(gradient.forward(features(), np.zeros(gradient.size, np.float32)))
    gradient.backward(d_TV)
    for forget in (lambda: None, gradient.close):
        forget()
        with pytest.raises(BackendError, match="a forward pass before"):
            gradient.backward(d_TV)


def test_another_choice_has_another_layout(core: DisConformer) -> None:
    choices = [some_units(core), feed_forward_units(core, 20 * 65, seed=2), a_head(core)]
    hashes = [ModuleGradient(core, choice).layout_hash for choice in (*choices, choices[0])]
    assert len(set(hashes)) == 3
    assert hashes[0] == hashes[3]
