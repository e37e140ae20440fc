"""HuBERT's students: its own encoder made small, or a filter bank and one convolution in its front end's place.

Shapes: B batch, F filter bank frames, M mel bins, T encoder frames (one per 20 ms), D width.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError, SettingsError
from edgekit.core.settings import settings_from_dict, settings_to_dict
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips
from edgekit.train.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.train.families.hubert_student.config import VARIANTS, Config
from edgekit.train.family import LoadedModel
from edgekit.train.layers.hubert.config import HubertConfig
from edgekit.train.layers.hubert.encoder import HubertEncoder
from edgekit.train.layers.hubert.head import WithHead, chosen_head, loaded_model
from edgekit.train.layers.hubert.learning import save_hubert
from edgekit.train.layers.hubert.transformer import Transformer
from edgekit.train.layers.hubert.weights import has_head, load_weights, transformers_tensors
from edgekit.train.layers.masking import valid

_NAME = "hubert-student"


class FbankFrontEnd(nn.Module):
    """Log-mel frames `[B, F, M]` -> encoder frames `[B, T, D]`: fixed norm, one convolution, GLU, linear."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        bins, width, kernel = config.fbank.num_mel_bins, config.hidden_size, config.fbank_kernel
        self.register_buffer("mean_M", torch.zeros(bins))
        self.register_buffer("scale_M", torch.ones(bins))
        self.conv = nn.Conv1d(bins, 2 * width, kernel, stride=2, padding=kernel // 2)
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.mean_M: Tensor
        self.scale_M: Tensor

    def set_statistics(self, frames_FM: Tensor) -> None:
        """Take each bin's mean and standard deviation from a corpus' frames."""
        self.mean_M.copy_(frames_FM.mean(0))
        self.scale_M.copy_(1 / frames_FM.std(0).clamp_min(1e-5))

    def forward(self, log_mel_BFM: Tensor, lengths_B: Tensor) -> Tensor:
        normed_BFM = (log_mel_BFM - self.mean_M) * self.scale_M
        # the convolution pads with zeros; so must an item that is shorter than its batch
        normed_BFM = torch.where(valid(lengths_B, normed_BFM.shape[1])[:, :, None], normed_BFM, 0.0)
        h_BTD = nn.functional.glu(self.conv(normed_BFM.transpose(1, 2)), dim=1).transpose(1, 2)
        out: Tensor = self.dropout(self.linear(h_BTD))
        return out


class FbankStudentEncoder(nn.Module):
    """Log-mel frames `[B, F, M]` and lengths `[B]` -> hidden states `[B, T, D]` and their lengths `[B]`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.front_end = FbankFrontEnd(config)
        self.encoder = Transformer(config)
        self.frames = config.deployed_frames

    def features(self, log_mel_BFM: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """What the Transformer reads, before its positional convolution: `[B, T, D]` and lengths."""
        return self.front_end(log_mel_BFM, lengths_B), self.frames.of_size(lengths_B)

    def forward(self, log_mel_BFM: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        h_BTD, frame_lengths_B = self.features(log_mel_BFM, lengths_B)
        return self.encoder(h_BTD, frame_lengths_B), frame_lengths_B


def build(config: Config, head: str | None) -> WithHead:
    """The module, with weights as torch makes them."""
    encoder = HubertEncoder(config) if config.front_end == "waveform" else FbankStudentEncoder(config)
    return WithHead(encoder, config.hidden_size, config.vocab_size if head == "ctc" else None)


def random_model(config: Config, head: str, seed: int) -> LoadedModel:
    """A student whose shapes and latency are real and whose answers are not.

    The filter bank's statistics are those of the sample clips.
    """
    torch.manual_seed(seed)
    module = build(config, head).init_weights()
    if isinstance(module.hubert, FbankStudentEncoder):
        features = open_features(config.features())
        clips = [features(load_audio(clip, features.sample_rate)) for clip in sample_clips()]
        module.hubert.front_end.set_statistics(torch.cat([torch.from_numpy(clip) for clip in clips]))
    return loaded_model(module, config, head, weights={"source": "random", "seed": seed})


def load_model(checkpoint: Path | str, variant: str | None, head: str | None) -> tuple[str, LoadedModel]:
    """A student that `save_model` wrote, or a `transformers` HuBERT of a waveform variant's sizes.

    Raises:
        CheckpointError: of another family or size, or its tensors do not fit.
    """
    found = open_checkpoint(checkpoint)
    found.require_family(_NAME)
    name, config = _config_of(found, variant)
    tensors = found.tensors()
    head = chosen_head(head, has_head(tensors), found.source)
    module = build(config, head)
    load_weights(module, tensors, found.source)
    loaded = loaded_model(module, config, head, weights=found.provenance(), checkpoint=found)
    return name, loaded


def save_model(folder: Path, module: WithHead, config: Config, variant: str, tokens: tuple[str, ...]) -> None:
    """Write a checkpoint; that of a waveform student is one of `transformers` too.

    Args:
        module: before its weight norm is folded.
    """
    own = {"edgekit": {"family": _NAME, "variant": variant, "config": settings_to_dict(config)}}
    if config.front_end == "waveform":
        leave_out = ("front_end", "fbank_kernel")
        save_hubert(folder, module, config, tokens, normalise=False, extra=own, leave_out=leave_out)
        return
    vocab = {} if module.lm_head is None else {"vocab": {token: index for index, token in enumerate(tokens)}}
    save_checkpoint(folder, {"model_type": _NAME, **own}, transformers_tensors(module), **vocab)


def _config_of(found: Checkpoint, variant: str | None) -> tuple[str, Config]:
    """The variant and config of a checkpoint, from our own record of it or from its sizes."""
    if found.edgekit is not None:
        name = str(found.edgekit["variant"])
        if variant not in (None, name):
            raise CheckpointError(f"expected variant {variant}, {found.source} is {name}", hint=f"--variant {name}")
        try:
            return name, settings_from_dict(Config, found.edgekit["config"])
        except SettingsError as error:
            raise CheckpointError(f"{found.source}: its edgekit config does not fit: {error.message}") from error
    given = HubertConfig.from_transformers(found.config)
    for name, config in VARIANTS.items():
        if config.front_end == "waveform" and variant in (None, name) and config.computed() == given.computed():
            return name, replace(config, vocab_size=found.config.get("vocab_size", config.vocab_size))
    raise CheckpointError(
        f"expected a student's sizes, {found.source} is a HuBERT of {given.num_hidden_layers} layers of "
        f"{given.hidden_size}",
        hint=f"edgekit export hubert {found.source}",
    )
