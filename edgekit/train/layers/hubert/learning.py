"""What HuBERT and its students share while they learn: hidden spans, scaled gradients, first weights, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.core.settings import settings_to_dict
from edgekit.train.checkpoint import save_checkpoint
from edgekit.train.layers.hubert.config import HubertConfig
from edgekit.train.layers.hubert.head import WithHead
from edgekit.train.layers.hubert.weights import transformers_tensors
from edgekit.train.layers.spec_augment import span_mask

PREPROCESSOR = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16_000}


class HiddenSpans(nn.Module):
    """Replaces spans of the Transformer's input by a learned vector (wav2vec 2.0, Baevski et al. 2020, section 3.1)."""

    def __init__(self, width: int, probability: float, length: int, min_spans: int = 0) -> None:
        super().__init__()
        self.masked_spec_embed = nn.Parameter(torch.rand(width))
        self.probability, self.length, self.min_spans = probability, length, min_spans

    def forward(self, h_BTD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The frames with spans hidden, and where: `[B, T]`, true on hidden ones, which are valid ones."""
        hidden_BT = span_mask(lengths_B, h_BTD.shape[1], self.probability, self.length, min_spans=self.min_spans)
        return torch.where(hidden_BT[:, :, None], self.masked_spec_embed.to(h_BTD.dtype), h_BTD), hidden_BT

    def attach(self, transformer: nn.Module) -> None:
        """Hide spans of whatever that Transformer reads while it trains."""

        def hide(module: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
            return (self(*inputs)[0], inputs[1]) if module.training else None

        transformer.register_forward_pre_hook(hide)


def scale_gradient(module: nn.Module, scale: float) -> None:
    """Let a front end learn by `scale` times its gradient; its output is a tensor and lengths."""

    def scaled(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, lengths_B = output
        return (h * scale + h.detach() * (1 - scale) if h.requires_grad else h), lengths_B

    module.register_forward_hook(scaled)


def copy_where_equal(target: nn.Module, source: nn.Module) -> list[str]:
    """Copy every parameter of `source` that `target` has in the same shape under the same name; returns the names."""
    wanted, given = target.state_dict(), source.state_dict()
    names = [name for name, tensor in wanted.items() if name in given and given[name].shape == tensor.shape]
    target.load_state_dict({**wanted, **{name: given[name] for name in names}})
    return names


def save_hubert(
    folder: Path,
    module: WithHead,
    config: HubertConfig,
    tokens: tuple[str, ...],
    *,
    normalise: bool,
    extra: Mapping[str, Any],
    leave_out: tuple[str, ...] = (),
) -> None:
    """Write a waveform encoder, before its weight norm is folded, as `transformers` reads it.

    Args:
        extra: further entries of `config.json`.
        leave_out: fields of the config that mean nothing to `transformers`.
    """
    architecture = "HubertModel" if module.lm_head is None else "HubertForCTC"
    sizes = {name: value for name, value in settings_to_dict(config).items() if name not in leave_out}
    # without time or channel masks `transformers` makes no embedding for masked frames, and none is stored
    masks = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    data = {"model_type": "hubert", "architectures": [architecture], "layerdrop": 0.0, **masks, **sizes, **extra}
    files: dict[str, Any] = {"preprocessor_config": {**PREPROCESSOR, "do_normalize": normalise}}
    if module.lm_head is not None:
        files["vocab"] = {token: index for index, token in enumerate(tokens)}
    save_checkpoint(folder, data, transformers_tensors(module), **files)
