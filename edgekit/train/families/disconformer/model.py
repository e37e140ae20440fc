"""DisConformer: a Conformer whose every module is a core group plus the augment groups that are active.

Shapes: B batch, F log-mel frames, M mel bins, T frames of the stream (one per 40 ms), K key frames, D width,
C channels, P = kernel - 1, V labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError, SettingsError
from edgekit.core.settings import apply_settings, settings_from_dict, settings_to_dict
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips
from edgekit.train.checkpoint import Checkpoint, open_checkpoint, save_checkpoint
from edgekit.train.families.disconformer.config import NUM_BINS, Config
from edgekit.train.family import LoadedModel, Tunable
from edgekit.train.layers.conformer.groups import AttentionGroup, ConvolutionGroup, FeedForwardGroup
from edgekit.train.layers.conformer.positions import distance_table
from edgekit.train.layers.conformer.subsampling import Subsampling
from edgekit.train.layers.masking import attention_bias, valid
from edgekit.train.tokens import LETTERS, ctc_output
from edgekit.train.word_pieces import WordPieces

_NAME = "disconformer"
_KINDS = ("feed_forward_1", "attention", "convolution", "feed_forward_2")


class Block(nn.Module):
    """Half a feed-forward step, attention, convolution, half a feed-forward step, norm (arXiv 2005.08100, figure 1)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d = config.width
        self.norms = nn.ModuleDict({kind: nn.LayerNorm(d) for kind in (*_KINDS, "out")})
        sizes = [(config.num_heads, config.feed_forward, config.channels)]
        sizes += [(config.augment_heads, config.augment_feed_forward, config.augment_channels)] * config.num_augments
        self.groups = nn.ModuleList(
            nn.ModuleDict(
                {
                    "feed_forward_1": FeedForwardGroup(d, units, bias=index == 0),
                    "attention": AttentionGroup(d, heads, config.head_width, bias=index == 0),
                    "convolution": ConvolutionGroup(d, channels, config.kernel, bias=index == 0),
                    "feed_forward_2": FeedForwardGroup(d, units, bias=index == 0),
                }
            )
            for index, (heads, units, channels) in enumerate(sizes)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        h_BTD: Tensor,
        valid_BT1: Tensor,
        table_RD: Tensor,
        bias: Tensor,
        active: Sequence[int],
        personal: Sequence[Mapping[str, Any]] = (),
    ) -> Tensor:
        """
        Args:
            active: groups that add to the core's, from 0 for the first augment net.
            personal: more of them, by kind.
        """
        groups: list[Any] = [self.groups[0], *(self.groups[1 + augment] for augment in active), *personal]
        x_BTD = self.norms["feed_forward_1"](h_BTD)
        h_BTD = h_BTD + 0.5 * self.dropout(sum(group["feed_forward_1"](x_BTD) for group in groups))
        x_BTD = self.norms["attention"](h_BTD)
        h_BTD = h_BTD + self.dropout(sum(group["attention"](x_BTD, table_RD, bias) for group in groups))
        x_BTD = self.norms["convolution"](h_BTD)
        answers = []
        for group in groups:
            module: Any = group["convolution"]
            before_BCP = x_BTD.new_zeros(x_BTD.shape[0], module.channels, module.kernel - 1)
            answers.append(module(x_BTD, valid_BT1, before_BCP)[0])
        h_BTD = h_BTD + self.dropout(sum(answers))
        x_BTD = self.norms["feed_forward_2"](h_BTD)
        h_BTD = h_BTD + 0.5 * self.dropout(sum(group["feed_forward_2"](x_BTD) for group in groups))
        out: Tensor = self.norms["out"](h_BTD)
        return out

    def merge(self, active: Sequence[int]) -> None:
        """Make one group of the core's and those that are active; the others are dropped."""
        chosen: list[Any] = [self.groups[0], *(self.groups[1 + augment] for augment in active)]
        merged = {kind: type(chosen[0][kind]).merged([group[kind] for group in chosen]) for kind in _KINDS}
        self.groups = nn.ModuleList([nn.ModuleDict(merged) if active else chosen[0]])


