"""The encoder with a length mask against transformers without padding, over every kind of HuBERT there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import HubertConfig as TransformersConfig
from transformers import HubertModel

from edgekit.core.errors import CheckpointError
from edgekit.train.layers.hubert.config import HubertConfig
from edgekit.train.layers.hubert.encoder import HubertEncoder, deploy, init_weights
from edgekit.train.layers.hubert.front_end import MaskedGroupNormConv
from edgekit.train.layers.hubert.teacher import Codes

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [32] * 7,
    "num_conv_pos_embedding_groups": 4,
}
KINDS = {
    "base": {},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "batch norm before positions": {"conv_pos_batch_norm": True},
    "biased convolutions, bare projection": {"conv_bias": True, "feat_proj_layer_norm": False},
    "odd positional kernel, relu": {"num_conv_pos_embeddings": 31, "hidden_act": "relu"},
}


def pair(kind: str) -> tuple[HubertModel, HubertEncoder]:
    """A transformers model whose weights are all far from their initial values, and ours with the same weights."""
    torch.manual_seed(0)
    theirs = HubertModel(TransformersConfig(**SMALL, **KINDS[kind])).eval()
    for tensor in [*theirs.parameters(), *theirs.buffers()]:
        if tensor.is_floating_point():
            tensor.data.add_(torch.rand_like(tensor) * 0.1)
    ours = HubertEncoder(HubertConfig.from_transformers(theirs.config.to_dict())).eval()
    weights = {name: tensor for name, tensor in theirs.state_dict().items() if name != "masked_spec_embed"}
    ours.load_state_dict(weights)
    return theirs, ours


def speechlike(*shape: int) -> torch.Tensor:
    """Strongly correlated from sample to sample, with an offset: what breaks naive variances."""
    return torch.randn(*shape).cumsum(-1) * 0.01 + 0.3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e4])
def test_padded_items_answer_as_transformers_does_for_each_alone(kind: str, junk: float) -> None:
    theirs, ours = pair(kind)
    lengths = torch.tensor([16000, 400, 9001, 12345])
    wave = speechlike(4, 16000)
    padded = torch.where(torch.arange(16000) < lengths[:, None], wave, junk)
    with torch.no_grad():
        states, frames = ours(padded, lengths)
        for index, length in enumerate(lengths):
            alone = theirs(wave[index : index + 1, :length]).last_hidden_state[0]
            assert frames[index] == len(alone)
            torch.testing.assert_close(states[index, : frames[index]], alone, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_for_inference_changes_no_answer(kind: str) -> None:
    _, ours = pair(kind)
    wave, lengths = speechlike(2, 4000), torch.tensor([4000, 3000])
    with torch.no_grad():
        before = ours(wave, lengths)[0]
        names = ours.apply(deploy).state_dict()
        after = ours(wave, lengths)[0]
    assert not [name for name in names if "parametrizations" in name]
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_parameter_count_comes_from_the_formula(kind: str) -> None:
    _, ours = pair(kind)
    config = HubertConfig.from_transformers({"model_type": "hubert", **SMALL, **KINDS[kind]})
    assert sum(p.numel() for p in ours.parameters()) == config.num_parameters()


def test_fresh_weights_have_the_positional_gain_of_their_direction() -> None:
    config = HubertConfig.from_transformers({"model_type": "hubert", **SMALL})
    conv = HubertEncoder(config).apply(init_weights).encoder.pos_conv_embed.conv
    std = 2 * (1 / (config.num_conv_pos_embeddings * config.hidden_size)) ** 0.5
    assert conv.weight.std().item() == pytest.approx(std, rel=0.05)


def test_gradients_reach_every_parameter() -> None:
    config = HubertConfig.from_transformers({"model_type": "hubert", **SMALL})
    ours = HubertEncoder(config).apply(init_weights).train()
    ours(speechlike(2, 4000), torch.tensor([4000, 3000]))[0].square().sum().backward()
    assert [name for name, p in ours.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_batch_norm_learns_from_valid_frames_alone() -> None:
    config = HubertConfig.from_transformers({"model_type": "hubert", **SMALL, **KINDS["batch norm before positions"]})
    config = replace(config, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    wave, lengths = speechlike(2, 4000), torch.tensor([4000, 3000])
    seen = []
    for padding in (0, 5000):
        torch.manual_seed(0)
        ours = HubertEncoder(config).apply(init_weights).train()
        states, frames = ours(torch.nn.functional.pad(wave, (0, padding), value=0.7), lengths)
        norm = ours.encoder.pos_conv_embed.batch_norm
        assert norm is not None
        assert norm.running_mean is not None
        seen.append([*(states[i, :count] for i, count in enumerate(frames)), norm.running_mean])
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_group_norm_has_exact_statistics_under_autocast(dtype: torch.dtype) -> None:
    """A high-pass filter over ten seconds of slow sound: its variance is lost in bf16, and the sums overflow fp16."""
    torch.manual_seed(0)
    layer = MaskedGroupNormConv(4, 10, 5, False, "gelu")
    with torch.no_grad():
        layer.conv.weight[0, 0] = torch.tensor([1.0, -4.0, 6.0, -4.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    time = torch.arange(160_000) / 16_000
    wave = (torch.sin(2 * torch.pi * 90 * time) + 1e-3 * torch.randn(160_000))[None] * 1.4
    lengths = torch.tensor([160_000])
    with torch.no_grad():
        expected = layer(wave, lengths)
        with torch.autocast("cpu", dtype=dtype):
            found = layer(wave, lengths)
    assert found.dtype == dtype
    assert (found.float() - expected).square().mean(-1).sqrt().max() < 0.05


def test_soft_labels_are_float32_under_autocast() -> None:
    torch.manual_seed(0)
    codes = Codes(torch.randn(50, 8), torch.eye(8), torch.zeros(8))
    e = torch.randn(2, 9, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = codes.log_posteriors_of_codes(e, 0.1)
    torch.testing.assert_close(found, codes.log_posteriors_of_codes(e, 0.1), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"model_type": "wav2vec2"}, "expected model_type 'hubert', received 'wav2vec2'"),
        ({"model_type": "hubert", "adapter_attn_dim": 16}, "adapters"),
        ({"model_type": "hubert", "hidden_act": "mish"}, "hidden_act must be one of"),
        ({"model_type": "hubert", "hidden_size": 50, "num_attention_heads": 4}, "must divide"),
    ],
)
def test_configs_that_are_not_ours_are_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        HubertConfig.from_transformers(data)


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 0},
        {"num_hidden_layers": -1},
        {"hidden_size": -480},
        {"hidden_size": 72, "num_attention_heads": 4},
        {"conv_stride": (0, 2, 2, 2, 2, 2, 2)},
        {"num_conv_pos_embeddings": 0},
        {"hidden_dropout": 3.0},
        {"conv_kernel": (10, 3)},
    ],
)
def test_sizes_out_of_range_are_refused_before_torch_sees_them(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        HubertConfig(**change)
