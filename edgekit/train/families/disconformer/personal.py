"""A DisConformer whose one augment net is an input: theta, zeros for the core alone (arXiv 2212.01393).

Shapes: B batch, S = 1 or B, F log-mel frames, M mel bins, T frames, V labels, P values of theta, N augment nets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from edgekit.train.families.disconformer.config import Config
from edgekit.train.families.disconformer.model import DisConformer
from edgekit.train.layers import per_item
from edgekit.train.layers.conformer.personal import PersonalAttention, PersonalConvolution, PersonalFeedForward


class Groups(nn.Module):
    """Theta `[S, P]` -> per block one group of each kind, by kind."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layout = config.theta_layout
        assert layout is not None
        self.layout, self.num_layers, self.head_width = layout, config.num_layers, config.head_width

    def forward(self, theta_SP: Tensor) -> list[dict[str, Any]]:
        weights: list[dict[str, dict[str, Tensor]]] = [{} for _ in range(self.num_layers)]
        parts = per_item.parts(theta_SP, [shape for _, shape in self.layout.shapes])
        for (name, _), part in zip(self.layout.shapes, parts):
            _, index, kind, parameter = name.split(".", 3)
            weights[int(index)].setdefault(kind, {})[parameter] = part
        return [
            {
                "feed_forward_1": PersonalFeedForward(block["feed_forward_1"]),
                "attention": PersonalAttention(block["attention"], self.head_width),
                "convolution": PersonalConvolution(block["convolution"]),
                "feed_forward_2": PersonalFeedForward(block["feed_forward_2"]),
            }
            for block in weights
        ]


class Personal(nn.Module):
    """The core and what theta adds to it.

    Args:
        model: after `deploy`, without augment nets of its own.
    """

    def __init__(self, model: DisConformer, config: Config) -> None:
        super().__init__()
        assert model.head is not None
        self.encoder, self.head, self.groups = model.encoder, model.head, Groups(config)

    def forward(self, x_BFM: Tensor, x_lens_B: Tensor, theta_SP: Tensor) -> tuple[Tensor, Tensor]:
        """`log_probs [B, T, V]` in natural logarithms, and their lengths `[B]`."""
        h_BTD, lengths_B = self.encoder(x_BFM, x_lens_B, personal=self.groups(theta_SP))
        return self.head(h_BTD).log_softmax(-1), lengths_B


def starting_points(tensors: Mapping[str, Tensor], config: Config) -> np.ndarray:
    """The augment nets that were trained beside the core, as values of theta: float32 `[N, P]`.

    Args:
        tensors: a whole model's, before `deploy`.
    """
    layout = config.theta_layout
    assert layout is not None
    found = []
    for augment in range(1, config.num_augments + 1):
        values = {}
        for name, _ in layout.shapes:
            _, index, rest = name.split(".", 2)
            values[name] = tensors[f"encoder.blocks.{index}.groups.{augment}.{rest}"].detach().float().numpy()
        found.append(layout.pack(values))
    return np.stack(found)
