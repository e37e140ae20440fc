"""DisConformer: sizes of the specification, groups that add up, and checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.core.errors import CheckpointError
from edgekit.export.export import TorchSession
from edgekit.runtime.chunks import InChunks, Stateful
from edgekit.runtime.features.fbank import Fbank
from edgekit.train.families.disconformer.config import STRIDE, VARIANTS, WINDOW, Config
from edgekit.train.families.disconformer.model import Block, DisConformer, build, load_model, save_model
from edgekit.train.families.disconformer.streaming import Streaming
from edgekit.train.layers.chunks import chunk_mask
from edgekit.train.tokens import LETTERS

SMALL = Config(
    width=32,
    num_layers=2,
    num_heads=2,
    head_width=8,
    feed_forward=48,
    channels=24,
    kernel=7,
    augment_feed_forward=12,
    augment_channels=6,
    dropout=0.0,
)
# core and one augment net, counted from the structure
SIZES = {"t": (1_616_480, 336_528), "s": (8_708_672, 2_018_880), "m": (21_169_152, 4_756_224)}


def lively(config: Config = SMALL, seed: int = 0) -> DisConformer:
    """Weights that are nowhere zero, so that every part matters."""
    torch.manual_seed(seed)
    module = build(config, "ctc").eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def logits(module: DisConformer, x: torch.Tensor, lengths: torch.Tensor, active: tuple[int, ...]) -> torch.Tensor:
    module.active = active
    with torch.no_grad():
        out: torch.Tensor = module(x, lengths)[0]
    return out


@pytest.fixture
def frames() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, 120, 80), torch.tensor([120, 87, 31])


@pytest.mark.parametrize("variant", SIZES)
def test_sizes(variant: str) -> None:
    config = VARIANTS[variant]
    with torch.device("meta"):
        module = build(config, "ctc")
    core = sum(p.numel() for name, p in module.named_parameters() if "groups" not in name or "groups.0." in name)
    augment = sum(p.numel() for name, p in module.named_parameters() if "groups.3." in name)
    head = (config.width + 1) * config.vocab_size
    assert (core, augment) == SIZES[variant] == (config.core_parameters() + head, config.augment_parameters())
    assert replace(config, active=(1, 2)).num_parameters() == core - head + 2 * augment


@pytest.mark.parametrize("active", [(), (2,), (0, 3), (0, 1, 2, 3)])
def test_merged_groups_answer_as_their_sum(active: tuple[int, ...], frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    module = lively()
    expected = logits(module, *frames, active)
    module.active = active
    merged = module.deploy()
    assert len(merged.encoder.blocks[0].groups) == 1
    torch.testing.assert_close(logits(merged, *frames, ()), expected, rtol=1e-4, atol=1e-5)


def test_augments_begin_at_nothing_and_then_matter(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    fresh = build(SMALL, "ctc").init_weights().eval()
    torch.testing.assert_close(logits(fresh, *frames, (1,)), logits(fresh, *frames, ()), rtol=0, atol=1e-6)
    module = lively()
    core = logits(module, *frames, ())
    assert (logits(module, *frames, (1,)) - core).abs().max() > 0.1
    assert not torch.equal(logits(module, *frames, (1,)), logits(module, *frames, (2,)))


def test_removing_one_augment_changes_nothing_else(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    module = lively()
    before = {active: logits(module, *frames, active) for active in ((), (0,), (2,))}
    with torch.no_grad():
        for block in module.encoder.blocks:
            for parameter in block.groups[1 + 3].parameters():
                parameter.fill_(float("nan"))
    for active, expected in before.items():
        assert torch.equal(logits(module, *frames, active), expected)


def test_only_what_is_active_learns(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    module = lively().train()
    module.active = (2,)
    module(*frames)[0].square().mean().backward()
    learning = {
        name.split("groups.")[1][0] for name, p in module.named_parameters() if "groups." in name and p.grad is not None
    }
    assert learning == {"0", "3"}


def test_padding_changes_nothing(frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    module = lively()
    x, lengths = frames
    dirty = x.clone()
    for row, length in zip(dirty, lengths):
        row[length:] = 1e4
    together = logits(module, dirty, lengths, (1,))
    for index, length in enumerate(lengths.tolist()):
        alone = logits(module, x[index : index + 1, :length], lengths[index : index + 1], (1,))
        torch.testing.assert_close(together[index, : alone.shape[1]], alone[0], rtol=1e-4, atol=1e-5)


def test_frames_are_those_the_signature_says() -> None:
    module = lively()
    for size in range(7, 40):
        out, lengths = module(torch.randn(1, size, 80), torch.tensor([size]))
        assert out.shape[1] == lengths.item() == SMALL.frames.of_size(size)


def test_the_shortest_recording_gives_one_window() -> None:
    fbank = Fbank(SMALL.fbank)
    assert len(fbank(np.zeros(SMALL.min_samples, np.float32))) == 7
    assert len(fbank(np.zeros(SMALL.min_samples - 1, np.float32))) == 6


def test_attention_is_that_of_transformers() -> None:
    """Relative positions as in Wav2Vec2Conformer, which has them from fairseq."""
    conformer = pytest.importorskip("transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer")
    from transformers import Wav2Vec2ConformerConfig

    from edgekit.train.layers.conformer.groups import AttentionGroup
    from edgekit.train.layers.conformer.positions import distance_table

    torch.manual_seed(0)
    settings = Wav2Vec2ConformerConfig(
        hidden_size=16, num_attention_heads=4, position_embeddings_type="relative", attention_dropout=0.0
    )
    theirs = conformer.Wav2Vec2ConformerSelfAttention(settings).eval()
    ours = AttentionGroup(16, 4, 4, bias=True).eval()
    with torch.no_grad():
        theirs.pos_bias_u.normal_()
        theirs.pos_bias_v.normal_()
        pairs = {
            "query": "linear_q",
            "key": "linear_k",
            "value": "linear_v",
            "out": "linear_out",
            "position": "linear_pos",
        }
        for mine, their in pairs.items():
            getattr(ours, mine).load_state_dict(getattr(theirs, their).state_dict())
        ours.content_bias.copy_(theirs.pos_bias_u)
        ours.position_bias.copy_(theirs.pos_bias_v)
        x = torch.randn(2, 9, 16)
        table = distance_table(9, 9, 16, x)
        # theirs interleaves sines and cosines, ours has one after the other
        interleaved = torch.stack((table[:-1, :8], table[:-1, 8:]), 2).flatten(1)
        reordered = ours.position.weight.view(16, 8, 2).transpose(1, 2).flatten(1)
        expected = theirs(x, relative_position_embeddings=interleaved[None])[0]
        ours.position.weight.copy_(reordered)
        answer = ours(x, table, torch.zeros(1))
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)


def test_the_convolution_looks_back_only_and_goes_on_from_its_memory() -> None:
    block = lively().encoder.blocks[0]
    assert isinstance(block, Block)
    module: Any = block.groups[0]["convolution"]
    x, valid = torch.randn(1, 20, 32), torch.ones(1, 20, 1, dtype=torch.bool)
    nothing = torch.zeros(1, 24, 6)
    whole, _ = module(x, valid, nothing)
    first, gated = module(x[:, :8], valid[:, :8], nothing)
    second, _ = module(x[:, 8:], valid[:, 8:], gated[:, :, -6:])
    torch.testing.assert_close(torch.cat((first, second), 1), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("active", [(), (0, 2)])
@pytest.mark.parametrize("chunk", [1, 4, 8, 32])
def test_chunk_by_chunk_equals_the_whole_under_the_same_mask(active: tuple[int, ...], chunk: int) -> None:
    """Three recordings in one batch, two of which end earlier, within a chunk."""
    config = replace(SMALL, active=active, left_frames=10)
    module = lively(config).deploy()
    x, lengths = torch.randn(3, 300, 80), torch.tensor([300, 211, 57])
    with torch.no_grad():
        mask = chunk_mask(config.frames.of_size(300), chunk, config.left_frames)
        h, frames = module.encoder(x, lengths, (), mask)
        expected, unmasked = module.head(h).log_softmax(-1), module(x, lengths)[0]
    session = InChunks(
        TorchSession(Streaming(module, config).eval(), config.graphs("ctc")["stream"]), WINDOW + STRIDE * (chunk - 1)
    )
    answer = session.run({"x": x.numpy(), "x_lens": lengths.numpy()})
    assert answer["log_probs_lens"].tolist() == frames.tolist()
    for index, size in enumerate(frames.tolist()):
        np.testing.assert_allclose(answer["log_probs"][index, :size], expected[index, :size], rtol=1e-4, atol=1e-5)
    # and the mask does matter
    assert float((unmasked - expected)[0].abs().max()) > 0.05


def test_items_of_one_batch_may_take_chunks_of_different_sizes() -> None:
    """Two streams, one of which gets two frames while the other gets eight: both go on as if alone."""
    config = replace(SMALL, left_frames=10)
    signature = config.graphs("ctc")["stream"]
    session = TorchSession(Streaming(lively(config).deploy(), config).eval(), signature)
    x = torch.randn(2, 200, 80).numpy()
    together, at = Stateful(session, 2), [0, 0]
    answers: list[list[np.ndarray]] = [[], []]
    for step in range(6):
        sizes = (8, 2) if step % 2 else (3, 8)
        part = np.zeros((2, 35, 80), np.float32)
        for item in range(2):
            window = WINDOW + STRIDE * (sizes[item] - 1)
            part[item, :window] = x[item, at[item] : at[item] + window]
            at[item] += STRIDE * sizes[item]
        lengths = np.array([WINDOW + STRIDE * (size - 1) for size in sizes])
        out = together.step({"x": part, "x_lens": lengths})["log_probs"]
        for item in range(2):
            answers[item].append(out[item, : sizes[item]])
    for item in range(2):
        alone, start = Stateful(session), 0
        for answer in answers[item]:
            window = WINDOW + STRIDE * (len(answer) - 1)
            given = {"x": x[item : item + 1, start : start + window], "x_lens": np.array([window])}
            np.testing.assert_allclose(alone.step(given)["log_probs"][0], answer, rtol=1e-4, atol=1e-5)
            start += STRIDE * len(answer)


def test_a_checkpoint_comes_back(tmp_path: Path, frames: tuple[torch.Tensor, torch.Tensor]) -> None:
    module = lively()
    expected = logits(module, *frames, ())
    save_model(tmp_path, module, SMALL, "scaled-t", LETTERS)
    name, loaded = load_model(tmp_path, None, None)
    assert (name, loaded.head, loaded.tokens) == ("scaled-t", "ctc", LETTERS)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(*frames)[0], expected)
    with pytest.raises(CheckpointError, match="expected variant s"):
        load_model(tmp_path, "s", None)
    save_model(tmp_path, module, replace(SMALL, width=64), "scaled-t", LETTERS)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(tmp_path, None, None)
    save_model(tmp_path, module, SMALL, "scaled-t", LETTERS[:-1])
    with pytest.raises(CheckpointError, match="32 labels"):
        load_model(tmp_path, None, None)
