"""Theta in place of an augment net: the same answers, also in chunks; zeros are the core."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgekit.core.errors import SettingsError
from edgekit.core.settings import apply_settings
from edgekit.train.families.disconformer.config import VARIANTS
from edgekit.train.families.disconformer.model import DisConformer, build, random_model
from edgekit.train.families.disconformer.personal import Personal, starting_points
from edgekit.train.families.disconformer.streaming import Streaming
from edgekit.train.family import find_family

CONFIG = apply_settings(VARIANTS["t"], [*find_family("disconformer").small, "personal=true", "num_layers=2"])


@pytest.fixture(scope="module")
def whole() -> DisConformer:
    torch.manual_seed(0)
    return build(CONFIG, "ctc").eval()


@pytest.fixture(scope="module")
def thetas(whole: DisConformer) -> torch.Tensor:
    return torch.from_numpy(starting_points(whole.state_dict(), CONFIG))


def _speech(batch: int = 3, frames: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, frames, 80, generator=generator), torch.tensor([frames, frames - 9, frames - 50])


@torch.no_grad()
def test_a_theta_of_an_augment_net_answers_as_that_net(whole: DisConformer, thetas: torch.Tensor) -> None:
    personal, speech = Personal(copy.deepcopy(whole).deploy(), CONFIG).eval(), _speech()
    for augment in range(CONFIG.num_augments):
        with_net = copy.deepcopy(whole)
        with_net.active = (augment,)
        expected, lengths = with_net(*speech)
        answer, answer_lengths = personal(*speech, thetas[augment : augment + 1])
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=0)
        assert torch.equal(answer_lengths, lengths)
    core, _ = whole(*speech)
    assert not torch.allclose(expected, core, atol=1e-3)


@torch.no_grad()
def test_a_theta_of_zeros_is_exactly_the_core(whole: DisConformer, thetas: torch.Tensor) -> None:
    personal, speech = Personal(copy.deepcopy(whole).deploy(), CONFIG).eval(), _speech()
    assert torch.equal(personal(*speech, torch.zeros_like(thetas[:1]))[0], whole(*speech)[0])


@torch.no_grad()
def test_chunks_with_theta_answer_as_chunks_of_the_merged_net(whole: DisConformer, thetas: torch.Tensor) -> None:
    merged_config = replace(CONFIG, personal=False, active=(1,))
    merged = copy.deepcopy(whole)
    merged.active = (1,)
    merged_stream = Streaming(merged.deploy(), merged_config).eval()
    stream = Streaming(copy.deepcopy(whole).deploy(), CONFIG).eval()
    state = _zeros(CONFIG)
    merged_state = _zeros(merged_config)
    speech, _ = _speech(frames=35 * 3)
    for chunk in speech.split(35, 1):
        lengths = torch.full((len(chunk),), chunk.shape[1])
        answer, _, *state = stream(chunk, lengths, *state, thetas[1:2])
        expected, _, *merged_state = merged_stream(chunk, lengths, *merged_state)
        torch.testing.assert_close(answer, expected, atol=1e-5, rtol=0)
        for received, wanted in zip(state, merged_state):
            torch.testing.assert_close(received, wanted, atol=1e-5, rtol=0)


def _zeros(config) -> list[torch.Tensor]:
    signature = config.graphs("ctc")["stream"]
    state = {before for before, _ in signature.state}
    return [
        torch.zeros([axis if isinstance(axis, int) else 3 for axis in spec.shape], dtype=getattr(torch, spec.dtype))
        for spec in signature.inputs
        if spec.name in state
    ]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_theta_has_the_size_of_an_augment_net(variant: str) -> None:
    config = replace(VARIANTS[variant], personal=True)
    assert config.theta_layout is not None
    assert config.theta_layout.size == config.augment_parameters()
    assert VARIANTS[variant].theta_layout is None


def test_random_models_bring_their_augment_nets_as_starting_points() -> None:
    model = random_model(CONFIG, "ctc", 0)
    assert model.tunable is not None
    assert model.tunable.starts.shape == (CONFIG.num_augments, CONFIG.theta_layout.size)
    assert model.tunable.starts.dtype == np.float32
    assert len(np.unique(model.tunable.starts, axis=0)) == CONFIG.num_augments


def test_what_cannot_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="personal takes the core alone"):
        replace(CONFIG, active=(0,))
    with pytest.raises(ValueError, match="augment nets with a size"):
        replace(CONFIG, augment_channels=0)
    with pytest.raises(SettingsError, match="expected the head ctc"):
        random_model(CONFIG, "embedding", 0)