class Encoder(nn.Module):
    """Log-mel frames `[B, F, M]` and lengths `[B]` -> the stream `[B, T, D]` and its lengths `[B]`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.subsampling = Subsampling(NUM_BINS, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.frames = config.frames

    def forward(
        self,
        log_mel_BFM: Tensor,
        lengths_B: Tensor,
        active: Sequence[int] = (),
        allowed_TT: Tensor | None = None,
        personal: Sequence[Mapping[str, Any]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            active: augment nets that add to the core.
            allowed_TT: which frame may attend to which, in chunks; None: every one to all.
            personal: per block one more group of each kind.
        """
        frames_B = self.frames.of_size(lengths_B)
        # no valid frame reads padding, but NaN there would spread through attention's products with zero
        log_mel_BFM = torch.where(valid(lengths_B, log_mel_BFM.shape[1])[:, :, None], log_mel_BFM, 0.0)
        h_BTD = self.dropout(self.subsampling(log_mel_BFM))
        size = h_BTD.shape[1]
        valid_BT = valid(frames_B, size)
        bias = attention_bias(valid_BT, h_BTD.dtype)
        if allowed_TT is not None:
            bias = torch.minimum(bias, torch.where(allowed_TT, 0.0, -1e4).to(h_BTD.dtype))
        table_RD = distance_table(size, size, h_BTD.shape[2], h_BTD)
        for index, block in enumerate(self.blocks):
            more = () if personal is None else (personal[index],)
            h_BTD = block(h_BTD, valid_BT[:, :, None], table_RD, bias, active, more)
        return h_BTD, frames_B


class DisConformer(nn.Module):
    """The encoder and, where it answers with labels, a linear head."""

    def __init__(self, config: Config, head: str | None) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.head = nn.Linear(config.width, config.vocab_size) if head == "ctc" else None
        self.active = config.active

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """`log_probs [B, T, V]` in natural logarithms, or `hidden_states [B, T, D]`; and their lengths."""
        h_BTD, lengths_B = self.encoder(x, x_lens, self.active)
        return (h_BTD if self.head is None else self.head(h_BTD).log_softmax(-1)), lengths_B

    def init_weights(self) -> DisConformer:
        """torch's own for the core; augment nets begin at nothing, so that training begins from the core's function."""
        for block in self.encoder.blocks:
            assert isinstance(block, Block)
            for augment in list(block.groups)[1:]:
                assert isinstance(augment, nn.ModuleDict)
                for kind in _KINDS:
                    last = augment[kind].contract if kind.startswith("feed") else augment[kind].out
                    assert isinstance(last, nn.Linear)
                    nn.init.zeros_(last.weight)
        return self

    def deploy(self) -> DisConformer:
        """Merge the active groups into one of each kind, drop the others, and stop dropping out. Answers stay."""
        for block in self.encoder.blocks:
            assert isinstance(block, Block)
            block.merge(self.active)
        self.active = ()
        return self.eval()


def build(config: Config, head: str | None) -> DisConformer:
    """The module, with weights as torch makes them."""
    return DisConformer(config, head)


def random_model(config: Config, head: str, seed: int) -> LoadedModel:
    """A model whose shapes and latency are real and whose answers are not."""
    torch.manual_seed(seed)
    module = build(config, head)
    features = open_features(config.features())
    clips = [features(load_audio(clip, features.sample_rate)) for clip in sample_clips()]
    module.encoder.subsampling.set_statistics(torch.cat([torch.from_numpy(clip) for clip in clips]))
    tokens = LETTERS if config.vocab_size == len(LETTERS) else _numbered(config.vocab_size)
    return _loaded(module, config, head, tokens, {"source": "random", "seed": seed})


