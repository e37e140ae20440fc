"""The students: sizes of the paper, frames that agree, and the layout of transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HubertForCTC, HubertModel

from edgekit.core.errors import CheckpointError
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.features.fbank import Fbank
from edgekit.runtime.samples import sample_clips
from edgekit.train.families.hubert_student.config import VARIANTS, Config
from edgekit.train.families.hubert_student.model import build, load_model, random_model, save_model
from edgekit.train.tokens import LETTERS

# the encoders of arXiv 2210.15631, counted from the structure in the second author's code
SIZES = {
    "shallow-wide-waveform": 23_491_200,
    "deep-thin-waveform": 22_937_856,
    "shallow-wide-fbank": 20_103_296,
    "deep-thin-fbank": 19_107_008,
}


@pytest.mark.parametrize("variant", SIZES)
def test_sizes(variant: str) -> None:
    with torch.device("meta"):
        module = build(VARIANTS[variant], "embedding")
    assert sum(p.numel() for p in module.parameters()) == SIZES[variant] == VARIANTS[variant].num_parameters()


def test_the_default_is_deep_thin_on_filter_bank() -> None:
    assert next(iter(VARIANTS)) == "deep-thin-fbank"


def test_both_front_ends_give_the_same_number_of_frames() -> None:
    samples = np.arange(400, 200_001)
    config = VARIANTS["deep-thin-fbank"]
    fbank = Fbank(config.fbank)
    mel_frames = np.array([fbank.num_frames(int(n)) for n in samples])
    from_fbank = config.deployed_frames.of_size(mel_frames)
    from_wave = VARIANTS["deep-thin-waveform"].deployed_frames.of_size(samples)
    assert np.array_equal(from_fbank, from_wave)


@pytest.mark.parametrize("front_end", ["fbank", "waveform"])
def test_the_module_gives_the_frames_that_its_signature_says(front_end: str) -> None:
    module = build(small(front_end), "ctc").eval()
    (signature,) = small(front_end).graphs("ctc").values()
    frames = signature.outputs[0].shape[1]
    for size in (401, 719, 720, 721, 1600):
        x = torch.randn(1, size, *([80] if front_end == "fbank" else []))
        log_probs, lengths = module(x, torch.tensor([size]))
        assert log_probs.shape[1] == lengths.item() == frames.of_size(size)  # type: ignore[union-attr]


@pytest.mark.parametrize("front_end", ["fbank", "waveform"])
def test_padding_does_not_change_an_answer(front_end: str) -> None:
    torch.manual_seed(1)
    module = build(small(front_end), "ctc").init_weights().eval()
    trailing = [80] if front_end == "fbank" else []
    lengths = torch.tensor([3000, 1234, 401])
    x = torch.randn(3, 3000, *trailing)
    for row, length in enumerate(lengths):
        x[row, length:] = torch.nan
    with torch.no_grad():
        together, frames = module(x, lengths)
        for row, length in enumerate(lengths):
            alone, _ = module(x[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(together[row, : frames[row]], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", ["ctc", "embedding"])
def test_transformers_reads_a_waveform_student(tmp_path: Path, head: str) -> None:
    torch.manual_seed(2)
    config = small("waveform")
    module = build(config, head).init_weights().eval()
    save_model(tmp_path, module, config, "small", LETTERS)
    wave = torch.randn(1, 8000)
    with torch.no_grad():
        ours = module(wave, torch.tensor([8000]))[0]
        if head == "ctc":
            theirs, info = HubertForCTC.from_pretrained(tmp_path, output_loading_info=True)
            expected = theirs.eval()(wave).logits.log_softmax(-1)
        else:
            theirs, info = HubertModel.from_pretrained(tmp_path, output_loading_info=True)
            expected = theirs.eval()(wave).last_hidden_state
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_a_student_of_the_papers_size_comes_from_transformers_own_files(tmp_path: Path) -> None:
    config = VARIANTS["shallow-wide-waveform"]
    torch.manual_seed(3)
    save_model(tmp_path, build(config, "embedding").init_weights(), config, "shallow-wide-waveform", ())
    data = json.loads((tmp_path / "config.json").read_text())
    del data["edgekit"]  # as a stranger would have written it
    (tmp_path / "config.json").write_text(json.dumps(data))
    theirs = HubertModel.from_pretrained(tmp_path).eval()
    theirs.save_pretrained(tmp_path / "theirs")

    variant, loaded = load_model(tmp_path / "theirs", None, None)

    assert (variant, loaded.head) == ("shallow-wide-waveform", "embedding")
    assert loaded.weights["source"] == "checkpoint"
    wave = torch.randn(1, 16000)
    with torch.no_grad():
        expected = theirs(wave).last_hidden_state
        torch.testing.assert_close(loaded.module(wave, torch.tensor([16000]))[0], expected, atol=2e-5, rtol=1e-4)


def test_a_filter_bank_student_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    config = small("fbank")
    torch.manual_seed(4)
    module = build(config, "ctc").init_weights().eval()
    module.hubert.front_end.set_statistics(torch.randn(50, 80) * 3 + 7)  # type: ignore[operator, union-attr]
    save_model(tmp_path, module, config, "small", LETTERS)
    variant, loaded = load_model(tmp_path, None, None)
    assert (variant, loaded.head, loaded.tokens) == ("small", "ctc", LETTERS)
    x, lengths = torch.randn(1, 100, 80), torch.tensor([100])
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(x, lengths), module(x, lengths), atol=1e-6, rtol=1e-6)


def test_random_statistics_are_those_of_speech() -> None:
    loaded = random_model(replace(small("fbank"), num_hidden_layers=1), "ctc", 0)
    front_end = loaded.module.hubert.front_end  # type: ignore[union-attr]
    fbank = Fbank(VARIANTS["deep-thin-fbank"].fbank)
    frames = np.concatenate([fbank(load_audio(clip)) for clip in sample_clips()])
    np.testing.assert_allclose(front_end.mean_M, frames.mean(0), rtol=1e-4)
    np.testing.assert_allclose(1 / front_end.scale_M, frames.std(0), rtol=1e-2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 64), "cannot read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "expected model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot read"),
        (lambda folder: (folder / "config.json").unlink(), "expected config.json"),
        (lambda folder: edit(folder, family="disconformer"), "is one of disconformer"),
        (lambda folder: drop_tensor(folder), "missing"),
        (lambda folder: reshape_tensor(folder), "expected lm_head.bias"),
    ],
)
def test_spoiled_checkpoints_are_refused(tmp_path: Path, spoil: object, message: str) -> None:
    config = small("fbank")
    save_model(tmp_path, build(config, "ctc"), config, "small", LETTERS)
    spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path, None, None)


def test_a_whole_hubert_is_not_a_student(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    with pytest.raises(CheckpointError, match="12 layers of 768") as caught:
        load_model(tmp_path, None, None)
    assert "edgekit export hubert" in str(caught.value.hint)


def small(front_end: str) -> Config:
    return Config(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(32,) * 7,
        num_conv_pos_embedding_groups=4,
        front_end=front_end,
    )


def edit(folder: Path, **edgekit: str) -> None:
    data = json.loads((folder / "config.json").read_text())
    data["edgekit"] |= edgekit
    (folder / "config.json").write_text(json.dumps(data))


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["hubert.encoder.layer_norm.bias"]
    save_file(tensors, folder / "model.safetensors")


def reshape_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.bias"] = torch.zeros(31)
    save_file(tensors, folder / "model.safetensors")


def test_heads_are_separate_from_the_encoder() -> None:
    ctc = sum(p.numel() for p in build(VARIANTS["deep-thin-fbank"], "ctc").parameters())
    assert ctc - SIZES["deep-thin-fbank"] == 480 * 32 + 32