def load_model(
    checkpoint: Path | str, variant: str | None, head: str | None, settings: Sequence[str] = ()
) -> tuple[str, LoadedModel]:
    """A checkpoint that `save_model` wrote; `settings` choose which of its augment nets are deployed.

    Raises:
        CheckpointError: of another family, variant or size, or without the head asked for.
        SettingsError: augment nets that it does not have.
    """
    found = open_checkpoint(checkpoint)
    found.require_family(_NAME)
    name, config, tokens = described(found)
    if variant not in (None, name):
        raise CheckpointError(f"expected variant {variant}, {found.source} is {name}", hint=f"--variant {name}")
    config = apply_settings(config, settings)
    tensors = found.tensors()
    has_head = any(key.startswith("head.") for key in tensors)
    if head == "ctc" and not has_head:
        raise CheckpointError(f"expected a CTC head in {found.source}, it has none", hint="--head embedding")
    head = head or ("ctc" if has_head else "embedding")
    module = build(config, head)
    fill(module, tensors, found.source)
    return name, _loaded(module, config, head, tokens, found.provenance())


def fill(module: DisConformer, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy a checkpoint's tensors, all of them, with their shapes held to the module's.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape; names the first one.
    """
    wanted = module.state_dict()
    given = {key: tensor for key, tensor in tensors.items() if key in wanted or not key.startswith("head.")}
    wrong = [key for key in sorted(wanted.keys() | given.keys()) if _shape(wanted, key) != _shape(given, key)]
    if wrong:
        raise CheckpointError(
            f"the tensors of {source} do not fit the model that is described: "
            f"{wrong[0]} is {_shape(given, wrong[0])}, expected {_shape(wanted, wrong[0])}"
        )
    module.load_state_dict({key: tensor.float() for key, tensor in given.items()})


def save_model(
    folder: Path,
    module: DisConformer,
    config: Config,
    variant: str,
    tokens: Sequence[str],
    pieces: WordPieces | None = None,
) -> None:
    """Write a checkpoint: the core and every augment net, and the word pieces where it has learned them."""
    own = {"family": _NAME, "variant": variant, "config": settings_to_dict(config), "tokens": list(tokens)}
    save_checkpoint(folder, {"model_type": _NAME, "edgekit": own}, module.state_dict())
    if pieces is not None:
        pieces.save(folder)


def _loaded(module: DisConformer, config: Config, head: str, tokens: Sequence[str], weights: Any) -> LoadedModel:
    if config.personal and head != "ctc":
        raise SettingsError(f"expected the head ctc with personal=true, received {head}", hint="leave personal out")
    # these are made of this file's model
    from edgekit.train.families.disconformer.personal import Personal, starting_points
    from edgekit.train.families.disconformer.streaming import Streaming

    layout = config.theta_layout
    tunable = None if layout is None else Tunable(layout, starting_points(module.state_dict(), config))
    module.deploy()
    if head != "ctc":
        output: dict[str, Any] = {"kind": "embedding", "frame_s": config.frame_s}
        return LoadedModel(module, config, head, config.features(), output, weights)
    answer, others = ctc_output(tuple(tokens), config.frame_s), {"stream": Streaming(module, config).eval()}
    answering = module if tunable is None else Personal(module, config).eval()
    features = config.features()
    return LoadedModel(answering, config, head, features, answer, weights, tuple(tokens), others, tunable)


def described(found: Checkpoint) -> tuple[str, Config, tuple[str, ...]]:
    """The variant, config and labels of a checkpoint.

    Raises:
        CheckpointError: it was not written by `save_model`.
    """
    try:
        own = found.edgekit or {}
        config = settings_from_dict(Config, own["config"])
        tokens = tuple(str(token) for token in own["tokens"])
        if len(tokens) != config.vocab_size:
            raise ValueError(f"expected {config.vocab_size} labels, received {len(tokens)}")
        return str(own["variant"]), config, tokens
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise CheckpointError(f"expected a checkpoint of {_NAME} in {found.source}: {error}") from error


def _numbered(count: int) -> tuple[str, ...]:
    """Labels for random weights: a blank, and word pieces that are numbers."""
    return ("<pad>", *(f"▁{index}" for index in range(1, count)))


def _shape(tensors: Mapping[str, Tensor], key: str) -> list[int] | None:
    return list(tensors[key].shape) if key in tensors else None
